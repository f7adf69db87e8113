/* Letterbox, crop, squash, and the way back. */
#include "image/fit.h"

#include <math.h>
#include <string.h>

md_status image_fit_mode_parse(const char *name, image_fit_mode *out)
{
    static const char *const names[] = {"letterbox", "crop", "squash"};
    for (int i = 0; i < 3; i++)
        if (!strcmp(name, names[i])) {
            *out = (image_fit_mode)i;
            return MD_OK;
        }
    MD_FAIL(MD_USAGE, "fit \"%s\": letterbox, crop or squash", name);
}

static int64_t scaled(int64_t n, double s, int64_t size)
{
    const int64_t v = (int64_t)floor((double)n * s + 0.5);
    return v < 1 ? 1 : v > size ? size : v;
}

md_status image_fit_map_make(int64_t src_h, int64_t src_w, int64_t size, image_fit_mode mode,
                             image_fit_map *out)
{
    if (src_h < 1 || src_w < 1 || size < 1 || size > IMAGE_SIDE_MAX)
        MD_FAIL(MD_INTERNAL, "fit of %lld x %lld into %lld", (long long)src_h, (long long)src_w,
                (long long)size);
    image_fit_map m = {.mode = mode, .src_h = src_h, .src_w = src_w, .size = size};
    m.y1 = m.x1 = size;
    if (mode == IMAGE_LETTERBOX) {
        const double s = (double)size / (double)(src_h > src_w ? src_h : src_w);
        const int64_t h = scaled(src_h, s, size), w = scaled(src_w, s, size);
        m.y0 = (size - h) / 2;
        m.x0 = (size - w) / 2;
        m.y1 = m.y0 + h;
        m.x1 = m.x0 + w;
        m.sy =
            (double)h / (double)src_h; /* whole pixels, so not quite s in the shorter direction */
        m.sx = (double)w / (double)src_w;
        m.oy = (double)m.y0;
        m.ox = (double)m.x0;
    } else if (mode == IMAGE_CROP) {
        const int64_t side = src_h < src_w ? src_h : src_w;
        m.sy = m.sx = (double)size / (double)side;
        const int64_t top = (src_h - side) / 2, left = (src_w - side) / 2;
        m.oy = -(double)top * m.sy;
        m.ox = -(double)left * m.sx;
    } else if (mode == IMAGE_SQUASH) {
        m.sy = (double)size / (double)src_h;
        m.sx = (double)size / (double)src_w;
    } else {
        MD_FAIL(MD_INTERNAL, "fit mode %d", (int)mode);
    }
    *out = m;
    return MD_OK;
}

/* The source pixels that the square shows. */
static void source_rect(const image_fit_map *m, int64_t *y0, int64_t *x0, int64_t *h, int64_t *w)
{
    *y0 = *x0 = 0;
    *h = m->src_h;
    *w = m->src_w;
    if (m->mode == IMAGE_CROP) {
        const int64_t side = m->src_h < m->src_w ? m->src_h : m->src_w;
        *y0 = (m->src_h - side) / 2;
        *x0 = (m->src_w - side) / 2;
        *h = *w = side;
    }
}

static void paste(const image *part, int64_t y0, int64_t x0, image *into)
{
    for (int64_t y = 0; y < part->h; y++)
        memcpy(into->px + ((y0 + y) * into->w + x0) * into->c, part->px + y * part->w * part->c,
               (size_t)(part->w * part->c));
}

md_status image_fit(const image *src, int64_t size, image_fit_mode mode, image_filter filter,
                    image *dst, image_fit_map *map)
{
    image_fit_map m;
    image part, whole;
    int64_t y, x, h, w;
    MD_TRY(image_fit_map_make(src->h, src->w, size, mode, &m));
    source_rect(&m, &y, &x, &h, &w);
    const image_box box = {(double)y, (double)x, (double)(y + h), (double)(x + w)};
    MD_TRY(image_resize_box(src, box, m.y1 - m.y0, m.x1 - m.x0, filter, &part));
    const md_status status = image_new(&whole, size, size, src->c);
    if (status == MD_OK) {
        paste(&part, m.y0, m.x0, &whole);
        *dst = whole;
        if (map)
            *map = m;
    }
    image_free(&part);
    return status;
}

md_status image_fit_mask(const image *src, int64_t size, image_fit_mode mode, image *dst,
                         image_fit_map *map)
{
    image_fit_map m;
    image part, whole;
    int64_t y, x, h, w;
    MD_TRY(image_fit_map_make(src->h, src->w, size, mode, &m));
    source_rect(&m, &y, &x, &h, &w);
    const image_box box = {(double)y, (double)x, (double)(y + h), (double)(x + w)};
    MD_TRY(image_resize_mask_box(src, box, m.y1 - m.y0, m.x1 - m.x0, IMAGE_AREA, &part));
    const md_status status = image_new(&whole, size, size, 1);
    if (status == MD_OK) {
        paste(&part, m.y0, m.x0, &whole);
        *dst = whole;
        if (map)
            *map = m;
    }
    image_free(&part);
    return status;
}

static md_status check_fitted(const image *fitted, const image_fit_map *m)
{
    if (fitted->h != m->size || fitted->w != m->size || m->y0 < 0 || m->x0 < 0 || m->y1 <= m->y0 ||
        m->x1 <= m->x0 || m->y1 > m->size || m->x1 > m->size || m->src_h < 1 || m->src_w < 1)
        MD_FAIL(MD_SHAPE, "an image of %lld x %lld with a map of %lld", (long long)fitted->h,
                (long long)fitted->w, (long long)m->size);
    return MD_OK;
}

static image_box valid_box(const image_fit_map *m)
{
    return (image_box){(double)m->y0, (double)m->x0, (double)m->y1, (double)m->x1};
}

md_status image_unfit(const image *fitted, const image_fit_map *m, const image *base,
                      image_filter filter, image *out)
{
    image part, whole;
    int64_t y, x, h, w;
    MD_TRY(check_fitted(fitted, m));
    if (base && (base->h != m->src_h || base->w != m->src_w || base->c != fitted->c))
        MD_FAIL(MD_SHAPE, "a base of %lld x %lld x %d for a source of %lld x %lld x %d",
                (long long)base->h, (long long)base->w, base->c, (long long)m->src_h,
                (long long)m->src_w, fitted->c);
    source_rect(m, &y, &x, &h, &w);
    MD_TRY(image_resize_box(fitted, valid_box(m), h, w, filter, &part));
    const md_status status =
        base ? image_copy(base, &whole) : image_new(&whole, m->src_h, m->src_w, fitted->c);
    if (status == MD_OK) {
        paste(&part, y, x, &whole);
        *out = whole;
    }
    image_free(&part);
    return status;
}

md_status image_unfit_mask(const image *fitted, const image_fit_map *m, image *out)
{
    image part, whole;
    int64_t y, x, h, w;
    MD_TRY(check_fitted(fitted, m));
    source_rect(m, &y, &x, &h, &w);
    MD_TRY(image_resize_mask_box(fitted, valid_box(m), h, w, IMAGE_AREA, &part));
    const md_status status = image_new(&whole, m->src_h, m->src_w, 1);
    if (status == MD_OK) {
        paste(&part, y, x, &whole);
        *out = whole;
    }
    image_free(&part);
    return status;
}
