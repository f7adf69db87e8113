/* attention attention_grad in bf16 on cuDNN's unified attention operations, or the gradient in
   parts (attention_grad.c): dims [N,heads,T,d] over our [N,T,heads d] by strides. Causal attention
   (the operations of 9.19 have no attribute for a mask), f32, and whatever no engine takes goes to
   products and a softmax (attention_products.c: forward) or our own kernels (flash.c). */
#include "backend/cuda/attention.h"
#include "base/str.h"
#include <math.h>
#include <stdlib.h>

/* Above this head size no engine exists; below it the heuristics say. */
enum { MAX_HEAD = 256, HEAD_MULTIPLE = 8, MIN_ALIGNMENT = 16 };

static md_status heads_tensor(dnn *g, int place, const md_tensor *t, int heads,
                              cudnnBackendDescriptor_t *out)
{
    int64_t T = t->dim[1], D = t->dim[2], d = D / heads;
    const int64_t dim[4] = {t->dim[0], heads, T, d}, stride[4] = {T * D, d, D, 1};
    return dnn__tensor(g, place, CUDNN_DATA_BFLOAT16, cuda__alignment(t), dim, stride, out);
}

/* lse[N,heads,T]. cuDNN's Stats are the natural logarithm of the sum of exp of the scaled logits,
   as ours ("Stats (natural-log LSE)" in its attention pages). */
static md_status stats_tensor(dnn *g, int place, const md_tensor *t, cudnnBackendDescriptor_t *out)
{
    int64_t H = t->dim[1], T = t->dim[2];
    const int64_t dim[4] = {t->dim[0], H, T, 1}, stride[4] = {H * T, T, 1, 1};
    return dnn__tensor(g, place, CUDNN_DATA_FLOAT, cuda__alignment(t), dim, stride, out);
}

static md_status scale_tensor(dnn *g, double scale, cudnnBackendDescriptor_t *out)
{
    const int64_t one[4] = {1, 1, 1, 1};
    g->value[0] = (float)scale;
    return dnn__tensor(g, DNN_VALUE, CUDNN_DATA_FLOAT, sizeof(float), one, one, out);
}

double cuda__attention_scale(const md_node *n, const md_tensor *q)
{
    double s = n->attr.attn.scale;
    return s != 0 ? s : 1 / sqrt((double)q->dim[2] / n->attr.attn.heads);
}

#if CUDNN_VERSION >= 91700

typedef struct role {
    int place;
    cudnnBackendAttributeName_t name;
    enum { HEADS, STATS } kind;
} role;

static const role forward[] = {
    {DNN_IN + 0, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, HEADS},
    {DNN_IN + 1, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC, HEADS},
    {DNN_IN + 2, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, HEADS},
    {DNN_OUT + 0, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC, HEADS},
    {DNN_OUT + 1, CUDNN_ATTR_OPERATION_SDPA_FWD_STATSDESC, STATS},
};
static const role backward[] = {
    {DNN_IN + 0, CUDNN_ATTR_OPERATION_SDPA_BWD_DODDESC, HEADS},
    {DNN_IN + 1, CUDNN_ATTR_OPERATION_SDPA_BWD_QDESC, HEADS},
    {DNN_IN + 2, CUDNN_ATTR_OPERATION_SDPA_BWD_KDESC, HEADS},
    {DNN_IN + 3, CUDNN_ATTR_OPERATION_SDPA_BWD_VDESC, HEADS},
    {DNN_IN + 4, CUDNN_ATTR_OPERATION_SDPA_BWD_ODESC, HEADS},
    {DNN_IN + 5, CUDNN_ATTR_OPERATION_SDPA_BWD_STATSDESC, STATS},
    {DNN_OUT + 0, CUDNN_ATTR_OPERATION_SDPA_BWD_DQDESC, HEADS},
    {DNN_OUT + 1, CUDNN_ATTR_OPERATION_SDPA_BWD_DKDESC, HEADS},
    {DNN_OUT + 2, CUDNN_ATTR_OPERATION_SDPA_BWD_DVDESC, HEADS},
};

