/* The assessment without models: limits from real images, who is compared with whom, verdicts,
   boxes, alignment, and rejected.csv. */
#include "base/file.h"
#include "generate/alignment.h"
#include "generate/band.h"
#include "generate/rejects.h"
#include "support/expect.h"
#include "support/tmp_dir.h"

#include <math.h>

enum { N = 8, D = 3 };

/* Image i at an angle on the unit circle, the same for both parts; its mirrored views lie
 * elsewhere. */
static float view[N * REFERENCES_VIEWS * D];
static int32_t id[N], group[N];

static references circle(const double degrees[N])
{
    const double radian = acos(-1.0) / 180;
    for (int i = 0; i < N; i++) {
        id[i] = 10 + i;
        group[i] = i;
        for (int k = 0; k < REFERENCES_VIEWS; k++) {
            float *v = view + (i * REFERENCES_VIEWS + k) * D;
            v[0] = k ? 0 : (float)cos(degrees[i] * radian);
            v[1] = k ? 0 : (float)sin(degrees[i] * radian);
            v[2] = k ? 1 : 0;
        }
    }
    return (references){.n = N,
                        .width = D,
                        .views = REFERENCES_VIEWS,
                        .id = id,
                        .group = group,
                        .view = {view, view}};
}

static double cosine(double degrees)
{
    return cos(degrees * acos(-1.0) / 180);
}

static config *with(const char *text)
{
    config *c;
    OK(config_parse(text, strlen(text), "test", &c));
    return c;
}

static void test_quantile(void **state)
{
    (void)state;
    double v[] = {4, 1, 3, 2};
    assert_float_equal(band_quantile(v, 4, 0.5), 2.5, 1e-12);
    assert_float_equal(band_quantile(v, 4, 0.3), 1.5, 1e-12);
    assert_float_equal(band_quantile(v, 4, 0.05), 1, 0);
    assert_float_equal(band_quantile(v, 4, 0.95), 4, 0);
    assert_float_equal(band_quantile(v, 4, 1), 4, 0);
    assert_float_equal(band_quantile(v, 1, 0.5), 4 - 3, 0);
}

/* Distances exp(-3 + x), x in seven steps from -0.3 on. */
static void spread_out(double v[7], int odd)
{
    for (int i = 0; i < 7; i++)
        v[i] = 1 - exp(-3 + 0.1 * (i - 3));
    if (odd)
        v[6] = 1 - exp(-3 + 3.0);
}

static void test_limit(void **state)
{
    (void)state;
    double v[7], q = 0.025;
    /* by hand: mean -3, sum of squares 0.28 over 6, further draw 1 + 1/7; z of 97.5 % from a table
     */
    const double spread = sqrt(0.28 / 6 * (1 + 1.0 / 7)), z = 1.959963984540054;
    spread_out(v, 0);
    assert_float_equal(band_limit(v, 7, q), 1 - exp(-3 + z * spread), 1e-12);
    spread_out(v, 0);
    assert_float_equal(band_limit(v, 7, 1 - q), 1 - exp(-3 - z * spread), 1e-12);
    assert_true(v[6] < band_limit(v, 7, 1 - q)); /* beyond the extremes, where the rank is */
    /* where the rank lies within, and for the extremes themselves: the order statistic */
    for (double at = 0; at <= 1; at += 0.125) {
        double w[7];
        spread_out(v, 1);
        spread_out(w, 1);
        assert_float_equal(band_limit(v, 7, at), band_quantile(w, 7, at), 0);
    }
    /* nothing to spread: one value, equal ones, and two that are the same picture */
    double one = 0.9, two[2] = {0.8, 0.8}, same[2] = {1, 1};
    assert_float_equal(band_limit(&one, 1, q), 0.9, 0);
    assert_float_equal(band_limit(two, 2, q), 0.8, 1e-12);
    assert_float_equal(band_limit(same, 2, 1 - q), 1, 1e-5);
}

