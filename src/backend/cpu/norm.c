/* Group norm and layer norm with their gradients. Group norm goes over fixed chunks of pixels: sums
   per channel in f32 over at most SPAN pixels, beyond that in double, combined in the order of the
   chunks, so that a sample's result depends on nothing but the sample. */
#include "backend/cpu/internal.h"

#define SPAN 64

typedef struct group_state {
    int64_t n, pixels, c, groups, chunk, n_chunks; /* chunk: pixels */
    size_t sums_at, vec_at;
} group_state;

static md_status group_prepare(const md_node *node, const md_tensor *x, md_kernel *k)
{
    void *state;
    MD_TRY(md_kernel_state(k, sizeof(group_state), &state));
    group_state *s = state;
    s->n = x->dim[0];
    s->c = x->dim[x->ndim - 1];
    s->pixels = cpu__max(1, md_numel(x) / cpu__max(1, s->n * s->c));
    s->groups = node->attr.norm.groups;
    s->chunk = cpu__max(SPAN, 65536 / cpu__max(1, s->c) / SPAN * SPAN);
    s->n_chunks = cpu__ceil(s->pixels, s->chunk);
    s->sums_at = 0; /* double [n][n_chunks][2][c] */
    s->vec_at = (size_t)(s->n * s->n_chunks * 2 * s->c) * sizeof(double) + 64;
    s->vec_at &= ~(size_t)63;
    k->scratch_bytes = s->vec_at + cpu__floats(3 * s->n * s->c); /* per sample and channel */
    return MD_OK;
}

/* sums[0][c] += sum (x - shift[c]), sums[1][c] += sum (x - shift[c])^2 over `pixels` pixels. The
   shift (a value of the data) keeps the squares from cancelling when the mean is large. */
static void moments(const float *x, int64_t pixels, int64_t c, const float *shift, double *sums)
{
    for (int64_t j = 0; j < 2 * c; j++)
        sums[j] = 0;
    for (int64_t p0 = 0; p0 < pixels; p0 += SPAN) {
        int64_t p1 = cpu__min(pixels, p0 + SPAN);
        for (int64_t j = 0; j < c; j += 2 * VL) {
            int n0 = (int)cpu__min(VL, c - j), n1 = (int)cpu__max(0, cpu__min(VL, c - j - VL));
            vf s0 = v_zero(), s1 = v_zero(), q0 = v_zero(), q1 = v_zero();
            vf k0 = v_load_n(shift + j, n0), k1 = v_load_n(shift + j + n0, n1);
            const float *px = x + p0 * c + j;
            if (n1 == VL)
                for (int64_t p = p0; p < p1; p++, px += c) {
                    vf a = v_load(px) - k0, b = v_load(px + VL) - k1;
                    s0 += a;
                    s1 += b;
                    q0 = v_fma(a, a, q0);
                    q1 = v_fma(b, b, q1);
                }
            else
                for (int64_t p = p0; p < p1; p++, px += c) {
                    vf a = v_load_n(px, n0) - k0, b = v_load_n(px + n0, n1) - k1;
                    s0 += a;
                    s1 += b;
                    q0 = v_fma(a, a, q0);
                    q1 = v_fma(b, b, q1);
                }
            for (int i = 0; i < n0; i++)
                sums[j + i] += (double)s0[i], sums[c + j + i] += (double)q0[i];
            for (int i = 0; i < n1; i++)
                sums[j + VL + i] += (double)s1[i], sums[c + j + VL + i] += (double)q1[i];
        }
    }
}

/* y = act((x - mean) scale + beta) over `pixels` pixels of c channels. */
static inline __attribute__((always_inline)) void normalise(const float *x, float *y,
                                                            int64_t pixels, int64_t c,
                                                            const float *mean, const float *scale,
                                                            const float *beta, bool silu)
{
    for (int64_t p = 0; p < pixels; p++, x += c, y += c) {
        int64_t j = 0;
        for (; j + VL <= c; j += VL) {
            vf z = v_fma(v_load(x + j) - v_load(mean + j), v_load(scale + j), v_load(beta + j));
            v_store(y + j, silu ? z * v_sigmoid(z) : z);
        }
        if (j < c) {
            int n = (int)(c - j);
            vf z = v_fma(v_load_n(x + j, n) - v_load_n(mean + j, n), v_load_n(scale + j, n),
                         v_load_n(beta + j, n));
            v_store_n(y + j, silu ? z * v_sigmoid(z) : z, n);
        }
    }
}

