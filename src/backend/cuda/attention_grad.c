/* attention_grad in bf16 as the pattern of 18 operations that cuDNN's engines know as the backward
   of flash attention; the order of the operations, which tensors are virtual and their types are
   those of cudnn-frontend's CompositeSDPABackwardNode. T queries, S keys, head size d:
     delta = rowsum(dO O)   P = exp(scale Q K' - lse)   dV = P' dO
     dS = scale P (dO V' - delta)   dK = dS' Q   dQ = dS K */
#include "backend/cuda/attention.h"

typedef enum shape {
    ROWS,   /* [N,heads,T,d] in our [N,T,heads d] */
    COLS,   /* [N,heads,d,S] likewise: keys, values transposed */
    KEYS,   /* [N,heads,S,d] likewise */
    PACKED, /* [N,heads,T,d] */
    ROW,    /* [N,heads,T,1] */
    SQUARE, /* [N,heads,T,S] */
    TURNED, /* [N,heads,S,T], a view of SQUARE */
    SCALAR,
} shape;

/* clang-format off */
enum {
    DO, Q, KT, VT, O, LSE, DQ, DK, DV, SCALE, ONE,                       /* the node's; values */
    DELTA, DQ_SUM,                                                       /* the graph's own memory */
    DO_O, DO_O_SUM, QK, QK_SCALED, LOG_P, P, PT, DP, DP_CENTRED, DP_P, DS, DST, K, /* virtual */
    N_TENSORS
};
/* clang-format on */

/* DQ_SUM is in f32, as the engines add to it from many blocks; what they multiply is in bf16. */
static const struct {
    int place;
    shape shape;
    bool bf16;
} tensors[N_TENSORS] = {
    [DO] = {DNN_IN + 0, ROWS, true},
    [Q] = {DNN_IN + 1, ROWS, true},
    [KT] = {DNN_IN + 2, COLS, true},
    [VT] = {DNN_IN + 3, COLS, true},
    [O] = {DNN_IN + 4, ROWS, true},
    [LSE] = {DNN_IN + 5, ROW, false},
    [DQ] = {DNN_OUT + 0, ROWS, true},
    [DK] = {DNN_OUT + 1, KEYS, true},
    [DV] = {DNN_OUT + 2, KEYS, true},
    [SCALE] = {DNN_VALUE + 0, SCALAR, false},
    [ONE] = {DNN_VALUE + 1, SCALAR, false},
    [DELTA] = {DNN_PART, ROW, false},
    [DQ_SUM] = {DNN_PART, PACKED, false},
    [DO_O] = {DNN_VIRTUAL, PACKED, false},
    [DO_O_SUM] = {DNN_VIRTUAL, ROW, false},
    [QK] = {DNN_VIRTUAL, SQUARE, false},
    [QK_SCALED] = {DNN_VIRTUAL, SQUARE, false},
    [LOG_P] = {DNN_VIRTUAL, SQUARE, false},
    [P] = {DNN_VIRTUAL, SQUARE, false},
    [PT] = {DNN_VIRTUAL, TURNED, true},
    [DP] = {DNN_VIRTUAL, SQUARE, false},
    [DP_CENTRED] = {DNN_VIRTUAL, SQUARE, false},
    [DP_P] = {DNN_VIRTUAL, SQUARE, false},
    [DS] = {DNN_VIRTUAL, SQUARE, false},
    [DST] = {DNN_VIRTUAL, TURNED, true},
    [K] = {DNN_VIRTUAL, KEYS, true},
};

enum {
    MUL = CUDNN_POINTWISE_MUL,
    SUB = CUDNN_POINTWISE_SUB,
    EXP = CUDNN_POINTWISE_EXP,
    COPY = CUDNN_POINTWISE_IDENTITY,
    MATMUL = 1000,
    SUM,
    RESHAPE,
    NONE = -1
};

/* All but dQ, in the frontend's order. ONE is where a dropout's factor would be: the pattern wants
   the multiplication. */
