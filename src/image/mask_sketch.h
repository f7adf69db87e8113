/* What a mask is before its outline: an ellipse of its area, place and second moments, and how
   ragged it is. The mask generator is told so beside the noise (concatenated, as Saharia et al.
   2021, arXiv:2104.07636, do with an image), since a small network that must find everything at
   once makes all outlines alike (tests/quality/masks.md). */
#ifndef MD_IMAGE_MASK_SKETCH_H
#define MD_IMAGE_MASK_SKETCH_H

#include "image/mask_field.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is blurred and seen against the training masks' spread. */
enum {
    IMAGE_SKETCH_RATIO,    /* log of the ellipse's long axis over its short one */
    IMAGE_SKETCH_SOLIDITY, /* area over that of the convex hull */
    IMAGE_SKETCH_RIM,      /* perimeter over that of a disc of the same area */
    IMAGE_SKETCH_N
};

/* Lengths in edges of the square. */
typedef struct image_sketch {
    double area, y, x; /* share of the square; centroid */
    double angle;      /* of the long axis, from x to y, in radians */
    double value[IMAGE_SKETCH_N];
} image_sketch;

typedef struct image_sketch_spread {
    double mean[IMAGE_SKETCH_N], deviation[IMAGE_SKETCH_N];
} image_sketch_spread;

/* Of a picture [edge,edge] of mask_field.h, cut at 0. Nothing in it: area 0, a disc's values. */
MD_MUST md_status image_sketch_measure(const image_field_view *v, const float *picture,
                                       image_sketch *out);
/* Of n fields [n,size,size] as they lie. */
MD_MUST md_status image_sketch_spread_of(const image_field_view *v, const float *fields, int64_t n,
                                         image_sketch_spread *out);
/* Moves the values by a tenth of their spread (normal), so that nobody's sketch is known exactly.
 */
void image_sketch_blur(image_sketch *s, const image_sketch_spread *of, md_rng *r);

/* planes [edge,edge,IMAGE_SKETCH_PLANES], the caller's: the ellipse as a picture (its signed
   distance to first order), then solidity and rim, in deviations from their mean, at most 3, over
   the whole square. */
enum { IMAGE_SKETCH_PLANES = 3 };
void image_sketch_draw(const image_sketch *s, const image_sketch_spread *of,
                       const image_field_view *v, float *planes);

/* What was drawn by n sketches that were told against `of`: adjusts it, that solidity and rim as
   drawn have the mean and the spread that were meant. Within a deviation of the mean that was
   trained, as little more was seen, and between half of its deviation and all of it: what is
   followed weakly is told more strongly, what is drawn too widely not less. */
void image_sketch_spread_adjust(const image_sketch_spread *trained, const image_sketch *told,
                                const image_sketch *drawn, int n, image_sketch_spread *of);

/* The planes of a picture's sketch, blurred: what training and sampling give the network. */
MD_MUST md_status image_sketch_planes(const image_field_view *v, const float *picture,
                                      const image_sketch_spread *of, md_rng *r, float *planes);

#ifdef __cplusplus
}
#endif
#endif
