/* plan: bytes, work and expected time of every stage, before anything is taken. Ends with 1 where a
   stage does not fit into memory.budget (or the machine), saying what would help. */
#include "plan.h"
#include "base/clock.h"
#include "generate/painter.h"
#include "generate/pairs.h"
#include "nn/lora.h"
#include "ops/ops.h"
#include "prior.h"
#include "session.h"
#include "train/finetune.h"

#include <math.h>
#include <stdio.h>

enum { EDGE = 32, LEAST = 32, MOST = 256 }; /* of the convolution timed: pixels; channels */
static const double MEASURE_SECONDS = 0.25;

static double mib(size_t bytes)
{
    return (double)bytes / 1048576;
}

/* A convolution and a linear layer of the size that the UNet's larger ones have. */
static md_tensor *products(md_graph *g, md_dtype dtype, int64_t c)
{
    md_tensor *x = md_input(g, "x", dtype, 4, MD_DIMS(1, EDGE, EDGE, c));
    md_tensor *w = md_input(g, "w", dtype, 4, MD_DIMS(c, 3, 3, c));
    md_tensor *v = md_input(g, "v", dtype, 2, MD_DIMS(4 * c, c));
    return md_linear(md_conv2d(x, w, NULL, 1, 1, 1, 1, 1), v, NULL);
}

/* What stands between them, on more than a cache holds. */
static md_tensor *sums(md_graph *g, md_dtype dtype)
{
    md_tensor *x = md_input(g, "x", dtype, 1, MD_DIMS(1 << 22));
    return md_silu(md_add(x, x));
}

/* Runs of the plan per second; the first one warms up. */
static md_status time_plan(md_plan *plan, double *rate)
{
    MD_TRY(md_plan_load(plan));
    MD_TRY(md_plan_run(plan));
    double begin = md_now(), seconds = 0;
    int runs = 0;
    for (; seconds < MEASURE_SECONDS; runs++, seconds = md_now() - begin)
        MD_TRY(md_plan_run(plan));
    *rate = runs / seconds;
    return MD_OK;
}

/* FLOP per second of products (channels > 0), or bytes per second of everything else. */
static md_status measure(md_backend *be, md_dtype dtype, int64_t channels, double *rate)
{
    md_graph *g = NULL;
    md_plan *plan = NULL;
    MD_TRY(md_graph_new(&g));
    md_tensor *y = channels ? products(g, dtype, channels) : sums(g, dtype);
    md_status status = md_plan_build(g, be, &y, 1, &plan);
    if (status == MD_OK)
        status = time_plan(plan, rate);
    if (status == MD_OK)
        *rate *= (double)(channels ? md_plan_flops(plan) : md_plan_traffic(plan));
    md_plan_free(plan);
    md_graph_free(g);
    return status;
}

/* One line of the table: what is on the device during a stage, and how often it runs. */
typedef struct row {
    const char *name;
    size_t weights, gradients, optimizer, activations, workspace;
    int64_t flops, traffic; /* of one run; see md_plan_traffic */
    double runs;
} row;

/* "3 h 05 min", "12 min", "8 s" */
static void duration(char out[32], double s)
{
    if (s >= 3600)
        (void)snprintf(out, 32, "%.0f h %02.0f min", floor(s / 3600), floor(fmod(s, 3600) / 60));
    else if (s >= 60)
        (void)snprintf(out, 32, "%.0f min", s / 60);
    else
        (void)snprintf(out, 32, "%.0f s", s);
}

static void print_row(plan_job *p, const row *r)
{
    char text[32];
    double seconds = r->runs * ((double)r->flops / p->rate + (double)r->traffic / p->bandwidth);
    p->seconds += seconds;
    duration(text, seconds);
    size_t total = r->weights + r->gradients + r->optimizer + r->activations + r->workspace;
    (void)printf("%-16s %9.1f %9.1f %9.1f %11.1f %9.1f %9.1f %11.2f %8.0f  %s\n", r->name,
                 mib(r->weights), mib(r->gradients), mib(r->optimizer), mib(r->activations),
                 mib(r->workspace), mib(total), (double)r->flops / 1e9, r->runs, text);
}