/* clang-format off */
static const struct {
    int what, a, b, y;
} ops[] = {
    {MUL, DO, O, DO_O},
    {SUM, DO_O, NONE, DO_O_SUM},
    {MUL, DO_O_SUM, ONE, DELTA},
    {MATMUL, Q, KT, QK},
    {MUL, QK, SCALE, QK_SCALED},
    {SUB, QK_SCALED, LSE, LOG_P},
    {EXP, LOG_P, NONE, P},
    {RESHAPE, P, NONE, PT},
    {MATMUL, PT, DO, DV},
    {MATMUL, DO, VT, DP},
    {SUB, DP, DELTA, DP_CENTRED},
    {MUL, DP_CENTRED, P, DP_P},
    {MUL, DP_P, SCALE, DS},
    {RESHAPE, DS, NONE, DST},
    {MATMUL, DST, Q, DK},
    {RESHAPE, KT, NONE, K},
};
/* clang-format on */

static void lay_out(shape s, const md_node *n, int64_t dim[4], int64_t stride[4])
{
    int64_t N = n->in[1]->dim[0], T = n->in[1]->dim[1], S = n->in[2]->dim[1];
    int64_t D = n->in[1]->dim[2], H = n->attr.attn.heads, d = D / H;
    const struct {
        int64_t dim[4], stride[4];
    } of[] = {
        [ROWS] = {{N, H, T, d}, {T * D, d, D, 1}},
        [COLS] = {{N, H, d, S}, {S * D, d, 1, D}},
        [KEYS] = {{N, H, S, d}, {S * D, d, D, 1}},
        [PACKED] = {{N, H, T, d}, {H * T * d, T * d, d, 1}},
        [ROW] = {{N, H, T, 1}, {H * T, T, 1, 1}},
        [SQUARE] = {{N, H, T, S}, {H * T * S, T * S, S, 1}},
        [TURNED] = {{N, H, S, T}, {H * T * S, T * S, 1, S}},
        [SCALAR] = {{1, 1, 1, 1}, {1, 1, 1, 1}},
    };
    for (int i = 0; i < 4; i++) {
        dim[i] = of[s].dim[i];
        stride[i] = of[s].stride[i];
    }
}

static md_status tensor(dnn *g, const md_node *n, int which, cudnnBackendDescriptor_t *out)
{
    int place = tensors[which].place;
    int64_t dim[4], stride[4], alignment = 16;
    lay_out(tensors[which].shape, n, dim, stride);
    if (place < DNN_OUT)
        alignment = cuda__alignment(n->in[place - DNN_IN]);
    else if (place < DNN_VALUE)
        alignment = cuda__alignment(n->out[place - DNN_OUT]);
    else if (place < DNN_PART)
        alignment = sizeof(float);
    else if (place == DNN_PART)
        MD_TRY(dnn__part(g, (size_t)(dim[0] * dim[1] * dim[2] * dim[3]) * sizeof(float), &place));
    return dnn__tensor(g, place, tensors[which].bf16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT,
                       alignment, dim, stride, out);
}

/* What kinds of operation there are, and where their attributes lie. `desc` is finalized with the
   kind's settings and referred to as `by`. */
typedef struct kind {
    cudnnBackendDescriptorType_t op, desc;
    cudnnBackendAttributeName_t by, a, b, y, comp_type;
} kind;

static const kind product = {CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR,
                             CUDNN_BACKEND_MATMUL_DESCRIPTOR,
                             CUDNN_ATTR_OPERATION_MATMUL_DESC,
                             CUDNN_ATTR_OPERATION_MATMUL_ADESC,
                             CUDNN_ATTR_OPERATION_MATMUL_BDESC,
                             CUDNN_ATTR_OPERATION_MATMUL_CDESC,
                             CUDNN_ATTR_MATMUL_COMP_TYPE};
static const kind reduction = {CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR,
                               CUDNN_BACKEND_REDUCTION_DESCRIPTOR,
                               CUDNN_ATTR_OPERATION_REDUCTION_DESC,
                               CUDNN_ATTR_OPERATION_REDUCTION_XDESC,
                               0,
                               CUDNN_ATTR_OPERATION_REDUCTION_YDESC,
                               CUDNN_ATTR_REDUCTION_COMP_TYPE};
