/* Morphology against brute force, components, holes, measures, warps, sheets. */
#include "support/expect.h"

#include "base/rng.h"
#include "image/mask.h"
#include "image/sheet.h"

#include <math.h>

static uint32_t seed = 7;

static uint32_t next(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 16;
}

static void random_mask(image *m, int64_t h, int64_t w, uint32_t percent)
{
    OK(image_new(m, h, w, 1));
    for (int64_t i = 0; i < h * w; i++)
        m->px[i] = next() % 100 < percent;
}

static int64_t brute(const image *m, int target, int64_t y, int64_t x)
{
    int64_t best = INT64_MAX;
    for (int64_t i = 0; i < m->h * m->w; i++) {
        const int64_t dy = i / m->w - y, dx = i % m->w - x;
        if ((m->px[i] != 0) == target && dy * dy + dx * dx < best)
            best = dy * dy + dx * dx;
    }
    return best;
}

static void distances(void **state)
{
    (void)state;
    for (int round = 0; round < 300; round++) {
        image m, e, d;
        random_mask(&m, 1 + next() % 19, 1 + next() % 23,
                    (uint32_t[]){0, 3, 50, 97, 100}[round % 5]);
        const int64_t n = m.h * m.w;
        int64_t *d2 = malloc((size_t)n * sizeof *d2);
        for (int target = 0; target < 2; target++) {
            OK(image_mask_distance2(&m, target, d2));
            for (int64_t i = 0; i < n; i++)
                if (d2[i] != brute(&m, target, i / m.w, i % m.w))
                    fail_msg("round %d: target %d at %d: %lld", round, target, (int)i,
                             (long long)d2[i]);
        }
        const double r = (double[]){0, 1, 1.5, 3}[round % 4];
        OK(image_mask_erode(&m, r, &e));
        OK(image_mask_dilate(&m, r, &d));
        for (int64_t i = 0; i < n; i++) {
            assert_int_equal(e.px[i], (double)brute(&m, 0, i / m.w, i % m.w) > r * r);
            assert_int_equal(d.px[i], (double)brute(&m, 1, i / m.w, i % m.w) <= r * r);
        }
        free(d2);
        image_free(&m);
        image_free(&e);
        image_free(&d);
    }
    image m, out;
    random_mask(&m, 3, 3, 50);
    FAILS(image_mask_erode(&m, -1, &out), MD_INTERNAL, "radius");
    image_free(&m);
}

static void feather(void **state)
{
    (void)state;
    image m;
    float a[9];
    OK(image_new(&m, 1, 9, 1));
    for (int i = 2; i < 9; i++)
        m.px[i] = 1;
    OK(image_mask_feather(&m, 4, a));
    const float wanted[9] = {0, 0, 0.125f, 0.375f, 0.625f, 0.875f, 1, 1, 1};
    for (int i = 0; i < 9; i++)
        assert_true(fabsf(a[i] - wanted[i]) < 1e-6f);
    OK(image_mask_feather(&m, 0, a));
    assert_true(a[1] == 0 && a[2] == 1);
    memset(m.px, 1, 9);
    OK(image_mask_feather(&m, 4, a)); /* nothing outside: no edge */
    assert_true(a[0] == 1);
    image_free(&m);
}

static void from_text(image *m, int64_t h, int64_t w, const char *text)
{
    OK(image_new(m, h, w, 1));
    for (int64_t i = 0; i < h * w; i++)
        m->px[i] = text[i] == '#';
}

static void components(void **state)
{
    (void)state;
    image m, filled;
    int64_t n = 0, *areas = NULL;
    int32_t labels[48];
    image_mask_stats s;
    from_text(&m, 6, 8,
              "##......"
              "#..####."
              "...#..#."
              "...#.##."
              "...##..#" /* the corner joins: 8 neighbours */
              "........");
    OK(image_mask_components(&m, &n, labels, &areas));
    assert_int_equal(n, 2);
    assert_int_equal(areas[0], 3);
    assert_int_equal(areas[1], 12);
    assert_true(labels[0] == 1 && labels[8] == 1 && labels[11] == 2 && labels[2] == 0 &&
                labels[39] == 2);
    free(areas);
    OK(image_mask_fill_holes(&m, &filled));
    assert_true(filled.px[2 * 8 + 4] == 1 && filled.px[2 * 8 + 5] == 1 &&
                filled.px[3 * 8 + 4] == 1);
    assert_true(filled.px[4 * 8 + 5] == 0 && filled.px[2] == 0);
    OK(image_mask_measure(&filled, &s));
    assert_int_equal(s.area, 18);
    assert_int_equal(s.n_components, 2);
    assert_int_equal(s.border, 4);
    assert_true(s.y0 == 0 && s.x0 == 0 && s.y1 == 5 && s.x1 == 8);
    image_free(&filled);
    memset(m.px, 0, 48);
    OK(image_mask_measure(&m, &s));
    assert_true(s.area == 0 && s.n_components == 0 && s.y1 == 0 && s.x0 == 0);
    OK(image_mask_components(&m, &n, NULL, &areas));
    assert_true(n == 0 && !areas);
    m.px[2 * 8 + 3] = m.px[4 * 8 + 3] = 1;
    OK(image_mask_measure(&m, &s));
    assert_true(s.cy == 3 && s.cx == 3 && s.n_components == 2);
    image b;
    double dice = -1;
    OK(image_copy(&m, &b));
    b.px[0] = 1;
    b.px[2 * 8 + 3] = 0;
    OK(image_mask_dice(&m, &b, &dice));
    assert_true(dice == 0.5);
    OK(image_mask_union(&b, &m));
    OK(image_mask_measure(&b, &s));
    assert_int_equal(s.area, 3);
    image_free(&b);
    OK(image_new(&b, 6, 7, 1));
    FAILS(image_mask_union(&b, &m), MD_SHAPE, "8 x 6");
    image_free(&b);
    image_free(&m);
}

