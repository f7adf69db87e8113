/* The importers on the real samples of BUSI, DDTI, ISIC 2017 and ISIC 2018, where they lie beside
 * the checkout. */
#include "helper.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "store/import.h"

static char root[512]; /* of the samples */

static void import_set(const char *format, const char *folder, const char *more, import_report *r)
{
    char format_set[64], root_set[600];
    const char *sets[] = {format_set, root_set, "data.size=128", "seed=1", more};
    config *cfg = NULL;
    (void)snprintf(format_set, sizeof format_set, "data.format=%s", format);
    (void)snprintf(root_set, sizeof root_set, "data.root=%s/%s", root, folder);
    assert_ok(config_load(NULL, sets, more ? 5 : 4, &cfg));
    assert_ok(import_run(cfg, helper_begin(), r));
    config_free(cfg);
}

/* Every row has a sane picture: not flat inside its valid part, a mask that is not empty. */
static void check_rows(data_schema schema, const char *name, int64_t rows)
{
    data_store *d = NULL;
    assert_ok(data_open(helper_path("%s", name), schema, &d));
    assert_int_equal(data_rows(d), rows);
    uint8_t *rgb = malloc(128 * 128 * 3), *mask = malloc(128 * 128);
    assert_true(rgb && mask);
    for (int64_t i = 0; i < rows; i++) {
        data_row row;
        assert_ok(data_read_row(d, i, &row));
        assert_ok(data_read_pixels(d, i, rgb, mask));
        int low = 255, high = 0;
        int64_t area = 0, outside = 0;
        for (int y = 0; y < 128; y++)
            for (int x = 0; x < 128; x++) {
                bool valid =
                    y >= row.valid[0] && y < row.valid[2] && x >= row.valid[1] && x < row.valid[3];
                int g = rgb[(y * 128 + x) * 3 + 1];
                if (valid && g < low)
                    low = g;
                if (valid && g > high)
                    high = g;
                area += mask[y * 128 + x];
                outside += !valid && mask[y * 128 + x];
            }
        assert_true(high - low > 15);
        assert_int_equal(outside, 0);
        if (schema == DATA_IMAGES)
            assert_true((area > 0) == (row.kind == DATA_LESION));
        else /* where a lesion may lie: on most of the tissue */
            assert_true(area > 128 * 128 / 4);
    }
    free(rgb);
    free(mask);
    data_close(d);
}

/* The lines of import_skipped.csv begin so, in this order. */
static void check_skipped(const char *const *lines, int n)
{
    char text[8192] = "", *line;
    FILE *f = fopen(helper_path("import_skipped.csv"), "r");
    assert_non_null(f);
    assert_true(fread(text, 1, sizeof text - 1, f) > 0 && fclose(f) == 0);
    line = strtok(text, "\n");
    assert_string_equal(line, "file,why");
    for (int i = 0; i < n; i++) {
        line = strtok(NULL, "\n");
        assert_non_null(line);
        if (strncmp(line, lines[i], strlen(lines[i])) != 0)
            fail_msg("\"%s\" where \"%s\" was expected", line, lines[i]);
    }
    assert_null(strtok(NULL, "\n"));
}

static void busi(void **state)
{
    (void)state;
    import_report r;
    import_set("busi", "busi/Dataset_BUSI_with_GT", NULL, &r);
    assert_true(r.lesion[0] == 30 && r.used == 30 && r.lesion[0] + r.lesion[1] + r.lesion[2] == 37);
    assert_true(r.healthy[0] == 8 && r.backgrounds == 8 && r.background == DATA_HEALTHY);
    /* normal (5) and normal (13) are two frames of one breast. */
    assert_true(r.joined == 1 && r.groups == 46);
    check_rows(DATA_IMAGES, "data.h5", 47);
    check_rows(DATA_BACKGROUNDS, "backgrounds.h5", 8);
    helper_end();
}

