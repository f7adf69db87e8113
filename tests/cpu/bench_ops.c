/* Times the cpu kernels at the shapes of the small models: bench_ops [threads] [only this op].
   Not a test: prints GFLOP/s (products) or GB/s of tensors read and written (the rest). */
#include "backend/cpu/cpu.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static md_backend *be;
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
    for (int i = 0; st == MD_OK && i < 200 && (i < 3 || now() - start < 0.4); i++) {
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
    if (skip("conv"))
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
    printf("conv %2dx%3dx%3d %3d->%3d k%d s%d  fwd %6.1f  dx %6.1f  dw %6.1f GFLOP/s   (%.2f %.2f "
           "%.2f ms)\n",
           n, hw, hw, i, o, kernel, stride, flops / tf * 1e-9, flops / tx * 1e-9, flops / tw * 1e-9,
           tf * 1e3, tx * 1e3, tw * 1e3);
}

int main(int argc, char **argv)
{
    only = argc > 2 ? argv[2] : NULL;
    if (argc > 3)
        dtype = MD_BF16;
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
    conv(1, 32, 320, 320, 3, 1);
    be->ops->close(be);
    return 0;
}
