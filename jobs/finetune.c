/* finetune: the foundation's UNet learns the lesions of data.h5 under the prompt (finetune.region =
   "background": everything but the lesions). Writes RUN/models/lesion or RUN/models/background. */
#include "train/finetune.h"
#include "base/file.h"
#include "base/log.h"
#include "diffusion/schedule.h"
#include "prior.h"
#include "session.h"
#include "train/loop.h"

#include <stdlib.h>
#include <string.h>

/* of the configuration that shape the result */
static const char sections[] = ". data model finetune loss";

static const char *region_name(const config *cfg)
{
    return config_choice(cfg, KEY_finetune_region) == LESIONS_OUTSIDE ? "background" : "lesion";
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

/* The whole tuned model as RUN/models/<region>/<region>.safetensors, unless it is there or not
   asked for. Local, on the first worker. */
static md_status save_single(session *s)
{
    char path[SESSION_PATH];
    const char *region = region_name(s->j->cfg);
    int kind = config_choice(s->j->cfg, KEY_finetune_single_file);
    MD_TRY(session_path(s, path, "models/%s/%s.safetensors", region, region));
    if (kind == SINGLE_OFF || md_file_exists(path))
        return MD_OK;
    MD_TRY(foundation_save_file(s->f, path, s->be, kind == SINGLE_F16));
    md_info("finetune", "wrote the whole model to %s", path);
    return MD_OK;
}

/* The same for a training that is complete already, from its files. */
static md_status save_single_later(session *s)
{
    char folder[SESSION_PATH], text[SESSION_PATH];
    MD_TRY(session_path(s, folder, "models/%s", region_name(s->j->cfg)));
    MD_TRY(md_path_join(text, sizeof text, folder, "text_encoder"));
    MD_TRY(foundation_replace(s->f, MODEL_UNET, folder));
    if (md_file_exists(text))
        MD_TRY(foundation_replace(s->f, MODEL_TEXT_ENCODER, folder));
    return save_single(s);
}

/* <folder>/unet (and text_encoder), then DONE. */
static md_status save(session *s, const char *folder)
{
    char done[SESSION_PATH];
    MD_TRY(foundation_save_part(s->f, MODEL_UNET, folder, s->be, NULL, false));
    if (config_bool(s->j->cfg, KEY_finetune_text_encoder))
        MD_TRY(foundation_save_part(s->f, MODEL_TEXT_ENCODER, folder, s->be, NULL, false));
    MD_TRY(save_single(s));
    MD_TRY(md_path_join(done, sizeof done, folder, "DONE"));
    md_status status = MD_OK;
    const char *text = config_text(s->j->cfg, &status);
    MD_TRY(status);
    return md_file_write_atomic(done, text, strlen(text));
}

static md_status load_foundation(session *s)
{
    finetune_hold(s->j->cfg, s->f);
    for (int part = 0; part < MODEL_N_PARTS; part++)
        MD_TRY(foundation_load(s->f, (model_part)part, s->be));
    return MD_OK;
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

/* The loss compares with the noise. */
static md_status check_prediction(const foundation *f)
{
    if (f->schedule.prediction != SCHEDULE_EPSILON)
        MD_FAIL(MD_BAD_INPUT,
                "%s: its UNet predicts \"%s\"; only models that predict \"epsilon\" are fine-tuned",
                f->path, schedule_prediction_name(f->schedule.prediction));
    return MD_OK;
}

static md_status run(session *s)
{
    char data[SESSION_PATH], folder[SESSION_PATH], checkpoints[SESSION_PATH], metrics[SESSION_PATH];
    char class[SESSION_PATH];
    const char *region = region_name(s->j->cfg);
    MD_TRY(check_prediction(s->f));
    MD_TRY(session_path(s, data, "data.h5"));
    MD_TRY(session_path(s, folder, "models/%s", region));
    MD_TRY(session_path(s, checkpoints, "checkpoints/%s", region));
    MD_TRY(session_path(s, metrics, "metrics.csv"));
    MD_TRY(comm_agree(comm_world(), job_prior_folder(s, class)));
    MD_TRY(comm_agree(comm_world(), session_need_data(s)));
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

static md_status is_complete(const session *s, bool *complete)
{
    enum { MOST = 1 << 20 };
    char done[SESSION_PATH];
    void *text = NULL;
    size_t n = 0;
    MD_TRY(session_path(s, done, "models/%s/DONE", region_name(s->j->cfg)));
    *complete = md_file_exists(done);
    if (!*complete)
        return MD_OK;
    MD_TRY(md_file_read(done, MOST, &text, &n));
    md_status status = session_made_under(s, text, done, sections);
    free(text);
    return status;
}

/* Collective(world). */
md_status job_finetune(job *j)
{
    session s = {.j = j};
    bool complete = false;
    MD_TRY(comm_agree(comm_world(), is_complete(&s, &complete)));
    if (complete)
        md_info("finetune", "models/%s is complete already; remove it to train again",
                region_name(j->cfg));
    if (complete && config_choice(j->cfg, KEY_finetune_single_file) == SINGLE_OFF)
        return MD_OK;
    md_status status = session_open(&s, j, false);
    if (status == MD_OK && complete)
        status = comm_agree(comm_world(), session_first_worker() ? save_single_later(&s) : MD_OK);
    else if (status == MD_OK)
        status = comm_agree(comm_world(), run(&s));
    session_close(&s);
    return status;
}
