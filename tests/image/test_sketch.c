/* Sketches of masks: an ellipse is its own, under any turn; ragged and hollow ones are told apart;
   what is blurred and what is not; told by what was drawn. */
#include "image/mask_sketch.h"
#include "support/expect.h"

#include <math.h>
#include <stdlib.h>

enum { SIZE = 128, EDGE = 64, PX = EDGE * EDGE };
static const image_field_view view = {.size = SIZE, .edge = EDGE, .ramp_px = 6.4};
static const image_affine still = {.m = {1, 0, 0, 0, 1, 0}};
static const double PI = 3.14159265358979323846;

static void expect_near(double got, double wanted, double within)
{
    if (!(fabs(got - wanted) <= within))
        fail_msg("%.9g, wanted %.9g within %g", got, wanted, within);
}

/* An ellipse of semi-axes a and b pixels, the longer one turned from x to y; teeth: outward bumps.
 */
static void make_field(double cy, double cx, double a, double b, double angle, int teeth,
                       float *field)
{
    image m;
    OK(image_new(&m, SIZE, SIZE, 1));
    for (int i = 0; i < SIZE * SIZE; i++) {
        double y = i / SIZE + 0.5 - cy, x = i % SIZE + 0.5 - cx;
        double u = (cos(angle) * x + sin(angle) * y) / a, v = (cos(angle) * y - sin(angle) * x) / b;
        m.px[i] = hypot(u, v) <= 1 + (teeth ? 0.25 * cos(teeth * atan2(v, u)) : 0);
    }
    OK(image_mask_field(&m, field));
    image_free(&m);
}

static image_sketch sketch_of(const float *field, float *picture)
{
    image_sketch s;
    image_field_picture(&view, field, &still, picture);
    OK(image_sketch_measure(&view, picture, &s));
    return s;
}

static void ellipses(void **state)
{
    (void)state;
    static float field[SIZE * SIZE], picture[PX], planes[PX * IMAGE_SKETCH_PLANES];
    const image_sketch_spread spread = {.mean = {0.5, 0.9, 1.1}, .deviation = {0.2, 0.05, 0.1}};
    for (int turn = 0; turn < 8; turn++) {
        double angle = turn * PI / 8;
        make_field(70, 55, 36, 18, angle, 0, field);
        image_sketch s = sketch_of(field, picture);
        expect_near(s.area, PI * 36 * 18 / (SIZE * SIZE), 0.002);
        expect_near(s.y, 70.0 / SIZE, 0.003);
        expect_near(s.x, 55.0 / SIZE, 0.003);
        expect_near(fabs(sin(s.angle - angle)), 0, 0.02);
        expect_near(s.value[IMAGE_SKETCH_RATIO], log(2), 0.02);
        expect_near(s.value[IMAGE_SKETCH_SOLIDITY], 0.97, 0.03);
        /* drawn again it is the picture, but for what is of second order */
        image_sketch_draw(&s, &spread, &view, planes);
        for (int i = 0; i < PX; i++) {
            double off = fabs((double)planes[IMAGE_SKETCH_PLANES * i] - (double)picture[i]);
            if (off > 0.3)
                fail_msg("turn %d, pixel %d: off by %.3f", turn, i, off);
        }
        expect_near(planes[1], fmin((s.value[IMAGE_SKETCH_SOLIDITY] - 0.9) / 0.05, 3), 1e-5);
        expect_near(planes[3 * PX - 1], (s.value[IMAGE_SKETCH_RIM] - 1.1) / 0.1, 1e-5);
    }
}

