/* What a plan does for devices: residuals fused into the product before them, ranges that become
   ready while a run goes on, and runs that are recorded once and replayed. */
#include "backend/cpu/cpu.h"
#include "backend/ref/ref.h"
#include "base/rng.h"
#include "graph/plan.h"
#include "ops/grad.h"
#include "ops/ops.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != MD_OK)                                                                       \
            fail_msg("%s", md_status_text());                                                      \
    } while (0)

enum { N = 2, H = 3, W = 5, C = 4, MAX = 512 };

/* ---- a backend with queues around ref: while it records, launches are noted and not run */

typedef struct launched {
    md_status (*run)(const md_kernel *, void *const *, void *const *, void *);
    const md_kernel *k;
    void *const *in, *const *out;
    void *scratch;
} launched;

static struct recorder {
    md_backend *ref;
    bool recording;
    launched list[MAX];
    int n, begun, ended, dropped, replayed, forgotten;
    int released, released_early; /* kernels; those before the recording of them was forgotten */
    int fail_at;                  /* the launch that fails, counted down; 0: none */
} rec;

static md_status (*ref_run[MD_OP_COUNT])(const md_kernel *, void *const *, void *const *, void *);

static md_status noting_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    if (rec.fail_at && --rec.fail_at == 0)
        MD_FAIL(MD_DEVICE, "this launch fails");
    if (!rec.recording)
        return ref_run[k->node->op](k, in, out, scratch);
    assert_in_range(rec.n, 0, MAX - 1);
    rec.list[rec.n++] = (launched){ref_run[k->node->op], k, in, out, scratch};
    return MD_OK;
}

static void (*ref_release[MD_OP_COUNT])(md_kernel *);

static void noting_release(md_kernel *k)
{
    rec.released++;
    if (ref_release[k->node->op])
        ref_release[k->node->op](k);
}

static md_status noting_prepare(md_backend *be, const md_node *node, md_kernel *k)
{
    MD_TRY(rec.ref->ops->prepare[node->op](be, node, k));
    ref_run[node->op] = k->run;
    ref_release[node->op] = k->release;
    k->run = noting_run;
    k->release = noting_release;
    return MD_OK;
}

static md_status record_begin(md_backend *be)
{
    (void)be;
    assert_false(rec.recording);
    rec.recording = true;
    rec.n = 0;
    rec.begun++;
    return MD_OK;
}

static md_status record_end(md_backend *be, void **recording)
{
    (void)be;
    assert_true(rec.recording);
    rec.recording = false;
    rec.ended++;
    rec.dropped += recording == NULL;
    if (recording)
        *recording = &rec;
    return MD_OK;
}

static md_status replay(md_backend *be, void *recording)
{
    (void)be;
    assert_ptr_equal(recording, &rec);
    rec.replayed++;
    for (int i = 0; i < rec.n; i++)
        MD_TRY(
            rec.list[i].run(rec.list[i].k, rec.list[i].in, rec.list[i].out, rec.list[i].scratch));
    return MD_OK;
}

static void forget(md_backend *be, void *recording)
{
    (void)be;
    (void)recording;
    rec.forgotten++;
    rec.released_early = rec.released;
}

static const md_backend_queues queues = {
    .record_begin = record_begin, .record_end = record_end, .replay = replay, .forget = forget};

/* ref with some members changed. */
static md_backend_ops changed;
static md_prepare_fn prepare_table[MD_OP_COUNT];
static md_backend device;

static md_backend *like_ref(bool fuses, bool queued)
{
    memset(&rec, 0, sizeof rec);
    OK(ref_backend_open(&rec.ref));
    changed = *rec.ref->ops;
    changed.fuses_residual = fuses;
    changed.fuses_chains = false;
    for (int i = 0; i < MD_OP_COUNT; i++)
        prepare_table[i] = noting_prepare;
    if (queued) {
        changed.prepare = prepare_table;
        changed.queues = &queues;
    }
    device = *rec.ref;
    device.ops = &changed;
    return &device;
}

static void done_with(md_backend *be)
{
    assert_int_equal(be->allocated_bytes, 0);
    rec.ref->allocated_bytes = 0;
    rec.ref->ops->close(rec.ref);
}

/* ---- fusion */

typedef md_tensor *(*model_fn)(md_graph *g, md_tensor *x, md_tensor *w, md_tensor *v, md_tensor *b);

