/* conv2d conv2d_dx conv2d_dw on cuDNN. Its tensors are called NCHW and KCRS whatever their order in
   memory: ours, NHWC and OHWI, is said by strides. Bias and residual are added inside the
   convolution's kernel where an engine can, else by launches of our own. The gradient of a filter
   whose padding differs from side to side reads a padded copy of x: cuDNN 9.19 takes such a
   padding, but its wgrad_alg1_engine_NHWC (f32) computes another sum, on an H200 by as much as the
   largest element. */
#include "backend/cuda/dnn.h"
#include "backend/cuda/shape.h"
#include "base/str.h"
#include <stdlib.h>
#include <string.h>

typedef struct conv {
    dnn graph;
    md_node convolution; /* what the graph computes: the node, or the node without its addends */
    int n_adds;          /* launches after it */
    md_node add_node[2];
    md_kernel add[2];
    int addend[2]; /* the node's input that each adds */
    bool pads;     /* a padded copy of x lies in the graph's first part */
    md_tensor padded;
} conv;

static cudnnDataType_t data_type(const md_tensor *t)
{
    return t->dtype == MD_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
}

/* Dims [a,b,c,d] in memory, a and d the two that cuDNN puts first: an image or a filter. */
static md_status tensor4(dnn *g, int place, const md_tensor *t, cudnnBackendDescriptor_t *out)
{
    const int64_t *m = t->dim;
    const int64_t dim[4] = {m[0], m[3], m[1], m[2]};
    const int64_t stride[4] = {m[1] * m[2] * m[3], 1, m[2] * m[3], m[3]};
    cudnnDataType_t type = place == DNN_VIRTUAL ? CUDNN_DATA_FLOAT : data_type(t);
    return dnn__tensor(g, place, type, cuda__alignment(t), dim, stride, out);
}

static md_status bias_tensor(dnn *g, int place, const md_tensor *t, cudnnBackendDescriptor_t *out)
{
    int64_t C = t->dim[0];
    const int64_t dim[4] = {1, C, 1, 1}, stride[4] = {C, 1, C, C};
    return dnn__tensor(g, place, data_type(t), cuda__alignment(t), dim, stride, out);
}

static md_status convolution_descriptor(dnn *g, const md_attr *a, cudnnBackendDescriptor_t *out)
{
    const int64_t stride[2] = {a->conv.stride, a->conv.stride}, dilation[2] = {1, 1}, rank = 2;
    const int64_t before[2] = {a->conv.pad_t, a->conv.pad_l};
    const int64_t after[2] = {a->conv.pad_b, a->conv.pad_r};
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    cudnnBackendDescriptor_t c;
    MD_TRY(dnn__make(g, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, &c));
    MD_TRY(dnn__set(c, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type));
    MD_TRY(dnn__set(c, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode));
    MD_TRY(dnn__set(c, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &rank));
    MD_TRY(dnn__set(c, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation));
    MD_TRY(dnn__set(c, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride));
    MD_TRY(dnn__set(c, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, before));
    MD_TRY(dnn__set(c, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, after));
    MD_TRY(dnn__finalize(c));
    *out = c;
    return MD_OK;
}

/* The attributes of the three convolution operations; x, w, y are the roles in the forward one. */
typedef struct direction {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t alpha, beta, conv, x, w, y;
} direction;

static const direction forward = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                                  CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                                  CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,
                                  CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                                  CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                                  CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                                  CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y};
static const direction backward_data = {
    CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA,
    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY};
static const direction backward_filter = {
    CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA,
    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY};

static md_status add_convolution(dnn *g, const direction *dir, const md_attr *a,
                                 cudnnBackendDescriptor_t x, cudnnBackendDescriptor_t w,
                                 cudnnBackendDescriptor_t y)
{
    const float one = 1, zero = 0; /* of the computation's type */
    cudnnBackendDescriptor_t conv_desc = NULL, op;
    MD_TRY(convolution_descriptor(g, a, &conv_desc));
    MD_TRY(dnn__make(g, dir->type, &op));
    MD_TRY(dnn__set_descriptor(op, dir->conv, conv_desc));
    MD_TRY(dnn__set_descriptor(op, dir->x, x));
    MD_TRY(dnn__set_descriptor(op, dir->w, w));
    MD_TRY(dnn__set_descriptor(op, dir->y, y));
    MD_TRY(dnn__set(op, dir->alpha, CUDNN_TYPE_FLOAT, 1, &one));
    MD_TRY(dnn__set(op, dir->beta, CUDNN_TYPE_FLOAT, 1, &zero));
    return dnn__add_op(g, op);
}

