/* The two inner kernels under convolution, linear layers and attention, and matrix products made of
   them. All matrices row-major f32. Each result element is summed in an order fixed by the shapes.
 */
#ifndef MD_BACKEND_CPU_GEMM_H
#define MD_BACKEND_CPU_GEMM_H

#include "backend/cpu/internal.h"

#define CPU_MR                                                                                     \
    6             /* rows of a tile: 6 x 2 accumulators + 2 weights + 1 broadcast of 16 registers  \
                   */
#define CPU_NR 16 /* columns of a tile and of a packed panel */

/* Rows m < mr, columns n < nr: c[m][n] = (add ? c[m][n] : 0) + bias[n] + sum_t sum_k a[t][m][k]
   b(t,k,n) with a[t * CPU_MR + m] -> k contiguous floats and b(t,k,n) = b[(t * k_len + k) * ldb +
   n]. b and bias (or NULL) are readable up to a multiple of 8 columns; c is not written beyond nr.
 */
typedef struct cpu_tile {
    int taps;
    int64_t k_len, ldb;
    const float *b, *bias;
    bool add;
} cpu_tile;
void cpu__tile(const cpu_tile *t, int mr, int nr, const float *const *a, float *const *c);

/* The same for any number of rows at strides lda and ldc, one tap. */
void cpu__tile_rows(const cpu_tile *t, int64_t rows, int nr, const float *a, int64_t lda, float *c,
                    int64_t ldc);

/* c[m][n] += sum over rows r, columns p of a[r * a_row + p * a_step + m] b[r * b_row + p * b_step +
   n]; m < mr <= 6, n < nr <= 16; nothing is read or written beyond nr or mr. */
typedef struct cpu_outer {
    int64_t rows, cols, a_row, a_step, b_row, b_step;
} cpu_outer;
void cpu__outer(const cpu_outer *o, int mr, int nr, const float *a, const float *b, float *c,
                int64_t ldc);

/* One panel [K][16] from b[K,n] or, if `trans`, b[n,K]; n <= 16. */
void cpu__pack_panel(float *panel, const float *b, int64_t ld, bool trans, int64_t k, int64_t n);
/* Packs b[K,N] (row stride ld), or its transpose if `trans` (b is [N,K]), into panels
   [ceil(N/16)][K][16], zero beyond N. */
void cpu__pack(float *panels, const float *b, int64_t ld, bool trans, int64_t k, int64_t n,
               int threads);
static inline int64_t cpu__panels_len(int64_t k, int64_t n)
{
    return cpu__ceil(n, CPU_NR) * CPU_NR * k;
}

/* c[M,N] (ld ldc) = a[M,K] (ld lda) panels + bias; bias is padded to panels, or NULL. */
void cpu__gemm_packed(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda,
                      const float *panels, const float *bias, float *c, int64_t ldc, int threads);
/* The same with b[K,N] as it is, N a multiple of 8: packing it would not pay for so few rows. */
#define CPU_FEW_ROWS 64
void cpu__gemm_direct(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b,
                      int64_t ldb, float *c, int64_t ldc, int threads);
/* c[M,N] = a^T b with a[K,M], b[K,N]. */
void cpu__gemm_tn(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b,
                  int64_t ldb, float *c, int64_t ldc, int threads);

#endif
