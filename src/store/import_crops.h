/* Lesion-free squares of lesion images: the backgrounds of data sets that have no healthy images.
 */
#ifndef MD_STORE_IMPORT_CROPS_H
#define MD_STORE_IMPORT_CROPS_H

#include "image/image.h"

enum { IMPORT_MAX_CROPS = 16 };

typedef struct import_square {
    int64_t y, x, side; /* source pixels */
} import_square;

/* The largest squares of `im` [h,w,c], one after the other, that touch neither each other nor the
   mask [h,w,1] grown by 5 % of the short side, nor the dark corners of a round field of view. At
   most max_n
   (<= IMPORT_MAX_CROPS) into out, none smaller than min_side or than a quarter of the short side.
 */
MD_MUST md_status import__squares(const image *im, const image *mask, int64_t min_side, int max_n,
                                  import_square *out, int *n);

#endif
