/* Launcher of softmax.cu; returns the launch's error code, or 0. */
#ifndef MD_BACKEND_CUDA_SOFTMAX_H
#define MD_BACKEND_CUDA_SOFTMAX_H

#include "backend/cuda/internal.h"

#ifdef __cplusplus
extern "C" {
#endif

/* logits f32[rows,ld], of which `cols` columns count -> p bf16[rows,ld], each row's softmax, and
   lse f32[rows], the natural logarithm of its sum of exp. ld: a multiple of 4; logits and p at
   multiples of 16 bytes. What p has behind the columns is undefined. */
int cuda__softmax_launch(const cuda_device *d, const float *logits, int64_t rows, int64_t cols,
                         int64_t ld, void *p, float *lse);

#ifdef __cplusplus
}
#endif
#endif
