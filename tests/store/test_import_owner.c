/* Imports of people's own pictures: what is easily wrong with them, and whether the message says
   what was found and what to do. */
#include "helper.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "fixture.h"
#include "image/image.h"
#include "store/data.h"
#include "store/import.h"

enum { H = 60, W = 80 };
static const int box[4] = {20, 24, 40, 56};
static char said[32768]; /* the log of the last import */

static void read_text(const char *name, char *out, size_t bytes)
{
    FILE *f = fopen(helper_path("%s", name), "r");
    assert_non_null(f);
    out[fread(out, 1, bytes - 1, f)] = 0;
    assert_int_equal(fclose(f), 0);
}

static md_status import_as(const char *format, const char *more, import_report *r)
{
    char format_set[64], root_set[600];
    const char *sets[] = {format_set, root_set, "data.size=64", "seed=1", more};
    config *cfg = NULL;
    (void)snprintf(format_set, sizeof format_set, "data.format=%s", format);
    (void)snprintf(root_set, sizeof root_set, "data.root=%s", helper_path("set"));
    assert_ok(config_load(NULL, sets, more ? 5 : 4, &cfg));
    fixture_dir(helper_path("run"));
    (void)remove(helper_path("log"));
    assert_ok(md_log_open(0, 1, helper_path("log")));
    md_status status = import_run(cfg, helper_path("run"), r);
    assert_ok(md_log_open(0, 1, NULL));
    read_text("log", said, sizeof said);
    config_free(cfg);
    return status;
}

static void assert_said(const char *text)
{
    if (!helper_has(said, text))
        fail_msg("the log lacks \"%s\": %s", text, said);
}

static void assert_skipped(const char *line)
{
    char text[4096];
    read_text("run/import_skipped.csv", text, sizeof text);
    if (!helper_has(text, line))
        fail_msg("import_skipped.csv lacks \"%s\": %s", line, text);
}

static void forget(void)
{
    char out[64];
    (void)helper_run(out, sizeof out, "rm -rf '%s' '%s'", helper_path("set"), helper_path("run"));
}

/* images/p0.png... with masks, below `part` ("" or "train/"). */
static void make_pairs(const char *part, int first, int n)
{
    fixture_dir(helper_path("set/%simages", part));
    fixture_dir(helper_path("set/%smasks", part));
    for (int i = first; i < first + n; i++) {
        fixture_image(helper_path("set/%simages/p%d.png", part, i), 200 + i, H, W);
        fixture_mask(helper_path("set/%smasks/p%d.png", part, i), FIXTURE_GRAY8, H, W, box);
    }
}

static void start(int n)
{
    forget();
    make_pairs("", 0, n);
}

/* The picture of id `id`, mirrored: bit 0 left-right, bit 1 top-bottom. */
static void mirrored_image(const char *path, int id, int view)
{
    image im;
    fixture_image(path, id, H, W);
    assert_ok(image_read(path, &im));
    uint8_t px[H * W * 3];
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            memcpy(px + (y * W + x) * 3,
                   im.px +
                       ((view & 2 ? H - 1 - y : y) * W + (view & 1 ? W - 1 - x : x)) * (size_t)3,
                   3);
    fixture_png(path, FIXTURE_RGB, H, W, px);
    image_free(&im);
}

