/* The parts that bench times. Each open function sets up what finetune or generate would, on drawn
   numbers; each lap is one forward pass, one training step or one sampling step. */
#include "base/rng.h"
#include "base/str.h"
#include "bench.h"
#include "generate/painter.h"
#include "generate/pairs.h"
#include "session.h"
#include "train/finetune.h"

#include <stdlib.h>
#include <string.h>

enum { SEED = 20, PICTURES = 4 };

static md_status need_weights(bench *b, model_part part)
{
    if (b->loaded[part])
        return MD_OK;
    b->loaded[part] = true;
    return foundation_randomize(b->f, part, b->be, SEED);
}

static size_t weight_bytes(const bench *b, model_part part)
{
    return nn_params_bytes(b->f->params[part], b->be);
}

static md_status draw(int64_t n, float **out)
{
    md_rng r = md_rng_at(SEED, MD_RNG_TEST, (uint64_t)n, 0);
    *out = malloc((size_t)n * sizeof **out);
    if (!*out)
        MD_FAIL(MD_NOMEM, "bench: out of memory");
    md_rng_normal_fill(&r, *out, n);
    return MD_OK;
}

static md_status draw_pixels(int64_t n, uint8_t **out)
{
    md_rng r = md_rng_at(SEED, MD_RNG_TEST, (uint64_t)n, 1);
    *out = malloc((size_t)n);
    if (!*out)
        MD_FAIL(MD_NOMEM, "bench: out of memory");
    for (int64_t i = 0; i < n; i++)
        (*out)[i] = (uint8_t)md_rng_u32(&r);
    return MD_OK;
}

/* ---- unet, text: a graph whose inputs stay */

typedef struct net {
    md_graph *g;
    md_plan *plan;
} net;

static md_status run_net(bench_part *p, bench_meter *m)
{
    net *n = p->state;
    bench_meter_start(m);
    for (bool more = true; more;) {
        MD_TRY(md_plan_run(n->plan));
        MD_TRY(bench_meter_lap(m, &more));
    }
    return MD_OK;
}

static void close_net(bench_part *p)
{
    net *n = p->state;
    md_plan_free(n->plan);
    md_graph_free(n->g);
    free(n);
}

static md_status new_net(bench_part *p, net **out)
{
    net *n = calloc(1, sizeof *n);
    if (!n)
        MD_FAIL(MD_NOMEM, "bench: out of memory");
    p->state = n;
    p->run = run_net;
    p->close = close_net;
    *out = n;
    return md_graph_new(&n->g);
}

/* part: whose weights it reads; MODEL_N_PARTS: none. */
static md_status plan_net(bench_part *p, md_tensor *y, model_part part)
{
    net *n = p->state;
    MD_TRY(md_plan_build(n->g, p->b->be, &y, 1, &n->plan));
    MD_TRY(md_plan_load(n->plan));
    p->plan[0] = n->plan;
    p->flops = (double)md_plan_flops(n->plan);
    p->bytes =
        (part < MODEL_N_PARTS ? weight_bytes(p->b, part) : 0) + md_plan_memory(n->plan).total;
    return MD_OK;
}

static md_status write_normal(net *n, const md_tensor *t)
{
    float *host = NULL;
    MD_TRY(draw(md_numel(t), &host));
    md_status status = md_plan_write(n->plan, t, host, MD_F32, md_numel(t));
    free(host);
    return status;
}

static md_status open_unet(bench *b, bench_part *p)
{
    net *n = NULL;
    const unet_config *u = b->f->unet;
    int64_t e = b->size / vae_shrink(b->f->vae), t = format_tokenizer_length(b->f->tokenizer);
    MD_TRY(need_weights(b, MODEL_UNET));
    MD_TRY(new_net(p, &n));
    md_tensor *x = md_input(n->g, "x", MD_F32, 4, MD_DIMS(p->batch, e, e, u->in_channels));
    md_tensor *time = md_input(n->g, "t", MD_F32, 1, MD_DIMS(p->batch));
    md_tensor *context =
        md_input(n->g, "context", MD_F32, 3, MD_DIMS(p->batch, t, u->cross_attention_dim));
    md_tensor *y = unet(nn_root(n->g, b->f->params[MODEL_UNET], b->dtype), u, md_cast(x, b->dtype),
                        time, md_cast(context, b->dtype));
    MD_TRY(plan_net(p, md_cast(y, MD_F32), MODEL_UNET));
    MD_TRY(write_normal(n, x));
    MD_TRY(write_normal(n, context));
    MD_TRY(write_normal(n, time));
    return md_str_printf(p->shapes, BENCH_SHAPES, "latent %s, context %s", md_shape_text(x),
                         md_shape_text(context));
}

