/* Launchers of reduce.cu: each returns the error code of its launch. Sums have a fixed order: parts
   of a fixed size, then the parts. */
#ifndef MD_BACKEND_CUDA_REDUCE_H
#define MD_BACKEND_CUDA_REDUCE_H

#include "backend/cuda/elementwise.h" /* cuda_broadcast */

#ifdef __cplusplus
extern "C" {
#endif

/* x [r0][a][r1][b][r2] -> y [parts][a][b]: sums over the r, of which each part takes `part`:
   columns: of the rows r0 r1 (r2 is 1); segments: of the elements r1 r2 (r0 is 1). */
typedef struct cuda_sum {
    int64_t r0, a, r1, b, r2;
    int64_t parts, part;
} cuda_sum;

enum { CUDA_SUM_BLOCK = 256 };
/* Threads side by side over the columns; the others of a block share out the rows. v: columns per
   thread. */
int cuda__sum_lanes(int64_t b, int v);

/* from: f32 or bf16. to: f32 if there are several parts, else from (columns: any). */
int cuda__sum_columns(const cuda_device *d, md_dtype from, md_dtype to, const cuda_sum *s,
                      const void *x, void *y);
int cuda__sum_segments(const cuda_device *d, md_dtype from, md_dtype to, const cuda_sum *s,
                       const void *x, void *y);
/* The same for x as a whole (r2 alone is not 1), or the squares of its elements. `part` is a
   multiple of 8. */
int cuda__sum_flat(const cuda_device *d, md_dtype from, md_dtype to, bool squares,
                   const cuda_sum *s, const void *x, void *y);
/* y: the large tensor, x: the small one */
int cuda__repeat(const cuda_device *d, md_dtype t, const cuda_broadcast *shape, const void *x,
                 void *y);

#ifdef __cplusplus
}
#endif
#endif
