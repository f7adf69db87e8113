/* Sums, and repeating, their adjoint. Partitions are fixed by the shapes: f32 over at most SPAN
   terms per lane, beyond that double, and the parts are combined in order; the number of threads
   changes nothing. */
#include "backend/cpu/internal.h"
#include <string.h>

#define SPAN 256

/* The large tensor seen as [r0][a][r1][b][r2], the small one as [a][b]. */
typedef struct sum_state {
    int64_t r0, a, r1, b, r2;
    int64_t rows, part, n_parts; /* r0 r1 rows in parts, when r2 is 1 */
    int64_t piece, n_pieces;     /* r2 in pieces */
} sum_state;

/* Merges neighbouring dims treated alike, innermost first, into the five places. */
static md_status fold(const md_node *node, const md_tensor *x, const md_tensor *y, sum_state *s)
{
    int64_t *place[] = {&s->r2, &s->b, &s->r1, &s->a, &s->r0};
    s->r0 = s->a = s->r1 = s->b = s->r2 = 1;
    int at = 0;
    for (int i = x->ndim - 1; i >= 0; i--) {
        int j = i - (x->ndim - y->ndim);
        int64_t yd = j >= 0 ? y->dim[j] : 1;
        if (x->dim[i] == 1)
            continue;
        bool keep = yd != 1;
        if (keep != (at % 2 == 1))
            at++;
        if (at > 4)
            MD_FAIL(MD_UNSUPPORTED, "%s at '%s': %s and %s", md_op_name(node->op), node->path,
                    md_shape_text(x), md_shape_text(y));
        *place[at] *= x->dim[i];
    }
    return MD_OK;
}

/* The sum of n contiguous floats. */
static double sum_row(const float *x, int64_t n)
{
    double total = 0;
    for (int64_t i0 = 0; i0 < n; i0 += SPAN * 4 * VL) {
        int64_t i = i0, i1 = cpu__min(n, i0 + SPAN * 4 * VL);
        vf s[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
        for (; i + 4 * VL <= i1; i += 4 * VL)
            for (int j = 0; j < 4; j++)
                s[j] += v_load(x + i + j * VL);
        for (; i + VL <= i1; i += VL)
            s[0] += v_load(x + i);
        if (i < i1)
            s[1] += v_load_n(x + i, (int)(i1 - i));
        total += (double)v_sum((s[0] + s[1]) + (s[2] + s[3]));
    }
    return total;
}

/* sums[b] = over rows l0..l1 (of r0 x r1) of x[r][b], for one a. */
static void sum_columns(const sum_state *s, const float *x, int64_t a, int64_t l0, int64_t l1,
                        double *sums)
{
    for (int64_t j = 0; j < s->b; j++)
        sums[j] = 0;
    while (l0 < l1) { /* a run of rows with one stride: within one r0 */
        int64_t r = l0 % s->r1, run = cpu__min(cpu__min(l1 - l0, s->r1 - r), SPAN);
        const float *from = x + ((l0 / s->r1 * s->a + a) * s->r1 + r) * s->b;
        int64_t j = 0;
        for (; j + 4 * VL <= s->b; j += 4 * VL) {
            vf s0 = v_zero(), s1 = v_zero(), s2 = v_zero(), s3 = v_zero();
            const float *p = from + j;
            for (int64_t i = 0; i < run; i++, p += s->b) {
                s0 += v_load(p);
                s1 += v_load(p + VL);
                s2 += v_load(p + 2 * VL);
                s3 += v_load(p + 3 * VL);
            }
            for (int i = 0; i < VL; i++) {
                sums[j + i] += (double)s0[i];
                sums[j + VL + i] += (double)s1[i];
                sums[j + 2 * VL + i] += (double)s2[i];
                sums[j + 3 * VL + i] += (double)s3[i];
            }
        }
        for (; j < s->b; j += VL) {
            int n = (int)cpu__min(VL, s->b - j);
            vf s0 = v_zero();
            const float *p = from + j;
            if (n == VL)
                for (int64_t i = 0; i < run; i++, p += s->b)
                    s0 += v_load(p);
            else
                for (int64_t i = 0; i < run; i++, p += s->b)
                    s0 += v_load_n(p, n);
            for (int i = 0; i < n; i++)
                sums[j + i] += (double)s0[i];
        }
        l0 += run;
    }
}

static md_status sum_columns_run(const md_kernel *k, void *const *in, void *const *out,
                                 void *scratch)
{
    const sum_state *s = k->state;
    double *sums = scratch; /* [a][n_parts][b] */
    float *y = out[0];
#pragma omp parallel num_threads(cpu__threads_for(k, s->a * s->rows * s->b))
    {
#pragma omp for schedule(static)
        for (int64_t t = 0; t < s->a * s->n_parts; t++) {
            int64_t l0 = t % s->n_parts * s->part;
            sum_columns(s, in[0], t / s->n_parts, l0, cpu__min(s->rows, l0 + s->part),
                        sums + t * s->b);
        }
#pragma omp for schedule(static)
        for (int64_t a = 0; a < s->a; a++)
            for (int64_t j = 0; j < s->b; j++) {
                double total = 0;
                for (int64_t p = 0; p < s->n_parts; p++)
                    total += sums[(a * s->n_parts + p) * s->b + j];
                y[a * s->b + j] = (float)total;
            }
    }
    return MD_OK;
}

static md_status sum_rows_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    const sum_state *s = k->state;
    const float *x = in[0];
    float *y = out[0];
    double *sums = scratch; /* [r0][a][r1][b][n_pieces] */
    int64_t rows = s->r0 * s->a * s->r1 * s->b;
#pragma omp parallel num_threads(cpu__threads_for(k, rows * s->r2))
    {
#pragma omp for schedule(static)
        for (int64_t t = 0; t < rows * s->n_pieces; t++) {
            int64_t at = t % s->n_pieces * s->piece;
            sums[t] = sum_row(x + t / s->n_pieces * s->r2 + at, cpu__min(s->piece, s->r2 - at));
        }
#pragma omp for schedule(static)
        for (int64_t t = 0; t < s->a * s->b; t++) {
            double total = 0;
            for (int64_t i = 0; i < s->r0; i++)
                for (int64_t j = 0; j < s->r1; j++) {
                    int64_t row = ((i * s->a + t / s->b) * s->r1 + j) * s->b + t % s->b;
                    for (int64_t p = 0; p < s->n_pieces; p++)
                        total += sums[row * s->n_pieces + p];
                }
            y[t] = (float)total;
        }
    }
    return MD_OK;
}

