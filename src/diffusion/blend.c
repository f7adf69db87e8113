/* The blends of guided sampling as rows of a table, and the guided step around a sampler. */
#include "diffusion/blend.h"
#include "ops/ops.h"
#include <math.h>
#include <string.h>

static void fill_mean(const sampler_place *at, double *coef)
{
    double alpha = at->a_t / at->a_s, beta = 1 - alpha;
    coef[BLEND_ON] = 1;
    coef[BLEND_CLEAN] = sqrt(at->a_s) * beta / (1 - at->a_t);
    coef[BLEND_X] = sqrt(alpha) * (1 - at->a_s) / (1 - at->a_t);
}

static void fill_paper(const sampler_place *at, double *coef)
{
    fill_mean(at, coef);
    coef[BLEND_NOISE] = sqrt((1 - at->a_t / at->a_s) * (1 - at->a_s) / (1 - at->a_t));
}

static void fill_renoise(const sampler_place *at, double *coef)
{
    coef[BLEND_ON] = 1;
    coef[BLEND_CLEAN] = sqrt(at->a_next);
    coef[BLEND_MAP] = sqrt(1 - at->a_next);
}

static void fill_x0(const sampler_place *at, double *coef)
{
    (void)at;
    coef[BLEND_ESTIMATE] = 1;
}

static void fill_nothing(const sampler_place *at, double *coef)
{
    (void)at;
    (void)coef;
}

static const diffusion_blend table[] = {
    {.name = "paper", .active = true, .uses_noise = true, .fill = fill_paper},
    {.name = "paper-mean", .active = true, .fill = fill_mean},
    {.name = "renoise", .active = true, .uses_map = true, .fill = fill_renoise},
    {.name = "x0", .active = true, .estimate = true, .fill = fill_x0},
    {.name = "none", .fill = fill_nothing},
};

const diffusion_blend *blend_row(int i)
{
    return i >= 0 && i < (int)(sizeof table / sizeof *table) ? &table[i] : NULL;
}

const diffusion_blend *blend_find(const char *name)
{
    for (int i = 0; blend_row(i); i++)
        if (strcmp(table[i].name, name) == 0)
            return &table[i];
    return NULL;
}

void blend_coefficients(const diffusion_blend *b, const sampler_place *at, double *coef)
{
    memset(coef, 0, BLEND_N_COEF * sizeof *coef);
    if (at->index < at->count - 1) {
        b->fill(at, coef);
    } else if (b->active) { /* the last step blends the clean background */
        coef[BLEND_ON] = 1;
        coef[BLEND_CLEAN] = 1;
    }
}

bool blend_wants_noise(const diffusion_blend *b, const diffusion_sampler *s, double eta)
{
    return b->uses_noise || sampler_wants_noise(s, eta);
}

/* M a + (1 - M) b, written so that M = 0 and M = 1 give b and a to the bit. mask [N,h,w,1]. */
static md_tensor *mix(md_tensor *mask, md_tensor *a, md_tensor *b)
{
    return md_add(md_mul(a, mask), md_mul(b, md_affine(mask, -1, 1)));
}

/* The mask where the switch coef[i] is 1, and 1 everywhere where it is 0: 1 + on (M - 1). */
static md_tensor *switched(md_tensor *mask, md_tensor *coef, int i)
{
    return md_affine(sampler_scaled(md_affine(mask, 1, -1), coef, i), 1, 1); /* [N,h,w,1] */
}

md_tensor *blend_step(const diffusion_blend *b, const diffusion_sampler *s, const blend_inputs *in,
                      double clip, md_tensor **past)
{
    sampler_estimate est = sampler_predict(s, in->x, in->pred, in->coef, clip);
    if (b->estimate) {
        md_tensor *m = switched(in->mask, in->blend_coef, BLEND_ESTIMATE);
        est.x0 = mix(m, est.x0, in->clean); /* [N,h,w,C] */
        est.e = sampler_noise_of(in->x, est.x0, in->coef);
    }
    md_tensor *noise = sampler_wants_noise(s, in->eta) ? in->noise : NULL;
    md_tensor *y = sampler_step(s, in->x, est, noise, in->past, in->coef); /* [N,h,w,C] */
    *past = sampler_remember(s, est, in->past, in->coef);
    if (!b->active)
        return y;
    md_tensor *f = sampler_scaled(in->clean, in->blend_coef, BLEND_CLEAN);
    if (!b->estimate)
        f = md_add(f, sampler_scaled(in->x, in->blend_coef, BLEND_X));
    if (b->uses_noise)
        f = md_add(f, sampler_scaled(in->noise, in->blend_coef, BLEND_NOISE));
    if (b->uses_map)
        f = md_add(f, sampler_scaled(in->map, in->blend_coef, BLEND_MAP));
    return mix(switched(in->mask, in->blend_coef, BLEND_ON), y, f);
}

void blend_mask_at(blend_motion motion, const float *guide, const float *feather, int64_t n,
                   double level, float *out)
{
    for (int64_t i = 0; i < n; i++) {
        double f = (double)feather[i];
        if (motion == BLEND_STATIC)
            out[i] = guide[i] * feather[i];
        else if (motion == BLEND_EDGE_FIRST ? f <= 1 - level : f >= level)
            out[i] = guide[i];
        else
            out[i] = 0;
    }
}

double blend_level(const sampler_place *at, int train_steps, double settled)
{
    if (at->index >= at->count - 1 || settled >= 1)
        return 0;
    return fmax(0, (at[1].t / train_steps - settled) / (1 - settled));
}
