/* Importers on tiny data sets: what is understood, what is refused, groups, splits and crops. */
#include "helper.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "fixture.h"
#include "image/image.h"
#include "image/resize.h"
#include "store/data.h"
#include "store/import.h"

enum { H = 60, W = 80 };
static const int box[4] = {20, 24, 40, 56};

/* more: one or two assignments, with a space between. */
static md_status import_with(const char *format, const char *root, const char *more,
                             import_report *r)
{
    char set[5][600];
    const char *sets[5] = {set[0], set[1], set[2], set[3], set[4]};
    config *cfg = NULL;
    (void)snprintf(set[0], sizeof set[0], "data.format=%s", format);
    (void)snprintf(set[1], sizeof set[1], "data.root=%s", root);
    (void)snprintf(set[2], sizeof set[2], "data.size=64");
    (void)snprintf(set[3], sizeof set[3], "%s", more ? more : "seed=0");
    char *space = strchr(set[3], ' ');
    (void)snprintf(set[4], sizeof set[4], "%s", space ? space + 1 : "seed=0");
    if (space)
        *space = 0;
    assert_ok(config_load(NULL, sets, space ? 5 : 4, &cfg));
    fixture_dir(helper_path("run"));
    md_status status = import_run(cfg, helper_path("run"), r);
    config_free(cfg);
    return status;
}

static data_store *open_data(void)
{
    data_store *d = NULL;
    assert_ok(data_open(helper_path("run/data.h5"), DATA_IMAGES, &d));
    return d;
}

static void fresh(const char *name)
{
    char out[64];
    (void)helper_run(out, sizeof out, "rm -rf '%s' '%s'", helper_path("%s", name),
                     helper_path("run"));
    fixture_dir(helper_path("%s", name));
}

/* The lines of run/import_skipped.csv after the first. */
static const char *skipped(void)
{
    static char text[4096];
    memset(text, 0, sizeof text);
    FILE *f = fopen(helper_path("run/import_skipped.csv"), "r");
    assert_non_null(f);
    assert_true(fread(text, 1, sizeof text - 1, f) > 0 && fclose(f) == 0);
    assert_int_equal(strncmp(text, "file,why\n", 9), 0);
    return text + 9;
}

static void assert_skipped(const char *lines)
{
    assert_string_equal(skipped(), lines);
}

/* benign (1) (2) (10), malignant (1) (3), normal (1) (2): masks of all four types. */
static void make_busi(void)
{
    static const int second[4] = {2, 3, 12, 13}, none[4] = {0, 0, 0, 0};
    fresh("busi");
    fixture_dir(helper_path("busi/benign"));
    fixture_dir(helper_path("busi/malignant"));
    fixture_dir(helper_path("busi/normal"));
    fixture_image(helper_path("busi/benign/benign (1).png"), 1, H, W);
    fixture_mask(helper_path("busi/benign/benign (1)_mask.png"), FIXTURE_GRAY1, H, W, box);
    fixture_image(helper_path("busi/benign/benign (10).png"), 2, W, H); /* upright */
    fixture_mask(helper_path("busi/benign/benign (10)_mask.png"), FIXTURE_GRAY8, W, H, box);
    fixture_image(helper_path("busi/benign/benign (2).png"), 3, H, W);
    fixture_mask(helper_path("busi/benign/benign (2)_mask.png"), FIXTURE_RGB, H, W, box);
    fixture_mask(helper_path("busi/benign/benign (2)_mask_1.png"), FIXTURE_GRAY1, H, W, second);
    fixture_image(helper_path("busi/malignant/malignant (1).png"), 4, H, W);
    fixture_mask(helper_path("busi/malignant/malignant (1)_mask.png"), FIXTURE_RGBA, H, W, box);
    fixture_image(helper_path("busi/malignant/malignant (3).png"), 5, H, W);
    fixture_mask(helper_path("busi/malignant/malignant (3)_mask.png"), FIXTURE_GRAY1, H, W, box);
    fixture_image(helper_path("busi/normal/normal (1).png"), 6, H, W);
    fixture_mask(helper_path("busi/normal/normal (1)_mask.png"), FIXTURE_RGB, H, W, none);
    fixture_image(helper_path("busi/normal/normal (2).png"), 7, H, W);
    fixture_text(helper_path("busi/normal/Thumbs.db"), "x");
}

static void busi_is_understood(void **state)
{
    (void)state;
    static const char *const names[] = {
        "benign/benign (1).png",       "benign/benign (2).png",       "benign/benign (10).png",
        "malignant/malignant (1).png", "malignant/malignant (3).png", "normal/normal (1).png",
        "normal/normal (2).png"};
    import_report r;
    make_busi();
    assert_ok(import_with("busi", helper_path("busi"), NULL, &r));
    assert_int_equal(r.lesion[0] + r.lesion[1] + r.lesion[2], 5);
    assert_int_equal(r.healthy[0] + r.healthy[1] + r.healthy[2], 2);
    assert_true(r.groups == 7 && r.joined == 0 && !r.official && r.background == DATA_HEALTHY);
    assert_int_equal(r.backgrounds, r.healthy[DATA_TRAIN]);
    assert_int_equal(access(helper_path("run/import.png"), R_OK), 0);
    assert_skipped("normal/Thumbs.db,no picture\n");
    data_store *d = open_data();
    assert_true(data_rows(d) == 7 && data_size(d) == 64);
    uint8_t *rgb = malloc(64 * 64 * 3), *mask = malloc(64 * 64);
    assert_true(rgb && mask);
    for (int i = 0; i < 7; i++) {
        data_row row;
        assert_ok(data_read_row(d, i, &row));
        assert_string_equal(row.name, names[i]);
        assert_int_equal(row.kind, i < 5 ? DATA_LESION : DATA_HEALTHY);
        assert_int_equal(strlen(row.sha256), 64);
        assert_true(helper_has(row.licence, "BUSI"));
        /* 80 x 60 in 64: 64 x 48 with 8 above and below; the upright one alike. */
        int across = i == 2;
        assert_true(row.valid[across] == 8 && row.valid[2 + across] == 56 &&
                    row.valid[1 - across] == 0 && row.valid[3 - across] == 64);
        assert_true(row.size[0] == (across ? W : H) && row.source[2] == (float)row.size[0] &&
                    row.source[3] == (float)row.size[1]);
        assert_ok(data_read_pixels(d, i, rgb, mask));
        int64_t area = 0;
        for (int k = 0; k < 64 * 64; k++) {
            assert_true(mask[k] <= 1);
            area += mask[k];
        }
        /* 20 x 32 source pixels are 16 x 25.6 stored ones; row 1 has 10 x 10 more, 8 x 8. */
        int64_t want = i == 1 ? 16 * 26 + 8 * 8 : 16 * 26;
        if (i >= 5)
            assert_int_equal(area, 0);
        else
            assert_in_range(area, want - 40, want + 40);
        assert_int_equal(rgb[0] + rgb[1] + rgb[2], 0); /* the border of the letterbox */
    }
    free(rgb);
    free(mask);
    data_close(d);
}