/* benign (25) has two masks, of one lesion each: both are in the stored mask. */
static void busi_unites_masks(void **state)
{
    (void)state;
    import_report r;
    import_set("busi", "busi/Dataset_BUSI_with_GT", NULL, &r);
    data_store *d = NULL;
    assert_ok(data_open(helper_path("data.h5"), DATA_IMAGES, &d));
    for (int64_t i = 0; i < data_rows(d); i++) {
        data_row row;
        assert_ok(data_read_row(d, i, &row));
        if (!helper_has(row.name, "benign (25)"))
            continue;
        static uint8_t mask[128 * 128];
        assert_ok(data_read_pixels(d, i, NULL, mask));
        int runs = 0, inside = 0; /* stretches of columns that hold the mask */
        for (int x = 0; x < 128; x++) {
            int any = 0;
            for (int y = 0; y < 128; y++)
                any |= mask[y * 128 + x];
            runs += any && !inside;
            inside = any;
        }
        assert_int_equal(runs, 2);
        data_close(d);
        helper_end();
        return;
    }
    fail_msg("benign (25) is not in data.h5");
}

static void isic2018(void **state)
{
    (void)state;
    import_report r;
    import_set("isic", "isic2018", "backgrounds.from=crops", &r);
    assert_true(r.lesion[0] + r.lesion[1] + r.lesion[2] == 40 && r.used == 30 && !r.official);
    assert_true(r.groups == 40 && r.joined == 0 && r.background == DATA_CROP && r.backgrounds > 40);
    check_rows(DATA_IMAGES, "data.h5", 40);
    check_rows(DATA_BACKGROUNDS, "backgrounds.h5", r.backgrounds);
    helper_end();
}

static void isic2017(void **state)
{
    (void)state;
    import_report r;
    import_set("isic", "isic2017", NULL, &r);
    assert_true(r.background == DATA_REPAIRED && r.backgrounds == 0);
    assert_true(r.lesion[0] + r.lesion[1] + r.lesion[2] == 13 && r.groups == 13);
    check_rows(DATA_IMAGES, "data.h5", 13);
    check_skipped(NULL, 0);
    helper_end();
}

/* Area in pixels of 560 x 360 and centre of the union of each image's outlines, by another program
   (numpy, json and ElementTree of Python): several images of a case, their marks out of order (139,
   337), several outlines, arrows (337, 358, 362), XML over many lines (1, 7, 122), points below the
   lower edge (338_2). */
static void ddti_masks(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int area;
        double y, x;
    } want[] = {{"1_1.jpg", 59420, 0.429, 0.476},   {"1_2.jpg", 59202, 0.428, 0.488},
                {"7_1.jpg", 6973, 0.345, 0.479},    {"122_1.jpg", 36651, 0.359, 0.485},
                {"122_2.jpg", 31286, 0.335, 0.497}, {"139_1.jpg", 9515, 0.294, 0.550},
                {"139_2.jpg", 6835, 0.285, 0.430},  {"139_3.jpg", 7268, 0.264, 0.308},
                {"337_1.jpg", 11312, 0.396, 0.517}, {"337_2.jpg", 18387, 0.413, 0.507},
                {"337_3.jpg", 6558, 0.305, 0.757},  {"338_1.jpg", 3471, 0.493, 0.523},
                {"338_2.jpg", 9283, 0.656, 0.476},  {"358_1.jpg", 1810, 0.377, 0.464},
                {"358_2.jpg", 8445, 0.414, 0.562},  {"362_1.jpg", 8439, 0.327, 0.431}};
    size_t n = sizeof want / sizeof *want, found = 0;
    static uint8_t mask[128 * 128];
    import_report r;
    data_store *d = NULL;
    import_set("ddti", "ddti", "data.fit=squash", &r);
    assert_ok(data_open(helper_path("data.h5"), DATA_IMAGES, &d));
    for (int64_t i = 0; i < data_rows(d); i++) {
        data_row row;
        size_t k = 0;
        assert_ok(data_read_row(d, i, &row));
        while (k < n && strcmp(want[k].name, row.name) != 0)
            k++;
        if (k == n)
            continue;
        assert_ok(data_read_pixels(d, i, NULL, mask));
        double area = 0, y = 0, x = 0, expected = want[k].area * 128.0 * 128 / (560 * 360);
        for (int p = 0; p < 128 * 128; p++)
            if (mask[p]) {
                area++;
                y += p / 128;
                x += p % 128;
            }
        if (fabs(area - expected) > 0.04 * expected + 6 ||
            fabs(y / area / 128 - want[k].y) > 0.01 || fabs(x / area / 128 - want[k].x) > 0.01)
            fail_msg("%s: %.0f pixels at %.3f %.3f, wanted %.0f at %.3f %.3f", row.name, area,
                     y / area / 128, x / area / 128, expected, want[k].y, want[k].x);
        found++;
    }
    assert_int_equal(found, n);
    data_close(d);
    helper_end();
}

