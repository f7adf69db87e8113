/* The shape of a mask in numbers, and how alike two shapes are once place, size, turn and mirroring
   no longer count. */
#ifndef MD_IMAGE_SHAPE_H
#define MD_IMAGE_SHAPE_H

#include "image/mask.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Of a mask [S,S,1]. An empty one has zeros. */
enum {
    IMAGE_SHAPE_AREA,         /* share of the square */
    IMAGE_SHAPE_PERIMETER,    /* in edges of the square; Crofton's formula in four directions */
    IMAGE_SHAPE_ECCENTRICITY, /* of the ellipse with the same second moments: 0 a disc, to 1 a line
                               */
    IMAGE_SHAPE_SOLIDITY,     /* area over that of the convex hull */
    IMAGE_SHAPE_Y,            /* centroid, in edges of the square */
    IMAGE_SHAPE_X,
    IMAGE_SHAPE_N
};
typedef struct image_shape {
    double value[IMAGE_SHAPE_N];
    int64_t components, holes;
    int64_t border; /* pixels in the outermost rows and columns */
} image_shape;
const char *image_shape_name(int value); /* "area" and so on */
MD_MUST md_status image_shape_measure(const image *mask, image_shape *out);

/* A mask seen so that its centroid is the middle and its area a fixed share of a small grid. */
enum { IMAGE_FORM_EDGE = 64, IMAGE_FORM_TURNS = 48 };
typedef struct image_form {
    int64_t area;
    uint64_t row[IMAGE_FORM_EDGE];
} image_form;
MD_MUST md_status image_form_make(const image *mask, image_form *out);
/* all [2 IMAGE_FORM_TURNS], the caller's: turned in steps of 360 / IMAGE_FORM_TURNS degrees, as it
   is and mirrored; the first is image_form_make's. */
MD_MUST md_status image_form_turned(const image *mask, image_form *all);
/* The largest intersection over union of `a` with any of the forms turned[2 IMAGE_FORM_TURNS]: of
   the two masks after alignment by similarity. 1 when both are empty. */
double image_form_iou(const image_form *a, const image_form *turned);

#ifdef __cplusplus
}
#endif
#endif