static void fits_differ(void **state)
{
    (void)state;
    import_report r;
    data_row row;
    make_busi();
    assert_ok(import_with("busi", helper_path("busi"), "data.fit=crop", &r));
    data_store *d = open_data();
    assert_ok(data_read_row(d, 0, &row));
    data_close(d);
    assert_true(row.valid[0] == 0 && row.valid[1] == 0 && row.valid[2] == 64 && row.valid[3] == 64);
    assert_true(row.source[0] == 0 && row.source[1] == 10 && row.source[2] == 60 &&
                row.source[3] == 70);
    assert_ok(import_with("busi", helper_path("busi"), "data.fit=squash", &r));
    d = open_data();
    assert_ok(data_read_row(d, 0, &row));
    data_close(d);
    assert_true(row.valid[2] == 64 && row.source[1] == 0 && row.source[3] == 80);
}

/* The stored picture i of run/<store> against the file, resized here. */
static void same_as_resized(data_store *d, int64_t i, const char *file, image_filter filter)
{
    image any, want;
    uint8_t rgb[64 * 64 * 3];
    assert_ok(image_read(file, &any));
    image source;
    assert_ok(image_to_rgb(&any, &source));
    assert_ok(image_resize(&source, 64, 64, filter, &want));
    assert_ok(data_read_pixels(d, i, rgb, NULL));
    assert_memory_equal(rgb, want.px, sizeof rgb);
    image_free(&any);
    image_free(&source);
    image_free(&want);
}

static void filters_are_obeyed(void **state)
{
    (void)state;
    static const char *const names[] = {"bicubic", "bilinear", "lanczos"};
    static const image_filter filters[] = {IMAGE_BICUBIC, IMAGE_BILINEAR, IMAGE_LANCZOS};
    import_report r;
    make_busi();
    for (int i = 0; i < 9; i++) {
        char set[6][600];
        const char *sets[6];
        config *cfg = NULL;
        for (int k = 0; k < 6; k++)
            sets[k] = set[k];
        (void)snprintf(set[0], sizeof set[0], "data.root=%s", helper_path("busi"));
        (void)snprintf(set[1], sizeof set[1], "data.filter=%s", names[i / 3]);
        (void)snprintf(set[2], sizeof set[2], "data.background_filter=%s", names[i % 3]);
        sets[3] = "data.format=busi";
        sets[4] = "data.size=64";
        sets[5] = "data.fit=squash";
        assert_ok(config_load(NULL, sets, 6, &cfg));
        fixture_dir(helper_path("run"));
        assert_ok(import_run(cfg, helper_path("run"), &r));
        config_free(cfg);
        data_store *d = open_data();
        same_as_resized(d, 0, helper_path("busi/benign/benign (1).png"), filters[i / 3]);
        data_close(d);
        assert_true(r.backgrounds > 0);
        data_row row;
        assert_ok(data_open(helper_path("run/backgrounds.h5"), DATA_BACKGROUNDS, &d));
        assert_ok(data_read_row(d, 0, &row));
        same_as_resized(d, 0, helper_path("busi/%s", row.name), filters[i % 3]);
        data_close(d);
    }
}

/* Squares of 2 x 2 source pixels make one: a quarter is none, a half is one, by whatever filter. */
static void a_quarter_of_a_pixel_is_none(void **state)
{
    (void)state;
    static const char *const filters[] = {"area", "bilinear", "lanczos"};
    uint8_t px[128 * 128] = {0}, mask[64 * 64];
    import_report r;
    for (int y = 0; y < 128; y++)
        for (int x = 0; x < 128; x++)
            px[y * 128 + x] = y < 64 ? (y % 2 == 0 && x % 2 == 0) : x < 64;
    make_busi();
    fixture_image(helper_path("busi/benign/benign (1).png"), 1, 128, 128);
    fixture_png(helper_path("busi/benign/benign (1)_mask.png"), FIXTURE_GRAY1, 128, 128, px);
    for (size_t f = 0; f < 3; f++) {
        char set[64];
        (void)snprintf(set, sizeof set, "data.mask_filter=%s", filters[f]);
        assert_ok(import_with("busi", helper_path("busi"), set, &r));
        data_store *d = open_data();
        uint8_t rgb[3 * 64 * 64];
        assert_ok(data_read_pixels(d, 0, rgb, mask));
        for (int i = 0; i < 64 * 64; i++)
            if (i / 64 < 30 || i / 64 > 34) /* a wide filter sees beyond the middle */
                assert_int_equal(mask[i], i / 64 > 31 && i % 64 < 32);
        data_close(d);
    }
}

