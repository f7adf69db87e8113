/* BMP, our own reader: 1, 4, 8, 24 and 32 bits, uncompressed, bottom-up and top-down (PH2 is BMP).
   Layout after Microsoft's BITMAPFILEHEADER / BITMAPCOREHEADER / BITMAPINFOHEADER..V5HEADER. */
#include "image/raw.h"

#include <stdlib.h>
#include <string.h>

typedef struct bmp_head {
    int64_t w, h, offset, row_bytes, n_colors;
    int bits, top_down, alpha, gray;
    uint8_t color[256][3]; /* RGB */
} bmp_head;

static uint32_t u16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t u32(const uint8_t *p)
{
    return u16(p) | u16(p + 2) << 16;
}

static md_status read_palette(const char *name, const uint8_t *b, size_t n, size_t at, int entry,
                              bmp_head *bmp)
{
    if (at > n || (size_t)(bmp->n_colors * entry) > n - at)
        MD_FAIL(MD_BAD_INPUT, "%s: damaged BMP: the palette of %lld colours lies beyond the end",
                name, (long long)bmp->n_colors);
    bmp->gray = 1;
    for (int64_t i = 0; i < bmp->n_colors; i++) {
        const uint8_t *p = b + at + (size_t)(i * entry);
        for (int k = 0; k < 3; k++)
            bmp->color[i][k] = p[2 - k];
        bmp->gray &= p[0] == p[1] && p[1] == p[2];
    }
    return MD_OK;
}

/* Bit fields of a 32-bit BMP: only the usual order B G R (A) is read. */
static md_status check_fields(const char *name, const uint8_t *b, size_t n, uint32_t size,
                              bmp_head *bmp)
{
    if (bmp->bits != 32 || n < 14 + 40 + 12)
        MD_FAIL(MD_BAD_INPUT, "%s: BMP with bit fields and %d bits; save it as 24-bit", name,
                bmp->bits);
    if (u32(b + 54) != 0xFF0000u || u32(b + 58) != 0xFF00u || u32(b + 62) != 0xFFu)
        MD_FAIL(MD_BAD_INPUT, "%s: BMP with unusual bit fields; save it as 24-bit", name);
    bmp->alpha = size >= 56 && n >= 70 && u32(b + 66) == 0xFF000000u;
    return MD_OK;
}

static md_status read_head(const char *name, const uint8_t *b, size_t n, bmp_head *bmp)
{
    if (n < 26)
        MD_FAIL(MD_BAD_INPUT,
                "%s: damaged BMP: the file ends in its header (truncated); copy or save it again",
                name);
    const uint32_t size = u32(b + 14);
    const int core = size == 12;
    if ((!core && size < 40) || size > 1024 || n < 14 + (size_t)size)
        MD_FAIL(MD_BAD_INPUT, "%s: damaged BMP: header of %u bytes", name, size);
    bmp->offset = u32(b + 10);
    uint32_t compression = 0, used = 0;
    if (core) {
        bmp->w = u16(b + 18);
        bmp->h = u16(b + 20);
        bmp->bits = (int)u16(b + 24);
    } else {
        bmp->w = (int32_t)u32(b + 18);
        bmp->h = (int32_t)u32(b + 22);
        bmp->bits = (int)u16(b + 28);
        compression = u32(b + 30);
        used = u32(b + 46);
    }
    bmp->top_down = bmp->h < 0;
    bmp->h = bmp->top_down ? -bmp->h : bmp->h;
    MD_TRY(image__check_size(name, bmp->h, bmp->w));
    const int bits = bmp->bits;
    if (bits != 1 && bits != 4 && bits != 8 && bits != 24 && bits != 32)
        MD_FAIL(MD_BAD_INPUT, "%s: BMP of %d bits a pixel; 1, 4, 8, 24 and 32 are read", name,
                bits);
    if (compression == 3)
        MD_TRY(check_fields(name, b, n, size, bmp));
    else if (compression != 0)
        MD_FAIL(MD_BAD_INPUT, "%s: compressed BMP (method %u); save it uncompressed or as PNG",
                name, compression);
    if (bits <= 8) {
        bmp->n_colors = used ? (int64_t)used : 1 << bits;
        if (bmp->n_colors > 1 << bits)
            MD_FAIL(MD_BAD_INPUT, "%s: damaged BMP: %lld colours with %d bits a pixel", name,
                    (long long)bmp->n_colors, bits);
        MD_TRY(read_palette(name, b, n, 14 + (size_t)size, core ? 3 : 4, bmp));
    }
    bmp->row_bytes = (bmp->w * bits + 31) / 32 * 4;
    const int64_t last_row = (bmp->w * bits + 7) / 8; /* some writers leave the last padding out */
    if (bmp->offset < 14 + (int64_t)size ||
        bmp->offset + bmp->row_bytes * (bmp->h - 1) + last_row > (int64_t)n)
        MD_FAIL(MD_BAD_INPUT,
                "%s: damaged BMP: pixels of %lld x %lld at %lld end beyond the file's "
                "%zu bytes (truncated); copy or save it again",
                name, (long long)bmp->w, (long long)bmp->h, (long long)bmp->offset, n);
    return MD_OK;
}

/* Returns 0 when an index has no colour. */
static int read_row(const bmp_head *bmp, const uint8_t *row, uint8_t *px, int c)
{
    for (int64_t x = 0; x < bmp->w; x++, px += c) {
        if (bmp->bits > 8) {
            const uint8_t *p = row + x * (bmp->bits / 8);
            px[0] = p[2];
            px[1] = p[1];
            px[2] = p[0];
            if (c == 4)
                px[3] = p[3];
            continue;
        }
        const int64_t bit = x * bmp->bits;
        const int shift = 8 - bmp->bits - (int)(bit % 8);
        const int index = row[bit / 8] >> shift & ((1 << bmp->bits) - 1);
        if (index >= bmp->n_colors)
            return 0;
        memcpy(px, bmp->color[index], (size_t)c);
    }
    return 1;
}

md_status image__decode_bmp(const char *name, const uint8_t *b, size_t n, image_raw *out)
{
    bmp_head bmp = {0};
    MD_TRY(read_head(name, b, n, &bmp));
    image_raw raw;
    const int c = bmp.bits <= 8 ? (bmp.gray ? 1 : 3) : bmp.alpha ? 4 : 3;
    MD_TRY(image__raw_new(name, &raw, bmp.h, bmp.w, c));
    for (int64_t y = 0; y < bmp.h; y++) {
        const int64_t to = bmp.top_down ? y : bmp.h - 1 - y;
        if (!read_row(&bmp, b + bmp.offset + y * bmp.row_bytes, raw.px + to * bmp.w * c, c)) {
            free(raw.px);
            MD_FAIL(MD_BAD_INPUT,
                    "%s: damaged BMP: a pixel in row %lld has no colour among the %lld", name,
                    (long long)to, (long long)bmp.n_colors);
        }
    }
    *out = raw;
    return MD_OK;
}
