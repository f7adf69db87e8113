/* finetune: the foundation's UNet learns the lesions of data.h5 under the prompt (finetune.region =
   "background": everything but the lesions). Writes RUN/models/lesion or RUN/models/background:
   the trained parts, or with finetune.lora_rank adapters and (finetune.lora_merge) both. */
#include "finetune.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "diffusion/schedule.h"
#include "prior.h"
#include "session.h"
#include "train/finetune.h"
#include "train/loop.h"

#include <stdlib.h>
#include <string.h>

/* of the configuration that shape the result */
static const char sections[] = ". data model finetune loss";

static const char *region_name(const config *cfg)
{
    return config_choice(cfg, KEY_finetune_region) == LESIONS_OUTSIDE ? "background" : "lesion";
}

/* The rate that suits whole weights leaves adapters almost as they start. */
static void warn_of_rate(const config *c)
{
    static const double LOW = 2e-5;
    double lr = config_float(c, KEY_finetune_lr);
    if (finetune_adapts(c) && lr < LOW && session_first_worker())
        md_warn("finetune", "finetune.lr = %g teaches LoRA adapters little: try 1e-4", lr);
}

/* A training on the loaded pictures. `d` and `source` must outlive it. */
static md_status start(const session *s, denoise *d, const denoise_source *source, train **out)
{
    train_task task = denoise_task(d);
    size_t budget;
    MD_TRY(session_training_budget(s->j->cfg, s->f, s->be, comm_node_workers(), &budget));
    nn_params *stores[MODEL_N_PARTS];
    int n = finetune_stores(s->j->cfg, s->f, stores);
    train_options o = finetune_options(s->j->cfg, budget);
    warn_of_rate(s->j->cfg);
    o.workers = comm_workers();
    o.reducer = s->reducer;
    o.device = s->device;
    MD_TRY(train_new(s->be, stores, n, &task, &o, out));
    MD_TRY(train_load(*out));
    md_info("finetune",
            "%lld pictures; %.1f GFLOP and %.0f MiB for a worker's step, %d blocks recomputed",
            (long long)source->n, (double)md_plan_flops(train_plan(*out)) / 1e9,
            (double)train_memory(*out).total / 1048576, train_recomputed(*out));
    return MD_OK;
}

enum { SINGLE_OFF, SINGLE_F32, SINGLE_F16 }; /* finetune.single_file */

/* Files for other programs, beside what a training leaves. */
typedef struct extras {
    bool merged; /* the parts with the adapters added: finetune.lora_merge */
    bool single; /* the whole model in one file: finetune.single_file */
    char single_path[SESSION_PATH];
} extras;

/* What is asked for and not there yet; it may be asked for after the training. */
static md_status list_extras(const session *s, const char *folder, extras *out)
{
    char unet[SESSION_PATH];
    const config *c = s->j->cfg;
    const model_row *row = model_registry(MODEL_UNET);
    MD_TRY(md_str_printf(unet, sizeof unet, "%s/%s/%s.safetensors", folder, row->folder,
                         row->weights));
    MD_TRY(md_str_printf(out->single_path, sizeof out->single_path, "%s/%s.safetensors", folder,
                         region_name(c)));
    out->merged =
        finetune_adapts(c) && config_bool(c, KEY_finetune_lora_merge) && !md_file_exists(unet);
    out->single = config_choice(c, KEY_finetune_single_file) != SINGLE_OFF &&
                  !md_file_exists(out->single_path);
    return MD_OK;
}

/* <folder>/text_encoder where it was trained, and last <folder>/unet. */
static md_status save_parts(session *s, const char *folder)
{
    if (config_bool(s->j->cfg, KEY_finetune_text_encoder))
        MD_TRY(foundation_save_part(s->f, MODEL_TEXT_ENCODER, folder, s->be, NULL, false));
    return foundation_save_part(s->f, MODEL_UNET, folder, s->be, NULL, false);
}

/* Of the tuned model that s->f is. Local, on the first worker. */
static md_status save_extras(session *s, const char *folder, const extras *e)
{
    if (e->merged)
        MD_TRY(save_parts(s, folder));
    if (!e->single)
        return MD_OK;
    bool f16 = config_choice(s->j->cfg, KEY_finetune_single_file) == SINGLE_F16;
    MD_TRY(foundation_save_file(s->f, e->single_path, s->be, f16));
    md_info("finetune", "wrote the whole model to %s", e->single_path);
    return MD_OK;
}

/* The trained parts or their adapters, then DONE. */
static md_status save(session *s, const char *folder)
{
    extras e;
    bool adapts = finetune_adapts(s->j->cfg);
    MD_TRY(adapts ? foundation_save_lora(s->f, folder, s->be) : save_parts(s, folder));
    MD_TRY(list_extras(s, folder, &e));
    if (adapts && (e.merged || e.single))
        MD_TRY(foundation_merge_lora(s->f, folder));
    MD_TRY(save_extras(s, folder, &e));
    return session_mark_trained(s, folder);
}

static md_status load_foundation(session *s)
{
    finetune_hold(s->j->cfg, s->f);
    for (int part = 0; part < MODEL_N_PARTS; part++)
        MD_TRY(foundation_load(s->f, (model_part)part, s->be));
    MD_TRY(finetune_adapt(s->j->cfg, s->f));
    return foundation_draw_lora(s->f, s->be, s->seed);
}

