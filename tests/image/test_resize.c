/* Resizing against PIL (data/resize_*.png), area and max pooling of planes, fitting and its
 * inverse. */
#include "support/expect.h"

#include "image/fit.h"
#include "image/resize.h"

#include <math.h>

#define DATA "tests/image/data/"

static void as_pil(void **state)
{
    (void)state;
    static const char *const names[] = {"nearest", "box", "bilinear", "bicubic", "lanczos"};
    static const int64_t sizes[][2] = {{5, 7}, {40, 9}, {6, 23}, {31, 50}, {1, 1}};
    image src, got, wanted;
    OK(image_read(DATA "resize_source.png", &src));
    for (int f = 0; f < 5; f++)
        for (size_t k = 0; k < 5; k++) {
            char path[96];
            const int64_t h = sizes[k][0], w = sizes[k][1];
            snprintf(path, sizeof path, DATA "resize_%s_%dx%d.png", names[f], (int)h, (int)w);
            OK(image_resize(&src, h, w, (image_filter)f, &got));
            OK(image_read(path, &wanted));
            assert_true(wanted.h == h && wanted.w == w && wanted.c == 3);
            if (memcmp(got.px, wanted.px, (size_t)(h * w * 3)) != 0)
                fail_msg("%s differs", path);
            image_free(&got);
            image_free(&wanted);
        }
    image_free(&src);
}

static void boxes(void **state)
{
    (void)state;
    /* a box of whole pixels equals cutting first */
    image src, cut, a, b;
    OK(image_read(DATA "resize_source.png", &src));
    OK(image_new(&cut, 8, 11, 3));
    for (int64_t y = 0; y < 8; y++)
        memcpy(cut.px + y * 33, src.px + ((y + 4) * 23 + 6) * 3, 33);
    OK(image_resize(&cut, 8, 11, IMAGE_AREA, &a));
    OK(image_resize_box(&src, (image_box){4, 6, 12, 17}, 8, 11, IMAGE_AREA, &b));
    assert_memory_equal(a.px, b.px, 8 * 11 * 3);
    image_free(&a);
    image_free(&b);
    FAILS(image_resize_box(&src, (image_box){4, 6, 18, 17}, 8, 11, IMAGE_AREA, &b), MD_INTERNAL,
          "box");
    FAILS(image_resize_box(&src, (image_box){4, 6, 4, 17}, 8, 11, IMAGE_AREA, &b), MD_INTERNAL,
          "box");
    image_free(&cut);
    image_free(&src);
}

static void planes(void **state)
{
    (void)state;
    const float x[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    float y[16];
    OK(image_resize_plane(x, 3, 4, y, 1, 2, IMAGE_AREA)); /* means of 3 x 2 blocks */
    assert_true(fabsf(y[0] - 5.5f) < 1e-6f && fabsf(y[1] - 7.5f) < 1e-6f);
    OK(image_resize_plane(x, 1, 3, y, 1, 2,
                          IMAGE_AREA)); /* cells of 1.5: (1 + 2/2)/1.5, (2/2 + 3)/1.5 */
    assert_true(fabsf(y[0] - 4.0f / 3) < 1e-6f && fabsf(y[1] - 8.0f / 3) < 1e-6f);
    OK(image_max_pool_plane(x, 1, 3, y, 1, 2)); /* the middle one belongs to both */
    assert_true(y[0] == 2 && y[1] == 3);
    OK(image_max_pool_plane(x, 3, 4, y, 3, 4));
    assert_memory_equal(x, y, sizeof x);
    OK(image_resize_plane(x, 3, 4, y, 3, 4, IMAGE_LANCZOS));
    for (int i = 0; i < 12; i++)
        assert_true(fabsf(x[i] - y[i]) < 1e-5f);
    float big[100], small[9];
    double sum = 0, after = 0;
    for (int i = 0; i < 100; i++)
        sum += big[i] = (float)(i * 7 % 13);
    OK(image_resize_plane(big, 10, 10, small, 3, 3, IMAGE_AREA)); /* area keeps the mean */
    for (int i = 0; i < 9; i++)
        after += small[i];
    assert_true(fabs(sum / 100 - after / 9) < 1e-6);
}

static void maps(void **state)
{
    (void)state;
    image_fit_map m;
    OK(image_fit_map_make(300, 400, 128, IMAGE_LETTERBOX, &m));
    assert_true(m.y0 == 16 && m.y1 == 112 && m.x0 == 0 && m.x1 == 128);
    assert_true(m.sx == 0.32 && m.sy == 0.32 && m.oy == 16 && m.ox == 0);
    OK(image_fit_map_make(300, 400, 150, IMAGE_CROP, &m));
    assert_true(m.sx == 0.5 && m.sy == 0.5 && m.ox == -25 && m.oy == 0 && m.x1 == 150);
    OK(image_fit_map_make(300, 400, 100, IMAGE_SQUASH, &m));
    assert_true(m.sx == 0.25 && fabs(m.sy - 1.0 / 3) < 1e-15);
    OK(image_fit_map_make(1, 30000, 64, IMAGE_LETTERBOX, &m)); /* never thinner than a pixel */
    assert_true(m.y1 - m.y0 == 1);
    image_fit_mode mode;
    OK(image_fit_mode_parse("crop", &mode));
    assert_int_equal(mode, IMAGE_CROP);
    FAILS(image_fit_mode_parse("stretch", &mode), MD_USAGE, "stretch");
}

/* A bright disc and its mask, where the map says, for each mode; then back again. */
static void there_and_back(void **state)
{
    (void)state;
    const int64_t h = 210, w = 340;
    image src, mask;
    OK(image_new(&src, h, w, 3));
    OK(image_new(&mask, h, w, 1));
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++) {
            const int in = hypot((double)y - 90, (double)x - 150) < 50;
            mask.px[y * w + x] = (uint8_t)in;
            for (int ch = 0; ch < 3; ch++)
                src.px[(y * w + x) * 3 + ch] = (uint8_t)(in ? 200 + ch : 60 + ch);
        }
    for (int mode = IMAGE_LETTERBOX; mode <= IMAGE_SQUASH; mode++) {
        image a, b, back, back_mask;
        image_fit_map m, mm;
        OK(image_fit(&src, 128, (image_fit_mode)mode, IMAGE_BILINEAR, &a, &m));
        OK(image_fit_mask(&mask, 128, (image_fit_mode)mode, &b, &mm));
        assert_memory_equal(&m, &mm, sizeof m);
        assert_true(a.h == 128 && a.w == 128 && b.c == 1);
        int64_t wrong = 0, outside = 0;
        for (int64_t y = 0; y < 128; y++)
            for (int64_t x = 0; x < 128; x++) {
                const int valid = y >= m.y0 && y < m.y1 && x >= m.x0 && x < m.x1;
                const double sy = ((double)y + 0.5 - m.oy) / m.sy - 0.5;
                const double sx = ((double)x + 0.5 - m.ox) / m.sx - 0.5;
                const double d = hypot(sy - 90, sx - 150);
                const uint8_t *p = a.px + (y * 128 + x) * 3;
                if (!valid) {
                    outside += p[0] != 0 || b.px[y * 128 + x] != 0;
                    continue;
                }
                if (d < 45)
                    wrong += p[0] != 200 || p[2] != 202 || b.px[y * 128 + x] != 1;
                if (d > 55)
                    wrong += p[0] != 60 || p[2] != 62 || b.px[y * 128 + x] != 0;
            }
        assert_int_equal(wrong, 0);
        assert_int_equal(outside, 0);
        OK(image_unfit(&a, &m, mode == IMAGE_CROP ? &src : NULL, IMAGE_BILINEAR, &back));
        OK(image_unfit_mask(&b, &m, &back_mask));
        assert_true(back.h == h && back.w == w && back_mask.h == h && back_mask.w == w);
        int64_t differ = 0, area = 0;
        double db = 0;
        for (int64_t i = 0; i < h * w; i++) {
            differ += back_mask.px[i] != mask.px[i];
            area += mask.px[i];
        }
        OK(image_psnr(&src, &back, &db));
        if ((double)differ > 0.05 * (double)area || db < 27)
            fail_msg("mode %d: %d of %d mask pixels differ, %.1f dB", mode, (int)differ, (int)area,
                     db);
        image_free(&a);
        image_free(&b);
        image_free(&back);
        image_free(&back_mask);
    }
    image_free(&src);
    image_free(&mask);
}