/* Statistics of sample n from its chunks; fills mean and rstd of its groups. */
static void group_stats(const group_state *s, const double *sums, const float *shift, double eps,
                        float *mean, float *rstd)
{
    int64_t per = s->c / s->groups;
    double count = (double)(s->pixels * per);
    for (int64_t g = 0; g < s->groups; g++) {
        double total = 0, square = 0, base = (double)shift[g * per];
        /* everything relative to the group's first shift */
        for (int64_t ch = 0; ch < s->n_chunks; ch++)
            for (int64_t j = g * per; j < (g + 1) * per; j++) {
                double d = (double)shift[j] - base, sum = sums[(ch * 2) * s->c + j];
                double pixels = (double)cpu__min(s->chunk, s->pixels - ch * s->chunk);
                total += sum + pixels * d;
                square += sums[(ch * 2 + 1) * s->c + j] + 2 * d * sum + pixels * d * d;
            }
        double m = total / count, var = square / count - m * m;
        mean[g] = (float)(base + m);
        /* not fmax: it would hide a NaN */
        rstd[g] = (float)(1.0 / sqrt((var < 0 ? 0 : var) + eps));
    }
}

static md_status group_norm_run(const md_kernel *k, void *const *in, void *const *out,
                                void *scratch)
{
    const group_state *s = k->state;
    const float *x = in[0], *gamma = in[1], *beta = in[2];
    float *y = out[0], *mean = out[1], *rstd = out[2];
    double *sums = cpu__at(scratch, s->sums_at);
    float *vec = cpu__at(scratch, s->vec_at);
    const md_attr *attr = &k->node->attr;
    int64_t tasks = s->n * s->n_chunks, c = s->c, per = c / s->groups;
#pragma omp parallel num_threads(cpu__threads_for(k, s->n * s->pixels * c))
    {
#pragma omp for schedule(static)
        for (int64_t t = 0; t < tasks; t++) {
            int64_t n = t / s->n_chunks, p0 = t % s->n_chunks * s->chunk;
            const float *sample = x + n * s->pixels * c;
            moments(sample + p0 * c, cpu__min(s->chunk, s->pixels - p0), c, sample,
                    sums + t * 2 * c);
        }
#pragma omp for schedule(static)
        for (int64_t n = 0; n < s->n; n++) {
            group_stats(s, sums + n * s->n_chunks * 2 * c, x + n * s->pixels * c, attr->norm.eps,
                        mean + n * s->groups, rstd + n * s->groups);
            for (int64_t j = 0; j < c; j++) {
                int64_t g = n * s->groups + j / per;
                vec[n * 2 * c + j] = mean[g];
                vec[n * 2 * c + c + j] = rstd[g] * gamma[j];
            }
        }
#pragma omp for schedule(static)
        for (int64_t t = 0; t < tasks; t++) {
            int64_t n = t / s->n_chunks, p0 = t % s->n_chunks * s->chunk;
            int64_t at = (n * s->pixels + p0) * c, pixels = cpu__min(s->chunk, s->pixels - p0);
            const float *m = vec + n * 2 * c;
            if (attr->norm.act == MD_ACT_SILU)
                normalise(x + at, y + at, pixels, c, m, m + c, beta, true);
            else
                normalise(x + at, y + at, pixels, c, m, m + c, beta, false);
        }
    }
    return MD_OK;
}

md_status cpu_group_norm(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    k->run = group_norm_run;
    return group_prepare(node, node->in[0], k);
}

/* dz = dy act'(z), z = xhat gamma + beta: written to dz, and sums[0][c] = sum dz,
   sums[1][c] = sum dz xhat. */
