/* Outlines, text, contact sheets. The glyphs are in font.c. */
#include "image/sheet.h"
#include "image/font.h"
#include "image/mask.h"
#include "image/resize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void put(image *im, int64_t y, int64_t x, image_color c)
{
    if (y < 0 || x < 0 || y >= im->h || x >= im->w)
        return;
    uint8_t *p = im->px + (y * im->w + x) * 3;
    p[0] = c.r;
    p[1] = c.g;
    p[2] = c.b;
}

static md_status check_pair(const image *im, const image *mask)
{
    if (im->c != 3 || mask->c != 1 || im->h != mask->h || im->w != mask->w)
        MD_FAIL(MD_SHAPE, "drawing a mask of %lld x %lld x %d on an image of %lld x %lld x %d",
                (long long)mask->w, (long long)mask->h, mask->c, (long long)im->w, (long long)im->h,
                im->c);
    return MD_OK;
}

md_status image_draw_outline(image *im, const image *mask, image_color color, double px)
{
    MD_TRY(check_pair(im, mask));
    const int64_t n = im->h * im->w;
    int64_t *d2 = malloc((size_t)n * sizeof *d2);
    if (!d2)
        MD_FAIL(MD_NOMEM, "no memory to draw an outline");
    const md_status status = image_mask_distance2(mask, 0, d2);
    for (int64_t i = 0; status == MD_OK && i < n; i++)
        if (mask->px[i] && (double)d2[i] <= px * px)
            put(im, i / im->w, i % im->w, color);
    free(d2);
    return status;
}

static uint8_t mix(uint8_t a, uint8_t b, double t)
{
    return (uint8_t)(a + (b - a) * t + 0.5);
}

md_status image_draw_tint(image *im, const image *mask, image_color color, double opacity)
{
    MD_TRY(check_pair(im, mask));
    const double t = opacity < 0 ? 0 : opacity > 1 ? 1 : opacity;
    for (int64_t i = 0; i < im->h * im->w; i++) {
        if (!mask->px[i])
            continue;
        uint8_t *p = im->px + 3 * i;
        p[0] = mix(p[0], color.r, t);
        p[1] = mix(p[1], color.g, t);
        p[2] = mix(p[2], color.b, t);
    }
    return MD_OK;
}

void image_fill_rect(image *im, int64_t y0, int64_t x0, int64_t y1, int64_t x1, image_color color)
{
    for (int64_t y = y0 < 0 ? 0 : y0; y < y1 && y < im->h; y++)
        for (int64_t x = x0 < 0 ? 0 : x0; x < x1 && x < im->w; x++)
            put(im, y, x, color);
}

void image_draw_text(image *im, int64_t y, int64_t x, const char *text, image_color color,
                     int scale)
{
    const int64_t k = scale;
    for (; *text; text++, x += 6 * k) {
        const uint8_t *rows = image__glyph(*text);
        for (int64_t r = 0; r < 7; r++)
            for (int64_t c = 0; c < 5; c++)
                if (rows[r] >> (4 - c) & 1)
                    image_fill_rect(im, y + r * k, x + c * k, y + (r + 1) * k, x + (c + 1) * k,
                                    color);
    }
}

static const image_color paper = {24, 24, 24}, ink = {220, 220, 220};

md_status image_sheet_new(image_sheet *out, int64_t rows, int64_t cols, int64_t h, int64_t w,
                          int64_t margin, int captions)
{
    if (rows < 1 || cols < 1 || h < 1 || w < 1 || margin < 0 || rows > IMAGE_SIDE_MAX ||
        cols > IMAGE_SIDE_MAX || h > IMAGE_SIDE_MAX || w > IMAGE_SIDE_MAX || margin > h + w)
        MD_FAIL(MD_INTERNAL, "a sheet of %lld x %lld cells of %lld x %lld", (long long)rows,
                (long long)cols, (long long)h, (long long)w);
    image_sheet s = {.rows = rows, .cols = cols, .h = h, .w = w, .margin = margin};
    s.caption = captions ? 10 : 0;
    MD_TRY(image_new(&s.im, rows * (h + s.caption + margin) + margin, cols * (w + margin) + margin,
                     3));
    image_fill_rect(&s.im, 0, 0, s.im.h, s.im.w, paper);
    *out = s;
    return MD_OK;
}

void image_sheet_free(image_sheet *s)
{
    if (s)
        image_free(&s->im);
}

/* src [h,w,1 or 3] at (y,x) of the RGB image `into`, which has room. */
static void paste(const image *src, int64_t y0, int64_t x0, image *into)
{
    for (int64_t y = 0; y < src->h; y++)
        for (int64_t x = 0; x < src->w; x++) {
            const uint8_t *p = src->px + (y * src->w + x) * src->c;
            put(into, y0 + y, x0 + x, (image_color){p[0], p[src->c / 2], p[src->c - 1]});
        }
}

md_status image_sheet_put(image_sheet *s, int64_t row, int64_t col, const image *im,
                          const char *caption)
{
    if (row < 0 || col < 0 || row >= s->rows || col >= s->cols)
        MD_FAIL(MD_INTERNAL, "cell (%lld, %lld) of a sheet of %lld x %lld", (long long)row,
                (long long)col, (long long)s->rows, (long long)s->cols);
    const int64_t y = s->margin + row * (s->h + s->caption + s->margin);
    const int64_t x = s->margin + col * (s->w + s->margin);
    image small = {0};
    const image *shown = im;
    if (im->h != s->h || im->w != s->w) {
        const double k = fmin((double)s->h / (double)im->h, (double)s->w / (double)im->w);
        const int64_t h = (int64_t)fmax(1, floor((double)im->h * k + 0.5));
        const int64_t w = (int64_t)fmax(1, floor((double)im->w * k + 0.5));
        MD_TRY(image_resize(im, h < s->h ? h : s->h, w < s->w ? w : s->w,
                            k > 1 ? IMAGE_NEAREST : IMAGE_BICUBIC, &small));
        shown = &small;
    }
    paste(shown, y + (s->h - shown->h) / 2, x + (s->w - shown->w) / 2, &s->im);
    image_free(&small);
    if (caption && s->caption) {
        char text[256];
        size_t n = 0;
        const size_t room =
            (size_t)(s->w / 6) < sizeof text - 1 ? (size_t)(s->w / 6) : sizeof text - 1;
        for (; caption[n] && n < room; n++)
            text[n] = caption[n];
        text[n] = 0;
        image_draw_text(&s->im, y + s->h + 2, x, text, ink, 1);
    }
    return MD_OK;
}

md_status image_side_by_side(const image *const *images, int64_t n, int64_t gap, image *out)
{
    image im;
    int64_t w = n > 0 ? -gap : 0;
    for (int64_t i = 0; i < n; i++) {
        if (images[i]->h != images[0]->h)
            MD_FAIL(MD_SHAPE, "side by side: heights %lld and %lld", (long long)images[0]->h,
                    (long long)images[i]->h);
        w += images[i]->w + gap;
    }
    MD_TRY(image_new(&im, n > 0 ? images[0]->h : 0, w, 3));
    image_fill_rect(&im, 0, 0, im.h, im.w, paper);
    int64_t x = 0;
    for (int64_t i = 0; i < n; i++) {
        paste(images[i], 0, x, &im);
        x += images[i]->w + gap;
    }
    *out = im;
    return MD_OK;
}
