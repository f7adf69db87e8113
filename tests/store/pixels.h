/* Pixels of a slot that can be recomputed anywhere from (slot, attempt). */
#ifndef TESTS_STORE_PIXELS_H
#define TESTS_STORE_PIXELS_H

#include <stdint.h>

typedef struct slot_pixels {
    uint8_t *image, *mask, *guide; /* [S,S,3], [S,S], [S,S] */
} slot_pixels;

slot_pixels pixels_make(int side, int slot, int attempt);
void pixels_free(slot_pixels *p);

#endif
