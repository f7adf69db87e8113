/* Launchers of shape.cu: each returns the error code of its launch. What only moves elements takes
   bytes; sizes and addresses are multiples of 2. */
#ifndef MD_BACKEND_CUDA_SHAPE_H
#define MD_BACKEND_CUDA_SHAPE_H

#include "backend/cuda/internal.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Rows of `width` bytes, from_pitch and to_pitch bytes apart. */
int cuda__copy_rows(const cuda_device *d, int64_t rows, int64_t width, const void *from,
                    int64_t from_pitch, void *to, int64_t to_pitch);
/* to [rows][width]: `before` zeros, a row of from [rows][from_width], zeros */
int cuda__pad_rows(const cuda_device *d, int64_t rows, int64_t width, int64_t before,
                   const void *from, int64_t from_width, void *to);
/* x [rows, w, channel bytes] -> y [2 rows, 2 w, channel bytes]; rows: N H */
int cuda__upsample2x(const cuda_device *d, int64_t rows, int64_t w, int64_t channel_bytes,
                     const void *x, void *y);
/* x [2 rows, 2 w, c] -> y [rows, w, c], f32 or bf16 */
int cuda__downsum2x(const cuda_device *d, md_dtype t, int64_t rows, int64_t w, int64_t c,
                    const void *x, void *y);

#ifdef __cplusplus
}
#endif
#endif
