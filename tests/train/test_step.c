/* The training step: it learns, splits in time without a difference, keeps to its budget, and
   leaves everything as it was when a loss is not finite. */
#include "rig.h"

/* The denoising task with something wrong at some steps. */
typedef struct saboteur {
    const rig *r;
    train_task task;
    int64_t from, to; /* steps */
    float coef;       /* what the samples' weight becomes */
    bool fail;        /* instead: cannot be filled */
    bool same;        /* every step is step 0 */
} saboteur;

static md_tensor *build(void *user, md_graph *g, int64_t n)
{
    saboteur *s = user;
    return s->task.build(s->task.user, g, n);
}

static md_status fill(void *user, md_plan *plan, int64_t step, int64_t first, int64_t n)
{
    saboteur *s = user;
    MD_TRY(s->task.fill(s->task.user, plan, s->same ? 0 : step, first, n));
    if (step < s->from || step >= s->to)
        return MD_OK;
    if (s->fail)
        MD_FAIL(MD_IO, "the disk is gone");
    float numbers[DENOISE_N_NUMBERS * 16];
    MD_TRY(md_plan_read(plan, s->r->d.numbers, numbers, MD_F32, DENOISE_N_NUMBERS * n));
    for (int64_t i = 0; i < n; i++)
        numbers[DENOISE_SHARE * n + i] = s->coef;
    return md_plan_write(plan, s->r->d.numbers, numbers, MD_F32, DENOISE_N_NUMBERS * n);
}

static md_status load(void *user, md_backend *be)
{
    saboteur *s = user;
    return s->task.load(s->task.user, be);
}

static void sabotage(rig *r, saboteur *s)
{
    s->r = r;
    s->task = r->task;
    r->task = (train_task){.user = s, .build = build, .fill = fill, .load = load};
}

static void test_overfits(void **state)
{
    (void)state;
    rig r;
    saboteur s = {.same = true};
    double first = 0;
    train_stats stats = {0};
    rig_open(&r, false);
    sabotage(&r, &s);
    r.o.lr = 1e-2;
    r.o.steps = 300;
    rig_start(&r);
    for (int i = 0; i < 300; i++) {
        OK(train_step(r.t, false, &stats));
        assert_false(stats.skipped);
        if (i == 0)
            first = stats.loss;
    }
    if (!(stats.loss < 0.25 * first))
        fail_msg("loss %g, at first %g", stats.loss, first);
    rig_close(&r);
}

/* The same global batch in one part, in two, and with surplus positions. */
static void test_accumulation(void **state)
{
    (void)state;
    static const int64_t parts[] = {1, 2, 3};
    float *got[3];
    int64_t n = 0;
    for (int i = 0; i < 3; i++) {
        rig r;
        train_stats s;
        rig_open(&r, false);
        r.o.accumulate = parts[i];
        rig_start(&r);
        for (int step = 0; step < 20; step++)
            OK(train_step(r.t, false, &s));
        got[i] = rig_state(&r, 0, &n);
        rig_close(&r);
    }
    for (int i = 1; i < 3; i++) {
        double d = rig_distance(got[i], got[0], n);
        if (!(d < 1e-6))
            fail_msg("in %d parts: %.3g away", (int)parts[i], d);
    }
    for (int i = 0; i < 3; i++)
        free(got[i]);
}

static void test_not_finite(void **state)
{
    (void)state;
    /* 1e30: the loss is finite, the square of its gradient is not */
    static const float coefs[] = {NAN, INFINITY, 1e30F};
    for (int i = 0; i < 3; i++) {
        rig r;
        saboteur s = {.from = 2, .to = 4, .coef = coefs[i]};
        train_stats stats;
        int64_t n;
        rig_open(&r, false);
        sabotage(&r, &s);
        rig_start(&r);
        for (int step = 0; step < 2; step++)
            OK(train_step(r.t, false, &stats));
        float *before = rig_all(&r, &n);
        for (int step = 2; step < 4; step++) {
            OK(train_step(r.t, false, &stats));
            assert_true(stats.skipped);
            assert_int_equal(stats.step, step);
            float *after = rig_all(&r, &n);
            assert_memory_equal(before, after, (size_t)n * sizeof *before);
            free(after);
        }
        OK(train_step(r.t, false, &stats));
        assert_false(stats.skipped);
        float *after = rig_all(&r, &n);
        assert_true(memcmp(before, after, (size_t)n * sizeof *before) != 0);
        for (int64_t k = 0; k < n; k++)
            assert_true(isfinite(after[k]));
        free(after);
        free(before);
        rig_close(&r);
    }
}