/* x [N,H,W,C], w [C,3,3,C], v [C,C], b [C], all from one seed -> y's values; how many nodes ran. */
static int values(model_fn model, bool fuses, double *y, int *n_nodes)
{
    static const int sizes[] = {N * H * W * C, C * 9 * C, C * C, C};
    md_backend *be = like_ref(fuses, false);
    md_graph *g;
    md_plan *p;
    OK(md_graph_new(&g));
    md_tensor *in[] = {md_input(g, "x", MD_F32, 4, MD_DIMS(N, H, W, C)),
                       md_input(g, "w", MD_F32, 4, MD_DIMS(C, 3, 3, C)),
                       md_input(g, "v", MD_F32, 2, MD_DIMS(C, C)),
                       md_input(g, "b", MD_F32, 1, MD_DIMS(C))};
    md_tensor *out = model(g, in[0], in[1], in[2], in[3]);
    OK(md_plan_build(g, be, &out, 1, &p));
    OK(md_plan_load(p));
    md_rng r = md_rng_at(7, MD_RNG_INIT, 0, 0);
    for (int i = 0; i < 4; i++) {
        float host[N * H * W * C + C * 9 * C];
        md_rng_normal_fill(&r, host, sizes[i]);
        OK(md_plan_write(p, in[i], host, MD_F32, sizes[i]));
    }
    OK(md_plan_run(p));
    OK(md_plan_read(p, out, y, MD_F64, md_numel(out)));
    *n_nodes = md_plan_n_nodes(p);
    int n = (int)md_numel(out);
    md_plan_free(p);
    md_graph_free(g);
    done_with(be);
    return n;
}

static md_tensor *conv(md_tensor *x, md_tensor *w, md_tensor *b)
{
    return md_conv2d(x, w, b, 1, 1, 1, 1, 1);
}

static md_tensor *tokens(md_tensor *x)
{
    return md_reshape(x, 3, MD_DIMS(N, H * W, C));
}

static md_tensor *resnet_end(md_graph *g, md_tensor *x, md_tensor *w, md_tensor *v, md_tensor *b)
{
    (void)g;
    (void)v;
    md_tensor *h = md_silu(x);
    return md_add(x, conv(h, w, b)); /* fused: 3 nodes become 2 */
}

static md_tensor *transformer_end(md_graph *g, md_tensor *x, md_tensor *w, md_tensor *v,
                                  md_tensor *b)
{
    (void)g;
    (void)w;
    md_tensor *h = md_linear(tokens(md_silu(x)), v, b);
    return md_add(x,
                  md_reshape(h, 4, MD_DIMS(N, H, W, C))); /* a linear under another shape: fused */
}

static md_tensor *shortcut(md_graph *g, md_tensor *x, md_tensor *w, md_tensor *v, md_tensor *b)
{
    (void)g;
    md_tensor *s = md_linear(x, v, NULL), *h = conv(md_silu(x), w, b);
    return md_add(s, h); /* one of the two is fused, the other is its residual */
}

static md_tensor *read_twice(md_graph *g, md_tensor *x, md_tensor *w, md_tensor *v, md_tensor *b)
{
    (void)g;
    (void)v;
    md_tensor *h = conv(md_silu(x), w, b);
    return md_mul(md_add(x, h), h); /* not fused: h is needed for itself */
}

static md_tensor *broadcast(md_graph *g, md_tensor *x, md_tensor *w, md_tensor *v, md_tensor *b)
{
    (void)g;
    (void)v;
    return md_add(conv(md_silu(x), w, b), b); /* not fused: b is smaller */
}

static md_tensor *chain(md_graph *g, md_tensor *x, md_tensor *w, md_tensor *v, md_tensor *b)
{
    md_tensor *y = resnet_end(g, x, w, v, b);
    y = transformer_end(g, y, w, v, b);
    return md_add(resnet_end(g, y, w, v, b), y); /* the last addition finds its product taken */
}

static void test_fusion(void **state)
{
    (void)state;
    static const struct {
        model_fn model;
        int saved;
    } rows[] = {{resnet_end, 1}, {transformer_end, 1}, {shortcut, 1},
                {read_twice, 0}, {broadcast, 0},       {chain, 3}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double plain[N * H * W * C], fused[N * H * W * C];
        int before, after, n = values(rows[i].model, false, plain, &before);
        assert_int_equal(values(rows[i].model, true, fused, &after), n);
        if (before - after != rows[i].saved)
            fail_msg("row %zu: %d nodes, then %d", i, before, after);
        for (int k = 0; k < n; k++)
            if (!(fabs(plain[k] - fused[k]) <= 1e-12 * (1 + fabs(plain[k]))))
                fail_msg("row %zu, element %d: %g, fused %g", i, k, plain[k], fused[k]);
    }
}

