/* Guides lie where the background's map allows a lesion, wherever that is; or are refused. */
#include "support/expect.h"
#include "support/tmp_dir.h"

#include "generate/guide.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { S = 128, MASKS = 3, ROUNDS = 400 };

/* An ellipse, a crescent and a small spot. */
static guide_bank bank_new(void)
{
    guide_bank b = {.mask = calloc(MASKS, sizeof *b.mask),
                    .n = MASKS,
                    .size = S,
                    .id = calloc(MASKS, sizeof *b.id)};
    assert_true(b.mask && b.id);
    for (int k = 0; k < MASKS; k++) {
        OK(image_new(&b.mask[k], S, S, 1));
        b.id[k] = 10 + k;
        for (int y = 0; y < S; y++)
            for (int x = 0; x < S; x++) {
                double e = hypot((y - 40) / 14.0, (x - 70) / 22.0), d = hypot(y - 64, x - 64);
                b.mask[k].px[y * S + x] = k == 0   ? e < 1
                                          : k == 1 ? d < 20 && hypot(y - 64, x - 74) > 18
                                                   : d < 6;
            }
    }
    return b;
}

static int64_t area_of(const image *m)
{
    image_mask_stats s;
    OK(image_mask_measure(m, &s));
    return s.area;
}

static double share_inside(const image *guide, const image *allowed)
{
    int64_t in = 0;
    for (int64_t k = 0; k < S * S; k++)
        in += guide->px[k] && allowed->px[k];
    return (double)in / (double)area_of(guide);
}

/* A map with no straight edge: a disc with a bay, and a part of its own. */
static void draw_map(image *allowed)
{
    OK(image_new(allowed, S, S, 1));
    for (int y = 0; y < S; y++)
        for (int x = 0; x < S; x++)
            allowed->px[y * S + x] = (hypot(y - 50, x - 50) < 42 && hypot(y - 20, x - 50) > 16) ||
                                     (y > 96 && y < 124 && x > 90 && x < 124);
}

static md_status draw(const guide_bank *b, uint64_t slot, uint32_t attempt, const image *allowed,
                      image *out, int32_t *id)
{
    md_rng r = md_rng_at(3, MD_RNG_GUIDE, slot, attempt);
    return guide_draw(b, &r, allowed, out, id);
}

static void guides_keep_to_the_map(void **state)
{
    (void)state;
    guide_bank b = bank_new();
    image allowed;
    int used[MASKS] = {0}, moved = 0, elsewhere = 0;
    double least = 1;
    draw_map(&allowed);
    for (int i = 0; i < ROUNDS; i++) {
        image guide, again;
        int32_t id, id2;
        OK(draw(&b, (uint64_t)i, 0, &allowed, &guide, &id));
        OK(draw(&b, (uint64_t)i, 0, &allowed, &again, &id2));
        assert_memory_equal(guide.px, again.px, S * S); /* a pure function */
        assert_int_equal(id, id2);
        image_free(&again);
        OK(draw(&b, (uint64_t)i, 1, &allowed, &again, &id2));
        moved += memcmp(guide.px, again.px, S * S) != 0;
        double in = share_inside(&guide, &allowed);
        least = in < least ? in : least;
        if (in < 0.99)
            fail_msg("slot %d: %.4f of the guide is inside", i, in);
        double ratio = sqrt((double)area_of(&guide) / (double)area_of(&b.mask[id - 10]));
        assert_true(ratio > 0.6 && ratio < 1.4);
        used[id - 10]++;
        image_mask_stats at;
        OK(image_mask_measure(&guide, &at));
        elsewhere += at.cy > 90 && at.cx > 90;
        image_free(&guide);
        image_free(&again);
    }
    (void)printf("least share inside %.4f; masks used %d %d %d; %d in the smaller part\n", least,
                 used[0], used[1], used[2], elsewhere);
    assert_int_equal(moved, ROUNDS);
    for (int k = 0; k < MASKS; k++)
        assert_true(used[k] > ROUNDS / 10);
    assert_true(elsewhere > 5);
    image_free(&allowed);
    guide_bank_free(&b);
}