static void flipped_pixels_are_found(void **state)
{
    (void)state;
    import_report r;
    bool whole = false;
    char out[1024];
    make_busi();
    assert_ok(import_with("busi", helper_path("busi"), NULL, &r));
    data_store *d = open_data();
    for (int64_t i = 0; i < data_rows(d); i++) {
        assert_ok(data_verify_row(d, i, &whole));
        assert_true(whole);
    }
    data_close(d);
    if (helper_run(out, sizeof out, "h5dump -V") != 0)
        return;
    assert_int_equal(
        helper_run(out, sizeof out, "h5dump -H -p -d /masks '%s'", helper_path("run/data.h5")), 0);
    char *at = strstr(out, "OFFSET ");
    assert_non_null(at);
    FILE *f = fopen(helper_path("run/data.h5"), "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, atol(at + 7) + 64 * 64 * 3 + 5, SEEK_SET), 0); /* row 3 */
    assert_int_equal(putc(1, f), 1);
    assert_int_equal(fclose(f), 0);
    d = open_data();
    for (int64_t i = 0; i < data_rows(d); i++) {
        assert_ok(data_verify_row(d, i, &whole));
        assert_int_equal(whole, i != 3);
    }
    data_close(d);
}

/* Nothing but the message is left of a refused import. */
static void assert_refused(const char *format, const char *root, const char *text)
{
    import_report r;
    assert_fails(import_with(format, root, NULL, &r), MD_BAD_INPUT, text);
    assert_int_not_equal(access(helper_path("run/data.h5"), F_OK), 0);
    assert_int_not_equal(access(helper_path("run/data.h5.tmp"), F_OK), 0);
    assert_int_not_equal(access(helper_path("run/backgrounds.h5"), F_OK), 0);
}

static void busi_faults_are_named(void **state)
{
    (void)state;
    static const int none[4] = {0, 0, 0, 0};
    const char *root = helper_path("busi");
    char keep[512];
    (void)snprintf(keep, sizeof keep, "%s", root);
    make_busi();
    fixture_mask(helper_path("busi/benign/benign (2)_mask_1.png"), FIXTURE_GRAY8, H, W - 3, box);
    assert_refused("busi", keep, "benign (2).png is 80x60 pixels, but its mask");
    assert_refused("busi", keep, "benign (2)_mask_1.png is 77x60");
    make_busi();
    (void)remove(helper_path("busi/malignant/malignant (3)_mask.png"));
    assert_refused("busi", keep, "malignant (3).png has no mask");
    make_busi();
    (void)remove(helper_path("busi/malignant/malignant (3).png"));
    assert_refused("busi", keep, "malignant (3)_mask.png is a mask without its image");
    make_busi();
    fixture_mask(helper_path("busi/benign/benign (1)_mask.png"), FIXTURE_RGB, H, W, none);
    assert_refused("busi", keep, "benign (1)_mask.png marks nothing");
    make_busi();
    fixture_mask(helper_path("busi/normal/normal (1)_mask.png"), FIXTURE_RGB, H, W, box);
    assert_refused("busi", keep, "normal (1)_mask.png marks a lesion");
    make_busi();
    fixture_text(helper_path("busi/benign/benign (10).png"), "\x89PNG\r\n\x1a\nnot really");
    assert_refused("busi", keep, "benign (10).png");
    make_busi();
    assert_int_equal(truncate(helper_path("busi/benign/benign (10)_mask.png"), 300), 0);
    assert_refused("busi", keep, "benign (10)_mask.png");
    fresh("busi");
    assert_refused("busi", keep, "none of benign, malignant, normal");
    import_report r;
    assert_fails(import_with("busi", "", NULL, &r), MD_USAGE, "data.root");
    assert_fails(import_with("busi", helper_path("nowhere"), NULL, &r), MD_USAGE, "nowhere");
}

static void a_failed_import_leaves_the_old_one(void **state)
{
    (void)state;
    import_report r;
    make_busi();
    assert_ok(import_with("busi", helper_path("busi"), NULL, &r));
    (void)remove(helper_path("busi/malignant/malignant (3)_mask.png"));
    assert_fails(import_with("busi", helper_path("busi"), NULL, &r), MD_BAD_INPUT, "has no mask");
    data_store *d = open_data();
    assert_int_equal(data_rows(d), 7);
    data_close(d);
}

/* Links inside the data set work; one that leads out of it is refused. */
static void links_stay_inside(void **state)
{
    (void)state;
    import_report r;
    make_busi();
    (void)remove(helper_path("busi/normal/normal (2).png"));
    assert_int_equal(symlink("normal (1).png", helper_path("busi/normal/normal (2).png")), 0);
    assert_ok(import_with("busi", helper_path("busi"), NULL, &r));
    assert_true(r.joined == 1 && r.groups == 6);
    fixture_image(helper_path("outside.png"), 50, H, W);
    (void)remove(helper_path("busi/normal/normal (2).png"));
    assert_int_equal(symlink("../../outside.png", helper_path("busi/normal/normal (2).png")), 0);
    char root[512];
    (void)snprintf(root, sizeof root, "%s", helper_path("busi"));
    fresh("gone"); /* removes the run directory */
    assert_refused("busi", root, "leads out of the data set");
}

static void isic_pair(const char *images, const char *masks, const char *suffix, int id)
{
    fixture_dir(helper_path("isic/%s", images));
    fixture_dir(helper_path("isic/%s", masks));
    fixture_image(helper_path("isic/%s/ISIC_%07d.png", images, id), id, H, W);
    fixture_mask(helper_path("isic/%s/ISIC_%07d%s.png", masks, id, suffix), FIXTURE_GRAY8, H, W,
                 box);
}

static void isic_is_understood(void **state)
{
    (void)state;
    import_report r;
    fresh("isic");
    for (int id = 11; id < 17; id++)
        isic_pair("ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth",
                  "_segmentation", id);
    fixture_dir(helper_path("isic/ISIC2018_Task2_Training_GroundTruth_v3"));
    fixture_text(helper_path("isic/ISIC2018_Task1-2_Training_Input/LICENSE.txt"), "CC");
    fixture_text(helper_path("isic/ISIC2018_Task1_Training_GroundTruth/ATTRIBUTION.txt"), "by");
    fixture_image(helper_path("isic/ISIC2018_Task1-2_Training_Input/ISIC_0000011_superpixels.png"),
                  90, H, W);
    assert_ok(import_with("isic", helper_path("isic"), NULL, &r));
    assert_skipped(
        "ISIC2018_Task1-2_Training_Input/LICENSE.txt,no picture\n"
        "ISIC2018_Task1_Training_GroundTruth/ATTRIBUTION.txt,no picture\n"
        "ISIC2018_Task1-2_Training_Input/ISIC_0000011_superpixels.png,\"superpixels, no mask\"\n"
        "ISIC2018_Task2_Training_GroundTruth_v3,neither images nor masks of the lesion "
        "segmentation\n");
    assert_true(!r.official &&
                r.lesion[0] + r.lesion[1] + r.lesion[2] == 6); /* one part: 80/10/10 */
    assert_int_equal(r.lesion[DATA_TRAIN], 5);
    isic_pair("ISIC-2017_Validation_Data", "ISIC-2017_Validation_Part1_GroundTruth",
              "_Segmentation", 20);
    isic_pair("ISIC-2017_Test_v2_Data", "ISIC-2017_Test_v2_Part1_GroundTruth", "_segmentation", 21);
    assert_ok(import_with("isic", helper_path("isic"), NULL, &r));
    assert_true(r.official && r.lesion[DATA_TRAIN] == 6 && r.lesion[DATA_VAL] == 1 &&
                r.lesion[DATA_TEST] == 1);
    data_store *d = open_data();
    int64_t *ids = NULL, n = 0;
    data_row row;
    assert_ok(data_select(d, DATA_LESION, DATA_VAL, false, &ids, &n));
    assert_int_equal(n, 1);
    assert_ok(data_read_row(d, ids[0], &row));
    assert_true(helper_has(row.name, "ISIC_0000020") && helper_has(row.licence, "CC0"));
    free(ids);
    assert_ok(data_select(d, DATA_LESION, DATA_TRAIN, true, &ids, &n));
    assert_int_equal(n, 6);
    assert_ok(data_read_row(d, ids[0], &row));
    assert_true(helper_has(row.licence, "CC BY-NC 4.0"));
    free(ids);
    data_close(d);
}

static void duplicates_across_splits_stop(void **state)
{
    (void)state;
    import_report r;
    fresh("isic");
    for (int id = 11; id < 15; id++)
        isic_pair("ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth",
                  "_segmentation", id);
    isic_pair("ISIC2018_Task1-2_Test_Input", "ISIC2018_Task1_Test_GroundTruth", "_segmentation",
              30);
    assert_ok(import_with("isic", helper_path("isic"), NULL, &r));
    /* The picture of id 12, smaller, under another id in the other part. */
    fixture_image(helper_path("isic/ISIC2018_Task1-2_Test_Input/ISIC_0000031.png"), 12, H / 2,
                  W / 2);
    static const int half[4] = {10, 12, 20, 28};
    fixture_mask(helper_path("isic/ISIC2018_Task1_Test_GroundTruth/ISIC_0000031_segmentation.png"),
                 FIXTURE_GRAY8, H / 2, W / 2, half);
    md_status s = import_with("isic", helper_path("isic"), NULL, &r);
    assert_int_equal(s, MD_BAD_INPUT);
    assert_true(helper_has(md_status_text(), "ISIC_0000012") &&
                helper_has(md_status_text(), "ISIC_0000031") &&
                helper_has(md_status_text(), "data.near_duplicates"));
    assert_ok(import_with("isic", helper_path("isic"), "data.near_duplicates=warn", &r));
    assert_true(r.official && r.joined == 1 && r.lesion[DATA_TEST] == 2 && r.moved == 0);
    /* Joined, the training picture goes to the test part, and is no longer used. */
    assert_ok(import_with("isic", helper_path("isic"), "data.near_duplicates=join", &r));
    assert_true(r.official && r.moved == 1 && r.lesion[DATA_TEST] == 3 && r.used == 3);
    assert_skipped("ISIC2018_Task1-2_Training_Input/ISIC_0000012.png,moved from train to test "
                   "(with ISIC2018_Task1-2_Test_Input/ISIC_0000031.png)\n");
    data_store *d = open_data();
    data_row row;
    for (int64_t i = 0; i < data_rows(d); i++) {
        assert_ok(data_read_row(d, i, &row));
        bool twin = helper_has(row.name, "ISIC_0000012") || helper_has(row.name, "ISIC_0000031");
        assert_true(!twin || (row.split == DATA_TEST && !row.used));
    }
    data_close(d);
}

/* Both years under one root: an id that both have is one picture, whatever its size, and the
   stricter part has it. */
static void both_years_of_isic_join(void **state)
{
    (void)state;
    import_report r;
    fresh("isic");
    for (int id = 11; id < 15; id++)
        isic_pair("ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth",
                  "_segmentation", id);
    isic_pair("ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth", "_segmentation",
              11);
    isic_pair("ISIC-2017_Test_v2_Data", "ISIC-2017_Test_v2_Part1_GroundTruth", "_segmentation", 12);
    assert_fails(import_with("isic", helper_path("isic"), NULL, &r), MD_BAD_INPUT, "ISIC_0000012");
    assert_ok(import_with("isic", helper_path("isic"), "data.near_duplicates=join", &r));
    assert_true(r.groups == 4 && r.joined == 2 && r.moved == 1);
    assert_true(r.lesion[DATA_TRAIN] == 4 && r.lesion[DATA_TEST] == 2 && r.used == 4);
}

/* DDTI: a case of two images, one of one, and three that do not say where the nodule is. */
static void ddti_is_understood(void **state)
{
    (void)state;
    static const char one[] = "{\"points\": [{\"x\": 20, \"y\": 10}, {\"x\": 60, \"y\": 10}, "
                              "{\"x\": 60, \"y\": 99}, {\"x\": 20, \"y\": 99}]%s}";
    char a[400], text[2000];
    import_report r;
    fresh("ddti");
    (void)snprintf(a, sizeof a, one, ", \"regionType\": \"freehand\"");
    (void)snprintf(text, sizeof text,
                   "<case><mark><image>2</image><svg>[%s]</svg></mark><mark><image>1</image><svg>"
                   "[%s, {\"points\": [{\"x\": 1, \"y\": 1}, {\"x\": 5, \"y\": 1}, {\"x\": 5, "
                   "\"y\": 5}]}]</svg></mark></case>",
                   a, a);
    fixture_text(helper_path("ddti/7.xml"), text);
    (void)snprintf(text, sizeof text,
                   "<case><mark><image>1</image><svg>[%s]</svg></mark><mark><image>2</image><svg>"
                   "[{\"points\": [{\"x\": 1</svg></mark><mark><image>3</image><svg></svg></mark>"
                   "</case>",
                   a);
    fixture_text(helper_path("ddti/70.xml"), text);
    static const char *const names[] = {"7_1", "7_2", "70_1", "70_2", "70_3", "70_4"};
    for (int i = 0; i < 6; i++)
        fixture_image(helper_path("ddti/%s.png", names[i]), 40 + i, H, W);
    assert_ok(import_with("ddti", helper_path("ddti"), NULL, &r));
    assert_true(r.lesion[0] + r.lesion[1] + r.lesion[2] == 3 && r.groups == 2);
    data_store *d = open_data();
    data_row row[3];
    uint8_t mask[64 * 64];
    int64_t area[3] = {0};
    for (int i = 0; i < 3; i++) {
        assert_ok(data_read_row(d, i, &row[i]));
        assert_ok(data_read_pixels(d, i, NULL, mask));
        for (int k = 0; k < 64 * 64; k++)
            area[i] += mask[k];
    }
    assert_string_equal(row[0].name, "7_1.png");
    assert_true(row[0].group == row[1].group && row[0].group != row[2].group);
    /* 41 of 80 columns and 50 of 60 rows, cut off below, at 64/80; and a small second region */
    assert_true(abs((int)area[1] - 41 * 50 * 64 * 64 / 80 / 80) < 60);
    assert_true(area[0] > area[1] + 2 && area[0] < area[1] + 20);
    data_close(d);
    assert_true(
        helper_has(skipped(), "70_2.png,\"no usable outline (its outline is damaged (svg: "));
    assert_true(helper_has(skipped(),
                           "\n70_3.png,no usable outline (its outline is empty)\n70_4.png,"
                           "no usable outline (the case's file does not mention it)\n"));
    assert_int_equal(r.skipped, 3);
    fixture_text(helper_path("ddti/9.xml"), "<case></case>");
    fixture_text(helper_path("ddti/readme.txt"), "x");
    (void)remove(helper_path("ddti/70_3.png"));
    (void)remove(helper_path("ddti/70_2.png"));
    assert_ok(import_with("ddti", helper_path("ddti"), NULL, &r));
    assert_skipped("70_4.png,no usable outline (the case's file does not mention it)\n"
                   "70.xml,a mark without its picture (of image 2)\n"
                   "70.xml,a mark without its picture (of image 3)\n"
                   "9.xml,a case without a picture\n"
                   "readme.txt,no picture\n");
    fixture_image(helper_path("ddti/8_1.png"), 50, H, W);
    assert_fails(import_with("ddti", helper_path("ddti"), NULL, &r), MD_BAD_INPUT, "8.xml");
    fixture_text(helper_path("ddti/8.xml"), "<case><mark></case>");
    assert_fails(import_with("ddti", helper_path("ddti"), NULL, &r), MD_BAD_INPUT, "8.xml:1");
    (void)snprintf(
        text, sizeof text,
        "<case><mark><image>1</image><svg>[{\"points\": [{\"x\": 900, \"y\": 1}, {\"x\": "
        "905, \"y\": 1}, {\"x\": 905, \"y\": 5}]}]</svg></mark></case>");
    fixture_text(helper_path("ddti/8.xml"), text);
    assert_ok(import_with("ddti", helper_path("ddti"), NULL, &r)); /* known only once it is read */
    assert_int_equal(r.lesion[0] + r.lesion[1] + r.lesion[2], 3);
    assert_true(
        helper_has(skipped(), "\n8_1.png,no usable outline (its outlines mark no pixel of it)\n"));
    d = open_data();
    assert_int_equal(data_rows(d), 3);
    for (int i = 0; i < 3; i++) {
        bool whole = false;
        assert_ok(data_verify_row(d, i, &whole));
        assert_ok(data_read_row(d, i, &row[i]));
        assert_true(whole && !helper_has(row[i].name, "8_1"));
    }
    data_close(d);
    fixture_image(helper_path("ddti/scan.png"), 51, H, W);
    assert_fails(import_with("ddti", helper_path("ddti"), NULL, &r), MD_BAD_INPUT, "139_2.jpg");
}

static void ph2_case(int id, const char *mask_suffix)
{
    char name[16];
    (void)snprintf(name, sizeof name, "IMD%03d", id);
    const char *parts[] = {"Dermoscopic_Image", "lesion", "roi"};
    for (int i = 0; i < 3; i++)
        fixture_dir(
            helper_path("ph2/PH2Dataset/PH2 Dataset images/%s/%s_%s", name, name, parts[i]));
    const char *dir = helper_path("ph2/PH2Dataset/PH2 Dataset images/%s", name);
    char path[600];
    (void)snprintf(path, sizeof path, "%s/%s_Dermoscopic_Image/%s.bmp", dir, name, name);
    fixture_image(path, id, H, W);
    (void)snprintf(path, sizeof path, "%s/%s_lesion/%s_lesion%s", dir, name, name, mask_suffix);
    if (strcmp(mask_suffix, ".bmp") == 0)
        fixture_bmp1(path, H, W, box);
    else
        fixture_mask(path, FIXTURE_RGB, H, W, box);
    static const int all[4] = {0, 0, H, W};
    (void)snprintf(path, sizeof path, "%s/%s_roi/%s_R1_Label3.bmp", dir, name, name);
    fixture_bmp1(path, H, W, all);
}

/* PH2: 1-bit masks, a re-saved copy, regions of colour that are no masks. */
static void ph2_is_understood(void **state)
{
    (void)state;
    import_report r;
    fresh("ph2");
    ph2_case(2, ".bmp");
    ph2_case(10, ".png");
    ph2_case(437, ".bmp");
    fixture_text(helper_path("ph2/PH2Dataset/PH2 Dataset images/Readme.txt"), "\xe9");
    static const char *const roots[] = {"ph2", "ph2/PH2Dataset",
                                        "ph2/PH2Dataset/PH2 Dataset images"};
    for (int i = 0; i < 3; i++) {
        assert_ok(import_with("ph2", helper_path("%s", roots[i]), NULL, &r));
        assert_true(r.lesion[0] + r.lesion[1] + r.lesion[2] == 3 && r.groups == 3);
        assert_int_equal(r.skipped, 4); /* a region of each case, and Readme.txt */
        data_store *d = open_data();
        data_row row;
        uint8_t mask[64 * 64];
        assert_ok(data_read_row(d, 1, &row));
        assert_true(helper_has(row.name, "IMD010.bmp") && helper_has(row.licence, "research"));
        for (int k = 0; k < 3; k++) {
            int64_t area = 0;
            assert_ok(data_read_pixels(d, k, NULL, mask));
            for (int j = 0; j < 64 * 64; j++)
                area += mask[j];
            assert_true(labs((long)area - 20 * 32 * 64 * 64 / 80 / 80) < 40);
        }
        data_close(d);
    }
    assert_skipped("IMD002/IMD002_roi/IMD002_R1_Label3.bmp,\"a colour region, no lesion mask\"\n"
                   "IMD010/IMD010_roi/IMD010_R1_Label3.bmp,\"a colour region, no lesion mask\"\n"
                   "IMD437/IMD437_roi/IMD437_R1_Label3.bmp,\"a colour region, no lesion mask\"\n"
                   "Readme.txt,no case\n");
    assert_int_equal(remove(helper_path("ph2/PH2Dataset/PH2 Dataset images/IMD437/IMD437_lesion/"
                                        "IMD437_lesion.bmp")),
                     0);
    assert_fails(import_with("ph2", helper_path("ph2"), NULL, &r), MD_BAD_INPUT,
                 "IMD437_lesion holds no picture IMD437_lesion.bmp");
    assert_fails(import_with("ph2", helper_path("busi"), NULL, &r), MD_BAD_INPUT,
                 "PH2 Dataset images");
}

/* Damaged files, whatever the layout: refused, naming the file. */
static void damage_is_named(void **state)
{
    (void)state;
#define PICTURE "tests/image/data/"
    static const char ph2[] = "ph2/PH2Dataset/PH2 Dataset images/IMD002/IMD002_";
    char file[600];
    fresh("ph2");
    ph2_case(2, ".bmp");
    fresh("isic");
    isic_pair("ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth", "_segmentation",
              5);
    char ph2_root[512], isic_root[512];
    (void)snprintf(ph2_root, sizeof ph2_root, "%s", helper_path("ph2"));
    (void)snprintf(isic_root, sizeof isic_root, "%s", helper_path("isic"));
    import_report r;
    assert_ok(import_with("ph2", ph2_root, NULL, &r));
    fresh("gone");

    /* BMP: cut in its pixels, in its header, of another size, empty */
    (void)snprintf(file, sizeof file, "%slesion/IMD002_lesion.bmp", helper_path("%s", ph2));
    assert_int_equal(truncate(file, 300), 0);
    assert_refused("ph2", ph2_root, "IMD002_lesion.bmp");
    assert_int_equal(truncate(file, 20), 0);
    assert_refused("ph2", ph2_root, "IMD002_lesion.bmp");
    fixture_bmp1(file, H, W + 8, box);
    assert_refused("ph2", ph2_root, "IMD002_lesion.bmp is 88x60");
    static const int none[4] = {0, 0, 0, 0};
    fixture_bmp1(file, H, W, none);
    assert_refused("ph2", ph2_root, "IMD002_lesion.bmp marks nothing");

    /* PNG and JPEG: 16 bits, cut, turned by EXIF so that the mask's size is another */
    const char *at = "isic/ISIC-2017_Training_Data/ISIC_0000005";
    fixture_copy(PICTURE "rgb16.png", helper_path("%s.png", at));
    assert_refused("isic", isic_root, "ISIC_0000005.png: 16-bit PNG");
    (void)remove(helper_path("%s.png", at));
    fixture_copy(PICTURE "rgb.jpg", helper_path("%s.jpg", at));
    assert_int_equal(truncate(helper_path("%s.jpg", at), 400), 0);
    assert_refused("isic", isic_root, "ISIC_0000005.jpg");
    fixture_copy(PICTURE "orient6.jpg", helper_path("%s.jpg", at));
    assert_refused("isic", isic_root, "ISIC_0000005.jpg is ");
    fixture_text(helper_path("%s.jpg", at), "");
    assert_refused("isic", isic_root, "ISIC_0000005.jpg");
    (void)remove(helper_path("%s.jpg", at));
    fixture_image(helper_path("%s.JPG", at), 5, H, W); /* a PNG under another name */
    assert_ok(import_with("isic", isic_root, NULL, &r));
#undef PICTURE
}

static void make_folder(int n, bool backgrounds)
{
    fresh("folder");
    fixture_dir(helper_path("folder/images"));
    fixture_dir(helper_path("folder/masks"));
    for (int i = 0; i < n; i++) {
        fixture_image(helper_path("folder/images/p%d.png", i), 200 + i, H, W);
        fixture_mask(helper_path("folder/masks/p%d.png", i), FIXTURE_GRAY8, H, W, box);
    }
    if (backgrounds) {
        fixture_dir(helper_path("folder/backgrounds"));
        for (int i = 0; i < n; i++)
            fixture_image(helper_path("folder/backgrounds/b%d.png", i), 400 + i, H, W);
    }
}

static void folders_are_understood(void **state)
{
    (void)state;
    import_report r;
    char root[512];
    (void)snprintf(root, sizeof root, "%s", helper_path("folder"));
    make_folder(20, true);
    fixture_text(helper_path("folder/LICENSE"), "CC0 1.0\nmore\n");
    assert_ok(import_with("folder", root, "data.pairs=7", &r));
    assert_true(r.lesion[0] == 16 && r.lesion[1] == 2 && r.lesion[2] == 2 && r.used == 7);
    assert_true(r.healthy[0] == 16 && r.backgrounds == 16 && r.background == DATA_HEALTHY);
    data_store *d = open_data();
    data_row row;
    assert_ok(data_read_row(d, 19, &row));
    assert_string_equal(row.name, "images/p19.png");
    assert_string_equal(row.licence, "CC0 1.0");
    data_close(d);
    fixture_dir(helper_path("folder/test/images"));
    fixture_dir(helper_path("folder/test/masks"));
    fixture_image(helper_path("folder/test/images/t.png"), 600, H, W);
    fixture_mask(helper_path("folder/test/masks/t.png"), FIXTURE_GRAY1, H, W, box);
    assert_ok(import_with("folder", root, NULL, &r));
    assert_true(r.official && r.lesion[DATA_TRAIN] == 20 && r.lesion[DATA_TEST] == 1);
    make_folder(3, false);
    (void)remove(helper_path("folder/masks/p1.png"));
    assert_refused("folder", root, "p1.png has no mask of the same name");
    make_folder(3, false);
    (void)remove(helper_path("folder/images/p1.png"));
    assert_refused("folder", root, "p1.png is a mask without an image");
    make_folder(3, false);
    fixture_copy(helper_path("folder/images/p1.png"), helper_path("folder/images/p1.jpg"));
    assert_refused("folder", root, "have the same name");
    fresh("folder");
    fixture_dir(helper_path("folder/images"));
    assert_refused("folder", root, "images is there, but masks is not");
}

/* Same seed, same bytes; another seed, another split; duplicates never straddle one. */
static void splits_follow_groups_and_seed(void **state)
{
    (void)state;
    import_report r;
    char root[512], out[256], set[64];
    (void)snprintf(root, sizeof root, "%s", helper_path("folder"));
    make_folder(20, false);
    for (int i = 0; i < 5; i++) { /* p0..p4 again under other names, at another size */
        fixture_image(helper_path("folder/images/q%d.png", i), 200 + i, H * 2, W * 2);
        static const int twice[4] = {40, 48, 80, 112};
        fixture_mask(helper_path("folder/masks/q%d.png", i), FIXTURE_GRAY8, H * 2, W * 2, twice);
    }
    int different = 0;
    uint8_t before[25] = {0};
    for (int seed = 0; seed < 12; seed++) {
        (void)snprintf(set, sizeof set, "seed=%d", seed);
        assert_ok(import_with("folder", root, set, &r));
        assert_true(r.joined == 5 && r.groups == 20);
        assert_true(r.lesion[0] >= 20 && r.lesion[0] <= 21);
        uint8_t now[25];
        data_store *d = open_data();
        data_row a, b;
        for (int i = 0; i < 25; i++) {
            assert_ok(data_read_row(d, i, &a));
            now[i] = (uint8_t)a.split;
        }
        for (int i = 0; i < 5; i++) {
            assert_ok(data_read_row(d, i, &a));
            assert_ok(data_read_row(d, 20 + i, &b));
            assert_true(a.group == b.group && a.split == b.split);
        }
        data_close(d);
        different += seed > 0 && memcmp(before, now, sizeof now) != 0;
        memcpy(before, now, sizeof now);
    }
    assert_true(different >= 9);
    fixture_copy(helper_path("run/data.h5"), helper_path("once.h5"));
    assert_ok(import_with("folder", root, "seed=11", &r));
    assert_int_equal(helper_run(out, sizeof out, "cmp '%s' '%s'", helper_path("once.h5"),
                                helper_path("run/data.h5")),
                     0);
}

/* Squares of lesion images keep clear of the grown mask, of each other and of dark corners. */
static void crops_avoid_lesions(void **state)
{
    (void)state;
    enum { SIDE = 400 };
    static const int lesion[4] = {150, 150, 250, 250};
    import_report r;
    char root[512];
    (void)snprintf(root, sizeof root, "%s", helper_path("folder"));
    make_folder(0, false);
    for (int i = 0; i < 4; i++) {
        fixture_image(helper_path("folder/images/c%d.png", i), 300 + i, SIDE, SIDE);
        fixture_mask(helper_path("folder/masks/c%d.png", i), FIXTURE_GRAY8, SIDE, SIDE, lesion);
    }
    assert_ok(import_with("folder", root, "data.crops=3 backgrounds.from=crops", &r));
    int64_t crops = r.backgrounds;
    assert_int_equal(crops, 3 * r.used);
    data_store *b = NULL;
    assert_ok(data_open(helper_path("run/backgrounds.h5"), DATA_BACKGROUNDS, &b));
    assert_int_equal(data_rows(b), crops);
    for (int64_t i = 0; i < crops; i++) {
        data_row row, other;
        assert_ok(data_read_row(b, i, &row));
        assert_int_equal(row.kind, DATA_CROP);
        assert_int_equal(row.split, DATA_TRAIN);
        float side = row.source[2] - row.source[0];
        assert_true(side == row.source[3] - row.source[1] && side >= 100);
        bool clear = row.source[2] <= 150 - 20 || row.source[0] >= 250 + 20 ||
                     row.source[3] <= 150 - 20 || row.source[1] >= 250 + 20;
        assert_true(clear);
        for (int64_t j = 0; j < i; j++) {
            assert_ok(data_read_row(b, j, &other));
            bool apart = row.data_id != other.data_id || row.source[2] <= other.source[0] ||
                         row.source[0] >= other.source[2] || row.source[3] <= other.source[1] ||
                         row.source[1] >= other.source[3];
            assert_true(apart);
        }
    }
    data_close(b);
    assert_ok(import_with("folder", root, "data.crops=0 backgrounds.from=crops", &r));
    assert_int_equal(r.backgrounds, 0);
    assert_int_not_equal(access(helper_path("run/backgrounds.h5"), F_OK), 0);
}

/* The black corners of a round field of view are no background, however large they are. */
static void crops_avoid_dark_corners(void **state)
{
    (void)state;
    enum { SIDE = 400 };
    static const int lesion[4] = {190, 190, 210, 210};
    import_report r;
    char root[512];
    uint8_t *px = malloc(SIDE * SIDE * 3);
    assert_non_null(px);
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            int dy = y - SIDE / 2, dx = x - SIDE / 2;
            memset(px + (y * SIDE + x) * 3, dy * dy + dx * dx < 190 * 190 ? 180 + x % 7 : 6, 3);
        }
    (void)snprintf(root, sizeof root, "%s", helper_path("folder"));
    make_folder(0, false);
    fixture_png(helper_path("folder/images/round.png"), FIXTURE_RGB, SIDE, SIDE, px);
    fixture_mask(helper_path("folder/masks/round.png"), FIXTURE_GRAY8, SIDE, SIDE, lesion);
    free(px);
    assert_ok(import_with("folder", root, "backgrounds.from=crops", &r));
    assert_true(r.backgrounds >= 2);
    data_store *b = NULL;
    uint8_t *rgb = malloc(64 * 64 * 3);
    assert_non_null(rgb);
    assert_ok(data_open(helper_path("run/backgrounds.h5"), DATA_BACKGROUNDS, &b));
    for (int64_t i = 0; i < r.backgrounds; i++) {
        assert_ok(data_read_pixels(b, i, rgb, NULL));
        for (int k = 0; k < 64 * 64 * 3; k++)
            assert_true(rgb[k] > 150);
    }
    data_close(b);
    free(rgb);
}

