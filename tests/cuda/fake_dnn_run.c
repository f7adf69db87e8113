/* The operations of cuDNN's graphs in plain loops over strides. */
#include "fake_dnn.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool place(memory *m, tensor *t)
{
    if (t->is_virtual) {
        if (!m->made[t->id])
            m->made[t->id] = calloc((size_t)fake_extent(t), 4);
        t->data = m->made[t->id];
        return t->data != NULL;
    }
    const attr *id = fake_attr(m->pack, A(VARIANT_PACK_UNIQUE_IDS));
    for (int64_t i = 0; i < id->count; i++)
        if (id->v[i] == t->id)
            t->data = (void *)(intptr_t)fake_attr(m->pack, A(VARIANT_PACK_DATA_POINTERS))->v[i];
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
    int64_t size = fake_extent(to), R = c->w.dim[2], S = c->w.dim[3];
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

cudnnPointwiseMode_t fake_pointwise_mode(const desc *op)
{
    const desc *d = fake_ref(op, A(OPERATION_POINTWISE_PW_DESCRIPTOR), 0);
    return (cudnnPointwiseMode_t)fake_number(d, A(POINTWISE_MODE), -1);
}

static bool combine(cudnnPointwiseMode_t mode, double *v, double b)
{
    switch (mode) {
    case CUDNN_POINTWISE_ADD:
        *v += b;
        return true;
    case CUDNN_POINTWISE_SUB:
        *v -= b;
        return true;
    case CUDNN_POINTWISE_MUL:
        *v *= b;
        return true;
    case CUDNN_POINTWISE_EXP:
        *v = exp(*v);
        return true;
    case CUDNN_POINTWISE_IDENTITY:
        return true;
    default:
        fake_violation("pointwise mode %d is unknown", mode);
        return false;
    }
}

/* Of the i-th element in the order of the axes. */
static void coordinates(const int64_t dim[4], int64_t i, int64_t p[4])
{
    for (int axis = 3; axis >= 0; axis--) {
        p[axis] = i % dim[axis];
        i /= dim[axis];
    }
}

static double get_broadcast(const tensor *t, const int64_t p[4])
{
    return get(t, t->dim[0] > 1 ? p[0] : 0, t->dim[1] > 1 ? p[1] : 0, t->dim[2] > 1 ? p[2] : 0,
               t->dim[3] > 1 ? p[3] : 0);
}

static int64_t elements(const tensor *t)
{
    return t->dim[0] * t->dim[1] * t->dim[2] * t->dim[3];
}

static bool run_pointwise(memory *m, const desc *op)
{
    bool binary = fake_attr(op, A(OPERATION_POINTWISE_BDESC)) != NULL;
    tensor x = fake_tensor(op, A(OPERATION_POINTWISE_XDESC)), b = {0};
    tensor y = fake_tensor(op, A(OPERATION_POINTWISE_YDESC));
    if (binary)
        b = fake_tensor(op, A(OPERATION_POINTWISE_BDESC));
    if (!place(m, &x) || (binary && !place(m, &b)) || !place(m, &y))
        return false;
    for (int64_t i = 0; i < elements(&y); i++) {
        int64_t p[4];
        coordinates(y.dim, i, p);
        double v = get(&x, p[0], p[1], p[2], p[3]);
        if (!combine(fake_pointwise_mode(op), &v, binary ? get_broadcast(&b, p) : 0))
            return false;
        fake_store(y.data, y.bf16, index4(&y, p[0], p[1], p[2], p[3]), v);
    }
    return true;
}

static bool run_product(memory *m, const desc *op)
{
    tensor a = fake_tensor(op, A(OPERATION_MATMUL_ADESC));
    tensor b = fake_tensor(op, A(OPERATION_MATMUL_BDESC));
    tensor c = fake_tensor(op, A(OPERATION_MATMUL_CDESC));
    if (!place(m, &a) || !place(m, &b) || !place(m, &c))
        return false;
    for (int64_t i = 0; i < elements(&c); i++) {
        int64_t p[4];
        coordinates(c.dim, i, p);
        double sum = 0;
        for (int64_t k = 0; k < a.dim[3]; k++)
            sum += get(&a, p[0], p[1], p[2], k) * get(&b, p[0], p[1], k, p[3]);
        fake_store(c.data, c.bf16, index4(&c, p[0], p[1], p[2], p[3]), sum);
    }
    return true;
}

static bool run_reduction(memory *m, const desc *op)
{
    tensor x = fake_tensor(op, A(OPERATION_REDUCTION_XDESC));
    tensor y = fake_tensor(op, A(OPERATION_REDUCTION_YDESC));
    double *sum = calloc((size_t)elements(&y), sizeof *sum);
    if (!sum || !place(m, &x) || !place(m, &y)) {
        free(sum);
        return false;
    }
    for (int64_t i = 0; i < elements(&x); i++) {
        int64_t p[4], at = 0;
        coordinates(x.dim, i, p);
        for (int axis = 0; axis < 4; axis++)
            at = at * y.dim[axis] + (y.dim[axis] > 1 ? p[axis] : 0);
        sum[at] += get(&x, p[0], p[1], p[2], p[3]);
    }
    for (int64_t i = 0; i < elements(&y); i++) {
        int64_t p[4];
        coordinates(y.dim, i, p);
        fake_store(y.data, y.bf16, index4(&y, p[0], p[1], p[2], p[3]), sum[i]);
    }
    free(sum);
    return true;
}

/* The same memory under other dims and another type. */
static bool run_reshape(memory *m, const desc *op)
{
    tensor x = fake_tensor(op, A(OPERATION_RESHAPE_XDESC));
    tensor y = fake_tensor(op, A(OPERATION_RESHAPE_YDESC));
    if (!place(m, &x) || !place(m, &y))
        return false;
    for (int64_t i = 0; i < fake_extent(&y); i++)
        fake_store(y.data, y.bf16, i, fake_load(x.data, x.bf16, i));
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
                    fake_tensor(op, A(OPERATION_SDPA_BWD_DODDESC)),
                    fake_tensor(op, A(OPERATION_SDPA_BWD_DQDESC)),
                    fake_tensor(op, A(OPERATION_SDPA_BWD_DKDESC)),
                    fake_tensor(op, A(OPERATION_SDPA_BWD_DVDESC)),
                    ATTENTION(op, true, SCALE)};
    for (int i = 0; i < 10; i++)
        if (!place(m, &t[i]))
            return false;
    for (int64_t i = 0; i < t[0].dim[0] * t[0].dim[1]; i++)
        if (!attend_back(t, *(const float *)t[9].data, i / t[0].dim[1], i % t[0].dim[1]))
            return false;
    return true;
}

bool fake_run_op(memory *m, const desc *op)
{
    conv_op c;
    if (op->type == D(OPERATION_POINTWISE))
        return run_pointwise(m, op);
    if (op->type == D(OPERATION_MATMUL))
        return run_product(m, op);
    if (op->type == D(OPERATION_REDUCTION))
        return run_reduction(m, op);
    if (op->type == D(OPERATION_RESHAPE))
        return run_reshape(m, op);
    if (op->type == D(OPERATION_SDPA_FWD))
        return run_attention(m, op);
    if (op->type == D(OPERATION_SDPA_BWD))
        return run_attention_back(m, op);
    return fake_conv_of(op, &c) && run_conv(m, &c);
}
