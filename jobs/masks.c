/* masks: the mask generator. "train": a diffusion model of the training masks alone,
   RUN/models/masks. "sample": masks that none of the data set's is, RUN/masks.h5 with a report.
   Without a word both, skipping what is complete. */
#include "train/masks.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "generate/mask_report.h"
#include "session.h"
#include "train/loop.h"

#include <stdlib.h>
#include <string.h>

/* of the configuration that shape the masks, and those that shape the model too */
static const char sections[] = ". data model masks";
static const char learned[] = ". data model masks -masks.count -masks.sample_steps "
                              "-masks.sample_batch -masks.eta -masks.affine -masks.threshold "
                              "-masks.attempts -masks.copy";

/* What the training masks say. */
static md_status read_masks(const config *c, const char *data, mask_hints *out)
{
    guide_bank b;
    MD_TRY(mask_judge_masks(data, &b));
    image_field_view view = mask_view_for(c, b.size);
    md_status status = mask_hints_open(c, &b, &view, out);
    guide_bank_free(&b);
    return status;
}

/* What a training holds. */
typedef struct learning {
    mask_model model;
    mask_train task;
    mask_hints masks;
    double *alphas;
    train *t;
} learning;

static md_status start(session *s, const char *data, learning *l)
{
    const config *c = s->j->cfg;
    model_config m = {.unet = mask_unet_for(c)};
    size_t budget;
    l->model.schedule = mask_schedule_for(c);
    MD_TRY(standalone_new(MODEL_MASK_UNET, &m, &l->model.net));
    nn_params *params = l->model.net->params;
    nn_params_hold(params, s->dtype == MD_BF16 ? NN_HOLD_BOTH : NN_HOLD_F32);
    MD_TRY(standalone_randomize(l->model.net, s->be, s->seed));
    MD_TRY(read_masks(c, data, &l->masks));
    l->alphas = malloc((size_t)l->model.schedule.train_steps * sizeof *l->alphas);
    if (!l->alphas)
        MD_FAIL(MD_NOMEM, "masks: out of memory");
    MD_TRY(schedule_alphas_cumprod(&l->model.schedule, l->alphas));
    mask_train_fill(c, l->masks.view.size, &l->task);
    l->task.unet = &l->model.net->config.unet;
    l->task.params = params;
    l->task.n = l->masks.n;
    l->task.fields = l->masks.fields;
    l->task.spread = l->masks.spread;
    l->task.alphas_cumprod = l->alphas;
    train_task task = mask_train_task(&l->task);
    MD_TRY(session_budget(c, s->be, comm_node_workers(), &budget));
    train_options o = mask_train_options(c, budget);
    o.workers = comm_workers();
    o.reducer = s->reducer;
    o.device = s->device;
    MD_TRY(train_new(s->be, &params, 1, &task, &o, &l->t));
    MD_TRY(train_load(l->t));
    md_info("masks",
            "%lld masks as pictures of %lld pixels; %.2f M parameters, %.2f GFLOP and %.0f MiB for "
            "a worker's step",
            (long long)l->task.n, (long long)l->task.view.edge,
            (double)nn_params_numel(params) / 1e6, (double)md_plan_flops(train_plan(l->t)) / 1e9,
            (double)train_memory(l->t).total / 1048576);
    return MD_OK;
}

static void end(session *s, learning *l)
{
    train_free(l->t);
    mask_model_free(&l->model, s->be);
    mask_hints_close(&l->masks);
    free(l->alphas);
}

static md_status learn(session *s)
{
    char data[SESSION_PATH], folder[SESSION_PATH], checkpoints[SESSION_PATH], metrics[SESSION_PATH];
    learning l = {0};
    MD_TRY(session_path(s, data, "data.h5"));
    MD_TRY(session_path(s, folder, "models/masks"));
    MD_TRY(session_path(s, checkpoints, "checkpoints/masks"));
    MD_TRY(session_path(s, metrics, "metrics.csv"));
    MD_TRY(session_meet(s));
    train_loop loop = {.what = "masks",
                       .checkpoints = checkpoints,
                       .metrics = metrics,
                       .cfg = s->j->cfg,
                       .sections = learned,
                       .steps = config_int(s->j->cfg, KEY_masks_steps),
                       .checkpoint_minutes = config_float(s->j->cfg, KEY_checkpoint_minutes),
                       .stop = session_wants_stop};
    md_status status = session_works() ? start(s, data, &l) : MD_OK;
    status = comm_agree(comm_world(), status);
    if (status == MD_OK)
        status = session_works() ? train_loop_work(&loop, l.t) : train_loop_watch(&loop);
    if (status == MD_OK && l.t)
        status = train_swap_ema(l.t);
    if (status == MD_OK && session_first_worker())
        status = mask_model_save(&l.model, folder, s->be);
    if (status == MD_OK && session_first_worker())
        status = session_mark_trained(s, folder);
    if (status == MD_OK && session_first_worker())
        status = train_checkpoint_clear(checkpoints);
    end(s, &l);
    return status;
}

