/* finetune: the foundation's UNet learns the lesions of data.h5 under the prompt (finetune.region =
   "background": everything but the lesions). Writes RUN/models/lesion or RUN/models/background. */
#include "base/file.h"
#include "base/log.h"
#include "diffusion/schedule.h"
#include "session.h"
#include "train/lesions.h"
#include "train/loop.h"

#include <stdlib.h>
#include <string.h>

static const char *region_name(const config *cfg)
{
    return config_choice(cfg, KEY_finetune_region) == LESIONS_OUTSIDE ? "background" : "lesion";
}

static train_options options_of(const session *s)
{
    const config *c = s->j->cfg;
    return (train_options){
        .steps = config_int(c, KEY_finetune_steps),
        .batch = config_int(c, KEY_finetune_batch),
        .accumulate = config_int(c, KEY_finetune_accumulate),
        .lr_rule = (train_lr_rule)config_choice(c, KEY_finetune_schedule),
        .lr = config_float(c, KEY_finetune_lr),
        .warmup = config_int(c, KEY_finetune_warmup),
        .beta1 = config_float(c, KEY_finetune_beta1),
        .beta2 = config_float(c, KEY_finetune_beta2),
        .eps = config_float(c, KEY_finetune_eps),
        .weight_decay = config_float(c, KEY_finetune_weight_decay),
        .clip = config_float(c, KEY_finetune_clip),
        .ema = config_float(c, KEY_finetune_ema),
        .budget_bytes = (size_t)config_int(c, KEY_memory_budget) << 20,
        .workers = comm_workers(),
        .reducer = s->reducer,
    };
}

static denoise denoise_of(const session *s, const denoise_source *source, const double *alphas)
{
    const config *c = s->j->cfg;
    bool text = config_bool(c, KEY_finetune_text_encoder);
    return (denoise){
        .unet = s->f->unet,
        .unet_params = s->f->params[MODEL_UNET],
        .text = text ? s->f->text : NULL,
        .text_params = s->f->params[MODEL_TEXT_ENCODER],
        .dtype = s->dtype,
        .source = source,
        .alphas_cumprod = alphas,
        .train_steps = s->f->schedule.train_steps,
        .seed = s->seed,
        .batch = config_int(c, KEY_finetune_batch),
        .drop_caption = config_float(c, KEY_finetune_drop_prompt),
        .target = (denoise_target)config_choice(c, KEY_loss_target),
        .weight = (denoise_weight)config_choice(c, KEY_loss_weight),
        .gamma = config_float(c, KEY_loss_gamma),
        .area_norm = config_bool(c, KEY_loss_area_norm),
        .min_area = 1,
        .outside = config_float(c, KEY_loss_outside),
    };
}

/* A training on the loaded pictures. `d` and `source` must outlive it. */
static md_status start(const session *s, denoise *d, const denoise_source *source, train **out)
{
    train_task task = denoise_task(d);
    train_options o = options_of(s);
    nn_params *stores[] = {s->f->params[MODEL_UNET], s->f->params[MODEL_TEXT_ENCODER]};
    MD_TRY(train_new(s->be, stores, d->text ? 2 : 1, &task, &o, out));
    md_info("finetune",
            "%lld pictures; %.1f GFLOP and %.0f MiB for a worker's step, %d blocks recomputed",
            (long long)source->n, (double)md_plan_flops(train_plan(*out)) / 1e9,
            (double)md_plan_memory(train_plan(*out)).total / 1048576, train_recomputed(*out));
    return MD_OK;
}

/* <folder>/unet (and text_encoder), then DONE. */
static md_status save(session *s, const char *folder)
{
    char done[SESSION_PATH];
    MD_TRY(foundation_save_part(s->f, MODEL_UNET, folder, s->be, NULL, false));
    if (config_bool(s->j->cfg, KEY_finetune_text_encoder))
        MD_TRY(foundation_save_part(s->f, MODEL_TEXT_ENCODER, folder, s->be, NULL, false));
    MD_TRY(md_path_join(done, sizeof done, folder, "DONE"));
    md_status status = MD_OK;
    const char *text = config_text(s->j->cfg, &status);
    MD_TRY(status);
    return md_file_write_atomic(done, text, strlen(text));
}

static md_status load_foundation(session *s)
{
    for (int part = 0; part < MODEL_N_PARTS; part++)
        MD_TRY(foundation_load(s->f, (model_part)part, s->be));
    return MD_OK;
}

/* Loads, trains, saves. Rank 0 of several only takes part in the agreement and watches. */
static md_status work(session *s, const train_loop *l, const char *data, const char *folder,
                      double *alphas)
{
    const config *c = s->j->cfg;
    lesions_options o = {.data = data,
                         .prompt = config_string(c, KEY_model_prompt),
                         .region = (lesions_region)config_choice(c, KEY_finetune_region),
                         .grow_px = config_float(c, KEY_finetune_grow_px),
                         .mask_out = config_bool(c, KEY_finetune_mask_out),
                         .train_text = config_bool(c, KEY_finetune_text_encoder),
                         .dtype = s->dtype};
    lesions in = {0};
    denoise d;
    train *t = NULL;
    md_status status = schedule_alphas_cumprod(&s->f->schedule, alphas);
    if (status == MD_OK && session_works()) {
        status = load_foundation(s);
        if (status == MD_OK)
            status = lesions_load(s->f, s->be, &o, &in);
        d = denoise_of(s, &in.source, alphas);
        if (status == MD_OK)
            status = start(s, &d, &in.source, &t);
    }
    status = comm_agree(comm_world(), status);
    if (status == MD_OK)
        status = session_works() ? train_loop_work(l, t) : train_loop_watch(l);
    if (status == MD_OK && t)
        status = train_swap_ema(t);
    train_free(t);
    lesions_free(&in);
    if (status == MD_OK && session_first_worker())
        status = save(s, folder);
    return status;
}

static md_status run(session *s)
{
    char data[SESSION_PATH], folder[SESSION_PATH], checkpoints[SESSION_PATH], metrics[SESSION_PATH];
    const char *region = region_name(s->j->cfg);
    MD_TRY(session_path(s, data, "data.h5"));
    MD_TRY(session_path(s, folder, "models/%s", region));
    MD_TRY(session_path(s, checkpoints, "checkpoints/%s", region));
    MD_TRY(session_path(s, metrics, "metrics.csv"));
    if (!md_file_exists(data))
        MD_FAIL(MD_BAD_INPUT,
                "%s does not exist: run \"meddiff import\" with this configuration first", data);
    train_loop l = {.what = region,
                    .checkpoints = checkpoints,
                    .metrics = metrics,
                    .cfg = s->j->cfg,
                    .sections = ". data model finetune loss",
                    .steps = config_int(s->j->cfg, KEY_finetune_steps),
                    .checkpoint_minutes = config_float(s->j->cfg, KEY_checkpoint_minutes),
                    .stop = session_wants_stop};
    double *alphas = malloc((size_t)s->f->schedule.train_steps * sizeof *alphas);
    if (!alphas)
        MD_FAIL(MD_NOMEM, "fine-tune: out of memory");
    md_status status = work(s, &l, data, folder, alphas);
    free(alphas);
    return status;
}

/* Collective(world). */
md_status job_finetune(job *j)
{
    session s;
    md_status status = session_open(&s, j, false);
    if (status == MD_OK)
        status = comm_agree(comm_world(), run(&s));
    session_close(&s);
    return status;
}
