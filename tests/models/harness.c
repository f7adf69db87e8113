/* See harness.h. */
#include "harness.h"
#include "backend/open.h"
#include "backend/ref/ref.h"
#include "base/file.h"
#include "graph/plan.h"
#include "ops/grad.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != MD_OK)                                                                       \
            fail_msg("%s", md_status_text());                                                      \
    } while (0)

/* ---- golden files */

/* The header is JSON written by the safetensors library: no spaces, one object per tensor. */
static void parse_header(golden *g, const char *header, const char *end, const char *data)
{
    const char *p = header;
    for (const char *q = header; (q = strstr(q, "\"dtype\"")) && q < end; q++)
        g->n++;
    g->t = calloc((size_t)g->n + 1, sizeof *g->t);
    assert_non_null(g->t);
    for (int i = 0; i < g->n; i++) {
        golden_tensor *t = &g->t[i];
        const char *d = strstr(p, ":{\"dtype\":\""), *name = d - 1;
        while (name[-1] != '"')
            name--;
        memcpy(t->name, name, (size_t)(d - 1 - name));
        t->i32 = !strncmp(d + 11, "I32", 3);
        assert_true(t->i32 || !strncmp(d + 11, "F32", 3));
        p = strstr(d, "\"shape\":[") + 9;
        t->numel = 1;
        while (*p != ']') {
            t->dim[t->ndim] = strtoll(p, (char **)&p, 10);
            t->numel *= t->dim[t->ndim++];
            p += *p == ',';
        }
        t->data = data + strtoll(strstr(p, "\"data_offsets\":[") + 16, NULL, 10);
    }
}

golden golden_open(const char *path)
{
    golden g = {0};
    size_t bytes;
    snprintf(g.path, sizeof g.path, "%s%s", GOLDEN, path);
    OK(md_file_read(g.path, 4 << 20, &g.file, &bytes));
    uint64_t n_header;
    memcpy(&n_header, g.file, 8);
    assert_true(n_header < bytes);
    const char *header = (const char *)g.file + 8;
    parse_header(&g, header, header + n_header, header + n_header);
    return g;
}

void golden_close(golden *g)
{
    free(g->file);
    free(g->t);
}

