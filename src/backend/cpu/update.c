/* Ops that change persistent tensors in place; all flat. */
#include "backend/cpu/internal.h"
#include "ops/ops.h"

static md_status write_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)out;
    (void)scratch;
    memcpy(in[0], in[1], (size_t)md_numel(k->node->in[0]) * sizeof(float));
    return MD_OK;
}

md_status cpu_write(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = write_run;
    return MD_OK;
}

static md_status accumulate_run(const md_kernel *k, void *const *in, void *const *out,
                                void *scratch)
{
    (void)out;
    (void)scratch;
    int64_t n = md_numel(k->node->in[0]);
    float *dst = in[0];
    const float *src = in[1];
#pragma omp parallel for simd num_threads(cpu__threads_for(k, n))
    for (int64_t i = 0; i < n; i++)
        dst[i] += src[i];
    return MD_OK;
}

md_status cpu_accumulate(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = accumulate_run;
    return MD_OK;
}

static md_status adamw_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)out;
    (void)scratch;
    int64_t n = md_numel(k->node->in[0]);
    float *p = in[0], *m = in[2], *v = in[3];
    const float *g = in[1], *hyper = in[5];
    float gnorm2 = *(const float *)in[4];
    if (!isfinite(gnorm2)) /* this step is skipped; the caller sees the norm and says so */
        return MD_OK;
    const double b1d = k->node->attr.adamw.beta1, b2d = k->node->attr.adamw.beta2;
    const float b1 = (float)b1d, b2 = (float)b2d, a1 = (float)(1 - b1d), a2 = (float)(1 - b2d);
    const float eps = (float)k->node->attr.adamw.eps, lr = hyper[MD_HYPER_LR];
    const float bc1 = hyper[MD_HYPER_BC1], bc2 = hyper[MD_HYPER_BC2];
    double scale = (double)hyper[MD_HYPER_SCALE], clip = (double)hyper[MD_HYPER_CLIP];
    if (clip > 0)
        scale *= fmin(1.0, clip / (scale * sqrt((double)gnorm2) + 1e-6));
    const float s = (float)scale, decay = (float)((double)lr * k->node->attr.adamw.weight_decay);
#pragma omp parallel for simd num_threads(cpu__threads_for(k, n))
    for (int64_t i = 0; i < n; i++) {
        float gi = s * g[i];
        float mi = b1 * m[i] + a1 * gi, sq = b2 * v[i] + a2 * gi * gi, pi = p[i];
        pi -= decay * pi;
        pi -= lr * (mi * bc1) / (sqrtf(sq * bc2) + eps);
        m[i] = mi;
        v[i] = sq;
        p[i] = pi;
    }
    return MD_OK;
}

md_status cpu_adamw(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = adamw_run;
    return MD_OK;
}

static md_status ema_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)out;
    (void)scratch;
    int64_t n = md_numel(k->node->in[0]);
    float *e = in[0];
    const float *p = in[1], d = *(const float *)in[2];
    const float rest = (float)(1.0 - (double)d);
    if (!isfinite(d))
        return MD_OK;
#pragma omp parallel for simd num_threads(cpu__threads_for(k, n))
    for (int64_t i = 0; i < n; i++)
        e[i] = d * e[i] + rest * p[i];
    return MD_OK;
}

md_status cpu_ema(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = ema_run;
    return MD_OK;
}
