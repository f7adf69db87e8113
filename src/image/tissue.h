/* Where a picture shows tissue: not the black margins of an ultrasound machine with what is written
   into them, not the dark corners of a round field of view. For placing lesions. */
#ifndef MD_IMAGE_TISSUE_H
#define MD_IMAGE_TISSUE_H

#include "image/image.h"

#ifdef __cplusplus
extern "C" {
#endif

/* rgb [S,S,3], S a multiple of 64; valid {y0,x0,y1,x1}: the part that shows the source. out
   [S,S,1], the caller's: 1 inside `valid` but for
   - what is dark and joined over dark to the edge of `valid`: darker than half of what three
     quarters of the lit picture reach, within 14 to 80 of 255; lines thinner than a fiftieth of the
     side (hairs, rulers) count only where they are black;
   - what is thinner than a twelfth of the side beside that, or a fifth of the largest part at most:
     letters, scale bars, pictograms.
   Writing over tissue is not recognised. Works on squares of S / 128 to S / 256 pixels. */
MD_MUST md_status image_tissue(const image *rgb, const int32_t valid[4], image *out);

#ifdef __cplusplus
}
#endif
#endif
