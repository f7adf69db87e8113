/* What each sample of a step is, and what it weighs: pure functions of the seed, on the host. */
#include "base/rng.h"
#include "train/denoise.h"
#include <math.h>

int64_t denoise_positions(const denoise *d)
{
    return d->source->n_prior > 0 ? 2 * d->batch : d->batch;
}

/* Element `at` of epoch `epoch`'s order: a fresh permutation of the n images each time, walked by
   Fisher-Yates up to `at`. n is tens (fine-tune) or thousands (pretraining, where `at` is drawn
   directly instead). */
static int64_t ordered_image(uint64_t seed, int64_t n, int64_t index, uint32_t stream)
{
    int64_t epoch = index / n, at = index % n;
    md_rng r = md_rng_at(seed, MD_RNG_TRAIN_ORDER, (uint64_t)epoch, stream);
    enum { SMALL = 512 };
    if (n > SMALL) {
        r = md_rng_at(seed, MD_RNG_TRAIN_ORDER, (uint64_t)index, stream + 1);
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

double denoise_area(const denoise *d, int64_t image, int64_t variant)
{
    const denoise_source *s = d->source;
    int64_t px = s->edge * s->edge, row = image * s->variants + variant;
    if (!s->mask || image >= s->n)
        return (double)px;
    if (d->area)
        return d->area[row];
    double sum = 0;
    for (const float *m = s->mask + row * px; m < s->mask + (row + 1) * px; m++)
        sum += (double)*m * (double)*m;
    return sum;
}

/* Class samples have draws of their own: with them or without, the lesion samples are the same. */
denoise_draw denoise_draw_at(const denoise *d, int64_t step, int64_t position)
{
    const denoise_source *s = d->source;
    bool prior = s->n_prior > 0 && position >= d->batch && position < 2 * d->batch;
    int64_t index = step * d->batch + position - (prior ? d->batch : 0);
    denoise_draw w = {.prior = prior, .index = (uint64_t)index, .stream = prior ? 16 : 0};
    w.image = prior ? s->n + ordered_image(d->seed, s->n_prior, index, w.stream)
                    : ordered_image(d->seed, s->n, index, w.stream);
    md_rng r = md_rng_at(d->seed, MD_RNG_TRAIN_AUGMENT, w.index, w.stream);
    w.variant = md_rng_below(&r, s->variants);
    w.drop_caption = md_rng_uniform(&r) < d->drop_caption;
    r = md_rng_at(d->seed, MD_RNG_TRAIN_TIMESTEP, w.index, w.stream);
    w.t = (int)md_rng_below(&r, d->train_steps);
    w.empty = denoise_area(d, w.image, w.variant) <= 0;
    return w;
}

int64_t denoise_count_empty(const denoise *d, int64_t step)
{
    int64_t n = 0;
    for (int64_t i = 0; i < d->batch && d->source->mask; i++)
        n += denoise_draw_at(d, step, i).empty;
    return n;
}

/* The squared error of `target` as a multiple of that of v; a2 = a^2 = alphas_cumprod[t]. */
static double error_scale(schedule_prediction target, double a2)
{
    return target == SCHEDULE_EPSILON ? a2 : target == SCHEDULE_X0 ? 1 - a2 : 1;
}

double denoise_time_weight(const denoise *d, int t)
{
    static const schedule_prediction targets[] = {
        [DENOISE_EPSILON] = SCHEDULE_EPSILON, [DENOISE_X0] = SCHEDULE_X0, [DENOISE_V] = SCHEDULE_V};
    double a2 = d->alphas_cumprod[t], snr = a2 / (1 - a2), weight = 1;
    schedule_prediction target = d->target == DENOISE_AUTO ? d->prediction : targets[d->target];
    if (d->weight == DENOISE_SNR)
        weight = snr;
    if (d->weight == DENOISE_MIN_SNR) {
        weight = fmin(snr, d->gamma);
        target = SCHEDULE_X0;
    }
    return weight * error_scale(target, a2) / error_scale(d->prediction, a2);
}