static md_status build(dnn *g, const md_node *n)
{
    bool grad = n->op == MD_OP_attention_grad;
    const role *roles = grad ? backward : forward;
    size_t n_roles = grad ? sizeof backward / sizeof *backward : sizeof forward / sizeof *forward;
    cudnnBackendDescriptor_t op, t[DNN_MAX_TENSORS], scale;
    for (size_t i = 0; i < n_roles; i++) {
        const role *r = &roles[i];
        const md_tensor *data = r->place < DNN_OUT ? n->in[r->place] : n->out[r->place - DNN_OUT];
        if (r->kind == STATS)
            MD_TRY(stats_tensor(g, r->place, data, &t[i]));
        else
            MD_TRY(heads_tensor(g, r->place, data, n->attr.attn.heads, &t[i]));
    }
    MD_TRY(scale_tensor(g, cuda__attention_scale(n, n->in[grad ? 1 : 0]), &scale));
    MD_TRY(dnn__make(g,
                     grad ? CUDNN_BACKEND_OPERATION_SDPA_BWD_DESCRIPTOR
                          : CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR,
                     &op));
    for (size_t i = 0; i < n_roles; i++)
        MD_TRY(dnn__set_descriptor(op, roles[i].name, t[i]));
    MD_TRY(dnn__set_descriptor(op,
                               grad ? CUDNN_ATTR_OPERATION_SDPA_BWD_SCALEDESC
                                    : CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC,
                               scale));
    return dnn__add_op(g, op);
}

#else

static md_status build(dnn *g, const md_node *n)
{
    (void)g;
    (void)n;
    MD_FAIL(MD_UNSUPPORTED, "cuDNN before 9.17 has no unified attention backward");
}

#endif

/* What is worth asking the heuristics about. Up to 9.15 the gradient in parts wants a padding mask
   where S is no multiple of 128. */
static bool may_fit(const md_node *n)
{
    int64_t head = n->out[0]->dim[2] / n->attr.attn.heads;
    if (n->in[0]->dtype != MD_BF16 || n->attr.attn.causal || head % HEAD_MULTIPLE != 0 ||
        head > MAX_HEAD || cudnnGetVersion() < 91700)
        return false;
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] && cuda__alignment(n->in[i]) < MIN_ALIGNMENT)
            return false;
    for (int i = 0; i < n->n_out; i++)
        if (cuda__alignment(n->out[i]) < MIN_ALIGNMENT)
            return false;
    return true;
}

static md_status run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    return dnn__run(k->state, 0, in, out, scratch);
}

static void release(md_kernel *k)
{
    dnn__close(k->state);
    free(k->state);
    k->state = NULL;
}

/* Plans the node as `describe` has it; no plans where cuDNN does not know the graph. `form` tells
   one description's timed choices from another's. */
static md_status plan(dnn *g, const md_node *node, md_status (*describe)(dnn *, const md_node *),
                      const char *form)
{
    char question[320];
    const md_tensor *q = node->in[node->op == MD_OP_attention_grad ? 1 : 0];
    const md_tensor *keys = node->in[node->op == MD_OP_attention_grad ? 2 : 1];
    MD_TRY(md_str_printf(question, sizeof question, "%s%s q %s k %s heads %d limit %zu",
                         md_op_name(node->op), form, md_shape_text(q), md_shape_text(keys),
                         node->attr.attn.heads, g->d->options.workspace_bytes));
    md_status status = describe(g, node);
    if (status == MD_OK)
        return dnn__plan(g, node, question);
    if (status != MD_UNSUPPORTED)
        return status;
    md_status_clear();
    return MD_OK;
}

static md_status prepare(md_backend *be, const md_node *node, md_kernel *k, md_prepare_fn other)
{
    if (!may_fit(node))
        return other(be, node, k);
    void *state;
    MD_TRY(md_kernel_state(k, sizeof(dnn), &state));
    dnn *g = state;
    g->d = cuda__impl(be);
    k->release = release;
    k->run = run;
    bool grad = node->op == MD_OP_attention_grad;
    if (!grad || !g->d->options.deterministic) /* the unified backward has no order of its sums */
        MD_TRY(plan(g, node, build, ""));
    /* the frontend lets no T = S = 1 through */
    if (grad && g->n_plans == 0 && (node->in[1]->dim[1] > 1 || node->in[2]->dim[1] > 1)) {
        dnn__close(g);
        MD_TRY(plan(g, node, cuda__attention_grad_graph, " in parts"));
    }
    if (g->n_plans > 0) {
        k->scratch_bytes = cuda__workspace_room(g->plans[0].workspace);
        return MD_OK;
    }
    release(k);
    k->release = NULL;
    return other(be, node, k);
}

/* in {q, k, v} -> {out, lse} */
md_status cuda_attention(md_backend *be, const md_node *node, md_kernel *k)
{
    return prepare(be, node, k, cuda__attention_products);
}

/* in {dout, q, k, v, out, lse} -> {dq, dk, dv} */
md_status cuda_attention_grad(md_backend *be, const md_node *node, md_kernel *k)
{
    return prepare(be, node, k, cuda__flash_grad);
}