/* Rows of backgrounds.h5: their sources, and that every map lies inside the picture's valid part.
 */
static int64_t read_backgrounds(int32_t *ids, int64_t most)
{
    data_store *b = NULL;
    uint8_t *map = malloc(64 * 64);
    assert_non_null(map);
    assert_ok(data_open(helper_path("run/backgrounds.h5"), DATA_BACKGROUNDS, &b));
    int64_t n = data_rows(b);
    assert_true(n <= most);
    for (int64_t i = 0; i < n; i++) {
        data_row row;
        bool whole = false;
        assert_ok(data_read_row(b, i, &row));
        assert_true(row.kind == DATA_HEALTHY && row.split == DATA_TRAIN);
        assert_ok(data_verify_row(b, i, &whole));
        assert_true(whole);
        assert_ok(data_read_pixels(b, i, NULL, map));
        int64_t area = 0;
        for (int k = 0; k < 64 * 64; k++) {
            area += map[k];
            assert_true(!map[k] || (k / 64 >= row.valid[0] && k / 64 < row.valid[2]));
        }
        assert_true(area > 64 * 64 / 4);
        ids[i] = row.data_id;
    }
    data_close(b);
    free(map);
    return n;
}

/* backgrounds.count draws by the seed, fewer are part of more; what cannot be is said with its key.
 */
