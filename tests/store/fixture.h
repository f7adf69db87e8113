/* Tiny data sets in the importers' layouts, written without the program's own image code. */
#ifndef TESTS_STORE_FIXTURE_H
#define TESTS_STORE_FIXTURE_H

#include <stdint.h>

typedef enum fixture_type { FIXTURE_GRAY1, FIXTURE_GRAY8, FIXTURE_RGB, FIXTURE_RGBA } fixture_type;

/* px: [h,w,c] with c = 1, 1, 3, 4; GRAY1 takes 0 and not 0. */
void fixture_png(const char *path, fixture_type type, int h, int w, const uint8_t *px);
/* A picture of random soft blocks, the same for the same id; unlike the others for the hash. */
void fixture_image(const char *path, int id, int h, int w);
/* A mask with one rectangle {y0,x0,y1,x1} of ones. */
void fixture_mask(const char *path, fixture_type type, int h, int w, const int box[4]);
/* The same as a BMP of 1 bit with a palette of black and white, bottom-up. */
void fixture_bmp1(const char *path, int h, int w, const int box[4]);
void fixture_dir(const char *path); /* with parents */
void fixture_text(const char *path, const char *text);
void fixture_copy(const char *from, const char *to);

#endif
