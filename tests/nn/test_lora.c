/* Adapters: which layers get one, what they compute, that nothing else is differentiated, and their
   files: what is written, what is refused, the sum with the weights. */
#include "backend/ref/ref.h"
#include "base/file.h"
#include "format/safetensors.h"
#include "graph/plan.h"
#include "nn/lora.h"
#include "ops/grad.h"
#include "support/tmp_dir.h"
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
#define FAILS(text, call)                                                                          \
    do {                                                                                           \
        assert_int_equal(call, MD_BAD_INPUT);                                                      \
        if (!strstr(md_status_text(), text))                                                       \
            fail_msg("no \"%s\" in: %s", text, md_status_text());                                  \
    } while (0)

enum { PIXELS = 7, OUT = 5 };

static char folder[256];
static md_backend *be;

/* x [2,7,7,3] -> [2,4,4,5]: one of each layer that can have an adapter, and one that cannot. */
static md_tensor *model(nn m, md_tensor *x)
{
    x = nn_conv2d_pad(nn_in(m, "stem"), "conv", x, 4, 3, 2, 0, 1, 2, 1); /* [2,4,4,4] */
    x = nn_group_norm(m, "norm", x, 2, 1e-5, MD_ACT_SILU);
    x = nn_linear_conv(m, "shortcut", x, 6, true); /* [2,4,4,6] */
    x = nn_linear(m, "subproj", x, 6, true);
    return nn_linear(nn_in(m, "out.%d", 0), "proj", md_silu(x), OUT, false);
}

typedef struct built {
    md_graph *g;
    md_tensor *x, *y;
} built;

static built build(nn_params *p, md_dtype dtype)
{
    built b;
    OK(md_graph_new(&b.g));
    b.x = md_input(b.g, "x", MD_F32, 4, MD_DIMS(2, PIXELS, PIXELS, 3));
    b.y = model(nn_root(b.g, p, dtype), md_cast(b.x, dtype));
    return b;
}

static void declare(nn_params *p)
{
    built b = build(p, MD_F32);
    OK(md_graph_check(b.g));
    md_graph_free(b.g);
    OK(nn_params_close(p));
}

/* A drawn store; with `o`, drawn adapters too, none of them zero. */
static nn_params *made(const nn_lora *o)
{
    nn_params *p;
    OK(nn_params_new("toy", &p));
    declare(p);
    OK(nn_params_alloc(p, be));
    OK(nn_params_randomize(p, be, 1));
    if (!o)
        return p;
    OK(nn_lora_add(p, o));
    declare(p);
    nn_params *a = nn_lora_adapters(p);
    OK(nn_params_alloc(a, be));
    OK(nn_params_randomize(a, be, 2));
    return p;
}

static void draw_b(nn_params *a)
{
    for (int i = 1; i < nn_params_count(a); i += 2) {
        float b[64];
        int64_t n = nn_params_info(a, i)->numel;
        assert_in_range(n, 1, 64);
        for (int64_t k = 0; k < n; k++)
            b[k] = 0.5F * sinf((float)(k + 7 * i));
        OK(nn_params_write(a, be, i, b));
    }
}

static void feed(md_plan *plan, md_tensor *to)
{
    float x[2 * PIXELS * PIXELS * 3];
    for (size_t i = 0; i < sizeof x / sizeof *x; i++)
        x[i] = cosf((float)i);
    OK(md_plan_load(plan));
    OK(md_plan_write(plan, to, x, MD_F32, (int64_t)(sizeof x / sizeof *x)));
}

static void run(nn_params *p, double *y)
{
    built b = build(p, MD_F32);
    md_plan *plan;
    OK(md_plan_build(b.g, be, &b.y, 1, &plan));
    feed(plan, b.x);
    OK(md_plan_run(plan));
    float host[2 * 4 * 4 * OUT];
    OK(md_plan_read(plan, b.y, host, MD_F32, (int64_t)(sizeof host / sizeof *host)));
    for (size_t i = 0; i < sizeof host / sizeof *host; i++)
        y[i] = (double)host[i];
    md_plan_free(plan);
    md_graph_free(b.g);
}

enum { N_Y = 2 * 4 * 4 * OUT };

static double farthest(const double *a, const double *b)
{
    double most = 0;
    for (int i = 0; i < N_Y; i++)
        most = fmax(most, fabs(a[i] - b[i]));
    return most;
}