static inline __attribute__((always_inline)) void
grad_moments(const float *dy, const float *x, float *dz, int64_t pixels, int64_t c,
             const float *mean, const float *rstd, const float *gamma, const float *beta,
             double *sums, bool silu)
{
    for (int64_t j = 0; j < 2 * c; j++)
        sums[j] = 0;
    for (int64_t p0 = 0; p0 < pixels; p0 += SPAN) {
        int64_t p1 = cpu__min(pixels, p0 + SPAN);
        for (int64_t j = 0; j < c; j += VL) {
            int n = (int)cpu__min(VL, c - j);
            vf m = v_load_n(mean + j, n), r = v_load_n(rstd + j, n), g = v_load_n(gamma + j, n);
            vf b = v_load_n(beta + j, n), s0 = v_zero(), s1 = v_zero(), one = v_set(1.0f);
            for (int64_t p = p0; p < p1; p++) {
                int64_t at = p * c + j;
                vf d = n == VL ? v_load(dy + at) : v_load_n(dy + at, n);
                vf xhat = ((n == VL ? v_load(x + at) : v_load_n(x + at, n)) - m) * r;
                if (silu) {
                    vf z = v_fma(xhat, g, b), s = v_sigmoid(z);
                    d = d * s * v_fma(z, one - s, one);
                    if (n == VL)
                        v_store(dz + at, d);
                    else
                        v_store_n(dz + at, d, n);
                }
                s0 += d;
                s1 = v_fma(d, xhat, s1);
            }
            for (int i = 0; i < n; i++)
                sums[j + i] += (double)s0[i], sums[c + j + i] += (double)s1[i];
        }
    }
}

/* dx = scale dz - offset - slope (x - mean), per channel; dx may be dz. */
static void grad_apply(const float *dz, const float *x, float *dx, int64_t pixels, int64_t c,
                       const float *mean, const float *scale, const float *offset,
                       const float *incline)
{
    for (int64_t p = 0; p < pixels; p++, dz += c, x += c, dx += c) {
        int64_t j = 0;
        for (; j + VL <= c; j += VL) {
            vf t = v_fma(v_load(scale + j), v_load(dz + j), -v_load(offset + j));
            v_store(dx + j, v_fma(-v_load(incline + j), v_load(x + j) - v_load(mean + j), t));
        }
        if (j < c) {
            int n = (int)(c - j);
            vf t = v_fma(v_load_n(scale + j, n), v_load_n(dz + j, n), -v_load_n(offset + j, n));
            vf d = v_load_n(x + j, n) - v_load_n(mean + j, n);
            v_store_n(dx + j, v_fma(-v_load_n(incline + j, n), d, t), n);
        }
    }
}

typedef struct group_grad_vec { /* per sample, each [c] */
    float *mean, *rstd, *scale, *offset, *incline;
} group_grad_vec;

static group_grad_vec vectors_of(const group_state *s, float *vec, int64_t n)
{
    float *v = vec + n * 5 * s->c;
    return (group_grad_vec){v, v + s->c, v + 2 * s->c, v + 3 * s->c, v + 4 * s->c};
}

/* From the chunk sums of one sample to the per-channel coefficients of dx. */
static void grad_coefficients(const group_state *s, const double *sums, const float *gamma,
                              group_grad_vec v)
{
    int64_t per = s->c / s->groups;
    double count = (double)(s->pixels * per);
    for (int64_t g = 0; g < s->groups; g++) {
        double a = 0, b = 0; /* means over the group of gamma dz and gamma dz xhat */
        for (int64_t j = g * per; j < (g + 1) * per; j++)
            for (int64_t ch = 0; ch < s->n_chunks; ch++) {
                a += (double)gamma[j] * sums[ch * 2 * s->c + j];
                b += (double)gamma[j] * sums[(ch * 2 + 1) * s->c + j];
            }
        a /= count;
        b /= count;
        for (int64_t j = g * per; j < (g + 1) * per; j++) {
            double r = (double)v.rstd[j];
            v.scale[j] = (float)(r * (double)gamma[j]);
            v.offset[j] = (float)(r * a);
            v.incline[j] = (float)(r * r * b);
        }
    }
}