static void test_gives_up(void **state)
{
    (void)state;
    rig r;
    saboteur s = {.from = 1, .to = 100, .coef = NAN};
    train_stats stats;
    rig_open(&r, false);
    sabotage(&r, &s);
    rig_start(&r);
    OK(train_step(r.t, false, &stats));
    for (int i = 1; i < TRAIN_MAX_SKIPS; i++)
        OK(train_step(r.t, false, &stats));
    FAILS(MD_NONFINITE, "in a row were not finite", train_step(r.t, false, &stats));
    rig_close(&r);
}

/* Alone, a batch that cannot be made ends the training with its reason. */
static void test_failing_fill(void **state)
{
    (void)state;
    rig r;
    saboteur s = {.from = 1, .to = 2, .fail = true};
    train_stats stats;
    rig_open(&r, false);
    sabotage(&r, &s);
    rig_start(&r);
    OK(train_step(r.t, false, &stats));
    FAILS(MD_IO, "the disk is gone", train_step(r.t, false, &stats));
    rig_close(&r);
}

static void test_averages(void **state)
{
    (void)state;
    rig r;
    train_stats s;
    int64_t n;
    rig_open(&r, false);
    rig_start(&r);
    float *w = rig_state(&r, 0, &n), *e = rig_state(&r, 3, &n);
    assert_memory_equal(w, e, (size_t)n * sizeof *w);
    for (int step = 0; step < 3; step++) { /* (1 + k) / (10 + k) until it reaches `ema` */
        double k = step + 1, d = fmin(0.9, (1 + k) / (10 + k));
        OK(train_step(r.t, false, &s));
        free(w);
        w = rig_state(&r, 0, &n);
        float *now = rig_state(&r, 3, &n);
        for (int64_t i = 0; i < n; i++)
            e[i] = (float)(d * (double)e[i] + (1 - d) * (double)w[i]);
        assert_true(rig_distance(now, e, n) < 1e-7);
        free(now);
    }
    free(e);
    e = rig_state(&r, 3, &n);
    OK(train_swap_ema(r.t));
    float *a = rig_state(&r, 0, &n), *b = rig_state(&r, 3, &n);
    assert_memory_equal(a, e, (size_t)n * sizeof *a);
    assert_memory_equal(b, w, (size_t)n * sizeof *a);
    free(a);
    free(b);
    free(w);
    free(e);
    rig_close(&r);
}

/* What was promised before is what is taken; a budget below it costs work, not results. */
static void test_memory(void **state)
{
    (void)state;
    float *got[2];
    int64_t n;
    size_t need = 0, budget = 0, flops[2];
    for (int i = 0; i < 2; i++) {
        rig r;
        train_stats s;
        rig_open(&r, false);
        size_t before = r.be->allocated_bytes;
        r.o.budget_bytes = budget;
        OK(train_new(r.be, &r.params, 1, &r.task, &r.o, &r.t));
        assert_int_equal(r.be->allocated_bytes, before); /* planning takes nothing */
        train_bytes b = train_memory(r.t);
        assert_int_equal(b.total, b.weights + b.gradients + b.optimizer + b.activations + b.data +
                                      b.workspace);
        assert_true(b.data > sizeof r.moments);
        assert_int_equal(b.weights, before);
        OK(train_load(r.t));
        assert_int_equal(r.be->allocated_bytes, b.total);
        assert_true(i ? b.total <= budget && train_recomputed(r.t) > 0
                      : train_recomputed(r.t) == 0);
        for (int step = 0; step < 3; step++)
            OK(train_step(r.t, false, &s));
        assert_int_equal(r.be->allocated_bytes, b.total);
        got[i] = rig_state(&r, 0, &n);
        flops[i] = (size_t)md_plan_flops(train_plan(r.t));
        need = b.total;
        budget = need - b.activations / 5;
        rig_close(&r);
    }
    assert_true(flops[1] > flops[0]);
    assert_memory_equal(got[0], got[1], (size_t)n * sizeof *got[0]);
    free(got[0]);
    free(got[1]);

    rig r;
    rig_open(&r, false);
    r.o.budget_bytes = need / 2;
    FAILS(MD_NOMEM, "finetune.accumulate", train_new(r.be, &r.params, 1, &r.task, &r.o, &r.t));
    r.t = NULL;
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_overfits),     cmocka_unit_test(test_accumulation),
        cmocka_unit_test(test_not_finite),   cmocka_unit_test(test_gives_up),
        cmocka_unit_test(test_failing_fill), cmocka_unit_test(test_averages),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
