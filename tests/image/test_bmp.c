/* BMP files built here: depths, row order, padding, palettes, bit fields, lies. */
#include "support/expect.h"

#include "image/image.h"

typedef struct bmp {
    uint8_t b[4096];
    size_t n;
} bmp;

static void le(bmp *f, uint32_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        f->b[f->n++] = (uint8_t)(v >> 8 * i);
}

/* Header and palette; h < 0 is top-down. */
static void head(bmp *f, int32_t w, int32_t h, int bits, uint32_t compression, int colors)
{
    memset(f, 0, sizeof *f);
    f->b[0] = 'B', f->b[1] = 'M';
    f->n = 10;
    le(f, (uint32_t)(54 + 4 * colors), 4);
    le(f, 40, 4);
    le(f, (uint32_t)w, 4);
    le(f, (uint32_t)h, 4);
    le(f, 1, 2);
    le(f, (uint32_t)bits, 2);
    le(f, compression, 4);
    f->n = 46;
    le(f, (uint32_t)colors, 4);
    f->n = 54;
}

static void color(bmp *f, uint32_t rgb)
{
    le(f, rgb, 4); /* stored B G R 0 */
}

static void one_bit(void **state)
{
    (void)state;
    /* as PH2's masks: 10 x 3, bottom-up, rows padded to 4 bytes, palette black, white */
    bmp f;
    image im;
    head(&f, 10, 3, 1, 0, 2);
    color(&f, 0);
    color(&f, 0xFFFFFF);
    static const uint8_t rows[3][4] = {
        {0x80, 0x40, 0, 0}, {0xFF, 0xC0, 0xFF, 0xFF}, {0, 0x3F, 9, 9}};
    for (int r = 0; r < 3; r++)
        for (int i = 0; i < 4; i++)
            le(&f, rows[r][i], 1);
    assert_int_equal(f.b[10], 62);
    OK(image_read_memory("m.bmp", f.b, f.n, &im));
    assert_true(im.h == 3 && im.w == 10 && im.c == 1);
    for (int x = 0; x < 10; x++) {
        assert_int_equal(im.px[x], 0);
        assert_int_equal(im.px[10 + x], 255);
        assert_int_equal(im.px[20 + x], x == 0 || x == 9 ? 255 : 0);
    }
    image_free(&im);
    OK(image_read_mask_memory("m.bmp", f.b, f.n, &im));
    assert_true(im.px[10] == 1 && im.px[0] == 0);
    image_free(&im);
    /* the last row's padding may be missing, its pixels may not */
    OK(image_read_memory("m.bmp", f.b, f.n - 2, &im));
    image_free(&im);
    for (size_t cut = 0; cut < f.n - 2; cut++) {
        uint8_t *part = malloc(cut + 1);
        memcpy(part, f.b, cut);
        if (image_read_memory("m.bmp", part, cut, &im) == MD_OK)
            fail_msg("cut at %zu is accepted", cut);
        free(part);
    }
}

static void palettes(void **state)
{
    (void)state;
    bmp f;
    image im;
    head(&f, 3, -2, 4, 0, 3); /* top-down */
    color(&f, 0x102030);
    color(&f, 0x405060);
    color(&f, 0x708090);
    static const uint8_t rows[2][4] = {{0x01, 0x2F, 0, 0}, {0x21, 0x00, 0, 0}};
    for (int i = 0; i < 8; i++)
        le(&f, rows[i / 4][i % 4], 1);
    OK(image_read_memory("p.bmp", f.b, f.n, &im));
    assert_true(im.h == 2 && im.w == 3 && im.c == 3);
    static const uint8_t wanted[18] = {0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0x90,
                                       0x70, 0x80, 0x90, 0x40, 0x50, 0x60, 0x10, 0x20, 0x30};
    assert_memory_equal(im.px, wanted, 18);
    image_free(&im);
    f.b[f.n - 4] = 0x31; /* index 3 of 3 */
    FAILS(image_read_memory("p.bmp", f.b, f.n, &im), MD_BAD_INPUT,
          "p.bmp: damaged BMP: a pixel in row 1");
    head(&f, 5, 2, 8, 0, 0); /* 0 colours stands for 256 */
    f.b[10] = 0x36, f.b[11] = 4;
    for (uint32_t i = 0; i < 256; i++)
        color(&f, i * 0x10101);
    for (uint32_t i = 0; i < 16; i++)
        le(&f, i * 16, 1);
    OK(image_read_memory("g.bmp", f.b, f.n, &im));
    assert_true(im.c == 1 && im.px[0] == 128 && im.px[5] == 0 && im.px[9] == 64);
    image_free(&im);
}

