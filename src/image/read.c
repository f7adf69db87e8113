/* Reading: which format the bytes are, EXIF orientation, alpha, masks. The decoders are png.c,
   jpeg.c and bmp.c. */
#include "image/raw.h"

#include "base/file.h"

#include <stdlib.h>
#include <string.h>

md_status image__raw_new(const char *name, image_raw *out, int64_t h, int64_t w, int c)
{
    MD_TRY(image__check_size(name, h, w));
    uint8_t *px = calloc((size_t)(h * w), (size_t)c);
    if (!px)
        MD_FAIL(MD_NOMEM, "%s: no memory for %lld x %lld x %d", name, (long long)h, (long long)w,
                c);
    *out = (image_raw){h, w, c, 1, px};
    return MD_OK;
}

static uint32_t get(const uint8_t *p, int n, int big)
{
    uint32_t v = 0;
    for (int i = 0; i < n; i++)
        v |= (uint32_t)p[i] << 8 * (big ? n - 1 - i : i);
    return v;
}

int image__exif_orientation(const uint8_t *tiff, size_t n)
{
    if (n < 8 || (memcmp(tiff, "II*\0", 4) != 0 && memcmp(tiff, "MM\0*", 4) != 0))
        return 1;
    const int big = tiff[0] == 'M';
    const size_t ifd = get(tiff + 4, 4, big);
    if (ifd > n || n - ifd < 2)
        return 1;
    const size_t count = get(tiff + ifd, 2, big);
    for (size_t i = 0; i < count; i++) {
        const size_t at = ifd + 2 + 12 * i;
        if (at > n || n - at < 12)
            return 1;
        if (get(tiff + at, 2, big) == 0x0112 && get(tiff + at + 2, 2, big) == 3) {
            const uint32_t v = get(tiff + at + 8, 2, big);
            return v >= 1 && v <= 8 ? (int)v : 1;
        }
    }
    return 1;
}

/* Turns the stored pixels upright: EXIF values 2..8 (Exif 2.32, table of tag 274). */
static md_status turn(const char *name, image_raw *raw)
{
    const int o = raw->orientation;
    if (o < 2 || o > 8)
        return MD_OK;
    const int swap = o >= 5;
    image_raw up;
    MD_TRY(image__raw_new(name, &up, swap ? raw->w : raw->h, swap ? raw->h : raw->w, raw->c));
    const int64_t bottom = raw->h - 1, right = raw->w - 1;
    for (int64_t y = 0; y < up.h; y++)
        for (int64_t x = 0; x < up.w; x++) {
            int64_t sy = swap ? x : y, sx = swap ? y : x;
            if (o == 3 || o == 4 || o == 6 || o == 7)
                sy = bottom - sy;
            if (o == 2 || o == 3 || o == 7 || o == 8)
                sx = right - sx;
            memcpy(up.px + (y * up.w + x) * up.c, raw->px + (sy * raw->w + sx) * raw->c,
                   (size_t)up.c);
        }
    up.orientation = o;
    free(raw->px);
    *raw = up;
    return MD_OK;
}

static md_status refuse(const char *name, const uint8_t *b, size_t n)
{
    if (n >= 132 && !memcmp(b + 128, "DICM", 4))
        MD_FAIL(
            MD_BAD_INPUT,
            "%s: DICOM is not read; convert it to 8-bit PNG with the window you want to see, for "
            "example with DCMTK: dcmj2pnm +on +Wi 1 in.dcm out.png",
            name);
    if (n >= 4 && (!memcmp(b, "II*\0", 4) || !memcmp(b, "MM\0*", 4)))
        MD_FAIL(MD_BAD_INPUT, "%s: TIFF is not read; convert it to PNG first", name);
    if (n >= 4 && !memcmp(b, "GIF8", 4))
        MD_FAIL(MD_BAD_INPUT, "%s: GIF is not read; convert it to PNG first", name);
    if (n >= 12 && !memcmp(b, "RIFF", 4) && !memcmp(b + 8, "WEBP", 4))
        MD_FAIL(MD_BAD_INPUT, "%s: WebP is not read; convert it to PNG first", name);
    if (n == 0)
        MD_FAIL(MD_BAD_INPUT, "%s: the file is empty; copy or save it again", name);
    MD_FAIL(MD_BAD_INPUT,
            "%s: not a PNG, JPEG or BMP image, whatever its name says; convert it to PNG", name);
}