static void warps(void **state)
{
    (void)state;
    image m, out, back;
    image_affine a;
    random_mask(&m, 13, 17, 50);
    a = image_affine_make(0, 0, 1, 0, 0);
    OK(image_mask_warp(&m, &a, &out));
    assert_memory_equal(m.px, out.px, 13 * 17); /* the identity is exact */
    image_free(&out);
    a = image_affine_make(1, 0, 1, 0, 0);
    OK(image_mask_warp(&m, &a, &out));
    for (int64_t i = 0; i < 13 * 17; i++)
        assert_int_equal(out.px[i], m.px[i / 17 * 17 + 16 - i % 17]);
    image_free(&out);
    a = image_affine_make(0, 0, 1, 3, -2); /* three right, two up */
    OK(image_mask_warp(&m, &a, &out));
    for (int64_t y = 0; y < 13; y++)
        for (int64_t x = 0; x < 17; x++)
            assert_int_equal(out.px[y * 17 + x],
                             y + 2 < 13 && x >= 3 ? m.px[(y + 2) * 17 + x - 3] : 0);
    image_free(&out);
    image_free(&m);
    /* a quarter turn clockwise of a square: the upper left goes to the upper right */
    random_mask(&m, 12, 12, 50);
    a = image_affine_make(0, 90, 1, 0, 0);
    OK(image_mask_warp(&m, &a, &out));
    for (int64_t y = 0; y < 12; y++)
        for (int64_t x = 0; x < 12; x++)
            assert_int_equal(out.px[y * 12 + x], m.px[(11 - x) * 12 + y]);
    image_free(&out);
    image_free(&m);
    /* a disc keeps its area times scale^2, through any turn */
    OK(image_new(&m, 101, 101, 1));
    for (int64_t i = 0; i < 101 * 101; i++)
        m.px[i] = hypot((double)(i / 101) - 50, (double)(i % 101) - 50) < 20;
    image_mask_stats s0, s;
    OK(image_mask_measure(&m, &s0));
    for (int k = 0; k < 6; k++) {
        const double scale = (double[]){0.25, 0.5, 0.8, 1, 1.3, 2}[k];
        a = image_affine_make(k & 1, 17 * k, scale, 3.3, 4.6);
        OK(image_mask_warp(&m, &a, &out));
        OK(image_mask_measure(&out, &s));
        const double wanted = (double)s0.area * scale * scale;
        if (fabs((double)s.area - wanted) > 0.04 * wanted + 2 || fabs(s.cx - 53.3) > 0.2 ||
            fabs(s.cy - 54.6) > 0.2)
            fail_msg("scale %g: area %d, wanted %.1f; centre (%.2f, %.2f)", scale, (int)s.area,
                     wanted, s.cx, s.cy);
        image_free(&out);
    }
    OK(image_warp(&m, &(image_affine){{1, 0, 0, 0, 1, 0}}, &back));
    assert_memory_equal(m.px, back.px, 101 * 101);
    image_free(&back);
    image_free(&m);
}

static const double PI = 3.14159265358979323846;

/* How often the polygon turns around (x,y), by angles: another way than the program's. */
static int turns(const double *xy, int n, double x, double y)
{
    double sum = 0;
    for (int i = 0, j = n - 1; i < n; j = i++) {
        double d =
            atan2(xy[2 * i + 1] - y, xy[2 * i] - x) - atan2(xy[2 * j + 1] - y, xy[2 * j] - x);
        sum += d > PI ? d - 2 * PI : d < -PI ? d + 2 * PI : d;
    }
    return (int)lround(sum / (2 * PI));
}