/* A lesion picture among the lesion-free ones would give pairs with a lesion that no mask marks. */
static void twins_of_other_kinds(void **state)
{
    (void)state;
    import_report r;
    start(10);
    fixture_dir(helper_path("set/backgrounds"));
    for (int i = 0; i < 4; i++)
        fixture_image(helper_path("set/backgrounds/b%d.png", i), 400 + i, H, W);
    fixture_copy(helper_path("set/images/p3.png"), helper_path("set/backgrounds/b8.png"));
    fixture_image(helper_path("set/backgrounds/b9.png"), 205, H * 2, W * 2); /* p5, larger */
    mirrored_image(helper_path("set/backgrounds/c.png"), 207, 1);            /* p7 */
    assert_ok(import_as("folder", NULL, &r));
    assert_int_equal(r.healthy[0] + r.healthy[1] + r.healthy[2], 4);
    assert_int_equal(r.lesion[0] + r.lesion[1] + r.lesion[2], 10);
    assert_true(r.skipped == 3 && r.joined == 0);
    assert_said(
        "WARN import: left out 3 of the lesion-free pictures, nearly the same as ones with");
    assert_said("set/backgrounds/b8.png is images/p3.png");
    assert_skipped("backgrounds/b8.png,a lesion-free picture that is nearly one with a lesion "
                   "(images/p3.png)\n");
    assert_skipped("backgrounds/b9.png,a lesion-free picture that is nearly one with a lesion "
                   "(images/p5.png)\n");
    assert_skipped("backgrounds/c.png,a lesion-free picture that is nearly one with a lesion "
                   "(images/p7.png)\n");
    data_store *d = NULL;
    assert_ok(data_open(helper_path("run/data.h5"), DATA_IMAGES, &d));
    assert_int_equal(data_rows(d), 14);
    for (int64_t i = 0; i < 14; i++) {
        data_row row;
        bool whole = false;
        assert_ok(data_read_row(d, i, &row));
        assert_ok(data_verify_row(d, i, &whole));
        assert_true(whole && !helper_has(row.name, "b8") && !helper_has(row.name, "b9"));
    }
    data_close(d);

    /* With parts of its own, a set does not stop for such a twin: it is not there any more. */
    forget();
    make_pairs("train/", 0, 4);
    make_pairs("test/", 4, 2);
    fixture_dir(helper_path("set/train/backgrounds"));
    fixture_image(helper_path("set/train/backgrounds/b.png"), 300, H, W);
    fixture_copy(helper_path("set/test/images/p4.png"),
                 helper_path("set/train/backgrounds/twin.png"));
    assert_ok(import_as("folder", NULL, &r));
    assert_true(r.official && r.healthy[DATA_TRAIN] == 1 && r.backgrounds == 1);
    assert_skipped("train/backgrounds/twin.png,");
}

/* A mirrored copy is a copy: in another part it is refused, elsewhere it is of one group. */
static void mirrors_are_twins(void **state)
{
    (void)state;
    import_report r;
    for (int view = 1; view < 4; view++) {
        start(6);
        mirrored_image(helper_path("set/images/q.png"), 202, view);
        fixture_mask(helper_path("set/masks/q.png"), FIXTURE_GRAY8, H, W, box);
        assert_ok(import_as("folder", NULL, &r));
        assert_true(r.joined == 1 && r.groups == 6);
        forget();
        make_pairs("train/", 0, 4);
        make_pairs("test/", 4, 1);
        mirrored_image(helper_path("set/test/images/p4.png"), 202, view);
        assert_fails(import_as("folder", NULL, &r), MD_BAD_INPUT,
                     "are nearly the same picture, mirrored, but stand in different splits");
        assert_ok(import_as("folder", "data.near_duplicates=warn", &r));
        assert_ok(import_as("folder", "data.near_duplicates=join", &r));
        assert_true(r.moved == 1 && r.lesion[DATA_TEST] == 2);
    }
}

static void store_licences(const char *want)
{
    char *text = NULL;
    data_store *d = NULL;
    assert_ok(data_open(helper_path("run/data.h5"), DATA_IMAGES, &d));
    assert_ok(data_text(d, "licences", &text));
    assert_string_equal(text, want);
    free(text);
    data_close(d);
}

static void isic_pair(const char *images, const char *masks, int id)
{
    fixture_dir(helper_path("set/%s", images));
    fixture_dir(helper_path("set/%s", masks));
    fixture_image(helper_path("set/%s/ISIC_%07d.png", images, id), id, H, W);
    fixture_mask(helper_path("set/%s/ISIC_%07d_segmentation.png", masks, id), FIXTURE_GRAY8, H, W,
                 box);
}

