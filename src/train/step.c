#include "train/step.h"
#include "base/clock.h"
#include "base/log.h"
#include "ops/grad.h"
#include "ops/state.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Beside the gradients travel the loss, the failure flag, the wishes and how long the last step
   took. A worker that failed says infinity: what is added to the norm then is not a number, and
   nothing is updated anywhere.
 */
enum { TAIL_LOSS, TAIL_FAILED, TAIL_STOP, TAIL_SAVE, TAIL_SECONDS, TAIL_COUNT };

/* Steps whose time says little: libraries choose and record in them, and the workers start apart.
 */
enum { UNTIMED_STEPS = 2 };

typedef struct store {
    nn_params *params;
    md_buffer grad, m, v, m_scale, v_scale, ema;
    int64_t n; /* elements of the flat weights */
} store;

struct train {
    md_backend *be;
    train_task task;
    train_options o;
    store stores[TRAIN_MAX_STORES];
    int n_stores;
    md_buffer tail;
    train_reduce reduce;
    int64_t step, micro;
    int skips, recomputed;
    int timed_steps;  /* of this process */
    double own_s;     /* of the last one, here */
    double longest_s; /* of all, on the average of the workers: the same number on each */
    md_graph *loss_graph, *update_graph;
    md_plan *loss_plan, *update_plan;
    md_tensor *gnorm2, *hyper, *decay;
};

static int n_workers(const train *t)
{
    return train_reduce_workers(&t->reduce);
}

static size_t bytes(const train *t, const md_buffer *b)
{
    return (size_t)b->numel * t->be->ops->elem_bytes(b->dtype);
}

static int worker(const train *t)
{
    return t->o.workers ? comm_rank(t->o.workers) : 0;
}

/* Loss and gradients of one micro-batch, added into (or, without accumulation, written to) the flat
   gradient buffers. */
static md_status build_loss(train *t, int n_recompute)
{
    MD_TRY(md_graph_new(&t->loss_graph));
    md_graph *g = t->loss_graph;
    md_tensor *loss = t->task.build(t->task.user, g, t->micro);
    MD_TRY(md_graph_check(g));
    int total = 0;
    for (int s = 0; s < t->n_stores; s++)
        total += nn_params_count(t->stores[s].params);
    md_tensor **leaf = calloc((size_t)total + 1, sizeof *leaf);
    md_tensor **wrt = calloc((size_t)total + 1, sizeof *wrt);
    md_tensor **grad = calloc((size_t)total + 1, sizeof *grad);
    md_tensor **out = calloc((size_t)total + 1, sizeof *out);
    md_status status = MD_OK;
    if (!leaf || !wrt || !grad || !out) {
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "training: out of memory");
        goto done;
    }
    int at = 0, n = 0;
    for (int s = 0; s < t->n_stores; s++) {
        nn_params_tensors(t->stores[s].params, g, leaf + at);
        at += nn_params_count(t->stores[s].params);
    }
    for (int i = 0; i < total; i++)
        if (leaf[i])
            wrt[n++] = leaf[i];
    MD_TRY_GOTO(md_grad(loss, wrt, n, n_recompute, grad), done);
    md_tensor *(*into)(md_tensor *, md_tensor *) = t->o.accumulate > 1 ? md_accumulate : md_write;
    int n_out = 0;
    at = n = 0;
    for (int s = 0; s < t->n_stores; s++)
        for (int i = 0; i < nn_params_count(t->stores[s].params); i++, at++) {
            const nn_param_info *info = nn_params_info(t->stores[s].params, i);
            md_tensor *d = leaf[at] ? grad[n++] : NULL;
            md_buffer *to = &t->stores[s].grad;
            if (d)
                out[n_out++] = into(md_extern(g, to, info->offset, info->ndim, info->dim),
                                    md_cast(d, to->dtype));
        }
    out[n_out++] = into(md_extern(g, &t->tail, TAIL_LOSS, 1, MD_DIMS(1)), loss);
    status = md_plan_build(g, t->be, out, n_out, &t->loss_plan);
done:
    free(leaf);
    free(wrt);
    free(grad);
    free(out);
    return status;
}

static void drop_loss(train *t)
{
    md_plan_free(t->loss_plan);
    md_graph_free(t->loss_graph);
    t->loss_plan = NULL;
    t->loss_graph = NULL;
}

static bool too_large(const train *t)
{
    return t->o.budget_bytes && train_memory(t).total > t->o.budget_bytes;
}

