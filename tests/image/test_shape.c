/* Shapes, forms and smooth pictures of masks against closed forms. */
#include "support/expect.h"

#include "base/rng.h"
#include "image/mask_field.h"
#include "image/shape.h"

#include <math.h>

enum { S = 128 };
static const double PI = 3.14159265358979323846;

static void near(const char *what, double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance))
        fail_msg("%s: %.9g, wanted %.9g +- %.3g", what, got, want, tolerance);
}

/* An ellipse with its middle at (cy,cx) in pixels from the upper left corner, turned by `degrees`.
 */
static void ellipse(image *m, double cy, double cx, double a, double b, double degrees)
{
    double c = cos(degrees * PI / 180), s = sin(degrees * PI / 180);
    if (!m->px)
        OK(image_new(m, S, S, 1));
    for (int64_t i = 0; i < m->h * m->w; i++) {
        double y = (double)(i / m->w) + 0.5 - cy, x = (double)(i % m->w) + 0.5 - cx;
        double u = c * x + s * y, v = c * y - s * x;
        m->px[i] |= u * u / (a * a) + v * v / (b * b) <= 1;
    }
}

static void box(image *m, int64_t y0, int64_t x0, int64_t y1, int64_t x1, uint8_t value)
{
    if (!m->px)
        OK(image_new(m, S, S, 1));
    for (int64_t y = y0; y < y1; y++)
        for (int64_t x = x0; x < x1; x++)
            m->px[y * m->w + x] = value;
}

static void rectangles(void **state)
{
    (void)state;
    image m = {0};
    image_shape s;
    box(&m, 10, 20, 40, 80, 1); /* 30 x 60 */
    OK(image_shape_measure(&m, &s));
    near("area", s.value[IMAGE_SHAPE_AREA], 1800.0 / (S * S), 1e-12);
    near("solidity", s.value[IMAGE_SHAPE_SOLIDITY], 1, 1e-12);
    /* second moments of a rectangle are as the squares of its sides */
    near("eccentricity", s.value[IMAGE_SHAPE_ECCENTRICITY], sqrt(0.75), 1e-12);
    near("y", s.value[IMAGE_SHAPE_Y], 25.0 / S, 1e-12);
    near("x", s.value[IMAGE_SHAPE_X], 50.0 / S, 1e-12);
    /* crossings: two in each row and column, two on each of the 30 + 60 - 1 diagonals of a kind */
    near("perimeter", s.value[IMAGE_SHAPE_PERIMETER], PI / 8 * (2 * 90 + 2 * 2 * 89 / sqrt(2)) / S,
         1e-12);
    assert_int_equal(s.components, 1);
    assert_int_equal(s.holes, 0);
    assert_int_equal(s.border, 0);
    image_free(&m);
}

static void ellipses(void **state)
{
    (void)state;
    static const double turns[] = {0, 30, 45, 71};
    for (int i = 0; i < 4; i++) {
        image m = {0};
        image_shape s;
        ellipse(&m, 60, 70, 40, 20, turns[i]);
        OK(image_shape_measure(&m, &s));
        near("area", s.value[IMAGE_SHAPE_AREA], PI * 800 / (S * S), 0.002);
        /* Ramanujan's length of an ellipse */
        double h = 20.0 * 20 / (60.0 * 60), length = PI * 60 * (1 + 3 * h / (10 + sqrt(4 - 3 * h)));
        near("perimeter", s.value[IMAGE_SHAPE_PERIMETER], length / S, 0.03 * length / S);
        near("eccentricity", s.value[IMAGE_SHAPE_ECCENTRICITY], sqrt(1 - 0.25), 0.003);
        /* the pixels' corners stand out by half a pixel at most */
        near("solidity", s.value[IMAGE_SHAPE_SOLIDITY], 1, 0.5 * length / (PI * 800));
        near("y", s.value[IMAGE_SHAPE_Y], 60.0 / S, 0.001);
        near("x", s.value[IMAGE_SHAPE_X], 70.0 / S, 0.001);
        image_free(&m);
    }
}

