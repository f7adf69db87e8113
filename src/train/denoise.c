#include "train/denoise.h"
#include "base/rng.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static md_tensor *build(void *user, md_graph *g, int64_t n)
{
    denoise *d = user;
    const denoise_source *s = d->source;
    int64_t e = s->edge, c = s->channels;
    d->noisy = md_input(g, "noisy", MD_F32, 4, MD_DIMS(n, e, e, d->unet->in_channels));
    d->t = md_input(g, "t", MD_F32, 1, MD_DIMS(n));
    d->noise = md_input(g, "noise", MD_F32, 4, MD_DIMS(n, e, e, c));
    d->map = md_input(g, "map", MD_F32, 4, MD_DIMS(n, e, e, 1));
    d->coef = md_input(g, "coef", MD_F32, 4, MD_DIMS(n, 1, 1, 1));
    d->ids = d->context = NULL;
    md_tensor *context;
    if (d->text) {
        d->ids = md_input(g, "ids", MD_I32, 2, MD_DIMS(n, s->tokens));
        context = clip_text(nn_root(g, d->text_params, d->dtype), d->text, d->ids); /* [n,T,D] */
    } else {
        d->context = md_input(g, "context", MD_F32, 3, MD_DIMS(n, s->tokens, s->width));
        context = md_cast(d->context, d->dtype);
    }
    nn m = nn_root(g, d->unet_params, d->dtype);
    md_tensor *pred = unet(m, d->unet, md_cast(d->noisy, d->dtype), d->t, context);
    md_tensor *diff = md_sub(md_cast(pred, MD_F32), d->noise);
    md_tensor *weighted = md_mul(md_mul(diff, diff), d->map);
    return md_sum(md_mul(md_sum_to(weighted, 4, MD_DIMS(n, 1, 1, 1)), d->coef));
}

/* Element `at` of epoch `epoch`'s order: a fresh permutation of the images each time, walked by
   Fisher-Yates up to `at`. n is tens (fine-tune) or thousands (pretraining, where `at` is drawn
   directly instead). */
static int64_t ordered_image(const denoise *d, int64_t index)
{
    int64_t n = d->source->n, epoch = index / n, at = index % n;
    md_rng r = md_rng_at(d->seed, MD_RNG_TRAIN_ORDER, (uint64_t)epoch, 0);
    enum { SMALL = 512 };
    if (n > SMALL) {
        r = md_rng_at(d->seed, MD_RNG_TRAIN_ORDER, (uint64_t)index, 1);
        return md_rng_below(&r, n);
    }
    int16_t order[SMALL];
    for (int64_t i = 0; i < n; i++)
        order[i] = (int16_t)i;
    for (int64_t i = 0; i <= at; i++) {
        int64_t k = i + md_rng_below(&r, n - i);
        int16_t swap = order[i];
        order[i] = order[k];
        order[k] = swap;
    }
    return order[at];
}

static int64_t latent_pixels(const denoise_source *s)
{
    return s->edge * s->edge;
}

static const float *mask_of(const denoise_source *s, denoise_draw w)
{
    return s->mask ? s->mask + (w.image * s->variants + w.variant) * latent_pixels(s) : NULL;
}

/* sum M^2 */
static double area(const denoise_source *s, const float *mask)
{
    double sum = 0;
    for (int64_t i = 0; mask && i < latent_pixels(s); i++)
        sum += (double)mask[i] * (double)mask[i];
    return mask ? sum : (double)latent_pixels(s);
}

denoise_draw denoise_draw_at(const denoise *d, int64_t step, int64_t position)
{
    int64_t index = step * d->batch + position;
    denoise_draw w = {.image = ordered_image(d, index)};
    md_rng r = md_rng_at(d->seed, MD_RNG_TRAIN_AUGMENT, (uint64_t)index, 0);
    w.variant = md_rng_below(&r, d->source->variants);
    w.drop_caption = md_rng_uniform(&r) < d->drop_caption;
    r = md_rng_at(d->seed, MD_RNG_TRAIN_TIMESTEP, (uint64_t)index, 0);
    w.t = (int)md_rng_below(&r, d->train_steps);
    w.empty = area(d->source, mask_of(d->source, w)) <= 0;
    return w;
}