/* Recomputes as few blocks as the budget allows. */
static md_status fit_loss(train *t)
{
    MD_TRY(build_loss(t, 0));
    int blocks = md_graph_n_blocks(t->loss_graph);
    for (int quarter = 1; too_large(t) && quarter <= 4; quarter++) {
        drop_loss(t);
        t->recomputed = blocks * quarter / 4;
        MD_TRY(build_loss(t, t->recomputed));
    }
    if (too_large(t))
        MD_FAIL(
            MD_NOMEM,
            "training on %lld samples at a time needs %.1f MiB with all blocks recomputed, of "
            "which %.1f MiB grow with the samples, and there are %.1f MiB: raise memory.budget or "
            "finetune.accumulate, keep the moments (%.1f MiB) in finetune.states = \"8bit\", or "
            "make "
            "the pictures smaller",
            (long long)t->micro, (double)train_memory(t).total / 1048576,
            (double)train_memory(t).activations / 1048576, (double)t->o.budget_bytes / 1048576,
            (double)train_memory(t).optimizer / 1048576);
    return MD_OK;
}

static md_tensor *whole(md_graph *g, md_buffer *b)
{
    return md_extern(g, b, 0, 1, MD_DIMS(b->numel));
}

/* Global norm, clipping, AdamW and the moving average over the flat buffers. */
static md_status build_update(train *t)
{
    MD_TRY(md_graph_new(&t->update_graph));
    md_graph *g = t->update_graph;
    t->hyper = md_input(g, "hyper", MD_F32, 1, MD_DIMS(MD_HYPER_COUNT));
    t->decay = md_input(g, "decay", MD_F32, 1, MD_DIMS(1));
    md_tensor *out[2 * TRAIN_MAX_STORES + 1], *grad[TRAIN_MAX_STORES];
    int n_out = 0;
    for (int s = 0; s < t->n_stores; s++) {
        grad[s] = whole(g, &t->stores[s].grad);
        md_tensor *sq = md_sumsq(grad[s]);
        t->gnorm2 = s ? md_add(t->gnorm2, sq) : sq;
    }
    /* a loss that is not finite, or a worker's failure, makes the norm so: md_adamw and md_ema then
       leave everything as it is, without the host having to look */
    md_tensor *loss = md_extern(g, &t->tail, TAIL_LOSS, 1, MD_DIMS(1));
    md_tensor *failed = md_extern(g, &t->tail, TAIL_FAILED, 1, MD_DIMS(1));
    t->gnorm2 = md_add(t->gnorm2, md_scale(md_add(loss, failed), 0));
    out[n_out++] = t->gnorm2;
    md_tensor *decay = md_add(t->decay, md_scale(t->gnorm2, 0));
    for (int s = 0; s < t->n_stores; s++) {
        store *st = &t->stores[s];
        md_buffer *copy = nn_params_copy(st->params);
        md_adamw_tensors a = {.p = whole(g, nn_params_buffer(st->params)),
                              .g = grad[s],
                              .m = whole(g, &st->m),
                              .v = whole(g, &st->v),
                              .shadow = copy ? whole(g, copy) : NULL,
                              .m_scale = st->m_scale.numel ? whole(g, &st->m_scale) : NULL,
                              .v_scale = st->v_scale.numel ? whole(g, &st->v_scale) : NULL};
        md_tensor *p =
            md_adamw(&a, t->gnorm2, t->hyper, t->o.beta1, t->o.beta2, t->o.eps, t->o.weight_decay);
        out[n_out++] = p;
        if (t->o.ema > 0)
            out[n_out++] = md_ema(whole(g, &st->ema), p, decay);
    }
    return md_plan_build(g, t->be, out, n_out, &t->update_plan);
}

/* The average starts as the weights themselves. */
static md_status copy_weights_to_ema(train *t, store *st)
{
    return md_buffer_copy(t->be, &st->ema, nn_params_buffer(st->params));
}

static md_status alloc_state(train *t)
{
    MD_TRY(md_buffer_alloc(t->be, &t->tail));
    for (int s = 0; s < t->n_stores; s++) {
        store *st = &t->stores[s];
        md_buffer *all[] = {&st->grad, &st->m, &st->v, &st->m_scale, &st->v_scale};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            if (all[i]->numel)
                MD_TRY(md_buffer_alloc(t->be, all[i]));
        if (t->o.ema > 0) {
            MD_TRY(md_buffer_alloc(t->be, &st->ema));
            MD_TRY(copy_weights_to_ema(t, st));
        }
    }
    return MD_OK;
}