/* The licence of every row, and of the store. */
static void licences(void **state)
{
    (void)state;
    static const struct {
        const char *format, *folder, *row, *store;
    } sets[] = {{"busi", "busi/Dataset_BUSI_with_GT", "terms not stated", "Al-Dhabyani"},
                {"isic", "isic2018", "CC BY-NC 4.0", "CC BY-NC 4.0 (ISIC 2018, HAM10000)"},
                {"isic", "isic2017", "CC0 1.0", "CC0 1.0 (ISIC 2017)"},
                {"ddti", "ddti", "terms not stated", "Pedraza"}};
    for (size_t k = 0; k < sizeof sets / sizeof *sets; k++) {
        import_report r;
        char *text = NULL;
        data_store *d = NULL;
        import_set(sets[k].format, sets[k].folder, "data.crops=0", &r);
        assert_ok(data_open(helper_path("data.h5"), DATA_IMAGES, &d));
        data_row row;
        for (int64_t i = 0; i < data_rows(d); i++) {
            assert_ok(data_read_row(d, i, &row));
            assert_true(helper_has(row.licence, sets[k].row));
        }
        assert_ok(data_text(d, "licences", &text));
        assert_true(helper_has(text, sets[k].store));
        assert_string_equal(text, row.licence); /* all rows have the same */
        free(text);
        data_close(d);
        helper_end();
    }
}

/* 45 pictures of 34 cases; five show no usable outline, and 1_1 is 1_2. */
static void ddti(void **state)
{
    (void)state;
    import_report r;
    import_set("ddti", "ddti", NULL, &r);
    assert_int_equal(r.lesion[0] + r.lesion[1] + r.lesion[2], 40);
    assert_int_equal(r.groups, 29);
    static const char *const skipped[] = {
        "54_1.jpg,\"no usable outline (its outline is damaged",
        "120_1.jpg,no usable outline (its outline is empty)",
        "165_1.jpg,\"no usable outline (its outline is damaged",
        "197_1.jpg,\"no usable outline (its outline is damaged",
        "337_3.jpg,\"a region that marks no area, an arrow or less than three points (3 of 4;",
        "358_1.jpg,\"a region that marks no area, an arrow or less than three points (1 of 2;",
        "362_1.jpg,\"a region that marks no area, an arrow or less than three points (1 of 2;",
        "389_1.jpg,no usable outline (its outline is empty)"};
    check_skipped(skipped, 8);
    assert_int_equal(r.skipped, 8);
    check_rows(DATA_IMAGES, "data.h5", 40);
    helper_end();
}

int main(void)
{
    const char *given = getenv("MEDDIFF_REAL");
    (void)snprintf(root, sizeof root, "%s", given ? given : "../shared/data/real");
    if (access(root, R_OK) != 0) {
        (void)printf("skipped: %s is missing (the real samples; MEDDIFF_REAL names their folder)\n",
                     root);
        return 77;
    }
    md_log_quiet(true);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(busi),     cmocka_unit_test(busi_unites_masks),
        cmocka_unit_test(isic2018), cmocka_unit_test(isic2017),
        cmocka_unit_test(ddti),     cmocka_unit_test(ddti_masks),
        cmocka_unit_test(licences)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