static void test_compare(void **state)
{
    (void)state;
    const double at[N] = {0, 10, 20, 30, 40, 50, 60, 70};
    references r = circle(at);
    const float x[D] = {1, 0, 0}, up[D] = {0, 0, 1};
    likeness l;
    references_compare(&r, PART_WHOLE, x, -1, NULL, &l);
    assert_int_equal(l.id, 10);
    assert_float_equal(l.nearest, 1, 1e-6);
    assert_float_equal(
        l.mean, (1 + cosine(10) + cosine(20) + cosine(30) + cosine(40)) / REFERENCES_NEAREST, 1e-6);
    /* its group is left out, and what is skipped */
    const bool skip[N] = {false, true};
    references_compare(&r, PART_WHOLE, x, 0, skip, &l);
    assert_int_equal(l.id, 12);
    assert_float_equal(l.nearest, cosine(20), 1e-6);
    /* a mirrored view counts as the image */
    references_compare(&r, PART_LESION, up, -1, NULL, &l);
    assert_int_equal(l.id, 10);
    assert_float_equal(l.mean, 1, 1e-6);
    /* nobody left */
    for (int i = 0; i < N; i++)
        group[i] = 3;
    references_compare(&r, PART_WHOLE, x, 3, NULL, &l);
    assert_true(l.id == -1 && isnan(l.nearest) && isnan(l.mean));
}

static void test_band(void **state)
{
    (void)state;
    /* distinct images, but 5 is nearly 4, and 7 lies far from all; mirrored views do not touch them
     */
    const double at[N] = {0, 10, 20, 32, 46, 46.01, 62, 140};
    references r = circle(at);
    for (int i = 0; i < N; i++) /* each its own view 1..3: none is like another */
        for (int k = 1; k < REFERENCES_VIEWS; k++)
            view[(i * REFERENCES_VIEWS + k) * D + 2] = 0;
    config *c = with("quality = { quantile = 0.0; };");
    band b;
    band_source from;
    OK(band_find(c, &r, &b, &from));
    assert_int_equal(from.duplicates, 1);
    assert_int_equal(from.images, 7);
    assert_int_equal(from.groups, 7);
    assert_float_equal(b.high[PART_WHOLE], cosine(10), 1e-5);
    /* 7 sees 6 at 78 degrees, and of the others only their empty views */
    assert_float_equal(b.low[PART_LESION], cosine(78) / 5, 1e-5);
    /* images of one group do not count as near to each other */
    group[0] = group[2] = group[1];
    OK(band_find(c, &r, &b, &from));
    assert_int_equal(from.groups, 5);
    assert_float_equal(b.high[PART_WHOLE], cosine(12), 1e-5);
    group[5] = group[4]; /* of one patient: no duplicates, as they never meet */
    OK(band_find(c, &r, &b, &from));
    assert_int_equal(from.duplicates, 0);
    config_free(c);
    /* what is set stands; the rest is found */
    c = with("quality = { low = -0.5; lesion_high = 0.75; quantile = 0.0; };");
    OK(band_find(c, &r, &b, &from));
    assert_true(b.low[PART_WHOLE] == -0.5 && b.high[PART_LESION] == 0.75);
    assert_float_equal(b.high[PART_WHOLE], cosine(12), 1e-5);
    for (int i = 0; i < N; i++)
        group[i] = 1;
    FAILS(band_find(c, &r, &b, &from), MD_BAD_INPUT, "two groups at least");
    config_free(c);
    c = with("quality = { low = -1.0; high = 1.0; lesion_low = -1.0; lesion_high = 1.0; };");
    OK(band_find(c, &r, &b, &from));
    config_free(c);
    double packed[PAIRS_BAND];
    band_pack(&(band){{1, 2}, {3, 4}}, packed);
    assert_true(packed[0] == 1 && packed[1] == 3 && packed[2] == 2 && packed[3] == 4);
    b = band_unpack(packed);
    assert_true(b.low[PART_LESION] == 2 && b.high[PART_WHOLE] == 3);
}

static void test_rules(void **state)
{
    (void)state;
    config *a = with("quality = { high = 0.9; };"), *b = with("quality = { high = 0.8; };");
    OK(band_same_rules(a, a, "p.h5"));
    FAILS(band_same_rules(a, b, "p.h5"), MD_USAGE, "quality.high");
    config_free(b);
    b = with("quality = { high = 0.9; attempts = 3; redraw = false; };");
    OK(band_same_rules(a, b, "p.h5")); /* not how pairs are judged */
    config_free(a);
    config_free(b);
}

