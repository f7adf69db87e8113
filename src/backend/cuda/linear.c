/* linear and matmul on cuBLASLt, and its products for others (linear.h). It thinks in columns: our
   row-major C[M,N] = A B is its C^T[N,M] = B^T A^T, with the operands swapped and no data moved.
   Bias is an epilogue, the residual is its matrix C. */
#include "backend/cuda/linear.h"
#include "base/str.h"
#include <stdlib.h>
#include <string.h>

static cudaDataType_t data_type(md_dtype t)
{
    return t == MD_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static bool aligned(const void *p, int64_t alignment)
{
    return ((uintptr_t)p & (uintptr_t)(alignment - 1)) == 0;
}

static md_status set_bias(cuda_product *p, const void *bias)
{
    if (p->bias_at == bias)
        return MD_OK;
    p->bias_at = NULL;
    BLAS_TRY(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
                                            sizeof bias));
    p->bias_at = bias;
    return MD_OK;
}

static md_status multiply(cuda_product *p, int which, const void *const in[4], void *out,
                          void *scratch)
{
    const float one = 1, zero = 0;
    const cublasLtMatmulHeuristicResult_t *h = &p->found[which];
    const void *residual = p->residual ? in[3] : NULL;
    if (!aligned(in[0], p->alignment[0]) || !aligned(in[1], p->alignment[1]) ||
        (p->bias && !aligned(in[2], p->alignment[2])) || !aligned(residual, p->alignment[3]) ||
        !aligned(out, p->alignment[4]))
        MD_FAIL(MD_INTERNAL, "a tensor lies at an address that its place did not promise");
    if (p->bias)
        MD_TRY(set_bias(p, in[2]));
    BLAS_TRY(cublasLtMatmul(p->d->blas, p->desc, &p->alpha, in[1], p->left, in[0], p->right,
                            residual ? &one : &zero, residual ? residual : out, p->out, out, p->out,
                            &h->algo, h->workspaceSize ? cuda__workspace_at(scratch) : NULL,
                            h->workspaceSize, p->d->launch));
    return MD_OK;
}

md_status cuda__product_run(cuda_product *p, const void *const in[4], void *out, void *scratch)
{
    return multiply(p, 0, in, out, scratch);
}

void cuda__product_close(cuda_product *p)
{
    if (p->out)
        (void)cublasLtMatrixLayoutDestroy(p->out);
    if (p->right)
        (void)cublasLtMatrixLayoutDestroy(p->right);
    if (p->left)
        (void)cublasLtMatrixLayoutDestroy(p->left);
    if (p->desc)
        (void)cublasLtMatmulDescDestroy(p->desc);
    p->out = p->right = p->left = NULL;
    p->desc = NULL;
    p->n_found = 0;
}

size_t cuda__product_scratch(const cuda_product *p)
{
    return cuda__workspace_room(p->found[0].workspaceSize);
}

/* rows x cols of our row-major matrix; to the library its transpose. */
static md_status layout(md_dtype t, int64_t rows, int64_t cols, int64_t ld,
                        cublasLtMatrixLayout_t *out)
{
    BLAS_TRY(cublasLtMatrixLayoutCreate(out, data_type(t), (uint64_t)cols, (uint64_t)rows, ld));
    return MD_OK;
}

static md_status build(cuda_product *p)
{
    bool tf32 = p->d->options.tf32 && p->dtype == MD_F32;
    const int32_t left_op = p->tb ? CUBLAS_OP_T : CUBLAS_OP_N;
    const int32_t right_op = p->ta ? CUBLAS_OP_T : CUBLAS_OP_N;
    BLAS_TRY(cublasLtMatmulDescCreate(
        &p->desc, tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F));
    BLAS_TRY(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &left_op,
                                            sizeof left_op));
    BLAS_TRY(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSB, &right_op,
                                            sizeof right_op));
    MD_TRY(layout(p->dtype, p->tb ? p->n : p->k, p->tb ? p->k : p->n, p->ldb, &p->left));
    MD_TRY(layout(p->dtype, p->ta ? p->k : p->m, p->ta ? p->m : p->k, p->lda, &p->right));
    return layout(p->out_dtype, p->m, p->n, p->ldc, &p->out);
}

static md_status set_epilogue(cuda_product *p)
{
    const uint32_t epilogue = p->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    BLAS_TRY(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                            sizeof epilogue));
    if (!p->bias)
        return MD_OK;
    const int32_t type = (int32_t)data_type(p->out_dtype);
    BLAS_TRY(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type,
                                            sizeof type));
    /* the heuristics look at the address's alignment and no further */
    return set_bias(p, (const void *)(uintptr_t)p->alignment[2]);
}

static md_status set_preference(cublasLtMatmulPreference_t pref,
                                cublasLtMatmulPreferenceAttributes_t a, const void *value,
                                size_t bytes)
{
    BLAS_TRY(cublasLtMatmulPreferenceSetAttribute(pref, a, value, bytes));
    return MD_OK;
}

