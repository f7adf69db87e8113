/* What tests/ops cannot ask of the cpu backend: that oneDNN and our own kernels agree wherever
   either may be chosen, how exact the vector functions are, and that a NaN stays visible. */
#include "backend/cpu/dnnl.h"
#include "backend/cpu/winograd.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static md_backend *be;

static int open_backend(void **state)
{
    (void)state;
    return cpu_backend_open(&be, 2) != MD_OK;
}

static int close_backend(void **state)
{
    (void)state;
    size_t held = be->allocated_bytes;
    be->ops->close(be);
    cpu__dnnl_set_policy(CPU_DNNL_AUTO);
    return held != 0;
}

static md_tensor shape(md_dtype dtype, int ndim, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return (md_tensor){.dtype = dtype, .ndim = ndim, .dim = {a, b, c, d}, .path = ""};
}

/* Deterministic noise in (-1, 1); mixed, since the generator alone repeats itself at strides of
   powers of two. */
static float noise(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    uint32_t x = *seed;
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    return (float)(int32_t)(x ^ x >> 16) * (1.0f / 2147483648.0f);
}

/* Runs the node on noise (or `fill` where given) and returns its first output as floats; free it.
 */
static float *run_node(md_node *node, float *const *fill)
{
    void *in[MD_MAX_IN] = {0}, *out[MD_MAX_OUT] = {0}, *scratch = NULL;
    md_kernel k = {0};
    uint32_t seed = 7;
    assert_int_equal(be->ops->prepare[node->op](be, node, &k), MD_OK);
    for (int i = 0; i < node->n_in; i++) {
        if (!node->in[i])
            continue;
        int64_t n = md_numel(node->in[i]);
        float *host = malloc((size_t)n * sizeof(float));
        assert_non_null(host);
        for (int64_t j = 0; j < n; j++)
            host[j] = fill && fill[i] ? fill[i][j] : noise(&seed);
        assert_int_equal(be->ops->alloc(be, (size_t)n * 4, &in[i]), MD_OK);
        assert_int_equal(be->ops->write(be, in[i], node->in[i]->dtype, host, MD_F32, n), MD_OK);
        free(host);
    }
    for (int i = 0; i < node->n_out; i++)
        assert_int_equal(be->ops->alloc(be, (size_t)md_numel(node->out[i]) * 4, &out[i]), MD_OK);
    assert_int_equal(be->ops->alloc(be, k.scratch_bytes, &scratch), MD_OK);
    memset(scratch, 0xff, k.scratch_bytes); /* scratch is undefined: NaN everywhere */
    assert_int_equal(k.run(&k, in, out, scratch), MD_OK);
    int64_t n = md_numel(node->out[0]);
    float *result = malloc((size_t)n * sizeof(float));
    assert_non_null(result);
    assert_int_equal(be->ops->read(be, out[0], node->out[0]->dtype, result, MD_F32, n), MD_OK);
    if (k.release)
        k.release(&k);
    be->ops->release(be, scratch);
    for (int i = 0; i < MD_MAX_IN; i++)
        be->ops->release(be, in[i]);
    for (int i = 0; i < MD_MAX_OUT; i++)
        be->ops->release(be, out[i]);
    return result;
}

static void assert_agree(md_node *node, double tolerance)
{
    cpu__dnnl_set_policy(CPU_DNNL_NEVER);
    float *own = run_node(node, NULL);
    cpu__dnnl_set_policy(CPU_DNNL_ALWAYS);
    float *theirs = run_node(node, NULL);
    cpu__dnnl_set_policy(CPU_DNNL_AUTO);
    double top = 0, worst = 0;
    for (int64_t i = 0; i < md_numel(node->out[0]); i++) {
        double d = fabs((double)own[i] - (double)theirs[i]), a = fabs((double)own[i]);
        top = a > top ? a : top;
        worst = d <= worst ? worst : d; /* a NaN becomes the worst */
    }
    free(own);
    free(theirs);
    if (!(worst <= tolerance * top))
        fail_msg("%s: own kernel and oneDNN differ by %g of %g", md_op_name(node->op), worst, top);
}