/* bf16 where the weights' copy is: half the bytes, and nothing is added up in it here. Several
   micro-batches, and sums over workers on the host, want f32. */
static md_dtype gradient_type(const train *t, nn_params *params)
{
    bool sums = t->o.accumulate > 1 || (n_workers(t) > 1 && !t->o.device);
    return nn_params_copy(params) && !sums ? MD_BF16 : MD_F32;
}

static void init_store(train *t, store *st, nn_params *params)
{
    static const md_dtype types[] = {MD_F32, MD_BF16, MD_U8};
    md_dtype states = types[t->o.states];
    st->params = params;
    st->n = nn_params_buffer(params)->numel;
    int64_t blocks = states == MD_U8 ? (st->n + MD_STATE_BLOCK - 1) / MD_STATE_BLOCK : 0;
    md_buffer_init(&st->grad, "gradients", gradient_type(t, params), st->n);
    md_buffer_init(&st->m, "AdamW m", states, st->n);
    md_buffer_init(&st->v, "AdamW v", states, st->n);
    md_buffer_init(&st->m_scale, "AdamW m scales", MD_F32, blocks);
    md_buffer_init(&st->v_scale, "AdamW v scales", MD_F32, blocks);
    md_buffer_init(&st->ema, "averaged weights", MD_F32, st->n);
}

static md_status setup(train *t, nn_params *const *stores)
{
    t->reduce = (train_reduce){.be = t->be,
                               .workers = t->o.workers,
                               .host = t->o.reducer,
                               .device = t->o.device,
                               .bucket = t->o.bucket,
                               .tail = &t->tail};
    int64_t share = t->o.accumulate * n_workers(t);
    t->micro = (t->o.batch + share - 1) / share;
    for (int s = 0; s < t->n_stores; s++) {
        init_store(t, &t->stores[s], stores[s]);
        t->reduce.gradients[t->reduce.n_gradients++] = &t->stores[s].grad;
    }
    md_buffer_init(&t->tail, "loss and flags", MD_F32, TAIL_COUNT);
    MD_TRY(build_update(t));
    return fit_loss(t);
}

md_status train_new(md_backend *be, nn_params *const *stores, int n_stores, const train_task *task,
                    const train_options *o, train **out)
{
    if (n_stores < 1 || n_stores > TRAIN_MAX_STORES || o->batch < 1 || o->accumulate < 1)
        MD_FAIL(MD_INTERNAL, "training: %d stores, batch %lld, accumulate %lld", n_stores,
                (long long)o->batch, (long long)o->accumulate);
    train *t = calloc(1, sizeof *t);
    if (!t)
        MD_FAIL(MD_NOMEM, "training: out of memory");
    t->be = be;
    t->task = *task;
    t->o = *o;
    t->n_stores = n_stores;
    md_status status = setup(t, stores);
    if (status != MD_OK) {
        train_free(t);
        return md_frame(status, __FILE__, __LINE__);
    }
    *out = t;
    return MD_OK;
}

md_status train_load(train *t)
{
    MD_TRY(alloc_state(t));
    if (t->task.load)
        MD_TRY(t->task.load(t->task.user, t->be));
    MD_TRY(md_plan_load(t->loss_plan));
    if (t->o.device && t->o.accumulate == 1)
        MD_TRY(train_reduce_overlap(&t->reduce, t->loss_plan));
    return md_plan_load(t->update_plan);
}

void train_free(train *t)
{
    if (!t)
        return;
    md_plan_free(t->update_plan);
    md_graph_free(t->update_graph);
    drop_loss(t);
    for (int s = 0; s < t->n_stores; s++) {
        md_buffer_release(t->be, &t->stores[s].grad);
        md_buffer_release(t->be, &t->stores[s].m);
        md_buffer_release(t->be, &t->stores[s].v);
        md_buffer_release(t->be, &t->stores[s].m_scale);
        md_buffer_release(t->be, &t->stores[s].v_scale);
        md_buffer_release(t->be, &t->stores[s].ema);
    }
    md_buffer_release(t->be, &t->tail);
    train_reduce_close(&t->reduce);
    if (t->task.release)
        t->task.release(t->task.user);
    free(t);
}

/* Position in the global batch of this worker's micro-batch `part`. */
static int64_t first_of(const train *t, int64_t part)
{
    return (part * n_workers(t) + worker(t)) * t->micro;
}