static md_status decode(const char *name, const uint8_t *b, size_t n, image_raw *raw, int *lossy)
{
    *lossy = 0;
    if (n >= 8 && !memcmp(b, "\x89PNG\r\n\x1a\n", 8)) {
        MD_TRY(image__decode_png(name, b, n, raw));
    } else if (n >= 3 && !memcmp(b, "\xff\xd8\xff", 3)) {
        *lossy = 1;
        MD_TRY(image__decode_jpeg(name, b, n, raw));
    } else if (n >= 2 && !memcmp(b, "BM", 2)) {
        MD_TRY(image__decode_bmp(name, b, n, raw));
    } else {
        return refuse(name, b, n);
    }
    const md_status status = turn(name, raw);
    if (status != MD_OK)
        free(raw->px);
    return status;
}

md_status image_read_about(const char *name, const void *bytes, size_t n, image *out,
                           image_about *about)
{
    image_raw raw;
    int lossy;
    MD_TRY(decode(name, bytes, n, &raw, &lossy));
    *about = (image_about){.orientation = raw.orientation};
    const int c = raw.c >= 3 ? 3 : 1;
    if (raw.c != c) /* in place: each pixel moves towards the front */
        for (int64_t i = 0; i < raw.h * raw.w; i++)
            memmove(raw.px + i * c, raw.px + i * raw.c, (size_t)c);
    *out = (image){raw.h, raw.w, c, raw.px};
    return MD_OK;
}

md_status image_read_memory(const char *name, const void *bytes, size_t n, image *out)
{
    image_about about;
    return image_read_about(name, bytes, n, out, &about);
}

md_status image_read_mask_about(const char *name, const void *bytes, size_t n, image *out,
                                image_about *about)
{
    image_raw raw;
    int lossy;
    MD_TRY(decode(name, bytes, n, &raw, &lossy));
    const int colors = raw.c >= 3 ? 3 : 1, has_alpha = raw.c == 2 || raw.c == 4;
    int largest = 0;
    for (int64_t i = 0; i < raw.h * raw.w; i++) {
        const uint8_t *p = raw.px + i * raw.c;
        int v = p[0];
        for (int k = 1; k < colors; k++)
            v = p[k] > v ? p[k] : v;
        if (has_alpha)
            v = (v * p[colors] + 127) / 255;
        raw.px[i] = (uint8_t)v; /* i <= i * c: never overtakes the reading */
        largest = v > largest ? v : largest;
    }
    const md_status status = image__check_levels(name, raw.px, raw.h, raw.w, lossy);
    if (status != MD_OK) {
        free(raw.px);
        return status;
    }
    const int threshold = largest == 1 && !lossy ? 1 : 128;
    for (int64_t i = 0; i < raw.h * raw.w; i++)
        raw.px[i] = raw.px[i] >= threshold;
    *out = (image){raw.h, raw.w, 1, raw.px};
    *about = (image_about){raw.orientation, largest, threshold};
    return MD_OK;
}

md_status image_read_mask_memory(const char *name, const void *bytes, size_t n, image *out)
{
    image_about about;
    return image_read_mask_about(name, bytes, n, out, &about);
}

enum { FILE_MAX_BYTES = 1 << 30 };

typedef md_status (*from_memory)(const char *, const void *, size_t, image *);

static md_status from_file(const char *path, from_memory f, image *out)
{
    void *bytes = NULL;
    size_t n = 0;
    MD_TRY(md_file_read(path, FILE_MAX_BYTES, &bytes, &n));
    const md_status status = f(path, bytes, n, out);
    free(bytes);
    return status;
}

md_status image_read(const char *path, image *out)
{
    return from_file(path, image_read_memory, out);
}

md_status image_read_mask(const char *path, image *out)
{
    return from_file(path, image_read_mask_memory, out);
}
