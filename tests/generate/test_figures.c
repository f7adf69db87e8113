/* The set-level figures: against numpy (tests/golden/figures.safetensors, by make_figures.py),
   against closed forms, and at the edges. */
#include "base/rng.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "generate/figures.h"
#include "support/expect.h"

#include <math.h>

enum { MOST = 4096 };

/* A set of the golden file, rows first..; the caller's memory. */
static figures_set golden_set(const format_tensors *f, const char *name, float *x, int32_t *group)
{
    char groups[64];
    const format_tensor *t = format_tensors_find(f, name);
    assert_non_null(t);
    OK(format_tensors_read_f32(f, t, 0, t->numel, x));
    (void)snprintf(groups, sizeof groups, "%s_group", name);
    const format_tensor *g = format_tensors_find(f, groups);
    assert_non_null(g);
    OK(format_tensors_read_raw(f, g, group));
    return (figures_set){x, g->numel, group, NULL};
}

static void golden_numbers(const format_tensors *f, const char *name, float *out, int64_t n)
{
    const format_tensor *t = format_tensors_find(f, name);
    assert_non_null(t);
    assert_int_equal(t->numel, n);
    OK(format_tensors_read_f32(f, t, 0, n, out));
}

static void near_to(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance * fmax(1, fabs(want))))
        fail_msg("%.9g; wanted %.9g", got, want);
}

static void test_golden(void **state)
{
    (void)state;
    static float x[3][MOST], want[4];
    static int32_t group[3][MOST];
    figures_set set[3], few;
    figures got;
    double value;
    format_tensors *f;
    OK(format_tensors_open("tests/golden/figures.safetensors", &f));
    set[0] = golden_set(f, "train", x[0], group[0]);
    set[1] = golden_set(f, "holdout", x[1], group[1]);
    set[2] = golden_set(f, "generated", x[2], group[2]);

    golden_numbers(f, "frechet", want, 3);
    OK(figures_frechet(6, set[0], set[2], &value));
    near_to(value, (double)want[0], 1e-6);
    few = (figures_set){x[0], 4, NULL, NULL}; /* fewer rows than features */
    OK(figures_frechet(6, few, set[2], &value));
    near_to(value, (double)want[1], 1e-6);
    OK(figures_frechet(6, few, (figures_set){x[1], 3, NULL, NULL}, &value));
    near_to(value, (double)want[2], 1e-6);

    golden_numbers(f, "neighbours", want, 4);
    OK(figures_neighbours(6, set[0], set[2], 5, &got));
    near_to(got.precision, (double)want[0], 1e-7);
    near_to(got.recall, (double)want[1], 1e-7);
    near_to(got.density, (double)want[2], 1e-7);
    near_to(got.coverage, (double)want[3], 1e-7);

    for (int swapped = 0; swapped < 2; swapped++) {
        golden_numbers(f, swapped ? "memory_swapped" : "memory", want, 3);
        OK(figures_memory(6, set[swapped], set[1 - swapped], set[2], &got));
        near_to(got.memory, (double)want[0], 1e-6);
        near_to(got.memory_low, (double)want[1], 1e-3); /* Student's t is an expansion */
        near_to(got.memory_high, (double)want[2], 1e-3);
        assert_int_equal(got.memory_rows, 26);
    }
    format_tensors_close(f);
}

/* n rows of d independent normal numbers, scaled and shifted. */
static figures_set normal(uint64_t item, int64_t n, int64_t d, float scale, float shift, float *x)
{
    md_rng r = md_rng_at(3, MD_RNG_TEST, item, 0);
    md_rng_normal_fill(&r, x, n * d);
    for (int64_t i = 0; i < n * d; i++)
        x[i] = x[i] * scale + shift;
    return (figures_set){x, n, NULL, NULL};
}

