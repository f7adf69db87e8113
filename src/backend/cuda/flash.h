/* Launchers of flash.cu. Each returns the first launch's error code that is not 0. */
#ifndef MD_BACKEND_CUDA_FLASH_H
#define MD_BACKEND_CUDA_FLASH_H

#include "backend/cuda/internal.h"

#ifdef __cplusplus
extern "C" {
#endif

/* q, out, dout, dq [N,T,heads*d]; k, v, dk, dv [N,S,heads*d]; lse, delta [N,heads,T] f32. */
typedef struct cuda_flash_shape {
    int64_t N, T, S;
    int heads, d;
    float scale;
    bool causal;
    md_dtype dtype; /* F32 or BF16 */
} cuda_flash_shape;

typedef struct cuda_flash_args {
    const void *q, *k, *v;
    void *out; /* written by the forward, read by the gradient, as lse is */
    float *lse;
    const void *dout;
    float *delta; /* scratch: dout . out per head and query */
    void *dq, *dk, *dv;
} cuda_flash_args;

int cuda__flash_launch(const cuda_flash_shape *z, const cuda_flash_args *a, int n_sm,
                       gpu_stream stream);
int cuda__flash_grad_launch(const cuda_flash_shape *z, const cuda_flash_args *a, int n_sm,
                            gpu_stream stream);

#ifdef __cplusplus
}
#endif
#endif