static void test_conv_agrees(void **state)
{
    (void)state;
    static const struct {
        int n, h, w, i, o, k, stride, pad[4]; /* top left bottom right */
    } rows[] = {{1, 7, 9, 3, 5, 3, 1, {1, 1, 1, 1}},   {2, 8, 8, 16, 16, 3, 1, {1, 1, 1, 1}},
                {2, 9, 11, 4, 40, 3, 2, {1, 1, 1, 1}}, {1, 8, 8, 24, 7, 3, 2, {0, 0, 1, 1}},
                {3, 6, 5, 33, 17, 1, 1, {0, 0, 0, 0}}, {1, 14, 14, 3, 8, 7, 7, {0, 0, 0, 0}},
                {2, 5, 7, 8, 3, 5, 1, {2, 2, 2, 2}}};
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++)
        for (int type = 0; type < 2; type++) {
            md_dtype t = type ? MD_BF16 : MD_F32;
            int k = rows[r].k, s = rows[r].stride;
            const int *p = rows[r].pad;
            int oh = (rows[r].h + p[0] + p[2] - k) / s + 1;
            int ow = (rows[r].w + p[1] + p[3] - k) / s + 1;
            md_tensor x = shape(t, 4, rows[r].n, rows[r].h, rows[r].w, rows[r].i);
            md_tensor w = shape(t, 4, rows[r].o, k, k, rows[r].i);
            md_tensor b = shape(t, 1, rows[r].o, 0, 0, 0);
            md_tensor y = shape(t, 4, rows[r].n, oh, ow, rows[r].o);
            md_attr a = {.conv = {s, p[0], p[1], p[2], p[3]}};
            md_node fwd = {MD_OP_conv2d, 0, 3, 1, {&x, &w, &b}, {&y}, a, -1, "", 0};
            md_node plain = {MD_OP_conv2d, 0, 3, 1, {&x, &w, NULL}, {&y}, a, -1, "", 0};
            md_node dx = {MD_OP_conv2d_dx, 0, 2, 1, {&y, &w}, {&x}, a, -1, "", 0};
            md_node dw = {MD_OP_conv2d_dw, 0, 2, 1, {&y, &x}, {&w}, a, -1, "", 0};
            double tolerance = type ? 1e-2 : 4e-6;
            assert_agree(&fwd, tolerance);
            assert_agree(&plain, tolerance);
            assert_agree(&dx, tolerance);
            assert_agree(&dw, tolerance);
        }
}

static void test_matmul_agrees(void **state)
{
    (void)state;
    static const int rows[][3] = {{1, 1, 1}, {5, 7, 3}, {65, 40, 24}, {16, 128, 64}, {130, 33, 17}};
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++)
        for (int type = 0; type < 2; type++) {
            md_dtype t = type ? MD_BF16 : MD_F32;
            int m = rows[r][0], k = rows[r][1], n = rows[r][2];
            double tolerance = type ? 1e-2 : 4e-6;
            md_tensor c = shape(t, 2, m, n, 0, 0), bias = shape(t, 1, n, 0, 0, 0);
            for (int f = 0; f < 4; f++) {
                bool ta = f & 1, tb = f & 2;
                md_tensor a = ta ? shape(t, 2, k, m, 0, 0) : shape(t, 2, m, k, 0, 0);
                md_tensor b = tb ? shape(t, 2, n, k, 0, 0) : shape(t, 2, k, n, 0, 0);
                md_attr attr = {.matmul = {ta, tb}};
                md_node node = {MD_OP_matmul, 0, 2, 1, {&a, &b}, {&c}, attr, -1, "", 0};
                assert_agree(&node, tolerance);
                md_node linear = {MD_OP_linear, 0, 3, 1, {&a, &b, &bias}, {&c}, attr, -1, "", 0};
                if (!ta && tb)
                    assert_agree(&linear, tolerance);
            }
        }
}