int64_t denoise_count_empty(const denoise *d, int64_t step)
{
    int64_t n = 0;
    for (int64_t i = 0; i < d->batch && d->source->mask; i++)
        n += denoise_draw_at(d, step, i).empty;
    return n;
}

double denoise_time_weight(const denoise *d, int t)
{
    double snr = d->alphas_cumprod[t] / (1 - d->alphas_cumprod[t]);
    double w = d->weight == DENOISE_SNR       ? snr
               : d->weight == DENOISE_MIN_SNR ? fmin(snr, d->gamma)
                                              : 1;
    /* min-SNR is min(SNR, gamma) for x0 and the same divided by SNR for epsilon; either way the
       x0 loss is 1/SNR times the epsilon loss */
    if (d->target == DENOISE_X0)
        return w / snr;
    return d->weight == DENOISE_MIN_SNR ? w / snr : w;
}

/* The inputs of n samples, on the host. */
typedef struct denoise_staging {
    int64_t step, first, n; /* what it holds; n 0: nothing yet */
    float *noisy, *t, *noise, *map, *coef, *context;
    int32_t *ids;
} staging;

/* z = s (mean + std e), from one image's moments */
static void posterior(const denoise_source *s, const float *moments, md_rng *r, float *z)
{
    int64_t c = s->channels, n = latent_pixels(s) * c;
    md_rng_normal_fill(r, z, n);
    for (int64_t i = 0; i < n; i++) {
        const float *mom = moments + i / c * 2 * c + i % c;
        double std = exp(0.5 * fmin(fmax((double)mom[c], -30), 20));
        z[i] = (float)(s->scaling * ((double)mom[0] + std * (double)z[i]));
    }
}

/* Channels 4.. of a 9-channel input: the mask and the latent of the image without its lesion. */
static void stage_inpainting(const denoise *d, denoise_draw w, int64_t index, float *noisy)
{
    const denoise_source *s = d->source;
    int64_t px = latent_pixels(s), c = s->channels, in = d->unet->in_channels;
    int64_t at = w.image * s->variants + w.variant;
    const float *mask = mask_of(s, w);
    md_rng r = md_rng_at(d->seed, MD_RNG_POSTERIOR, (uint64_t)index, 1);
    for (int64_t p = 0; p < px; p++) {
        const float *mom = s->masked + (at * px + p) * 2 * c;
        noisy[p * in + c] = mask ? mask[p] : 1;
        for (int64_t k = 0; k < c; k++) {
            double std = exp(0.5 * fmin(fmax((double)mom[c + k], -30), 20));
            noisy[p * in + c + 1 + k] =
                (float)(s->scaling * ((double)mom[k] + std * md_rng_normal(&r)));
        }
    }
}

/* Fills row i of the staging arrays with the sample at `position` of `step`. */
static void stage(const denoise *d, int64_t step, int64_t position, double share, staging *g,
                  int64_t i)
{
    const denoise_source *s = d->source;
    denoise_draw w = denoise_draw_at(d, step, position);
    int64_t index = step * d->batch + position;
    int64_t px = latent_pixels(s), c = s->channels, in = d->unet->in_channels;
    int64_t at = w.image * s->variants + w.variant;
    float *noise = g->noise + i * px * c, *noisy = g->noisy + i * px * in, *map = g->map + i * px;
    const float *mask = mask_of(s, w);

    md_rng r = md_rng_at(d->seed, MD_RNG_POSTERIOR, (uint64_t)index, 0);
    posterior(s, s->moments + at * px * 2 * c, &r, noisy); /* the clean latent, spread out below */
    r = md_rng_at(d->seed, MD_RNG_TRAIN_NOISE, (uint64_t)index, 0);
    md_rng_normal_fill(&r, noise, px * c);
    double a = sqrt(d->alphas_cumprod[w.t]), b = sqrt(1 - d->alphas_cumprod[w.t]);
    for (int64_t k = px * c - 1; k >= 0; k--)
        noisy[k / c * in + k % c] = (float)(a * (double)noisy[k] + b * (double)noise[k]);
    if (in > c)
        stage_inpainting(d, w, index, noisy);

    for (int64_t p = 0; p < px; p++)
        map[p] = mask ? mask[p] * mask[p] + (float)d->outside * (1 - mask[p]) : 1;
    double by = d->area_norm ? fmax(area(s, mask), d->min_area) : (double)px;
    bool counts = position < d->batch && (!w.empty || d->outside > 0);
    g->coef[i] = (float)(counts ? share * denoise_time_weight(d, w.t) / ((double)c * by) : 0.0);
    g->t[i] = (float)w.t;
    if (d->text)
        memcpy(g->ids + i * s->tokens, w.drop_caption ? s->empty_ids : s->ids + w.image * s->tokens,
               (size_t)s->tokens * sizeof *g->ids);
    else
        memcpy(g->context + i * s->tokens * s->width, s->context,
               (size_t)(s->tokens * s->width) * sizeof *g->context);
}

