/* cuDNN's graph interface: every attribute is checked against a table of names, types, counts and
   what must be there, every tensor against its neighbours. fake_dnn_run.c executes. */
#include "fake_dnn.h"
#include <stdlib.h>
#include <string.h>

/* ---- what each descriptor takes */

typedef struct rule {
    cudnnBackendDescriptorType_t desc;
    cudnnBackendAttributeName_t name;
    cudnnBackendAttributeType_t type;
    int least, most;
    bool required;
} rule;

#define CONV_OP(d, p, x, w, y)                                                                     \
    {D(d), A(p##_ALPHA), T(FLOAT), 1, 1, true}, {D(d), A(p##_BETA), T(FLOAT), 1, 1, true},         \
        {D(d), A(p##_CONV_DESC), REF, 1, 1, true}, {D(d), A(p##_##x), REF, 1, 1, true},            \
        {D(d), A(p##_##w), REF, 1, 1, true},                                                       \
    {                                                                                              \
        D(d), A(p##_##y), REF, 1, 1, true                                                          \
    }
#define SDPA(dir, x, required)                                                                     \
    {                                                                                              \
        D(OPERATION_SDPA_##dir), A(OPERATION_SDPA_##dir##_##x), REF, 1, 1, required                \
    }

static const rule rules[] = {
    {D(TENSOR), A(TENSOR_UNIQUE_ID), T(INT64), 1, 1, true},
    {D(TENSOR), A(TENSOR_DATA_TYPE), T(DATA_TYPE), 1, 1, true},
    {D(TENSOR), A(TENSOR_BYTE_ALIGNMENT), T(INT64), 1, 1, true},
    {D(TENSOR), A(TENSOR_DIMENSIONS), T(INT64), 1, 8, true},
    {D(TENSOR), A(TENSOR_STRIDES), T(INT64), 1, 8, true},
    {D(TENSOR), A(TENSOR_IS_VIRTUAL), T(BOOLEAN), 1, 1, false},
    {D(TENSOR), A(TENSOR_IS_BY_VALUE), T(BOOLEAN), 1, 1, false},
    {D(CONVOLUTION), A(CONVOLUTION_COMP_TYPE), T(DATA_TYPE), 1, 1, true},
    {D(CONVOLUTION), A(CONVOLUTION_CONV_MODE), T(CONVOLUTION_MODE), 1, 1, true},
    {D(CONVOLUTION), A(CONVOLUTION_SPATIAL_DIMS), T(INT64), 1, 1, true},
    {D(CONVOLUTION), A(CONVOLUTION_DILATIONS), T(INT64), 2, 2, true},
    {D(CONVOLUTION), A(CONVOLUTION_FILTER_STRIDES), T(INT64), 2, 2, true},
    {D(CONVOLUTION), A(CONVOLUTION_PRE_PADDINGS), T(INT64), 2, 2, true},
    {D(CONVOLUTION), A(CONVOLUTION_POST_PADDINGS), T(INT64), 2, 2, true},
    CONV_OP(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD, X, W, Y),
    CONV_OP(OPERATION_CONVOLUTION_BACKWARD_DATA, OPERATION_CONVOLUTION_BWD_DATA, DX, W, DY),
    CONV_OP(OPERATION_CONVOLUTION_BACKWARD_FILTER, OPERATION_CONVOLUTION_BWD_FILTER, X, DW, DY),
    {D(POINTWISE), A(POINTWISE_MODE), T(POINTWISE_MODE), 1, 1, true},
    {D(POINTWISE), A(POINTWISE_MATH_PREC), T(DATA_TYPE), 1, 1, true},
    {D(OPERATION_POINTWISE), A(OPERATION_POINTWISE_PW_DESCRIPTOR), REF, 1, 1, true},
    {D(OPERATION_POINTWISE), A(OPERATION_POINTWISE_XDESC), REF, 1, 1, true},
    {D(OPERATION_POINTWISE), A(OPERATION_POINTWISE_BDESC), REF, 1, 1, false},
    {D(OPERATION_POINTWISE), A(OPERATION_POINTWISE_YDESC), REF, 1, 1, true},
    {D(MATMUL), A(MATMUL_COMP_TYPE), T(DATA_TYPE), 1, 1, true},
    {D(OPERATION_MATMUL), A(OPERATION_MATMUL_DESC), REF, 1, 1, true},
    {D(OPERATION_MATMUL), A(OPERATION_MATMUL_ADESC), REF, 1, 1, true},
    {D(OPERATION_MATMUL), A(OPERATION_MATMUL_BDESC), REF, 1, 1, true},
    {D(OPERATION_MATMUL), A(OPERATION_MATMUL_CDESC), REF, 1, 1, true},
    {D(REDUCTION), A(REDUCTION_OPERATOR), T(REDUCTION_OPERATOR_TYPE), 1, 1, true},
    {D(REDUCTION), A(REDUCTION_COMP_TYPE), T(DATA_TYPE), 1, 1, true},
    {D(OPERATION_REDUCTION), A(OPERATION_REDUCTION_DESC), REF, 1, 1, true},
    {D(OPERATION_REDUCTION), A(OPERATION_REDUCTION_XDESC), REF, 1, 1, true},
    {D(OPERATION_REDUCTION), A(OPERATION_REDUCTION_YDESC), REF, 1, 1, true},
    {D(OPERATION_RESHAPE), A(OPERATION_RESHAPE_XDESC), REF, 1, 1, true},
    {D(OPERATION_RESHAPE), A(OPERATION_RESHAPE_YDESC), REF, 1, 1, true},
    SDPA(FWD, QDESC, true),
    SDPA(FWD, KDESC, true),
    SDPA(FWD, VDESC, true),
    SDPA(FWD, ODESC, true),
    SDPA(FWD, STATSDESC, false),
    SDPA(FWD, SCALEDESC, false),
    SDPA(BWD, QDESC, true),
    SDPA(BWD, KDESC, true),
    SDPA(BWD, VDESC, true),
    SDPA(BWD, ODESC, true),
    SDPA(BWD, STATSDESC, true),
    SDPA(BWD, SCALEDESC, false),
    SDPA(BWD, DQDESC, true),
    SDPA(BWD, DKDESC, true),
    SDPA(BWD, DVDESC, true),
    SDPA(BWD, DODDESC, true),
    {D(OPERATIONGRAPH), A(OPERATIONGRAPH_HANDLE), T(HANDLE), 1, 1, true},
    {D(OPERATIONGRAPH), A(OPERATIONGRAPH_OPS), REF, 1, MAX_COUNT, true},
    {D(ENGINEHEUR), A(ENGINEHEUR_OPERATION_GRAPH), REF, 1, 1, true},
    {D(ENGINEHEUR), A(ENGINEHEUR_MODE), T(HEUR_MODE), 1, 1, true},
    {D(EXECUTION_PLAN), A(EXECUTION_PLAN_HANDLE), T(HANDLE), 1, 1, true},
    {D(EXECUTION_PLAN), A(EXECUTION_PLAN_ENGINE_CONFIG), REF, 1, 1, true},
    {D(VARIANT_PACK), A(VARIANT_PACK_UNIQUE_IDS), T(INT64), 1, MAX_COUNT, true},
    {D(VARIANT_PACK), A(VARIANT_PACK_DATA_POINTERS), T(VOID_PTR), 1, MAX_COUNT, true},
    {D(VARIANT_PACK), A(VARIANT_PACK_WORKSPACE), T(VOID_PTR), 1, 1, true},
};

static size_t size_of(cudnnBackendAttributeType_t t)
{
    switch (t) {
    case CUDNN_TYPE_BOOLEAN:
        return sizeof(bool);
    case CUDNN_TYPE_FLOAT:
    case CUDNN_TYPE_DATA_TYPE:
    case CUDNN_TYPE_CONVOLUTION_MODE:
    case CUDNN_TYPE_POINTWISE_MODE:
    case CUDNN_TYPE_HEUR_MODE:
    case CUDNN_TYPE_REDUCTION_OPERATOR_TYPE:
        return 4;
    default:
        return 8;
    }
}

const attr *fake_attr(const desc *d, cudnnBackendAttributeName_t name)
{
    for (int i = 0; i < d->n; i++)
        if (d->attrs[i].name == name)
            return &d->attrs[i];
    return NULL;
}

int64_t fake_number(const desc *d, cudnnBackendAttributeName_t name, int64_t otherwise)
{
    const attr *a = fake_attr(d, name);
    int32_t small = 0;
    if (!a)
        return otherwise;
    if (size_of(a->type) == 8)
        return a->v[0];
    memcpy(&small, a->v, size_of(a->type));
    return small;
}

desc *fake_ref(const desc *d, cudnnBackendAttributeName_t name, int i)
{
    const attr *a = fake_attr(d, name);
    return a ? (desc *)(intptr_t)a->v[i] : NULL;
}

/* ---- life of a descriptor */

size_t cudnnGetVersion(void)
{
    return CUDNN_VERSION;
}

const char *cudnnGetErrorString(cudnnStatus_t s)
{
    return s == CUDNN_STATUS_SUCCESS ? "success" : "a fake failure";
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                           cudnnBackendDescriptor_t *out)
{
    if (fake_fails("cudnnBackendCreateDescriptor"))
        return CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
    desc *d = calloc(1, sizeof *d);
    if (!d)
        return CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
    d->type = type;
    d->offer = -1;
    fake.live++;
    fake.packs += type == CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR;
    *out = d;
    return CUDNN_STATUS_SUCCESS;
}

static void use(const attr *a, int by)
{
    for (int64_t i = 0; a->type == REF && i < a->count; i++)
        ((desc *)(intptr_t)a->v[i])->users += by;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t p)
{
    desc *d = p;
    if (d->users) { /* and it stays, so that the others can be looked at */
        fake_violation("a descriptor of type %d is destroyed while others refer to it", d->type);
        return CUDNN_STATUS_BAD_PARAM;
    }
    for (int i = 0; i < d->n; i++)
        use(&d->attrs[i], -1);
    fake.live--;
    free(d);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t p, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count,
                                       const void *values)
{
    desc *d = p;
    const rule *r = NULL;
    if (fake_fails("cudnnBackendSetAttribute"))
        return CUDNN_STATUS_INTERNAL_ERROR;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (rules[i].desc == d->type && rules[i].name == name)
            r = &rules[i];
    if (d->finalized || !r || r->type != type || count < r->least || count > r->most ||
        fake_attr(d, name) || d->n == MAX_ATTRS) {
        fake_violation("attribute %d of descriptor %d: type %d, count %lld, finalized %d", name,
                       d->type, type, (long long)count, d->finalized);
        return CUDNN_STATUS_BAD_PARAM;
    }
    attr *a = &d->attrs[d->n];
    *a = (attr){.name = name, .type = type, .count = count};
    for (int64_t i = 0; i < count; i++)
        memcpy(&a->v[i], (const char *)values + (size_t)i * size_of(type), size_of(type));
    for (int64_t i = 0; type == REF && i < count; i++) {
        const desc *other = (desc *)(intptr_t)a->v[i];
        /* configurations come out of the heuristics finished */
        if (!other || (!other->finalized && other->offer < 0)) {
            fake_violation("attribute %d refers to a descriptor that is not finalized", name);
            return CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED;
        }
    }
    use(a, 1);
    d->n++;
    return CUDNN_STATUS_SUCCESS;
}

/* ---- tensors */

static tensor tensor_of(const desc *d)
{
    tensor t = {.id = fake_number(d, A(TENSOR_UNIQUE_ID), 0),
                .alignment = fake_number(d, A(TENSOR_BYTE_ALIGNMENT), 0),
                .bf16 = fake_number(d, A(TENSOR_DATA_TYPE), 0) == CUDNN_DATA_BFLOAT16,
                .is_virtual = fake_number(d, A(TENSOR_IS_VIRTUAL), 0) != 0,
                .by_value = fake_number(d, A(TENSOR_IS_BY_VALUE), 0) != 0};
    const attr *dim = fake_attr(d, A(TENSOR_DIMENSIONS)), *stride = fake_attr(d, A(TENSOR_STRIDES));
    t.rank = (int)dim->count;
    memcpy(t.dim, dim->v, (size_t)t.rank * 8);
    memcpy(t.stride, stride->v, (size_t)t.rank * 8);
    return t;
}

tensor fake_tensor(const desc *op, cudnnBackendAttributeName_t name)
{
    return tensor_of(fake_ref(op, name, 0));
}

static bool same_dims(const tensor *a, const tensor *b)
{
    return a->rank == b->rank && !memcmp(a->dim, b->dim, (size_t)a->rank * 8);
}

int64_t fake_extent(const tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n += (t->dim[i] - 1) * t->stride[i];
    return n;
}

static bool tensor_is_sound(const desc *d)
{
    tensor t = tensor_of(d);
    int64_t type = fake_number(d, A(TENSOR_DATA_TYPE), -1);
    bool good = t.rank == 4 && fake_attr(d, A(TENSOR_STRIDES))->count == 4 && t.id > 0 &&
                (type == CUDNN_DATA_FLOAT || type == CUDNN_DATA_BFLOAT16) && t.alignment > 0 &&
                (t.alignment & (t.alignment - 1)) == 0 && !(t.is_virtual && t.by_value);
    for (int i = 0; good && i < 4; i++)
        good = t.dim[i] > 0 && t.stride[i] > 0;
    return good;
}

/* ---- operations: x, w, y of a convolution in their forward roles */

bool fake_conv_of(const desc *op, conv_op *c)
{
    const desc *cd;
    switch (op->type) {
    case D(OPERATION_CONVOLUTION_FORWARD):
        cd = fake_ref(op, A(OPERATION_CONVOLUTION_FORWARD_CONV_DESC), 0);
        *c = (conv_op){.x = fake_tensor(op, A(OPERATION_CONVOLUTION_FORWARD_X)),
                       .w = fake_tensor(op, A(OPERATION_CONVOLUTION_FORWARD_W)),
                       .y = fake_tensor(op, A(OPERATION_CONVOLUTION_FORWARD_Y))};
        break;
    case D(OPERATION_CONVOLUTION_BACKWARD_DATA):
        cd = fake_ref(op, A(OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC), 0);
        *c = (conv_op){.x = fake_tensor(op, A(OPERATION_CONVOLUTION_BWD_DATA_DX)),
                       .w = fake_tensor(op, A(OPERATION_CONVOLUTION_BWD_DATA_W)),
                       .y = fake_tensor(op, A(OPERATION_CONVOLUTION_BWD_DATA_DY)),
                       .written = 1};
        break;
    case D(OPERATION_CONVOLUTION_BACKWARD_FILTER):
        cd = fake_ref(op, A(OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC), 0);
        *c = (conv_op){.x = fake_tensor(op, A(OPERATION_CONVOLUTION_BWD_FILTER_X)),
                       .w = fake_tensor(op, A(OPERATION_CONVOLUTION_BWD_FILTER_DW)),
                       .y = fake_tensor(op, A(OPERATION_CONVOLUTION_BWD_FILTER_DY)),
                       .written = 2};
        break;
    default:
        return false;
    }
    memcpy(c->stride, fake_attr(cd, A(CONVOLUTION_FILTER_STRIDES))->v, sizeof c->stride);
    memcpy(c->before, fake_attr(cd, A(CONVOLUTION_PRE_PADDINGS))->v, sizeof c->before);
    memcpy(c->after, fake_attr(cd, A(CONVOLUTION_POST_PADDINGS))->v, sizeof c->after);
    return true;
}

static bool conv_is_sound(const conv_op *c)
{
    bool good =
        c->x.dim[0] == c->y.dim[0] && c->x.dim[1] == c->w.dim[1] && c->w.dim[0] == c->y.dim[1];
    for (int i = 0; i < 2; i++)
        good =
            good &&
            c->y.dim[2 + i] ==
                (c->x.dim[2 + i] + c->before[i] + c->after[i] - c->w.dim[2 + i]) / c->stride[i] + 1;
    return good;
}

static bool convolution_is_sound(const desc *d)
{
    const attr *dilation = fake_attr(d, A(CONVOLUTION_DILATIONS));
    return fake_number(d, A(CONVOLUTION_COMP_TYPE), -1) == CUDNN_DATA_FLOAT &&
           fake_number(d, A(CONVOLUTION_CONV_MODE), -1) == CUDNN_CROSS_CORRELATION &&
           fake_number(d, A(CONVOLUTION_SPATIAL_DIMS), 0) == 2 && dilation->v[0] == 1 &&
           dilation->v[1] == 1;
}

static bool pointwise_is_sound(const desc *d)
{
    cudnnPointwiseMode_t mode = fake_pointwise_mode(d);
    bool good = true, unary = mode == CUDNN_POINTWISE_EXP || mode == CUDNN_POINTWISE_IDENTITY;
    tensor x = fake_tensor(d, A(OPERATION_POINTWISE_XDESC));
    tensor y = fake_tensor(d, A(OPERATION_POINTWISE_YDESC));
    if (unary || !fake_attr(d, A(OPERATION_POINTWISE_BDESC)))
        return same_dims(&x, &y) && unary && !fake_attr(d, A(OPERATION_POINTWISE_BDESC));
    tensor b = fake_tensor(d, A(OPERATION_POINTWISE_BDESC));
    for (int i = 0; i < 4; i++)
        good = good && (b.dim[i] == y.dim[i] || b.dim[i] == 1);
    return good && same_dims(&x, &y);
}

static bool product_is_sound(const desc *d)
{
    tensor a = fake_tensor(d, A(OPERATION_MATMUL_ADESC));
    tensor b = fake_tensor(d, A(OPERATION_MATMUL_BDESC));
    tensor c = fake_tensor(d, A(OPERATION_MATMUL_CDESC));
    bool good = a.dim[2] == c.dim[2] && a.dim[3] == b.dim[2] && b.dim[3] == c.dim[3];
    for (int i = 0; i < 2; i++)
        good = good && a.dim[i] == c.dim[i] && b.dim[i] == c.dim[i];
    return good;
}

static bool reduction_is_sound(const desc *d)
{
    tensor x = fake_tensor(d, A(OPERATION_REDUCTION_XDESC));
    tensor y = fake_tensor(d, A(OPERATION_REDUCTION_YDESC));
    bool good = true;
    for (int i = 0; i < 4; i++)
        good = good && (y.dim[i] == x.dim[i] || y.dim[i] == 1);
    return good;
}

/* As used: the last two axes change places, and nothing moves in memory. */
static bool reshape_is_sound(const desc *d)
{
    static const int turned[4] = {0, 1, 3, 2};
    tensor x = fake_tensor(d, A(OPERATION_RESHAPE_XDESC));
    tensor y = fake_tensor(d, A(OPERATION_RESHAPE_YDESC));
    bool good = y.is_virtual;
    for (int i = 0; i < 4; i++)
        good = good && y.dim[i] == x.dim[turned[i]] && y.stride[i] == x.stride[turned[i]];
    return good;
}

static bool attention_is_sound(const desc *op)
{
    bool bwd = op->type == D(OPERATION_SDPA_BWD);
    tensor q = ATTENTION(op, bwd, Q), k = ATTENTION(op, bwd, K), v = ATTENTION(op, bwd, V);
    tensor o = ATTENTION(op, bwd, O), stats = ATTENTION(op, bwd, STATS);
    tensor scale = ATTENTION(op, bwd, SCALE);
    bool good = same_dims(&k, &v) && same_dims(&q, &o) && q.dim[0] == k.dim[0] &&
                q.dim[1] == k.dim[1] && q.dim[3] == k.dim[3] && stats.dim[0] == q.dim[0] &&
                stats.dim[1] == q.dim[1] && stats.dim[2] == q.dim[2] && stats.dim[3] == 1 &&
                q.bf16 && k.bf16 && v.bf16 && o.bf16 && !stats.bf16 && !scale.bf16 &&
                scale.by_value && fake_extent(&scale) == 1;
    if (bwd) {
        tensor dq = fake_tensor(op, A(OPERATION_SDPA_BWD_DQDESC)),
               dk = fake_tensor(op, A(OPERATION_SDPA_BWD_DKDESC));
        tensor dv = fake_tensor(op, A(OPERATION_SDPA_BWD_DVDESC)),
               d = fake_tensor(op, A(OPERATION_SDPA_BWD_DODDESC));
        good = good && same_dims(&dq, &q) && same_dims(&dk, &k) && same_dims(&dv, &v) &&
               same_dims(&d, &o) && dq.bf16 && dk.bf16 && dv.bf16 && d.bf16;
    }
    return good;
}

static bool pack_is_sound(const desc *d)
{
    const attr *id = fake_attr(d, A(VARIANT_PACK_UNIQUE_IDS));
    const attr *p = fake_attr(d, A(VARIANT_PACK_DATA_POINTERS));
    bool good = id->count == p->count;
    for (int64_t i = 0; good && i < id->count; i++)
        for (int64_t j = 0; j < i; j++)
            good = good && id->v[i] != id->v[j];
    return good;
}

static bool is_sound(const desc *d)
{
    conv_op c;
    switch (d->type) {
    case D(TENSOR):
        return tensor_is_sound(d);
    case D(CONVOLUTION):
        return convolution_is_sound(d);
    case D(POINTWISE):
        return fake_number(d, A(POINTWISE_MATH_PREC), -1) == CUDNN_DATA_FLOAT;
    case D(MATMUL):
        return fake_number(d, A(MATMUL_COMP_TYPE), -1) == CUDNN_DATA_FLOAT;
    case D(REDUCTION):
        return fake_number(d, A(REDUCTION_OPERATOR), -1) == CUDNN_REDUCE_TENSOR_ADD &&
               fake_number(d, A(REDUCTION_COMP_TYPE), -1) == CUDNN_DATA_FLOAT;
    case D(OPERATION_POINTWISE):
        return pointwise_is_sound(d);
    case D(OPERATION_MATMUL):
        return product_is_sound(d);
    case D(OPERATION_REDUCTION):
        return reduction_is_sound(d);
    case D(OPERATION_RESHAPE):
        return reshape_is_sound(d);
    case D(OPERATION_SDPA_FWD):
    case D(OPERATION_SDPA_BWD):
        return attention_is_sound(d);
    case D(VARIANT_PACK):
        return pack_is_sound(d);
    default:
        return !fake_conv_of(d, &c) || conv_is_sound(&c);
    }
}

/* Whether the graph is an attention that the test wants refused. */
static bool is_refused(const desc *graph)
{
    const attr *ops = fake_attr(graph, A(OPERATIONGRAPH_OPS));
    cudnnBackendDescriptorType_t t = fake_ref(graph, A(OPERATIONGRAPH_OPS), 0)->type;
    if (fake.refuse_attention)
        return t == D(OPERATION_SDPA_FWD) || t == D(OPERATION_SDPA_BWD) || ops->count > 3;
    return fake.refuse_unified && t == D(OPERATION_SDPA_BWD);
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t p)
{
    desc *d = p;
    if (fake_fails("cudnnBackendFinalize"))
        return CUDNN_STATUS_INTERNAL_ERROR;
    bool good = !d->finalized;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (rules[i].desc == d->type && rules[i].required && !fake_attr(d, rules[i].name)) {
            fake_violation("descriptor %d lacks attribute %d", d->type, rules[i].name);
            return CUDNN_STATUS_BAD_PARAM;
        }
    if (!good || !is_sound(d)) {
        fake_violation("descriptor %d is inconsistent", d->type);
        return CUDNN_STATUS_BAD_PARAM;
    }
    if (d->type == D(OPERATIONGRAPH) && is_refused(d))
        return CUDNN_STATUS_BAD_PARAM;
    if (d->type == D(EXECUTION_PLAN)) {
        d->offer = fake_ref(d, A(EXECUTION_PLAN_ENGINE_CONFIG), 0)->offer;
        d->graph = fake_ref(d, A(EXECUTION_PLAN_ENGINE_CONFIG), 0)->graph;
        fake.built++;
        if (fake.offers[d->offer].broken)
            return CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH;
    }
    d->finalized = true;
    return CUDNN_STATUS_SUCCESS;
}

/* ---- heuristics */

static int list(const desc *heuristics, int *offers)
{
    const desc *graph = fake_ref(heuristics, A(ENGINEHEUR_OPERATION_GRAPH), 0);
    bool fallback = fake_number(heuristics, A(ENGINEHEUR_MODE), -1) == CUDNN_HEUR_MODE_FALLBACK;
    int n = 0;
    if (fake.refuse_fused && fake_attr(graph, A(OPERATIONGRAPH_OPS))->count > 1)
        return 0;
    for (int i = 0; i < fake.n_offers; i++)
        if (fake.offers[i].fallback == fallback)
            offers[n++] = i;
    return n;
}

static cudnnStatus_t get_results(const desc *heuristics, int64_t asked, int64_t *n, void *out)
{
    int offers[FAKE_MAX_OFFERS], count = list(heuristics, offers);
    *n = asked == 0 ? count : asked < count ? asked : count;
    fake.asked++;
    for (int64_t i = 0; asked > 0 && i < *n; i++) {
        desc *config = ((desc **)out)[i];
        if (!config || config->type != D(ENGINECFG) || config->offer >= 0) {
            fake_violation("the heuristics' results want fresh configurations");
            return CUDNN_STATUS_BAD_PARAM;
        }
        config->offer = offers[i];
        config->graph = fake_ref(heuristics, A(ENGINEHEUR_OPERATION_GRAPH), 0);
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const p,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t asked, int64_t *n,
                                       void *out)
{
    const desc *d = p;
    if (fake_fails("cudnnBackendGetAttribute"))
        return CUDNN_STATUS_INTERNAL_ERROR;
    if (d->type == D(ENGINEHEUR) && d->finalized && name == A(ENGINEHEUR_RESULTS) && type == REF)
        return get_results(d, asked, n, out);
    if (d->type == D(ENGINECFG) && d->offer >= 0 && name == A(ENGINECFG_ENGINE) && type == REF &&
        asked == 1) {
        ((desc **)out)[0]->offer = d->offer;
        *n = 1;
        return CUDNN_STATUS_SUCCESS;
    }
    if (d->type == D(ENGINE) && d->offer >= 0 && name == A(ENGINE_NUMERICAL_NOTE) &&
        type == T(NUMERICAL_NOTE)) {
        *n = 0;
        for (int i = 0; i < CUDNN_NUMERICAL_NOTE_TYPE_COUNT && *n < asked; i++)
            if (fake.offers[d->offer].notes >> i & 1)
                ((cudnnBackendNumericalNote_t *)out)[(*n)++] = (cudnnBackendNumericalNote_t)i;
        return CUDNN_STATUS_SUCCESS;
    }
    if (d->type == D(EXECUTION_PLAN) && d->finalized && name == A(EXECUTION_PLAN_WORKSPACE_SIZE) &&
        type == T(INT64) && asked == 1) {
        *(int64_t *)out = (int64_t)fake.offers[d->offer].workspace;
        *n = 1;
        return CUDNN_STATUS_SUCCESS;
    }
    fake_violation("attribute %d of descriptor %d cannot be read so", name, d->type);
    return CUDNN_STATUS_BAD_PARAM;
}

/* ---- execution */

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t pack)
{
    const desc *p = plan;
    memory m = {.pack = pack};
    (void)handle;
    if (fake_fails("cudnnBackendExecute") || fake.offers[p->offer].crashes)
        return CUDNN_STATUS_EXECUTION_FAILED;
    void *workspace = (void *)(intptr_t)fake_number(pack, A(VARIANT_PACK_WORKSPACE), 0);
    size_t bytes = fake.offers[p->offer].workspace;
    if (!p->finalized || !m.pack->finalized ||
        (bytes && (!workspace || (uintptr_t)workspace % 256)))
        fake_violation("execution: not finalized, or its workspace %p is unfit", workspace);
    const attr *ops = fake_attr(p->graph, A(OPERATIONGRAPH_OPS));
    bool good = true;
    for (int64_t i = 0; good && i < ops->count; i++) {
        if (bytes && workspace) /* nothing else may lie there */
            memset(workspace, 0xee, bytes);
        good = fake_run_op(&m, (desc *)(intptr_t)ops->v[i]);
    }
    if (ops->count > fake.most_ops)
        fake.most_ops = (int)ops->count;
    for (int i = 0; i < 64; i++)
        free(m.made[i]);
    fake.executions++;
    fake.last = p->offer;
    fake.clock_ms += fake.offers[p->offer].ms;
    return good ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_EXECUTION_FAILED;
}
