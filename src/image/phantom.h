/* Phantoms: drawn pictures that resemble skin and ultrasound, with a lesion whose mask is exact.
   For tests, for the quickstart, and as a data set on which every number can be checked. They are
   no medical images and teach a segmenter nothing about real ones. */
#ifndef MD_IMAGE_PHANTOM_H
#define MD_IMAGE_PHANTOM_H

#include <stdbool.h>
#include <stdint.h>

#include "image/image.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { PHANTOM_SIDE_MAX = 512 };

typedef enum phantom_kind { PHANTOM_SKIN, PHANTOM_ULTRASOUND } phantom_kind;

typedef struct phantom {
    phantom_kind kind;
    uint64_t seed, item;
    int size;    /* side in pixels, 64..PHANTOM_SIDE_MAX; details scale with it */
    bool lesion; /* false: the same background without it */
    bool spiky;  /* the border: malignant-looking, or smooth */
    /* Every picture has 0 to so many patches of a lesion's size that are none: with soft edges, in
       skin red ones. They do not move the rest. */
    int distractors;
} phantom;

/* rgb [size,size,3] (ultrasound: three equal channels) and mask [size,size,1] of 0/1, one connected
   lesion of 4 to 25 % of the area (all 0 without lesion); both owned by the caller. The lesion
   changes no pixel outside its mask: drawn with and without it, an item differs inside only. A pure
   function of *p. mask may be NULL. */
MD_MUST md_status phantom_draw(const phantom *p, image *rgb, image *mask);

#ifdef __cplusplus
}
#endif
#endif
