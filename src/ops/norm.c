/* Group norm (Wu & He 2018) and layer norm (Ba et al. 2016). */
#include "ops/common.h"

static bool is_vector(const md_tensor *t, int64_t n, md_dtype dtype)
{
    return t->ndim == 1 && t->dim[0] == n && t->dtype == dtype;
}

md_tensor *md_group_norm(md_tensor *x, md_tensor *gamma, md_tensor *beta, int groups, double eps,
                         md_act act)
{
    PASS_POISON(x);
    PASS_POISON(gamma);
    PASS_POISON(beta);
    int64_t c = x->dim[x->ndim - 1];
    if (!ops__is_float(x) || x->ndim < 2 || groups < 1 || c % groups)
        return md_graph_poison(x->g, MD_SHAPE, "group_norm: %s in %d groups", md_shape_text(x),
                               groups);
    if (act != MD_ACT_NONE && act != MD_ACT_SILU)
        return md_graph_poison(x->g, MD_UNSUPPORTED, "group_norm: only SiLU can follow inside");
    if (!is_vector(gamma, c, x->dtype) || !is_vector(beta, c, x->dtype))
        return ops__mismatch(MD_OP_group_norm, x, is_vector(gamma, c, x->dtype) ? beta : gamma,
                             "gamma and beta must be [C]");
    md_attr attr = {.norm = {groups, eps, act}};
    md_node *n = md_node_new(x->g, MD_OP_group_norm, 3, (md_tensor *[]){x, gamma, beta}, &attr);
    md_tensor *y = md_node_output(n, x->dtype, x->ndim, x->dim);
    md_node_output(n, MD_F32, 2, MD_DIMS(x->dim[0], groups));
    md_node_output(n, MD_F32, 2, MD_DIMS(x->dim[0], groups));
    return y;
}

md_node *md_group_norm_grad(md_tensor *dy, md_node *norm)
{
    md_tensor *x = norm->in[0], *gamma = norm->in[1];
    md_tensor *in[] = {dy, x, gamma, norm->in[2], norm->out[1], norm->out[2]};
    md_node *n = md_node_new(x->g, MD_OP_group_norm_grad, 6, in, &norm->attr);
    md_node_output(n, x->dtype, x->ndim, x->dim);
    md_node_output(n, x->dtype, 1, gamma->dim);
    md_node_output(n, x->dtype, 1, gamma->dim);
    return n;
}

/* The gradients of a norm's {x, gamma, beta} are its gradient node's outputs, in that order. */
static void take(md_node *grad, const bool *want, md_tensor **gx)
{
    for (int i = 0; i < 3; i++)
        if (want[i])
            gx[i] = grad->n_out == 3 ? grad->out[i] : NULL;
}

VJP(group_norm)
{
    if (gy[0])
        take(md_group_norm_grad(gy[0], n), want, gx);
}

md_tensor *md_layer_norm(md_tensor *x, md_tensor *gamma, md_tensor *beta, double eps)
{
    PASS_POISON(x);
    PASS_POISON(gamma);
    PASS_POISON(beta);
    int64_t d = x->dim[x->ndim - 1];
    if (!ops__is_float(x) || !is_vector(gamma, d, x->dtype) || !is_vector(beta, d, x->dtype))
        return ops__mismatch(MD_OP_layer_norm, x, is_vector(gamma, d, x->dtype) ? beta : gamma,
                             "gamma and beta must be [D]");
    md_attr attr = {.norm = {0, eps, MD_ACT_NONE}};
    md_node *n = md_node_new(x->g, MD_OP_layer_norm, 3, (md_tensor *[]){x, gamma, beta}, &attr);
    md_tensor *y = md_node_output(n, x->dtype, x->ndim, x->dim);
    md_node_output(n, MD_F32, 1, MD_DIMS(ops__rows(x)));
    md_node_output(n, MD_F32, 1, MD_DIMS(ops__rows(x)));
    return y;
}

md_node *md_layer_norm_grad(md_tensor *dy, md_node *norm)
{
    md_tensor *x = norm->in[0], *gamma = norm->in[1];
    md_tensor *in[] = {dy, x, gamma, norm->out[1], norm->out[2]};
    md_node *n = md_node_new(x->g, MD_OP_layer_norm_grad, 5, in, &norm->attr);
    md_node_output(n, x->dtype, x->ndim, x->dim);
    md_node_output(n, x->dtype, 1, gamma->dim);
    md_node_output(n, x->dtype, 1, gamma->dim);
    return n;
}

VJP(layer_norm)
{
    if (gy[0])
        take(md_layer_norm_grad(gy[0], n), want, gx);
}