void plan_print_run(plan_job *p, const char *name, const md_plan *plan, double runs)
{
    md_plan_bytes b = md_plan_memory(plan);
    row r = {.name = name,
             .weights = p->weights,
             .activations = b.total - b.workspace,
             .workspace = b.workspace,
             .flops = md_plan_flops(plan),
             .traffic = md_plan_traffic(plan),
             .runs = runs};
    print_row(p, &r);
}

void plan_print_stage(plan_job *p, const char *name, size_t most)
{
    char text[32];
    duration(text, p->seconds);
    (void)printf("%s: at most %.1f MiB of %.1f, about %s on one worker\n", name, mib(most),
                 mib(p->budget), text);
    p->seconds = 0;
}

/* Of all parts as they are held in the stage to come, and of their adapters. */
static void add_weights(plan_job *p)
{
    p->weights = 0;
    for (int i = 0; i < MODEL_N_PARTS; i++) {
        const nn_params *adapters = nn_lora_adapters(p->f->params[i]);
        p->weights += nn_params_bytes(p->f->params[i], p->be);
        p->weights += adapters ? nn_params_bytes(adapters, p->be) : 0;
    }
}

static void print_adapters(const plan_job *p)
{
    for (int i = 0; i < MODEL_N_PARTS; i++) {
        const nn_params *a = nn_lora_adapters(p->f->params[i]);
        if (a)
            (void)printf("%s: %.3f M parameters in %d adapters are trained, and nothing else\n",
                         nn_params_model(p->f->params[i]), (double)nn_params_numel(a) / 1e6,
                         nn_params_count(a) / 2);
    }
}

/* What the foundation draws before it is trained; *most: bytes, raised where it takes more. */
static md_status plan_class(plan_job *p, size_t *most)
{
    painter_options o;
    painter *k = NULL;
    if (!finetune_prior_drawn(p->cfg))
        return MD_OK;
    MD_TRY(job_prior_options(p->cfg, p->f, &o));
    MD_TRY(painter_new(p->f, p->be, &o, &k));
    double pictures = (double)config_int(p->cfg, KEY_finetune_prior_images);
    plan_print_run(p, "finetune class", painter_step_plan(k), ceil(pictures / o.batch) * o.steps);
    *most = painter_bytes(k) > *most ? painter_bytes(k) : *most;
    md_status status = painter_fits(k, p->budget);
    painter_free(k);
    return status;
}

/* The pictures through the VAE, each and its mirror image; returns the most bytes. */
static md_status plan_encoding(plan_job *p, int64_t class, size_t *most)
{
    codec *k = NULL;
    bool nine = p->f->unet->in_channels > p->f->vae->latent_channels;
    MD_TRY(codec_new(p->be, p->f->vae, p->f->params[MODEL_VAE], p->dtype, (int)p->size,
                     LESIONS_VARIANTS, 0, &k));
    const md_plan *plan = codec_encode_plan(k);
    plan_print_run(p, "finetune encode", plan,
                   (double)(config_int(p->cfg, KEY_data_pairs) + class) * (nine ? 2 : 1));
    *most = p->weights + md_plan_memory(plan).total;
    codec_free(k);
    return MD_OK;
}

void plan_print_training(plan_job *p, const char *name, train *t, double runs)
{
    train_bytes b = train_memory(t);
    row r = {.name = name,
             .weights = p->weights,
             .gradients = b.gradients,
             .optimizer = b.optimizer,
             .activations = b.activations + b.data,
             .workspace = b.workspace,
             .flops = md_plan_flops(train_plan(t)),
             .traffic = md_plan_traffic(train_plan(t)),
             .runs = runs};
    print_row(p, &r);
}

static md_status plan_finetune(plan_job *p)
{
    nn_params *stores[MODEL_N_PARTS];
    size_t budget, most = 0;
    train *t = NULL;
    denoise_source source;
    MD_TRY(finetune_source_shape(p->cfg, p->f, p->size, &source));
    denoise d = finetune_task(p->cfg, p->f, &source, NULL);
    train_task task = denoise_task(&d);
    finetune_hold(p->cfg, p->f);
    MD_TRY(finetune_adapt(p->cfg, p->f));
    add_weights(p);
    MD_TRY(plan_encoding(p, source.n_prior, &most));
    MD_TRY(plan_class(p, &most));
    MD_TRY(session_training_budget(p->cfg, p->f, p->be, 1, &budget));
    train_options o = finetune_options(p->cfg, budget);
    MD_TRY(train_new(p->be, stores, finetune_stores(p->cfg, p->f, stores), &task, &o, &t));
    plan_print_training(p, "finetune step", t,
                        (double)config_int(p->cfg, KEY_finetune_steps) *
                            (double)config_int(p->cfg, KEY_finetune_accumulate));
    size_t training = train_memory(t).total + p->budget - budget;
    plan_print_stage(p, "finetune", training > most ? training : most);
    print_adapters(p);
    (void)printf("%d of %d blocks are recomputed in the backward pass\n\n", train_recomputed(t),
                 train_blocks(t));
    train_free(t);
    foundation_remove_lora(p->f, NULL);
    return MD_OK;
}

