/* Pixels: the one image type, reading PNG, JPEG and BMP, writing PNG, small conversions.
   Resizing lives in resize.h, fitting to the model's square in fit.h, 0/1 masks in mask.h, drawing
   and contact sheets in sheet.h. Only this room names libpng and libjpeg. */
#ifndef MD_IMAGE_IMAGE_H
#define MD_IMAGE_IMAGE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define IMAGE_SIDE_MAX   32768
#define IMAGE_PIXELS_MAX ((int64_t)512 << 20)

/* px: [h,w,c] u8, rows top-down, owned by the image (image_free). c is 1 (gray, or a mask of 0/1)
   or 3 (RGB). An all-zero image is valid to free. Functions that fill `out` overwrite the struct:
   they do not free what it held before, and they leave it untouched when they fail. */
typedef struct image {
    int64_t h, w;
    int c;
    uint8_t *px;
} image;

/* Zeroed pixels. MD_BAD_INPUT when a side or the product passes the limits above. */
MD_MUST md_status image_new(image *out, int64_t h, int64_t w, int c);
MD_MUST md_status image_copy(const image *src, image *out);
void image_free(image *im); /* leaves {0}; NULL is fine */

/* Reads PNG, JPEG or BMP, told apart by content, never by name. Every message names the file.
   - EXIF orientation (JPEG, PNG eXIf) is applied: all eight.
   - gray stays c = 1; gray + alpha, palette, 1/2/4-bit, RGB, RGBA become 8-bit gray or RGB.
   - alpha is dropped, as PIL's convert("RGB") does; image_read_mask is the one that looks at it.
   - refused with a hint: 16-bit PNG, DICOM, CMYK JPEG, 12-bit JPEG, compressed or 16-bit BMP,
   others.
   - a truncated or corrupt file is MD_BAD_INPUT, never a partial image. Missing: as md_file_read.
 */
MD_MUST md_status image_read(const char *path, image *out);
/* The same from memory; `name` is what messages say. */
MD_MUST md_status image_read_memory(const char *name, const void *bytes, size_t n, image *out);

/* A mask, [h,w,1] of 0 and 1. A pixel is 1 when the brightest of its channels, times its alpha, is
   at least half of the range (128); so coloured annotations count, and transparent pixels never do.
   A PNG or BMP whose values are only 0 and 1 is taken as a label map (1 = lesion). Edges may have
   any values; MD_BAD_INPUT naming the values when one that is neither black nor white fills areas:
   other labels, halves of 100 and 200. */
MD_MUST md_status image_read_mask(const char *path, image *out);
MD_MUST md_status image_read_mask_memory(const char *name, const void *bytes, size_t n, image *out);

/* The same two from memory, with what the pixels no longer tell. */
typedef struct image_about {
    int orientation;        /* EXIF 1..8, which was applied; 1: as stored */
    int largest, threshold; /* of a mask: its brightest value, and the one from which on it is 1 */
} image_about;
MD_MUST md_status image_read_about(const char *name, const void *bytes, size_t n, image *out,
                                   image_about *about);
MD_MUST md_status image_read_mask_about(const char *name, const void *bytes, size_t n, image *out,
                                        image_about *about);

/* Gray -> three equal channels; RGB is copied. */
MD_MUST md_status image_to_rgb(const image *src, image *out);
/* RGB -> gray by ITU-R 601 luma in 16-bit fixed point, as PIL's convert("L"); gray is copied. */
MD_MUST md_status image_to_gray(const image *src, image *out);

/* RGB whose three channels are equal everywhere; and making it so, by their rounded mean. */
bool image_looks_gray(const image *rgb);
void image_make_gray(image *rgb);

/* Optional PNG tEXt/iTXt pairs (keyword 1..79 Latin-1 characters, text UTF-8). */
typedef struct image_text {
    const char *key, *text;
} image_text;

/* Writes under a temporary name, syncs, renames. text may be NULL with n_text = 0. */
MD_MUST md_status image_write_png(const char *path, const image *im, const image_text *text,
                                  int n_text);
/* [h,w,1] of 0/1 -> 8-bit gray of 0/255. */
MD_MUST md_status image_write_mask(const char *path, const image *mask);
/* Encodes into malloc'ed memory that the caller frees. */
MD_MUST md_status image_encode_png(const image *im, const image_text *text, int n_text,
                                   void **bytes, size_t *n);

/* 10 log10(255^2 / MSE) over all channels; INFINITY when equal. Sizes must agree: MD_SHAPE. */
MD_MUST md_status image_psnr(const image *a, const image *b, double *db);

#ifdef __cplusplus
}
#endif
#endif