static void test_verdicts(void **state)
{
    (void)state;
    const band b = {.low = {0.5, 0.4}, .high = {0.9, 0.8}};
    const assessment good = {{{0.9f, 0.5f, 3}, {0.8f, 0.4f, 4}}, 0.6f};
    static const struct {
        verdict want;
        picture_part part;
        float nearest, mean, alignment;
        const char *text;
    } rows[] = {
        {VERDICT_COPY, PART_WHOLE, 0.91f, 0.5f, 0.6f, "too similar: 0.9100 to real image 3"},
        {VERDICT_COPY_LESION, PART_LESION, 0.81f, 0.4f, 0.6f,
         "lesion too similar: 0.8100 to real image 4"},
        {VERDICT_FOREIGN, PART_WHOLE, 0.9f, 0.49f, 0.6f, "too dissimilar: 0.4900"},
        {VERDICT_FOREIGN_LESION, PART_LESION, 0.79f, 0.39f, 0.6f, "lesion too dissimilar: 0.3900"},
        {VERDICT_UNALIGNED, PART_WHOLE, 0.9f, 0.5f, 0.2f, "not aligned: Dice 0.2000"},
        {VERDICT_ALONE, PART_LESION, NAN, NAN, 0.6f, "nothing to compare with"},
    };
    assert_int_equal(band_judge(&(band){{0.4, 0.3}, {0.95, 0.85}}, 0.5, &good), VERDICT_GOOD);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[PAIRS_REASON_BYTES];
        assessment a = good;
        a.part[PART_WHOLE] = (likeness){0.85f, 0.55f, 3};
        a.part[PART_LESION] = (likeness){0.75f, 0.45f, 4};
        a.part[rows[i].part].nearest = rows[i].nearest;
        a.part[rows[i].part].mean = rows[i].mean;
        a.alignment = rows[i].alignment;
        assert_int_equal(band_judge(&b, 0.5, &a), rows[i].want);
        band_explain(&b, 0.5, &a, text, sizeof text);
        assert_non_null(strstr(text, rows[i].text));
        a.alignment = NAN; /* not known: no reason */
        if (rows[i].want == VERDICT_UNALIGNED)
            assert_int_equal(band_judge(&b, 0.5, &a), VERDICT_GOOD);
    }
}

static void test_box(void **state)
{
    (void)state;
    image mask;
    int64_t box[4];
    OK(image_new(&mask, 64, 64, 1));
    FAILS(references_box(&mask, box), MD_BAD_INPUT, "no box");
    for (int y = 20; y < 30; y++)
        for (int x = 30; x < 50; x++)
            mask.px[y * 64 + x] = 1;
    OK(references_box(&mask, box)); /* 10 x 20: a square of 24 around it */
    assert_true(box[0] == 13 && box[1] == 28 && box[2] == 37 && box[3] == 52);
    memset(mask.px, 0, 64 * 64);
    mask.px[63] = 1; /* a pixel in a corner: a 16th of the picture, beyond its edges */
    OK(references_box(&mask, box));
    assert_true(box[0] == -1 && box[1] == 62 && box[2] == 3 && box[3] == 66);
    memset(mask.px, 1, 64 * 64);
    OK(references_box(&mask, box));
    assert_true(box[0] == -6 && box[1] == -6 && box[2] == 71 && box[3] == 71);
    image_free(&mask);
}

/* A lesion looks the same wherever it lies, at the picture's edge too. */
static void test_lesion_anywhere(void **state)
{
    (void)state;
    enum { S = 64, H = 12, W = 20 };
    static const int at[][2] = {{20, 30}, {0, 0}, {S - H, S - W}, {1, 41}};
    image first = {0};
    for (int k = 0; k < 4; k++) {
        image rgb, mask, cut;
        OK(image_new(&rgb, S, S, 3));
        OK(image_new(&mask, S, S, 1));
        memset(rgb.px, 40 * k, 3 * S * S); /* surroundings do not show */
        for (int y = 0; y < H; y++)
            for (int x = 0; x < W; x++) {
                int64_t i = (at[k][0] + y) * S + at[k][1] + x;
                mask.px[i] = 1;
                for (int c = 0; c < 3; c++)
                    rgb.px[3 * i + c] = (uint8_t)(5 * y + 7 * x + c);
            }
        OK(references_lesion(&rgb, &mask, &cut));
        if (k == 0)
            OK(image_copy(&cut, &first));
        assert_true(cut.h == first.h && cut.w == first.w);
        assert_memory_equal(cut.px, first.px, (size_t)(3 * cut.h * cut.w));
        image_free(&rgb);
        image_free(&mask);
        image_free(&cut);
    }
    image_free(&first);
}

