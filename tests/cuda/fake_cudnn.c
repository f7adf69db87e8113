/* cuDNN's graph interface: every attribute is checked against a table of names, types, counts and
   what must be there, every tensor against its neighbours; execution is plain loops over strides.
 */
#include "fake_vendor.h"
#include <cudnn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ATTRS = 24, MAX_COUNT = 16 };

typedef struct attr {
    cudnnBackendAttributeName_t name;
    cudnnBackendAttributeType_t type;
    int64_t count;
    int64_t v[MAX_COUNT]; /* each element widened to 8 bytes' place */
} attr;

typedef struct desc {
    cudnnBackendDescriptorType_t type;
    bool finalized;
    int n, users; /* users: live descriptors that refer to it */
    int offer;    /* engine, configuration, plan */
    attr attrs[MAX_ATTRS];
    struct desc *graph; /* configuration: what it is for */
} desc;

/* ---- what each descriptor takes */

typedef struct rule {
    cudnnBackendDescriptorType_t desc;
    cudnnBackendAttributeName_t name;
    cudnnBackendAttributeType_t type;
    int least, most;
    bool required;
} rule;

#define D(x) CUDNN_BACKEND_##x##_DESCRIPTOR
#define A(x) CUDNN_ATTR_##x
#define T(x) CUDNN_TYPE_##x
#define REF  CUDNN_TYPE_BACKEND_DESCRIPTOR
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
    {D(OPERATION_POINTWISE), A(OPERATION_POINTWISE_BDESC), REF, 1, 1, true},
    {D(OPERATION_POINTWISE), A(OPERATION_POINTWISE_YDESC), REF, 1, 1, true},
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
    {D(OPERATIONGRAPH), A(OPERATIONGRAPH_OPS), REF, 1, 8, true},
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
        return 4;
    default:
        return 8;
    }
}

static const attr *find(const desc *d, cudnnBackendAttributeName_t name)
{
    for (int i = 0; i < d->n; i++)
        if (d->attrs[i].name == name)
            return &d->attrs[i];
    return NULL;
}

static int64_t number(const desc *d, cudnnBackendAttributeName_t name, int64_t otherwise)
{
    const attr *a = find(d, name);
    int32_t small = 0;
    if (!a)
        return otherwise;
    if (size_of(a->type) == 8)
        return a->v[0];
    memcpy(&small, a->v, size_of(a->type));
    return small;
}