static void parts(void **state)
{
    (void)state;
    image m = {0};
    image_shape s;
    OK(image_new(&m, S, S, 1));
    OK(image_shape_measure(&m, &s));
    for (int i = 0; i < IMAGE_SHAPE_N; i++)
        assert_true(s.value[i] == 0);
    assert_int_equal(s.components, 0);
    /* a square frame whose hull is the whole square, and a bar at the border apart from it */
    box(&m, 20, 20, 60, 60, 1);
    box(&m, 30, 30, 50, 50, 0);
    OK(image_shape_measure(&m, &s));
    near("solidity of a frame", s.value[IMAGE_SHAPE_SOLIDITY], 1200.0 / 1600, 1e-12);
    assert_int_equal(s.holes, 1);
    box(&m, 0, 20, 10, 60, 1);
    OK(image_shape_measure(&m, &s));
    assert_int_equal(s.components, 2);
    assert_int_equal(s.border, 40);
    near("hull over a gap", s.value[IMAGE_SHAPE_SOLIDITY], 1600.0 / 2400, 1e-12);
    image_free(&m);
    /* an L of three squares of side 20: the hull is the square of 40 less a triangle */
    box(&m, 20, 20, 60, 40, 1);
    box(&m, 40, 40, 60, 60, 1);
    OK(image_shape_measure(&m, &s));
    near("an L", s.value[IMAGE_SHAPE_SOLIDITY], 1200.0 / 1400, 1e-12);
    image_free(&m);
}

/* IoU after alignment of b with a. */
static double aligned(const image *a, const image *b)
{
    image_form form, *turned = malloc(2 * IMAGE_FORM_TURNS * sizeof *turned);
    assert_non_null(turned);
    OK(image_form_make(a, &form));
    OK(image_form_turned(b, turned));
    double iou = image_form_iou(&form, turned);
    free(turned);
    return iou;
}

/* A shape without any symmetry, moved. */
static void hook(image *m, int flip, double degrees, double scale, double dx, double dy)
{
    image still = {0};
    ellipse(&still, 60, 55, 24, 12, 20);
    ellipse(&still, 72, 76, 12, 9, 0);
    image_affine a = image_affine_make(flip, degrees, scale, dx, dy);
    OK(image_mask_warp(&still, &a, m));
    image_free(&still);
}

static void alignment(void **state)
{
    (void)state;
    image a = {0}, b = {0}, c = {0}, d = {0};
    hook(&a, 0, 0, 1, 0, 0);
    assert_true(aligned(&a, &a) == 1);
    static const double turns[] = {0, 37, 90, 200};
    for (int i = 0; i < 8; i++) {
        hook(&b, i % 2, turns[i / 2], 0.7 + 0.1 * i, 5, -9);
        double iou = aligned(&a, &b), back = aligned(&b, &a);
        if (!(iou > 0.93 && iou <= 1 && fabs(iou - back) < 0.03))
            fail_msg("moved copy %d: %.3f, the other way %.3f", i, iou, back);
        image_free(&b);
    }
    /* ellipses of one area, 2 to 1 and 1 to 1: with r^2 = ab the common part is known */
    ellipse(&c, 64, 64, 40, 20, 10);
    ellipse(&d, 64, 64, 28.284271, 28.284271, 0);
    /* in a quadrant the circle is the nearer one up to the angle p where they cross, cos^2 p = 2/3
       by 1/800 = cos^2/1600 + sin^2/400; beyond it the ellipse, whose own angle t there has tan t =
       40/20 tan p */
    double p = acos(sqrt(2.0 / 3)), common = 4 * 0.5 * 800 * (p + PI / 2 - atan(2 * tan(p)));
    double want = common / (2 * PI * 800 - common);
    near("disc and ellipse", aligned(&c, &d), want, 0.02);
    image_free(&a);
    image_free(&c);
    image_free(&d);
    OK(image_new(&a, S, S, 1));
    assert_true(aligned(&a, &a) == 1); /* both empty */
    image_free(&a);
}

/* Moved by `a`, the field [S,S] of m becomes a picture [32,32] that is cut to what the moved mask
   (new) is. */
static void moves_like(const image *m, const image_field_view *v, const float *d,
                       const image_affine *a, float *picture, image *moved)
{
    const image_affine still = image_affine_make(0, 0, 1, 0, 0);
    image from;
    double dice;
    OK(image_mask_warp(m, a, moved));
    image_field_picture(v, d, a, picture);
    OK(image_picture_mask(v, picture, &still, 0, &from));
    OK(image_mask_dice(moved, &from, &dice));
    assert_true(dice > 0.97);
    image_free(&from);
}