/* z = linear(x, w) + x, where an update of w lies between the two or not. */
static double with_update(bool fuses, bool between, int *n_nodes)
{
    md_backend *be = like_ref(fuses, false);
    md_graph *g;
    md_plan *p;
    md_buffer weights;
    double host[C * C], z[C * C], sum = 0;
    OK(md_graph_new(&g));
    md_buffer_init(&weights, "weights", MD_F32, C * C);
    OK(md_buffer_alloc(be, &weights));
    md_tensor *x = md_input(g, "x", MD_F32, 2, MD_DIMS(C, C));
    md_tensor *w = md_extern(g, &weights, 0, 2, MD_DIMS(C, C)), *out[2];
    md_tensor *h = md_linear(x, w, NULL);
    if (between)
        out[1] = md_write(w, md_scale(x, 3));
    out[0] = md_add(h, x);
    if (!between)
        out[1] = md_write(w, md_scale(x, 3));
    OK(md_plan_build(g, be, out, 2, &p));
    OK(md_plan_load(p));
    for (int i = 0; i < C * C; i++)
        host[i] = sin(i + 1.0);
    OK(md_buffer_write(be, &weights, 0, host, MD_F64, C * C));
    OK(md_plan_write(p, x, host, MD_F64, C * C));
    OK(md_plan_run(p));
    OK(md_plan_read(p, out[0], z, MD_F64, C * C));
    for (int i = 0; i < C * C; i++)
        sum += (i + 1) * z[i];
    *n_nodes = md_plan_n_nodes(p);
    md_plan_free(p);
    md_graph_free(g);
    md_buffer_release(be, &weights);
    done_with(be);
    return sum;
}

/* The same in bf16, where AdamW rewrites w as its shadow between the two; how many nodes run. */
static int with_adamw(bool fuses)
{
    md_backend *be = like_ref(fuses, false);
    md_graph *g;
    md_plan *p;
    md_buffer state, copy;
    OK(md_graph_new(&g));
    md_buffer_init(&state, "p, m, v", MD_F32, 3 * C * C);
    md_buffer_init(&copy, "copy", MD_BF16, C * C);
    md_tensor *x = md_input(g, "x", MD_BF16, 2, MD_DIMS(C, C));
    md_tensor *w = md_extern(g, &copy, 0, 2, MD_DIMS(C, C)), *s[3], *out[2];
    for (int i = 0; i < 3; i++)
        s[i] = md_extern(g, &state, i * C * C, 2, MD_DIMS(C, C));
    md_tensor *h = md_linear(x, w, NULL);
    const md_adamw_tensors a = {.p = s[0], .g = x, .m = s[1], .v = s[2], .shadow = w};
    out[1] = md_adamw(&a, md_input(g, "gnorm2", MD_F32, 1, MD_DIMS(1)),
                      md_input(g, "hyper", MD_F32, 1, MD_DIMS(MD_HYPER_COUNT)), 0.9, 0.99, 1e-8, 0);
    out[0] = md_add(h, x);
    OK(md_plan_build(g, be, out, 2, &p));
    int n = md_plan_n_nodes(p);
    md_plan_free(p);
    md_graph_free(g);
    done_with(be);
    return n;
}

static void test_fusion_past_an_update(void **state)
{
    (void)state;
    int n, fused_n;
    double want = with_update(false, true, &n), tiny = 1e-12 * fabs(want);
    assert_true(fabs(with_update(true, true, &fused_n) - want) <= tiny);
    assert_int_equal(fused_n, n);
    assert_true(fabs(with_update(true, false, &fused_n) - want) <= tiny);
    assert_int_equal(fused_n, n - 1);
    assert_int_equal(with_adamw(false), 3);
    assert_int_equal(with_adamw(true), 3);
}

/* ---- a small training graph: gradients of two weights in one buffer */

enum { WEIGHTS = 32, GRADS = 2 * WEIGHTS };

typedef struct training {
    md_graph *g;
    md_plan *p;
    md_buffer weights, grads;
    md_tensor *x, *loss;
    int called[4], n_called;
    double seen[GRADS]; /* each range as it was when it was ready */
    md_backend *be;
    md_range ranges[4];
} training;

