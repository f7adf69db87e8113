/* Fitting an image of any shape into the model's square, with the map that takes it back. */
#ifndef MD_IMAGE_FIT_H
#define MD_IMAGE_FIT_H

#include "image/image.h"
#include "image/resize.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum image_fit_mode {
    IMAGE_LETTERBOX, /* the whole image, centred, the rest black */
    IMAGE_CROP,      /* the largest centred square */
    IMAGE_SQUASH     /* the whole image, aspect ratio lost */
} image_fit_mode;

/* A point (x,y) of the source, in pixels with (0,0) the upper left corner of the first one, lies at
   (x*sx + ox, y*sy + oy) in the square. y0 x0 y1 x1: the square's pixels that show the source
   (half-open). Plain numbers, to be stored. */
typedef struct image_fit_map {
    int32_t mode;
    int64_t src_h, src_w, size;
    double sy, sx, oy, ox;
    int64_t y0, x0, y1, x1;
} image_fit_map;

/* "letterbox" "crop" "squash" -> mode; MD_USAGE otherwise. */
MD_MUST md_status image_fit_mode_parse(const char *name, image_fit_mode *out);

/* The map alone, from the source's size. */
MD_MUST md_status image_fit_map_make(int64_t src_h, int64_t src_w, int64_t size,
                                     image_fit_mode mode, image_fit_map *out);
/* src -> dst [size,size,c], by an antialiased filter (bilinear is the reference's). map may be
 * NULL. */
MD_MUST md_status image_fit(const image *src, int64_t size, image_fit_mode mode,
                            image_filter filter, image *dst, image_fit_map *map);
/* A mask [h,w,1] of 0/1: a pixel is 1 when the mask covers at least half of it. */
MD_MUST md_status image_fit_mask(const image *src, int64_t size, image_fit_mode mode, image *dst,
                                 image_fit_map *map);

/* Back to [src_h,src_w,c]. What the square does not show (crop) comes from `base`, an image of the
   source's size, or is black when base is NULL. */
MD_MUST md_status image_unfit(const image *fitted, const image_fit_map *map, const image *base,
                              image_filter filter, image *out);
/* The mask version: outside the crop is 0. */
MD_MUST md_status image_unfit_mask(const image *fitted, const image_fit_map *map, image *out);

#ifdef __cplusplus
}
#endif
#endif