static void test_layers(void **state)
{
    (void)state;
    static const char *const proj[] = {"proj", "stem.conv", NULL};
    static const struct {
        const char *const *layers;
        const char *names[8];
        int64_t numel[8];
    } cases[] = {{proj, /* "subproj" ends so too, but is another layer */
                  {"stem.conv.lora_A.weight", "stem.conv.lora_B.weight", "out.0.proj.lora_A.weight",
                   "out.0.proj.lora_B.weight"},
                  {2 * 27, 2 * 4, 2 * 6, 2 * 5}},
                 {NULL, /* the norm has none */
                  {"stem.conv.lora_A.weight", "stem.conv.lora_B.weight", "shortcut.lora_A.weight",
                   "shortcut.lora_B.weight", "subproj.lora_A.weight", "subproj.lora_B.weight",
                   "out.0.proj.lora_A.weight", "out.0.proj.lora_B.weight"},
                  {2 * 27, 2 * 4, 2 * 4, 2 * 6, 2 * 6, 2 * 6, 2 * 6, 2 * 5}}};
    for (int c = 0; c < 2; c++) {
        nn_params *p = made(&(nn_lora){.rank = 2, .scale = 1, .layers = cases[c].layers});
        nn_params *a = nn_lora_adapters(p);
        int n = nn_params_count(a);
        assert_int_equal(n, c ? 8 : 4);
        for (int i = 0; i < n; i++) {
            assert_string_equal(nn_params_info(a, i)->name, cases[c].names[i]);
            assert_int_equal(nn_params_info(a, i)->numel, cases[c].numel[i]);
        }
        assert_int_equal(nn_lora_add(p, &(nn_lora){.rank = 1, .scale = 1}), MD_INTERNAL);
        nn_params_free(p, be);
    }
    static const char *const none[] = {"attention", NULL};
    nn_params *p = made(NULL);
    OK(nn_lora_add(p, &(nn_lora){.rank = 2, .scale = 1, .layers = none}));
    built b = build(p, MD_F32);
    md_graph_free(b.g);
    assert_int_equal(nn_params_close(p), MD_INTERNAL);
    nn_params_free(p, be);
}

/* A: normal, deviation 1/rank; B: zero, so that nothing is changed at the start. */
static void test_start(void **state)
{
    (void)state;
    static double with[N_Y], without[N_Y];
    enum { RANK = 40 };
    nn_params *p = made(&(nn_lora){.rank = RANK, .scale = 2}), *q = made(NULL);
    run(p, with);
    run(q, without);
    assert_memory_equal(with, without, sizeof with);
    nn_params *a = nn_lora_adapters(p);
    static float w[RANK * 27];
    OK(nn_params_read(a, be, 0, w));
    double square = 0;
    for (int i = 0; i < RANK * 27; i++)
        square += (double)w[i] * (double)w[i];
    assert_true(fabs(sqrt(square / (RANK * 27)) * RANK - 1) < 0.05);
    nn_lora_remove(p, be); /* and without them again */
    run(p, with);
    assert_memory_equal(with, without, sizeof with);
    assert_null(nn_lora_adapters(p));
    nn_params_free(p, be);
    nn_params_free(q, be);
}

/* The sum of all outputs in double: md_plan_read would round it. */
static double sum_of(nn_params *p)
{
    built b = build(p, MD_F32);
    md_plan *plan;
    md_buffer sum;
    md_buffer_init(&sum, "sum", MD_F32, 1);
    OK(md_buffer_alloc(be, &sum));
    md_tensor *out = md_write(md_extern(b.g, &sum, 0, 1, MD_DIMS(1)), md_sum(b.y));
    OK(md_plan_build(b.g, be, &out, 1, &plan));
    feed(plan, b.x);
    OK(md_plan_run(plan));
    double value = *(double *)sum.ptr; /* ref holds doubles */
    md_plan_free(plan);
    md_graph_free(b.g);
    md_buffer_release(be, &sum);
    return value;
}

/* The slope of the sum by element k of adapter parameter i. */
static double slope(nn_params *p, int i, int64_t k)
{
    static const double step = 1e-5;
    nn_params *a = nn_lora_adapters(p);
    double *w = (double *)nn_params_buffer(a)->ptr + nn_params_info(a, i)->offset + k, was = *w;
    *w = was + step;
    double up = sum_of(p);
    *w = was - step;
    double down = sum_of(p);
    *w = was;
    return (up - down) / (2 * step);
}

