/* Reading PNG and JPEG of every kind (data/, made by make_fixtures.py), orientation, masks,
   refusals, every truncation; writing PNG. */
#include "support/expect.h"

#include "base/file.h"
#include "image/image.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DATA "tests/image/data/"

static int red(int64_t y, int64_t x)
{
    return (int)((x * 37 + y * 11) % 256);
}

static int pattern(int64_t y, int64_t x, int ch)
{
    return ch == 0 ? red(y, x)
                   : (int)(ch == 1 ? (x * 5 + y * 50) % 256 : (x * 20 + y * 30 + 7) % 256);
}

static void check_pattern(const char *path, int c)
{
    image im;
    OK(image_read(path, &im));
    if (im.h != 5 || im.w != 7 || im.c != c)
        fail_msg("%s: %d x %d x %d", path, (int)im.h, (int)im.w, im.c);
    for (int64_t i = 0; i < 35 * c; i++) {
        const int wanted = pattern(i / c / 7, i / c % 7, (int)(i % c));
        if (im.px[i] != wanted)
            fail_msg("%s: value %d is %d, wanted %d", path, (int)i, im.px[i], wanted);
    }
    image_free(&im);
}

static void png_kinds(void **state)
{
    (void)state;
    image im;
    check_pattern(DATA "gray8.png", 1);
    check_pattern(DATA "gray_alpha.png", 1);
    check_pattern(DATA "rgb8.png", 3);
    check_pattern(DATA "rgba.png", 3);
    check_pattern(DATA "interlaced.png", 3);
    for (int depth = 1; depth <= 4; depth *= 2) {
        char path[64];
        snprintf(path, sizeof path, DATA "gray%d.png", depth);
        OK(image_read(path, &im));
        assert_int_equal(im.c, 1);
        const int top = (1 << depth) - 1;
        for (int64_t i = 0; i < 35; i++)
            assert_int_equal(im.px[i], (i % 7 + i / 7) % (top + 1) * 255 / top);
        image_free(&im);
    }
    static const char *const palettes[] = {"palette2.png", "palette8.png", "palette_alpha.png"};
    for (int k = 0; k < 3; k++) {
        char path[64];
        snprintf(path, sizeof path, DATA "%s", palettes[k]);
        OK(image_read(path, &im));
        assert_int_equal(im.c, 3);
        for (int64_t i = 0; i < 35; i++) {
            const int v = (int)((i % 7 + 2 * (i / 7)) % 4);
            assert_int_equal(im.px[3 * i], v * 60);
            assert_int_equal(im.px[3 * i + 1], 255 - v * 60);
            assert_int_equal(im.px[3 * i + 2], v * 10);
        }
        image_free(&im);
    }
}

static void same(const char *path, const char *wanted)
{
    image a, b;
    OK(image_read(path, &a));
    OK(image_read(wanted, &b));
    if (a.h != b.h || a.w != b.w || a.c != b.c)
        fail_msg("%s: %d x %d x %d", path, (int)a.h, (int)a.w, a.c);
    if (memcmp(a.px, b.px, (size_t)(a.h * a.w * a.c)) != 0)
        fail_msg("%s differs from %s", path, wanted);
    image_free(&a);
    image_free(&b);
}

static void jpeg_kinds(void **state)
{
    (void)state;
    same(DATA "rgb.jpg", DATA "rgb.jpg.png");
    same(DATA "rgb422.jpg", DATA "rgb422.jpg.png");
    same(DATA "progressive.jpg", DATA "progressive.jpg.png");
    same(DATA "gray.jpg", DATA "gray.jpg.png");
}

static void orientation(void **state)
{
    (void)state;
    char path[64], wanted[72];
    for (int o = 2; o <= 8; o++) {
        snprintf(path, sizeof path, DATA "orient%d.jpg", o);
        snprintf(wanted, sizeof wanted, "%s.png", path);
        same(path, wanted);
    }
    /* a PNG's eXIf chunk: 6 is a quarter turn to the right */
    image im;
    OK(image_read(DATA "orient6.png", &im));
    assert_true(im.h == 7 && im.w == 5);
    for (int64_t y = 0; y < 7; y++)
        for (int64_t x = 0; x < 5; x++)
            assert_int_equal(im.px[(y * 5 + x) * 3], red(4 - x, y));
    image_free(&im);
}

