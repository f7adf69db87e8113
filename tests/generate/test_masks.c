/* What is learned from training masks and what it lets pass; Kolmogorov and Smirnov's distance; a
   sampled mask depends on nothing but its place. */
#include "backend/cpu/cpu.h"
#include "generate/mask_report.h"
#include "support/expect.h"
#include "support/tmp_dir.h"

#include <math.h>

enum { S = 64, PX = S * S, ROWS = 7, TRAIN = 4 };

static char folder[256], data_path[300];

static void disc(uint8_t *mask, double cy, double cx, double a, double b)
{
    for (int i = 0; i < PX; i++) {
        double y = (i / S + 0.5 - cy) / a, x = (i % S + 0.5 - cx) / b;
        mask[i] |= y * y + x * x <= 1;
    }
}

/* Ellipses of axes 8 by 8, 8 by 12, 8 by 16, and a pair of discs of which one touches the border.
   Then what must not count: a mask of nearly everything in each other split, and one that
   data.pairs left out. */
static void draw_row(int i, uint8_t *mask)
{
    memset(mask, 0, PX);
    if (i < 3)
        disc(mask, 30, 30, 8, 8 + 4 * i);
    else if (i < TRAIN) {
        disc(mask, 5, 20, 6, 6);
        disc(mask, 40, 40, 6, 6);
    } else
        disc(mask, 32, 32, 30, 30);
}

static int make_data(void **state)
{
    (void)state;
    static uint8_t rgb[3 * PX], mask[PX];
    static const data_split splits[ROWS] = {[4] = DATA_VAL, [5] = DATA_TEST};
    data_store *d;
    if (!tmp_dir_make(folder))
        return 1;
    (void)snprintf(data_path, sizeof data_path, "%s/data.h5", folder);
    OK(data_create(data_path, DATA_IMAGES, ROWS, S, &(data_info){0}, &d));
    for (int i = 0; i < ROWS; i++) {
        data_row row = {.kind = DATA_LESION,
                        .split = splits[i],
                        .used = i < TRAIN,
                        .data_id = i,
                        .size = {S, S},
                        .valid = {0, 0, S, S},
                        .source = {0, 0, S, S}};
        draw_row(i, mask);
        OK(data_write_pixels(d, i, rgb, mask));
        OK(data_write_row(d, i, &row));
    }
    OK(data_finish(d));
    return 0;
}

static int remove_data(void **state)
{
    (void)state;
    tmp_dir_remove(folder);
    return 0;
}

static void kolmogorov(void **state)
{
    (void)state;
    static const struct {
        int n, m;
        double a[4], b[4], want;
    } rows[] = {
        {4, 4, {4, 2, 3, 1}, {1, 2, 3, 4}, 0}, {2, 2, {1, 2}, {3, 4}, 1},
        {2, 2, {3, 1}, {2, 4}, 0.5},           {3, 3, {1, 1, 2}, {1, 2, 2}, 1.0 / 3},
        {4, 2, {1, 2, 3, 4}, {2.5, 2.5}, 0.5}, {1, 4, {9}, {1, 2, 3, 9}, 0.75},
        {3, 2, {0, 0, 0}, {0, 1}, 0.5},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double a[4], b[4], c[4], d[4];
        memcpy(a, rows[i].a, sizeof a);
        memcpy(b, rows[i].b, sizeof b);
        memcpy(c, rows[i].a, sizeof c);
        memcpy(d, rows[i].b, sizeof d);
        double got = mask_ks(a, rows[i].n, b, rows[i].m),
               back = mask_ks(d, rows[i].m, c, rows[i].n);
        if (fabs(got - rows[i].want) > 1e-12 || fabs(back - got) > 1e-12)
            fail_msg("row %d: %.6f and %.6f, wanted %.6f", (int)i, got, back, rows[i].want);
    }
}

static double share_of(int row)
{
    static uint8_t mask[PX];
    int n = 0;
    draw_row(row, mask);
    for (int i = 0; i < PX; i++)
        n += mask[i];
    return (double)n / PX;
}

static void limits(void **state)
{
    (void)state;
    mask_judge j;
    OK(mask_judge_open(data_path, 0, &j));
    assert_int_equal(j.real.n, TRAIN);
    /* of so few masks the extremes say little */
    assert_true(j.limits.area[0] == 0.49 * share_of(0));
    assert_true(j.limits.area[1] == 1.69 * share_of(2));
    assert_int_equal(j.limits.components, 2);
    assert_int_equal(j.limits.holes, 0);
    assert_true(j.limits.border > 0 && j.limits.border < 12);
    /* the most alike are the ellipses of 8 by 12 and 8 by 16 */
    double most = fmax(j.nearest[1], j.nearest[2]);
    assert_true(j.nearest[0] < most && j.nearest[3] < j.nearest[0]);
    assert_true(j.limits.copy == fmax(most, 0.9));
    mask_judge_close(&j);
    OK(mask_judge_open(data_path, 0.5, &j));
    assert_true(j.limits.copy == 0.5);
    mask_judge_close(&j);
}