static void backgrounds_are_counted(void **state)
{
    (void)state;
    import_report r;
    char root[512];
    int32_t all[16], few[16], other[16];
    (void)snprintf(root, sizeof root, "%s", helper_path("folder"));
    make_folder(20, true);
    assert_ok(import_with("folder", root, "backgrounds.from=real", &r));
    assert_int_equal(read_backgrounds(all, 16), 16);
    assert_ok(import_with("folder", root, "backgrounds.count=9", &r));
    assert_int_equal(read_backgrounds(all, 16), 9);
    assert_ok(import_with("folder", root, "backgrounds.count=5", &r));
    assert_int_equal(read_backgrounds(few, 16), 5);
    for (int i = 0, at = 0; i < 5; i++, at++) {
        while (at < 9 && all[at] != few[i])
            at++;
        assert_true(at < 9);
    }
    assert_ok(import_with("folder", root, "backgrounds.count=5 seed=12", &r));
    assert_int_equal(read_backgrounds(other, 16), 5);
    assert_memory_not_equal(few, other, 5 * sizeof *few);
    assert_fails(import_with("folder", root, "backgrounds.count=17", &r), MD_USAGE,
                 "backgrounds.count: 17, but");
    assert_ok(import_with("folder", root, "backgrounds.from=repaired", &r));
    assert_true(r.background == DATA_REPAIRED && r.backgrounds == 0);
    assert_int_not_equal(access(helper_path("run/backgrounds.h5"), F_OK), 0);
    make_folder(20, false);
    assert_ok(import_with("folder", root, NULL, &r));
    assert_true(r.background == DATA_REPAIRED);
    assert_fails(import_with("folder", root, "backgrounds.from=real", &r), MD_USAGE,
                 "backgrounds.from");
}

