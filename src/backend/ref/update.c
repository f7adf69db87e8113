/* write accumulate adamw ema: in place, out[0] is in[0]. */
#include "backend/ref/ref_impl.h"
#include "ops/ops.h"
#include <math.h>
#include <string.h>

REF_RUN(write)
{
    (void)scratch;
    (void)out;
    const md_tensor *t = k->node->in[0];
    memcpy(in[0], in[1], (size_t)md_numel(t) * (t->dtype == MD_I32 ? 4 : 8));
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

REF_RUN(adamw)
{
    (void)scratch;
    (void)out;
    double *p = in[0], *m = in[2], *v = in[3];
    const double *g = in[1], *hyper = in[5];
    double gnorm2 = *(const double *)in[4], scale = hyper[MD_HYPER_SCALE];
    double clip = hyper[MD_HYPER_CLIP], lr = hyper[MD_HYPER_LR];
    double b1 = k->node->attr.adamw.beta1, b2 = k->node->attr.adamw.beta2;
    if (!isfinite(gnorm2))
        return MD_OK;
    if (clip != 0)
        scale *= fmin(1, clip / (scale * sqrt(gnorm2) + 1e-6));
    for (int64_t i = 0; i < md_numel(k->node->in[0]); i++) {
        double gi = scale * g[i];
        m[i] = b1 * m[i] + (1 - b1) * gi;
        v[i] = b2 * v[i] + (1 - b2) * gi * gi;
        p[i] -= lr * k->node->attr.adamw.weight_decay * p[i];
        p[i] -= lr * (m[i] * hyper[MD_HYPER_BC1]) /
                (sqrt(v[i] * hyper[MD_HYPER_BC2]) + k->node->attr.adamw.eps);
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