static void polygons(void **state)
{
    (void)state;
    image m;
    OK(image_new(&m, 30, 40, 1));
    /* pixels are their centres: columns 3 to 7, rows 2 to 5 (the lower edge is not in) */
    static const double box[] = {3, 2, 7, 2, 7, 6, 3, 6};
    image_mask_stats s;
    OK(image_mask_fill_polygon(&m, box, 4));
    OK(image_mask_measure(&m, &s));
    assert_true(s.area == 20 && s.x0 == 3 && s.x1 == 8 && s.y0 == 2 && s.y1 == 6);
    static const double far[] = {100, 0, 200, 5, 100, 9, -50, -60, -90, -60};
    image_free(&m);
    OK(image_new(&m, 30, 40, 1));
    OK(image_mask_fill_polygon(&m, far, 3)); /* beside the mask, and above it */
    OK(image_mask_fill_polygon(&m, far + 6, 2));
    OK(image_mask_fill_polygon(&m, far, 0));
    OK(image_mask_measure(&m, &s));
    assert_int_equal(s.area, 0);
    md_rng r = md_rng_at(5, MD_RNG_TRAIN_NOISE, 0, 0);
    for (int round = 0; round < 200; round++) {
        double xy[24];
        int n = 3 + (int)md_rng_below(&r, 10);
        for (int i = 0; i < n; i++) { /* crossing itself, and beyond the borders */
            xy[2 * i] = md_rng_range(&r, -15, 55);
            xy[2 * i + 1] = md_rng_range(&r, -15, 45);
        }
        memset(m.px, 0, 30 * 40);
        OK(image_mask_fill_polygon(&m, xy, n));
        for (int y = 0; y < 30; y++)
            for (int x = 0; x < 40; x++) {
                int t = turns(xy, n, x, y);
                if (m.px[y * 40 + x] != (t != 0))
                    fail_msg("round %d, pixel (%d,%d): %d, but %d turns", round, x, y,
                             m.px[y * 40 + x], t);
            }
    }
    image_free(&m);
}

static int64_t count_color(const image *im, uint8_t r, uint8_t g, uint8_t b)
{
    int64_t n = 0;
    for (int64_t i = 0; i < im->h * im->w; i++)
        n += im->px[3 * i] == r && im->px[3 * i + 1] == g && im->px[3 * i + 2] == b;
    return n;
}

static void drawing(void **state)
{
    (void)state;
    image im, mask, gray, both;
    image_sheet s;
    OK(image_new(&im, 20, 20, 3));
    OK(image_new(&mask, 20, 20, 1));
    for (int64_t y = 5; y < 15; y++)
        memset(mask.px + y * 20 + 5, 1, 10);
    OK(image_draw_outline(&im, &mask, (image_color){255, 0, 0}, 1));
    assert_int_equal(count_color(&im, 255, 0, 0), 36);
    assert_true(im.px[(5 * 20 + 5) * 3] == 255 && im.px[(4 * 20 + 5) * 3] == 0 &&
                im.px[(6 * 20 + 6) * 3] == 0);
    OK(image_draw_tint(&im, &mask, (image_color){0, 100, 0}, 0.5));
    assert_true(im.px[(10 * 20 + 10) * 3 + 1] == 50 && im.px[1] == 0);
    memset(im.px, 0, 1200);
    image_draw_text(&im, 2, 2, "Ti", (image_color){9, 9, 9}, 1);
    assert_int_equal(count_color(&im, 9, 9, 9), 11 + 11);
    image_draw_text(&im, -3, 15, "\xff#x", (image_color){8, 8, 8}, 3); /* clipped on every side */
    OK(image_sheet_new(&s, 2, 3, 20, 24, 4, 1));
    assert_true(s.im.h == 2 * (20 + 10 + 4) + 4 && s.im.w == 3 * 28 + 4);
    OK(image_new(&gray, 10, 5, 1));
    memset(gray.px, 77, 50);
    OK(image_sheet_put(&s, 1, 2, &gray, "a long caption that is cut"));
    assert_int_equal(count_color(&s.im, 77, 77, 77), 20 * 10); /* doubled, centred */
    OK(image_sheet_put(&s, 0, 0, &im, NULL));
    FAILS(image_sheet_put(&s, 2, 0, &im, NULL), MD_INTERNAL, "cell (2, 0)");
    image_sheet_free(&s);
    const image *pair[2] = {&im, &im};
    OK(image_side_by_side(pair, 2, 3, &both));
    assert_true(both.h == 20 && both.w == 43);
    image_free(&both);
    pair[1] = &gray;
    FAILS(image_side_by_side(pair, 2, 3, &both), MD_SHAPE, "heights 20 and 10");
    FAILS(image_draw_outline(&im, &gray, (image_color){0, 0, 0}, 1), MD_SHAPE, "mask of 5 x 10");
    image_free(&gray);
    image_free(&im);
    image_free(&mask);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(distances),  cmocka_unit_test(feather),
                                       cmocka_unit_test(components), cmocka_unit_test(warps),
                                       cmocka_unit_test(polygons),   cmocka_unit_test(drawing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