static md_status plan_generate(plan_job *p)
{
    foundation_hold(p->f, p->dtype, 0);
    add_weights(p);
    MD_TRY(plan_backgrounds(p));
    painter_options o;
    painter *k = NULL;
    double pairs = (double)config_int(p->cfg, KEY_generate_pairs);
    MD_TRY(pairs_painter_options(p->cfg, p->size, &o));
    MD_TRY(painter_new(p->f, p->be, &o, &k));
    double batches = ceil(pairs / o.batch);
    const md_plan *step = painter_step_plan(k);
    plan_print_run(p, "generate encode", codec_encode_plan(painter_codec(k)),
                   fmin(pairs, (double)config_int(p->cfg, KEY_data_pairs)));
    plan_print_run(p, "generate step", step, batches * painter_evaluations(k));
    plan_print_run(p, "generate decode", codec_decode_plan(painter_codec(k)), batches);
    size_t encoder = 0;
    md_status status = plan_assess(p, &encoder);
    plan_print_stage(p, "generate", painter_bytes(k) + encoder);
    (void)printf("UNet: %.4g GFLOP for one picture and prompt of %lld pixels\n",
                 (double)md_plan_flops(step) / 1e9 / (guidance_for(o.guidance)->copies * o.batch),
                 (long long)p->size);
    (void)printf("sampler: %s, %d evaluations for %d steps\n", painter_sampler(k)->name,
                 painter_evaluations(k), o.steps);
    if (status == MD_OK)
        status = painter_fits(k, p->budget > encoder ? p->budget - encoder : 1);
    painter_free(k);
    return status;
}

static md_status plan_all(plan_job *p)
{
    MD_TRY(session_budget(p->cfg, p->be, 1, &p->budget));
    int64_t c = p->f->unet->block_out_channels[1 % p->f->unet->n_blocks];
    MD_TRY(measure(p->be, p->dtype, c < LEAST ? LEAST : c > MOST ? MOST : c, &p->rate));
    MD_TRY(measure(p->be, p->dtype, 0, &p->bandwidth));
    for (int i = 0; i < MODEL_N_PARTS; i++) {
        const nn_params *params = p->f->params[i];
        (void)printf("%s: %.2f M parameters\n", nn_params_model(params),
                     (double)nn_params_numel(params) / 1e6);
    }
    (void)printf("this machine: %.1f GFLOP/s and %.1f GB/s in %s on %d threads, measured\n\n",
                 p->rate / 1e9, p->bandwidth / 1e9, md_dtype_name(p->dtype), p->be->threads);
    (void)printf("%-16s %9s %9s %9s %11s %9s %9s %11s %8s  %s\n", "MiB", "weights", "gradients",
                 "optimizer", "activations", "workspace", "total", "GFLOP a run", "runs", "time");
    MD_TRY(plan_finetune(p));
    MD_TRY(plan_masks(p));
    return plan_generate(p);
}

/* Local. */
md_status job_plan(job *j)
{
    plan_job p = {.cfg = j->cfg,
                  .dtype = config_choice(j->cfg, KEY_model_dtype) == 1 ? MD_BF16 : MD_F32,
                  .size = config_int(j->cfg, KEY_data_size)};
    MD_TRY(finetune_check(j->cfg));
    md_status status = foundation_open_configs(config_string(j->cfg, KEY_model_foundation), &p.f);
    if (status != MD_OK)
        return md_context(status, "model.foundation");
    backend_options o = session_backend_options(j->cfg, 1, 0);
    status = backend_open(&o, &p.be);
    if (status == MD_OK)
        status = plan_all(&p);
    foundation_free(p.f, NULL);
    if (p.be)
        p.be->ops->close(p.be);
    return status;
}