static void an_import_knows_when_it_is_done(void **state)
{
    (void)state;
    import_report r;
    bool done = true;
    char set[2][600];
    const char *sets[] = {set[0], "data.format=busi", "data.size=64", set[1]};
    config *cfg = NULL;
    make_busi();
    (void)snprintf(set[0], sizeof set[0], "data.root=%s", helper_path("busi"));
    (void)snprintf(set[1], sizeof set[1], "seed=3");
    assert_ok(config_load(NULL, sets, 4, &cfg));
    fixture_dir(helper_path("run"));
    assert_ok(import_is_done(cfg, helper_path("run"), &done));
    assert_false(done);
    assert_ok(import_run(cfg, helper_path("run"), &r));
    assert_ok(import_is_done(cfg, helper_path("run"), &done));
    assert_true(done);
    assert_ok(config_set(cfg, "data.fit=crop", "--set"));
    assert_fails(import_is_done(cfg, helper_path("run"), &done), MD_USAGE, "data.fit");
    config_free(cfg);
}

int main(void)
{
    (void)helper_begin();
    md_log_quiet(true);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(busi_is_understood),
        cmocka_unit_test(fits_differ),
        cmocka_unit_test(filters_are_obeyed),
        cmocka_unit_test(a_quarter_of_a_pixel_is_none),
        cmocka_unit_test(flipped_pixels_are_found),
        cmocka_unit_test(busi_faults_are_named),
        cmocka_unit_test(a_failed_import_leaves_the_old_one),
        cmocka_unit_test(links_stay_inside),
        cmocka_unit_test(isic_is_understood),
        cmocka_unit_test(duplicates_across_splits_stop),
        cmocka_unit_test(both_years_of_isic_join),
        cmocka_unit_test(ddti_is_understood),
        cmocka_unit_test(ph2_is_understood),
        cmocka_unit_test(damage_is_named),
        cmocka_unit_test(folders_are_understood),
        cmocka_unit_test(splits_follow_groups_and_seed),
        cmocka_unit_test(crops_avoid_lesions),
        cmocka_unit_test(crops_avoid_dark_corners),
        cmocka_unit_test(backgrounds_are_counted),
        cmocka_unit_test(an_import_knows_when_it_is_done),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    helper_end();
    return failed;
}
