/* Drawing for people: outlines of masks, text in a built-in 5 x 7 font, sheets of many images. */
#ifndef MD_IMAGE_SHEET_H
#define MD_IMAGE_SHEET_H

#include "image/image.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct image_color {
    uint8_t r, g, b;
} image_color;

/* Colours the mask's pixels that lie within `px` of its edge, inside it; im [h,w,3] and mask
   [h,w,1] of one size. What the outline covers is the mask's own border, so nothing outside is
   hidden. */
MD_MUST md_status image_draw_outline(image *im, const image *mask, image_color color, double px);
/* Mixes the colour into the mask's pixels: opacity 0..1. */
MD_MUST md_status image_draw_tint(image *im, const image *mask, image_color color, double opacity);
/* Text with its upper left corner at (y,x), clipped; 6 x 8 pixels a character times `scale`, lower
   case drawn as upper, unknown characters as a box. im [h,w,3]. */
void image_draw_text(image *im, int64_t y, int64_t x, const char *text, image_color color,
                     int scale);
void image_fill_rect(image *im, int64_t y0, int64_t x0, int64_t y1, int64_t x1, image_color color);

/* A grid of cells of h x w pixels, `margin` around each, with a line for captions under each cell
   when `captions`. */
typedef struct image_sheet {
    image im; /* [.,.,3], owned */
    int64_t rows, cols, h, w, margin, caption;
} image_sheet;
MD_MUST md_status image_sheet_new(image_sheet *out, int64_t rows, int64_t cols, int64_t h,
                                  int64_t w, int64_t margin, int captions);
void image_sheet_free(image_sheet *s);
/* Puts `im` (gray or RGB, letterboxed and resized when it is no h x w) into a cell; caption may be
   NULL and is cut to the cell's width. */
MD_MUST md_status image_sheet_put(image_sheet *s, int64_t row, int64_t col, const image *im,
                                  const char *caption);
/* Images of one height (any channels) side by side with a gap; out is RGB. */
MD_MUST md_status image_side_by_side(const image *const *images, int64_t n, int64_t gap,
                                     image *out);

#ifdef __cplusplus
}
#endif
#endif