/* Loads, trains, saves. Rank 0 of several only takes part in the agreement and watches. */
static md_status work(session *s, const train_loop *l, const lesions_options *o, const char *folder,
                      double *alphas)
{
    const config *c = s->j->cfg;
    lesions in = {0};
    denoise d;
    train *t = NULL;
    MD_TRY(comm_agree(comm_world(), session_works() ? load_foundation(s) : MD_OK));
    MD_TRY(job_prior_draw(s, o->prior_folder));
    md_status status = schedule_alphas_cumprod(&s->f->schedule, alphas);
    if (status == MD_OK && session_works()) {
        status = lesions_load(s->f, s->be, o, &in);
        d = finetune_task(c, s->f, &in.source, alphas);
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
    if (status == MD_OK && session_first_worker())
        status = train_checkpoint_clear(l->checkpoints);
    return status;
}

/* generate takes adapters where there are some: those of an earlier training must not stay. */
static md_status check_folder(const session *s, const char *folder)
{
    if (!finetune_adapts(s->j->cfg) && foundation_has_lora(folder))
        MD_FAIL(MD_BAD_INPUT,
                "%s holds LoRA adapters of an earlier training: remove it, or set "
                "finetune.lora_rank",
                folder);
    return MD_OK;
}

static md_status run(session *s)
{
    char data[SESSION_PATH], folder[SESSION_PATH], checkpoints[SESSION_PATH], metrics[SESSION_PATH];
    char class[SESSION_PATH];
    const char *region = region_name(s->j->cfg);
    MD_TRY(session_path(s, data, "data.h5"));
    MD_TRY(session_path(s, folder, "models/%s", region));
    MD_TRY(session_path(s, checkpoints, "checkpoints/%s", region));
    MD_TRY(session_path(s, metrics, "metrics.csv"));
    MD_TRY(comm_agree(comm_world(), job_prior_folder(s, class)));
    MD_TRY(comm_agree(comm_world(), session_need_data(s)));
    MD_TRY(comm_agree(comm_world(), check_folder(s, folder)));
    MD_TRY(session_meet(s));
    train_loop l = {.what = region,
                    .checkpoints = checkpoints,
                    .metrics = metrics,
                    .cfg = s->j->cfg,
                    .sections = sections,
                    .steps = config_int(s->j->cfg, KEY_finetune_steps),
                    .checkpoint_minutes = config_float(s->j->cfg, KEY_checkpoint_minutes),
                    .stop = session_wants_stop};
    double *alphas = malloc((size_t)s->f->schedule.train_steps * sizeof *alphas);
    if (!alphas)
        MD_FAIL(MD_NOMEM, "fine-tune: out of memory");
    lesions_options o = finetune_lesions(s->j->cfg, data, class);
    md_status status = work(s, &l, &o, folder, alphas);
    free(alphas);
    return status;
}

/* What was not asked for when the training ended. */
static md_status save_extras_later(session *s, const char *folder, const extras *e)
{
    if (!session_first_worker())
        return MD_OK;
    MD_TRY(foundation_use_tuned(s->f, folder));
    return save_extras(s, folder, e);
}

/* Collective(world). */
static md_status train_region(job *j)
{
    session s = {.j = j};
    char folder[SESSION_PATH];
    bool complete = false;
    extras e = {0};
    MD_TRY(session_path(&s, folder, "models/%s", region_name(j->cfg)));
    MD_TRY(finetune_check(j->cfg));
    MD_TRY(
        comm_agree(comm_world(), session_is_trained(&s, region_name(j->cfg), sections, &complete)));
    if (complete) {
        MD_TRY(comm_agree(comm_world(), session_clear_checkpoints(&s, region_name(j->cfg))));
        MD_TRY(comm_agree(comm_world(), list_extras(&s, folder, &e)));
    }
    if (complete && !e.merged && !e.single) {
        md_info("finetune", "models/%s is complete already; --fresh trains again",
                region_name(j->cfg));
        return MD_OK;
    }
    md_status status = session_open(&s, j, false);
    if (status == MD_OK && complete)
        status = comm_agree(comm_world(), save_extras_later(&s, folder, &e));
    else if (status == MD_OK)
        status = comm_agree(comm_world(), run(&s));
    session_close(&s);
    return status;
}

/* The run's configuration with the region in it, and the steps that go with it: what the model's
   DONE and its checkpoints keep. */
static md_status derive(const job *j, lesions_region region, config **out)
{
    char steps[64];
    md_status status = MD_OK;
    const char *text = config_text(j->cfg, &status);
    MD_TRY(status);
    MD_TRY(config_parse(text, strlen(text), config_name(j->cfg), out));
    status = config_set(
        *out, region == LESIONS_OUTSIDE ? "finetune.region=background" : "finetune.region=lesion",
        j->name);
    int64_t own = config_int(j->cfg, KEY_backgrounds_steps);
    if (status == MD_OK && region == LESIONS_OUTSIDE && own)
        status = md_str_printf(steps, sizeof steps, "finetune.steps=%lld", (long long)own);
    if (status == MD_OK && region == LESIONS_OUTSIDE && own)
        status = config_set(*out, steps, j->name);
    return status;
}

/* Collective(world). */
md_status job_finetune_region(job *j, lesions_region region)
{
    job own = *j;
    own.cfg = NULL;
    md_status status = comm_agree(comm_world(), derive(j, region, &own.cfg));
    if (status == MD_OK)
        status = train_region(&own);
    config_free(own.cfg);
    return status;
}

/* Collective(world). */
md_status job_finetune(job *j)
{
    return job_finetune_region(j, (lesions_region)config_choice(j->cfg, KEY_finetune_region));
}
