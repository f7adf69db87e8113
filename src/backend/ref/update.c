/* write accumulate adamw ema: in place, out[0] is in[0]. */
#include "backend/ref/ref_impl.h"
#include "ops/ops.h"
#include "ops/state.h"
#include <math.h>
#include <string.h>

REF_RUN(write)
{
    (void)scratch;
    (void)out;
    const md_tensor *t = k->node->in[0];
    memcpy(in[0], in[1], (size_t)md_numel(t) * k->backend->ops->elem_bytes(t->dtype));
    return MD_OK;
}
REF_KERNEL(write)

REF_RUN(accumulate)
{
    (void)scratch;
    (void)out;
    double *dst = in[0];
    const double *src = in[1];
    for (int64_t i = 0; i < md_numel(k->node->in[0]); i++)
        dst[i] += src[i];
    return MD_OK;
}
REF_KERNEL(accumulate)

static double bf16_value(uint16_t bits)
{
    uint32_t u = (uint32_t)bits << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return (double)f;
}

/* To nearest, ties to even, in steps of bf16's 8 significant bits. */
static double bf16_nearest(double x)
{
    int e;
    double m = frexp(x, &e);
    return ldexp(nearbyint(ldexp(m, 8)), e - 8);
}

static double state_read(const void *state, md_dtype dtype, const double *scale, bool is_v,
                         int64_t i)
{
    if (dtype != MD_U8)
        return ((const double *)state)[i];
    uint8_t code = ((const uint8_t *)state)[i];
    float s = (float)scale[i / MD_STATE_BLOCK];
    return (double)(is_v ? md_state_v(code, s) : md_state_m(code, s));
}

/* x[0..n): the new values of elements from..from+n of one block. */
static void state_write(void *state, md_dtype dtype, double *scale, bool is_v, int64_t from,
                        int64_t n, const double *x, uint32_t step)
{
    double max = 0;
    for (int64_t i = 0; i < n; i++)
        max = fmax(max, fabs(x[i]));
    if (dtype == MD_U8)
        scale[from / MD_STATE_BLOCK] = (double)(float)max;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = from + i;
        float xi = (float)x[i];
        if (dtype == MD_U8)
            ((uint8_t *)state)[at] =
                is_v ? md_state_v_code(xi, (float)max) : md_state_m_code(xi, (float)max);
        else if (dtype == MD_BF16)
            ((double *)state)[at] =
                bf16_value(md_state_round(xi, md_state_bits(2 * (uint64_t)at + is_v, step)));
        else
            ((double *)state)[at] = x[i];
    }
}

REF_RUN(adamw) /* in: p, g, m, v, gnorm2, hyper, shadow, m_scale, v_scale */
{
    (void)scratch;
    (void)out;
    double *p = in[0], *shadow = in[6];
    const double *g = in[1], *hyper = in[5];
    double gnorm2 = *(const double *)in[4], scale = hyper[MD_HYPER_SCALE];
    double clip = hyper[MD_HYPER_CLIP], lr = hyper[MD_HYPER_LR];
    double b1 = k->node->attr.adamw.beta1, b2 = k->node->attr.adamw.beta2;
    double m[MD_STATE_BLOCK], v[MD_STATE_BLOCK];
    md_dtype states = k->node->in[2]->dtype;
    uint32_t step = (uint32_t)hyper[MD_HYPER_STEP];
    int64_t size = md_numel(k->node->in[0]);
    if (!isfinite(gnorm2))
        return MD_OK;
    if (clip != 0)
        scale *= fmin(1, clip / (scale * sqrt(gnorm2) + 1e-6));
    for (int64_t from = 0; from < size; from += MD_STATE_BLOCK) {
        int64_t n = size - from < MD_STATE_BLOCK ? size - from : MD_STATE_BLOCK;
        for (int64_t i = 0; i < n; i++) {
            int64_t at = from + i;
            double gi = scale * g[at];
            m[i] = b1 * state_read(in[2], states, in[7], false, at) + (1 - b1) * gi;
            v[i] = b2 * state_read(in[3], states, in[8], true, at) + (1 - b2) * gi * gi;
            p[at] -= lr * k->node->attr.adamw.weight_decay * p[at];
            p[at] -= lr * (m[i] * hyper[MD_HYPER_BC1]) /
                     (sqrt(v[i] * hyper[MD_HYPER_BC2]) + k->node->attr.adamw.eps);
            if (shadow)
                shadow[at] = bf16_nearest(p[at]);
        }
        state_write(in[2], states, in[7], false, from, n, m, step);
        state_write(in[3], states, in[8], true, from, n, v, step);
    }
    return MD_OK;
}
REF_KERNEL(adamw)

REF_RUN(ema)
{
    (void)scratch;
    (void)out;
    double *e = in[0], decay = *(const double *)in[2];
    const double *p = in[1];
    for (int64_t i = 0; i < md_numel(k->node->in[0]) && isfinite(decay); i++)
        e[i] = decay * e[i] + (1 - decay) * p[i];
    return MD_OK;
}
REF_KERNEL(ema)