static desc *ref(const desc *d, cudnnBackendAttributeName_t name, int i)
{
    const attr *a = find(d, name);
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
        find(d, name) || d->n == MAX_ATTRS) {
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

typedef struct tensor {
    int rank;
    int64_t dim[8], stride[8];
    bool bf16, is_virtual, by_value;
    int64_t id, alignment;
    void *data;
} tensor;

static tensor tensor_of(const desc *d)
{
    tensor t = {.id = number(d, A(TENSOR_UNIQUE_ID), 0),
                .alignment = number(d, A(TENSOR_BYTE_ALIGNMENT), 0),
                .bf16 = number(d, A(TENSOR_DATA_TYPE), 0) == CUDNN_DATA_BFLOAT16,
                .is_virtual = number(d, A(TENSOR_IS_VIRTUAL), 0) != 0,
                .by_value = number(d, A(TENSOR_IS_BY_VALUE), 0) != 0};
    const attr *dim = find(d, A(TENSOR_DIMENSIONS)), *stride = find(d, A(TENSOR_STRIDES));
    t.rank = (int)dim->count;
    memcpy(t.dim, dim->v, (size_t)t.rank * 8);
    memcpy(t.stride, stride->v, (size_t)t.rank * 8);
    return t;
}

static tensor at(const desc *op, cudnnBackendAttributeName_t name)
{
    return tensor_of(ref(op, name, 0));
}

static bool same_dims(const tensor *a, const tensor *b)
{
    return a->rank == b->rank && !memcmp(a->dim, b->dim, (size_t)a->rank * 8);
}

static int64_t extent(const tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n += (t->dim[i] - 1) * t->stride[i];
    return n;
}

static bool tensor_is_sound(const desc *d)
{
    tensor t = tensor_of(d);
    int64_t type = number(d, A(TENSOR_DATA_TYPE), -1);
    bool good = t.rank == 4 && find(d, A(TENSOR_STRIDES))->count == 4 && t.id > 0 &&
                (type == CUDNN_DATA_FLOAT || type == CUDNN_DATA_BFLOAT16) && t.alignment > 0 &&
                (t.alignment & (t.alignment - 1)) == 0 && !(t.is_virtual && t.by_value);
    for (int i = 0; good && i < 4; i++)
        good = t.dim[i] > 0 && t.stride[i] > 0;
    return good;
}

/* ---- operations: x, w, y of a convolution in their forward roles */

typedef struct conv_op {
    tensor x, w, y;
    int64_t stride[2], before[2], after[2];
    int written; /* 0 y, 1 x, 2 w */
} conv_op;

static bool conv_of(const desc *op, conv_op *c)
{
    const desc *cd;
    switch (op->type) {
    case D(OPERATION_CONVOLUTION_FORWARD):
        cd = ref(op, A(OPERATION_CONVOLUTION_FORWARD_CONV_DESC), 0);
        *c = (conv_op){.x = at(op, A(OPERATION_CONVOLUTION_FORWARD_X)),
                       .w = at(op, A(OPERATION_CONVOLUTION_FORWARD_W)),
                       .y = at(op, A(OPERATION_CONVOLUTION_FORWARD_Y))};
        break;
    case D(OPERATION_CONVOLUTION_BACKWARD_DATA):
        cd = ref(op, A(OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC), 0);
        *c = (conv_op){.x = at(op, A(OPERATION_CONVOLUTION_BWD_DATA_DX)),
                       .w = at(op, A(OPERATION_CONVOLUTION_BWD_DATA_W)),
                       .y = at(op, A(OPERATION_CONVOLUTION_BWD_DATA_DY)),
                       .written = 1};
        break;
    case D(OPERATION_CONVOLUTION_BACKWARD_FILTER):
        cd = ref(op, A(OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC), 0);
        *c = (conv_op){.x = at(op, A(OPERATION_CONVOLUTION_BWD_FILTER_X)),
                       .w = at(op, A(OPERATION_CONVOLUTION_BWD_FILTER_DW)),
                       .y = at(op, A(OPERATION_CONVOLUTION_BWD_FILTER_DY)),
                       .written = 2};
        break;
    default:
        return false;
    }
    memcpy(c->stride, find(cd, A(CONVOLUTION_FILTER_STRIDES))->v, sizeof c->stride);
    memcpy(c->before, find(cd, A(CONVOLUTION_PRE_PADDINGS))->v, sizeof c->before);
    memcpy(c->after, find(cd, A(CONVOLUTION_POST_PADDINGS))->v, sizeof c->after);
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
    const attr *dilation = find(d, A(CONVOLUTION_DILATIONS));
    return number(d, A(CONVOLUTION_COMP_TYPE), -1) == CUDNN_DATA_FLOAT &&
           number(d, A(CONVOLUTION_CONV_MODE), -1) == CUDNN_CROSS_CORRELATION &&
           number(d, A(CONVOLUTION_SPATIAL_DIMS), 0) == 2 && dilation->v[0] == 1 &&
           dilation->v[1] == 1;
}

static bool addition_is_sound(const desc *d)
{
    tensor x = at(d, A(OPERATION_POINTWISE_XDESC)), b = at(d, A(OPERATION_POINTWISE_BDESC));
    tensor y = at(d, A(OPERATION_POINTWISE_YDESC));
    bool good = same_dims(&x, &y);
    for (int i = 0; i < 4; i++)
        good = good && (b.dim[i] == y.dim[i] || b.dim[i] == 1);
    return good;
}

#define ATTENTION(op, bwd, x)                                                                      \
    at(op, bwd ? A(OPERATION_SDPA_BWD_##x##DESC) : A(OPERATION_SDPA_FWD_##x##DESC))

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
                scale.by_value && extent(&scale) == 1;
    if (bwd) {
        tensor dq = at(op, A(OPERATION_SDPA_BWD_DQDESC)), dk = at(op, A(OPERATION_SDPA_BWD_DKDESC));
        tensor dv = at(op, A(OPERATION_SDPA_BWD_DVDESC)), d = at(op, A(OPERATION_SDPA_BWD_DODDESC));
        good = good && same_dims(&dq, &q) && same_dims(&dk, &k) && same_dims(&dv, &v) &&
               same_dims(&d, &o) && dq.bf16 && dk.bf16 && dv.bf16 && d.bf16;
    }
    return good;
}

static bool pack_is_sound(const desc *d)
{
    const attr *id = find(d, A(VARIANT_PACK_UNIQUE_IDS));
    const attr *p = find(d, A(VARIANT_PACK_DATA_POINTERS));
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
        return number(d, A(POINTWISE_MODE), -1) == CUDNN_POINTWISE_ADD &&
               number(d, A(POINTWISE_MATH_PREC), -1) == CUDNN_DATA_FLOAT;
    case D(OPERATION_POINTWISE):
        return addition_is_sound(d);
    case D(OPERATION_SDPA_FWD):
    case D(OPERATION_SDPA_BWD):
        return attention_is_sound(d);
    case D(VARIANT_PACK):
        return pack_is_sound(d);
    default:
        return !conv_of(d, &c) || conv_is_sound(&c);
    }
}

static bool is_attention(const desc *graph)
{
    cudnnBackendDescriptorType_t t = ref(graph, A(OPERATIONGRAPH_OPS), 0)->type;
    return t == D(OPERATION_SDPA_FWD) || t == D(OPERATION_SDPA_BWD);
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t p)
{
    desc *d = p;
    if (fake_fails("cudnnBackendFinalize"))
        return CUDNN_STATUS_INTERNAL_ERROR;
    bool good = !d->finalized;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (rules[i].desc == d->type && rules[i].required && !find(d, rules[i].name)) {
            fake_violation("descriptor %d lacks attribute %d", d->type, rules[i].name);
            return CUDNN_STATUS_BAD_PARAM;
        }
    if (!good || !is_sound(d)) {
        fake_violation("descriptor %d is inconsistent", d->type);
        return CUDNN_STATUS_BAD_PARAM;
    }
    if (d->type == D(OPERATIONGRAPH) && fake.refuse_attention && is_attention(d))
        return CUDNN_STATUS_BAD_PARAM;
    if (d->type == D(EXECUTION_PLAN)) {
        d->offer = ref(d, A(EXECUTION_PLAN_ENGINE_CONFIG), 0)->offer;
        d->graph = ref(d, A(EXECUTION_PLAN_ENGINE_CONFIG), 0)->graph;
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
    const desc *graph = ref(heuristics, A(ENGINEHEUR_OPERATION_GRAPH), 0);
    bool fallback = number(heuristics, A(ENGINEHEUR_MODE), -1) == CUDNN_HEUR_MODE_FALLBACK;
    int n = 0;
    if (fake.refuse_fused && find(graph, A(OPERATIONGRAPH_OPS))->count > 1)
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
        config->graph = ref(heuristics, A(ENGINEHEUR_OPERATION_GRAPH), 0);
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

typedef struct memory {
    const desc *pack;
    void *made[64]; /* of virtual tensors, by id */
} memory;

static bool place(memory *m, tensor *t)
{
    if (t->is_virtual) {
        if (!m->made[t->id])
            m->made[t->id] = calloc((size_t)extent(t), 4);
        t->data = m->made[t->id];
        return t->data != NULL;
    }
    const attr *id = find(m->pack, A(VARIANT_PACK_UNIQUE_IDS));
    for (int64_t i = 0; i < id->count; i++)
        if (id->v[i] == t->id)
            t->data = (void *)(intptr_t)find(m->pack, A(VARIANT_PACK_DATA_POINTERS))->v[i];
    if (!t->data || (uintptr_t)t->data % (uintptr_t)t->alignment)
        fake_violation("tensor %lld: no or unaligned address %p", (long long)t->id, t->data);
    return t->data && (uintptr_t)t->data % (uintptr_t)t->alignment == 0;
}

static int64_t index4(const tensor *t, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return a * t->stride[0] + b * t->stride[1] + c * t->stride[2] + d * t->stride[3];
}

static double get(const tensor *t, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return fake_load(t->data, t->bf16, index4(t, a, b, c, d));
}

static bool run_conv(memory *m, conv_op *c)
{
    if (!place(m, &c->x) || !place(m, &c->w) || !place(m, &c->y))
        return false;
    const tensor *to = c->written == 0 ? &c->y : c->written == 1 ? &c->x : &c->w;
    int64_t size = extent(to), R = c->w.dim[2], S = c->w.dim[3];
    double *sum = calloc((size_t)size, sizeof *sum);
    if (!sum)
        return false;
    for (int64_t n = 0; n < c->y.dim[0]; n++)
        for (int64_t p = 0; p < c->y.dim[2] * c->y.dim[3]; p++)
            for (int64_t tap = 0; tap < R * S; tap++) {
                int64_t yr = p / c->y.dim[3], yc = p % c->y.dim[3];
                int64_t xr = yr * c->stride[0] + tap / S - c->before[0];
                int64_t xc = yc * c->stride[1] + tap % S - c->before[1];
                if (xr < 0 || xr >= c->x.dim[2] || xc < 0 || xc >= c->x.dim[3])
                    continue;
                for (int64_t k = 0; k < c->w.dim[0]; k++)
                    for (int64_t i = 0; i < c->w.dim[1]; i++) {
                        int64_t xi = index4(&c->x, n, i, xr, xc);
                        int64_t wi = index4(&c->w, k, i, tap / S, tap % S);
                        int64_t yi = index4(&c->y, n, k, yr, yc);
                        if (c->written == 0)
                            sum[yi] += fake_load(c->x.data, c->x.bf16, xi) *
                                       fake_load(c->w.data, c->w.bf16, wi);
                        else if (c->written == 1)
                            sum[xi] += fake_load(c->y.data, c->y.bf16, yi) *
                                       fake_load(c->w.data, c->w.bf16, wi);
                        else
                            sum[wi] += fake_load(c->y.data, c->y.bf16, yi) *
                                       fake_load(c->x.data, c->x.bf16, xi);
                    }
            }
    for (int64_t i = 0; i < size; i++)
        fake_store(to->data, to->bf16, i, sum[i]);
    free(sum);
    return true;
}

static bool run_addition(memory *m, const desc *op)
{
    tensor x = at(op, A(OPERATION_POINTWISE_XDESC)), b = at(op, A(OPERATION_POINTWISE_BDESC));
    tensor y = at(op, A(OPERATION_POINTWISE_YDESC));
    if (!place(m, &x) || !place(m, &b) || !place(m, &y))
        return false;
    const int64_t *d = y.dim;
    for (int64_t i = 0; i < d[0] * d[1] * d[2] * d[3]; i++) {
        int64_t p[4] = {i / (d[1] * d[2] * d[3]), i / (d[2] * d[3]) % d[1], i / d[3] % d[2],
                        i % d[3]};
        double v = get(&x, p[0], p[1], p[2], p[3]);
        v += get(&b, b.dim[0] > 1 ? p[0] : 0, b.dim[1] > 1 ? p[1] : 0, b.dim[2] > 1 ? p[2] : 0,
                 b.dim[3] > 1 ? p[3] : 0);
        fake_store(y.data, y.bf16, index4(&y, p[0], p[1], p[2], p[3]), v);
    }
    return true;
}

static double dot(const tensor *a, const tensor *b, int64_t n, int64_t h, int64_t t, int64_t s)
{
    double sum = 0;
    for (int64_t c = 0; c < a->dim[3]; c++)
        sum += get(a, n, h, t, c) * get(b, n, h, s, c);
    return sum;
}

static void attend_row(const tensor *q, const tensor *k, const tensor *v, const tensor *o,
                       const tensor *stats, double scale, int64_t n, int64_t h, int64_t t)
{
    double max = -INFINITY, sum = 0;
    for (int64_t s = 0; s < k->dim[2]; s++)
        max = fmax(max, scale * dot(q, k, n, h, t, s));
    for (int64_t s = 0; s < k->dim[2]; s++)
        sum += exp(scale * dot(q, k, n, h, t, s) - max);
    double lse = max + log(sum), row[256] = {0};
    for (int64_t s = 0; s < k->dim[2]; s++) {
        double p = exp(scale * dot(q, k, n, h, t, s) - lse);
        for (int64_t c = 0; c < v->dim[3]; c++)
            row[c] += p * get(v, n, h, s, c);
    }
    for (int64_t c = 0; c < v->dim[3]; c++)
        fake_store(o->data, o->bf16, index4(o, n, h, t, c), row[c]);
    fake_store(stats->data, false, index4(stats, n, h, t, 0), lse);
}

static bool run_attention(memory *m, const desc *op)
{
    tensor q = ATTENTION(op, false, Q), k = ATTENTION(op, false, K), v = ATTENTION(op, false, V);
    tensor o = ATTENTION(op, false, O), stats = ATTENTION(op, false, STATS);
    tensor scale = ATTENTION(op, false, SCALE);
    if (!place(m, &q) || !place(m, &k) || !place(m, &v) || !place(m, &o) || !place(m, &stats) ||
        !place(m, &scale))
        return false;
    for (int64_t i = 0; i < q.dim[0] * q.dim[1] * q.dim[2]; i++)
        attend_row(&q, &k, &v, &o, &stats, *(const float *)scale.data, i / (q.dim[1] * q.dim[2]),
                   i / q.dim[2] % q.dim[1], i % q.dim[2]);
    return true;
}

/* dq, dk, dv of one head of one sample. */
static bool attend_back(const tensor t[10], double scale, int64_t n, int64_t h)
{
    const tensor *q = &t[0], *k = &t[1], *v = &t[2], *o = &t[3], *stats = &t[4], *dO = &t[5];
    int64_t T = q->dim[2], S = k->dim[2], C = q->dim[3];
    double *dq = calloc((size_t)((T + 2 * S) * C), sizeof *dq);
    if (!dq)
        return false;
    double *dk = dq + T * C, *dv = dk + S * C;
    for (int64_t i = 0; i < T; i++) {
        double delta = dot(dO, o, n, h, i, i);
        for (int64_t j = 0; j < S; j++) {
            double p = exp(scale * dot(q, k, n, h, i, j) - get(stats, n, h, i, 0));
            double ds = scale * p * (dot(dO, v, n, h, i, j) - delta);
            for (int64_t c = 0; c < C; c++) {
                dv[j * C + c] += p * get(dO, n, h, i, c);
                dq[i * C + c] += ds * get(k, n, h, j, c);
                dk[j * C + c] += ds * get(q, n, h, i, c);
            }
        }
    }
    const double *from[3] = {dq, dk, dv};
    for (int w = 0; w < 3; w++)
        for (int64_t i = 0; i < t[6 + w].dim[2] * C; i++)
            fake_store(t[6 + w].data, t[6 + w].bf16, index4(&t[6 + w], n, h, i / C, i % C),
                       from[w][i]);
    free(dq);
    return true;
}

static bool run_attention_back(memory *m, const desc *op)
{
    tensor t[10] = {ATTENTION(op, true, Q),
                    ATTENTION(op, true, K),
                    ATTENTION(op, true, V),
                    ATTENTION(op, true, O),
                    ATTENTION(op, true, STATS),
                    at(op, A(OPERATION_SDPA_BWD_DODDESC)),
                    at(op, A(OPERATION_SDPA_BWD_DQDESC)),
                    at(op, A(OPERATION_SDPA_BWD_DKDESC)),
                    at(op, A(OPERATION_SDPA_BWD_DVDESC)),
                    ATTENTION(op, true, SCALE)};
    for (int i = 0; i < 10; i++)
        if (!place(m, &t[i]))
            return false;
    for (int64_t i = 0; i < t[0].dim[0] * t[0].dim[1]; i++)
        if (!attend_back(t, *(const float *)t[9].data, i / t[0].dim[1], i % t[0].dim[1]))
            return false;
    return true;
}

static bool run_op(memory *m, const desc *op)
{
    conv_op c;
    if (op->type == D(OPERATION_POINTWISE))
        return run_addition(m, op);
    if (op->type == D(OPERATION_SDPA_FWD))
        return run_attention(m, op);
    if (op->type == D(OPERATION_SDPA_BWD))
        return run_attention_back(m, op);
    return conv_of(op, &c) && run_conv(m, &c);
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t pack)
{
    const desc *p = plan;
    memory m = {.pack = pack};
    (void)handle;
    if (fake_fails("cudnnBackendExecute") || fake.offers[p->offer].crashes)
        return CUDNN_STATUS_EXECUTION_FAILED;
    void *workspace = (void *)(intptr_t)number(pack, A(VARIANT_PACK_WORKSPACE), 0);
    size_t bytes = fake.offers[p->offer].workspace;
    if (!p->finalized || !m.pack->finalized ||
        (bytes && (!workspace || (uintptr_t)workspace % 256)))
        fake_violation("execution: not finalized, or its workspace %p is unfit", workspace);
    else if (bytes)
        memset(workspace, 0xee, bytes);
    const attr *ops = find(p->graph, A(OPERATIONGRAPH_OPS));
    bool good = true;
    for (int64_t i = 0; good && i < ops->count; i++)
        good = run_op(&m, (desc *)(intptr_t)ops->v[i]);
    for (int i = 0; i < 64; i++)
        free(m.made[i]);
    fake.executions++;
    fake.last = p->offer;
    fake.clock_ms += fake.offers[p->offer].ms;
    return good ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_EXECUTION_FAILED;
}
