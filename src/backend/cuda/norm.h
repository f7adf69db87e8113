/* Launchers of norm.cu. Each returns the first launch's error code that is not 0. x, y, dy, dx,
   gamma, beta, dgamma, dbeta are of `dtype`, F32 or BF16; mean and rstd f32. */
#ifndef MD_BACKEND_CUDA_NORM_H
#define MD_BACKEND_CUDA_NORM_H

#include "backend/cuda/internal.h"

#ifdef __cplusplus
extern "C" {
#endif

/* x[samples, rows, channels]; layer_norm: one sample, one group per row. The rows of a sample are
   cut into chunks, which give partial results per channel; how depends on the shape alone, so that
   a sample's result does not depend on its company or on the device. */
typedef struct cuda_norm_shape {
    int64_t samples, rows, channels, groups;
    int64_t chunk_rows, chunks;
    double eps;
    bool silu;
    md_dtype dtype;
} cuda_norm_shape;

/* Floats of scratch: a pair per sample, chunk and channel, and one per sample and group. */
static inline int64_t cuda__norm_scratch(const cuda_norm_shape *z)
{
    return 2 * z->samples * (z->chunks * z->channels + z->groups);
}

typedef struct cuda_norm_args {
    const void *dy, *x, *gamma, *beta; /* dy: gradients only; beta: NULL in layer_norm_grad */
    void *y;                           /* or dx */
    void *dgamma, *dbeta;
    float *mean, *rstd; /* written by the forward, read by the gradient */
    float *scratch;
} cuda_norm_args;

int cuda__group_norm_launch(const cuda_norm_shape *z, const cuda_norm_args *a, int n_sm,
                            gpu_stream stream);
int cuda__group_norm_grad_launch(const cuda_norm_shape *z, const cuda_norm_args *a, int n_sm,
                                 gpu_stream stream);
int cuda__layer_norm_launch(const cuda_norm_shape *z, const cuda_norm_args *a, int n_sm,
                            gpu_stream stream);
int cuda__layer_norm_grad_launch(const cuda_norm_shape *z, const cuda_norm_args *a, int n_sm,
                                 gpu_stream stream);

#ifdef __cplusplus
}
#endif
#endif