static md_status open_text(bench *b, bench_part *p)
{
    net *n = NULL;
    int64_t t = format_tokenizer_length(b->f->tokenizer);
    MD_TRY(need_weights(b, MODEL_TEXT_ENCODER));
    MD_TRY(new_net(p, &n));
    md_tensor *ids = md_input(n->g, "ids", MD_I32, 2, MD_DIMS(p->batch, t));
    md_tensor *y =
        clip_text(nn_root(n->g, b->f->params[MODEL_TEXT_ENCODER], b->dtype), b->f->text, ids);
    MD_TRY(plan_net(p, md_cast(y, MD_F32), MODEL_TEXT_ENCODER));
    int32_t *host = malloc((size_t)(p->batch * t) * sizeof *host);
    if (!host)
        MD_FAIL(MD_NOMEM, "bench: out of memory");
    md_rng r = md_rng_at(SEED, MD_RNG_TEST, 0, 2);
    for (int64_t i = 0; i < p->batch * t; i++)
        host[i] = (int32_t)md_rng_below(&r, b->f->text->vocab_size);
    md_status status = md_plan_write(n->plan, ids, host, MD_I32, p->batch * t);
    free(host);
    MD_TRY(status);
    return md_str_printf(p->shapes, BENCH_SHAPES, "ids %s", md_shape_text(ids));
}

/* The largest rate of products that this backend reaches: one square product. */
static md_status open_peak(bench *b, bench_part *p)
{
    net *n = NULL;
    int64_t edge = b->be->ops->queues ? 8192 : 1024;
    MD_TRY(new_net(p, &n));
    p->batch = 1;
    md_tensor *x = md_input(n->g, "x", b->dtype, 2, MD_DIMS(edge, edge));
    md_tensor *w = md_input(n->g, "w", b->dtype, 2, MD_DIMS(edge, edge));
    md_tensor *y = md_matmul(x, w, false, true);
    MD_TRY(plan_net(p, y, MODEL_N_PARTS));
    MD_TRY(write_normal(n, x));
    MD_TRY(write_normal(n, w));
    return md_str_printf(p->shapes, BENCH_SHAPES, "%s times as large", md_shape_text(x));
}

/* ---- encode, decode: with the copies to the device and back */

typedef struct coding {
    codec *k;
    uint8_t *rgb;
    float *latent; /* moments, or what is decoded */
    bool decodes;
} coding;

static md_status run_coding(bench_part *p, bench_meter *m)
{
    coding *c = p->state;
    bench_meter_start(m);
    for (bool more = true; more;) {
        MD_TRY(c->decodes ? codec_decode(c->k, c->latent, p->batch, c->rgb)
                          : codec_encode(c->k, c->rgb, p->batch, c->latent));
        MD_TRY(bench_meter_lap(m, &more));
    }
    return MD_OK;
}

static void close_coding(bench_part *p)
{
    coding *c = p->state;
    codec_free(c->k);
    free(c->rgb);
    free(c->latent);
    free(c);
}

static md_status open_coding(bench *b, bench_part *p, bool decodes)
{
    coding *c = calloc(1, sizeof *c);
    if (!c)
        MD_FAIL(MD_NOMEM, "bench: out of memory");
    c->decodes = decodes;
    p->state = c;
    p->run = run_coding;
    p->close = close_coding;
    MD_TRY(need_weights(b, MODEL_VAE));
    int n = (int)p->batch;
    MD_TRY(codec_new(b->be, b->f->vae, b->f->params[MODEL_VAE], b->dtype, (int)b->size,
                     decodes ? 0 : n, decodes ? n : 0, &c->k));
    MD_TRY(codec_load(c->k));
    int64_t e = codec_edge(c->k), channels = b->f->vae->latent_channels;
    MD_TRY(draw_pixels(p->batch * b->size * b->size * 3, &c->rgb));
    MD_TRY(draw(p->batch * e * e * 2 * channels, &c->latent));
    p->plan[0] = decodes ? codec_decode_plan(c->k) : codec_encode_plan(c->k);
    p->flops = (double)md_plan_flops(p->plan[0]);
    p->bytes = weight_bytes(b, MODEL_VAE) + md_plan_memory(p->plan[0]).total;
    return md_str_printf(p->shapes, BENCH_SHAPES,
                         "pictures [%lld,%lld,%lld,3], latents [%lld,%lld,%lld,%lld]",
                         (long long)p->batch, (long long)b->size, (long long)b->size,
                         (long long)p->batch, (long long)e, (long long)e, (long long)channels);
}

