/* guide.png: its cells are what the guide becomes, for each part that is on or off. */
#include "support/expect.h"
#include "support/tmp_dir.h"

#include "base/file.h"
#include "generate/guide_sheet.h"
#include "store/pairs.h"

enum { SIZE = 32, EDGE = 8, CELL = 128, MARGIN = 2, COLS = 10, POOLED = 1 };

static foundation *model;

static int open_model(void **state)
{
    (void)state;
    return foundation_open("tests/golden/sd", &model) != MD_OK;
}

static int close_model(void **state)
{
    (void)state;
    foundation_free(model, NULL);
    return 0;
}

/* Three slots, of which the second is accepted; its guide is a square: latent pixels 2 to 5 of 8.
 */
static void make_store(const char *path)
{
    static uint8_t rgb[SIZE * SIZE * 3], mask[SIZE * SIZE];
    pairs_spec spec = {.rows = 3, .height = SIZE, .width = SIZE};
    pairs_store *p;
    pairs_row row = pairs_row_empty();
    OK(pairs_create(path, &spec));
    OK(pairs_open_writer(path, &p));
    for (int i = 0; i < SIZE * SIZE; i++)
        mask[i] = i / SIZE >= 8 && i / SIZE < 24 && i % SIZE >= 8 && i % SIZE < 24;
    OK(pairs_write_pixels(p, 1, rgb, mask, mask, &row.crc));
    row.state = PAIRS_ACCEPTED;
    OK(pairs_write_row(p, 1, &row));
    pairs_close(p);
}

/* Eleven steps: t = 901, 811, ..., 1; the sheet shows M at 811, 631, 451, 271, 91 and 0. */
static image sheet_of(int grow, double feather, blend_motion motion)
{
    char dir[256], store[300], png[300];
    image im;
    painter_options o = {.size = SIZE,
                         .batch = 1,
                         .sampler = sampler_find("ddim"),
                         .steps = 11,
                         .blend = blend_find("paper"),
                         .grow = grow,
                         .feather = feather,
                         .motion = motion};
    assert_non_null(tmp_dir_make(dir));
    (void)snprintf(store, sizeof store, "%s/pairs.h5", dir);
    (void)snprintf(png, sizeof png, "%s/guide.png", dir);
    make_store(store);
    OK(guide_sheet(store, model, o, 3, png));
    OK(image_read(png, &im));
    assert_int_equal(im.w, MARGIN + COLS * (CELL + MARGIN));
    tmp_dir_remove(dir);
    return im;
}

/* The gray of a cell in the middle of its latent pixel (y,x), away from the outline. */
static int gray(const image *sheet, int col, int y, int x)
{
    int64_t at_y = MARGIN + (2 * y + 1) * CELL / (2 * EDGE);
    int64_t at_x = MARGIN + col * (CELL + MARGIN) + (2 * x + 1) * CELL / (2 * EDGE);
    const uint8_t *px = sheet->px + (at_y * sheet->w + at_x) * 3;
    assert_true(px[0] == px[1] && px[1] == px[2]);
    return px[0];
}

/* want: gray of an outer neighbour, an edge pixel and a core pixel of the square, in each column
   from POOLED on. */
static void expect(image sheet, const int (*want)[3])
{
    for (int col = POOLED; col < COLS; col++) {
        assert_int_equal(gray(&sheet, col, 1, 3), want[col - POOLED][0]);
        assert_int_equal(gray(&sheet, col, 2, 3), want[col - POOLED][1]);
        assert_int_equal(gray(&sheet, col, 3, 3), want[col - POOLED][2]);
        assert_int_equal(gray(&sheet, col, 0, 3), 0);
        assert_int_equal(gray(&sheet, col, 1, 1), 0); /* farther than 1 from the corner */
    }
    image_free(&sheet);
}

static void parts_on_and_off(void **state)
{
    (void)state;
#define PLAIN {0, 255, 255}
#define LARGER                                                                                     \
    {                                                                                              \
        255, 255, 255                                                                              \
    }
#define FEATHERED                                                                                  \
    {                                                                                              \
        0, 128, 255                                                                                \
    } /* half a pixel inside, of one */
    expect(sheet_of(0, 0, BLEND_STATIC),
           (const int[9][3]){PLAIN, PLAIN, PLAIN, PLAIN, PLAIN, PLAIN, PLAIN, PLAIN, PLAIN});
    expect(sheet_of(1, 0, BLEND_STATIC), (const int[9][3]){PLAIN, LARGER, LARGER, LARGER, LARGER,
                                                           LARGER, LARGER, LARGER, LARGER});
    expect(sheet_of(0, 1, BLEND_STATIC),
           (const int[9][3]){PLAIN, PLAIN, FEATHERED, FEATHERED, FEATHERED, FEATHERED, FEATHERED,
                             FEATHERED, FEATHERED});
    expect(sheet_of(0, 1, BLEND_CORE_FIRST),
           (const int[9][3]){
               PLAIN, PLAIN, FEATHERED, {0, 0, 255}, {0, 0, 255}, PLAIN, PLAIN, PLAIN, PLAIN});
    expect(sheet_of(0, 1, BLEND_EDGE_FIRST), (const int[9][3]){PLAIN,
                                                               PLAIN,
                                                               FEATHERED,
                                                               {0, 0, 0},
                                                               {0, 0, 0},
                                                               {0, 255, 0},
                                                               {0, 255, 0},
                                                               {0, 255, 0},
                                                               PLAIN});
}

/* Nothing accepted: no file, and no failure. */
static void nothing_to_show(void **state)
{
    char dir[256], store[300], png[300];
    pairs_spec spec = {.rows = 2, .height = SIZE, .width = SIZE};
    painter_options o = {.size = SIZE,
                         .batch = 1,
                         .steps = 5,
                         .sampler = sampler_find("ddim"),
                         .blend = blend_find("paper")};
    (void)state;
    assert_non_null(tmp_dir_make(dir));
    (void)snprintf(store, sizeof store, "%s/pairs.h5", dir);
    (void)snprintf(png, sizeof png, "%s/guide.png", dir);
    OK(pairs_create(store, &spec));
    OK(guide_sheet(store, model, o, 3, png));
    assert_false(md_file_exists(png));
    tmp_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(parts_on_and_off),
                                       cmocka_unit_test(nothing_to_show)};
    return cmocka_run_group_tests(tests, open_model, close_model);
}
