/* scheduler_config.json: any bytes; what is accepted samples, or says why not, and means the same
   when it is written and read again. */
#include "fuzz.h"

#include "diffusion/sampler.h"
#include "model/schedule_json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 7 };

static md_status parse(const void *bytes, size_t n, diffusion_schedule *s)
{
    format_json *doc = NULL;
    MD_TRY(format_json_parse("fuzz", bytes, n, &doc));
    md_status status = schedule_read(doc, s);
    format_json_free(doc);
    return status;
}

static void write_and_read(const diffusion_schedule *s)
{
    md_text t = {0}, u = {0};
    diffusion_schedule again;
    if (schedule_write(&t, s) != MD_OK || parse(t.s, t.n, &again) != MD_OK || *again.refused ||
        schedule_write(&u, &again) != MD_OK || strcmp(t.s, u.s) != 0)
        abort();
    md_text_free(&t);
    md_text_free(&u);
}

static void sample(const diffusion_schedule *s)
{
    sampler_place course[STEPS + 1];
    double coef[SAMPLER_N_COEF];
    for (int r = 0; sampler_row(r); r++) {
        const diffusion_sampler *row = sampler_row(r);
        if (sampler_course(row, s, STEPS, 0.5, course) != MD_OK)
            continue;
        for (int k = 0; k < sampler_evaluations(row, STEPS); k++) {
            if (!(course[k].t >= 0 && course[k].t < s->train_steps && course[k].a_t >= 0 &&
                  course[k].a_s <= 1))
                abort();
            sampler_coefficients(row, s, &course[k], coef);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    diffusion_schedule s;
    if (parse(data, n, &s) != MD_OK)
        return 0;
    if (memchr(s.sampler, '\0', sizeof s.sampler) == NULL ||
        memchr(s.refused, '\0', sizeof s.refused) == NULL)
        abort();
    write_and_read(&s);
    sample(&s);
    return 0;
}