/* A product split along k may be summed in f32 only: not in bf16, and not in the result. */
static md_status set_preferences(const cuda_product *p, cublasLtMatmulPreference_t pref)
{
    const uint64_t workspace = p->limit > CUDA_SCRATCH_PAD ? p->limit - CUDA_SCRATCH_PAD : 0;
    const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const uint32_t a = (uint32_t)p->alignment[1], b = (uint32_t)p->alignment[0];
    const uint32_t c = (uint32_t)p->alignment[p->residual ? 3 : 4], d = (uint32_t)p->alignment[4];
    MD_TRY(set_preference(pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                          sizeof workspace));
    MD_TRY(
        set_preference(pref, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes));
    MD_TRY(set_preference(pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &a, sizeof a));
    MD_TRY(set_preference(pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &b, sizeof b));
    MD_TRY(set_preference(pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &c, sizeof c));
    return set_preference(pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &d, sizeof d);
}

/* Fills found[] with the algorithms that can be used; none is no error. */
static md_status find(cuda_product *p)
{
    cublasLtMatmulPreference_t pref = NULL;
    int offered = 0;
    p->n_found = 0;
    MD_TRY(set_epilogue(p));
    BLAS_TRY(cublasLtMatmulPreferenceCreate(&pref));
    md_status status = set_preferences(p, pref);
    if (status == MD_OK) {
        cublasStatus_t s =
            cublasLtMatmulAlgoGetHeuristic(p->d->blas, p->desc, p->left, p->right, p->out, p->out,
                                           pref, CUDA_PRODUCT_ALGORITHMS, p->found, &offered);
        if (s == CUBLAS_STATUS_NOT_SUPPORTED)
            offered = 0;
        else if (s != CUBLAS_STATUS_SUCCESS)
            status = cuda__blas_fail(s, "cublasLtMatmulAlgoGetHeuristic", __FILE__, __LINE__);
    }
    (void)cublasLtMatmulPreferenceDestroy(pref);
    for (int i = 0; status == MD_OK && i < offered; i++)
        if (p->found[i].state == CUBLAS_STATUS_SUCCESS &&
            cuda__workspace_room(p->found[i].workspaceSize) <= p->limit)
            p->found[p->n_found++] = p->found[i];
    return status;
}

static md_status run_candidate(void *user, int candidate, void *const *in, void *const *out,
                               void *scratch)
{
    const void *const operands[4] = {in[0], in[1], in[2], in[3]};
    return multiply(user, candidate, operands, out[0], scratch);
}

/* What distinguishes one timed choice from another. */
static md_status ask(const cuda_product *p, char *question, size_t bytes)
{
    char lds[96] = "";
    if (p->lda != (p->ta ? p->m : p->k) || p->ldb != (p->tb ? p->k : p->n) || p->ldc != p->n)
        MD_TRY(md_str_printf(lds, sizeof lds, " ld %lld %lld %lld", (long long)p->lda,
                             (long long)p->ldb, (long long)p->ldc));
    return md_str_printf(
        question, bytes,
        "matmul %s%s %lldx%lldx%lld %c%c%s%s%s align %lld %lld %lld %lld%s limit %zu",
        md_dtype_name(p->dtype), p->out_dtype == p->dtype ? "" : " to f32", (long long)p->m,
        (long long)p->n, (long long)p->k, p->ta ? 't' : 'n', p->tb ? 't' : 'n', lds,
        p->bias ? " bias" : "", p->residual ? " residual" : "", (long long)p->alignment[0],
        (long long)p->alignment[1], (long long)p->alignment[3], (long long)p->alignment[4],
        p->d->options.tf32 ? " tf32" : "", p->limit);
}

static md_tensor matrix(md_dtype t, int64_t rows, int64_t cols)
{
    return (md_tensor){.dtype = t, .ndim = 2, .dim = {rows, cols}};
}

static md_status time_algorithms(cuda_product *p, int *best)
{
    md_tensor a = matrix(p->dtype, p->ta ? p->k : p->m, p->lda);
    md_tensor b = matrix(p->dtype, p->tb ? p->n : p->k, p->ldb);
    md_tensor bias = matrix(p->out_dtype, 1, p->n), c = matrix(p->out_dtype, p->m, p->ldc);
    const md_node node = {
        .op = MD_OP_matmul,
        .n_in = 4,
        .in = {&a, &b, p->bias ? &bias : NULL, p->residual ? &c : NULL},
        .n_out = 1,
        .out = {&c},
    };
    cuda_candidates all = {.n = p->n_found, .node = &node, .run = run_candidate, .user = p};
    for (int i = 0; i < p->n_found; i++)
        if (p->found[i].workspaceSize > all.workspace)
            all.workspace = p->found[i].workspaceSize;
    return cuda__choose(p->d, &all, best);
}

