/* What is repaired, how much it stands out, and which rows there are: on drawn masks and pictures.
 */
#include "support/expect.h"
#include "support/tmp_dir.h"

#include "generate/repair.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { S = 64, ROWS = 12 };

static const int32_t all[4] = {0, 0, S, S}, upper[4] = {0, 0, S / 2, S};

static void disc(image *m, double cy, double cx, double r)
{
    OK(image_new(m, S, S, 1));
    for (int k = 0; k < S * S; k++)
        m->px[k] = hypot(k / S - cy, k % S - cx) <= r;
}

/* A ring counts as a disc, grown exactly, and cut at the valid area. */
static void the_region_is_whole(void **state)
{
    (void)state;
    image ring, region;
    disc(&ring, 30, 30, 12);
    for (int k = 0; k < S * S; k++)
        ring.px[k] = ring.px[k] && hypot(k / S - 30, k % S - 30) > 9;
    OK(repair_region(&ring, upper, 5, &region));
    for (int k = 0; k < S * S; k++) {
        double d = hypot(k / S - 30, k % S - 30);
        if (d <= 16 && k / S < S / 2)
            assert_int_equal(region.px[k], 1);
        if (d > 17.5 || k / S >= S / 2)
            assert_int_equal(region.px[k], 0);
    }
    image_free(&ring);
    image_free(&region);
}

/* Against a ring of known deviation: 3 deviations of one channel; nothing where nothing differs. */
static void contrast_is_measured(void **state)
{
    (void)state;
    image mask, rgb;
    double c;
    disc(&mask, 32, 32, 10);
    OK(image_new(&rgb, S, S, 3));
    for (int k = 0; k < S * S; k++) {
        int ripple = (k + k / S) % 2 ? 10 : -10;
        bool near = hypot(k / S - 32, k % S - 32) <= 13;
        for (int ch = 0; ch < 3; ch++)
            rgb.px[3 * k + ch] = (uint8_t)(100 + ripple + (mask.px[k] && ch == 1 ? 30 : 0));
        if (near && !mask.px[k]) /* the gap does not count */
            memset(rgb.px + 3 * k, 250, 3);
    }
    OK(repair_contrast(&rgb, &mask, all, 3.5, 8, &c));
    assert_true(fabs(c - 3) < 0.1);
    for (int k = 0; k < S * S; k++)
        rgb.px[3 * k + 1] = rgb.px[3 * k];
    OK(repair_contrast(&rgb, &mask, all, 3.5, 8, &c));
    assert_true(c < 0.05);
    for (int k = 0; k < S * S; k++) /* smooth inside: a deviation of 4 at least, against 10 */
        if (mask.px[k])
            memset(rgb.px + 3 * k, 100, 3);
    OK(repair_contrast(&rgb, &mask, all, 3.5, 8, &c));
    assert_true(fabs(c - log(2.5)) < 0.1);
    const int32_t none[4] = {30, 30, 34, 34};
    OK(repair_contrast(&rgb, &mask, none, 3.5, 8, &c));
    assert_true(c == 0);
    image_free(&mask);
    image_free(&rgb);
}

/* Rows 0 to 5 are used training pairs, row 5 all lesion; 6 val, 7 test, 8 not used, 9..
 * lesion-free. */
static void make_data(const char *path)
{
    data_store *d = NULL;
    static uint8_t rgb[3 * S * S], full[S * S];
    image m;
    disc(&m, 30, 30, 8);
    memset(full, 1, sizeof full);
    OK(data_create(path, DATA_IMAGES, ROWS, S, &(data_info){0}, &d));
    for (int i = 0; i < ROWS; i++) {
        data_row row = {.kind = i < 9 ? DATA_LESION : DATA_HEALTHY,
                        .split = i == 6   ? DATA_VAL
                                 : i == 7 ? DATA_TEST
                                          : DATA_TRAIN,
                        .used = i != 8,
                        .valid = {0, 0, S, S}};
        OK(data_write_pixels(d, i, rgb, i == 5 ? full : m.px));
        OK(data_write_row(d, i, &row));
    }
    OK(data_finish(d));
    image_free(&m);
}

static void rows_of(data_store *d, const char *count, repair_row **rows, int64_t *n)
{
    config *c = NULL;
    int64_t skipped = -1;
    OK(config_load(NULL, &count, 1, &c));
    OK(repair_list(c, d, rows, n, &skipped));
    assert_int_equal(skipped, 1);
    config_free(c);
}

static void only_training_pairs_are_repaired(void **state)
{
    (void)state;
    char folder[256], path[512];
    data_store *d = NULL;
    repair_row *rows, *few;
    int64_t n, n_few;
    assert_non_null(tmp_dir_make(folder));
    (void)snprintf(path, sizeof path, "%s/data.h5", folder);
    make_data(path);
    OK(data_open(path, DATA_IMAGES, &d));
    rows_of(d, "backgrounds.count=0", &rows, &n);
    assert_int_equal(n, 5);
    for (int i = 0; i < 5; i++)
        assert_true(rows[i].id == i && rows[i].repeat == 0);
    free(rows);
    rows_of(d, "backgrounds.count=13", &rows, &n); /* twice, three of them once more */
    rows_of(d, "backgrounds.count=12", &few, &n_few);
    assert_true(n == 13 && n_few == 12);
    int times[5] = {0};
    for (int i = 0; i < 13; i++) {
        assert_true(rows[i].id >= 0 && rows[i].id < 5);
        assert_int_equal(rows[i].repeat, times[rows[i].id]++);
    }
    for (int i = 0; i < 5; i++)
        assert_true(times[i] == 2 || times[i] == 3);
    for (int i = 0; i < 12; i++) { /* fewer are part of more */
        bool found = false;
        for (int k = 0; k < 13; k++)
            found = found || (few[i].id == rows[k].id && few[i].repeat == rows[k].repeat);
        assert_true(found);
    }
    free(rows);
    free(few);
    data_close(d);
    tmp_dir_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_region_is_whole),
        cmocka_unit_test(contrast_is_measured),
        cmocka_unit_test(only_training_pairs_are_repaired),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