/* Gradients of the sum by all adapters against differences; frozen weights get none: the backward
   pass has no node that multiplies by an input of a frozen layer. */
static void test_gradient(void **state)
{
    (void)state;
    nn_params *p = made(&(nn_lora){.rank = 2, .scale = 1.5});
    nn_params *a = nn_lora_adapters(p);
    draw_b(a);
    built b = build(p, MD_F32);
    md_tensor *leaf[8], *grad[8];
    int n = nn_params_count(a), forward = md_graph_n_nodes(b.g);
    assert_int_equal(n, 8);
    nn_params_tensors(a, b.g, leaf);
    OK(md_grad(md_sum(b.y), leaf, n, 0, grad));
    int convs = 0, products = 0;
    for (int i = forward; i < md_graph_n_nodes(b.g); i++) {
        const md_node *node = md_graph_node(b.g, i);
        convs += node->op == MD_OP_conv2d_dw;
        products += node->op == MD_OP_matmul && node->attr.matmul.ta;
        assert_true(node->op != MD_OP_conv2d_dx); /* nothing before the first layer is trained */
    }
    assert_int_equal(convs, 1);    /* A of the convolution */
    assert_int_equal(products, 7); /* the other adapters' */
    md_plan *plan;
    static float host[64];
    OK(md_plan_build(b.g, be, grad, n, &plan));
    feed(plan, b.x);
    OK(md_plan_run(plan));
    for (int i = 0; i < n; i++) {
        int64_t numel = nn_params_info(a, i)->numel;
        OK(md_plan_read(plan, grad[i], host, MD_F32, numel));
        for (int64_t k = 0; k < numel; k++) {
            double want = slope(p, i, k);
            if (fabs((double)host[k] - want) > 1e-6 * fmax(1, fabs(want)))
                fail_msg("%s[%d]: %g, differences say %g", nn_params_info(a, i)->name, (int)k,
                         (double)host[k], want);
        }
    }
    md_plan_free(plan);
    md_graph_free(b.g);
    nn_params_free(p, be);
}