static void ragged(void **state)
{
    (void)state;
    static float fields[3 * SIZE * SIZE], picture[PX], planes[PX * IMAGE_SKETCH_PLANES];
    image_sketch s[3];
    for (int k = 0; k < 3; k++) {
        make_field(64, 64, 30, 30, 0, 4 * k, fields + k * SIZE * SIZE);
        s[k] = sketch_of(fields + k * SIZE * SIZE, picture);
    }
    expect_near(s[0].value[IMAGE_SKETCH_RIM], 1, 0.05);
    for (int k = 1; k < 3; k++) {
        assert_true(s[k].value[IMAGE_SKETCH_SOLIDITY] < s[0].value[IMAGE_SKETCH_SOLIDITY] - 0.1);
        assert_true(s[k].value[IMAGE_SKETCH_RIM] > s[k - 1].value[IMAGE_SKETCH_RIM] + 0.1);
    }
    image_sketch_spread of;
    OK(image_sketch_spread_of(&view, fields, 3, &of));
    for (int k = 0; k < IMAGE_SKETCH_N; k++) {
        double mean = 0, square = 0;
        for (int i = 0; i < 3; i++) {
            mean += s[i].value[k] / 3;
            square += s[i].value[k] * s[i].value[k] / 3;
        }
        expect_near(of.mean[k], mean, 1e-12);
        expect_near(of.deviation[k], sqrt(fmax(square - mean * mean, 0)), 1e-7);
    }
    /* blurred by a tenth of the spread */
    double sum = 0;
    md_rng r = md_rng_at(1, MD_RNG_TEST, 0, 0);
    for (int i = 0; i < 4000; i++) {
        image_sketch b = s[1];
        image_sketch_blur(&b, &of, &r);
        double d = b.value[IMAGE_SKETCH_RIM] - s[1].value[IMAGE_SKETCH_RIM];
        sum += d * d / 4000;
        assert_true(b.area == s[1].area && b.y == s[1].y && b.x == s[1].x);
    }
    expect_near(sqrt(sum), 0.1 * of.deviation[IMAGE_SKETCH_RIM],
                0.01 * of.deviation[IMAGE_SKETCH_RIM]);
    /* where all masks are alike, nothing is divided by nothing */
    const image_sketch_spread none = {.mean = {0, 1, 1}};
    image_sketch_draw(&s[2], &none, &view, planes);
    for (int i = 0; i < PX * IMAGE_SKETCH_PLANES; i++)
        assert_true(isfinite(planes[i]) && fabs((double)planes[i]) <= 3);
}

static void empty(void **state)
{
    (void)state;
    static float picture[PX], planes[PX * IMAGE_SKETCH_PLANES];
    const image_sketch_spread spread = {.mean = {0, 1, 1}, .deviation = {1, 1, 1}};
    image_sketch s;
    for (int i = 0; i < PX; i++)
        picture[i] = -1;
    OK(image_sketch_measure(&view, picture, &s));
    image_sketch_draw(&s, &spread, &view, planes);
    for (int i = 0; i < PX; i++)
        assert_true(planes[IMAGE_SKETCH_PLANES * i] == -1 &&
                    planes[IMAGE_SKETCH_PLANES * i + 1] == 0);
    picture[5 * EDGE + 7] = 1; /* one pixel is a small disc */
    OK(image_sketch_measure(&view, picture, &s));
    image_sketch_draw(&s, &spread, &view, planes);
    for (int i = 0; i < PX * IMAGE_SKETCH_PLANES; i++)
        assert_true(isfinite(planes[i]));
    assert_true(planes[IMAGE_SKETCH_PLANES * (5 * EDGE + 7)] > 0);
}

/* One who follows half of a deviation from the mean and draws smoother by 0.02: told against the
   adjusted spread, as a plane would say it, what is drawn is what was meant. */
static double follows(const image_sketch_spread *told_against, double wanted)
{
    const image_sketch_spread trained = {.mean = {0, 0.85, 1.2}, .deviation = {1, 0.08, 0.2}};
    const int k = IMAGE_SKETCH_SOLIDITY;
    double z = (wanted - told_against->mean[k]) / told_against->deviation[k];
    return trained.mean[k] + 0.02 + 0.6 * trained.deviation[k] * z;
}

