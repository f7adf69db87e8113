/* Resizing by separable filters whose support grows with the shrinking factor (antialiased), and
   nearest; u8 images bit-equal to PIL 10's Image.resize for the filters that both have
   (libImaging/Resample.c), float planes for masks and latents. */
#ifndef MD_IMAGE_RESIZE_H
#define MD_IMAGE_RESIZE_H

#include "image/image.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum image_filter {
    IMAGE_NEAREST,
    IMAGE_BOX,      /* as PIL: whole source pixels whose centre lies in the cell */
    IMAGE_BILINEAR, /* triangle */
    IMAGE_BICUBIC,  /* a = -0.5 */
    IMAGE_LANCZOS,  /* a = 3 */
    IMAGE_AREA /* exact average over the cell, partial pixels included; no counterpart in PIL */
} image_filter;

/* A part of a source, in its pixels; edges may lie between pixels. */
typedef struct image_box {
    double y0, x0, y1, x1;
} image_box;

/* src [h,w,c] -> out [h,w,c], owned by the caller. */
MD_MUST md_status image_resize(const image *src, int64_t h, int64_t w, image_filter filter,
                               image *out);
/* The same for the part `box` of src, which must lie inside it. */
MD_MUST md_status image_resize_box(const image *src, image_box box, int64_t h, int64_t w,
                                   image_filter filter, image *out);

/* A part of a mask [h,w,1] of 0 and 1: 1 where at least half of the pixel is covered. IMAGE_AREA:
   by exact areas; any other filter: as PIL resizes 0 and 255 to 8 bits, then 1 from 128 on. */
MD_MUST md_status image_resize_mask_box(const image *src, image_box box, int64_t h, int64_t w,
                                        image_filter filter, image *out);

/* src [sh,sw] -> dst [h,w], both the caller's, any filter, f32 with f64 sums. */
MD_MUST md_status image_resize_plane(const float *src, int64_t sh, int64_t sw, float *dst,
                                     int64_t h, int64_t w, image_filter filter);
/* The same for the part `box` of src, which must lie inside it. */
MD_MUST md_status image_resize_plane_box(const float *src, int64_t sh, int64_t sw, image_box box,
                                         float *dst, int64_t h, int64_t w, image_filter filter);
/* dst = the largest source value under each cell, partly covered pixels included. */
MD_MUST md_status image_max_pool_plane(const float *src, int64_t sh, int64_t sw, float *dst,
                                       int64_t h, int64_t w);

#ifdef __cplusplus
}
#endif
#endif
