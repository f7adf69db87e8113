/* Masks as smooth pictures, for a network that draws them: the signed distance to the mask's edge,
   cut off at a ramp's width, in [-1,1]. Smooth where a mask jumps, so that a small picture keeps
   the edge's place within a fraction of its pixels, and a level other than 0 grows or shrinks the
   mask. */
#ifndef MD_IMAGE_MASK_FIELD_H
#define MD_IMAGE_MASK_FIELD_H

#include "base/rng.h"
#include "image/mask.h"

#ifdef __cplusplus
extern "C" {
#endif

/* d [h,w], the caller's: pixels from each pixel's centre to the mask's edge, positive inside. A
   mask that is empty or full has no edge: +-(h + w). */
MD_MUST md_status image_mask_field(const image *mask, float *d);

/* A map of pictures of `edge` pixels to fields of `size`: both show the same square. */
typedef struct image_field_view {
    int64_t size, edge;
    double ramp_px; /* distance at which the picture is 1, in the field's pixels */
} image_field_view;

/* A small move drawn from r: at strength 1 turned by up to 15 degrees, scaled by up to 15 %,
   shifted by up to 5 % of the edge, evenly, and mirrored half of the time; at 0 none of it. */
image_affine image_affine_jitter(md_rng *r, double strength, double edge);

/* picture [edge,edge], the caller's = clamp(d / ramp_px, -1, 1) of the field [size,size] of a mask
   that was moved by `a` (image_affine_make), its distances scaled along. Beyond the field its
   border repeats. */
void image_field_picture(const image_field_view *v, const float *field, const image_affine *a,
                         float *picture);
/* As a network learns a mask: moved by image_affine_jitter (strength `move`) and bent, an elastic
   deformation (Simard et al. 2003) by waves of about four radii of a disc of the mask's area, so
   that small masks are bent as large ones are. `warp`: root mean square of each component of the
   displacement, in such radii; 0: none, and nothing more is drawn from r. Bent, areas and distances
   change, too (by 0.2: areas by a fifth, one standard deviation); from 0.3 on it folds. */
void image_field_augment(const image_field_view *v, const float *field, double move, double warp,
                         md_rng *r, float *picture);
/* out [size,size,1], new: 1 where the picture, moved by `a` (in pixels of the mask), lies above
   `level`. Between pixels a Catmull-Rom spline. */
MD_MUST md_status image_picture_mask(const image_field_view *v, const float *picture,
                                     const image_affine *a, double level, image *out);

#ifdef __cplusplus
}
#endif
#endif
