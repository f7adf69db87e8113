/* Masks: [h,w,1] images of 0 and 1 (any other value counts as 1). Morphology by discs through the
   exact Euclidean distance between pixel centres, components, holes, measures, affine warps.
   What lies outside the image is unknown: it neither erodes nor grows a mask that touches the
   border. */
#ifndef MD_IMAGE_MASK_H
#define MD_IMAGE_MASK_H

#include "image/image.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Squared distance from each pixel to the nearest pixel whose value is `target` (0 or 1; 1 stands
   for any non-zero one); INT64_MAX everywhere when there is none. d2: [h,w], the caller's. Exact;
   Meijster, Roerdink, Hesselink, "A general algorithm for computing distance transforms in linear
   time", 2000. */
MD_MUST md_status image_mask_distance2(const image *mask, int target, int64_t *d2);

/* out = the pixels whose distance to the background is more than r (a disc of radius r, dy^2 + dx^2
   <= r^2, fits). r = 0 copies; r < 0 is MD_INTERNAL. out is new, the caller's; so below. */
MD_MUST md_status image_mask_erode(const image *mask, double r, image *out);
/* out = the pixels within r of the mask. */
MD_MUST md_status image_mask_dilate(const image *mask, double r, image *out);
/* alpha [h,w], the caller's: 0 outside; inside clamp((d - 0.5) / px, 0, 1), d the distance to the
   nearest outside pixel, so 0 at the edge and 1 from px inward. px <= 0: alpha is the mask. */
MD_MUST md_status image_mask_feather(const image *mask, double px, float *alpha);

/* Pixels joined over sides and corners (8 neighbours). *n their number. labels, if not NULL: [h,w]
   of 0 (background) and 1..n in scan order, the caller's. areas, if not NULL: receives an array of
   n areas that the caller frees (NULL when n = 0). */
MD_MUST md_status image_mask_components(const image *mask, int64_t *n, int32_t *labels,
                                        int64_t **areas);
/* Fills background that no path over sides joins to the border. */
MD_MUST md_status image_mask_fill_holes(const image *mask, image *out);

/* Adds a filled polygon: sets the pixels whose centres lie in it or on its left or right edge, by
   the nonzero rule, so that the loops of a freehand outline count. xy [n,2] x and y where pixel
   (x,y) has its centre at (x,y); finite. Closed from the last point to the first. Parts beyond the
   mask are cut off. */
MD_MUST md_status image_mask_fill_polygon(image *mask, const double *xy, int64_t n);

typedef struct image_mask_stats {
    int64_t area, n_components;
    int64_t border;         /* mask pixels in the outermost rows and columns */
    double cy, cx;          /* centroid in pixel centres; 0 when empty */
    int64_t y0, x0, y1, x1; /* box, half-open; all 0 when empty */
} image_mask_stats;
MD_MUST md_status image_mask_measure(const image *mask, image_mask_stats *out);

/* mask [S,S,1] -> out [edge,edge], edge a divisor of S: a latent's view of it. */
typedef enum image_mask_pooling {
    IMAGE_POOL_AREA,   /* the covered share */
    IMAGE_POOL_MAX,    /* 1 where any pixel is */
    IMAGE_POOL_NEAREST /* the upper left pixel of each square: torch's interpolate(mode="nearest")
                        */
} image_mask_pooling;
MD_MUST md_status image_mask_pool(const image *mask, int64_t edge, image_mask_pooling how,
                                  float *out);

/* Elementwise on equal sizes, in place on a. */
MD_MUST md_status image_mask_union(image *a, const image *b);
/* Dice = 2|A n B| / (|A|+|B|); 1 when both are empty. */
MD_MUST md_status image_mask_dice(const image *a, const image *b, double *dice);

/* Where an output point comes from, both relative to the image centre, in pixels:
   source (x,y) = (m[0]*x + m[1]*y + m[2], m[3]*x + m[4]*y + m[5]). */
typedef struct image_affine {
    double m[6];
} image_affine;
/* The source is mirrored left-right (flip), scaled by `scale` (> 1 is larger), turned by `degrees`
   (clockwise on the screen), then moved by (dx,dy) pixels. */
image_affine image_affine_make(int flip, double degrees, double scale, double dx, double dy);
/* out [h,w] of the source's size: 1 where at least half of the pixel's area comes from the mask, by
   a grid of samples as dense as the map demands. Beyond the source is background. */
MD_MUST md_status image_mask_warp(const image *mask, const image_affine *a, image *out);
/* The same map for pixels: bilinear, averaged over the grid; beyond the source its border repeats.
 */
MD_MUST md_status image_warp(const image *src, const image_affine *a, image *out);

#ifdef __cplusplus
}
#endif
#endif