static md_status open_encode(bench *b, bench_part *p)
{
    return open_coding(b, p, false);
}

static md_status open_decode(bench *b, bench_part *p)
{
    return open_coding(b, p, true);
}

/* ---- train: one step of the fine-tune, drawing included */

typedef struct training {
    train *t;
    denoise d;
    denoise_source source;
    float *moments, *mask, *masked, *context;
    int32_t *ids;
    double *alphas;
} training;

static md_status run_training(bench_part *p, bench_meter *m)
{
    training *g = p->state;
    train_stats stats;
    bench_meter_start(m);
    for (bool more = true; more;) {
        MD_TRY(train_step(g->t, false, &stats));
        if (stats.skipped)
            MD_FAIL(MD_NONFINITE, "step %lld was not finite and skipped its update",
                    (long long)stats.step);
        MD_TRY(bench_meter_lap(m, &more));
    }
    return MD_OK;
}

static void close_training(bench_part *p)
{
    training *g = p->state;
    train_free(g->t);
    foundation_remove_lora(p->b->f, p->b->be);
    free(g->moments);
    free(g->mask);
    free(g->masked);
    free(g->context);
    free(g->ids);
    free(g->alphas);
    free(g);
}

/* PICTURES latents, each with a lesion of a quarter of the edge. */
static md_status draw_source(bench *b, training *g)
{
    MD_TRY(finetune_source_shape(b->cfg, b->f, b->size, &g->source));
    denoise_source *s = &g->source;
    s->n = PICTURES;
    s->n_prior = 0;
    int64_t e = s->edge, n = s->n * s->variants * e * e;
    MD_TRY(draw(n * 2 * s->channels, &g->moments));
    MD_TRY(draw(n * 2 * s->channels, &g->masked));
    MD_TRY(draw(DENOISE_N_TEXTS * s->tokens * s->width, &g->context));
    g->mask = calloc((size_t)n, sizeof *g->mask);
    g->ids = calloc((size_t)((s->n + 1) * s->tokens), sizeof *g->ids);
    g->alphas = malloc((size_t)b->f->schedule.train_steps * sizeof *g->alphas);
    if (!g->mask || !g->ids || !g->alphas)
        MD_FAIL(MD_NOMEM, "bench: out of memory");
    for (int64_t i = 0; i < n; i++) {
        int64_t x = i % e, y = i / e % e;
        g->mask[i] = 8 * x >= 3 * e && 8 * x < 5 * e && 8 * y >= 3 * e && 8 * y < 5 * e;
    }
    s->moments = g->moments;
    s->masked = g->masked;
    s->mask = g->mask;
    s->context = g->context;
    s->ids = g->ids;
    s->empty_ids = g->ids + s->n * s->tokens;
    return schedule_alphas_cumprod(&b->f->schedule, g->alphas);
}

static md_status open_train(bench *b, bench_part *p)
{
    training *g = calloc(1, sizeof *g);
    if (!g)
        MD_FAIL(MD_NOMEM, "bench: out of memory");
    p->state = g;
    p->run = run_training;
    p->close = close_training;
    nn_params *stores[MODEL_N_PARTS];
    MD_TRY(finetune_adapt(b->cfg, b->f));
    MD_TRY(foundation_draw_lora(b->f, b->be, SEED));
    int n = finetune_stores(b->cfg, b->f, stores);
    MD_TRY(need_weights(b, MODEL_UNET));
    if (n > 1)
        MD_TRY(need_weights(b, MODEL_TEXT_ENCODER));
    MD_TRY(draw_source(b, g));
    g->d = finetune_task(b->cfg, b->f, &g->source, g->alphas);
    train_options o = finetune_options(b->cfg, (size_t)config_int(b->cfg, KEY_memory_budget) << 20);
    g->d.batch = o.batch = p->batch;
    train_task task = denoise_task(&g->d);
    MD_TRY(train_new(b->be, stores, n, &task, &o, &g->t));
    MD_TRY(train_load(g->t));
    p->plan[0] = train_plan(g->t);
    p->plan[1] = train_update_plan(g->t);
    p->flops = (double)md_plan_flops(p->plan[0]) * (double)o.accumulate;
    p->bytes = train_memory(g->t).total;
    if (stores[0] != b->f->params[MODEL_UNET]) /* adapters: the frozen weights count too */
        p->bytes += weight_bytes(b, MODEL_UNET) + (n > 1 ? weight_bytes(b, MODEL_TEXT_ENCODER) : 0);
    return md_str_printf(p->shapes, BENCH_SHAPES,
                         "latent [%lld,%lld,%lld,%d], context [%lld,%lld,%lld], %d of %d blocks "
                         "recomputed",
                         (long long)p->batch, (long long)g->source.edge, (long long)g->source.edge,
                         b->f->unet->in_channels, (long long)p->batch, (long long)g->source.tokens,
                         (long long)g->source.width, train_recomputed(g->t), train_blocks(g->t));
}