static void test_alignment(void **state)
{
    (void)state;
    enum { S = 64 };
    static uint8_t background[3 * S * S], back[3 * S * S], rgb[3 * S * S];
    image mask;
    float noise, dice;
    OK(image_new(&mask, S, S, 1));
    for (int i = 0; i < 3 * S * S; i++) {
        background[i] = (uint8_t)(100 + i % 7);
        back[i] = (uint8_t)(background[i] + (i / 3) % 3); /* a round trip that adds 0, 1, 2 */
    }
    OK(alignment_noise(background, background, S, &noise));
    assert_float_equal(noise, 0, 0);
    OK(alignment_noise(background, back, S, &noise));
    assert_true(noise > 0.9f && noise < 2);
    for (int y = 20; y < 44; y++)
        for (int x = 20; x < 44; x++)
            mask.px[y * S + x] = 1;
    memcpy(rgb, back, sizeof rgb);
    OK(alignment_measure(rgb, background, noise, &mask, &dice)); /* nothing was painted */
    assert_true(dice < 0.1f);
    for (int i = 0; i < S * S; i++)
        for (int c = 0; c < 3; c++)
            rgb[3 * i + c] = (uint8_t)(background[3 * i + c] + (mask.px[i] ? 60 : 0));
    OK(alignment_measure(rgb, background, noise, &mask, &dice));
    assert_true(dice > 0.9f);
    image_free(&mask);
}

static void test_rejects(void **state)
{
    (void)state;
    char root[256], path[300];
    rejects *r;
    void *text;
    size_t n;
    const assessment m = {{{0.5f, 0.25f, 3}, {0.75f, -0.125f, -1}}, NAN};
    assert_true(tmp_dir_make(root));
    (void)snprintf(path, sizeof path, "%s/rejected.csv", root);
    OK(rejects_open(path, &r));
    OK(rejects_order(r));
    assert_false(md_file_exists(path)); /* nothing to tell */
    OK(rejects_add(r, &(reject){7, 1, 4, 5, VERDICT_FOREIGN, m}));
    OK(rejects_add(r, &(reject){2, 0, 4, 5, VERDICT_COPY_LESION, m}));
    OK(rejects_add(r, &(reject){7, 1, 4, 5, VERDICT_COPY, m})); /* once more: the later counts */
    OK(rejects_add(r, &(reject){9, 0, 4, 5, VERDICT_ALONE, m}));
    OK(rejects_forget(r, 9, 0));
    rejects_close(r); /* without order: as after a kill */
    OK(rejects_open(path, &r));
    assert_int_equal(rejects_count(r), 3); /* 9 is forgotten in memory only */
    OK(rejects_forget(r, 9, 0));
    OK(rejects_order(r));
    rejects_close(r);
    OK(md_file_read(path, 1 << 16, &text, &n));
    assert_string_equal(text,
                        "slot,attempt,reason,similarity,similarity_lesion,mean,mean_lesion,nearest,"
                        "nearest_lesion,alignment,background,mask\n"
                        "2,0,lesion too similar,0.500000,0.750000,0.250000,-0.125000,3,-1,nan,4,5\n"
                        "7,1,too similar,0.500000,0.750000,0.250000,-0.125000,3,-1,nan,4,5\n");
    free(text);
    static const char damaged[] = "2,0,lesion too similar,0.5,0.7,0.2,0.1,3,-1,nan,4,5\n"
                                  "2,0,good,0.5,0.7,0.2,0.1,3,-1,nan,4,5\n"
                                  "-2,0,too similar,0.5,0.7,0.2,0.1,3,-1,nan,4,5\n"
                                  "2,0,too similar,0.5,0.7,0.2,0.1,3,-1,nan,4,5,6\n"
                                  "2,0,too similar,0.5,0.7\n\n"
                                  "7,1,too similar,0.5,0.7,0.2,0.1,3,-1,nan,4,5";
    reject line[8];
    int64_t bad;
    assert_int_equal(rejects_parse(damaged, sizeof damaged - 1, line, 8, &bad), 1);
    assert_int_equal(bad, 6);
    assert_int_equal(line[0].why, VERDICT_COPY_LESION);
    tmp_dir_remove(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantile),  cmocka_unit_test(test_limit),
        cmocka_unit_test(test_compare),   cmocka_unit_test(test_band),
        cmocka_unit_test(test_rules),     cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_box),       cmocka_unit_test(test_lesion_anywhere),
        cmocka_unit_test(test_alignment), cmocka_unit_test(test_rejects),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
