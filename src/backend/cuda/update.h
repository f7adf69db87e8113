/* Launchers of update.cu: ops that change tensors in place, all flat. Each returns the launch's
   error code, 0 if there is none. n elements unless said otherwise. */
#ifndef MD_BACKEND_CUDA_UPDATE_H
#define MD_BACKEND_CUDA_UPDATE_H

#include "backend/cuda/internal.h"

#ifdef __cplusplus
extern "C" {
#endif

int cuda__copy_launch(void *dst, const void *src, int64_t bytes, int n_sm, gpu_stream stream);
/* F32 or BF16 */
int cuda__accumulate_launch(void *dst, const void *src, md_dtype dtype, int64_t n, int n_sm,
                            gpu_stream stream);
int cuda__ema_launch(float *e, const float *p, const float *decay, int64_t n, int n_sm,
                     gpu_stream stream);

/* As md_adamw has it; shadow and scales may be NULL. */
typedef struct cuda_adamw_args {
    int64_t n;
    float *p;
    const void *g; /* F32 or BF16 */
    void *m, *v;   /* F32, BF16 or U8 */
    const float *gnorm2, *hyper;
    void *shadow; /* BF16 */
    float *m_scale, *v_scale;
    float b1, b2, a1, a2, eps, weight_decay; /* a = 1 - b */
} cuda_adamw_args;
int cuda__adamw_launch(const cuda_adamw_args *a, md_dtype g, md_dtype states, int n_sm,
                       gpu_stream stream);

#ifdef __cplusplus
}
#endif
#endif