/* ---- paint: one guided sampling step of the painter */

typedef struct painting {
    painter *k;
    image guide;
    uint8_t *background, *rgb;
    float *moments;
    painter_item *items;
    bool *finite;
    bench_meter *meter;
} painting;

/* Ends the painting before it decodes: that is a row of its own. */
static md_status beat(void *user)
{
    painting *g = user;
    bool more;
    MD_TRY(bench_meter_lap(g->meter, &more));
    return more ? MD_OK : MD_STOPPED;
}

static md_status run_painting(bench_part *p, bench_meter *m)
{
    painting *g = p->state;
    g->meter = m;
    bench_meter_start(m);
    md_status status = painter_paint(g->k, g->items, (int)p->batch, beat, g, g->rgb, g->finite);
    return status == MD_STOPPED ? MD_OK : status;
}

static void close_painting(bench_part *p)
{
    painting *g = p->state;
    painter_free(g->k);
    image_free(&g->guide);
    free(g->background);
    free(g->rgb);
    free(g->moments);
    free(g->items);
    free(g->finite);
    free(g);
}

/* One background and one guide, a square in its middle, for all pictures. */
static md_status draw_items(const bench *b, bench_part *p, painting *g)
{
    int64_t size = b->size, pixels = size * size;
    MD_TRY(image_new(&g->guide, size, size, 1));
    for (int64_t i = 0; i < pixels; i++) {
        int64_t x = i % size, y = i / size;
        g->guide.px[i] =
            8 * x >= 3 * size && 8 * x < 5 * size && 8 * y >= 3 * size && 8 * y < 5 * size;
    }
    MD_TRY(draw_pixels(3 * pixels, &g->background));
    MD_TRY(draw(painter_moments(g->k), &g->moments));
    g->rgb = malloc((size_t)(p->batch * 3 * pixels));
    g->items = calloc((size_t)p->batch, sizeof *g->items);
    g->finite = calloc((size_t)p->batch, sizeof *g->finite);
    if (!g->rgb || !g->items || !g->finite)
        MD_FAIL(MD_NOMEM, "bench: out of memory");
    for (int64_t i = 0; i < p->batch; i++)
        g->items[i] = (painter_item){i, 0, &g->guide, g->background, g->moments};
    return MD_OK;
}

static md_status open_paint(bench *b, bench_part *p)
{
    painter_options o;
    painting *g = calloc(1, sizeof *g);
    if (!g)
        MD_FAIL(MD_NOMEM, "bench: out of memory");
    p->state = g;
    p->run = run_painting;
    p->close = close_painting;
    for (int part = 0; part < MODEL_N_PARTS; part++)
        MD_TRY(need_weights(b, (model_part)part));
    MD_TRY(pairs_painter_options(b->cfg, b->size, &o));
    int64_t steps = config_int(b->cfg, KEY_bench_warmup) + config_int(b->cfg, KEY_bench_repeats);
    o.steps = (int)(steps < b->f->schedule.train_steps ? steps : b->f->schedule.train_steps);
    o.batch = (int)p->batch;
    MD_TRY(painter_new(b->f, b->be, &o, &g->k));
    MD_TRY(painter_load(g->k));
    MD_TRY(draw_items(b, p, g));
    int copies = guidance_for(o.guidance)->copies;
    p->plan[0] = painter_step_plan(g->k);
    p->flops = (double)md_plan_flops(p->plan[0]);
    p->bytes = painter_bytes(g->k);
    int64_t e = codec_edge(painter_codec(g->k));
    return md_str_printf(p->shapes, BENCH_SHAPES, "latent [%lld,%lld,%lld,%d] x %d, %s, %s",
                         (long long)p->batch, (long long)e, (long long)e, b->f->unet->in_channels,
                         copies, painter_sampler(g->k)->name,
                         config_string(b->cfg, KEY_guide_blend));
}

const bench_row bench_rows[BENCH_ROWS] = {
    {"peak", false, open_peak},   {"unet", false, open_unet},     {"train", true, open_train},
    {"paint", false, open_paint}, {"encode", false, open_encode}, {"decode", false, open_decode},
    {"text", false, open_text}};