static void true_color(void **state)
{
    (void)state;
    bmp f;
    image im;
    head(&f, 3, 2, 24, 0, 0); /* 9 bytes a row, padded to 12 */
    for (uint32_t i = 0; i < 24; i++)
        le(&f, i, 1);
    OK(image_read_memory("c.bmp", f.b, f.n, &im));
    static const uint8_t wanted[18] = {14, 13, 12, 17, 16, 15, 20, 19, 18,
                                       2,  1,  0,  5,  4,  3,  8,  7,  6};
    assert_memory_equal(im.px, wanted, 18);
    image_free(&im);
    head(&f, 2, 1, 32, 0, 0);
    for (uint32_t i = 0; i < 8; i++)
        le(&f, i, 1);
    OK(image_read_memory("c.bmp", f.b, f.n, &im));
    static const uint8_t wanted32[6] = {2, 1, 0, 6, 5, 4};
    assert_memory_equal(im.px, wanted32, 6);
    image_free(&im);
    /* bit fields in the usual order, as GIMP writes; the fourth byte is alpha in a V4 header */
    head(&f, 2, 1, 32, 3, 0);
    f.b[14] = 108;
    f.b[10] = 122;
    le(&f, 0xFF0000, 4);
    le(&f, 0xFF00, 4);
    le(&f, 0xFF, 4);
    le(&f, 0xFF000000, 4);
    f.n = 122;
    le(&f, 0x00FFFFFF, 4);
    le(&f, 0xFFFFFFFF, 4);
    OK(image_read_mask_memory("a.bmp", f.b, f.n, &im));
    assert_true(im.px[0] == 0 && im.px[1] == 1);
    image_free(&im);
    f.b[54] = 1;
    FAILS(image_read_memory("a.bmp", f.b, f.n, &im), MD_BAD_INPUT, "bit fields");
    /* the old 12-byte header */
    memset(&f, 0, sizeof f);
    f.b[0] = 'B', f.b[1] = 'M';
    f.n = 10;
    le(&f, 26 + 6, 4);
    le(&f, 12, 4);
    le(&f, 8, 2);
    le(&f, 1, 2);
    le(&f, 1, 2);
    le(&f, 1, 2);
    for (uint32_t i = 0; i < 6; i++)
        le(&f, i < 3 ? 0 : 255, 1);
    le(&f, 0xAA, 4);
    OK(image_read_memory("o.bmp", f.b, f.n, &im));
    assert_true(im.h == 1 && im.w == 8 && im.c == 1 && im.px[0] == 255 && im.px[1] == 0);
    image_free(&im);
}

static void lies(void **state)
{
    (void)state;
    bmp f;
    image im = {0};
    static const struct {
        int32_t w, h;
        int bits;
        uint32_t compression;
        int colors;
        const char *message;
    } rows[] = {
        {4, 4, 8, 1, 256, "compressed BMP (method 1)"},
        {4, 4, 16, 0, 0, "16 bits"},
        {40000, 1, 24, 0, 0, "40000 x 1"},
        {0, 1, 24, 0, 0, "empty"},
        {-4, 1, 24, 0, 0, "empty"},
        {4, INT32_MIN, 24, 0, 0, "at most"},
        {4, 4, 1, 0, 3, "3 colours"},
        {100, 100, 24, 0, 0, "truncated"},
        {4, 4, 24, 3, 0, "bit fields"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        head(&f, rows[i].w, rows[i].h, rows[i].bits, rows[i].compression, rows[i].colors);
        f.n += 2048;
        FAILS(image_read_memory("x.bmp", f.b, f.n, &im), MD_BAD_INPUT, rows[i].message);
    }
    head(&f, 2, 2, 24, 0, 0);
    f.n += 16;
    f.b[10] = 20; /* pixels inside the header */
    FAILS(image_read_memory("x.bmp", f.b, f.n, &im), MD_BAD_INPUT, "x.bmp: damaged BMP");
    f.b[14] = 39;
    FAILS(image_read_memory("x.bmp", f.b, f.n, &im), MD_BAD_INPUT, "header of 39");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_bit), cmocka_unit_test(palettes),
                                       cmocka_unit_test(true_color), cmocka_unit_test(lies)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