static void test_closed_forms(void **state)
{
    (void)state;
    enum { N = 4000, D = 4 };
    static float a[N * D], b[N * D];
    figures f;
    double value, limit;
    figures_set x = normal(1, N, D, 1, 0, a);
    OK(figures_frechet(D, x, x, &value));
    near_to(value, 0, 1e-9);
    /* between N(0,1) and N(m,s^2) in each of D dimensions: D (m^2 + (s - 1)^2) */
    OK(figures_frechet(D, x, normal(2, N, D, 2, 0.5F, b), &value));
    near_to(value, D * (0.25 + 1), 0.03);
    /* the same cloud moved: the covariances agree to the rounding of floats */
    for (int i = 0; i < N * D; i++)
        b[i] = a[i] + 3;
    OK(figures_frechet(D, x, (figures_set){b, N, NULL, NULL}, &value));
    near_to(value, D * 9.0, 1e-5);

    figures_set s = {a, 200, NULL, NULL};
    OK(figures_neighbours(D, s, s, 5, &f));
    near_to(f.precision, 1, 0);
    near_to(f.recall, 1, 0);
    near_to(f.density, 6.0 / 5, 1e-12);
    near_to(f.coverage, 1, 0);
    for (int i = 0; i < 200 * D; i++)
        b[i] = a[i] + 1000;
    OK(figures_neighbours(D, s, (figures_set){b, 200, NULL, NULL}, 5, &f));
    near_to(f.precision + f.recall + f.density + f.coverage, 0, 0);
    /* one point drawn again and again: all plausible, nearly nothing covered */
    for (int i = 0; i < 200 * D; i++)
        b[i] = a[i % D];
    OK(figures_neighbours(D, s, (figures_set){b, 200, NULL, NULL}, 5, &f));
    near_to(f.precision, 1, 0);
    near_to(f.recall, 1.0 / 200, 1e-12);
    assert_true(f.coverage < 0.1);

    /* two samples of one distribution: the plain value is its bias, the line takes it away */
    static float c[400 * D], e[400 * D];
    double sum = 0, limits = 0;
    for (uint64_t i = 0; i < 20; i++) {
        figures_set p = normal(100 + i, 400, D, 1, 0, c), q = normal(200 + i, 400, D, 1, 0, e);
        OK(figures_frechet(D, p, q, &value));
        OK(figures_frechet_limit(D, p, q, i, &limit));
        sum += value / 20;
        limits += limit / 20;
    }
    assert_true(sum > 0.02);
    if (!(fabs(limits) < sum / 5))
        fail_msg("%g extrapolated to %g; wanted near 0", sum, limits);
}

static void test_memorisation(void **state)
{
    (void)state;
    enum { D = 32 };
    static float train[60 * D], holdout[60 * D], made[300 * D];
    figures f;
    figures_set t = normal(11, 60, D, 1, 0, train), h = normal(12, 60, D, 1, 0, holdout);
    figures_set g = normal(13, 300, D, 1, 0, made);
    OK(figures_memory(D, t, h, g, &f));
    assert_true(f.memory_low < 0.5 && f.memory_high > 0.5 && !f.memory_flagged);
    for (int i = 0; i < 300 * D; i++) /* train rows, slightly changed */
        made[i] = train[i % (60 * D)] + 0.3F * made[i];
    OK(figures_memory(D, t, h, g, &f));
    assert_true(f.memory > 0.99 && f.memory_flagged);
    OK(figures_memory(D, h, t, g, &f)); /* from the other side */
    assert_true(f.memory < 0.01 && !f.memory_flagged);
    /* equal rows on both sides: neither is nearer */
    OK(figures_memory(D, t, t, g, &f));
    near_to(f.memory, 0.5, 1e-12);

    /* A few holdout patients are little evidence, however many crops were generated: the interval
       must know. Measured: 5 % flagged with 5 patients, 2.5 % with 12 and more. */
    int flags = 0;
    for (uint64_t i = 0; i < 40; i++) {
        t = normal(1000 + i, 30, D, 1, 0, train);
        h = normal(2000 + i, 5, D, 1, 0, holdout);
        g = normal(3000 + i, 300, D, 1, 0, made);
        OK(figures_memory(D, t, h, g, &f));
        flags += f.memory_flagged;
    }
    if (flags > 3)
        fail_msg("%d of 40 innocent sets were flagged", flags);
}

