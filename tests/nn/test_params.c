/* The parameter store: declaration and binding, layout, starting values, files. */
#include "backend/ref/ref.h"
#include "base/file.h"
#include "graph/plan.h"
#include "nn/nn.h"
#include "ops/grad.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != MD_OK)                                                                       \
            fail_msg("%s", md_status_text());                                                      \
    } while (0)

static char folder[] = "/tmp/meddiff-nn-XXXXXX";
static md_backend *be;

/* x [2,6,6,3] -> [2,6,6,5]: one of each layer; `twice` applies the last layer a second time. */
static md_tensor *model(nn m, md_tensor *x, bool twice)
{
    x = nn_conv2d(nn_in(m, "stem"), "conv", x, 4, 3, 1, 1);
    x = nn_group_norm(m, "norm", x, 2, 1e-5, MD_ACT_SILU);
    x = nn_linear_conv(m, "shortcut", x, 5, true);
    x = nn_layer_norm(m, "ln", x, 1e-5);
    x = nn_linear(nn_in(m, "out.%d", 0), "proj", x, 5, false);
    return twice ? nn_linear(nn_in(m, "out.0"), "proj", x, 5, false) : x;
}

typedef struct built {
    md_graph *g;
    md_tensor *x, *y;
} built;

static built build(nn_params *p, bool twice)
{
    built b;
    OK(md_graph_new(&b.g));
    b.x = md_input(b.g, "x", MD_F32, 4, MD_DIMS(2, 6, 6, 3));
    b.y = model(nn_root(b.g, p, MD_F32), b.x, twice);
    return b;
}

static nn_params *declared(void)
{
    nn_params *p;
    OK(nn_params_new("toy", &p));
    built b = build(p, false);
    OK(md_graph_check(b.g));
    md_graph_free(b.g);
    OK(nn_params_close(p));
    return p;
}

static const char *const names[] = {"stem.conv.weight", "stem.conv.bias",  "norm.weight",
                                    "norm.bias",        "shortcut.weight", "shortcut.bias",
                                    "ln.weight",        "ln.bias",         "out.0.proj.weight"};
enum { N = sizeof names / sizeof names[0] };

static void test_declare(void **state)
{
    (void)state;
    nn_params *p = declared();
    assert_int_equal(nn_params_count(p), N);
    int64_t end = 0;
    for (int i = 0; i < N; i++) {
        const nn_param_info *q = nn_params_info(p, i);
        assert_string_equal(q->name, names[i]);
        assert_int_equal(nn_params_find(p, names[i]), i);
        assert_int_equal(q->offset % 16, 0);
        assert_int_equal(q->offset, (end + 15) / 16 * 16);
        end = q->offset + q->numel;
    }
    assert_int_equal(nn_params_buffer(p)->numel, (end + 15) / 16 * 16);
    assert_int_equal(nn_params_numel(p), 4 * 27 + 4 + 4 + 4 + 20 + 5 + 5 + 5 + 25);
    assert_int_equal(nn_params_find(p, "stem.conv"), -1);
    assert_null(nn_params_buffer(p)->ptr); /* declaring takes no memory */
    nn_params_free(p, be);
}

static void test_bind(void **state)
{
    (void)state;
    nn_params *p = declared();
    /* a second graph, alive at the same time as a third, binds to the same parameters */
    built a = build(p, false), b = build(p, true);
    OK(md_graph_check(a.g));
    OK(md_graph_check(b.g));
    md_tensor *leaf_a[N], *leaf_b[N];
    nn_params_tensors(p, a.g, leaf_a);
    nn_params_tensors(p, b.g, leaf_b);
    for (int i = 0; i < N; i++) {
        assert_non_null(leaf_a[i]);
        assert_ptr_not_equal(leaf_a[i], leaf_b[i]);
        assert_int_equal(leaf_a[i]->offset, nn_params_info(p, i)->offset);
    }
    int uses = 0; /* the layer applied twice has one leaf */
    for (int i = 0; i < md_graph_n_tensors(b.g); i++)
        uses += md_graph_tensor(b.g, i)->storage == MD_EXTERN;
    assert_int_equal(uses, N);
    md_graph_free(a.g);
    md_graph_free(b.g);

    /* a closed store refuses what it does not know, and another shape, by name */
    md_graph *g;
    OK(md_graph_new(&g));
    md_tensor *x = md_input(g, "x", MD_F32, 2, MD_DIMS(2, 3));
    nn_linear(nn_root(g, p, MD_F32), "other", x, 4, true);
    assert_int_not_equal(md_graph_check(g), MD_OK);
    assert_non_null(strstr(md_status_text(), "toy has no parameter other.weight"));
    md_graph_free(g);
    OK(md_graph_new(&g));
    x = md_input(g, "x", MD_F32, 2, MD_DIMS(2, 3));
    nn_linear(nn_root(g, p, MD_F32), "shortcut", x, 4, true);
    assert_int_not_equal(md_graph_check(g), MD_OK);
    assert_non_null(strstr(md_status_text(), "shortcut.weight"));
    md_graph_free(g);
    nn_params_free(p, be);
}

static float *values_of(const nn_params *p, int i)
{
    float *v = malloc((size_t)nn_params_info(p, i)->numel * sizeof *v);
    OK(nn_params_read(p, be, i, v));
    return v;
}