static void fields(void **state)
{
    (void)state;
    image m = {0}, back;
    float *d = malloc((size_t)(S * S) * sizeof *d), picture[32 * 32];
    const image_field_view v = {S, 32, 10};
    const image_affine still = image_affine_make(0, 0, 1, 0, 0);
    assert_non_null(d);
    box(&m, 40, 30, 90, 100, 1);
    OK(image_mask_field(&m, d));
    near("inside", (double)d[65 * S + 30], 0.5, 0);
    near("outside", (double)d[65 * S + 29], -0.5, 0);
    near("middle", (double)d[64 * S + 60], 24.5, 0);
    near("corner", (double)d[30 * S + 20], -(sqrt(200) - 0.5), 1e-5);
    /* the picture: distances over the ramp; each pixel's centre is a corner of the mask's pixels */
    image_field_picture(&v, d, &still, picture);
    near("far inside", (double)picture[16 * 32 + 16], 1, 0);
    near("far outside", (double)picture[0], -1, 0);
    near("ramp", (double)picture[16 * 32 + 8], 0.4, 1e-6); /* x = 34, 4 from the edge */
    /* and back: a smooth mask survives a picture of a quarter of its edge to a pixel's share */
    memset(m.px, 0, S * S);
    ellipse(&m, 60, 70, 40, 20, 30);
    OK(image_mask_field(&m, d));
    image_field_picture(&v, d, &still, picture);
    for (int k = -1; k <= 1; k++) {
        image want = {0};
        double dice;
        OK(image_picture_mask(&v, picture, &still, -0.3 * k, &back));
        OK((k < 0 ? image_mask_erode : image_mask_dilate)(&m, 3.0 * abs(k), &want));
        OK(image_mask_dice(&want, &back, &dice));
        if (!(dice > 0.98))
            fail_msg("level %g: Dice %.4f", -0.3 * k, dice);
        image_free(&want);
        image_free(&back);
    }
    /* moved as the mask is moved; distances scale along */
    for (int i = 0; i < 20; i++) {
        image moved;
        md_rng r = md_rng_at(3, MD_RNG_TEST, (uint64_t)i, 0);
        image_affine a = image_affine_jitter(&r, 1, S);
        moves_like(&m, &v, d, &a, picture, &moved);
        OK(image_mask_field(&moved, d));
        float want[32 * 32];
        image_field_picture(&v, d, &still, want);
        for (int p = 0; p < 32 * 32; p++)
            assert_true(fabsf(want[p] - picture[p]) < 0.15F);
        image_free(&moved);
        OK(image_mask_field(&m, d));
    }
    /* strength 0 moves nothing */
    md_rng r = md_rng_at(3, MD_RNG_TEST, 99, 0);
    image_affine a = image_affine_jitter(&r, 0, S);
    for (int i = 0; i < 6; i++)
        assert_true(a.m[i] == still.m[i]);
    image_free(&m);
    free(d);
}

/* On a plane that rises by a pixel a pixel a picture shows one component of the displacements
   itself. Its mask, some columns or rows at the end, gives the radius. */
enum { E = 32, STEP = S / E };
static const image_field_view bend_view = {.size = S, .edge = E, .ramp_px = 4 * S};

static double plane_of(int axis, int width, float *plane)
{
    for (int i = 0; i < S * S; i++)
        plane[i] = (float)((axis ? i % S : i / S) + 0.5 - (S - width));
    return sqrt(width * S / PI);
}

/* u [E,E]: the displacements of what image_field_augment makes from a copy of r, in pixels. */
static image_affine displacements(const float *plane, double move, double warp, md_rng r, double *u)
{
    float flat[E * E], bent[E * E];
    md_rng same = r;
    image_affine a = image_affine_jitter(&same, move, S);
    double shrunk = sqrt(fabs(a.m[0] * a.m[4] - a.m[1] * a.m[3]));
    image_field_picture(&bend_view, plane, &a, flat);
    image_field_augment(&bend_view, plane, move, warp, &r, bent);
    for (int i = 0; i < E * E; i++)
        u[i] = shrunk * bend_view.ramp_px * (double)(bent[i] - flat[i]);
    return a;
}

/* Root mean squares, also of the differences along three directions, and that x and y have nothing
   to do with each other, where no displacement leaves the field. */
