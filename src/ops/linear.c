/* linear and matmul. */
#include "ops/common.h"

md_tensor *md_linear_residual(md_tensor *x, md_tensor *w, md_tensor *b, md_tensor *r)
{
    PASS_POISON(x);
    PASS_POISON(w);
    if (b)
        PASS_POISON(b);
    if (r)
        PASS_POISON(r);
    if (!ops__is_float(x) || x->dtype != w->dtype || w->ndim != 2 ||
        w->dim[1] != x->dim[x->ndim - 1])
        return ops__mismatch(MD_OP_linear, x, w, "w must be [O,K] with x's last dim K");
    if (b && (b->ndim != 1 || b->dim[0] != w->dim[0] || b->dtype != x->dtype))
        return ops__mismatch(MD_OP_linear, w, b, "bias must be [O]");
    int64_t dim[MD_MAX_DIMS];
    for (int i = 0; i < x->ndim; i++)
        dim[i] = x->dim[i];
    dim[x->ndim - 1] = w->dim[0];
    if (r && !ops__has_shape(r, x->dtype, x->ndim, dim))
        return ops__mismatch(MD_OP_linear, w, r, "the residual must be like the result");
    md_node *n = md_node_new(x->g, MD_OP_linear, 4, (md_tensor *[]){x, w, b, r}, NULL);
    n->flops = 2 * md_numel(x) * w->dim[0];
    return md_node_output(n, x->dtype, x->ndim, dim);
}

md_tensor *md_linear(md_tensor *x, md_tensor *w, md_tensor *b)
{
    return md_linear_residual(x, w, b, NULL);
}

VJP(linear)
{
    md_tensor *x = n->in[0], *w = n->in[1];
    if (want[0])
        gx[0] = md_reshape(md_matmul(gy[0], w, false, false), x->ndim, x->dim);
    if (want[1])
        gx[1] = md_matmul(gy[0], x, true, false);
    if (n->in[2] && want[2])
        gx[2] = md_sum_to(gy[0], 1, MD_DIMS(w->dim[0]));
    if (n->in[3] && want[3])
        gx[3] = gy[0];
}

md_tensor *md_matmul(md_tensor *a, md_tensor *b, bool ta, bool tb)
{
    PASS_POISON(a);
    PASS_POISON(b);
    int64_t ar = ops__rows(a), ac = a->dim[a->ndim - 1], br = ops__rows(b),
            bc = b->dim[b->ndim - 1];
    int64_t m = ta ? ac : ar, k = ta ? ar : ac, kb = tb ? bc : br, nn = tb ? br : bc;
    if (!ops__is_float(a) || a->dtype != b->dtype || k != kb)
        return ops__mismatch(MD_OP_matmul, a, b,
                             ta || tb ? "inner dims (transposed) differ" : "inner dims differ");
    md_attr attr = {.matmul = {ta, tb}};
    md_node *n = md_node_new(a->g, MD_OP_matmul, 2, (md_tensor *[]){a, b}, &attr);
    n->flops = 2 * m * k * nn;
    return md_node_output(n, a->dtype, 2, MD_DIMS(m, nn));
}

VJP(matmul)
{
    md_tensor *a = n->in[0], *b = n->in[1], *g = gy[0];
    bool ta = n->attr.matmul.ta, tb = n->attr.matmul.tb;
    /* C = A' B' with A' = A or A^T: dA' = G B'^T, dB' = A'^T G */
    if (want[0])
        gx[0] = md_reshape(ta ? md_matmul(b, g, tb, true) : md_matmul(g, b, false, !tb), a->ndim,
                           a->dim);
    if (want[1])
        gx[1] = md_reshape(tb ? md_matmul(g, a, true, ta) : md_matmul(a, g, !ta, false), b->ndim,
                           b->dim);
}
