/* Linear layers and matrix products on the packed inner kernels. */
#include "backend/cpu/gemm.h"
#include "backend/cpu/product.h"

typedef struct gemm_state {
    int64_t m, n, k;
    size_t bias_at, a_at;
} gemm_state;

static void locate(const void *ctx, int64_t first, int64_t n, int tap, int64_t *at)
{
    const gemm_state *s = ctx;
    for (int64_t i = 0; i < n; i++)
        at[i] = (first + i) * (tap < 0 ? s->n : s->k);
}

static md_status product_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    const gemm_state *s = k->state;
    const md_node *node = k->node;
    static const int64_t w_tap[] = {0};
    bool by_k = node->op == MD_OP_matmul && !node->attr.matmul.tb;
    cpu_product p = {.rows = s->m, .outs = s->n, .k_len = s->k, .taps = 1, .w_tap = w_tap};
    p.w_out = by_k ? 1 : s->k;
    p.w_k = by_k ? s->n : 1;
    p.locate = locate;
    p.ctx = s;
    cpu__product_types(&p, node);
    cpu_product_args a = cpu__product_args(node, in, out);
    cpu__product_run(&p, &a, scratch, cpu__threads(k));
    return MD_OK;
}

static md_status linear_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    const gemm_state *s = k->state;
    int threads = cpu__threads(k);
    float *bias = NULL;
    cpu__pack(scratch, in[1], s->k, true, s->k, s->n, threads);
    if (in[2]) {
        bias = cpu__at(scratch, s->bias_at);
        memset(bias, 0, (size_t)cpu__panels_len(1, s->n) * sizeof(float));
        memcpy(bias, in[2], (size_t)s->n * sizeof(float));
    }
    cpu__gemm_packed(s->m, s->n, s->k, in[0], s->k, scratch, bias, out[0], s->n, threads);
    return MD_OK;
}

md_status cpu_linear(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    void *state;
    MD_TRY(md_kernel_state(k, sizeof(gemm_state), &state));
    gemm_state *s = state;
    s->n = node->in[1]->dim[0];
    s->k = node->in[1]->dim[1];
    s->m = md_numel(node->in[0]) / s->k;
    if (cpu__product_wanted(node)) {
        k->scratch_bytes = cpu__product_scratch(cpu__threads(k));
        k->run = product_run;
        return MD_OK;
    }
    s->bias_at = cpu__floats(cpu__panels_len(s->k, s->n));
    k->scratch_bytes = s->bias_at + cpu__floats(cpu__panels_len(1, s->n));
    k->run = linear_run;
    return MD_OK;
}

static void transpose(float *dst, const float *src, int64_t rows, int64_t cols, int threads)
{
#pragma omp parallel for num_threads(threads) if (rows * cols > 16384)
    for (int64_t j0 = 0; j0 < cols; j0 += 16)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = j0; j < cpu__min(cols, j0 + 16); j++)
                dst[j * rows + i] = src[i * cols + j];
}

static md_status matmul_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    const gemm_state *s = k->state;
    bool ta = k->node->attr.matmul.ta, tb = k->node->attr.matmul.tb;
    int threads = cpu__threads(k);
    const float *a = in[0], *b = in[1];
    if (ta && !tb) {
        cpu__gemm_tn(s->m, s->n, s->k, a, s->m, b, s->n, out[0], s->n, threads);
        return MD_OK;
    }
    if (ta) {
        float *at = cpu__at(scratch, s->a_at);
        transpose(at, a, s->k, s->m, threads);
        a = at;
    }
    if (!tb && s->m <= CPU_FEW_ROWS && s->n % VL == 0) {
        cpu__gemm_direct(s->m, s->n, s->k, a, s->k, b, s->n, out[0], s->n, threads);
        return MD_OK;
    }
    cpu__pack(scratch, b, tb ? s->k : s->n, tb, s->k, s->n, threads);
    cpu__gemm_packed(s->m, s->n, s->k, a, s->k, scratch, NULL, out[0], s->n, threads);
    return MD_OK;
}

md_status cpu_matmul(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    void *state;
    MD_TRY(md_kernel_state(k, sizeof(gemm_state), &state));
    gemm_state *s = state;
    const md_tensor *a = node->in[0], *b = node->in[1], *c = node->out[0];
    bool ta = node->attr.matmul.ta, tb = node->attr.matmul.tb;
    /* all leading dims of an operand fold into its first */
    s->n = c->dim[c->ndim - 1];
    s->m = md_numel(c) / s->n;
    s->k = md_numel(a) / s->m;
    if (md_numel(b) != s->k * s->n)
        MD_FAIL(MD_SHAPE, "matmul at '%s': %s times %s", node->path, md_shape_text(a),
                md_shape_text(b));
    if (cpu__product_wanted(node)) {
        k->scratch_bytes = cpu__product_scratch(cpu__threads(k));
        k->run = product_run;
        return MD_OK;
    }
    if (!(ta && !tb))
        s->a_at = cpu__floats(cpu__panels_len(s->k, s->n));
    k->scratch_bytes = s->a_at + (ta && tb ? cpu__floats(s->m * s->k) : 0);
    k->run = matmul_run;
    return MD_OK;
}