static void masks(void **state)
{
    (void)state;
    image m;
    OK(image_read_mask(DATA "rgba.png", &m));
    assert_int_equal(m.c, 1);
    int ones = 0;
    for (int64_t i = 0; i < 35; i++) {
        const int64_t y = i / 7, x = i % 7;
        int top = 0;
        for (int ch = 0; ch < 3; ch++)
            top = pattern(y, x, ch) > top ? pattern(y, x, ch) : top;
        const int64_t a = (x * 40 + y * 3) % 256;
        assert_int_equal(m.px[i], (double)top * (double)a / 255 >= 127.5);
        ones += m.px[i];
    }
    assert_true(ones > 3 && ones < 32);
    image_free(&m);
    OK(image_read_mask(DATA "gray1.png", &m));
    for (int64_t i = 0; i < 35; i++)
        assert_int_equal(m.px[i], (i % 7 + i / 7) % 2);
    image_free(&m);
    OK(image_read_mask(DATA "gray_alpha.png", &m));
    assert_int_equal(m.px[0], 0);
    image_free(&m);
    OK(image_read_mask(DATA "palette_alpha.png", &m)); /* index 1 is transparent, 2 half */
    for (int64_t i = 0; i < 35; i++) {
        const int v = (int)((i % 7 + 2 * (i / 7)) % 4);
        assert_int_equal(m.px[i], v == 0 || v == 3);
    }
    image_free(&m);
    OK(image_read_mask(DATA "label.png", &m)); /* values 0 and 1 */
    for (int64_t i = 0; i < 35; i++)
        assert_int_equal(m.px[i], i % 7 > 3);
    image_free(&m);
}

enum { SIDE = 128 };

/* `level` gives each pixel from its distance to a disc's edge, inside above 0. */
static md_status read_disc(int (*level)(double inside, int y, int x), image *out,
                           image_about *about)
{
    uint8_t px[SIDE * SIDE];
    void *png;
    size_t n;
    const image im = {SIDE, SIDE, 1, px};
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            px[y * SIDE + x] = (uint8_t)level(30 - hypot(y - 60, x - 64), y, x);
    OK(image_encode_png(&im, NULL, 0, &png, &n));
    const md_status status = image_read_mask_about("disc.png", png, n, out, about);
    free(png);
    return status;
}

static int ramp(double inside, double width)
{
    return (int)fmin(fmax(255 * (inside / width + 0.5), 0), 255);
}

static int smooth(double inside, int y, int x) /* as a resize leaves it */
{
    (void)y;
    (void)x;
    return ramp(inside, 1.5);
}

static int blurred(double inside, int y, int x)
{
    (void)y;
    (void)x;
    return ramp(inside, 20);
}

static int noisy(double inside, int y, int x) /* JPEG: even blocks of 0..5 and 250..255 */
{
    const int block = (y / 8 * 5 + x / 8 * 3) % 6;
    return inside > 0 ? 255 - block : inside > -1 ? 60 * block : block;
}

static int near_white(double inside, int y, int x)
{
    (void)y;
    (void)x;
    return inside > 0 ? 254 : 0;
}

static int two_labels(double inside, int y, int x)
{
    (void)y;
    return inside <= 0 ? 0 : x < 64 ? 1 : 2;
}

static int small_label(double inside, int y, int x) /* far from the lesion, 1 % of its size */
{
    return hypot(y - 110, x - 110) < 3 ? 1 : inside > 0 ? 255 : 0;
}

static int two_strengths(double inside, int y, int x)
{
    (void)y;
    return inside <= 0 ? 0 : x < 64 ? 100 : 200;
}

static int weak_second(double inside, int y, int x) /* beside a lesion with soft edges */
{
    return hypot(y - 110, x - 110) < 10 ? 90 : ramp(inside, 1.5);
}

static int dim(double inside, int y, int x)
{
    (void)y;
    (void)x;
    return inside > 29 ? 90 : 0; /* five pixels: no area */
}