static md_status group_norm_grad_run(const md_kernel *k, void *const *in, void *const *out,
                                     void *scratch)
{
    const group_state *s = k->state;
    const float *dy = in[0], *x = in[1], *gamma = in[2], *beta = in[3], *mean = in[4],
                *rstd = in[5];
    float *dx = out[0], *dgamma = out[1], *dbeta = out[2];
    double *sums = cpu__at(scratch, s->sums_at);
    float *vec = cpu__at(scratch, s->vec_at);
    int64_t tasks = s->n * s->n_chunks, c = s->c, per = c / s->groups;
    bool silu = k->node->attr.norm.act == MD_ACT_SILU;
#pragma omp parallel num_threads(cpu__threads_for(k, s->n * s->pixels * c))
    {
#pragma omp for schedule(static)
        for (int64_t n = 0; n < s->n; n++) {
            group_grad_vec v = vectors_of(s, vec, n);
            for (int64_t j = 0; j < c; j++) {
                v.mean[j] = mean[n * s->groups + j / per];
                v.rstd[j] = rstd[n * s->groups + j / per];
            }
        }
#pragma omp for schedule(static)
        for (int64_t t = 0; t < tasks; t++) {
            int64_t n = t / s->n_chunks, p0 = t % s->n_chunks * s->chunk;
            int64_t at = (n * s->pixels + p0) * c, pixels = cpu__min(s->chunk, s->pixels - p0);
            group_grad_vec v = vectors_of(s, vec, n);
            if (silu)
                grad_moments(dy + at, x + at, dx + at, pixels, c, v.mean, v.rstd, gamma, beta,
                             sums + t * 2 * c, true);
            else
                grad_moments(dy + at, x + at, NULL, pixels, c, v.mean, v.rstd, gamma, beta,
                             sums + t * 2 * c, false);
        }
#pragma omp for schedule(static) nowait
        for (int64_t j = 0; j < c; j++) {
            double db = 0, dg = 0;
            for (int64_t t = 0; t < tasks; t++) {
                db += sums[t * 2 * c + j];
                dg += sums[(t * 2 + 1) * c + j];
            }
            dbeta[j] = (float)db;
            dgamma[j] = (float)dg;
        }
#pragma omp for schedule(static)
        for (int64_t n = 0; n < s->n; n++)
            grad_coefficients(s, sums + n * s->n_chunks * 2 * c, gamma, vectors_of(s, vec, n));
#pragma omp for schedule(static)
        for (int64_t t = 0; t < tasks; t++) {
            int64_t n = t / s->n_chunks, p0 = t % s->n_chunks * s->chunk;
            int64_t at = (n * s->pixels + p0) * c;
            group_grad_vec v = vectors_of(s, vec, n);
            grad_apply(silu ? dx + at : dy + at, x + at, dx + at,
                       cpu__min(s->chunk, s->pixels - p0), c, v.mean, v.scale, v.offset, v.incline);
        }
    }
    return MD_OK;
}

md_status cpu_group_norm_grad(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    k->run = group_norm_grad_run;
    MD_TRY(group_prepare(node, node->in[1], k));
    const group_state *s = k->state;
    k->scratch_bytes = s->vec_at + cpu__floats(5 * s->n * s->c);
    return MD_OK;
}

/* ---- layer norm: one row at a time; dgamma and dbeta over fixed blocks of rows */

static md_status layer_norm_run(const md_kernel *k, void *const *in, void *const *out,
                                void *scratch)
{
    (void)scratch;
    const md_tensor *t = k->node->in[0];
    int64_t d = t->dim[t->ndim - 1], rows = md_numel(t) / d;
    const float *x = in[0], *gamma = in[1], *beta = in[2];
    float *y = out[0], *mean = out[1], *rstd = out[2];
    double eps = k->node->attr.norm.eps;
#pragma omp parallel for num_threads(cpu__threads_for(k, rows *d))
    for (int64_t r = 0; r < rows; r++) {
        const float *px = x + r * d;
        float *py = y + r * d;
        vf sum = v_zero(), square = v_zero();
        int64_t full = d / VL * VL;
        int left = (int)(d - full);
        vf last = v_load_n(px + full, left);
        for (int64_t i = 0; i < full; i += VL)
            sum += v_load(px + i);
        float m = v_sum(sum + last) / (float)d;
        vf vm = v_set(m);
        for (int64_t i = 0; i < full; i += VL) {
            vf a = v_load(px + i) - vm;
            square = v_fma(a, a, square);
        }
        float var = v_sum(square);
        for (int i = 0; i < left; i++)
            var += (last[i] - m) * (last[i] - m);
        float inverse = (float)(1.0 / sqrt((double)var / (double)d + eps));
        mean[r] = m;
        rstd[r] = inverse;
        vf vr = v_set(inverse);
        for (int64_t i = 0; i < d; i += VL) {
            int n = (int)cpu__min(VL, d - i);
            vf xhat = (v_load_n(px + i, n) - vm) * vr;
            v_store_n(py + i, v_fma(xhat, v_load_n(gamma + i, n), v_load_n(beta + i, n)), n);
        }
    }
    return MD_OK;
}

