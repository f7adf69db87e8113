/* The real images that pairs are compared with: the chosen training images and their lesions'
   boxes, as features, each in eight views: as it is and mirrored, since a mirrored copy is a copy,
   and each of these as it looks after resampling. A copy that was turned, scaled or decoded has
   lost its finest grain, and an encoder sees speckle by its grain: with the first four alone 14 %
   of ultrasound phantoms turned by two degrees go unseen, with all eight 11 %
   (tests/quality/limits.py).
 */
#ifndef MD_GENERATE_REFERENCES_H
#define MD_GENERATE_REFERENCES_H

#include "model/features.h"
#include "store/data.h"

enum { REFERENCES_VIEWS = 8, REFERENCES_NEAREST = 5, REFERENCES_RIM_PX = 3 };

/* What of a picture is compared. */
typedef enum picture_part { PART_WHOLE, PART_LESION, N_PARTS } picture_part;

typedef struct references {
    int64_t n, width;     /* images; numbers of a feature */
    int64_t views;        /* of each image; the first shows it as it is */
    int32_t *id, *group;  /* [n]: rows of data.h5, ascending; equal groups show one patient */
    float *view[N_PARTS]; /* [n,views,width] */
} references;

/* A picture against the references. */
typedef struct likeness {
    float nearest, mean; /* similarity to the nearest, mean of the nearest five; NaN without any */
    int32_t id;          /* of the nearest: row of data.h5; -1 without any */
} likeness;

/* Ids and groups of the used lesion images in the train split, REFERENCES_VIEWS each; their
   features are still to come. */
MD_MUST md_status references_open(const char *data_h5, int64_t width, references *out);
/* Of the lesion images outside of it (val and test), one view each: a yardstick, nothing is
   compared with them. There may be none. */
MD_MUST md_status references_open_holdout(const char *data_h5, int64_t width, references *out);
void references_free(references *r);
/* Computes the features; the encoder is loaded. */
MD_MUST md_status references_encode(references *r, const char *data_h5, features *encoder);

/* The features in a file: atomic, with `key` (what they depend on) and a checksum. *hit is false,
   and nothing has changed, where the file is missing, damaged (a warning says so) or of another
   key. */
MD_MUST md_status references_save(const references *r, const char *path, const char *key);
MD_MUST md_status references_load(references *r, const char *path, const char *key, bool *hit);

/* feature [width] to the nearest view of image i. */
double references_similarity(const references *r, picture_part part, const float *feature,
                             int64_t i);
/* feature [width] against all images but those of group `without` (-1: all). `skip` [n], may be
   NULL: further images to leave out. */
void references_compare(const references *r, picture_part part, const float *feature,
                        int32_t without, const bool *skip, likeness *out);

/* The square {y0,x0,y1,x1} around a mask's box, with edges grown by a fifth; it may reach beyond
   the picture, so that a lesion that was moved to the picture's edge looks as it did. A small
   lesion gets a sixteenth of the picture. The encoder's centre cut (7/8 of the edge) then still
   shows the lesion whole. */
MD_MUST md_status references_box(const image *mask, int64_t box[4]);
/* The lesion alone: that square of rgb [h,w,3] with a flat colour (which an encoder sees as zero)
   outside the picture and where the mask is not, less a rim of REFERENCES_RIM_PX that a paste
   feathers (guide.feather_px). With the surroundings in sight a copied lesion in another background
   goes unseen, since they are half of the box: of 25 planted the tiny encoder knew 5, so it
   knows 24. */
MD_MUST md_status references_lesion(const image *rgb, const image *mask, image *out);

#endif