/* The transformed convolution must err no more than a direct sum in floats does. */
static void test_winograd_exact(void **state)
{
    (void)state;
    enum { H = 9, W = 12, C = 640, O = 40 };
    md_tensor x = shape(MD_F32, 4, 1, H, W, C), w = shape(MD_F32, 4, O, 3, 3, C);
    md_tensor y = shape(MD_F32, 4, 1, H, W, O);
    md_attr a = {.conv = {1, 1, 1, 1, 1}};
    md_node node = {MD_OP_conv2d, 0, 3, 1, {&x, &w, NULL}, {&y}, a, -1, "", 0};
    assert_true(cpu__winograd_wanted(&node));
    float *fx = malloc(sizeof(float) * H * W * C), *fw = malloc(sizeof(float) * O * 9 * C);
    assert_true(fx && fw);
    uint32_t seed = 11;
    for (int i = 0; i < H * W * C; i++)
        fx[i] = noise(&seed);
    for (int i = 0; i < O * 9 * C; i++)
        fw[i] = noise(&seed);
    float *fill[MD_MAX_IN] = {fx, fw};
    cpu__dnnl_set_policy(CPU_DNNL_NEVER);
    float *got = run_node(&node, fill);
    double norm = 0, error = 0, direct_error = 0;
    for (int i = 0; i < H * W * O; i++) {
        int o = i % O, px = i / O % W, py = i / O / W;
        double want = 0;
        float direct = 0;
        for (int t = 0; t < 9; t++) {
            int iy = py + t / 3 - 1, ix = px + t % 3 - 1;
            for (int c = 0; iy >= 0 && iy < H && ix >= 0 && ix < W && c < C; c++) {
                float xv = fx[(iy * W + ix) * C + c], wv = fw[(o * 9 + t) * C + c];
                want += (double)xv * wv;
                direct = fmaf(xv, wv, direct);
            }
        }
        norm += want * want;
        error += (got[i] - want) * (got[i] - want);
        direct_error += (direct - want) * (direct - want);
    }
    free(fx);
    free(fw);
    free(got);
    error = sqrt(error / norm), direct_error = sqrt(direct_error / norm);
    printf("relative errors over 640 channels: transformed %.2g, direct %.2g\n", error,
           direct_error);
    assert_true(error < direct_error && error < 1.5e-6);
}

static double error_of(vf got, const double *want, double scale)
{
    double worst = 0;
    for (int i = 0; i < VL; i++) {
        double e = fabs((double)got[i] - want[i]) / (scale > 0 ? scale : want[i]);
        worst = e <= worst ? worst : e;
    }
    return worst;
}

static void test_functions_exact(void **state)
{
    (void)state;
    double exp_error = 0, fast_error = 0, erf_error = 0, sigmoid_error = 0;
    for (int step = 0; step < 200000; step++) {
        vf x;
        double e[VL], f[VL], p[VL], s[VL];
        for (int i = 0; i < VL; i++) {
            x[i] = (float)(((double)step * VL + i) / 1.6e6 * 174.0 - 87.0);
            e[i] = exp((double)x[i]);
            f[i] = exp2((double)x[i]);
            p[i] = erf((double)x[i] / 16);
            s[i] = 1 / (1 + exp(-(double)x[i]));
        }
        exp_error = fmax(exp_error, error_of(v_exp(x), e, 0));
        fast_error = fmax(fast_error, error_of(v_exp2_fast(x), f, 0));
        erf_error = fmax(erf_error, error_of(v_erf(x / v_set(16)), p, 1));
        sigmoid_error = fmax(sigmoid_error, error_of(v_sigmoid(x), s, 1));
    }
    printf("worst errors: exp %.2g, 2^x %.2g (relative), erf %.2g, sigmoid %.2g\n", exp_error,
           fast_error, erf_error, sigmoid_error);
    assert_true(exp_error < 1.5e-7 && fast_error < 2.5e-7);
    assert_true(erf_error < 1.5e-7 && sigmoid_error < 1.5e-7);
    vf edge = v_exp((vf){88.72f, 88.73f, 1000, -103.9f, -1000, INFINITY, -INFINITY, 0});
    assert_true(isfinite(edge[0]) && isinf(edge[1]) && isinf(edge[2]) && isinf(edge[5]));
    assert_true(edge[4] == 0 && edge[6] == 0 && edge[7] == 1);
}

