/* Ops that change persistent tensors in place; all flat. */
#include "backend/cpu/internal.h"
#include "base/bf16.h"
#include "ops/ops.h"
#include "ops/state.h"

static md_status write_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)out;
    (void)scratch;
    const md_tensor *t = k->node->in[0];
    memcpy(in[0], in[1], (size_t)md_numel(t) * k->backend->ops->elem_bytes(t->dtype));
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

typedef struct adamw {
    float scale, b1, b2, a1, a2, lr, decay, bc1, bc2, eps;
    uint32_t step;
} adamw;

/* False: the norm is not finite, the step is skipped; the caller sees the norm and says so. */
static bool adamw_read(adamw *a, const md_attr *attr, const float *gnorm2, const float *hyper)
{
    const double b1 = attr->adamw.beta1, b2 = attr->adamw.beta2;
    double scale = (double)hyper[MD_HYPER_SCALE], clip = (double)hyper[MD_HYPER_CLIP];
    if (!isfinite(*gnorm2))
        return false;
    if (clip > 0)
        scale *= fmin(1.0, clip / (scale * sqrt((double)*gnorm2) + 1e-6));
    *a = (adamw){.scale = (float)scale,
                 .b1 = (float)b1,
                 .b2 = (float)b2,
                 .a1 = (float)(1 - b1),
                 .a2 = (float)(1 - b2),
                 .lr = hyper[MD_HYPER_LR],
                 .decay = (float)((double)hyper[MD_HYPER_LR] * attr->adamw.weight_decay),
                 .bc1 = hyper[MD_HYPER_BC1],
                 .bc2 = hyper[MD_HYPER_BC2],
                 .eps = (float)attr->adamw.eps,
                 .step = (uint32_t)hyper[MD_HYPER_STEP]};
    return true;
}

static inline void adamw_update(const adamw *a, float *p, const float *g, float *m, float *v,
                                int64_t n)
{
    const adamw c = *a;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float gi = c.scale * g[i];
        float mi = c.b1 * m[i] + c.a1 * gi, sq = c.b2 * v[i] + c.a2 * gi * gi, pi = p[i];
        pi -= c.decay * pi;
        pi -= c.lr * (mi * c.bc1) / (sqrtf(sq * c.bc2) + c.eps);
        m[i] = mi;
        v[i] = sq;
        p[i] = pi;
    }
}

static inline void widen(float *dst, const uint16_t *src, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        dst[i] = md_bf16_to_f32(src[i]);
}

/* The m or v of one block as floats: in place, or in `room` from its form in memory. */
static float *state_open(void *state, md_dtype dtype, const float *scale, bool is_v, int64_t from,
                         int64_t n, float *room)
{
    if (dtype == MD_F32)
        return (float *)state + from;
    if (dtype == MD_BF16) {
        widen(room, (const uint16_t *)state + from, n);
        return room;
    }
    const uint8_t *code = (const uint8_t *)state + from;
    const float s = scale[from / MD_STATE_BLOCK];
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        room[i] = is_v ? md_state_v(code[i], s) : md_state_m(code[i], s);
    return room;
}

/* Back into its form; x is what state_open gave. */
static void state_close(void *state, md_dtype dtype, float *scale, bool is_v, int64_t from,
                        int64_t n, const float *x, uint32_t step)
{
    if (dtype == MD_F32)
        return;
    if (dtype == MD_BF16) {
        uint16_t *to = (uint16_t *)state + from;
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            to[i] = md_state_round(x[i], md_state_bits(2 * (uint64_t)(from + i) + is_v, step));
        return;
    }
    uint8_t *code = (uint8_t *)state + from;
    float max = 0;
#pragma omp simd reduction(max : max)
    for (int64_t i = 0; i < n; i++)
        max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
    scale[from / MD_STATE_BLOCK] = max;
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        code[i] = is_v ? md_state_v_code(x[i], max) : md_state_m_code(x[i], max);
}

/* Whole blocks of MD_STATE_BLOCK, whatever the number of threads. */
static md_status adamw_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)out;
    (void)scratch;
    adamw a;
    float *p = in[0];
    uint16_t *shadow = in[6];
    const bool g_bf16 = k->node->in[1]->dtype == MD_BF16;
    const md_dtype states = k->node->in[2]->dtype;
    const int64_t size = md_numel(k->node->in[0]);
    if (!adamw_read(&a, &k->node->attr, in[4], in[5]))
        return MD_OK;
#pragma omp parallel for num_threads(cpu__threads_for(k, size)) schedule(static)
    for (int64_t from = 0; from < size; from += MD_STATE_BLOCK) {
        const int64_t n = cpu__min(size - from, MD_STATE_BLOCK), n_shadow = shadow ? n : 0;
        float g_room[MD_STATE_BLOCK], m_room[MD_STATE_BLOCK], v_room[MD_STATE_BLOCK];
        const float *g = (const float *)in[1] + from;
        if (g_bf16) {
            widen(g_room, (const uint16_t *)in[1] + from, n);
            g = g_room;
        }
        float *m = state_open(in[2], states, in[7], false, from, n, m_room);
        float *v = state_open(in[3], states, in[8], true, from, n, v_room);
        adamw_update(&a, p + from, g, m, v, n);
        state_close(in[2], states, in[7], false, from, n, m, a.step);
        state_close(in[3], states, in[8], true, from, n, v, a.step);
#pragma omp simd
        for (int64_t i = 0; i < n_shadow; i++)
            shadow[from + i] = md_f32_to_bf16(p[from + i]);
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