static void test_randomize(void **state)
{
    (void)state;
    nn_params *p;
    md_graph *g;
    OK(nn_params_new("wide", &p));
    OK(md_graph_new(&g));
    nn m = nn_root(g, p, MD_F32);
    md_tensor *x = md_input(g, "x", MD_F32, 2, MD_DIMS(1, 64));
    nn_layer_norm(m, "norm", nn_linear(m, "fc", x, 200, true), 1e-5);
    nn_embedding(m, "table", md_input(g, "ids", MD_I32, 1, MD_DIMS(1)), 500, 20);
    OK(md_graph_check(g));
    md_graph_free(g);
    OK(nn_params_close(p));
    OK(md_buffer_alloc(be, nn_params_buffer(p)));
    OK(nn_params_randomize(p, be, 7));

    float *w = values_of(p, 0), *bias = values_of(p, 1), *gamma = values_of(p, 2),
          *beta = values_of(p, 3), *table = values_of(p, 4);
    double sum = 0, square = 0, largest = 0;
    for (int i = 0; i < 12800; i++) {
        sum += w[i];
        square += w[i] * w[i];
        largest = fmax(largest, fabs(w[i]));
    }
    /* uniform in +-1/8: deviation 1/8/sqrt(3); 12,800 draws settle it to 1 %, the mean to 4 sigma
     */
    assert_true(largest <= 0.125 && largest > 0.1249);
    assert_true(fabs(sqrt(square / 12800) * 8 * sqrt(3) - 1) < 0.02);
    assert_true(fabs(sum / 12800) < 4 * 0.0722 / sqrt(12800));
    double bias_largest = 0;
    for (int i = 0; i < 200; i++)
        bias_largest = fmax(bias_largest, fabs(bias[i]));
    assert_true(bias_largest <= 0.125 && bias_largest > 0.11);
    assert_true(gamma[0] == 1 && gamma[199] == 1 && beta[0] == 0 && beta[199] == 0);
    square = 0;
    for (int i = 0; i < 10000; i++)
        square += table[i] * table[i];
    assert_true(fabs(sqrt(square / 10000) / 0.02 - 1) < 0.03);

    OK(nn_params_randomize(p, be, 8)); /* another seed, other values; the same seed, the same */
    float *other = values_of(p, 0);
    assert_memory_not_equal(w, other, 12800 * sizeof *w);
    OK(nn_params_randomize(p, be, 7));
    float *again = values_of(p, 0);
    assert_memory_equal(w, again, 12800 * sizeof *w);
    free(w);
    free(bias);
    free(gamma);
    free(beta);
    free(table);
    free(other);
    free(again);
    nn_params_free(p, be);
}

static const char *in_folder(const char *name)
{
    static char path[4][256];
    static int next;
    char *p = path[next++ & 3];
    snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

static void test_file(void **state)
{
    (void)state;
    nn_params *p = declared(), *q = declared();
    OK(md_buffer_alloc(be, nn_params_buffer(p)));
    OK(md_buffer_alloc(be, nn_params_buffer(q)));
    OK(nn_params_randomize(p, be, 1));
    for (int f16 = 0; f16 < 2; f16++) {
        const char *path = in_folder(f16 ? "f16.safetensors" : "f32.safetensors");
        OK(nn_params_save(p, be, path, f16));
        OK(nn_params_check_file(q, path, NULL));
        OK(nn_params_load(q, be, path, NULL));
        for (int i = 0; i < N; i++) {
            float *a = values_of(p, i), *b = values_of(q, i);
            for (int64_t k = 0; k < nn_params_info(p, i)->numel; k++) /* f16: 11 bits */
                assert_true(fabs(a[k] - b[k]) <= (f16 ? fabs(a[k]) / 2048 + 1e-7 : 0));
            free(a);
            free(b);
        }
    }
    /* a copy of the file by conversion is the file */
    OK(nn_params_convert(p, in_folder("f32.safetensors"), in_folder("copy.safetensors"), NULL,
                         false));
    void *a, *b;
    size_t n_a, n_b;
    OK(md_file_read(in_folder("f32.safetensors"), 1 << 20, &a, &n_a));
    OK(md_file_read(in_folder("copy.safetensors"), 1 << 20, &b, &n_b));
    assert_int_equal(n_a, n_b);
    assert_memory_equal(a, b, n_a);
    free(a);
    free(b);

    /* a value that is not finite is refused with its tensor */
    float *w = values_of(p, 4);
    w[3] = NAN;
    OK(nn_params_write(p, be, 4, w));
    OK(nn_params_save(p, be, in_folder("nan.safetensors"), false));
    assert_int_equal(nn_params_load(q, be, in_folder("nan.safetensors"), NULL), MD_BAD_INPUT);
    assert_non_null(strstr(md_status_text(), "shortcut.weight: element 3 is not finite"));
    free(w);
    nn_params_free(p, be);
    nn_params_free(q, be);
}

static int setup(void **state)
{
    (void)state;
    return !mkdtemp(folder) || ref_backend_open(&be) != MD_OK;
}

static int teardown(void **state)
{
    (void)state;
    static const char *const files[] = {"f32.safetensors", "f16.safetensors", "copy.safetensors",
                                        "nan.safetensors"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        remove(in_folder(files[i]));
    rmdir(folder);
    be->ops->close(be);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_declare), cmocka_unit_test(test_bind),
                                       cmocka_unit_test(test_randomize),
                                       cmocka_unit_test(test_file)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