static md_status write_inputs(const denoise *d, md_plan *plan, const staging *g, int64_t n)
{
    const denoise_source *s = d->source;
    int64_t px = latent_pixels(s);
    MD_TRY(md_plan_write(plan, d->noisy, g->noisy, MD_F32, n * px * d->unet->in_channels));
    MD_TRY(md_plan_write(plan, d->t, g->t, MD_F32, n));
    MD_TRY(md_plan_write(plan, d->noise, g->noise, MD_F32, n * px * s->channels));
    MD_TRY(md_plan_write(plan, d->map, g->map, MD_F32, n * px));
    MD_TRY(md_plan_write(plan, d->coef, g->coef, MD_F32, n));
    if (d->text)
        return md_plan_write(plan, d->ids, g->ids, MD_I32, n * s->tokens);
    return md_plan_write(plan, d->context, g->context, MD_F32, n * s->tokens * s->width);
}

static void release(void *user)
{
    denoise *d = user;
    staging *g = d->staged;
    d->staged = NULL;
    if (!g)
        return;
    free(g->noisy);
    free(g->t);
    free(g->noise);
    free(g->map);
    free(g->coef);
    free(g->ids);
    free(g->context);
    free(g);
}

/* Made for the first fill, for all that follow: they have one size. */
static md_status make_staging(denoise *d, int64_t n)
{
    const denoise_source *s = d->source;
    int64_t px = latent_pixels(s);
    staging *g = d->staged = calloc(1, sizeof *g);
    if (!g)
        MD_FAIL(MD_NOMEM, "training: out of memory");
    g->noisy = malloc((size_t)(n * px * d->unet->in_channels) * sizeof(float));
    g->t = malloc((size_t)n * sizeof(float));
    g->noise = malloc((size_t)(n * px * s->channels) * sizeof(float));
    g->map = malloc((size_t)(n * px) * sizeof(float));
    g->coef = malloc((size_t)n * sizeof(float));
    g->ids = malloc((size_t)(n * s->tokens) * sizeof(int32_t));
    g->context = malloc((size_t)(n * s->tokens * (d->text ? 1 : s->width)) * sizeof(float));
    if (g->noisy && g->t && g->noise && g->map && g->coef && g->ids && g->context)
        return MD_OK;
    release(d);
    MD_FAIL(MD_NOMEM, "training: out of memory");
}

static void ahead(void *user, int64_t step, int64_t first, int64_t n)
{
    denoise *d = user;
    staging *g = d->staged;
    if (!g || (g->n == n && g->step == step && g->first == first))
        return;
    int64_t n_valid = d->batch - (d->outside > 0 ? 0 : denoise_count_empty(d, step));
    for (int64_t i = 0; i < n; i++)
        stage(d, step, first + i, n_valid > 0 ? 1.0 / (double)n_valid : 0, g, i);
    g->step = step;
    g->first = first;
    g->n = n;
}

static md_status fill(void *user, md_plan *plan, int64_t step, int64_t first, int64_t n)
{
    denoise *d = user;
    if (!d->staged)
        MD_TRY(make_staging(d, n));
    ahead(d, step, first, n);
    return write_inputs(d, plan, d->staged, n);
}

train_task denoise_task(denoise *d)
{
    return (train_task){d, build, fill, ahead, release};
}