/* Edges may have any level; areas are black or white. */
static void mask_levels(void **state)
{
    (void)state;
    static const struct {
        int (*level)(double, int, int);
        const char *message;
    } rows[] = {{smooth, NULL},
                {blurred, NULL},
                {noisy, NULL},
                {near_white, NULL},
                {two_labels, "disc.png: this mask has the values 0, 1, 2, and"},
                {small_label, "disc.png: this mask has the values 0, 1, 255, and 25 pixels are 1"},
                {two_strengths, "disc.png: this mask has the values 0, 100, 200, and"},
                {weak_second, " ... 255, and"}};
    image m;
    image_about about;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].message) {
            FAILS(read_disc(rows[i].level, &m, &about), MD_BAD_INPUT, rows[i].message);
            continue;
        }
        OK(read_disc(rows[i].level, &m, &about));
        for (int k = 0; k < SIDE * SIDE; k++) {
            const double inside = 30 - hypot(k / SIDE - 60, k % SIDE - 64);
            if (fabs(inside) > 1)
                assert_int_equal(m.px[k], inside > 0);
        }
        assert_true(about.largest >= 254 && about.threshold == 128 && about.orientation == 1);
        image_free(&m);
    }
    OK(read_disc(dim, &m, &about));
    assert_true(!memchr(m.px, 1, SIDE * SIDE) && about.largest == 90 && about.threshold == 128);
    image_free(&m);
}

static void refused(void **state)
{
    (void)state;
    image im = {0};
    FAILS(image_read(DATA "gray16.png", &im), MD_BAD_INPUT, "gray16.png: 16-bit PNG");
    FAILS(image_read(DATA "rgb16.png", &im), MD_BAD_INPUT, "-depth 8");
    FAILS(image_read_mask(DATA "gray16.png", &im), MD_BAD_INPUT, "16-bit");
    FAILS(image_read(DATA "cmyk.jpg", &im), MD_BAD_INPUT, "cmyk.jpg: CMYK JPEG");
    FAILS(image_read(DATA "short.png", &im), MD_BAD_INPUT, "short.png: damaged PNG");
    FAILS(image_read("tests/image/test_read.c", &im), MD_BAD_INPUT, "test_read.c: not a PNG");
    FAILS(image_read("no/such.png", &im), MD_BAD_INPUT, "no/such.png");
    FAILS(image_read("tests/image", &im), MD_BAD_INPUT, "tests/image");
    FAILS(image_read_memory("e", "", 0, &im), MD_BAD_INPUT, "e: the file is empty");
    FAILS(image_read_memory("t", "II*\0aaaa", 8, &im), MD_BAD_INPUT, "TIFF");
    FAILS(image_read_memory("g", "GIF89a", 6, &im), MD_BAD_INPUT, "GIF");
    char dicom[200] = {0};
    memcpy(dicom + 128, "DICM", 4);
    FAILS(image_read_memory("d.dcm", dicom, sizeof dicom, &im), MD_BAD_INPUT, "d.dcm: DICOM");
    assert_null(im.px); /* untouched */
}

/* A file claiming another size in its IHDR, with a right checksum where it matters. */
static void sizes(void **state)
{
    (void)state;
    image im = {0};
    static const struct {
        uint8_t w[4], h[4], crc[4];
        const char *message;
    } rows[] = {
        {{0, 1, 0, 0}, {0, 0, 0, 1}, {0}, "damaged PNG"},
        {{0, 0, 0, 0}, {0, 0, 0, 1}, {0}, "damaged PNG"},
    };
    void *bytes = NULL;
    size_t n = 0;
    OK(md_file_read(DATA "gray8.png", 4096, &bytes, &n));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        memcpy((char *)bytes + 16, rows[i].w, 4);
        memcpy((char *)bytes + 20, rows[i].h, 4);
        FAILS(image_read_memory("x", bytes, n, &im), MD_BAD_INPUT, rows[i].message);
    }
    free(bytes);
    FAILS(image_new(&im, 40000, 1, 1), MD_BAD_INPUT, "32768");
    FAILS(image_new(&im, 32768, 32768, 1), MD_BAD_INPUT, "megapixels");
    FAILS(image_new(&im, 0, 5, 1), MD_BAD_INPUT, "empty");
    FAILS(image_new(&im, 5, 5, 2), MD_INTERNAL, "2 channels");
    /* a JPEG that says it is 60000 wide */
    OK(md_file_read(DATA "gray.jpg", 65536, &bytes, &n));
    for (size_t i = 0; i + 8 < n; i++) {
        uint8_t *p = (uint8_t *)bytes + i;
        if (p[0] == 0xFF && p[1] == 0xC0) {
            p[7] = 0xEA, p[8] = 0x60;
            break;
        }
    }
    FAILS(image_read_memory("j", bytes, n, &im), MD_BAD_INPUT, "60000 x 16");
    free(bytes);
}

