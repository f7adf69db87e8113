/* plan: the repair of backgrounds, where backgrounds.from asks for it. Its model takes what the
   lesion model's fine-tune takes. */
#include "generate/backgrounds.h"
#include "plan.h"

#include <math.h>
#include <stdio.h>

enum { FROM_AUTO, FROM_REAL, FROM_REPAIRED }; /* backgrounds.from */

md_status plan_backgrounds(plan_job *p)
{
    const config *c = p->cfg;
    int from = config_choice(c, KEY_backgrounds_from);
    if (from == FROM_AUTO)
        (void)printf("backgrounds: a set without lesion-free images is repaired; "
                     "--set backgrounds.from=repaired plans that\n\n");
    if (from != FROM_REPAIRED)
        return MD_OK;
    painter_options o;
    painter *k = NULL;
    int64_t count = config_int(c, KEY_backgrounds_count), pairs = config_int(c, KEY_data_pairs);
    double rows = (double)(count ? count : pairs ? pairs : 1);
    MD_TRY(backgrounds_painter_options(c, p->size, &o));
    MD_TRY(painter_new(p->f, p->be, &o, &k));
    double batches = ceil(rows / o.batch) * (double)config_int(c, KEY_backgrounds_tries);
    plan_print_run(p, "repair encode", codec_encode_plan(painter_codec(k)), rows);
    plan_print_run(p, "repair step", painter_step_plan(k), batches * painter_evaluations(k));
    plan_print_run(p, "repair decode", codec_decode_plan(painter_codec(k)), batches);
    plan_print_stage(p, "backgrounds", painter_bytes(k));
    (void)printf("beside it the background model, as the fine-tune above\n\n");
    md_status status = painter_fits(k, p->budget);
    painter_free(k);
    return status;
}