/* Moves the fastest algorithm to found[0]. */
static md_status choose(cuda_product *p)
{
    char question[352];
    MD_TRY(ask(p, question, sizeof question));
    bool timed = cuda__choice_is_timed(p->d);
    int64_t known = timed ? cuda__tuning_find(p->d, question) : -1;
    int best = 0;
    if (known >= 0 && known < p->n_found) {
        best = (int)known;
    } else {
        MD_TRY(time_algorithms(p, &best));
        if (timed)
            cuda__tuning_keep(p->d, question, best);
    }
    p->found[0] = p->found[best];
    return MD_OK;
}

static md_status find_and_choose(cuda_product *p)
{
    MD_TRY(find(p));
    return p->n_found ? choose(p) : MD_OK;
}

md_status cuda__product_prepare(cuda_product *p)
{
    MD_TRY(build(p));
    return find_and_choose(p);
}

/* ---- the ops */

typedef struct linear {
    cuda_product p;
    md_node add_node; /* the launch for a bias that no algorithm takes */
    md_kernel add;
} linear;

static md_status run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    linear *l = k->state;
    const void *const operands[4] = {in[0], in[1], l->p.bias ? in[2] : NULL,
                                     l->p.residual ? in[3] : NULL};
    MD_TRY(cuda__product_run(&l->p, operands, out[0], scratch));
    if (!l->add.run)
        return MD_OK;
    void *const terms[2] = {out[0], in[2]};
    return l->add.run(&l->add, terms, out, scratch);
}

static void release(md_kernel *k)
{
    linear *l = k->state;
    if (l->add.release)
        l->add.release(&l->add);
    cuda__product_close(&l->p);
    free(l);
    k->state = NULL;
}

static md_status prepare_add(md_backend *be, const md_node *node, linear *l)
{
    md_node *n = &l->add_node;
    *n = *node;
    n->op = MD_OP_add;
    n->n_in = 2;
    memset(n->in, 0, sizeof n->in);
    n->in[0] = node->out[0];
    n->in[1] = node->in[2];
    l->add = (md_kernel){.node = n, .backend = be};
    return cuda_add(be, n, &l->add);
}

static md_status prepare(md_backend *be, const md_node *node, md_kernel *k,
                         const cuda_product *shape)
{
    void *state;
    MD_TRY(md_kernel_state(k, sizeof(linear), &state));
    linear *l = state;
    cuda_product *p = &l->p;
    *p = *shape;
    p->d = cuda__impl(be);
    k->release = release;
    k->run = run;
    p->alpha = 1;
    p->dtype = node->in[0]->dtype;
    p->out_dtype = node->out[0]->dtype;
    p->lda = p->ta ? p->m : p->k;
    p->ldb = p->tb ? p->k : p->n;
    p->ldc = p->n;
    p->limit = p->d->options.workspace_bytes;
    for (int i = 0; i < 4; i++)
        p->alignment[i] = i < node->n_in && node->in[i] ? cuda__alignment(node->in[i]) : 1;
    p->alignment[4] = cuda__alignment(node->out[0]);
    MD_TRY(cuda__product_prepare(p));
    if (p->n_found == 0 && p->bias) {
        p->bias = false;
        MD_TRY(find_and_choose(p));
        if (p->n_found > 0)
            MD_TRY(prepare_add(be, node, l));
    }
    if (p->n_found == 0)
        MD_FAIL(MD_UNSUPPORTED,
                "%s at '%s': cuBLASLt %zu offers no algorithm within %zu bytes for %s times %s",
                md_op_name(node->op), node->path, cublasLtGetVersion(), p->limit,
                md_shape_text(node->in[0]), md_shape_text(node->in[1]));
    k->scratch_bytes = cuda__product_scratch(p);
    if (l->add.scratch_bytes > k->scratch_bytes)
        k->scratch_bytes = l->add.scratch_bytes;
    return MD_OK;
}

/* in {x[...,K], w[O,K], b[O] or NULL, r[...,O] or NULL} */
md_status cuda_linear(md_backend *be, const md_node *node, md_kernel *k)
{
    cuda_product p = {.n = node->in[1]->dim[0], .k = node->in[1]->dim[1], .tb = true};
    p.m = md_numel(node->in[0]) / p.k;
    p.bias = node->in[2] != NULL;
    p.residual = node->in[3] != NULL;
    return prepare(be, node, k, &p);
}

/* All leading dims of an operand fold into its first. */
md_status cuda_matmul(md_backend *be, const md_node *node, md_kernel *k)
{
    const md_tensor *a = node->in[0], *b = node->in[1], *c = node->out[0];
    cuda_product p = {.ta = node->attr.matmul.ta, .tb = node->attr.matmul.tb};
    p.n = c->dim[c->ndim - 1];
    p.m = md_numel(c) / p.n;
    p.k = md_numel(a) / p.m;
    if (md_numel(b) != p.k * p.n)
        MD_FAIL(MD_SHAPE, "matmul at '%s': %s times %s", node->path, md_shape_text(a),
                md_shape_text(b));
    return prepare(be, node, k, &p);
}
