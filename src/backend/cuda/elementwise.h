/* Launchers of elementwise.cu: each returns the error code of its launch. f32 or bf16. */
#ifndef MD_BACKEND_CUDA_ELEMENTWISE_H
#define MD_BACKEND_CUDA_ELEMENTWISE_H

#include "backend/cuda/internal.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A tensor of which another one is a broadcast part, neighbouring dims that the small one treats
   alike made one: the last n of dim, the rest are 1. stride: of the small one, 0 where it is
   repeated. The last dim's stride is 0 or 1. */
typedef struct cuda_broadcast {
    int n;
    int64_t dim[MD_MAX_DIMS], stride[MD_MAX_DIMS];
} cuda_broadcast;
cuda_broadcast cuda__broadcast(const md_tensor *large, const md_tensor *small);

/* y = a op b; op: add, sub, mul */
int cuda__binary(const cuda_device *d, md_op op, md_dtype t, const cuda_broadcast *shape,
                 const void *a, const void *b, void *y);
int cuda__affine(const cuda_device *d, md_dtype t, int64_t n, float alpha, float beta,
                 const void *x, void *y);
/* kind: not NONE */
int cuda__act(const cuda_device *d, md_dtype t, int64_t n, md_act kind, float lo, float hi,
              const void *x, void *y);
int cuda__act_grad(const cuda_device *d, md_dtype t, int64_t n, md_act kind, float lo, float hi,
                   const void *dy, const void *x, void *dx);
/* x, dx [rows, 2 width]; y, dy [rows, width] */
int cuda__geglu(const cuda_device *d, md_dtype t, int64_t rows, int64_t width, const void *x,
                void *y);
int cuda__geglu_grad(const cuda_device *d, md_dtype t, int64_t rows, int64_t width, const void *dy,
                     const void *x, void *dx);
/* from one float type to the other */
int cuda__cast(const cuda_device *d, md_dtype from, int64_t n, const void *x, void *y);

#ifdef __cplusplus
}
#endif
#endif