md_status cpu_layer_norm(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = layer_norm_run;
    return MD_OK;
}

typedef struct layer_state {
    int64_t rows, d, block, n_blocks;
} layer_state;

static void layer_grad_row(const float *dy, const float *x, const float *gamma, float mean,
                           float rstd, float *dx, double *dgamma, double *dbeta, int64_t d)
{
    vf m = v_set(mean), r = v_set(rstd), va = v_zero(), vb = v_zero();
    for (int64_t i = 0; i < d; i += VL) {
        int n = (int)cpu__min(VL, d - i);
        vf g = v_load_n(dy + i, n) * v_load_n(gamma + i, n);
        va += g;
        vb = v_fma(g, (v_load_n(x + i, n) - m) * r, vb);
    }
    vf a = v_set(v_sum(va) / (float)d), b = v_set(v_sum(vb) / (float)d);
    for (int64_t i = 0; i < d; i += VL) {
        int n = (int)cpu__min(VL, d - i);
        vf g = v_load_n(dy + i, n), xhat = (v_load_n(x + i, n) - m) * r;
        v_store_n(dx + i, r * (g * v_load_n(gamma + i, n) - a - xhat * b), n);
        vf gx = g * xhat;
        for (int j = 0; j < n; j++) {
            dgamma[i + j] += (double)gx[j];
            dbeta[i + j] += (double)g[j];
        }
    }
}

static md_status layer_norm_grad_run(const md_kernel *k, void *const *in, void *const *out,
                                     void *scratch)
{
    const layer_state *s = k->state;
    const float *dy = in[0], *x = in[1], *gamma = in[2], *mean = in[3], *rstd = in[4];
    float *dx = out[0], *dgamma = out[1], *dbeta = out[2];
    double *sums = scratch; /* [n_blocks][2][d] */
    int64_t d = s->d;
#pragma omp parallel num_threads(cpu__threads_for(k, s->rows *d))
    {
#pragma omp for schedule(static)
        for (int64_t b = 0; b < s->n_blocks; b++) {
            double *to = sums + b * 2 * d;
            memset(to, 0, (size_t)(2 * d) * sizeof(double));
            for (int64_t r = b * s->block; r < cpu__min(s->rows, (b + 1) * s->block); r++)
                layer_grad_row(dy + r * d, x + r * d, gamma, mean[r], rstd[r], dx + r * d, to,
                               to + d, d);
        }
#pragma omp for schedule(static)
        for (int64_t i = 0; i < d; i++) {
            double dg = 0, db = 0;
            for (int64_t b = 0; b < s->n_blocks; b++) {
                dg += sums[b * 2 * d + i];
                db += sums[(b * 2 + 1) * d + i];
            }
            dgamma[i] = (float)dg;
            dbeta[i] = (float)db;
        }
    }
    return MD_OK;
}

md_status cpu_layer_norm_grad(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    void *state;
    MD_TRY(md_kernel_state(k, sizeof(layer_state), &state));
    layer_state *s = state;
    const md_tensor *x = node->in[1];
    s->d = x->dim[x->ndim - 1];
    s->rows = md_numel(x) / s->d;
    s->block = cpu__max(16, cpu__ceil(s->rows, 64)); /* at most 64 partial sums, by shape alone */
    s->n_blocks = cpu__ceil(s->rows, s->block);
    k->scratch_bytes = (size_t)(s->n_blocks * 2 * s->d) * sizeof(double) + 64;
    k->run = layer_norm_grad_run;
    return MD_OK;
}
