/* Inside the importers: one picture of the list from its files to the model's square. */
#ifndef MD_STORE_IMPORT_READ_H
#define MD_STORE_IMPORT_READ_H

#include "base/sha256.h"
#include "image/fit.h"
#include "image/image.h"
#include "image/resize.h"
#include "store/import.h"

typedef struct import_pixels {
    image rgb;  /* [h,w,3] as in the file, orientation applied */
    image mask; /* [h,w,1] of 0 and 1: the union of its masks; all zero for DATA_HEALTHY */
    char sha256[MD_SHA256_HEX]; /* of the image file */
    int orientation;            /* EXIF 1..8 of the image; 1: as stored */
    int mask_orientation;       /* of a mask that has another, or the image's */
} import_pixels;

/* Reads and checks picture p: BAD_INPUT naming the files when one cannot be read, sizes differ, a
   lesion's mask file is empty or a healthy image's is not. Outlines may mark nothing of it. Free
   with import__pixels_free, also after a failure. */
MD_MUST md_status import__read(const import_list *list, const import_picture *p,
                               import_pixels *out);
void import__pixels_free(import_pixels *px);

/* The part of an h x w source that is shown, and where in the square: fills row->size, valid,
 * source. */
MD_MUST md_status import__place(int64_t h, int64_t w, image_fit_mode fit, int64_t size,
                                data_row *row);
/* A square part of the source that fills the whole picture. */
void import__place_box(int64_t h, int64_t w, image_box box, int64_t size, data_row *row);
/* Draws what row says: rgb [S,S,3], and mask [S,S], 1 where at least half of the pixel is. Outside
   row->valid: 0. */
MD_MUST md_status import__draw_image(const import_pixels *px, const data_row *row, int64_t size,
                                     image_filter filter, uint8_t *rgb);
MD_MUST md_status import__draw_mask(const import_pixels *px, const data_row *row, int64_t size,
                                    image_filter filter, uint8_t *mask);

#endif