const golden_tensor *golden_get(const golden *g, const char *fmt, ...)
{
    char name[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    for (int i = 0; i < g->n; i++)
        if (!strcmp(g->t[i].name, name))
            return &g->t[i];
    fail_msg("%s has no %s", g->path, name);
    return NULL;
}

/* ---- graph pieces that build functions use */

md_tensor *feed(model_graph *b, const char *name)
{
    const golden_tensor *q = golden_get(b->golden, "%s", name);
    md_tensor *t = md_input(b->g, name, q->i32 ? MD_I32 : MD_F32, q->ndim, q->dim);
    assert_true(b->n_in < MAX_LEAVES);
    b->in[b->n_in].golden = name;
    b->in[b->n_in++].t = t;
    return q->i32 ? t : md_cast(t, b->m.dtype);
}

md_tensor *given(model_graph *b, float *values, int64_t rows, int64_t columns)
{
    assert_true(b->n_in < MAX_LEAVES);
    md_tensor *t = md_input(b->g, "given", MD_F32, 2, MD_DIMS(rows, columns));
    b->in[b->n_in].values = values;
    b->in[b->n_in++].t = t;
    return t;
}

void expect(model_graph *b, md_tensor *t, const char *name, const char *weight)
{
    t = md_cast(t, MD_F32);
    b->out[b->n_out].golden = name;
    b->out[b->n_out++].t = t;
    if (!weight)
        return;
    const golden_tensor *q = golden_get(b->golden, "%s", weight);
    md_tensor *w = md_input(b->g, weight, MD_F32, q->ndim, q->dim);
    b->in[b->n_in].golden = weight;
    b->in[b->n_in++].t = w;
    md_tensor *l = md_sum(md_mul(t, w));
    b->loss = b->loss ? md_add(b->loss, l) : l;
}

void expect_gradient(model_graph *b, md_tensor *input, const char *name)
{
    b->extra[b->n_extra].golden = name;
    b->extra[b->n_extra++].leaf = input;
}

/* ---- comparison */

typedef struct tolerance {
    double tap, gradient;
} tolerance;

/* f32: a chain of some fifty layers with errors of 6e-8 each, amplified by norms over few elements.
   Measured: 1e-6 and 1.4e-5. */
static const tolerance CPU = {5e-6, 5e-5};
/* Conv gradients and weights are O,kh,kw,I in memory and O,I,kh,kw in files. */
static double golden_at(const golden_tensor *q, const nn_param_info *layout, int64_t i)
{
    if (layout && layout->conv) {
        int64_t kh = layout->dim[1], kw = layout->dim[2], ci = layout->dim[3];
        int64_t c = i % ci, x = i / ci % kw, y = i / ci / kw % kh, o = i / ci / kw / kh;
        i = ((o * ci + c) * kh + y) * kw + x;
    }
    return ((const float *)q->data)[i];
}

/* Largest difference divided by the largest golden value, which counts as at least `floor`: some
   gradients are zero but for rounding (a key's bias shifts all logits of a softmax alike). */
static double difference(const double *got, const golden_tensor *q, const nn_param_info *layout,
                         double floor)
{
    double worst = 0, largest = floor;
    for (int64_t i = 0; i < q->numel; i++) {
        double want = golden_at(q, layout, i);
        if (!isfinite(got[i]) || !isfinite(want))
            return INFINITY;
        worst = fmax(worst, fabs(got[i] - want));
        largest = fmax(largest, fabs(want));
    }
    return worst / largest;
}

/* Sums for a relative L2 over many tensors. */
typedef struct l2 {
    double difference, golden;
} l2;

static void l2_add(l2 *sum, const double *got, const golden_tensor *q, const nn_param_info *layout)
{
    for (int64_t i = 0; i < q->numel; i++) {
        double want = golden_at(q, layout, i);
        sum->difference += (got[i] - want) * (got[i] - want);
        sum->golden += want * want;
    }
}

/* ---- one run */

typedef struct session {
    md_backend *be;
    nn_params *params;
    golden golden;
    model_config config;
    nn_taps taps;
    model_graph b;
    md_tensor **leaf, **grad; /* parameters, then extra inputs */
    int n_params, n_leaves;
    md_plan *plan;
    double *host;
} session;

/* As a foundation folder holds them: one file, or several with an index. */
static void load_weights(session *s, const model_case *c, const model_row *row)
{
    char path[256];
    snprintf(path, sizeof path, "%s%s/%s.safetensors", GOLDEN, c->folder, row->weights);
    if (!md_file_exists(path))
        snprintf(path, sizeof path, "%s%s/%s.safetensors.index.json", GOLDEN, c->folder,
                 row->weights);
    OK(md_buffer_alloc(s->be, nn_params_buffer(s->params)));
    OK(nn_params_load(s->params, s->be, path, &row->rules));
}

static void open_session(session *s, const model_case *c, md_backend *be, md_dtype dtype)
{
    char path[256];
    const model_row *row = model_registry(c->part);
    snprintf(path, sizeof path, "%s.expected.safetensors", c->expected ? c->expected : c->folder);
    s->be = be;
    s->golden = golden_open(path);
    snprintf(path, sizeof path, "%s%s/config.json", GOLDEN, c->folder);
    OK(row->read(path, &s->config));
    OK(nn_params_new(c->folder, &s->params));
    OK(row->declare(s->params, &s->config));
    s->n_params = nn_params_count(s->params);
    load_weights(s, c, row);

    model_graph *b = &s->b;
    OK(md_graph_new(&b->g));
    b->golden = &s->golden;
    b->m = nn_root(b->g, s->params, dtype);
    b->m.taps = &s->taps;
    c->build(b, &s->config);
    OK(md_graph_check(b->g));
}

/* Gradients, plan, inputs, run. */
static void run_session(session *s, int n_recompute)
{
    model_graph *b = &s->b;
    s->n_leaves = s->n_params + b->n_extra;
    s->leaf = calloc((size_t)s->n_leaves, sizeof *s->leaf);
    s->grad = calloc((size_t)s->n_leaves, sizeof *s->grad);
    nn_params_tensors(s->params, b->g, s->leaf);
    for (int i = 0; i < s->n_params; i++)
        if (!s->leaf[i])
            fail_msg("the graph does not use %s", nn_params_info(s->params, i)->name);
    for (int i = 0; i < b->n_extra; i++)
        s->leaf[s->n_params + i] = b->extra[i].leaf;
    OK(md_grad(b->loss, s->leaf, s->n_leaves, n_recompute, s->grad));
    int n = 0;
    md_tensor **wanted = calloc((size_t)(s->n_leaves + s->taps.n + b->n_out), sizeof *wanted);
    for (int i = 0; i < s->n_leaves; i++) {
        if (!s->grad[i])
            fail_msg("no gradient for leaf %d", i);
        wanted[n++] = s->grad[i];
    }
    for (int i = 0; i < s->taps.n; i++)
        wanted[n++] = s->taps.tap[i].t;
    for (int i = 0; i < b->n_out; i++)
        wanted[n++] = b->out[i].t;
    OK(md_plan_build(b->g, s->be, wanted, n, &s->plan));
    free(wanted);
    OK(md_plan_load(s->plan));
    for (int i = 0; i < b->n_in; i++) {
        if (b->in[i].values) {
            md_tensor *t = b->in[i].t;
            OK(md_plan_write(s->plan, t, b->in[i].values, MD_F32, md_numel(t)));
            continue;
        }
        const golden_tensor *q = golden_get(&s->golden, "%s", b->in[i].golden);
        OK(md_plan_write(s->plan, b->in[i].t, q->data, q->i32 ? MD_I32 : MD_F32, q->numel));
    }
    OK(md_plan_run(s->plan));
    s->host = malloc(sizeof(double) << 20);
}

static const double *fetch(session *s, md_tensor *t, const golden_tensor *q, const char *name)
{
    if (md_numel(t) != q->numel)
        fail_msg("%s: %s, golden has %lld elements", name, md_shape_text(t), (long long)q->numel);
    OK(md_plan_read(s->plan, t, s->host, MD_F64, q->numel));
    return s->host;
}

static void close_session(session *s)
{
    for (int i = 0; i < s->b.n_in; i++)
        free(s->b.in[i].values);
    md_plan_free(s->plan);
    md_graph_free(s->b.g);
    nn_params_free(s->params, s->be);
    s->be->ops->close(s->be);
    golden_close(&s->golden);
    free(s->leaf);
    free(s->grad);
    free(s->host);
}

/* The golden gradient of leaf i: of a parameter, then of the inputs that ask for one. */
static const golden_tensor *golden_gradient(session *s, int i)
{
    return i < s->n_params ? golden_get(&s->golden, "grad.%s", nn_params_info(s->params, i)->name)
                           : golden_get(&s->golden, "%s", s->b.extra[i - s->n_params].golden);
}

/* A thousandth of the largest gradient of all leaves. */
static double gradient_floor(session *s)
{
    double largest = 0;
    for (int i = 0; i < s->n_leaves; i++) {
        const golden_tensor *q = golden_gradient(s, i);
        for (int64_t k = 0; k < q->numel; k++)
            largest = fmax(largest, fabs(golden_at(q, NULL, k)));
    }
    return 1e-3 * largest;
}

static void compare(session *s, tolerance tol)
{
    double worst_tap = 0, worst_grad = 0;
    assert_true(s->taps.n > 4);
    for (int i = 0; i < s->taps.n; i++) { /* in the order of the forward pass */
        const char *name = s->taps.tap[i].path;
        const golden_tensor *q = golden_get(&s->golden, "tap.%s", name);
        double e = difference(fetch(s, s->taps.tap[i].t, q, name), q, NULL, 1e-30);
        if (!(e <= tol.tap))
            fail_msg("%s: the first layer that differs from the golden values is %s: %.3g > %.3g",
                     s->be->ops->name, name, e, tol.tap);
        worst_tap = fmax(worst_tap, e);
    }
    for (int i = 0; i < s->b.n_out; i++) {
        const golden_tensor *q = golden_get(&s->golden, "%s", s->b.out[i].golden);
        double e = difference(fetch(s, s->b.out[i].t, q, q->name), q, NULL, 1e-30);
        if (!(e <= tol.tap))
            fail_msg("%s: output %s: %.3g > %.3g", s->be->ops->name, q->name, e, tol.tap);
        worst_tap = fmax(worst_tap, e);
    }
    double floor = gradient_floor(s);
    for (int i = s->n_leaves - 1; i >= 0; i--) { /* roughly in the order of the backward pass */
        const nn_param_info *p = i < s->n_params ? nn_params_info(s->params, i) : NULL;
        const golden_tensor *q = golden_gradient(s, i);
        double e = difference(fetch(s, s->grad[i], q, q->name), q, p, floor);
        if (!(e <= tol.gradient))
            fail_msg("%s: %s: %.3g > %.3g", s->be->ops->name, q->name, e, tol.gradient);
        worst_grad = fmax(worst_grad, e);
    }
    print_message("%s: %d taps, worst %.2g; %d gradients, worst %.2g\n", s->be->ops->name,
                  s->taps.n, worst_tap, s->n_leaves, worst_grad);
}

/* Outputs and gradients as two long vectors. */
static void compare_l2(session *s, tolerance tol)
{
    l2 out = {0}, grad = {0};
    for (int i = 0; i < s->b.n_out; i++) {
        const golden_tensor *q = golden_get(&s->golden, "%s", s->b.out[i].golden);
        l2_add(&out, fetch(s, s->b.out[i].t, q, q->name), q, NULL);
    }
    for (int i = 0; i < s->n_leaves; i++) {
        const golden_tensor *q = golden_gradient(s, i);
        l2_add(&grad, fetch(s, s->grad[i], q, q->name), q,
               i < s->n_params ? nn_params_info(s->params, i) : NULL);
    }
    double e_out = sqrt(out.difference / out.golden), e_grad = sqrt(grad.difference / grad.golden);
    print_message("%s bf16: relative L2 of outputs %.2g, of gradients %.2g\n", s->be->ops->name,
                  e_out, e_grad);
    if (!(e_out <= tol.tap) || !(e_grad <= tol.gradient))
        fail_msg("bf16: more than %.2g or %.2g", tol.tap, tol.gradient);
}

static void run_and_compare(const model_case *c, md_backend *be, md_dtype dtype, tolerance tol)
{
    session s = {0};
    open_session(&s, c, be, dtype);
    run_session(&s, 0);
    (dtype == MD_BF16 ? compare_l2 : compare)(&s, tol);
    close_session(&s);
}

static void check_ref(const model_case *c)
{
    md_backend *be;
    OK(ref_backend_open(&be));
    run_and_compare(c, be, MD_F32, (tolerance){c->ref_tolerance, c->ref_tolerance});
}

/* MEDDIFF_TEST_DEVICE, or the CPU. */
static md_backend *open_tested(void)
{
    const char *device = getenv("MEDDIFF_TEST_DEVICE");
    md_backend *be = NULL;
    const backend_options o = {.device = device && *device ? device : "cpu",
                               .threads = 2,
                               .sharing = 1,
                               .workspace_mib = 512,
                               .deterministic = true};
    OK(backend_open(&o, &be));
    return be;
}

static void check_cpu(const model_case *c)
{
    md_backend *be = open_tested();
    run_and_compare(c, be, MD_F32, CPU);
}

static void check_cpu_bf16(const model_case *c)
{
    md_backend *be = open_tested();
    run_and_compare(c, be, MD_BF16, (tolerance){c->bf16_out, c->bf16_gradient});
}

/* Twice without and once with: what differs already between equal plans is the device's doing. */
static void check_recompute(const model_case *c)
{
    static const char *const what[] = {"", "the same plan", "recomputing"};
    double *kept[3] = {0};
    for (int pass = 0; pass < 3; pass++) {
        int64_t n_values = 0;
        session s = {0};
        md_backend *be = open_tested();
        open_session(&s, c, be, MD_F32);
        int n_blocks = md_graph_n_blocks(s.b.g);
        assert_true(n_blocks > 1);
        /* A tap keeps a forward node from taking in the addition behind it, but not the recomputed
           one, and a GPU's libraries add bias and residual in another order. */
        s.taps.n = 0;
        run_session(&s, pass == 2 ? n_blocks : 0);
        kept[pass] = malloc(sizeof(double) << 20);
        int differ = 0;
        for (int i = s.n_leaves - 1; i >= 0; i--) { /* roughly in the order of the backward pass */
            int64_t n = md_numel(s.grad[i]), off = 0;
            double worst = 0;
            assert_true(n_values + n <= 1 << 20);
            OK(md_plan_read(s.plan, s.grad[i], kept[pass] + n_values, MD_F64, n));
            for (int64_t j = n_values; pass && j < n_values + n; j++) {
                off += kept[0][j] != kept[pass][j];
                worst = fmax(worst, fabs(kept[0][j] - kept[pass][j]) / (1e-30 + fabs(kept[0][j])));
            }
            if (off && differ++ < 4)
                print_error("%s: gradient %d %s, %s: %lld of %lld elements differ, by up to %.2g\n",
                            what[pass], i, s.leaf[i]->buffer ? s.leaf[i]->buffer->name : "input",
                            md_shape_text(s.grad[i]), (long long)off, (long long)n, worst);
            n_values += n;
        }
        close_session(&s);
        if (differ)
            fail_msg("%s: %d gradients differ", what[pass], differ);
    }
    for (int pass = 0; pass < 3; pass++)
        free(kept[pass]);
}

static const model_case *the_cases;
static int n_cases;

static void each(void (*check)(const model_case *))
{
    for (int i = 0; i < n_cases; i++)
        check(&the_cases[i]);
}

static void test_ref(void **state)
{
    (void)state;
    each(check_ref);
}

static void test_cpu(void **state)
{
    (void)state;
    each(check_cpu);
}

static void test_cpu_bf16(void **state)
{
    (void)state;
    each(check_cpu_bf16);
}

static void test_recompute(void **state)
{
    (void)state;
    each(check_recompute);
}

int model_cases_run(const model_case *cases, int n)
{
    the_cases = cases;
    n_cases = n;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ref), cmocka_unit_test(test_cpu),
                                       cmocka_unit_test(test_cpu_bf16),
                                       cmocka_unit_test(test_recompute)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
