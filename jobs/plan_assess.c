/* plan: the encoder that judges pairs, beside the painter. */
#include "generate/references.h"
#include "plan.h"

#include <math.h>

static void print(plan_job *p, const features *f, double pictures, int batch)
{
    size_t own = features_bytes(f) - md_plan_memory(features_step(f)).total;
    p->weights += own;
    plan_print_run(p, "generate assess", features_step(f), ceil(pictures / batch));
    p->weights -= own;
}

md_status plan_assess(plan_job *p, size_t *bytes)
{
    const char *folder = config_string(p->cfg, KEY_model_encoder);
    int batch = 2 * (int)config_int(p->cfg, KEY_generate_batch);
    features *f = NULL;
    *bytes = 0;
    if (!*folder)
        return MD_OK;
    md_status status = features_open_config(folder, &f);
    if (status == MD_OK)
        status = features_plan(f, p->be, p->dtype, batch);
    if (status == MD_OK) {
        /* each pair and its lesion's box, and the real images in all their views */
        double real = (double)config_int(p->cfg, KEY_data_pairs) * REFERENCES_VIEWS;
        *bytes = features_bytes(f);
        print(p, f, N_PARTS * ((double)config_int(p->cfg, KEY_generate_pairs) + real), batch);
    }
    features_free(f);
    return status == MD_OK ? MD_OK : md_context(status, "model.encoder");
}
