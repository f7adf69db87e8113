/* concat, slice and pad_axis along one axis; nearest 2x upsampling and its adjoint. */
#include "ops/common.h"
#include <string.h>

md_tensor *md_concat(md_tensor *const *x, int n, int axis)
{
    for (int i = 0; i < n; i++)
        PASS_POISON(x[i]);
    if (n < 1 || n > MD_MAX_IN || axis < 0 || axis >= x[0]->ndim || !ops__is_float(x[0]))
        return md_graph_poison(x[0]->g, MD_SHAPE, "concat: %d tensors like %s along axis %d", n,
                               md_shape_text(x[0]), axis);
    int64_t dim[MD_MAX_DIMS];
    memcpy(dim, x[0]->dim, sizeof dim);
    for (int i = 1; i < n; i++) {
        bool fits = x[i]->ndim == x[0]->ndim && x[i]->dtype == x[0]->dtype;
        for (int d = 0; fits && d < x[0]->ndim; d++)
            fits = d == axis || x[i]->dim[d] == x[0]->dim[d];
        if (!fits)
            return ops__mismatch(MD_OP_concat, x[0], x[i], "may differ along the axis only");
        dim[axis] += x[i]->dim[axis];
    }
    md_attr attr = {.axis = {axis, 0}};
    return ops__node(x[0]->g, MD_OP_concat, n, x, &attr, x[0]->dtype, x[0]->ndim, dim);
}

VJP(concat)
{
    int axis = n->attr.axis.axis;
    int64_t start = 0;
    for (int i = 0; i < n->n_in; i++) {
        if (want[i])
            gx[i] = md_slice(gy[0], axis, start, n->in[i]->dim[axis]);
        start += n->in[i]->dim[axis];
    }
}

md_tensor *md_slice(md_tensor *x, int axis, int64_t start, int64_t len)
{
    PASS_POISON(x);
    if (!ops__is_float(x) || axis < 0 || axis >= x->ndim || start < 0 || len < 1 ||
        start > x->dim[axis] - len)
        return md_graph_poison(x->g, MD_SHAPE, "slice: %s, %lld from %lld along axis %d",
                               md_shape_text(x), (long long)len, (long long)start, axis);
    int64_t dim[MD_MAX_DIMS];
    memcpy(dim, x->dim, sizeof dim);
    dim[axis] = len;
    md_attr attr = {.axis = {axis, start}};
    return ops__node(x->g, MD_OP_slice, 1, &x, &attr, x->dtype, x->ndim, dim);
}

VJP(slice)
{
    int axis = n->attr.axis.axis;
    if (want[0])
        gx[0] = md_pad_axis(gy[0], axis, n->attr.axis.start, n->in[0]->dim[axis]);
}

md_tensor *md_pad_axis(md_tensor *x, int axis, int64_t start, int64_t len)
{
    PASS_POISON(x);
    if (!ops__is_float(x) || axis < 0 || axis >= x->ndim || start < 0 || start > len - x->dim[axis])
        return md_graph_poison(x->g, MD_SHAPE, "pad_axis: %s to %lld at %lld along axis %d",
                               md_shape_text(x), (long long)len, (long long)start, axis);
    int64_t dim[MD_MAX_DIMS];
    memcpy(dim, x->dim, sizeof dim);
    dim[axis] = len;
    md_attr attr = {.axis = {axis, start}};
    return ops__node(x->g, MD_OP_pad_axis, 1, &x, &attr, x->dtype, x->ndim, dim);
}

VJP(pad_axis)
{
    int axis = n->attr.axis.axis;
    if (want[0])
        gx[0] = md_slice(gy[0], axis, n->attr.axis.start, n->in[0]->dim[axis]);
}

md_tensor *md_upsample2x(md_tensor *x)
{
    PASS_POISON(x);
    if (!ops__is_float(x) || x->ndim != 4)
        return md_graph_poison(x->g, MD_SHAPE, "upsample2x: %s is not [N,H,W,C]", md_shape_text(x));
    return ops__node(x->g, MD_OP_upsample2x, 1, &x, NULL, x->dtype, 4,
                     MD_DIMS(x->dim[0], 2 * x->dim[1], 2 * x->dim[2], x->dim[3]));
}

VJP(upsample2x)
{
    (void)n;
    if (want[0])
        gx[0] = md_downsum2x(gy[0]);
}

md_tensor *md_downsum2x(md_tensor *x)
{
    PASS_POISON(x);
    if (!ops__is_float(x) || x->ndim != 4 || x->dim[1] % 2 || x->dim[2] % 2)
        return md_graph_poison(x->g, MD_SHAPE, "downsum2x: %s is not [N,H,W,C] with even H and W",
                               md_shape_text(x));
    return ops__node(x->g, MD_OP_downsum2x, 1, &x, NULL, x->dtype, 4,
                     MD_DIMS(x->dim[0], x->dim[1] / 2, x->dim[2] / 2, x->dim[3]));
}

VJP(downsum2x)
{
    (void)n;
    if (want[0])
        gx[0] = md_upsample2x(gy[0]);
}
