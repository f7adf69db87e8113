/* Register-blocked inner kernels (6 x 16 accumulators) and the matrix products over them. The
   kernels are written once as macros over the row count, since the accumulators must be named
   variables to stay in registers under every compiler and optimisation level. */
#include "backend/cpu/gemm.h"

#define REP1(M) M(0)
#define REP2(M) REP1(M) M(1)
#define REP3(M) REP2(M) M(2)
#define REP4(M) REP3(M) M(3)
#define REP5(M) REP4(M) M(4)
#define REP6(M) REP5(M) M(5)

#define DECL2(m) vf c##m##0 = bias0, c##m##1 = bias1;
#define POINT(m) const float *a##m = a[m];
#define FMA2(m)                                                                                    \
    {                                                                                              \
        vf x = v_set(a##m[k]);                                                                     \
        c##m##0 = v_fma(x, b0, c##m##0);                                                           \
        c##m##1 = v_fma(x, b1, c##m##1);                                                           \
    }
/* Added to what is there at the end: long sums come in parts, which loses fewer bits. */
#define STORE2(m)                                                                                  \
    v_store(c[m], t->add ? v_load(c[m]) + c##m##0 : c##m##0);                                      \
    v_store(c[m] + VL, t->add ? v_load(c[m] + VL) + c##m##1 : c##m##1);

#define TILE2(MR)                                                                                  \
    static void tile2_##MR(const cpu_tile *t, const float *const *a, float *const *c)              \
    {                                                                                              \
        vf bias0 = t->bias ? v_load(t->bias) : v_zero();                                           \
        vf bias1 = t->bias ? v_load(t->bias + VL) : v_zero();                                      \
        REP##MR(DECL2) const float *b = t->b;                                                      \
        const int64_t n = t->k_len, ldb = t->ldb;                                                  \
        for (int tap = 0; tap < t->taps; tap++, a += CPU_MR) {                                     \
            REP##MR(POINT) for (int64_t k = 0; k < n; k++, b += ldb)                               \
            {                                                                                      \
                vf b0 = v_load(b), b1 = v_load(b + VL);                                            \
                REP##MR(FMA2)                                                                      \
            }                                                                                      \
        }                                                                                          \
        REP##MR(STORE2)                                                                            \
    }
TILE2(1)
TILE2(2)
TILE2(3)
TILE2(4)
TILE2(5)
TILE2(6)

#define DECL1(m)  vf c##m = bias0;
#define FMA1(m)   c##m = v_fma(v_set(a##m[k]), b0, c##m);
#define STORE1(m) v_store(c[m], t->add ? v_load(c[m]) + c##m : c##m);
#define TILE1(MR)                                                                                  \
    static void tile1_##MR(const cpu_tile *t, const float *const *a, float *const *c)              \
    {                                                                                              \
        vf bias0 = t->bias ? v_load(t->bias) : v_zero();                                           \
        REP##MR(DECL1) const float *b = t->b;                                                      \
        const int64_t n = t->k_len, ldb = t->ldb;                                                  \
        for (int tap = 0; tap < t->taps; tap++, a += CPU_MR) {                                     \
            REP##MR(POINT) for (int64_t k = 0; k < n; k++, b += ldb)                               \
            {                                                                                      \
                vf b0 = v_load(b);                                                                 \
                REP##MR(FMA1)                                                                      \
            }                                                                                      \
        }                                                                                          \
        REP##MR(STORE1)                                                                            \
    }
TILE1(1)
TILE1(2)
TILE1(3)
TILE1(4)
TILE1(5)
TILE1(6)

void cpu__tile(const cpu_tile *t, int mr, int nr, const float *const *a, float *const *c)
{
    typedef void (*tile_fn)(const cpu_tile *, const float *const *, float *const *);
    static const tile_fn wide[] = {tile2_1, tile2_2, tile2_3, tile2_4, tile2_5, tile2_6};
    static const tile_fn narrow[] = {tile1_1, tile1_2, tile1_3, tile1_4, tile1_5, tile1_6};
    if (nr == CPU_NR) {
        wide[mr - 1](t, a, c);
    } else if (nr == VL) {
        narrow[mr - 1](t, a, c);
    } else { /* through a full tile, so that nothing beyond nr is touched */
        float full[CPU_MR][CPU_NR];
        float *rows[CPU_MR] = {0};
        for (int m = 0; m < mr; m++) {
            rows[m] = full[m];
            if (t->add)
                memcpy(full[m], c[m], (size_t)nr * sizeof(float));
        }
        if (nr > VL) /* no (?:)[mr - 1]: gcc 12's object-size check takes that for an overflow */
            wide[mr - 1](t, a, rows);
        else
            narrow[mr - 1](t, a, rows);
        for (int m = 0; m < mr; m++)
            memcpy(c[m], full[m], (size_t)nr * sizeof(float));
    }
}

void cpu__tile_rows(const cpu_tile *t, int64_t rows, int nr, const float *a, int64_t lda, float *c,
                    int64_t ldc)
{
    const float *from[CPU_MR];
    float *to[CPU_MR];
    int64_t i = 0;
    for (; i + CPU_MR <= rows; i += CPU_MR) {
        for (int m = 0; m < CPU_MR; m++) {
            from[m] = a + (i + m) * lda;
            to[m] = c + (i + m) * ldc;
        }
        if (nr == CPU_NR)
            tile2_6(t, from, to);
        else
            cpu__tile(t, CPU_MR, nr, from, to);
    }
    for (int m = 0; m < rows - i; m++) {
        from[m] = a + (i + m) * lda;
        to[m] = c + (i + m) * ldc;
    }
    if (i < rows)
        cpu__tile(t, (int)(rows - i), nr, from, to);
}

#define ZERO2(m) vf c##m##0 = v_zero(), c##m##1 = v_zero();
#define OUT2(m)                                                                                    \
    {                                                                                              \
        vf x = v_set(pa[m]);                                                                       \
        c##m##0 = v_fma(x, b0, c##m##0);                                                           \
        c##m##1 = v_fma(x, b1, c##m##1);                                                           \
    }
#define ADD2(m)                                                                                    \
    v_store(c + m * ldc, v_load(c + m * ldc) + c##m##0);                                           \
    v_store(c + m * ldc + VL, v_load(c + m * ldc + VL) + c##m##1);
#define OUTER2(MR)                                                                                 \
    static void outer2_##MR(const cpu_outer *o, const float *a, const float *b, float *c,          \
                            int64_t ldc)                                                           \
    {                                                                                              \
        const int64_t a_step = o->a_step, b_step = o->b_step;                                      \
        REP##MR(ZERO2) for (int64_t r = 0; r < o->rows; r++)                                       \
        {                                                                                          \
            const float *pa = a + r * o->a_row, *pb = b + r * o->b_row;                            \
            for (int64_t p = 0; p < o->cols; p++, pa += a_step, pb += b_step) {                    \
                vf b0 = v_load(pb), b1 = v_load(pb + VL);                                          \
                REP##MR(OUT2)                                                                      \
            }                                                                                      \
        }                                                                                          \
        REP##MR(ADD2)                                                                              \
    }
OUTER2(1)
OUTER2(2)
OUTER2(3)
OUTER2(4)
OUTER2(5)
OUTER2(6)

/* Up to eight columns, the last `nr` of them real. */
#define ZERO1(m) vf c##m = v_zero();
#define OUT1(m)  c##m = v_fma(v_set(pa[m]), b0, c##m);
#define ADD1(m)                                                                                    \
    if (nr == VL)                                                                                  \
        v_store(c + m * ldc, v_load(c + m * ldc) + c##m);                                          \
    else                                                                                           \
        v_store_n(c + m * ldc, v_load_n(c + m * ldc, nr) + c##m, nr);
#define OUTER1(MR)                                                                                 \
    static void outer1_##MR(const cpu_outer *o, int nr, const float *a, const float *b, float *c,  \
                            int64_t ldc)                                                           \
    {                                                                                              \
        const int64_t a_step = o->a_step, b_step = o->b_step;                                      \
        REP##MR(ZERO1) for (int64_t r = 0; r < o->rows; r++)                                       \
        {                                                                                          \
            const float *pa = a + r * o->a_row, *pb = b + r * o->b_row;                            \
            if (nr == VL)                                                                          \
                for (int64_t p = 0; p < o->cols; p++, pa += a_step, pb += b_step) {                \
                    vf b0 = v_load(pb);                                                            \
                    REP##MR(OUT1)                                                                  \
                }                                                                                  \
            else                                                                                   \
                for (int64_t p = 0; p < o->cols; p++, pa += a_step, pb += b_step) {                \
                    vf b0 = v_load_n(pb, nr);                                                      \
                    REP##MR(OUT1)                                                                  \
                }                                                                                  \
        }                                                                                          \
        REP##MR(ADD1)                                                                              \
    }
OUTER1(1)
OUTER1(2)
OUTER1(3)
OUTER1(4)
OUTER1(5)
OUTER1(6)

void cpu__outer(const cpu_outer *o, int mr, int nr, const float *a, const float *b, float *c,
                int64_t ldc)
{
    typedef void (*wide_fn)(const cpu_outer *, const float *, const float *, float *, int64_t);
    typedef void (*narrow_fn)(const cpu_outer *, int, const float *, const float *, float *,
                              int64_t);
    static const wide_fn wide[] = {outer2_1, outer2_2, outer2_3, outer2_4, outer2_5, outer2_6};
    static const narrow_fn narrow[] = {outer1_1, outer1_2, outer1_3, outer1_4, outer1_5, outer1_6};
    if (nr == CPU_NR) {
        wide[mr - 1](o, a, b, c, ldc);
        return;
    }
    narrow[mr - 1](o, (int)cpu__min(nr, VL), a, b, c, ldc);
    if (nr > VL)
        narrow[mr - 1](o, nr - VL, a, b + VL, c + VL, ldc);
}

/* Eight rows of eight to eight columns of eight; d at stride CPU_NR. */
static void transpose8(float *d, const float *b, int64_t ld)
{
    vf r[VL];
    for (int i = 0; i < VL; i++)
        r[i] = v_load(b + i * ld);
    v_transpose(r);
    for (int i = 0; i < VL; i++)
        v_store(d + i * CPU_NR, r[i]);
}

void cpu__pack_panel(float *p, const float *b, int64_t ld, bool trans, int64_t k, int64_t n)
{
    int64_t i = 0;
    if (trans && n == CPU_NR)
        for (; i + 8 <= k; i += 8) {
            transpose8(p + i * CPU_NR, b + i, ld);
            transpose8(p + i * CPU_NR + 8, b + 8 * ld + i, ld);
        }
    for (; i < k; i++) {
        for (int64_t c = 0; c < n; c++)
            p[i * CPU_NR + c] = trans ? b[c * ld + i] : b[i * ld + c];
        for (int64_t c = n; c < CPU_NR; c++)
            p[i * CPU_NR + c] = 0;
    }
}

void cpu__pack(float *panels, const float *b, int64_t ld, bool trans, int64_t k, int64_t n,
               int threads)
{
    enum { K_BLOCK = 64 };
    int64_t n_panels = cpu__ceil(n, CPU_NR), k_blocks = cpu__ceil(k, K_BLOCK);
#pragma omp parallel for collapse(2) num_threads(threads) if (k * n > 16384)
    for (int64_t j = 0; j < n_panels; j++)
        for (int64_t kb = 0; kb < k_blocks; kb++) {
            int64_t n0 = j * CPU_NR, k0 = kb * K_BLOCK;
            cpu__pack_panel(panels + (j * k + k0) * CPU_NR,
                            b + (trans ? n0 * ld + k0 : k0 * ld + n0), ld, trans,
                            cpu__min(K_BLOCK, k - k0), cpu__min(CPU_NR, n - n0));
        }
}

#define ROWS_PER_TASK 96 /* rows of a that stay in the second-level cache while panels pass */

void cpu__gemm_packed(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda,
                      const float *panels, const float *bias, float *c, int64_t ldc, int threads)
{
    int64_t n_panels = cpu__ceil(n, CPU_NR), n_rows = cpu__ceil(m, ROWS_PER_TASK);
    /* Split the panels too when there are few row blocks; the arithmetic stays the same. */
    int64_t split = cpu__min(n_panels, cpu__ceil(4 * (int64_t)threads, n_rows));
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(threads) if (m * n * k > 65536)
    for (int64_t rb = 0; rb < n_rows; rb++)
        for (int64_t s = 0; s < split; s++) {
            int64_t j1 = n_panels * (s + 1) / split;
            int64_t m1 = cpu__min(m, (rb + 1) * ROWS_PER_TASK);
            for (int64_t j = n_panels * s / split; j < j1; j++) {
                int nr = (int)cpu__min(CPU_NR, n - j * CPU_NR);
                cpu_tile t = {
                    1, k, CPU_NR, panels + j * CPU_NR * k, bias ? bias + j * CPU_NR : NULL, false};
                int64_t m0 = rb * ROWS_PER_TASK;
                cpu__tile_rows(&t, m1 - m0, nr, a + m0 * lda, lda, c + m0 * ldc + j * CPU_NR, ldc);
            }
        }
}

void cpu__gemm_direct(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b,
                      int64_t ldb, float *c, int64_t ldc, int threads)
{
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (m * n * k > 65536)
    for (int64_t j = 0; j < n; j += CPU_NR) {
        cpu_tile t = {1, k, ldb, b + j, NULL, false};
        cpu__tile_rows(&t, m, (int)cpu__min(CPU_NR, n - j), a, lda, c + j, ldc);
    }
}

void cpu__gemm_tn(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b,
                  int64_t ldb, float *c, int64_t ldc, int threads)
{
    enum { K_BLOCK = 256 };
    int64_t n_tiles = cpu__ceil(m, CPU_MR), n_panels = cpu__ceil(n, CPU_NR);
    int64_t n_tasks = cpu__min(n_tiles, 4 * (int64_t)threads);
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (m * n * k > 65536)
    for (int64_t task = 0; task < n_tasks; task++) {
        int64_t t0 = n_tiles * task / n_tasks, t1 = n_tiles * (task + 1) / n_tasks;
        for (int64_t i = m * t0 / n_tiles; i < m * t1 / n_tiles; i++)
            memset(c + i * ldc, 0, (size_t)n * sizeof(float));
        for (int64_t k0 = 0; k0 < k; k0 += K_BLOCK) {
            cpu_outer o = {1, cpu__min(K_BLOCK, k - k0), 0, lda, 0, ldb};
            for (int64_t t = t0; t < t1; t++) {
                int64_t i = m * t / n_tiles; /* even split: tiles of 5 or 6 rows, none of 1 */
                int mr = (int)(m * (t + 1) / n_tiles - i);
                for (int64_t j = 0; j < n_panels; j++)
                    cpu__outer(&o, mr, (int)cpu__min(CPU_NR, n - j * CPU_NR), a + k0 * lda + i,
                               b + k0 * ldb + j * CPU_NR, c + i * ldc + j * CPU_NR, ldc);
            }
        }
    }
}
