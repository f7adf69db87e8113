/* Launchers of embed.cu: each returns the error code of its launch. An id outside the table leaves
   CUDA_FAULT_EMBEDDING_ID in the device's fault word and counts as a row of zeros. */
#ifndef MD_BACKEND_CUDA_EMBED_H
#define MD_BACKEND_CUDA_EMBED_H

#include "backend/cuda/internal.h"

#ifdef __cplusplus
extern "C" {
#endif

/* y[i] = table[ids[i]]; table [vocab][width bytes], a multiple of 2 */
int cuda__embedding(const cuda_device *d, int64_t n, int64_t vocab, int64_t width,
                    const int32_t *ids, const void *table, void *y);
/* dtable[v] = sum of dy[i] with ids[i] == v, in the order of i; dtable [vocab, width elements] */
int cuda__embedding_grad(const cuda_device *d, md_dtype t, int64_t n, int64_t vocab, int64_t width,
                         const void *dy, const int32_t *ids, void *dtable);
/* t [n] -> y [n, 2 half]; attr.temb as in ops.h */
int cuda__timestep_embedding(const cuda_device *d, int64_t n, int64_t half, double max_period,
                             double shift, bool flip, const float *t, float *y);

#ifdef __cplusplus
}
#endif
#endif