/* The store names the licences of its rows, and no other. */
static void licences_are_those_of_the_rows(void **state)
{
    (void)state;
    import_report r;
    start(3);
    assert_ok(import_as("folder", NULL, &r));
    store_licences("not stated");
    fixture_text(helper_path("set/LICENSE"), "CC BY-NC 4.0\n");
    assert_ok(import_as("folder", NULL, &r));
    store_licences("CC BY-NC 4.0");
    forget();
    for (int id = 11; id < 14; id++)
        isic_pair("ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth", id);
    assert_ok(import_as("isic", NULL, &r));
    store_licences("CC BY-NC 4.0 (ISIC 2018, HAM10000)");
    isic_pair("ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth", 20);
    assert_ok(import_as("isic", NULL, &r));
    store_licences("CC0 1.0 (ISIC 2017); CC BY-NC 4.0 (ISIC 2018, HAM10000)");
}

/* A mask whose left half has the one value and whose right half the other, on `ground`. */
static void halves(int left, int right, int ground)
{
    uint8_t px[H * W];
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            bool in = y >= box[0] && y < box[2] && x >= box[1] && x < box[3];
            px[y * W + x] = (uint8_t)(!in ? ground : x < 40 ? left : right);
        }
    fixture_png(helper_path("set/masks/p1.png"), FIXTURE_GRAY8, H, W, px);
}

static void masks_of_several_levels(void **state)
{
    (void)state;
    static const struct {
        int left, right, ground;
        const char *text; /* NULL: fine */
    } rows[] = {{100, 200, 0, "has the values 0, 100, 200, and 320 pixels are 100"},
                {1, 255, 0, "has the values 0, 1, 255, and 320 pixels are 1"},
                {1, 2, 0, "has the values 0, 1, 2, and 320 pixels are 1"},
                {2, 2, 0, "has the values 0, 2, and 640 pixels are 2"},
                {100, 100, 0, "Save it with two values, 255 where the lesion is and 0 elsewhere"},
                {128, 255, 0, "has the values 0, 128, 255"},
                {255, 255, 1, NULL},
                {254, 255, 0, NULL},
                {200, 200, 0, NULL},
                {1, 1, 0, NULL}};
    import_report r;
    start(3);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        halves(rows[i].left, rows[i].right, rows[i].ground);
        if (rows[i].text) {
            assert_fails(import_as("folder", NULL, &r), MD_BAD_INPUT, rows[i].text);
            assert_true(helper_has(md_status_text(), "masks/p1.png: this mask"));
        } else
            assert_ok(import_as("folder", NULL, &r));
    }
    /* A thin line of a low value is an edge, to the program; the rest must be black or white. */
    static const int none[4] = {0, 0, 0, 0};
    fixture_mask(helper_path("set/masks/p1.png"), FIXTURE_GRAY8, H, W, none);
    assert_fails(import_as("folder", NULL, &r), MD_BAD_INPUT,
                 "largest value is 0, and from 128 on a pixel is lesion");
    assert_true(helper_has(md_status_text(), "move it without its mask to backgrounds"));
    fixture_copy(helper_path("set/images/p2.png"), helper_path("set/masks/p1.png"));
    assert_fails(import_as("folder", NULL, &r), MD_BAD_INPUT, "this is no mask but a picture");
}

static void few_pairs_are_said(void **state)
{
    (void)state;
    import_report r;
    start(30);
    assert_ok(import_as("folder", NULL, &r));
    assert_int_equal(r.used, 24);
    assert_said("WARN import: 24 training pairs are used, fewer than data.pairs = 30: ");
    assert_said("/set holds 30, of which 3 went to validation and 3 to test");
    assert_said("train/images and train/masks");
    assert_ok(import_as("folder", "data.pairs=24", &r));
    assert_false(helper_has(said, "WARN"));
    assert_ok(import_as("folder", "data.pairs=0", &r));
    assert_false(helper_has(said, "WARN"));
    forget();
    make_pairs("train/", 0, 5);
    make_pairs("val/", 5, 2);
    assert_ok(import_as("folder", NULL, &r));
    assert_said("5 training pairs are used, fewer than data.pairs = 30: the data set's own "
                "training part holds no more (val 2, test 0)");
}