/* ---- sampling */

static md_status load(session *s, mask_model *m)
{
    char folder[SESSION_PATH];
    MD_TRY(session_path(s, folder, "models/masks"));
    MD_TRY(mask_model_open(folder, m));
    nn_params_hold(m->net->params, s->dtype == MD_BF16 ? NN_HOLD_BF16 : NN_HOLD_F32);
    return session_works() ? standalone_load(m->net, s->be) : MD_OK;
}

/* The report, unless it stands there already and nothing is new. Local. */
static md_status tell(const session *s, const masks_job *p, bool new)
{
    char json[SESSION_PATH], csv[SESSION_PATH], png[SESSION_PATH];
    MD_TRY(session_path(s, json, "masks_report.json"));
    MD_TRY(session_path(s, csv, "masks_report.csv"));
    MD_TRY(session_path(s, png, "masks.png"));
    return md_file_exists(json) && !new ? MD_OK : mask_report_write(p, json, csv, png);
}

static md_status draw(session *s, const mask_model *m)
{
    char data[SESSION_PATH], store[SESSION_PATH];
    masks_outcome out;
    size_t budget;
    MD_TRY(session_path(s, data, "data.h5"));
    MD_TRY(session_path(s, store, "masks.h5"));
    MD_TRY(session_budget(s->j->cfg, s->be, comm_node_workers(), &budget));
    int64_t size = config_int(s->j->cfg, KEY_data_size);
    masks_job p = {.cfg = s->j->cfg,
                   .model = m,
                   .be = s->be,
                   .budget = budget,
                   .view = mask_view_for(s->j->cfg, size),
                   .data = data,
                   .store = store,
                   .sections = sections};
    MD_TRY(masks_generate(&p, &out));
    md_info("masks", "%lld masks in %s, %lld given up, %lld failed; %.2f masks/s",
            (long long)out.accepted, store, (long long)out.rejected, (long long)out.failed,
            out.rate);
    return comm_agree(comm_world(), session_first_worker() ? tell(s, &p, out.drawn) : MD_OK);
}

static md_status sample(session *s)
{
    mask_model m = {0};
    MD_TRY(comm_agree(comm_world(), load(s, &m)));
    md_status status = draw(s, &m);
    mask_model_free(&m, s->be);
    return status;
}

static md_status need_model(const session *s, bool trained)
{
    char done[SESSION_PATH];
    MD_TRY(session_path(s, done, "models/masks/DONE"));
    if (!trained)
        MD_FAIL(MD_BAD_INPUT, "%s does not exist: run \"meddiff masks train\" first", done);
    return MD_OK;
}

/* Collective(world). */
md_status job_masks(job *j)
{
    bool trains = strcmp(j->step, "sample") != 0, samples = strcmp(j->step, "train") != 0;
    session s = {.j = j};
    bool trained = false;
    MD_TRY(mask_check(j->cfg));
    MD_TRY(comm_agree(comm_world(), session_need_data(&s)));
    MD_TRY(comm_agree(comm_world(), session_is_trained(&s, "masks", learned, &trained)));
    if (trained && trains) {
        md_info("masks", "models/masks is complete already; --fresh trains again");
        MD_TRY(comm_agree(comm_world(), session_clear_checkpoints(&s, "masks")));
    }
    if (!trains)
        MD_TRY(comm_agree(comm_world(), need_model(&s, trained)));
    md_status status = session_open(&s, j, true);
    if (status == MD_OK && trains && !trained)
        status = comm_agree(comm_world(), learn(&s));
    if (status == MD_OK && samples)
        status = comm_agree(comm_world(), sample(&s));
    session_close(&s);
    return status;
}
