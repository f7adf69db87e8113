/* Masks from any file, then everything that is done with a mask. */
#include "fuzz.h"

#include "image/fit.h"
#include "image/mask.h"

#include <stdlib.h>

static void use(const image *m)
{
    image a, b;
    image_mask_stats s, t;
    image_fit_map map;
    const double r = (double)(m->h % 5);
    const image_affine affine = image_affine_make(
        m->w & 1, (double)(m->h * 7), 0.3 + (double)(m->w % 9) / 3, (double)m->w / 3, -2);
    if (image_mask_measure(m, &s) != MD_OK || image_mask_erode(m, r, &a) != MD_OK)
        abort();
    if (image_mask_measure(&a, &t) != MD_OK || t.area > s.area)
        abort();
    image_free(&a);
    if (image_mask_dilate(m, r, &a) != MD_OK || image_mask_measure(&a, &t) != MD_OK ||
        t.area < s.area)
        abort();
    image_free(&a);
    if (image_mask_fill_holes(m, &a) != MD_OK || image_mask_measure(&a, &t) != MD_OK ||
        t.area < s.area)
        abort();
    image_free(&a);
    if (image_mask_warp(m, &affine, &a) != MD_OK)
        abort();
    image_free(&a);
    if (image_fit_mask(m, 16, (image_fit_mode)(m->h % 3), &a, &map) != MD_OK ||
        image_unfit_mask(&a, &map, &b) != MD_OK || b.h != m->h || b.w != m->w)
        abort();
    image_free(&a);
    image_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    image m;
    if (image_read_mask_memory("fuzz", data, n, &m) != MD_OK)
        return 0;
    if (m.c != 1)
        abort();
    for (int64_t i = 0; i < m.h * m.w; i++)
        if (m.px[i] > 1)
            abort();
    if (m.h * m.w <= 4096)
        use(&m);
    image_free(&m);
    return 0;
}
