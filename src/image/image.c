/* Allocation and small conversions of images. */
#include "image/image.h"
#include "image/raw.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

md_status image__check_size(const char *name, int64_t h, int64_t w)
{
    if (h < 1 || w < 1)
        MD_FAIL(MD_BAD_INPUT, "%s: empty image (%lld x %lld)", name, (long long)w, (long long)h);
    if (h > IMAGE_SIDE_MAX || w > IMAGE_SIDE_MAX)
        MD_FAIL(MD_BAD_INPUT, "%s: %lld x %lld pixels; at most %d a side are read", name,
                (long long)w, (long long)h, IMAGE_SIDE_MAX);
    if (h * w > IMAGE_PIXELS_MAX)
        MD_FAIL(MD_BAD_INPUT, "%s: %lld x %lld pixels; at most %lld megapixels are read", name,
                (long long)w, (long long)h, (long long)(IMAGE_PIXELS_MAX >> 20));
    return MD_OK;
}

md_status image_new(image *out, int64_t h, int64_t w, int c)
{
    if (c != 1 && c != 3)
        MD_FAIL(MD_INTERNAL, "image of %d channels; 1 or 3 are possible", c);
    MD_TRY(image__check_size("new image", h, w));
    uint8_t *px = calloc((size_t)(h * w), (size_t)c);
    if (!px)
        MD_FAIL(MD_NOMEM, "no memory for an image of %lld x %lld x %d", (long long)h, (long long)w,
                c);
    *out = (image){h, w, c, px};
    return MD_OK;
}

md_status image_copy(const image *src, image *out)
{
    image im;
    MD_TRY(image_new(&im, src->h, src->w, src->c));
    memcpy(im.px, src->px, (size_t)(src->h * src->w) * (size_t)src->c);
    *out = im;
    return MD_OK;
}

void image_free(image *im)
{
    if (!im)
        return;
    free(im->px);
    *im = (image){0};
}

md_status image_to_rgb(const image *src, image *out)
{
    if (src->c == 3)
        return image_copy(src, out);
    image im;
    MD_TRY(image_new(&im, src->h, src->w, 3));
    for (int64_t i = 0; i < src->h * src->w; i++)
        im.px[3 * i] = im.px[3 * i + 1] = im.px[3 * i + 2] = src->px[i];
    *out = im;
    return MD_OK;
}

md_status image_to_gray(const image *src, image *out)
{
    if (src->c == 1)
        return image_copy(src, out);
    image im;
    MD_TRY(image_new(&im, src->h, src->w, 1));
    for (int64_t i = 0; i < src->h * src->w; i++) {
        const uint8_t *p = src->px + 3 * i;
        im.px[i] = (uint8_t)((p[0] * 19595u + p[1] * 38470u + p[2] * 7471u + 0x8000u) >> 16);
    }
    *out = im;
    return MD_OK;
}

bool image_looks_gray(const image *rgb)
{
    bool gray = true;
    for (int64_t i = 0; i < 3 * rgb->h * rgb->w && gray; i += 3)
        gray = rgb->px[i] == rgb->px[i + 1] && rgb->px[i] == rgb->px[i + 2];
    return gray;
}

void image_make_gray(image *rgb)
{
    for (int64_t i = 0; i < 3 * rgb->h * rgb->w; i += 3)
        memset(rgb->px + i, (rgb->px[i] + rgb->px[i + 1] + rgb->px[i + 2] + 1) / 3, 3);
}

md_status image_psnr(const image *a, const image *b, double *db)
{
    if (a->h != b->h || a->w != b->w || a->c != b->c)
        MD_FAIL(MD_SHAPE, "PSNR of %lld x %lld x %d against %lld x %lld x %d", (long long)a->h,
                (long long)a->w, a->c, (long long)b->h, (long long)b->w, b->c);
    const int64_t n = a->h * a->w * a->c;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const int d = a->px[i] - b->px[i];
        sum += (double)(d * d);
    }
    *db = sum > 0 ? 10 * log10(255.0 * 255.0 * (double)n / sum) : (double)INFINITY;
    return MD_OK;
}