/* A map that is left out for good can never have held a guide: one of the smallest size can. */
static void small_maps_have_no_room(void **state)
{
    (void)state;
    guide_bank b = bank_new();
    image allowed, guide;
    int32_t id;
    OK(image_new(&allowed, S, S, 1));
    assert_false(guide_has_room(&b, &allowed));
    allowed.px[0] = 1; /* room for a pixel of a bank whose smallest mask is not known */
    assert_true(guide_has_room(&b, &allowed));
    b.least = area_of(&b.mask[2]);
    assert_false(guide_has_room(&b, &allowed));
    for (int i = 0; i < 100; i++) {
        OK(image_new(&guide, S, S, 1));
        memset(guide.px, 1, S * S);
        image full = guide;
        OK(draw(&b, (uint64_t)i, 0, &full, &guide, &id));
        assert_true(guide_has_room(&b, &guide));
        image_free(&full);
        image_free(&guide);
    }
    image_free(&allowed);
    guide_bank_free(&b);
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    guide_bank b = bank_new();
    image allowed, guide;
    int32_t id;
    OK(image_new(&allowed, S, S, 1));
    FAILS(draw(&b, 7, 0, &allowed, &guide, &id), MD_BAD_INPUT,
          "no mask fits where the background allows a lesion: 0 of its");
    for (int y = 60; y < 66; y++) /* wide enough for no mask, though larger than the spot */
        memset(allowed.px + y * S, 1, S);
    FAILS(draw(&b, 7, 0, &allowed, &guide, &id), MD_BAD_INPUT, "768 of its 16384 pixels");
    for (int y = 60; y < 75; y++) /* only the spot, and that often made smaller */
        memset(allowed.px + y * S, 1, S);
    for (int i = 0; i < 30; i++) {
        OK(draw(&b, (uint64_t)i, 0, &allowed, &guide, &id));
        assert_int_equal(id, 12);
        image_free(&guide);
    }
    allowed.h = S / 2;
    FAILS(draw(&b, 7, 0, &allowed, &guide, &id), MD_SHAPE, "64 x 128");
    allowed.h = S;
    image_free(&allowed);
    guide_bank_free(&b);
}

/* Rows of data.h5: a disc inside; one at the square's edge; in a letterboxed picture one at the
   edge of what is shown, and one inside. */
static void cut_masks_are_passed_over(void **state)
{
    (void)state;
    enum { ROWS = 4, TOP = 32 };
    static uint8_t rgb[3 * S * S], mask[S * S];
    static const int at[ROWS][2] = {{64, 64}, {64, 4}, {TOP + 5, 64}, {TOP + 20, 64}};
    char folder[256], path[300];
    image allowed, guide;
    assert_true(tmp_dir_make(folder));
    (void)snprintf(path, sizeof path, "%s/data.h5", folder);
    OK(image_new(&allowed, S, S, 1));
    memset(allowed.px, 1, S * S);
    for (int all_cut = 0; all_cut < 2; all_cut++) {
        data_store *d;
        guide_bank b;
        int used[ROWS] = {0};
        OK(data_create(path, DATA_IMAGES, ROWS, S, &(data_info){0}, &d));
        for (int i = 0; i < ROWS; i++) {
            int k = all_cut ? 1 + i % 2 : i;
            data_row row = {.kind = DATA_LESION, .used = true, .valid = {0, 0, S, S}};
            row.valid[0] = k > 1 ? TOP : 0;
            for (int p = 0; p < S * S; p++)
                mask[p] = p / S >= row.valid[0] && hypot(p / S - at[k][0], p % S - at[k][1]) < 8;
            OK(data_write_pixels(d, i, rgb, mask));
            OK(data_write_row(d, i, &row));
        }
        OK(data_finish(d));
        OK(guide_bank_open(path, &b));
        assert_int_equal(b.n, ROWS);
        assert_int_equal(b.n_whole, all_cut ? 0 : 2);
        for (int i = 0; i < 100; i++) {
            int32_t id;
            OK(draw(&b, (uint64_t)i, 0, &allowed, &guide, &id));
            used[id]++;
            image_free(&guide);
        }
        for (int i = 0; i < ROWS; i++)
            assert_true((used[i] > 0) == (all_cut || i == 0 || i == 3));
        guide_bank_free(&b);
    }
    image_free(&allowed);
    tmp_dir_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guides_keep_to_the_map),
        cmocka_unit_test(small_maps_have_no_room),
        cmocka_unit_test(cut_masks_are_passed_over),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