static void inverted_masks_are_said(void **state)
{
    (void)state;
    import_report r;
    uint8_t px[H * W];
    start(4);
    for (int i = 0; i < H * W; i++)
        px[i] = i / W >= box[0] && i / W < box[2] && i % W >= box[1] && i % W < box[3] ? 0 : 255;
    for (int i = 0; i < 3; i++) {
        assert_ok(import_as("folder", "data.pairs=0", &r));
        assert_false(helper_has(said, "inverted"));
        fixture_png(helper_path("set/masks/p%d.png", i), FIXTURE_GRAY8, H, W, px);
    }
    assert_ok(import_as("folder", "data.pairs=0", &r));
    assert_said("WARN import: 3 of 4 masks mark most of the picture's border");
    assert_said("are they inverted?");
}

/* orient<n>.jpg of the image tests are one picture, 7 x 5 when shown. */
static void orientation_of_one_only(void **state)
{
    (void)state;
    static const int inside[4] = {1, 1, 4, 4};
    import_report r;
    start(3);
    (void)remove(helper_path("set/images/p1.png"));
    image shown;
    assert_ok(image_read("tests/image/data/orient6.jpg", &shown));
    int h = (int)shown.h, w = (int)shown.w;
    image_free(&shown);
    assert_true(h != w);
    fixture_copy("tests/image/data/orient6.jpg", helper_path("set/images/p1.jpg"));
    fixture_mask(helper_path("set/masks/p1.png"), FIXTURE_GRAY8, w, h, inside);
    assert_fails(import_as("folder", NULL, &r), MD_BAD_INPUT, "as its EXIF orientation 6 shows it");
    assert_true(helper_has(md_status_text(), "turn the mask likewise"));
    fixture_mask(helper_path("set/masks/p1.png"), FIXTURE_GRAY8, h, w, inside);
    assert_ok(import_as("folder", NULL, &r)); /* it can only have been drawn on what is shown */
    assert_false(helper_has(said, "orientation"));
    fixture_copy("tests/image/data/orient3.jpg", helper_path("set/images/p1.jpg"));
    assert_ok(image_read("tests/image/data/orient3.jpg", &shown));
    fixture_mask(helper_path("set/masks/p1.png"), FIXTURE_GRAY8, (int)shown.h, (int)shown.w,
                 inside);
    image_free(&shown);
    assert_ok(import_as("folder", NULL, &r));
    assert_said("WARN import: EXIF orientation turns 1 of 3 images otherwise than their masks");
    assert_said("images/p1.jpg (image 3, mask 1; 1: as stored)");
}

static void others_are_named(void **state)
{
    (void)state;
    import_report r;
    char from[512];
    start(3);
    for (int i = 0; i < 3; i++) {
        (void)snprintf(from, sizeof from, "%s", helper_path("set/images/p%d.png", i));
        assert_int_equal(rename(from, helper_path("set/images/p%d.DCM", i)), 0);
    }
    fixture_text(helper_path("set/images/DICOMDIR"), "x");
    assert_fails(import_as("folder", NULL, &r), MD_BAD_INPUT,
                 "set/images holds no PNG, JPEG or BMP, but 4 files of other kinds (no suffix, "
                 ".dcm), as DICOMDIR: convert them to 8-bit PNG");
    assert_true(helper_has(md_status_text(), "dcmj2pnm"));
    start(3);
    fixture_text(helper_path("set/images/extra.tif"), "x");
    fixture_text(helper_path("set/images/extra2.tiff"), "x");
    fixture_text(helper_path("set/images/notes.txt"), "x");
    assert_ok(import_as("folder", NULL, &r));
    assert_said("set/images: passed over what is not PNG, JPEG or BMP: 2 (.tif, .tiff), as "
                "extra.tif; convert to 8-bit PNG, for example");
    assert_skipped("images/extra.tif,a picture of a kind that is not read (.tif)\n"
                   "images/extra2.tiff,a picture of a kind that is not read (.tiff)\n"
                   "images/notes.txt,no picture\n");
    (void)snprintf(from, sizeof from, "%s", helper_path("set/masks/p1.png"));
    assert_int_equal(rename(from, helper_path("set/masks/p1.tif")), 0);
    assert_fails(import_as("folder", NULL, &r), MD_BAD_INPUT,
                 "images/p1.png has no mask of the same name in masks (1 of 3 images have none); "
                 "wanted masks/p1.png; found p1.tif there: convert it to PNG");
    (void)remove(helper_path("set/masks/p1.tif"));
    assert_fails(import_as("folder", NULL, &r), MD_BAD_INPUT,
                 "draw it, or move the picture to backgrounds if it shows no lesion");
    start(3);
    (void)remove(helper_path("set/images/p1.png"));
    fixture_text(helper_path("set/images/p1.webp"), "x");
    assert_fails(import_as("folder", NULL, &r), MD_BAD_INPUT,
                 "p1.png is a mask without an image of the same name in images; found p1.webp "
                 "there: convert it to PNG");
}

