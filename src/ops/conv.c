/* 2-D convolution on NHWC with OHWI weights, and its two gradients. */
#include "ops/common.h"

/* Output extent, or 0 when the kernel does not fit. */
static int64_t extent(int64_t in, int64_t kernel, int stride, int before, int after)
{
    int64_t span = in + before + after - kernel;
    return stride < 1 || before < 0 || after < 0 || span < 0 ? 0 : span / stride + 1;
}

md_tensor *md_conv2d_residual(md_tensor *x, md_tensor *w, md_tensor *b, md_tensor *r, int stride,
                              int pad_t, int pad_l, int pad_b, int pad_r)
{
    PASS_POISON(x);
    PASS_POISON(w);
    if (b)
        PASS_POISON(b);
    if (r)
        PASS_POISON(r);
    if (!ops__is_float(x) || x->dtype != w->dtype || x->ndim != 4 || w->ndim != 4 ||
        w->dim[3] != x->dim[3])
        return ops__mismatch(MD_OP_conv2d, x, w, "want x [N,H,W,I] and w [O,kh,kw,I]");
    if (b && (b->ndim != 1 || b->dim[0] != w->dim[0] || b->dtype != x->dtype))
        return ops__mismatch(MD_OP_conv2d, w, b, "bias must be [O]");
    int64_t h = extent(x->dim[1], w->dim[1], stride, pad_t, pad_b);
    int64_t v = extent(x->dim[2], w->dim[2], stride, pad_l, pad_r);
    if (h < 1 || v < 1)
        return ops__mismatch(MD_OP_conv2d, x, w, "the kernel does not fit the padded image");
    const int64_t dim[] = {x->dim[0], h, v, w->dim[0]};
    if (r && !ops__has_shape(r, x->dtype, 4, dim))
        return ops__mismatch(MD_OP_conv2d, w, r, "the residual must be like the result");
    md_attr attr = {.conv = {stride, pad_t, pad_l, pad_b, pad_r}};
    md_node *n = md_node_new(x->g, MD_OP_conv2d, 4, (md_tensor *[]){x, w, b, r}, &attr);
    n->flops = 2 * x->dim[0] * h * v * md_numel(w);
    return md_node_output(n, x->dtype, 4, dim);
}

md_tensor *md_conv2d(md_tensor *x, md_tensor *w, md_tensor *b, int stride, int pad_t, int pad_l,
                     int pad_b, int pad_r)
{
    return md_conv2d_residual(x, w, b, NULL, stride, pad_t, pad_l, pad_b, pad_r);
}

/* True when dy is what a convolution of x with w gives under these attributes. */
static bool consistent(const md_tensor *dy, const int64_t *x, const int64_t *w, md_attr a)
{
    return dy->ndim == 4 && dy->dim[0] == x[0] && dy->dim[3] == w[0] && w[3] == x[3] &&
           dy->dim[1] == extent(x[1], w[1], a.conv.stride, a.conv.pad_t, a.conv.pad_b) &&
           dy->dim[2] == extent(x[2], w[2], a.conv.stride, a.conv.pad_l, a.conv.pad_r);
}

md_tensor *md_conv2d_dx(md_tensor *dy, md_tensor *w, const int64_t x_dim[4], md_attr attr)
{
    PASS_POISON(dy);
    PASS_POISON(w);
    if (w->ndim != 4 || dy->dtype != w->dtype || !consistent(dy, x_dim, w->dim, attr))
        return ops__mismatch(MD_OP_conv2d_dx, dy, w, "not a convolution's output and weight");
    md_node *n = md_node_new(dy->g, MD_OP_conv2d_dx, 2, (md_tensor *[]){dy, w}, &attr);
    n->flops = 2 * md_numel(dy) * w->dim[1] * w->dim[2] * w->dim[3];
    return md_node_output(n, dy->dtype, 4, x_dim);
}

md_tensor *md_conv2d_dw(md_tensor *dy, md_tensor *x, const int64_t w_dim[4], md_attr attr)
{
    PASS_POISON(dy);
    PASS_POISON(x);
    if (x->ndim != 4 || dy->dtype != x->dtype || !consistent(dy, x->dim, w_dim, attr))
        return ops__mismatch(MD_OP_conv2d_dw, dy, x, "not a convolution's output and input");
    md_node *n = md_node_new(dy->g, MD_OP_conv2d_dw, 2, (md_tensor *[]){dy, x}, &attr);
    n->flops = 2 * md_numel(dy) * w_dim[1] * w_dim[2] * w_dim[3];
    return md_node_output(n, dy->dtype, 4, w_dim);
}

VJP(conv2d)
{
    md_tensor *x = n->in[0], *w = n->in[1];
    if (want[0])
        gx[0] = md_conv2d_dx(gy[0], w, x->dim, n->attr);
    if (want[1])
        gx[1] = md_conv2d_dw(gy[0], x, w->dim, n->attr);
    if (n->in[2] && want[2])
        gx[2] = md_sum_to(gy[0], 1, MD_DIMS(w->dim[0]));
    if (n->in[3] && want[3])
        gx[3] = gy[0];
}