static void training_new(training *t, md_backend *be)
{
    memset(t, 0, sizeof *t);
    t->be = be;
    OK(md_graph_new(&t->g));
    md_buffer_init(&t->weights, "weights", MD_F32, GRADS);
    md_buffer_init(&t->grads, "gradients", MD_F32, GRADS);
    OK(md_buffer_alloc(be, &t->weights));
    OK(md_buffer_alloc(be, &t->grads));
    t->x = md_input(t->g, "x", MD_F32, 2, MD_DIMS(3, 8));
    md_tensor *w[] = {md_extern(t->g, &t->weights, 0, 2, MD_DIMS(4, 8)),
                      md_extern(t->g, &t->weights, WEIGHTS, 2, MD_DIMS(8, 4))};
    md_tensor *y = md_linear(md_silu(md_linear(t->x, w[0], NULL)), w[1], NULL);
    t->loss = md_sum(md_mul(y, y));
    md_tensor *grad[2], *out[3];
    OK(md_grad(t->loss, w, 2, 0, grad));
    for (int i = 0; i < 2; i++)
        out[i] = md_write(md_extern(t->g, &t->grads, WEIGHTS * i, 2, w[i]->dim), grad[i]);
    out[2] = t->loss;
    OK(md_plan_build(t->g, be, out, 3, &t->p));
    OK(md_plan_load(t->p));
    double host[GRADS];
    for (int i = 0; i < GRADS; i++)
        host[i] = sin(i + 1.0);
    OK(md_buffer_write(be, &t->weights, 0, host, MD_F64, GRADS));
    OK(md_plan_write(t->p, t->x, host, MD_F64, 24));
}

static void training_free(training *t)
{
    md_plan_free(t->p);
    md_graph_free(t->g);
    md_buffer_release(t->be, &t->weights);
    md_buffer_release(t->be, &t->grads);
}

static md_status is_ready(void *user, int range)
{
    training *t = user;
    const md_range *r = &t->ranges[range];
    t->called[t->n_called++ % 4] = range;
    return md_buffer_read(t->be, r->buffer, r->first, t->seen + r->first, MD_F64,
                          r->end - r->first);
}

static void test_ready_ranges(void **state)
{
    (void)state;
    training t;
    md_backend *be;
    OK(cpu_backend_open(&be, 1));
    training_new(&t, be);
    const md_range ranges[] = {{&t.grads, 0, WEIGHTS}, {&t.grads, WEIGHTS, GRADS}};
    memcpy(t.ranges, ranges, sizeof ranges);
    OK(md_plan_on_written(t.p, ranges, 2, is_ready, &t));
    for (int run = 1; run <= 2; run++) {
        double final[GRADS];
        memset(t.seen, 0, sizeof t.seen);
        OK(md_plan_run(t.p));
        OK(md_buffer_read(be, &t.grads, 0, final, MD_F64, GRADS));
        assert_int_equal(t.n_called, 2 * run);
        assert_int_equal(t.called[0], 1); /* the last layer's gradient is ready first */
        assert_int_equal(t.called[1], 0);
        assert_memory_equal(t.seen, final, sizeof final);
        assert_true(fabs(final[0]) > 0);
    }
    assert_int_equal(md_plan_on_written(t.p, ranges, 2, is_ready, &t), MD_INTERNAL); /* too late */
    training_free(&t);
    be->ops->close(be);
}

static md_status spoil(void *user, int range)
{
    training *t = user;
    const md_range *r = &t->ranges[range];
    double other[WEIGHTS];
    for (int i = 0; i < WEIGHTS; i++)
        other[i] = 1e6;
    t->n_called++;
    return md_buffer_write(t->be, (md_buffer *)r->buffer, r->first, other, MD_F64,
                           r->end - r->first);
}

/* The gradient of `bias` is that of the sum itself: placed in the gradients' buffer, and read there
   for the weights before it. Only then may others change it. Profiled runs say it as well. */