static const kind pointwise = {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR,
                               CUDNN_BACKEND_POINTWISE_DESCRIPTOR,
                               CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR,
                               CUDNN_ATTR_OPERATION_POINTWISE_XDESC,
                               CUDNN_ATTR_OPERATION_POINTWISE_BDESC,
                               CUDNN_ATTR_OPERATION_POINTWISE_YDESC,
                               CUDNN_ATTR_POINTWISE_MATH_PREC};

static md_status settings(dnn *g, const kind *k, int what, cudnnBackendDescriptor_t *out)
{
    const cudnnDataType_t f32 = CUDNN_DATA_FLOAT;
    MD_TRY(dnn__make(g, k->desc, out));
    MD_TRY(dnn__set(*out, k->comp_type, CUDNN_TYPE_DATA_TYPE, 1, &f32));
    if (k == &reduction) {
        const cudnnReduceTensorOp_t sum = CUDNN_REDUCE_TENSOR_ADD;
        MD_TRY(dnn__set(*out, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1,
                        &sum));
    } else if (k == &pointwise) {
        const cudnnPointwiseMode_t mode = (cudnnPointwiseMode_t)what;
        MD_TRY(dnn__set(*out, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode));
    }
    return dnn__finalize(*out);
}

static md_status reshape(dnn *g, cudnnBackendDescriptor_t x, cudnnBackendDescriptor_t y)
{
    cudnnBackendDescriptor_t op;
    MD_TRY(dnn__make(g, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR, &op));
    MD_TRY(dnn__set_descriptor(op, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x));
    MD_TRY(dnn__set_descriptor(op, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y));
    return dnn__add_op(g, op);
}

/* b: NULL where there is none */
static md_status add(dnn *g, int what, cudnnBackendDescriptor_t a, cudnnBackendDescriptor_t b,
                     cudnnBackendDescriptor_t y)
{
    const kind *k = what == MATMUL ? &product : what == SUM ? &reduction : &pointwise;
    cudnnBackendDescriptor_t op, desc;
    if (what == RESHAPE)
        return reshape(g, a, y);
    MD_TRY(settings(g, k, what, &desc));
    MD_TRY(dnn__make(g, k->op, &op));
    MD_TRY(dnn__set_descriptor(op, k->by, desc));
    MD_TRY(dnn__set_descriptor(op, k->a, a));
    if (b)
        MD_TRY(dnn__set_descriptor(op, k->b, b));
    MD_TRY(dnn__set_descriptor(op, k->y, y));
    return dnn__add_op(g, op);
}

/* The engines add to DQ_SUM in any order, though no numerical note says so. Without it they keep dS
   in their workspace, [N,heads,T,S] in bf16, and take dQ from there in a fixed order (the
   frontend's deterministic form). */
static md_status describe_dq(dnn *g, const md_node *n, cudnnBackendDescriptor_t ds,
                             cudnnBackendDescriptor_t k, cudnnBackendDescriptor_t dq)
{
    cudnnBackendDescriptor_t sum;
    if (g->d->options.deterministic)
        return add(g, MATMUL, ds, k, dq);
    MD_TRY(tensor(g, n, DQ_SUM, &sum));
    MD_TRY(add(g, MATMUL, ds, k, sum));
    return add(g, COPY, sum, NULL, dq);
}

md_status cuda__attention_grad_graph(dnn *g, const md_node *n)
{
    cudnnBackendDescriptor_t t[N_TENSORS];
    g->value[0] = (float)cuda__attention_scale(n, n->in[1]);
    g->value[1] = 1;
    for (int i = 0; i < N_TENSORS; i++)
        if (i != DQ_SUM)
            MD_TRY(tensor(g, n, i, &t[i]));
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        MD_TRY(
            add(g, ops[i].what, t[ops[i].a], ops[i].b == NONE ? NULL : t[ops[i].b], t[ops[i].y]));
    return describe_dq(g, n, t[DS], t[K], t[DQ]);
}
