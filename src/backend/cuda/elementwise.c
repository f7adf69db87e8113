/* add sub mul affine act act_grad geglu geglu_grad cast. */
#include "backend/cuda/elementwise.h"

cuda_broadcast cuda__broadcast(const md_tensor *large, const md_tensor *small)
{
    cuda_broadcast s = {.dim = {1, 1, 1, 1}};
    int at = MD_MAX_DIMS; /* of the dim being gathered */
    int64_t step = 1;
    for (int i = large->ndim - 1; i >= 0; i--) {
        int j = i - (large->ndim - small->ndim);
        int64_t own = j >= 0 ? small->dim[j] : 1;
        if (large->dim[i] == 1)
            continue;
        if (at == MD_MAX_DIMS || (s.stride[at] != 0) != (own != 1))
            s.stride[--at] = own != 1 ? step : 0;
        s.dim[at] *= large->dim[i];
        step *= own;
    }
    if (at == MD_MAX_DIMS) /* one element */
        s.stride[--at] = 1;
    s.n = MD_MAX_DIMS - at;
    return s;
}

static md_status binary_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    const md_node *n = k->node;
    return cuda__launched(k, cuda__binary(cuda__device(k->backend), n->op, n->out[0]->dtype,
                                          k->state, in[0], in[1], out[0]));
}

static md_status binary(const md_node *node, md_kernel *k)
{
    void *state;
    MD_TRY(md_kernel_state(k, sizeof(cuda_broadcast), &state));
    *(cuda_broadcast *)state = cuda__broadcast(node->in[0], node->in[1]);
    k->run = binary_run;
    return MD_OK;
}

md_status cuda_add(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    return binary(node, k);
}

md_status cuda_sub(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    return binary(node, k);
}

md_status cuda_mul(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    return binary(node, k);
}

static md_status affine_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    const md_tensor *y = k->node->out[0];
    const md_attr *a = &k->node->attr;
    return cuda__launched(k, cuda__affine(cuda__device(k->backend), y->dtype, md_numel(y),
                                          (float)a->affine.alpha, (float)a->affine.beta, in[0],
                                          out[0]));
}

md_status cuda_affine(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = affine_run;
    return MD_OK;
}

static md_status act_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    const md_tensor *y = k->node->out[0];
    const md_attr *a = &k->node->attr;
    return cuda__launched(k, cuda__act(cuda__device(k->backend), y->dtype, md_numel(y), a->act.kind,
                                       (float)a->act.lo, (float)a->act.hi, in[0], out[0]));
}

/* The builders never make a node of NONE. */
static md_status act_kind(const md_node *node)
{
    if (node->attr.act.kind == MD_ACT_NONE)
        MD_FAIL(MD_UNSUPPORTED, "%s at '%s': no activation", md_op_name(node->op), node->path);
    return MD_OK;
}

md_status cuda_act(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    k->run = act_run;
    return act_kind(node);
}

static md_status act_grad_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    const md_tensor *dx = k->node->out[0];
    const md_attr *a = &k->node->attr;
    return cuda__launched(k, cuda__act_grad(cuda__device(k->backend), dx->dtype, md_numel(dx),
                                            a->act.kind, (float)a->act.lo, (float)a->act.hi, in[0],
                                            in[1], out[0]));
}

md_status cuda_act_grad(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    k->run = act_grad_run;
    return act_kind(node);
}

static md_status geglu_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    const md_tensor *y = k->node->out[0];
    int64_t width = y->dim[y->ndim - 1];
    return cuda__launched(k, cuda__geglu(cuda__device(k->backend), y->dtype, md_numel(y) / width,
                                         width, in[0], out[0]));
}

md_status cuda_geglu(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = geglu_run;
    return MD_OK;
}

static md_status geglu_grad_run(const md_kernel *k, void *const *in, void *const *out,
                                void *scratch)
{
    (void)scratch;
    const md_tensor *dy = k->node->in[0];
    int64_t width = dy->dim[dy->ndim - 1];
    return cuda__launched(k, cuda__geglu_grad(cuda__device(k->backend), dy->dtype,
                                              md_numel(dy) / width, width, in[0], in[1], out[0]));
}

md_status cuda_geglu_grad(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = geglu_grad_run;
    return MD_OK;
}

static md_status cast_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    const md_tensor *x = k->node->in[0];
    return cuda__launched(
        k, cuda__cast(cuda__device(k->backend), x->dtype, md_numel(x), in[0], out[0]));
}

md_status cuda_cast(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = cast_run;
    return MD_OK;
}