/* Pairs that show a training image's surroundings are like it, which proves nothing: the rows of
   that group do not count. A copy of another image does. */
static void test_own_group(void **state)
{
    (void)state;
    enum { D = 32, N = 60, MADE = 300 };
    static float train[N * D], holdout[N * D], made[MADE * D], noise[MADE * D];
    static int32_t group[N], others[N], of[MADE];
    figures f;
    figures_set t = normal(41, N, D, 1, 0, train), h = normal(42, N, D, 1, 0, holdout);
    figures_set g = normal(43, MADE, D, 1, 0, noise);
    for (int i = 0; i < N; i++) {
        group[i] = i / 2;
        others[i] = N + i;
    }
    t.group = group;
    h.group = others;
    g.x = made;
    g.group = of;
    for (int shift = 0; shift <= 8; shift += 8) { /* its own group's, then another's */
        for (int i = 0; i < MADE * D; i++)
            made[i] = train[(i + shift * D) % (N * D)] + 0.3F * noise[i];
        for (int i = 0; i < MADE; i++)
            of[i] = group[i % N];
        g.without = NULL;
        OK(figures_memory(D, t, h, g, &f));
        assert_true(f.memory > 0.99 && f.memory_flagged);
        g.without = of;
        OK(figures_memory(D, t, h, g, &f));
        if (shift ? !f.memory_flagged : f.memory < 0.3 || f.memory > 0.7 || f.memory_flagged)
            fail_msg("%d rows on: %.3f, %.3f to %.3f", shift, f.memory, f.memory_low,
                     f.memory_high);
    }
    /* the same as from sets without these rows, on both sides */
    g = (figures_set){made, 1, NULL, of};
    others[0] = of[0] = group[N - 1];
    OK(figures_memory(D, t, h, g, &f));
    double left = f.memory;
    OK(figures_memory(D, (figures_set){train, N - 2, NULL, NULL},
                      (figures_set){holdout + D, N - 1, NULL, NULL},
                      (figures_set){made, 1, NULL, NULL}, &f));
    near_to(left, f.memory, 1e-12);
    /* whose group is all of a side does not count */
    h.n = 1;
    OK(figures_memory(D, t, h, g, &f));
    assert_true(isnan(f.memory) && !f.memory_flagged);
    g.n = 2;
    of[1] = group[0];
    OK(figures_memory(D, t, h, g, &f));
    assert_true(isfinite(f.memory) && isnan(f.memory_low));
}

/* Coverage is mostly the numbers' work: of sets from one distribution it is what the lemma says. */
static void test_coverage_alike(void **state)
{
    (void)state;
    enum { D = 4, N = 30, MOST_MADE = 600 };
    static float real[N * D], made[MOST_MADE * D];
    for (int n = 30; n <= MOST_MADE; n *= 20) {
        figures f;
        double sum = 0;
        for (uint64_t i = 0; i < 60; i++) {
            OK(figures_neighbours(D, normal(500 + i, N, D, 1, 0, real),
                                  normal(700 + i, n, D, 1, 0, made), 5, &f));
            sum += f.coverage / 60;
        }
        if (fabs(sum - f.coverage_alike) > 0.01)
            fail_msg("%d rows: coverage %.4f, expected %.4f", n, sum, f.coverage_alike);
    }
}