/* y = x + b, b of y's dims or 1. */
static md_status add_addition(dnn *g, cudnnBackendDescriptor_t x, cudnnBackendDescriptor_t b,
                              cudnnBackendDescriptor_t y)
{
    const cudnnPointwiseMode_t mode = CUDNN_POINTWISE_ADD;
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t add, op;
    MD_TRY(dnn__make(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR, &add));
    MD_TRY(dnn__set(add, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode));
    MD_TRY(dnn__set(add, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &type));
    MD_TRY(dnn__finalize(add));
    MD_TRY(dnn__make(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, &op));
    MD_TRY(dnn__set_descriptor(op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, add));
    MD_TRY(dnn__set_descriptor(op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x));
    MD_TRY(dnn__set_descriptor(op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b));
    MD_TRY(dnn__set_descriptor(op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y));
    return dnn__add_op(g, op);
}

/* y = conv(x, w) + r + b: residual before bias, the order of cuDNN's own ConvBiasAct. */
static md_status build_forward(dnn *g, const md_node *n)
{
    const md_tensor *addend[2] = {n->in[3], n->in[2]};
    const int from[2] = {DNN_IN + 3, DNN_IN + 2};
    int left = (addend[0] != NULL) + (addend[1] != NULL);
    cudnnBackendDescriptor_t x, w, sum, b, next;
    MD_TRY(tensor4(g, DNN_IN, n->in[0], &x));
    MD_TRY(tensor4(g, DNN_IN + 1, n->in[1], &w));
    MD_TRY(tensor4(g, left ? DNN_VIRTUAL : DNN_OUT, n->out[0], &sum));
    MD_TRY(add_convolution(g, &forward, &n->attr, x, w, sum));
    for (int i = 0; i < 2; i++) {
        if (!addend[i])
            continue;
        MD_TRY((i == 0 ? tensor4 : bias_tensor)(g, from[i], addend[i], &b));
        MD_TRY(tensor4(g, --left ? DNN_VIRTUAL : DNN_OUT, n->out[0], &next));
        MD_TRY(add_addition(g, sum, b, next));
        sum = next;
    }
    return MD_OK;
}

static bool uneven(const md_attr *a)
{
    return a->conv.pad_t != a->conv.pad_b || a->conv.pad_l != a->conv.pad_r;
}

static md_status build_padded_filter_gradient(conv *s, const md_node *n)
{
    dnn *g = &s->graph;
    md_attr a = n->attr;
    cudnnBackendDescriptor_t dy, x, out;
    int place;
    s->pads = true;
    s->padded = (md_tensor){.dtype = n->in[1]->dtype, .ndim = 4, .storage = MD_TEMP};
    memcpy(s->padded.dim, n->in[1]->dim, sizeof s->padded.dim);
    s->padded.dim[1] += a.conv.pad_t + a.conv.pad_b;
    s->padded.dim[2] += a.conv.pad_l + a.conv.pad_r;
    a.conv.pad_t = a.conv.pad_b = a.conv.pad_l = a.conv.pad_r = 0;
    MD_TRY(dnn__part(g, cuda__tensor_bytes(&s->padded), &place));
    MD_TRY(tensor4(g, DNN_IN, n->in[0], &dy));
    MD_TRY(tensor4(g, place, &s->padded, &x));
    MD_TRY(tensor4(g, DNN_OUT, n->out[0], &out));
    return add_convolution(g, &backward_filter, &a, x, out, dy);
}

/* The part's place in the workspace as in dnn__run. */
static md_status pad(const md_kernel *k, const conv *s, const void *x, void *scratch)
{
    const md_attr *a = &k->node->attr;
    const md_tensor *from = k->node->in[1], *to = &s->padded;
    cuda_impl *d = cuda__impl(k->backend);
    char *at = (char *)cuda__workspace_at(scratch) + s->graph.part[0];
    int64_t pixel = to->dim[3] * (int64_t)md_dtype_bytes(to->dtype);
    int64_t row = to->dim[2] * pixel, from_row = from->dim[2] * pixel;
    CUDA_TRY(cudaMemsetAsync(at, 0, cuda__tensor_bytes(to), d->launch));
    at += a->conv.pad_t * row + a->conv.pad_l * pixel;
    for (int64_t i = 0; i < to->dim[0]; i++)
        MD_TRY(cuda__launched(k, cuda__copy_rows(cuda__device(k->backend), from->dim[1], from_row,
                                                 (const char *)x + i * from->dim[1] * from_row,
                                                 from_row, at + i * to->dim[1] * row, row)));
    return MD_OK;
}

static md_status build(conv *s, const md_node *n)
{
    dnn *g = &s->graph;
    cudnnBackendDescriptor_t a, b, out;
    if (n->op == MD_OP_conv2d)
        return build_forward(g, n);
    if (n->op == MD_OP_conv2d_dw && uneven(&n->attr))
        return build_padded_filter_gradient(s, n);
    MD_TRY(tensor4(g, DNN_IN, n->in[0], &a)); /* dy */
    MD_TRY(tensor4(g, DNN_IN + 1, n->in[1], &b));
    MD_TRY(tensor4(g, DNN_OUT, n->out[0], &out));
    if (n->op == MD_OP_conv2d_dx)
        return add_convolution(g, &backward_data, &n->attr, out, b, a);
    return add_convolution(g, &backward_filter, &n->attr, b, out, a);
}

