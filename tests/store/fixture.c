#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/rng.h"

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* ---- PNG with stored (uncompressed) deflate blocks ---- */

static uint32_t crc32_of(uint32_t crc, const uint8_t *p, size_t n)
{
    crc = ~crc;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++)
            crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
    }
    return ~crc;
}

static void big32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static void chunk(FILE *f, const char *type, const uint8_t *data, size_t n)
{
    uint8_t word[4];
    big32(word, (uint32_t)n);
    (void)fwrite(word, 1, 4, f);
    (void)fwrite(type, 1, 4, f);
    if (n)
        (void)fwrite(data, 1, n, f);
    uint32_t crc = crc32_of(0, (const uint8_t *)type, 4);
    big32(word, n ? crc32_of(crc, data, n) : crc);
    (void)fwrite(word, 1, 4, f);
}

void fixture_png(const char *path, fixture_type type, int h, int w, const uint8_t *px)
{
    static const int channels[] = {1, 1, 3, 4}, colour[] = {0, 0, 2, 6};
    size_t row = type == FIXTURE_GRAY1 ? (size_t)(w + 7) / 8 : (size_t)(w * channels[type]);
    size_t raw = (size_t)h * (row + 1), at = 0;
    uint8_t *lines = calloc(raw, 1), *z = malloc(raw + raw / 65535 * 5 + 16);
    if (!lines || !z)
        die(path);
    for (int y = 0; y < h; y++) {
        uint8_t *line = lines + (size_t)y * (row + 1) + 1; /* filter 0 before it */
        if (type == FIXTURE_GRAY1) {
            for (int x = 0; x < w; x++)
                line[x / 8] |= (uint8_t)((px[y * w + x] ? 0x80 : 0) >> x % 8);
        } else {
            memcpy(line, px + (size_t)y * row, row);
        }
    }
    uint32_t a = 1, b = 0;
    for (size_t i = 0; i < raw; i++) {
        a = (a + lines[i]) % 65521;
        b = (b + a) % 65521;
    }
    z[at++] = 0x78;
    z[at++] = 0x01;
    for (size_t i = 0; i < raw;) {
        size_t n = raw - i < 65535 ? raw - i : 65535;
        z[at++] = i + n == raw;
        z[at++] = (uint8_t)n;
        z[at++] = (uint8_t)(n >> 8);
        z[at++] = (uint8_t)~n;
        z[at++] = (uint8_t)(~n >> 8);
        memcpy(z + at, lines + i, n);
        at += n;
        i += n;
    }
    big32(z + at, b << 16 | a);
    uint8_t head[13] = {0};
    big32(head, (uint32_t)w);
    big32(head + 4, (uint32_t)h);
    head[8] = type == FIXTURE_GRAY1 ? 1 : 8;
    head[9] = (uint8_t)colour[type];
    FILE *f = fopen(path, "wb");
    if (!f)
        die(path);
    (void)fwrite("\x89PNG\r\n\x1a\n", 1, 8, f);
    chunk(f, "IHDR", head, 13);
    chunk(f, "IDAT", z, at + 4);
    chunk(f, "IEND", NULL, 0);
    if (fclose(f) != 0)
        die(path);
    free(lines);
    free(z);
}

void fixture_image(const char *path, int id, int h, int w)
{
    uint8_t cell[9][9][3], *px = malloc((size_t)(h * w * 3));
    if (!px)
        die(path);
    md_rng r = md_rng_at(77, MD_RNG_TEST, (uint64_t)id, 0);
    for (int i = 0; i < 9 * 9 * 3; i++)
        ((uint8_t *)cell)[i] = (uint8_t)(70 + md_rng_below(&r, 180));
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            double v = 8.0 * y / h, u = 8.0 * x / w;
            int j = (int)v, i = (int)u;
            double fy = v - j, fx = u - i;
            for (int c = 0; c < 3; c++)
                px[(y * w + x) * 3 + c] =
                    (uint8_t)((cell[j][i][c] * (1 - fx) + cell[j][i + 1][c] * fx) * (1 - fy) +
                              (cell[j + 1][i][c] * (1 - fx) + cell[j + 1][i + 1][c] * fx) * fy);
        }
    fixture_png(path, FIXTURE_RGB, h, w, px);
    free(px);
}

void fixture_mask(const char *path, fixture_type type, int h, int w, const int box[4])
{
    static const int channels[] = {1, 1, 3, 4};
    int c = channels[type];
    uint8_t *px = calloc((size_t)(h * w * c), 1);
    if (!px)
        die(path);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            uint8_t *p = px + (y * w + x) * c;
            if (y >= box[0] && x >= box[1] && y < box[2] && x < box[3])
                memset(p, 255, (size_t)c);
            if (type == FIXTURE_RGBA)
                p[3] = 255;
        }
    fixture_png(path, type, h, w, px);
    free(px);
}

void fixture_bmp1(const char *path, int h, int w, const int box[4])
{
    int stride = (w + 31) / 32 * 4, bytes = 62 + stride * h;
    const uint32_t head[] = {
        (uint32_t)bytes,        0, 62, 40, (uint32_t)w, (uint32_t)h, 1 | 1 << 16, 0,
        (uint32_t)(stride * h), 0, 0,  2,  2,           0,           0xffffff};
    uint8_t *px = calloc((size_t)bytes, 1);
    FILE *f = fopen(path, "wb");
    if (!px || !f)
        die(path);
    memcpy(px, "BM", 2);
    memcpy(px + 2, head, sizeof head);
    for (int y = box[0]; y < box[2]; y++)
        for (int x = box[1]; x < box[3]; x++)
            px[62 + (h - 1 - y) * stride + x / 8] |= (uint8_t)(0x80 >> x % 8);
    if (fwrite(px, 1, (size_t)bytes, f) != (size_t)bytes || fclose(f) != 0)
        die(path);
    free(px);
}

void fixture_dir(const char *path)
{
    char part[1024];
    (void)snprintf(part, sizeof part, "%s", path);
    for (char *p = part + 1; *p; p++)
        if (*p == '/') {
            *p = 0;
            (void)mkdir(part, 0777);
            *p = '/';
        }
    (void)mkdir(part, 0777);
}

void fixture_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    if (!f || fputs(text, f) < 0 || fclose(f) != 0)
        die(path);
}

void fixture_copy(const char *from, const char *to)
{
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    if (!in || !out)
        die(to);
    for (int c; (c = getc(in)) != EOF;)
        (void)putc(c, out);
    (void)fclose(in);
    if (fclose(out) != 0)
        die(to);
}
