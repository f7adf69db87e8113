/* sum_to and its adjoint broadcast_to, and what is built on them. */
#include "ops/common.h"

md_tensor *md_sum_to(md_tensor *x, int ndim, const int64_t *dim)
{
    PASS_POISON(x);
    bool fits = ops__is_float(x) && ndim >= 1 && ndim <= x->ndim;
    for (int i = 1; fits && i <= ndim; i++)
        fits = dim[ndim - i] == 1 || dim[ndim - i] == x->dim[x->ndim - i];
    if (!fits)
        return md_graph_poison(x->g, MD_SHAPE,
                               "sum_to: %s to a shape that does not broadcast to it",
                               md_shape_text(x));
    return ops__node(x->g, MD_OP_sum_to, 1, &x, NULL, x->dtype, ndim, dim);
}

VJP(sum_to)
{
    if (want[0])
        gx[0] = md_broadcast_to(gy[0], n->in[0]->ndim, n->in[0]->dim);
}

md_tensor *md_broadcast_to(md_tensor *x, int ndim, const int64_t *dim)
{
    PASS_POISON(x);
    bool fits = ops__is_float(x) && ndim >= x->ndim && ndim <= MD_MAX_DIMS;
    for (int i = 1; fits && i <= x->ndim; i++)
        fits = x->dim[x->ndim - i] == 1 || x->dim[x->ndim - i] == dim[ndim - i];
    if (!fits)
        return md_graph_poison(x->g, MD_SHAPE,
                               "broadcast_to: %s to a shape that it does not broadcast to",
                               md_shape_text(x));
    return ops__node(x->g, MD_OP_broadcast_to, 1, &x, NULL, x->dtype, ndim, dim);
}

VJP(broadcast_to)
{
    if (want[0])
        gx[0] = md_sum_to(gy[0], n->in[0]->ndim, n->in[0]->dim);
}

md_tensor *md_sum(md_tensor *x)
{
    return md_sum_to(x, 1, MD_DIMS(1));
}

md_tensor *md_mean(md_tensor *x)
{
    return md_scale(md_sum(x), 1.0 / (double)md_numel(x));
}

md_tensor *md_sumsq(md_tensor *x)
{
    PASS_POISON(x);
    if (!ops__is_float(x))
        return md_graph_poison(x->g, MD_SHAPE, "sumsq: %s is not a float", md_shape_text(x));
    return ops__node(x->g, MD_OP_sumsq, 1, &x, NULL, MD_F32, 1, MD_DIMS(1));
}