/* ---- the node */

static md_status run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    conv *s = k->state;
    if (s->pads)
        MD_TRY(pad(k, s, in[1], scratch));
    MD_TRY(dnn__run(&s->graph, 0, in, out, scratch));
    for (int i = 0; i < s->n_adds; i++) {
        void *const operands[2] = {out[0], in[s->addend[i]]};
        MD_TRY(s->add[i].run(&s->add[i], operands, out, scratch));
    }
    return MD_OK;
}

static void release(md_kernel *k)
{
    conv *s = k->state;
    dnn__close(&s->graph);
    for (int i = 0; i < s->n_adds; i++)
        if (s->add[i].release)
            s->add[i].release(&s->add[i]);
    free(s);
    k->state = NULL;
}

static md_status describe(const md_node *n, const cuda_impl *d, char *text, size_t size)
{
    const md_attr *a = &n->attr;
    return md_str_printf(text, size,
                         "%s a %s b %s -> %s stride %d pad %d %d %d %d%s%s align %lld%s limit %zu",
                         md_op_name(n->op), md_shape_text(n->in[0]), md_shape_text(n->in[1]),
                         md_shape_text(n->out[0]), a->conv.stride, a->conv.pad_t, a->conv.pad_l,
                         a->conv.pad_b, a->conv.pad_r, n->n_in > 2 && n->in[2] ? " bias" : "",
                         n->n_in > 3 && n->in[3] ? " residual" : "",
                         (long long)(cuda__alignment(n->in[0]) | cuda__alignment(n->in[1]) << 8 |
                                     cuda__alignment(n->out[0]) << 16),
                         d->options.tf32 ? " tf32" : "", d->options.workspace_bytes);
}

/* The launch out += in[i] behind the convolution. */
static md_status prepare_add(md_backend *be, const md_node *node, conv *s, int i)
{
    md_node *n = &s->add_node[s->n_adds];
    md_kernel *k = &s->add[s->n_adds];
    *n = *node;
    n->op = MD_OP_add;
    n->n_in = 2;
    memset(n->in, 0, sizeof n->in);
    n->in[0] = node->out[0];
    n->in[1] = node->in[i];
    *k = (md_kernel){.node = n, .backend = be};
    s->addend[s->n_adds++] = i;
    return cuda_add(be, n, k);
}

static md_status prepare(md_backend *be, const md_node *node, md_kernel *k)
{
    cuda_impl *d = cuda__impl(be);
    void *state;
    char question[320];
    MD_TRY(md_kernel_state(k, sizeof(conv), &state));
    conv *s = state;
    k->release = release;
    k->run = run;
    s->graph.d = d;
    MD_TRY(describe(node, d, question, sizeof question));
    MD_TRY(build(s, node));
    MD_TRY(dnn__plan(&s->graph, node, question));
    if (s->graph.n_plans == 0 && node->op == MD_OP_conv2d && (node->in[2] || node->in[3])) {
        dnn__close(&s->graph);
        s->convolution = *node;
        s->convolution.in[2] = s->convolution.in[3] = NULL;
        MD_TRY(describe(&s->convolution, d, question, sizeof question));
        MD_TRY(build(s, &s->convolution));
        MD_TRY(dnn__plan(&s->graph, &s->convolution, question));
        for (int i = 2; i < 4 && s->graph.n_plans > 0; i++)
            if (node->in[i])
                MD_TRY(prepare_add(be, node, s, i));
    }
    if (s->graph.n_plans == 0)
        MD_FAIL(MD_UNSUPPORTED,
                "'%s': cuDNN %zu offers no engine within %zu bytes of workspace for %s", node->path,
                cudnnGetVersion(), d->options.workspace_bytes, question);
    k->scratch_bytes = cuda__workspace_room(s->graph.plans[0].workspace);
    for (int i = 0; i < s->n_adds; i++)
        if (s->add[i].scratch_bytes > k->scratch_bytes)
            k->scratch_bytes = s->add[i].scratch_bytes;
    return MD_OK;
}

/* conv2d: in {x, w, b or NULL, r or NULL} */
md_status cuda_conv2d(md_backend *be, const md_node *node, md_kernel *k)
{
    return prepare(be, node, k);
}

/* in {dy, w} */
md_status cuda_conv2d_dx(md_backend *be, const md_node *node, md_kernel *k)
{
    return prepare(be, node, k);
}

/* in {dy, x} */
md_status cuda_conv2d_dw(md_backend *be, const md_node *node, md_kernel *k)
{
    return prepare(be, node, k);
}