md_status cpu_sum_to(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    void *state;
    MD_TRY(md_kernel_state(k, sizeof(sum_state), &state));
    sum_state *s = state;
    MD_TRY(fold(node, node->in[0], node->out[0], s));
    if (s->r2 == 1) {
        s->rows = s->r0 * s->r1;
        /* at most 64 parts, of at least 64 rows */
        s->part = cpu__max(64, cpu__ceil(s->rows, 64));
        s->n_parts = cpu__ceil(s->rows, s->part);
        k->scratch_bytes = (size_t)(s->a * s->n_parts * s->b) * sizeof(double) + 64;
        k->run = sum_columns_run;
    } else {
        s->piece = 65536;
        s->n_pieces = cpu__ceil(s->r2, s->piece);
        k->scratch_bytes =
            (size_t)(s->r0 * s->a * s->r1 * s->b * s->n_pieces) * sizeof(double) + 64;
        k->run = sum_rows_run;
    }
    return MD_OK;
}

static md_status broadcast_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    const sum_state *s = k->state;
    const float *x = in[0];
    float *y = out[0];
    bool rows = s->r2 == 1; /* copies rows of b, else fills pieces of r2 with one value */
    int64_t n = s->r0 * s->a * s->r1 * (rows ? 1 : s->b * s->n_pieces);
#pragma omp parallel for schedule(static)                                                          \
    num_threads(cpu__threads_for(k, md_numel(k->node->out[0])))
    for (int64_t t = 0; t < n; t++) {
        if (rows) {
            memcpy(y + t * s->b, x + t / s->r1 % s->a * s->b, (size_t)s->b * sizeof *y);
            continue;
        }
        int64_t at = t % s->n_pieces * s->piece, row = t / s->n_pieces, j = row % s->b;
        int64_t end = cpu__min(s->r2, at + s->piece);
        float v = x[row / s->b / s->r1 % s->a * s->b + j];
        for (int64_t i = at; i < end; i++)
            y[row * s->r2 + i] = v;
    }
    return MD_OK;
}

md_status cpu_broadcast_to(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    void *state;
    MD_TRY(md_kernel_state(k, sizeof(sum_state), &state));
    sum_state *s = state;
    MD_TRY(fold(node, node->out[0], node->in[0], s));
    s->piece = 16384;
    s->n_pieces = cpu__ceil(s->r2, s->piece);
    k->run = broadcast_run;
    return MD_OK;
}

static md_status sumsq_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    enum { PART = 65536, RUN = 4096 };
    const void *x = in[0];
    bool half = k->node->in[0]->dtype == MD_BF16;
    double *sums = scratch, total = 0;
    int64_t n = md_numel(k->node->in[0]), n_parts = cpu__ceil(n, PART);
#pragma omp parallel for num_threads(cpu__threads_for(k, n))
    for (int64_t t = 0; t < n_parts; t++) {
        double part = 0;
        for (int64_t i = t * PART; i < cpu__min(n, (t + 1) * PART); i += RUN) {
            int64_t j = i, end = cpu__min(n, i + RUN);
            vf s0 = v_zero(), s1 = v_zero();
            for (; j + 2 * VL <= end; j += 2 * VL) {
                vf a = v_get(x, half, j), b = v_get(x, half, j + VL);
                s0 = v_fma(a, a, s0);
                s1 = v_fma(b, b, s1);
            }
            for (; j < end; j += VL) {
                vf a = v_get_n(x, half, j, (int)cpu__min(VL, end - j));
                s0 = v_fma(a, a, s0);
            }
            part += (double)v_sum(s0 + s1);
        }
        sums[t] = part;
    }
    for (int64_t t = 0; t < n_parts; t++)
        total += sums[t];
    *(float *)out[0] = (float)total;
    return MD_OK;
}

md_status cpu_sumsq(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    k->scratch_bytes = (size_t)cpu__ceil(md_numel(node->in[0]), 65536) * sizeof(double) + 64;
    k->run = sumsq_run;
    return MD_OK;
}
