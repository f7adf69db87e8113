/* The guide at the latent's size: pooled, grown, feathered, in closed form. */
#include "support/expect.h"

#include "generate/guide.h"

#include <math.h>

enum { EDGE = 24, SIZE = 4 * EDGE, PX = EDGE * EDGE };

/* A mask of squares in latent pixels: {y, x, side} each. */
static void squares(float *mask, const int (*s)[3], int n)
{
    memset(mask, 0, PX * sizeof *mask);
    for (int k = 0; k < n; k++)
        for (int i = 0; i < s[k][2] * s[k][2]; i++)
            mask[(s[k][0] + i / s[k][2]) * EDGE + s[k][1] + i % s[k][2]] = 1;
}

/* Ring of a pixel in a square: 1 at its edge; 0 outside. */
static int ring(const int s[3], int y, int x)
{
    int up = y - s[0] + 1, left = x - s[1] + 1, down = s[0] + s[2] - y, right = s[1] + s[2] - x;
    int a = up < down ? up : down, b = left < right ? left : right, r = a < b ? a : b;
    return r > 0 ? r : 0;
}

/* Ring r lies r - 1/2 inside the edge: (r - 1/2) / width, up to 1; no part is shallower than its
   own depth, so the small square has a core, too. */
static void rises_over_its_width(void **state)
{
    static const int at[2][3] = {{2, 3, 11}, {16, 18, 3}};
    static const double widths[] = {0.5, 1, 2, 3.7, 5.5, 64};
    float mask[PX], feather[PX];
    (void)state;
    squares(mask, at, 2);
    for (size_t k = 0; k < sizeof widths / sizeof widths[0]; k++) {
        OK(guide_feather(mask, EDGE, widths[k], feather));
        for (int i = 0; i < PX; i++) {
            int big = ring(at[0], i / EDGE, i % EDGE), small = ring(at[1], i / EDGE, i % EDGE);
            double over = fmin(widths[k], big ? 5.5 : 1.5), r = big ? big : small;
            double want = r > 0 ? fmin(1, (r - 0.5) / over) : 0;
            assert_true(fabs((double)feather[i] - want) < 1e-6);
        }
        assert_true(feather[7 * EDGE + 8] == 1 && feather[17 * EDGE + 19] == 1); /* the cores */
    }
}

/* Width 0 is no feather; a soft mask counts from wherever it is above 0; where nothing is outside,
   there is no edge; what touches the border has no edge there. */
static void edges_of_a_feather(void **state)
{
    float mask[PX], feather[PX];
    (void)state;
    squares(mask, (const int[1][3]){{2, 3, 11}}, 1);
    mask[2 * EDGE + 3] = 0.2f;
    OK(guide_feather(mask, EDGE, 0, feather));
    for (int i = 0; i < PX; i++)
        assert_true(feather[i] == (mask[i] > 0 ? 1 : 0));
    for (int i = 0; i < PX; i++)
        mask[i] = 0.5f;
    OK(guide_feather(mask, EDGE, 3, feather));
    for (int i = 0; i < PX; i++)
        assert_true(feather[i] == 1);
    for (int i = 0; i < PX; i++)
        mask[i] = i % EDGE < 6;
    OK(guide_feather(mask, EDGE, 4, feather));
    for (int i = 0; i < PX; i++) {
        double from_edge = 5.5 - i % EDGE;
        assert_true(fabs((double)feather[i] - fmin(1, fmax(0, from_edge / 4))) < 1e-6);
    }
    memset(mask, 0, sizeof mask);
    OK(guide_feather(mask, EDGE, 4, feather));
    for (int i = 0; i < PX; i++)
        assert_true(feather[i] == 0);
}

/* A square of the image on the latent's grid, half a latent pixel more on the right: pooled by area
   that column is half covered, by maximum whole; grown by g, M is the maximum within g. */
static void pools_and_grows(void **state)
{
    float out[PX];
    image guide;
    (void)state;
    OK(image_new(&guide, SIZE, SIZE, 1));
    for (int i = 0; i < SIZE * SIZE; i++) /* latent rows 8 to 15, columns 8 to 15 and a half */
        guide.px[i] = i / SIZE >= 32 && i / SIZE < 64 && i % SIZE >= 32 && i % SIZE < 66;
    for (int how = IMAGE_POOL_AREA; how <= IMAGE_POOL_MAX; how++)
        for (int g = 0; g <= 3; g++) {
            OK(guide_pool(&guide, EDGE, (image_mask_pooling)how, g, out));
            for (int i = 0; i < PX; i++) {
                int y = i / EDGE, x = i % EDGE;
                int dy = y < 8 ? 8 - y : y > 15 ? y - 15 : 0;
                int dx = x < 8 ? 8 - x : x > 15 ? x - 15 : 0; /* to what is whole */
                int hx = x < 16 ? 16 - x : x - 16;            /* to the half column */
                float half = how == IMAGE_POOL_AREA ? 0.5f : 1;
                float want = dy * dy + dx * dx <= g * g ? 1 : dy * dy + hx * hx <= g * g ? half : 0;
                assert_true(out[i] == want);
            }
        }
    image_free(&guide);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rises_over_its_width),
        cmocka_unit_test(edges_of_a_feather),
        cmocka_unit_test(pools_and_grows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