static void adjusted(void **state)
{
    (void)state;
    enum { N = 5 };
    const int k = IMAGE_SKETCH_SOLIDITY, rim = IMAGE_SKETCH_RIM;
    const image_sketch_spread trained = {.mean = {0, 0.85, 1.2}, .deviation = {1, 0.08, 0.2}};
    image_sketch_spread of = trained;
    image_sketch told[N] = {{0}}, drawn[N] = {{0}};
    for (int i = 0; i < N; i++) {
        told[i].value[k] = 0.75 + 0.04 * i;
        drawn[i].value[k] = follows(&trained, told[i].value[k]);
        told[i].value[rim] = 1.1 + 0.05 * i; /* not followed at all, and always too ragged */
        drawn[i].value[rim] = 1.9;
        told[i].value[0] = drawn[i].value[0] = i;
    }
    image_sketch_spread_adjust(&trained, told, drawn, 0, &of);
    assert_memory_equal(&of, &trained, sizeof of);
    image_sketch_spread_adjust(&trained, told, drawn, N, &of);
    expect_near(of.mean[k], 0.85 + 0.02, 1e-12);
    expect_near(of.deviation[k], 0.6 * 0.08, 1e-12);
    for (double wanted = 0.7; wanted < 0.95; wanted += 0.05)
        expect_near(follows(&of, wanted), wanted, 1e-12);
    expect_near(of.mean[rim], 1.2 + 0.2, 1e-12);
    expect_near(of.deviation[rim], 0.2 / 2, 1e-12);
    assert_true(of.mean[0] == 0 && of.deviation[0] == 1);
    /* a second round of the same keeps it, and the limits hold for both together */
    for (int i = 0; i < N; i++)
        drawn[i].value[k] = follows(&of, told[i].value[k]);
    image_sketch_spread_adjust(&trained, told, drawn, N, &of);
    expect_near(of.mean[k], 0.85 + 0.02, 1e-12);
    expect_near(of.deviation[k], 0.6 * 0.08, 1e-12);
    expect_near(of.mean[rim], 1.2 + 0.2, 1e-12);
    expect_near(of.deviation[rim], 0.2 / 2, 1e-12);
    /* one who follows half and adds noise of half a spread: told so that both make up the spread */
    of = trained;
    const double plus[4] = {1, -1, 1, -1}, wanted[4] = {-0.08, -0.08, 0.08, 0.08};
    for (int i = 0; i < 4; i++) {
        told[i].value[k] = 0.85 + wanted[i];
        drawn[i].value[k] = 0.85 + 0.5 * wanted[i] + 0.04 * plus[i];
    }
    image_sketch_spread_adjust(&trained, told, drawn, 4, &of);
    expect_near(of.mean[k], 0.85, 1e-12);
    double spread = 0;
    for (int i = 0; i < 4; i++) {
        double z = wanted[i] / of.deviation[k];
        spread += pow(0.5 * z * trained.deviation[k] + 0.04 * plus[i], 2) / 4;
    }
    expect_near(sqrt(spread), 0.08, 1e-12);
    /* one who follows wholly and adds noise is not told less for it */
    of = trained;
    for (int i = 0; i < 4; i++)
        drawn[i].value[k] = told[i].value[k] + 0.04 * plus[i];
    image_sketch_spread_adjust(&trained, told, drawn, 4, &of);
    expect_near(of.mean[k], 0.85, 1e-12);
    assert_true(of.deviation[k] == 0.08);
    /* all told the same: what they share is corrected alone */
    of = trained;
    for (int i = 0; i < N; i++) {
        told[i].value[k] = 0.9;
        drawn[i].value[k] = 0.92 + 0.01 * (i - 2);
    }
    image_sketch_spread_adjust(&trained, told, drawn, N, &of);
    expect_near(of.mean[k], 0.87, 1e-12);
    assert_true(of.deviation[k] == 0.08);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ellipses), cmocka_unit_test(ragged),
                                       cmocka_unit_test(empty), cmocka_unit_test(adjusted)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