static void test_ready_after_readers(void **state)
{
    (void)state;
    for (int profile = 0; profile < 2; profile++) {
        training t = {0};
        double host[WEIGHTS], want[WEIGHTS], got[WEIGHTS];
        OK(cpu_backend_open(&t.be, 1));
        OK(md_graph_new(&t.g));
        md_buffer_init(&t.weights, "weights", MD_F32, GRADS);
        md_buffer_init(&t.grads, "gradients", MD_F32, GRADS);
        OK(md_buffer_alloc(t.be, &t.weights));
        OK(md_buffer_alloc(t.be, &t.grads));
        t.x = md_input(t.g, "x", MD_F32, 2, MD_DIMS(8, 8));
        md_tensor *w[] = {md_extern(t.g, &t.weights, 0, 2, MD_DIMS(4, 8)),
                          md_extern(t.g, &t.weights, WEIGHTS, 2, MD_DIMS(8, 4))};
        md_tensor *y = md_add(md_linear(t.x, w[0], NULL), w[1]), *grad[2], *out[2];
        OK(md_grad(md_sum(md_mul(y, y)), w, 2, 0, grad));
        for (int i = 0; i < 2; i++)
            out[i] = md_write(md_extern(t.g, &t.grads, WEIGHTS * i, 2, w[i]->dim), grad[i]);
        for (int spoils = 0; spoils < 2; spoils++) {
            OK(md_plan_build(t.g, t.be, out, 2, &t.p));
            OK(md_plan_load(t.p));
            for (int i = 0; i < WEIGHTS; i++)
                host[i] = sin(i + 1.0);
            OK(md_buffer_write(t.be, &t.weights, 0, host, MD_F64, WEIGHTS));
            double x[64];
            for (int i = 0; i < 64; i++)
                x[i] = cos(i);
            OK(md_plan_write(t.p, t.x, x, MD_F64, 64));
            t.ranges[0] = (md_range){&t.grads, WEIGHTS, GRADS};
            if (spoils)
                OK(md_plan_on_written(t.p, t.ranges, 1, spoil, &t));
            md_plan_profile(t.p, profile);
            OK(md_plan_run(t.p));
            OK(md_buffer_read(t.be, &t.grads, 0, spoils ? got : want, MD_F64, WEIGHTS));
            md_plan_free(t.p);
        }
        assert_int_equal(t.n_called, 1);
        assert_memory_equal(got, want, sizeof want);
        md_graph_free(t.g);
        md_buffer_release(t.be, &t.weights);
        md_buffer_release(t.be, &t.grads);
        t.be->ops->close(t.be);
    }
}

static md_status count(void *user, int range)
{
    (void)range;
    ++*(int *)user;
    return MD_OK;
}

static void test_recording(void **state)
{
    (void)state;
    training t;
    double loss[4], scale = 1;
    int ready = 0;
    training_new(&t, like_ref(false, true));
    const md_range range = {&t.grads, 0, GRADS};
    OK(md_plan_on_written(t.p, &range, 1, count, &ready));
    for (int i = 0; i < 4; i++, scale *= 2) {
        double x[24];
        for (int k = 0; k < 24; k++)
            x[k] = scale * cos(k);
        OK(md_plan_write(t.p, t.x, x, MD_F64, 24));
        OK(md_plan_run(t.p));
        OK(md_plan_read(t.p, t.loss, &loss[i], MD_F64, 1));
    }
    assert_int_equal(rec.begun,
                     1); /* the first run is not recorded, later ones are one recording */
    assert_int_equal(rec.ended, 1);
    assert_int_equal(rec.replayed, 3);
    assert_int_equal(ready, 2); /* in the first run and while recording */
    assert_true(loss[1] > 2 * loss[0] && loss[3] > 2 * loss[2]); /* replays read the new inputs */
    training_free(&t);
    assert_int_equal(rec.forgotten, 1);
    assert_int_equal(rec.released_early, 0); /* what was recorded may run until then */
    assert_true(rec.released > 5);
    done_with(&device);
}

static void test_recording_fails(void **state)
{
    (void)state;
    training t;
    double first, after;
    training_new(&t, like_ref(false, true));
    OK(md_plan_run(t.p));
    OK(md_plan_read(t.p, t.loss, &first, MD_F64, 1));
    rec.fail_at = 3;
    assert_int_equal(md_plan_run(t.p), MD_DEVICE);
    assert_non_null(strstr(md_status_text(), "this launch fails"));
    assert_int_equal(rec.dropped, 1); /* the recording was ended all the same */
    OK(md_plan_run(t.p));
    OK(md_plan_read(t.p, t.loss, &after, MD_F64, 1));
    assert_true(first == after);
    training_free(&t);
    done_with(&device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fusion),       cmocka_unit_test(test_fusion_past_an_update),
        cmocka_unit_test(test_ready_ranges), cmocka_unit_test(test_ready_after_readers),
        cmocka_unit_test(test_recording),    cmocka_unit_test(test_recording_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
