/* Corrosion: discs of known radius on shapes whose erosion is known in closed form, and the masks
   that would vanish. */
#include "support/expect.h"

#include "generate/guide.h"

#include <stdlib.h>

enum { S = 48, MIDDLE = 24, R_MOST = 6 };

typedef int (*shape)(int64_t y, int64_t x, int64_t size); /* about the image's centre */

static int square(int64_t y, int64_t x, int64_t size) /* of side size, odd or even */
{
    return y >= -(size / 2) && y < size - size / 2 && x >= -(size / 2) && x < size - size / 2;
}

static int diamond(int64_t y, int64_t x, int64_t size)
{
    return llabs(y) + llabs(x) <= size;
}

static int disc(int64_t y, int64_t x, int64_t size)
{
    return y * y + x * x <= size * size;
}

static image draw(shape f, int64_t size)
{
    image m;
    OK(image_new(&m, S, S, 1));
    for (int64_t i = 0; i < S * S; i++)
        m.px[i] = (uint8_t)f(i / S - MIDDLE, i % S - MIDDLE, size);
    return m;
}

/* The guide corroded by r, and whether it was kept. */
static image corroded(const image *guide, int r, bool *kept)
{
    image out;
    *kept = true;
    OK(guide_corrode(guide, r, &out, kept));
    assert_true(out.h == guide->h && out.w == guide->w);
    return out;
}

static void expect_corroded(image guide, int r, image want, bool want_kept)
{
    bool kept;
    image got = corroded(&guide, r, &kept);
    assert_int_equal(kept, want_kept);
    assert_memory_equal(got.px, want.px, (size_t)(got.h * got.w));
    image_free(&got);
    image_free(&want);
    image_free(&guide);
}

/* A square of side a becomes one of side a - 2 r; at a = 2 r + 1 one pixel is left, at a = 2 r
   nothing would be. */
static void squares(void **state)
{
    (void)state;
    for (int r = 0; r <= R_MOST; r++)
        for (int64_t a = 1; a <= 30; a++)
            expect_corroded(draw(square, a), r, draw(square, a > 2 * r ? a - 2 * r : a),
                            a <= 2 * r);
}

/* |y| + |x| <= a loses the most that |dy| + |dx| comes to within the disc: 1, 2, 4, 5, 7, 8. It
   tells a disc from a square (2 r) and from a diamond (r). */
static void diamonds(void **state)
{
    static const int loses[R_MOST + 1] = {0, 1, 2, 4, 5, 7, 8};
    (void)state;
    for (int r = 0; r <= R_MOST; r++)
        for (int64_t a = 0; a <= 20; a++)
            expect_corroded(draw(diamond, a), r, draw(diamond, a >= loses[r] ? a - loses[r] : a),
                            a < loses[r]);
}

/* A disc of radius a keeps the one of radius a - r, exactly that on its axes, and nothing beyond
   a - r + 1: on the grid, |p| <= a - r and |d| <= r give |p + d| <= a. */
static void discs(void **state)
{
    (void)state;
    for (int r = 0; r <= R_MOST; r++)
        for (int64_t a = r; a <= 20; a++) {
            bool kept;
            image guide = draw(disc, a), got = corroded(&guide, r, &kept);
            assert_false(kept);
            for (int64_t i = 0; i < S * S; i++) {
                int64_t y = i / S - MIDDLE, x = i % S - MIDDLE;
                if (disc(y, x, a - r))
                    assert_int_equal(got.px[i], 1);
                if (!disc(y, x, a - r + 1) || ((y == 0 || x == 0) && !disc(y, x, a - r)))
                    assert_int_equal(got.px[i], 0);
            }
            image_free(&got);
            image_free(&guide);
        }
}

/* Nothing is known beyond the image: a guide at its border is eroded from within only. */
static void at_the_border(void **state)
{
    (void)state;
    image guide, want;
    OK(image_new(&guide, S, S, 1));
    OK(image_new(&want, S, S, 1));
    for (int64_t i = 0; i < S * S; i++) {
        guide.px[i] = i / S < 10 && i % S < 12;
        want.px[i] = i / S < 7 && i % S < 9;
    }
    expect_corroded(guide, 3, want, false);
    OK(image_new(&guide, S, S, 1));
    OK(image_new(&want, S, S, 1));
    memset(guide.px, 1, S * S);
    memset(want.px, 1, S * S);
    expect_corroded(guide, 3, want, false); /* all of the image: nothing vanishes */
}

/* Of two parts the small one may vanish; an empty guide has nothing to keep. */
static void parts(void **state)
{
    (void)state;
    image guide, want;
    OK(image_new(&guide, S, S, 1));
    OK(image_new(&want, S, S, 1));
    for (int64_t i = 0; i < S * S; i++) {
        int64_t y = i / S, x = i % S;
        guide.px[i] =
            (y >= 5 && y < 14 && x >= 5 && x < 14) || (y >= 30 && y < 34 && x >= 30 && x < 44);
        want.px[i] = y >= 7 && y < 12 && x >= 7 && x < 12;
    }
    expect_corroded(guide, 2, want, false);
    OK(image_new(&guide, S, S, 1));
    OK(image_new(&want, S, S, 1));
    expect_corroded(guide, 2, want, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(squares),       cmocka_unit_test(diamonds), cmocka_unit_test(discs),
        cmocka_unit_test(at_the_border), cmocka_unit_test(parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