/* n masks alone in a file: the first n of the ellipses and of a series that grows from them. */
static void few_masks(int n, mask_judge *j, md_status want)
{
    static uint8_t rgb[3 * PX], mask[PX];
    char path[300];
    data_store *d;
    (void)snprintf(path, sizeof path, "%s/few.h5", folder);
    OK(data_create(path, DATA_IMAGES, n, S, &(data_info){0}, &d));
    for (int i = 0; i < n; i++) {
        data_row row = {.kind = DATA_LESION, .used = true, .data_id = i, .valid = {0, 0, S, S}};
        memset(mask, 0, PX);
        disc(mask, 30, 30, 8, 8 + 2 * i);
        OK(data_write_pixels(d, i, rgb, mask));
        OK(data_write_row(d, i, &row));
    }
    OK(data_finish(d));
    if (want == MD_OK)
        OK(mask_judge_open(path, 0, j));
    else
        FAILS(mask_judge_open(path, 0, j), want, "guide.from = \"data\"");
}

/* One mask teaches nothing; of two to five the limits leave room for others; from six on they are
   the masks' own. */
static void few(void **state)
{
    (void)state;
    mask_judge j;
    few_masks(1, &j, MD_BAD_INPUT);
    for (int n = 2; n <= 6; n++) {
        few_masks(n, &j, MD_OK);
        double least = INFINITY, most = 0, copy = 0;
        for (int i = 0; i < n; i++) {
            least = fmin(least, j.shape[i].value[IMAGE_SHAPE_AREA]);
            most = fmax(most, j.shape[i].value[IMAGE_SHAPE_AREA]);
            copy = fmax(copy, j.nearest[i]);
        }
        assert_true(j.limits.area[0] == (n > 5 ? 1 : 0.49) * least);
        assert_true(j.limits.area[1] == (n > 5 ? 1 : 1.69) * most);
        assert_true(j.limits.copy == (n > 5 ? copy : fmax(copy, 0.9)));
        mask_judge_close(&j);
    }
}

static mask_fault fault_of(const mask_judge *j, uint8_t *mask, int32_t *nearest)
{
    mask_seen seen;
    image im = {S, S, 1, mask};
    OK(mask_judge_see(j, &im, &seen));
    *nearest = seen.nearest_id;
    return seen.fault;
}

static void faults(void **state)
{
    (void)state;
    static uint8_t m[PX];
    int32_t id;
    mask_judge j;
    OK(mask_judge_open(data_path, 0, &j));
    assert_int_equal(fault_of(&j, m, &id), MASK_EMPTY);
    assert_int_equal(id, -1);
    disc(m, 30, 30, 5, 5);
    assert_int_equal(fault_of(&j, m, &id), MASK_SMALL);
    disc(m, 30, 30, 20, 20);
    assert_int_equal(fault_of(&j, m, &id), MASK_LARGE);
    /* an ellipse of 8 by 12, turned, smaller and elsewhere, is a copy of row 1 */
    memset(m, 0, PX);
    disc(m, 40, 22, 10.8, 7.2);
    assert_int_equal(fault_of(&j, m, &id), MASK_COPY);
    assert_int_equal(id, 1);
    /* three discs in a row are none, but have one part too many */
    memset(m, 0, PX);
    for (int i = 0; i < 3; i++)
        disc(m, 20 + 12 * i, 20, 5, 5);
    assert_int_equal(fault_of(&j, m, &id), MASK_COMPONENTS);
    /* a ring */
    memset(m, 0, PX);
    disc(m, 30, 30, 10, 10);
    m[30 * S + 30] = 0;
    assert_int_equal(fault_of(&j, m, &id), MASK_HOLES);
    /* half of it beyond the border */
    memset(m, 0, PX);
    disc(m, 30, 0, 12, 12);
    assert_int_equal(fault_of(&j, m, &id), MASK_BORDER);
    /* an L of the right size */
    memset(m, 0, PX);
    for (int i = 0; i < PX; i++)
        m[i] =
            i / S >= 20 && i / S < 44 && i % S >= 20 && (i % S < 26 || i / S >= 38) && i % S < 40;
    assert_int_equal(fault_of(&j, m, &id), MASK_FINE);
    mask_judge_close(&j);
}