static void truncated(void **state)
{
    (void)state;
    static const char *const files[] = {"rgb8.png",   "interlaced.png",  "palette8.png",
                                        "rgb.jpg",    "progressive.jpg", "gray.jpg",
                                        "orient6.png"};
    for (size_t k = 0; k < sizeof files / sizeof *files; k++) {
        char path[64];
        void *bytes = NULL;
        size_t n = 0;
        image im;
        snprintf(path, sizeof path, DATA "%s", files[k]);
        OK(md_file_read(path, 1 << 20, &bytes, &n));
        for (size_t cut = 0; cut < n; cut++) {
            uint8_t *part = malloc(cut + 1);
            memcpy(part, bytes, cut);
            if (image_read_memory(path, part, cut, &im) == MD_OK)
                fail_msg("%s cut at %zu of %zu is accepted", path, cut, n);
            if (!strstr(md_status_text(), path))
                fail_msg("the message does not name the file: %s", md_status_text());
            free(part);
        }
        free(bytes);
    }
}

static void writing(void **state)
{
    (void)state;
    char path[64];
    image im, back, mask;
    const image_text text[] = {{"Software", "meddiff"}, {"Comment", "\xc3\xa9t\xc3\xa9"}};
    snprintf(path, sizeof path, "/tmp/meddiff-image-%ld.png", (long)getpid());
    for (int c = 1; c <= 3; c += 2) {
        OK(image_new(&im, 33, 21, c));
        for (int64_t i = 0; i < 33 * 21 * c; i++)
            im.px[i] = (uint8_t)(i * i % 251);
        OK(image_write_png(path, &im, text, 2));
        OK(image_read(path, &back));
        assert_true(back.h == 33 && back.w == 21 && back.c == c);
        assert_memory_equal(im.px, back.px, (size_t)(33 * 21 * c));
        double db = 0;
        OK(image_psnr(&im, &back, &db));
        assert_true(isinf(db));
        back.px[0] = (uint8_t)(back.px[0] + 1);
        OK(image_psnr(&im, &back, &db));
        assert_true(fabs(db - 10 * log10(255.0 * 255 * 33 * 21 * c)) < 1e-9);
        image_free(&back);
        image_free(&im);
    }
    void *bytes = NULL;
    size_t n = 0;
    OK(md_file_read(path, 1 << 20, &bytes, &n));
    int found = 0;
    for (size_t i = 0; i + 12 < n; i++)
        found |= !memcmp((char *)bytes + i, "iTXtSoftware", 12);
    assert_true(found);
    free(bytes);
    OK(image_new(&im, 3, 2, 1));
    im.px[3] = 1;
    OK(image_write_mask(path, &im));
    OK(image_read(path, &back));
    assert_int_equal(back.px[3], 255);
    OK(image_read_mask(path, &mask));
    assert_memory_equal(mask.px, im.px, 6);
    image_free(&mask);
    image_free(&back);
    OK(image_to_rgb(&im, &back));
    assert_int_equal(back.px[10], 1);
    image_free(&back);
    unlink(path);
    FAILS(image_write_png("/no/such/folder/x.png", &im, NULL, 0), MD_IO, "/no/such/folder/x.png");
    image_free(&im);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(png_kinds), cmocka_unit_test(jpeg_kinds),  cmocka_unit_test(orientation),
        cmocka_unit_test(masks),     cmocka_unit_test(mask_levels), cmocka_unit_test(refused),
        cmocka_unit_test(sizes),     cmocka_unit_test(truncated),   cmocka_unit_test(writing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