static void bends_evenly(int width)
{
    enum { DRAWS = 3000 };
    static const int to[] = {1, E, E + 1};
    const double warp = 0.1, k = 2 * PI / 4;
    float *plane[2];
    double radius = 0, u[2][E * E], squares[2] = {0}, steps[3] = {0}, both = 0, n = 0;
    for (int axis = 0; axis < 2; axis++) {
        plane[axis] = malloc(S * S * sizeof **plane);
        radius = plane_of(axis, width, plane[axis]);
    }
    for (int draw = 0; draw < DRAWS; draw++) {
        md_rng r = md_rng_at(3, MD_RNG_TEST, 100, (uint32_t)draw);
        for (int axis = 0; axis < 2; axis++)
            (void)displacements(plane[axis], 0, warp, r, u[axis]);
        for (int i = E * E / 4; i < 3 * E * E / 4; i++) {
            if (i % E < E / 4 || i % E >= 3 * E / 4)
                continue;
            for (int axis = 0; axis < 2; axis++)
                squares[axis] += u[axis][i] * u[axis][i];
            for (int d = 0; d < 3; d++)
                steps[d] += pow(u[0][i + to[d]] - u[0][i], 2);
            both += u[0][i] * u[1][i];
            n++;
        }
    }
    for (int axis = 0; axis < 2; axis++)
        near("displacement", sqrt(squares[axis] / n) / (warp * radius), 1, 0.06);
    near("x and y", both / n / pow(warp * radius, 2), 0, 0.08);
    /* of k^2 over all directions a half lies along each; exp(2 s) averages to sinh(0.7) / 0.7 */
    double slope = k / radius * sqrt(sinh(0.7) / 0.7 / 2) * STEP;
    for (int d = 0; d < 3; d++)
        near("smoothness", sqrt(steps[d] / n) / (warp * radius) / slope, d < 2 ? 1 : sqrt(2), 0.08);
    free(plane[0]);
    free(plane[1]);
}

/* A move draws as much from r as none, so the same waves follow: moved, a displacement is that of
   the place which it comes from. */
static void bends_where_it_comes_from(void)
{
    enum { WIDTH = 16 };
    const double warp = 0.2;
    float *plane = malloc(S * S * sizeof *plane);
    int n = 0;
    for (int draw = 0; draw < 40; draw++) {
        double here[E * E], moved[E * E], radius = plane_of(draw % 2, WIDTH, plane);
        md_rng r = md_rng_at(3, MD_RNG_TEST, 101, (uint32_t)draw);
        (void)displacements(plane, 0, warp, r, here);
        image_affine a = displacements(plane, 1, warp, r, moved);
        for (int i = 0; i < E * E; i++) {
            double oy = (i / E + 0.5) * STEP - S / 2.0, ox = (i % E + 0.5) * STEP - S / 2.0,
                   x = (a.m[0] * ox + a.m[1] * oy + a.m[2] + S / 2.0) / STEP - 0.5,
                   y = (a.m[3] * ox + a.m[4] * oy + a.m[5] + S / 2.0) / STEP - 0.5;
            if (fmin(y, x) < E / 4.0 || fmax(y, x) > 3 * E / 4.0)
                continue;
            const double *at = here + (int)y * E + (int)x;
            double v = y - floor(y), h = x - floor(x),
                   want = (1 - v) * ((1 - h) * at[0] + h * at[1]) +
                          v * ((1 - h) * at[E] + h * at[E + 1]);
            near("moved", moved[i], want, 0.1 * warp * radius);
            n++;
        }
    }
    assert_true(n > 5000);
    free(plane);
}

static void bends(void **state)
{
    (void)state;
    bends_evenly(4);
    bends_evenly(16);
    bends_where_it_comes_from();
    /* warp 0: the jitter alone, and nothing more is drawn; a mask of nothing or everything stays */
    float *field = malloc(S * S * sizeof *field), want[E * E], got[E * E];
    md_rng r = md_rng_at(3, MD_RNG_TEST, 102, 0), same = r;
    (void)plane_of(0, 16, field);
    image_affine a = image_affine_jitter(&same, 1, S);
    image_field_picture(&bend_view, field, &a, want);
    image_field_augment(&bend_view, field, 1, 0, &r, got);
    assert_memory_equal(got, want, sizeof got);
    assert_memory_equal(&r, &same, sizeof r);
    for (int sign = -1; sign <= 1; sign += 2) {
        for (int i = 0; i < S * S; i++)
            field[i] = (float)(8 * sign * S);
        image_field_augment(&bend_view, field, 1, 0.3, &r, got);
        for (int i = 0; i < E * E; i++)
            assert_true(got[i] == (float)sign);
    }
    free(field);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rectangles), cmocka_unit_test(ellipses),
                                       cmocka_unit_test(parts),      cmocka_unit_test(alignment),
                                       cmocka_unit_test(fields),     cmocka_unit_test(bends)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
