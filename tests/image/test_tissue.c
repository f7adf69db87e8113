/* Maps of tissue on drawn pictures whose truth is known, and on phantoms; smooth filling of holes.
 */
#include "support/expect.h"

#include "image/fill.h"
#include "image/mask.h"
#include "image/phantom.h"
#include "image/tissue.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { S = 256 };

static uint32_t seed = 5;

static uint32_t next(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 16;
}

static void put(image *im, int64_t y, int64_t x, int value)
{
    memset(im->px + 3 * (y * im->w + x), value < 0 ? 0 : value > 255 ? 255 : value, 3);
}

static void rectangle(image *im, int y0, int x0, int y1, int x1, int value, int noise)
{
    for (int y = y0; y < y1; y++)
        for (int x = x0; x < x1; x++)
            put(im, y, x, value + (noise ? (int)(next() % (uint32_t)(2 * noise)) - noise : 0));
}

static double share(const image *map, int y0, int x0, int y1, int x1)
{
    int64_t n = 0;
    for (int y = y0; y < y1; y++)
        for (int x = x0; x < x1; x++)
            n += map->px[y * map->w + x];
    return (double)n / ((double)(y1 - y0) * (x1 - x0));
}

static const int32_t all[4] = {0, 0, S, S};

/* A machine's screen: speckled tissue amid black that JPEG has made noisy, a scale bar, letters in
   a margin and beside the tissue; a dark cyst inside belongs to the tissue, a shadow at its lower
   edge does not. */
static void margins_and_letters(void **state)
{
    (void)state;
    image im, map;
    OK(image_new(&im, S, S, 3));
    rectangle(&im, 0, 0, S, S, 3, 3);
    rectangle(&im, 40, 30, 200, 210, 70, 50);
    rectangle(&im, 90, 60, 120, 90, 5, 4);    /* cyst */
    rectangle(&im, 160, 150, 200, 180, 4, 4); /* shadow */
    rectangle(&im, 60, 4, 140, 10, 200, 0);   /* bar */
    for (int line = 40; line < 200; line += 12)
        for (int letter = 216; letter < 250; letter += 6) {
            rectangle(&im, line, letter, line + 8, letter + 1, 250, 0);
            rectangle(&im, line + 4, letter, line + 5, letter + 4, 250, 0);
        }
    rectangle(&im, 220, 40, 228, 42, 255, 0);
    OK(image_tissue(&im, all, &map));
    assert_true(share(&map, 50, 40, 150, 200) > 0.999); /* with the cyst */
    assert_true(share(&map, 165, 155, 200, 175) < 0.01);
    assert_true(share(&map, 0, 0, 36, S) == 0 && share(&map, 206, 0, S, S) == 0);
    assert_true(share(&map, 0, 0, S, 26) == 0);
    assert_true(share(&map, 0, 216, S, S) == 0);
    image_free(&map);
    image_free(&im);
}

/* A round field of view, the picture letterboxed: corners go, and a hair that touches the edge does
   not cut the map. */
static void corners_and_hair(void **state)
{
    (void)state;
    image im, map;
    const int32_t valid[4] = {32, 0, 224, S};
    OK(image_new(&im, S, S, 3));
    for (int y = 32; y < 224; y++)
        for (int x = 0; x < S; x++) {
            double d = hypot(y - 127.5, x - 127.5);
            put(&im, y, x, d < 122 ? 180 + (int)(next() % 9) : d < 130 ? 60 : 10);
        }
    for (int y = 32; y < 140; y++)
        rectangle(&im, y, 100 + y / 8, y + 1, 102 + y / 8, 40, 0);
    OK(image_tissue(&im, valid, &map));
    assert_true(share(&map, 0, 0, 32, S) == 0 && share(&map, 224, 0, S, S) == 0);
    assert_true(share(&map, 32, 0, 60, 12) == 0 && share(&map, 200, 244, 224, S) == 0);
    assert_true(share(&map, 60, 80, 200, 180) == 1);
    image_free(&map);
    /* nothing but black */
    memset(im.px, 2, 3 * S * S);
    OK(image_tissue(&im, valid, &map));
    assert_true(share(&map, 0, 0, S, S) == 0);
    image_free(&map);
    const int32_t out[4] = {0, 0, S + 1, S};
    FAILS(image_tissue(&im, out, &map), MD_SHAPE, "valid");
    image_free(&im);
}

/* Phantoms are tissue all over, at every size; with a lesion, too. */
static void phantoms_are_tissue(void **state)
{
    (void)state;
    for (int i = 0; i < 24; i++) {
        phantom p = {.kind = i % 2 ? PHANTOM_ULTRASOUND : PHANTOM_SKIN,
                     .seed = 3,
                     .item = (uint64_t)i,
                     .size = (int[]){64, 128, 192, 512}[i / 2 % 4],
                     .lesion = i % 3 == 0};
        image im, map;
        const int32_t whole[4] = {0, 0, p.size, p.size};
        OK(phantom_draw(&p, &im, NULL));
        OK(image_tissue(&im, whole, &map));
        double tissue = share(&map, 0, 0, p.size, p.size);
        if (tissue < 0.9)
            fail_msg("phantom %d of %d pixels: %.3f of it is tissue", i, p.size, tissue);
        image_free(&map);
        image_free(&im);
    }
}

/* A hole in a slope is filled with the slope, and what is not known is not used. */
static void holes_are_filled(void **state)
{
    (void)state;
    image im, was, hole, known;
    OK(image_new(&im, 100, 90, 3));
    OK(image_new(&hole, 100, 90, 1));
    OK(image_new(&known, 100, 90, 1));
    for (int y = 0; y < 100; y++)
        for (int x = 0; x < 90; x++) {
            int slope[3] = {y + 60, x + 90, 120};
            bool in = hypot(y - 50, x - 45) < 20;
            hole.px[y * 90 + x] = in;
            known.px[y * 90 + x] = x < 80;
            for (int c = 0; c < 3; c++)
                im.px[3 * (y * 90 + x) + c] = (uint8_t)(in ? 10 : x < 80 ? slope[c] : 255);
        }
    OK(image_copy(&im, &was));
    OK(image_fill(&im, &hole, &known));
    for (int y = 0; y < 100; y++)
        for (int x = 0; x < 90; x++) {
            const uint8_t *p = im.px + 3 * (y * 90 + x);
            if (!hole.px[y * 90 + x])
                assert_memory_equal(p, was.px + 3 * (y * 90 + x), 3);
            else if (abs(p[0] - y - 60) > 12 || abs(p[1] - x - 90) > 12 || abs(p[2] - 120) > 1)
                fail_msg("%d,%d: %d %d %d", y, x, p[0], p[1], p[2]);
        }
    memset(hole.px, 1, 100 * 90);
    OK(image_fill(&im, &hole, NULL));
    for (int k = 0; k < 100 * 90 * 3; k++)
        assert_int_equal(im.px[k], 128);
    hole.h = 50;
    FAILS(image_fill(&im, &hole, NULL), MD_SHAPE, "another size");
    hole.h = 100;
    image_free(&im);
    image_free(&was);
    image_free(&hole);
    image_free(&known);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(margins_and_letters),
        cmocka_unit_test(corners_and_hair),
        cmocka_unit_test(phantoms_are_tissue),
        cmocka_unit_test(holes_are_filled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