static void names_and_folders_are_guessed(void **state)
{
    (void)state;
    import_report r;
    char from[512];
    start(12);
    for (int i = 0; i < 12; i++) {
        (void)snprintf(from, sizeof from, "%s", helper_path("set/masks/p%d.png", i));
        assert_int_equal(rename(from, helper_path("set/masks/p%d_mask.png", i)), 0);
    }
    assert_fails(import_as("folder", NULL, &r), MD_BAD_INPUT,
                 "p0.png has no mask of the same name in masks (12 of 12 images have none); wanted "
                 "masks/p0.png; found p0_mask.png there: rename it");
    start(3);
    (void)snprintf(from, sizeof from, "%s", helper_path("set/masks"));
    assert_int_equal(rename(from, helper_path("set/labels")), 0);
    assert_fails(import_as("folder", NULL, &r), MD_BAD_INPUT,
                 "set/images is there, but masks is not (found: images, labels): every lesion "
                 "image wants a mask");
    (void)snprintf(from, sizeof from, "%s", helper_path("set/labels"));
    assert_int_equal(rename(from, helper_path("set/masks")), 0);
    (void)snprintf(from, sizeof from, "%s", helper_path("set/images"));
    assert_int_equal(rename(from, helper_path("set/pics")), 0);
    assert_fails(import_as("folder", NULL, &r), MD_BAD_INPUT,
                 "set/masks is there, but images is not (found: masks, pics)");
    (void)snprintf(from, sizeof from, "%s", helper_path("set/masks"));
    assert_int_equal(rename(from, helper_path("set/labels")), 0);
    assert_fails(import_as("folder", NULL, &r), MD_BAD_INPUT, "but: labels, pics. Name the folder");
    start(2);
    fixture_mask(helper_path("set/masks/p1.png"), FIXTURE_GRAY8, W, H, box);
    assert_fails(import_as("folder", NULL, &r), MD_BAD_INPUT,
                 "masks/p1.png is 60x80: save the mask again at the picture's size");
    fixture_copy(helper_path("set/images/p0.png"), helper_path("set/images/p1.png"));
    assert_int_equal(truncate(helper_path("set/images/p1.png"), 900), 0);
    assert_fails(import_as("folder", NULL, &r), MD_BAD_INPUT,
                 "the file ends too early (truncated); copy or save it again");
}

int main(void)
{
    (void)helper_begin();
    md_log_quiet(true);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(twins_of_other_kinds),
        cmocka_unit_test(mirrors_are_twins),
        cmocka_unit_test(licences_are_those_of_the_rows),
        cmocka_unit_test(masks_of_several_levels),
        cmocka_unit_test(few_pairs_are_said),
        cmocka_unit_test(inverted_masks_are_said),
        cmocka_unit_test(orientation_of_one_only),
        cmocka_unit_test(others_are_named),
        cmocka_unit_test(names_and_folders_are_guessed),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    helper_end();
    return failed;
}