static void test_copies(void **state)
{
    (void)state;
    const float real[] = {1, 0, 0, 1, 0, 0}, made[] = {3, 3, 0, 2, 0, 0, 1, -1};
    figures_copy c[4];
    int64_t n;
    OK(figures_copies(2, (figures_set){real, 3, NULL, NULL}, (figures_set){made, 4, NULL, NULL}, 4,
                      c, &n));
    assert_int_equal(n, 4);
    assert_int_equal(c[0].generated, 1);
    assert_int_equal(c[0].real, 1);
    near_to(c[0].similarity, 1, 1e-12);
    assert_int_equal(c[1].generated, 0);
    near_to(c[1].similarity, sqrt(0.5), 1e-12);
    assert_int_equal(c[2].generated, 3);
    assert_int_equal(c[2].real, 0);
    near_to(c[3].similarity, 0, 0); /* a row of zeros */
    OK(figures_copies(2, (figures_set){real, 3, NULL, NULL}, (figures_set){made, 4, NULL, NULL}, 2,
                      c, &n));
    assert_int_equal(n, 2);
    assert_int_equal(c[1].generated, 0);
    OK(figures_copies(2, (figures_set){real, 0, NULL, NULL}, (figures_set){made, 4, NULL, NULL}, 2,
                      c, &n));
    assert_int_equal(n, 0);
}

static void test_edges(void **state)
{
    (void)state;
    enum { D = 3 };
    static float a[40 * D], b[40 * D], c[40 * D];
    figures f;
    double value;
    md_text text = {0};
    format_json *j;
    figures_set t = normal(21, 20, D, 1, 0, a), h = normal(22, 6, D, 1, 0, b),
                g = normal(23, 30, D, 1, 0, c), none = {NULL, 0, NULL, NULL};
    OK(figures_frechet(D, t, (figures_set){b, 1, NULL, NULL}, &value));
    assert_true(isnan(value));
    OK(figures_frechet_limit(D, t, h, 1, &value));
    assert_true(isnan(value)); /* 6 rows are too few */

    OK(figures_compute(D, t, none, g, 1, &f));
    assert_true(isfinite(f.frechet) && isfinite(f.frechet_limit) && isfinite(f.density));
    assert_true(isnan(f.frechet_matched) && isnan(f.frechet_real) && isnan(f.memory));
    assert_false(f.memory_flagged);
    OK(figures_compute(D, none, none, none, 1, &f));
    assert_true(isnan(f.frechet) && isnan(f.precision) && isnan(f.coverage));

    OK(figures_compute(D, t, h, g, 1, &f));
    assert_int_equal(f.frechet_rows, 6);
    assert_true(f.frechet_matched > 0 && f.frechet_real > 0 && isfinite(f.memory_low));
    figures again;
    OK(figures_compute(D, t, h, g, 1, &again));
    assert_true(again.frechet_matched == f.frechet_matched);
    OK(figures_json(&f, &text));
    OK(format_json_parse("figures", text.s, text.n, &j));
    OK(format_json_float(j, "frechet_generated_at_rows", &value));
    near_to(value, f.frechet_matched, 1e-5);
    format_json_free(j);
    md_text_free(&text);
    /* four holdout patients: a share, but no interval */
    const int32_t same[6] = {4, 4, 9, 3, 3, 2};
    h.group = same;
    f.memory_flagged = true;
    OK(figures_memory(D, t, h, g, &f));
    assert_true(isfinite(f.memory) && isnan(f.memory_low) && !f.memory_flagged);
    OK(figures_json(&f, &text));
    assert_non_null(strstr(text.s, "\"memorisation_low\": null"));
    for (int i = 0; i < 3; i++) { /* a sentence on each kind */
        static const char *const notes[] = {"frechet_note", "neighbours_note", "memorisation_note"};
        const char *note;
        OK(format_json_parse("figures", text.s, text.n, &j));
        OK(format_json_string(j, notes[i], &note));
        assert_true(strlen(note) > 100);
        format_json_free(j);
    }
    md_text_free(&text);

    FAILS(figures_neighbours(D, t, g, 0, &f), MD_USAGE, "0 neighbours");
    a[7] = NAN;
    FAILS(figures_compute(D, t, h, g, 1, &f), MD_NONFINITE, "feature 1 of row 2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),         cmocka_unit_test(test_closed_forms),
        cmocka_unit_test(test_memorisation),   cmocka_unit_test(test_own_group),
        cmocka_unit_test(test_coverage_alike), cmocka_unit_test(test_copies),
        cmocka_unit_test(test_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