/* What fill will want after micro-batch `part`, while the device is busy with it. */
static void look_ahead(train *t, int64_t part)
{
    bool last = part + 1 == t->o.accumulate;
    if (t->task.ahead && t->be->ops->queues && !(last && t->step + 1 == t->o.steps))
        t->task.ahead(t->task.user, t->step + last, first_of(t, last ? 0 : part + 1), t->micro);
}

/* This worker's share of the global batch, one micro-batch after the other. */
static md_status run_batch(train *t)
{
    if (t->o.accumulate > 1)
        for (int s = 0; s < t->n_stores; s++)
            MD_TRY(t->be->ops->zero(t->be, t->stores[s].grad.ptr, bytes(t, &t->stores[s].grad)));
    for (int64_t part = 0; part < t->o.accumulate; part++) {
        MD_TRY(t->task.fill(t->task.user, t->loss_plan, t->step, first_of(t, part), t->micro));
        MD_TRY(md_plan_run(t->loss_plan));
        if (part + 1 < t->o.accumulate)
            look_ahead(t, part);
    }
    return MD_OK;
}

static md_status update(train *t, double lr)
{
    double k = (double)(t->step + 1);
    float hyper[MD_HYPER_COUNT] = {0};
    hyper[MD_HYPER_LR] = (float)lr;
    hyper[MD_HYPER_BC1] = (float)(1 / (1 - pow(t->o.beta1, k)));
    hyper[MD_HYPER_BC2] = (float)(1 / (1 - pow(t->o.beta2, k)));
    hyper[MD_HYPER_CLIP] = (float)t->o.clip;
    hyper[MD_HYPER_SCALE] = 1;
    hyper[MD_HYPER_STEP] = (float)(t->step % (1 << 24));
    /* the average warms up as in diffusers' EMAModel: (1 + k) / (10 + k) at most */
    float decay = (float)fmin(t->o.ema, (1 + k) / (10 + k));
    MD_TRY(md_plan_write(t->update_plan, t->hyper, hyper, MD_F32, MD_HYPER_COUNT));
    if (t->o.ema > 0)
        MD_TRY(md_plan_write(t->update_plan, t->decay, &decay, MD_F32, 1));
    return md_plan_run(t->update_plan);
}

/* What the step was; here, and nowhere else, the host waits for a device. */
static md_status read_stats(train *t, train_stats *out)
{
    float tail[TAIL_COUNT] = {0}, gnorm2 = 0;
    MD_TRY(md_plan_read(t->update_plan, t->gnorm2, &gnorm2, MD_F32, 1));
    MD_TRY(md_buffer_read(t->be, &t->tail, 0, tail, MD_F32, TAIL_COUNT));
    out->loss = (double)tail[TAIL_LOSS];
    out->stop = tail[TAIL_STOP] > 0;
    out->save = tail[TAIL_SAVE] > 0;
    t->longest_s = fmax(t->longest_s, (double)tail[TAIL_SECONDS] / n_workers(t));
    out->grad_norm = sqrt((double)gnorm2);
    out->skipped = !isfinite(gnorm2);
    t->skips = out->skipped ? t->skips + 1 : 0;
    if (out->skipped)
        md_warn("train", "step %lld skipped: loss %g, gradient norm %g%s", (long long)t->step,
                out->loss, out->grad_norm, tail[TAIL_FAILED] > 0 ? ", a worker failed" : "");
    return MD_OK;
}

static md_status one_step(train *t, unsigned wishes, train_stats *out)
{
    *out = (train_stats){.step = t->step};
    out->lr = train_lr_at(t->o.lr_rule, t->o.lr, t->o.lr_floor, t->o.lr_cycles, t->o.warmup,
                          t->o.steps, t->step);
    float flags[TAIL_COUNT] =
        {[TAIL_STOP] = (wishes & TRAIN_STOP) != 0, [TAIL_SAVE] = (wishes & TRAIN_SAVE) != 0},
          failed = INFINITY;
    MD_TRY(md_buffer_write(t->be, &t->tail, 0, flags, MD_F32, TAIL_COUNT));
    md_status local = run_batch(t);
    if (local != MD_OK) {
        md_error("train", "step %lld: %s", (long long)t->step, md_status_text());
        if (n_workers(t) == 1 || t->o.device)
            return local;
        MD_TRY(md_buffer_write(t->be, &t->tail, TAIL_FAILED, &failed, MD_F32, 1));
    }
    MD_TRY(train_reduce_now(&t->reduce));
    MD_TRY(update(t, out->lr));
    look_ahead(t, t->o.accumulate - 1);
    MD_TRY(train_reduce_wait(&t->reduce, t->step, t->reduce.patience_s));
    MD_TRY(read_stats(t, out));
    if (t->skips >= TRAIN_MAX_SKIPS)
        MD_FAIL(MD_NONFINITE, "%d training steps in a row were not finite, the last is %lld",
                t->skips, (long long)t->step);
    t->step++;
    return MD_OK;
}