static void half_covered(void **state)
{
    (void)state;
    /* 2 x 2 blocks with 1, 2, 2, 3 pixels set: half is enough */
    const uint8_t px[16] = {1, 0, 1, 0, 0, 0, 1, 0, 1, 1, 1, 1, 0, 0, 1, 0};
    image m, out;
    OK(image_new(&m, 4, 4, 1));
    memcpy(m.px, px, 16);
    OK(image_fit_mask(&m, 2, IMAGE_SQUASH, &out, NULL));
    const uint8_t wanted[4] = {0, 1, 1, 1};
    assert_memory_equal(out.px, wanted, 4);
    image_free(&m);
    image_free(&out);
}

/* A quarter of a pixel is no half, in whatever order the axes are averaged; and a filter of PIL's
   works on 0 and 255, where its 8 bits between the passes cannot round a share to one. */
static void masks_need_a_half(void **state)
{
    (void)state;
    static const image_filter filters[] = {IMAGE_AREA, IMAGE_BOX, IMAGE_BILINEAR, IMAGE_LANCZOS};
    image m, out;
    OK(image_new(&m, 6, 2, 1));
    m.px[0] = 1;           /* rows 0, 1: a quarter */
    m.px[8] = m.px[9] = 1; /* rows 4, 5: a half */
    for (size_t f = 0; f < 4; f++) {
        OK(image_resize_mask_box(&m, (image_box){0, 0, 2, 2}, 1, 1, filters[f], &out));
        assert_int_equal(out.px[0], 0);
        image_free(&out);
        OK(image_resize_mask_box(&m, (image_box){4, 0, 6, 2}, 1, 1, filters[f], &out));
        assert_int_equal(out.px[0], filters[f] == IMAGE_AREA || filters[f] == IMAGE_BOX);
        image_free(&out);
    }
    image_free(&m);
    /* an edge in the middle of 64 columns, enlarged and shrunk: it stays where it is */
    OK(image_new(&m, 3, 64, 1));
    for (int i = 0; i < 3 * 64; i++)
        m.px[i] = i % 64 >= 32;
    for (size_t f = 0; f < 4; f++)
        for (int64_t w = 16; w <= 256; w *= 2) {
            OK(image_resize_mask_box(&m, (image_box){0, 0, 3, 64}, 3, w, filters[f], &out));
            for (int64_t i = 0; i < 3 * w; i++)
                assert_int_equal(out.px[i], i % w >= w / 2);
            image_free(&out);
        }
    image_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(masks_need_a_half),

                                       cmocka_unit_test(as_pil),
                                       cmocka_unit_test(boxes),
                                       cmocka_unit_test(planes),
                                       cmocka_unit_test(maps),
                                       cmocka_unit_test(there_and_back),
                                       cmocka_unit_test(half_covered)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