static const char *in_folder(const char *name)
{
    static char path[4][512];
    static int next;
    char *p = path[next++ & 3];
    (void)snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

static void expect(const format_tensors *f, const char *name, int ndim, int64_t a, int64_t b,
                   int64_t c, int64_t d)
{
    const format_tensor *t;
    OK(format_tensors_get(f, name, ndim, (int64_t[]){a, b, c, d}, &t));
    assert_int_equal(t->dtype, FORMAT_F32);
}

/* The names and shapes that peft gives such modules; B with the scale in it. */
static void test_saved(void **state)
{
    (void)state;
    nn_params *p = made(&(nn_lora){.rank = 2, .scale = 4});
    nn_params *a = nn_lora_adapters(p);
    draw_b(a);
    OK(nn_lora_save(&p, 1, be, in_folder("a.safetensors")));
    format_tensors *f;
    OK(format_tensors_open(in_folder("a.safetensors"), &f));
    assert_int_equal(format_tensors_count(f), 8);
    expect(f, "toy.stem.conv.lora_A.weight", 4, 2, 3, 3, 3);
    expect(f, "toy.stem.conv.lora_B.weight", 4, 4, 2, 1, 1);
    expect(f, "toy.shortcut.lora_A.weight", 4, 2, 4, 1, 1);
    expect(f, "toy.shortcut.lora_B.weight", 4, 6, 2, 1, 1);
    expect(f, "toy.subproj.lora_A.weight", 2, 2, 6, 0, 0);
    expect(f, "toy.out.0.proj.lora_B.weight", 2, 5, 2, 0, 0);
    assert_string_equal(format_tensors_meta(f, "format"), "pt");
    float got[10], want[10];
    OK(format_tensors_read_f32(f, format_tensors_find(f, "toy.out.0.proj.lora_B.weight"), 0, 10,
                               got));
    OK(nn_params_read(a, be, 7, want));
    for (int i = 0; i < 10; i++)
        assert_true(got[i] == 4 * want[i] && got[i] != 0);
    /* a convolution's A is O,I,kh,kw in the file: element (1, c 2, y 0, x 1) */
    float conv[54], file[54];
    OK(nn_params_read(a, be, 0, conv));
    OK(format_tensors_read_f32(f, format_tensors_find(f, "toy.stem.conv.lora_A.weight"), 0, 54,
                               file));
    assert_true(file[27 + 2 * 9 + 1] == conv[27 + 1 * 3 + 2]);
    format_tensors_close(f);
    nn_params_free(p, be);
}

/* The weights' file with the adapters' added is the model with adapters. */
static void test_merged(void **state)
{
    (void)state;
    static double with[N_Y], merged[N_Y], without[N_Y];
    nn_params *p = made(&(nn_lora){.rank = 2, .scale = 1.5}), *q = made(NULL), *r = made(NULL);
    draw_b(nn_lora_adapters(p));
    run(p, with);
    run(q, without);
    assert_true(farthest(with, without) > 0.1);
    OK(nn_lora_save(&p, 1, be, in_folder("a.safetensors")));
    OK(nn_params_save(p, be, in_folder("w.safetensors"), false)); /* the frozen weights */
    assert_false(nn_lora_merged(q));
    OK(nn_lora_merge(&q, 1, in_folder("a.safetensors")));
    assert_true(nn_lora_merged(q));
    OK(nn_params_load(q, be, in_folder("w.safetensors"), NULL));
    run(q, merged);
    assert_true(farthest(with, merged) < 1e-5);
    /* the same by copying the file, which then needs no adapters */
    OK(nn_params_convert(q, in_folder("w.safetensors"), in_folder("m.safetensors"), NULL, false));
    OK(nn_params_load(r, be, in_folder("m.safetensors"), NULL));
    run(r, without);
    assert_memory_equal(merged, without, sizeof merged);
    nn_params_free(p, be);
    nn_params_free(q, be);
    nn_params_free(r, be);
}

/* Writes [dims] of `value` as tensor `name`, beside a fitting "toy.subproj.lora_A.weight" unless
   that is what it is. */
static void write_file(const char *file, const char *name, format_dtype type, int ndim, int64_t a,
                       int64_t b, float value)
{
    format_writer *w;
    static float data[4096];
    bool other = strcmp(name, "toy.subproj.lora_A.weight") != 0;
    int64_t n = ndim == 0 ? 1 : ndim == 1 ? a : a * b;
    OK(format_writer_new(in_folder(file), &w));
    if (other)
        OK(format_writer_declare(w, "toy.subproj.lora_A.weight", FORMAT_F32, 2, MD_DIMS(3, 6)));
    OK(format_writer_declare(w, name, type, ndim, (int64_t[]){a, b, 1, 1}));
    if (other)
        OK(format_writer_put(w, data, 18));
    float *v = malloc((size_t)n * sizeof *v);
    assert_non_null(v);
    for (int64_t i = 0; i < n; i++)
        v[i] = value;
    OK(format_writer_put(w, v, n));
    OK(format_writer_finish(w));
    format_writer_free(w);
    free(v);
}

static void test_refused(void **state)
{
    (void)state;
    static const char b[] = "toy.subproj.lora_B.weight", a[] = "toy.subproj.lora_A.weight";
    nn_params *p = made(NULL);
    write_file("good.safetensors", b, FORMAT_F32, 2, 6, 3, 1);
    OK(nn_lora_merge(&p, 1, in_folder("good.safetensors")));
    write_file("good.safetensors", b, FORMAT_F16, 4, 6, 3, 1); /* [6,3,1,1] is as good */
    OK(nn_lora_merge(&p, 1, in_folder("good.safetensors")));
    assert_true(nn_lora_merged(p));

    char bad[512];
    (void)snprintf(bad, sizeof bad, "%s", in_folder("bad.safetensors"));
    write_file("bad.safetensors", b, FORMAT_F32, 2, 6, 2, 1);
    FAILS("bad.safetensors: tensor toy.subproj.lora_B.weight is [6,2], its layer asks for [6,3]",
          nn_lora_merge(&p, 1, bad));
    assert_false(nn_lora_merged(p)); /* nothing of it is kept */
    write_file("bad.safetensors", b, FORMAT_F32, 2, 5, 3, 1);
    FAILS("is [5,3], its layer asks for [6,3]", nn_lora_merge(&p, 1, bad));
    write_file("bad.safetensors", b, FORMAT_F32, 1, 18, 0, 1);
    FAILS("is [18], its layer asks for [6,3]", nn_lora_merge(&p, 1, bad));
    write_file("bad.safetensors", b, FORMAT_I64, 2, 6, 3, 1);
    FAILS("bad.safetensors: tensor toy.subproj.lora_B.weight holds I64, wanted",
          nn_lora_merge(&p, 1, bad));
    write_file("bad.safetensors", a, FORMAT_F32, 2, 3, 6, 1);
    FAILS("tensor toy.subproj.lora_A.weight is there without toy.subproj.lora_B.weight",
          nn_lora_merge(&p, 1, bad));
    write_file("bad.safetensors", "toy.norm.lora_A.weight", FORMAT_F32, 2, 6, 3, 1);
    FAILS("without toy.subproj.lora_B.weight", nn_lora_merge(&p, 1, bad));

    /* a whole pair, and something else beside it */
    nn_params *q = made(&(nn_lora){.rank = 2, .scale = 1}), *other;
    OK(nn_lora_save(&q, 1, be, in_folder("whole.safetensors")));
    OK(nn_params_new("other", &other));
    md_graph *g;
    OK(md_graph_new(&g));
    nn_linear(nn_root(g, other, MD_F32), "subproj", md_input(g, "x", MD_F32, 2, MD_DIMS(1, 6)), 6,
              true);
    md_graph_free(g);
    OK(nn_params_close(other));
    FAILS("whole.safetensors: unexpected tensor toy.out.0.proj.lora_A.weight; wanted pairs other.",
          nn_lora_merge(&other, 1, in_folder("whole.safetensors")));
    OK(nn_lora_merge((nn_params *[]){other, p}, 2, in_folder("whole.safetensors")));
    assert_true(nn_lora_merged(p) && !nn_lora_merged(other));

    format_writer *w;
    OK(format_writer_new(in_folder("bad.safetensors"), &w));
    OK(format_writer_finish(w));
    format_writer_free(w);
    FAILS("bad.safetensors: holds no adapter", nn_lora_merge(&p, 1, bad));
    FAILS("none.safetensors", nn_lora_merge(&p, 1, in_folder("none.safetensors")));

    /* values are read with the weights */
    OK(nn_params_save(q, be, in_folder("w.safetensors"), false));
    write_file("bad.safetensors", b, FORMAT_F32, 2, 6, 3, INFINITY);
    OK(nn_lora_merge(&p, 1, in_folder("bad.safetensors")));
    FAILS("tensor toy.subproj.lora_B.weight: element 0 is not finite",
          nn_params_load(p, be, in_folder("w.safetensors"), NULL));
    nn_params_free(p, be);
    nn_params_free(q, be);
    nn_params_free(other, be);
}

/* Frozen weights in bf16 alone: adapters are still declared, and held in both. */
static void test_bf16(void **state)
{
    (void)state;
    nn_params *p;
    OK(nn_params_new("toy", &p));
    declare(p);
    nn_params_hold(p, NN_HOLD_BF16);
    OK(nn_lora_add(p, &(nn_lora){.rank = 2, .scale = 1}));
    declare(p);
    nn_params *a = nn_lora_adapters(p);
    assert_non_null(nn_params_copy(a));
    OK(nn_params_alloc(a, be));
    assert_non_null(nn_params_buffer(a)->ptr);
    built b = build(p, MD_BF16);
    OK(md_graph_check(b.g));
    md_graph_free(b.g);
    b = build(p, MD_F32); /* declared: an f32 graph would read what is not there */
    assert_int_equal(md_graph_check(b.g), MD_INTERNAL);
    md_graph_free(b.g);
    nn_params_hold(p, NN_HOLD_F32);
    assert_null(nn_params_copy(a));
    nn_params_free(p, be);
}

static int setup(void **state)
{
    (void)state;
    return !tmp_dir_make(folder) || ref_backend_open(&be) != MD_OK;
}

static int teardown(void **state)
{
    (void)state;
    tmp_dir_remove(folder);
    int leaked = be->allocated_bytes != 0;
    be->ops->close(be);
    return leaked;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layers),   cmocka_unit_test(test_start),
        cmocka_unit_test(test_gradient), cmocka_unit_test(test_saved),
        cmocka_unit_test(test_merged),   cmocka_unit_test(test_refused),
        cmocka_unit_test(test_bf16)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