/* ---- sampling */

enum { EDGE = 8, BATCH = 3 };

static void picture_of(mask_sampler *s, const mask_place *places, int n, int which, float *out)
{
    float all[BATCH * EDGE * EDGE];
    bool finite[BATCH];
    OK(mask_sampler_draw(s, places, n, NULL, NULL, all, finite));
    assert_true(finite[which]);
    memcpy(out, all + which * EDGE * EDGE, EDGE * EDGE * sizeof *out);
}

static bool same(const float *a, const float *b)
{
    return memcmp(a, b, EDGE * EDGE * sizeof *a) == 0;
}

/* What random weights draw is more ragged than any mask, whatever they are told: that is made up
   for, within the limits. */
static void told_to_be_smoother(const image_sketch_spread *told, const image_sketch_spread *real)
{
    const int solidity = IMAGE_SKETCH_SOLIDITY, rim = IMAGE_SKETCH_RIM, ratio = IMAGE_SKETCH_RATIO;
    assert_true(told->mean[solidity] < real->mean[solidity]);
    assert_true(told->mean[solidity] >= real->mean[solidity] - real->deviation[solidity]);
    assert_true(told->mean[rim] == real->mean[rim] + real->deviation[rim]);
    assert_true(told->mean[ratio] == real->mean[ratio]);
    assert_true(told->deviation[solidity] == real->deviation[solidity] / 2);
    assert_true(told->deviation[rim] == real->deviation[rim] / 2);
    assert_true(told->deviation[ratio] == real->deviation[ratio]);
}

static void sample_places(const char *json, int in_channels, const mask_hints *hints)
{
    md_backend *be;
    model_config net;
    mask_model m = {.schedule = {.train_steps = 1000,
                                 .beta_start = 1e-4,
                                 .beta_end = 0.02,
                                 .betas = SCHEDULE_LINEAR,
                                 .prediction = SCHEDULE_EPSILON,
                                 .spacing = SCHEDULE_TRAILING,
                                 .set_alpha_to_one = true,
                                 .clip = 1}};
    OK(cpu_backend_open(&be, 1));
    OK(model_registry(MODEL_MASK_UNET)->read(json, &net));
    net.unet.in_channels = in_channels;
    OK(standalone_new(MODEL_MASK_UNET, &net, &m.net));
    OK(standalone_randomize(m.net, be, 5));
    for (int eta = 0; eta < 2; eta++) {
        mask_sampler_options o = {
            .batch = BATCH, .steps = 4, .eta = eta, .hints = hints, .seed = 3};
        mask_sampler *s;
        float a[EDGE * EDGE], b[EDGE * EDGE];
        OK(mask_sampler_new(&m, be, &o, &s));
        OK(mask_sampler_load(s));
        assert_int_equal(mask_sampler_edge(s), EDGE);
        assert_true(mask_sampler_bytes(s) == be->allocated_bytes);
        const mask_place alone[] = {{7, 2}}, among[] = {{1, 0}, {2, 0}, {7, 2}};
        OK(mask_sampler_calibrate(s, NULL, NULL));
        if (in_channels > 1)
            told_to_be_smoother(mask_sampler_spread(s), &hints->spread);
        picture_of(s, alone, 1, 0, a);
        picture_of(s, among, 3, 2, b);
        assert_true(same(a, b));
        const mask_place others[] = {{7, 3}, {6, 2}};
        picture_of(s, others, 2, 0, b);
        assert_false(same(a, b));
        picture_of(s, others, 2, 1, b);
        assert_false(same(a, b));
        mask_sampler_free(s);
        /* one start for all: without noise in the steps one picture, with it several */
        o.same_start = o.same_sketch = true;
        OK(mask_sampler_new(&m, be, &o, &s));
        OK(mask_sampler_load(s));
        picture_of(s, others, 2, 0, a);
        picture_of(s, others, 2, 1, b);
        assert_true(same(a, b) == (eta == 0));
        mask_sampler_free(s);
        /* and with sketches of their own several again */
        o.same_sketch = false;
        OK(mask_sampler_new(&m, be, &o, &s));
        OK(mask_sampler_load(s));
        picture_of(s, others, 2, 0, a);
        picture_of(s, others, 2, 1, b);
        assert_true(same(a, b) == (eta == 0 && in_channels == 1));
        mask_sampler_free(s);
    }
    mask_model_free(&m, be);
    assert_int_equal(be->allocated_bytes, 0);
    be->ops->close(be);
}

