/* plan: bytes and work of the mask generator. */
#include "generate/masks.h"
#include "plan.h"
#include "train/masks.h"

#include <math.h>
#include <stdio.h>

static md_status plan_mask_training(plan_job *p, const mask_model *m, size_t *most)
{
    const config *c = p->cfg;
    nn_params *params = m->net->params;
    train *t = NULL;
    mask_train d = {.unet = &m->net->config.unet, .params = params};
    mask_train_fill(c, p->size, &d);
    train_task task = mask_train_task(&d);
    train_options o = mask_train_options(c, p->budget);
    MD_TRY(train_new(p->be, &params, 1, &task, &o, &t));
    plan_print_training(p, "masks step", t, (double)o.steps);
    *most = train_memory(t).total;
    train_free(t);
    return MD_OK;
}

static md_status plan_mask_sampling(plan_job *p, const mask_model *m, size_t *most)
{
    const config *c = p->cfg;
    mask_sampler *s = NULL;
    mask_sampler_options o = mask_sampler_options_for(c, NULL);
    double masks = (double)masks_count(c);
    MD_TRY(mask_sampler_new(m, p->be, &o, &s));
    plan_print_run(p, "masks draw", mask_sampler_plan(s), ceil(masks / o.batch) * o.steps);
    *most = mask_sampler_bytes(s) > *most ? mask_sampler_bytes(s) : *most;
    mask_sampler_free(s);
    return MD_OK;
}

md_status plan_masks(plan_job *p)
{
    mask_model m = {.schedule = mask_schedule_for(p->cfg)};
    model_config net = {.unet = mask_unet_for(p->cfg)};
    size_t most = 0;
    if (config_choice(p->cfg, KEY_guide_from) == 1)
        return MD_OK;
    MD_TRY(mask_check(p->cfg));
    MD_TRY(standalone_new(MODEL_MASK_UNET, &net, &m.net));
    nn_params_hold(m.net->params, p->dtype == MD_BF16 ? NN_HOLD_BOTH : NN_HOLD_F32);
    p->weights = nn_params_bytes(m.net->params, p->be);
    md_status status = plan_mask_training(p, &m, &most);
    nn_params_hold(m.net->params, p->dtype == MD_BF16 ? NN_HOLD_BF16 : NN_HOLD_F32);
    p->weights = nn_params_bytes(m.net->params, p->be);
    if (status == MD_OK)
        status = plan_mask_sampling(p, &m, &most);
    if (status == MD_OK) {
        plan_print_stage(p, "masks", most);
        (void)printf("mask UNet: %.2f M parameters\n\n",
                     (double)nn_params_numel(m.net->params) / 1e6);
    }
    mask_model_free(&m, NULL);
    return status;
}