static float nan_with_payload(void)
{
    uint32_t bits = 0x7fc00155;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* One NaN among n ones; how many NaN come out of the node. */
static int64_t nans_out(md_node *node, int where, int64_t at)
{
    float *fill[MD_MAX_IN] = {0};
    int64_t n = md_numel(node->in[where]), count = 0;
    fill[where] = malloc((size_t)n * sizeof(float));
    assert_non_null(fill[where]);
    for (int64_t i = 0; i < n; i++)
        fill[where][i] = i == at ? nan_with_payload() : 1.0f + 0.001f * (float)i;
    float *y = run_node(node, fill);
    for (int64_t i = 0; i < md_numel(node->out[0]); i++)
        count += isnan(y[i]) != 0;
    free(y);
    free(fill[where]);
    return count;
}

static void test_nan_shows(void **state)
{
    (void)state;
    md_tensor x = shape(MD_F32, 1, 21, 0, 0, 0), y = x, dy = x;
    for (int kind = MD_ACT_NONE; kind <= MD_ACT_CLAMP; kind++)
        for (int64_t at = 0; at < 21; at += 10) { /* in full vectors and in the rest */
            md_attr a = {.act = {(md_act)kind, -2, 2}};
            md_node act = {MD_OP_act, 0, 1, 1, {&x}, {&y}, a, -1, "", 0};
            md_node grad = {MD_OP_act_grad, 0, 2, 1, {&dy, &x}, {&y}, a, -1, "", 0};
            assert_int_equal(nans_out(&act, 0, at), 1);
            if (kind != MD_ACT_NONE)
                assert_int_equal(nans_out(&grad, 1, at), 1);
        }
    md_tensor image = shape(MD_F32, 3, 2, 6, 8, 0), out = image, vec = shape(MD_F32, 1, 8, 0, 0, 0);
    md_tensor mean = shape(MD_F32, 2, 2, 4, 0, 0), rstd = mean;
    md_attr norm = {.norm = {4, 1e-5, MD_ACT_SILU}};
    md_node gn = {MD_OP_group_norm,     0,    3,  3,  {&image, &vec, &vec},
                  {&out, &mean, &rstd}, norm, -1, "", 0};
    assert_int_equal(nans_out(&gn, 0, 17), 12); /* one sample's group: 6 pixels x 2 channels */
    md_tensor q = shape(MD_F32, 3, 1, 5, 8, 0), key = shape(MD_F32, 3, 1, 9, 8, 0), o = q;
    md_tensor lse = shape(MD_F32, 3, 1, 2, 5, 0);
    md_attr heads = {.attn = {2, 0, false}};
    md_node attn = {MD_OP_attention, 0, 3, 2, {&q, &key, &key}, {&o, &lse}, heads, -1, "", 0};
    assert_int_equal(nans_out(&attn, 1, 8), 20); /* a key: all queries of its head */
    assert_int_equal(nans_out(&attn, 0, 12), 4); /* a query: its row of one head */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_conv_agrees, open_backend, close_backend),
        cmocka_unit_test_setup_teardown(test_matmul_agrees, open_backend, close_backend),
        cmocka_unit_test_setup_teardown(test_winograd_exact, open_backend, close_backend),
        cmocka_unit_test(test_functions_exact),
        cmocka_unit_test_setup_teardown(test_nan_shows, open_backend, close_backend),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
