/* Times the cpu kernels at the shapes of the models: bench_ops [threads] [only lines with this]
   [bf16|f32] [own|dnnl].
   Not a test: prints GFLOP/s (products) or GB/s of tensors read and written (the rest). */
#include "backend/cpu/dnnl.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static md_backend *be;

/* One thread is timed by its processor time, which other programs disturb less. */
static double now(void)
{
    struct timespec t;
    clock_gettime(be->threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static const char *only;
static md_dtype dtype = MD_F32;

static int64_t numel(const md_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++)
        n *= t->dim[i];
    return n;
}

/* Smallest time of one run of `node`, whose tensors are given; fills the inputs with noise. */
static double time_node(md_node *node)
{
    void *in[MD_MAX_IN] = {0}, *out[MD_MAX_OUT] = {0}, *scratch = NULL;
    double best = 1e9;
    md_kernel k = {0};
    md_status st = be->ops->prepare[node->op](be, node, &k);
    for (int i = 0; st == MD_OK && i < node->n_in + node->n_out; i++) {
        md_tensor *t = i < node->n_in ? node->in[i] : node->out[i - node->n_in];
        void **at = i < node->n_in ? &in[i] : &out[i - node->n_in];
        if (!t)
            continue;
        int64_t n = numel(t);
        st = be->ops->alloc(be, (size_t)n * 4, at);
        float *host = malloc((size_t)n * 4);
        for (int64_t j = 0; j < n; j++)
            host[j] = t->dtype == MD_I32 ? 0 : 0.5f + (float)(rand() % 1000) * 1e-3f;
        if (st == MD_OK)
            st = be->ops->write(be, *at, t->dtype, host, t->dtype == MD_I32 ? MD_I32 : MD_F32, n);
        free(host);
    }
    if (st == MD_OK)
        st = be->ops->alloc(be, k.scratch_bytes + 64, &scratch);
    double start = now();
    for (int i = 0; st == MD_OK && i < 400 && (i < 3 || now() - start < 0.6); i++) {
        double t0 = now();
        st = k.run(&k, in, out, scratch);
        double t = now() - t0;
        best = t < best ? t : best;
    }
    if (st != MD_OK)
        fprintf(stderr, "%s\n", md_status_text());
    for (int i = 0; i < MD_MAX_IN; i++)
        be->ops->release(be, in[i]);
    for (int i = 0; i < MD_MAX_OUT; i++)
        be->ops->release(be, out[i]);
    be->ops->release(be, scratch);
    if (k.release)
        k.release(&k);
    return best;
}

static md_tensor tensor(int ndim, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return (md_tensor){.dtype = dtype, .ndim = ndim, .dim = {a, b, c, d}, .path = ""};
}

static bool skip(const char *name)
{
    return only && !strstr(name, only);
}

static void conv(int n, int hw, int i, int o, int kernel, int stride)
{
    char name[64];
    snprintf(name, sizeof name, "conv %dx%dx%d %d->%d k%d s%d", n, hw, hw, i, o, kernel, stride);
    if (skip(name))
        return;
    int pad = kernel / 2, ohw = (hw + 2 * pad - kernel) / stride + 1;
    md_tensor x = tensor(4, n, hw, hw, i), w = tensor(4, o, kernel, kernel, i),
              b = tensor(1, o, 0, 0, 0);
    md_tensor y = tensor(4, n, ohw, ohw, o);
    md_attr attr = {.conv = {stride, pad, pad, pad, pad}};
    md_node fwd = {MD_OP_conv2d, 0, 3, 1, {&x, &w, &b}, {&y}, attr, -1, "bench", 0};
    md_node dx = {MD_OP_conv2d_dx, 0, 2, 1, {&y, &w}, {&x}, attr, -1, "bench", 0};
    md_node dw = {MD_OP_conv2d_dw, 0, 2, 1, {&y, &x}, {&w}, attr, -1, "bench", 0};
    double flops = 2.0 * n * ohw * ohw * o * kernel * kernel * i;
    double tf = time_node(&fwd), tx = time_node(&dx), tw = time_node(&dw);
    printf("%-32s fwd %6.1f  dx %6.1f  dw %6.1f GFLOP/s   (%.2f %.2f %.2f ms)\n", name,
           flops / tf * 1e-9, flops / tx * 1e-9, flops / tw * 1e-9, tf * 1e3, tx * 1e3, tw * 1e3);
}

/* Prints GB/s over the bytes of all tensors of the node. */
static void stream(const char *name, md_node *node)
{
    if (skip(name))
        return;
    double bytes = 0, t = time_node(node);
    for (int i = 0; i < node->n_in; i++)
        bytes += node->in[i] ? 4.0 * (double)numel(node->in[i]) : 0;
    for (int i = 0; i < node->n_out; i++)
        bytes += 4.0 * (double)numel(node->out[i]);
    printf("%-16s", name);
    for (int i = 0; i < node->in[0]->ndim; i++)
        printf("%c%d", i ? 'x' : ' ', (int)node->in[0]->dim[i]);
    printf("  %6.1f GB/s  (%.3f ms)\n", bytes / t * 1e-9, t * 1e3);
}

static void pointwise(int n, int hw, int c)
{
    md_tensor x = tensor(4, n, hw, hw, c), y = x, dy = x, vec = tensor(1, c, 0, 0, 0), vec2 = vec,
              vec3 = vec;
    md_tensor per = tensor(4, n, 1, 1, c), half = tensor(4, n, hw / 2, hw / 2, c);
    int groups = c < 32 ? c / 4 : 8;
    md_tensor mean = tensor(2, n, groups, 0, 0), rstd = mean;
    md_attr norm = {.norm = {groups, 1e-5, MD_ACT_SILU}}, silu = {.act = {MD_ACT_SILU, 0, 0}};
    md_attr gelu = {.act = {MD_ACT_GELU, 0, 0}}, none = {.norm = {groups, 1e-5, MD_ACT_NONE}};
    stream("group_norm+silu",
           &(md_node){
               MD_OP_group_norm, 0, 3, 3, {&x, &vec, &vec2}, {&y, &mean, &rstd}, norm, -1, "", 0});
    stream("group_norm",
           &(md_node){
               MD_OP_group_norm, 0, 3, 3, {&x, &vec, &vec2}, {&y, &mean, &rstd}, none, -1, "", 0});
    stream("group_norm_grad+silu", &(md_node){MD_OP_group_norm_grad,
                                              0,
                                              6,
                                              3,
                                              {&dy, &x, &vec, &vec2, &mean, &rstd},
                                              {&y, &vec3, &vec3},
                                              norm,
                                              -1,
                                              "",
                                              0});
    stream("group_norm_grad", &(md_node){MD_OP_group_norm_grad,
                                         0,
                                         6,
                                         3,
                                         {&dy, &x, &vec, &vec2, &mean, &rstd},
                                         {&y, &vec3, &vec3},
                                         none,
                                         -1,
                                         "",
                                         0});
    stream("add", &(md_node){MD_OP_add, 0, 2, 1, {&x, &dy}, {&y}, norm, -1, "", 0});
    stream("add [N,1,1,C]", &(md_node){MD_OP_add, 0, 2, 1, {&x, &per}, {&y}, norm, -1, "", 0});
    stream("act silu", &(md_node){MD_OP_act, 0, 1, 1, {&x}, {&y}, silu, -1, "", 0});
    stream("act gelu", &(md_node){MD_OP_act, 0, 1, 1, {&x}, {&y}, gelu, -1, "", 0});
    stream("act_grad silu", &(md_node){MD_OP_act_grad, 0, 2, 1, {&dy, &x}, {&y}, silu, -1, "", 0});
    stream("sum_to [C]", &(md_node){MD_OP_sum_to, 0, 1, 1, {&x}, {&vec}, norm, -1, "", 0});
    stream("sum_to [N,1,1,C]", &(md_node){MD_OP_sum_to, 0, 1, 1, {&x}, {&per}, norm, -1, "", 0});
    stream("upsample2x", &(md_node){MD_OP_upsample2x, 0, 1, 1, {&half}, {&y}, norm, -1, "", 0});
    stream("downsum2x", &(md_node){MD_OP_downsum2x, 0, 1, 1, {&x}, {&half}, norm, -1, "", 0});
}

static void linear(int m, int k, int n)
{
    char name[64];
    snprintf(name, sizeof name, "linear %dx%d->%d", m, k, n);
    if (skip(name))
        return;
    md_tensor x = tensor(2, m, k, 0, 0), w = tensor(2, n, k, 0, 0), b = tensor(1, n, 0, 0, 0),
              y = tensor(2, m, n, 0, 0);
    md_attr ta = {.matmul = {true, false}}, nn = {.matmul = {false, false}};
    double f = 2.0 * m * k * n;
    double t0 = time_node(&(md_node){MD_OP_linear, 0, 3, 1, {&x, &w, &b}, {&y}, nn, -1, "", 0});
    double t1 = time_node(&(md_node){MD_OP_matmul, 0, 2, 1, {&y, &w}, {&x}, nn, -1, "", 0});
    double t2 = time_node(&(md_node){MD_OP_matmul, 0, 2, 1, {&y, &x}, {&w}, ta, -1, "", 0});
    printf("%-32s fwd %6.1f  dx %6.1f  dw %6.1f GFLOP/s\n", name, f / t0 * 1e-9, f / t1 * 1e-9,
           f / t2 * 1e-9);
}

static void attention(int n, int t, int s, int heads, int d)
{
    char name[64];
    snprintf(name, sizeof name, "attention %dx%dx%d %dx%d", n, t, s, heads, d);
    if (skip(name))
        return;
    md_tensor q = tensor(3, n, t, heads * d, 0), k = tensor(3, n, s, heads * d, 0),
              lse = tensor(3, n, heads, t, 0);
    md_tensor v = k, o = q, dq = q, dk = k, dv = k, dout = q;
    md_attr a = {.attn = {heads, 0, false}};
    double f = 4.0 * n * t * s * heads * d;
    double t0 =
        time_node(&(md_node){MD_OP_attention, 0, 3, 2, {&q, &k, &v}, {&o, &lse}, a, -1, "", 0});
    double t1 = time_node(&(md_node){MD_OP_attention_grad,
                                     0,
                                     6,
                                     3,
                                     {&dout, &q, &k, &v, &o, &lse},
                                     {&dq, &dk, &dv},
                                     a,
                                     -1,
                                     "",
                                     0});
    printf("%-32s fwd %6.1f  grad %6.1f GFLOP/s (%.2f %.2f ms)\n", name, f / t0 * 1e-9,
           2.5 * f / t1 * 1e-9, t0 * 1e3, t1 * 1e3);
}

int main(int argc, char **argv)
{
    only = argc > 2 ? argv[2] : NULL;
    if (argc > 3 && strcmp(argv[3], "bf16") == 0)
        dtype = MD_BF16;
    if (argc > 4)
        cpu__dnnl_set_policy(strcmp(argv[4], "own") == 0 ? CPU_DNNL_NEVER : CPU_DNNL_ALWAYS);
    if (cpu_backend_open(&be, argc > 1 ? atoi(argv[1]) : 0) != MD_OK)
        return 1;
    conv(8, 128, 3, 16, 3, 1);
    conv(8, 128, 16, 16, 3, 1);
    conv(8, 128, 16, 3, 3, 1);
    conv(8, 128, 16, 32, 3, 2);
    conv(8, 64, 32, 32, 3, 1);
    conv(8, 64, 64, 32, 3, 1);
    conv(8, 64, 32, 64, 3, 2);
    conv(8, 32, 64, 64, 3, 1);
    conv(8, 32, 32, 64, 1, 1);
    conv(16, 32, 4, 32, 3, 1);
    conv(16, 32, 32, 32, 3, 1);
    conv(16, 32, 96, 32, 3, 1);
    conv(16, 16, 64, 64, 3, 1);
    conv(16, 8, 128, 128, 3, 1);
    conv(16, 8, 256, 128, 3, 1);
    conv(16, 16, 64, 128, 3, 2);
    conv(1, 64, 320, 320, 3, 1);
    conv(1, 64, 960, 320, 3, 1);
    conv(1, 32, 320, 320, 3, 1);
    conv(1, 32, 640, 640, 3, 1);
    conv(1, 16, 1280, 1280, 3, 1);
    conv(1, 8, 1280, 1280, 3, 1);
    conv(1, 16, 1280, 1280, 3, 2);
    conv(1, 64, 960, 320, 1, 1);
    conv(1, 16, 2560, 1280, 1, 1);
    pointwise(8, 128, 16);
    pointwise(8, 32, 64);
    pointwise(16, 32, 32);
    linear(16 * 1024, 32, 256);
    linear(16 * 256, 64, 64);
    linear(16 * 64, 128, 1024);
    linear(16, 128, 512);
    linear(2 * 77, 768, 3072);
    linear(4096, 320, 2560);
    linear(4096, 1280, 320);
    linear(1024, 640, 640);
    linear(1024, 2560, 640);
    linear(256, 1280, 10240);
    linear(256, 5120, 1280);
    linear(77, 768, 1280);
    linear(64, 1280, 1280);
    attention(8, 1024, 1024, 1, 64);
    attention(16, 1024, 1024, 4, 8);
    attention(16, 256, 256, 4, 16);
    attention(16, 64, 64, 4, 32);
    attention(16, 256, 77, 4, 16);
    attention(1, 4096, 4096, 8, 40);
    attention(1, 1024, 1024, 8, 80);
    attention(1, 256, 256, 8, 160);
    attention(1, 4096, 77, 8, 40);
    be->ops->close(be);
    return 0;
}