/* Whose ellipse a place is told: the mask that lies nearest, of those that were moved not at all.
 */
static int64_t sketched(const mask_hints *h, mask_place place)
{
    enum { N = EDGE * EDGE };
    static float told[N * IMAGE_SKETCH_PLANES], own[N * IMAGE_SKETCH_PLANES], picture[N];
    const image_affine still = image_affine_make(0, 0, 1, 0, 0);
    int64_t nearest = -1;
    double least = 0;
    OK(mask_hints_sketch(h, place, &h->spread, told));
    for (int64_t k = 0; k < h->n; k++) {
        image_sketch sketch;
        double apart = 0;
        image_field_picture(&h->view, h->fields + k * PX, &still, picture);
        OK(image_sketch_measure(&h->view, picture, &sketch));
        image_sketch_draw(&sketch, &h->spread, &h->view, own);
        for (int i = 0; i < N * IMAGE_SKETCH_PLANES; i += IMAGE_SKETCH_PLANES)
            apart += fabs((double)(told[i] - own[i]));
        if (nearest < 0 || apart < least) {
            nearest = k;
            least = apart;
        }
    }
    return nearest;
}

/* A slot keeps its mask, however it is moved, for as many attempts; then others come. */
static void turns(const mask_hints *hints)
{
    mask_hints h = *hints;
    h.augment = h.warp = 0;
    bool other = false;
    for (int64_t slot = 0; slot < 3 * h.n; slot++) {
        uint32_t own = MASK_HINTS_MOVES * MASK_HINTS_DRAWS;
        for (uint32_t attempt = 0; attempt < own; attempt++)
            assert_int_equal(sketched(&h, (mask_place){slot, attempt}), h.order[slot % h.n]);
        other = other || sketched(&h, (mask_place){slot, own}) != h.order[slot % h.n];
    }
    assert_true(other);
    /* as many draws are moved alike, and the next ones otherwise; nothing is blurred */
    float a[EDGE * EDGE * IMAGE_SKETCH_PLANES], b[EDGE * EDGE * IMAGE_SKETCH_PLANES];
    image_sketch_spread sharp = h.spread;
    memset(sharp.deviation, 0, sizeof sharp.deviation);
    h.augment = 1;
    OK(mask_hints_sketch(&h, (mask_place){5, 0}, &sharp, a));
    OK(mask_hints_sketch(&h, (mask_place){5, MASK_HINTS_DRAWS - 1}, &sharp, b));
    assert_memory_equal(a, b, sizeof a);
    OK(mask_hints_sketch(&h, (mask_place){5, MASK_HINTS_DRAWS}, &sharp, b));
    assert_memory_not_equal(a, b, sizeof a);
    h.warp = 0.2;
    OK(mask_hints_sketch(&h, (mask_place){5, 0}, &sharp, b));
    assert_memory_not_equal(a, b, sizeof a);
}

static void places(void **state)
{
    (void)state;
    static const char golden[] = "tests/golden/masks/config.json";
    config *c;
    mask_judge j;
    mask_hints hints = {.mean = -0.5};
    sample_places(golden, 1, &hints);
    const char *sets[] = {"masks.augment=0.7", "masks.warp=0.2"};
    OK(config_load(NULL, sets, 2, &c));
    OK(mask_judge_open(data_path, 0, &j));
    const image_field_view v = {.size = S, .edge = EDGE, .ramp_px = 8};
    OK(mask_hints_open(c, &j.real, &v, &hints));
    assert_true(hints.mean > -1 && hints.mean < -0.5);
    /* slots take all masks in turn: a permutation, and not the masks' own order */
    bool taken[TRAIN] = {false}, moved = false;
    assert_int_equal(hints.n, TRAIN);
    for (int64_t i = 0; i < hints.n; i++) {
        assert_in_range(hints.order[i], 0, hints.n - 1);
        assert_false(taken[hints.order[i]]);
        taken[hints.order[i]] = true;
        moved = moved || hints.order[i] != i;
    }
    assert_true(moved);
    assert_true(hints.augment == 0.7 && hints.warp == 0.2);
    turns(&hints);
    sample_places(golden, 1 + IMAGE_SKETCH_PLANES, &hints);
    mask_hints_close(&hints);
    mask_judge_close(&j);
    config_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(kolmogorov), cmocka_unit_test(limits),
                                       cmocka_unit_test(few), cmocka_unit_test(faults),
                                       cmocka_unit_test(places)};
    return cmocka_run_group_tests(tests, make_data, remove_data);
}