double train_patience(double longest_s, double least_s)
{
    static const double TIMES = 20;
    double most = comm_timeout();
    return longest_s > 0 ? fmin(most, fmax(least_s, TIMES * longest_s)) : most;
}

/* After a failure the others may never enter the sums that were launched here, and freeing the
   plans would wait for them. */
md_status train_step(train *t, unsigned wishes, train_stats *out)
{
    static const double LEAST_S = 60, SHARE = 0.25;
    double began = md_now();
    /* the others leave the step before together with this worker */
    t->reduce.patience_s = train_patience(t->longest_s, fmin(LEAST_S, SHARE * comm_timeout()));
    md_status status = one_step(t, wishes, out);
    t->own_s = ++t->timed_steps > UNTIMED_STEPS ? md_now() - began : 0;
    if (status != MD_OK && t->o.device)
        comm_device_abort(t->o.device);
    return status;
}

int64_t train_next_step(const train *t)
{
    return t->step;
}

void train_set_next_step(train *t, int64_t step)
{
    t->step = step;
}

md_plan *train_plan(train *t)
{
    return t->loss_plan;
}

md_plan *train_update_plan(train *t)
{
    return t->update_plan;
}

train_bytes train_memory(const train *t)
{
    train_bytes b = {.gradients = bytes(t, &t->tail)};
    for (int s = 0; s < t->n_stores; s++) {
        const store *st = &t->stores[s];
        b.weights += nn_params_bytes(st->params, t->be);
        b.gradients += bytes(t, &st->grad);
        b.optimizer += bytes(t, &st->m) + bytes(t, &st->v) + bytes(t, &st->m_scale) +
                       bytes(t, &st->v_scale) + (t->o.ema > 0 ? bytes(t, &st->ema) : 0);
    }
    md_plan_bytes loss = md_plan_memory(t->loss_plan), update = md_plan_memory(t->update_plan);
    b.workspace = loss.workspace + update.workspace;
    b.activations = loss.total + update.total - b.workspace;
    b.data = t->task.bytes ? t->task.bytes(t->task.user, t->be) : 0;
    b.total = b.weights + b.gradients + b.optimizer + b.activations + b.data + b.workspace;
    return b;
}

int train_blocks(const train *t)
{
    return md_graph_n_blocks(t->loss_graph);
}

int train_recomputed(const train *t)
{
    return t->recomputed;
}

int train_n_stores(const train *t)
{
    return t->n_stores;
}

const char *train_store_name(const train *t, int s)
{
    return nn_params_model(t->stores[s].params);
}

int train_parts(train *t, int s, train_part out[TRAIN_MAX_PARTS])
{
    store *st = &t->stores[s];
    const train_part all[] = {
        {"weights", nn_params_buffer(st->params)},
        {"m", &st->m},
        {"v", &st->v},
        {"m_scale", &st->m_scale},
        {"v_scale", &st->v_scale},
        {"ema", &st->ema},
    };
    int n = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].buffer->numel && (all[i].buffer != &st->ema || t->o.ema > 0))
            out[n++] = all[i];
    return n;
}

md_status train_restored(train *t)
{
    for (int s = 0; s < t->n_stores; s++)
        MD_TRY(nn_params_refresh(t->stores[s].params, t->be));
    return MD_OK;
}

md_backend *train_backend(train *t)
{
    return t->be;
}

md_status train_swap_ema(train *t)
{
    for (int s = 0; s < t->n_stores && t->o.ema > 0; s++) {
        store *st = &t->stores[s];
        md_buffer *w = nn_params_buffer(st->params);
        void *weights = w->ptr; /* both are alike, and each is gigabytes: only their names change */
        w->ptr = st->ema.ptr;
        st->ema.ptr = weights;
        MD_TRY(nn_params_refresh(st->params, t->be));
    }
    return MD_OK;
}
