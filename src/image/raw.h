/* Inside src/image only: what a decoder hands to read.c, before alpha is dropped or thresholded. */
#ifndef MD_IMAGE_RAW_H
#define MD_IMAGE_RAW_H

#include "image/image.h"

/* px: [h,w,c], c = 1 gray, 2 gray+alpha, 3 RGB, 4 RGBA; orientation: EXIF 1..8, 1 when absent. */
typedef struct image_raw {
    int64_t h, w;
    int c, orientation;
    uint8_t *px;
} image_raw;

/* Zeroed. Checks the limits; `name` is the file in messages. */
MD_MUST md_status image__raw_new(const char *name, image_raw *out, int64_t h, int64_t w, int c);
/* MD_BAD_INPUT unless 1 <= h,w <= IMAGE_SIDE_MAX and h*w <= IMAGE_PIXELS_MAX. */
MD_MUST md_status image__check_size(const char *name, int64_t h, int64_t w);

MD_MUST md_status image__decode_png(const char *name, const uint8_t *bytes, size_t n,
                                    image_raw *out);
MD_MUST md_status image__decode_jpeg(const char *name, const uint8_t *bytes, size_t n,
                                     image_raw *out);
MD_MUST md_status image__decode_bmp(const char *name, const uint8_t *bytes, size_t n,
                                    image_raw *out);
/* A mask's pixels [h,w], before they become 0 and 1: MD_BAD_INPUT naming the levels when one of
   them fills areas and is neither black nor white. */
MD_MUST md_status image__check_levels(const char *name, const uint8_t *px, int64_t h, int64_t w,
                                      bool lossy);
/* Orientation (tag 0x0112) of a TIFF-structured EXIF block (from "II*" or "MM*" on); 1 when absent.
 */
int image__exif_orientation(const uint8_t *tiff, size_t n);

#endif
