/* add sub mul affine act act_grad geglu geglu_grad cast. */
#include "backend/ref/ref_impl.h"
#include <math.h>
#include <string.h>

int64_t ref__broadcast(const md_tensor *a, const md_tensor *b, int64_t i)
{
    int64_t offset = 0, stride = 1;
    for (int d = 1; d <= a->ndim && d <= b->ndim; d++) { /* from the last dim */
        int64_t na = a->dim[a->ndim - d], nb = b->dim[b->ndim - d];
        if (nb != 1)
            offset += i % na * stride;
        stride *= nb;
        i /= na;
    }
    return offset;
}

int64_t ref__dims(const md_tensor *t, int from, int to)
{
    int64_t n = 1;
    for (int d = from; d < to; d++)
        n *= t->dim[d];
    return n;
}

REF_RUN(add)
{
    (void)scratch;
    const double *a = in[0], *b = in[1];
    double *y = out[0];
    for (int64_t i = 0; i < md_numel(k->node->in[0]); i++)
        y[i] = a[i] + b[ref__broadcast(k->node->in[0], k->node->in[1], i)];
    return MD_OK;
}
REF_KERNEL(add)

REF_RUN(sub)
{
    (void)scratch;
    const double *a = in[0], *b = in[1];
    double *y = out[0];
    for (int64_t i = 0; i < md_numel(k->node->in[0]); i++)
        y[i] = a[i] - b[ref__broadcast(k->node->in[0], k->node->in[1], i)];
    return MD_OK;
}
REF_KERNEL(sub)

REF_RUN(mul)
{
    (void)scratch;
    const double *a = in[0], *b = in[1];
    double *y = out[0];
    for (int64_t i = 0; i < md_numel(k->node->in[0]); i++)
        y[i] = a[i] * b[ref__broadcast(k->node->in[0], k->node->in[1], i)];
    return MD_OK;
}
REF_KERNEL(mul)

REF_RUN(affine)
{
    (void)scratch;
    const double *x = in[0];
    double *y = out[0];
    for (int64_t i = 0; i < md_numel(k->node->in[0]); i++)
        y[i] = k->node->attr.affine.alpha * x[i] + k->node->attr.affine.beta;
    return MD_OK;
}
REF_KERNEL(affine)

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double normal_cdf(double x)
{
    return 0.5 * erfc(-x / sqrt(2.0));
}

static double normal_pdf(double x)
{
    return exp(-0.5 * x * x) / sqrt(2 * acos(-1.0));
}

double ref__act(md_act kind, double lo, double hi, double x)
{
    switch (kind) {
    case MD_ACT_NONE:
        return x;
    case MD_ACT_SILU:
        return x * sigmoid(x);
    case MD_ACT_GELU:
        return x * normal_cdf(x);
    case MD_ACT_QUICK_GELU:
        return x * sigmoid(1.702 * x);
    case MD_ACT_EXP:
        return exp(x);
    case MD_ACT_LOG:
        return log(x);
    case MD_ACT_CLAMP:
        return x < lo ? lo : x > hi ? hi : x;
    }
    return NAN;
}

double ref__act_slope(md_act kind, double lo, double hi, double x)
{
    double s;
    switch (kind) {
    case MD_ACT_NONE:
        return 1;
    case MD_ACT_SILU:
        s = sigmoid(x);
        return s + x * s * (1 - s);
    case MD_ACT_GELU:
        return normal_cdf(x) + x * normal_pdf(x);
    case MD_ACT_QUICK_GELU:
        s = sigmoid(1.702 * x);
        return s + 1.702 * x * s * (1 - s);
    case MD_ACT_EXP:
        return exp(x);
    case MD_ACT_LOG:
        return 1 / x;
    case MD_ACT_CLAMP:
        return x >= lo && x <= hi ? 1 : 0;
    }
    return NAN;
}

REF_RUN(act)
{
    (void)scratch;
    const double *x = in[0];
    double *y = out[0];
    const md_attr *a = &k->node->attr;
    for (int64_t i = 0; i < md_numel(k->node->in[0]); i++)
        y[i] = ref__act(a->act.kind, a->act.lo, a->act.hi, x[i]);
    return MD_OK;
}
REF_KERNEL(act)

REF_RUN(act_grad)
{
    (void)scratch;
    const double *dy = in[0], *x = in[1];
    double *dx = out[0];
    const md_attr *a = &k->node->attr;
    for (int64_t i = 0; i < md_numel(k->node->in[1]); i++)
        dx[i] = dy[i] * ref__act_slope(a->act.kind, a->act.lo, a->act.hi, x[i]);
    return MD_OK;
}
REF_KERNEL(act_grad)

/* x[row, 2D]: value in the first D columns, gate in the last D. */
REF_RUN(geglu)
{
    (void)scratch;
    const double *x = in[0];
    double *y = out[0];
    const md_tensor *t = k->node->out[0];
    int64_t D = t->dim[t->ndim - 1];
    for (int64_t i = 0; i < md_numel(t); i++) {
        const double *row = x + i / D * 2 * D;
        y[i] = row[i % D] * ref__act(MD_ACT_GELU, 0, 0, row[D + i % D]);
    }
    return MD_OK;
}
REF_KERNEL(geglu)

REF_RUN(geglu_grad)
{
    (void)scratch;
    const double *dy = in[0], *x = in[1];
    double *dx = out[0];
    const md_tensor *t = k->node->in[0];
    int64_t D = t->dim[t->ndim - 1];
    for (int64_t i = 0; i < md_numel(t); i++) {
        int64_t value = i / D * 2 * D + i % D, gate = value + D;
        dx[value] = dy[i] * ref__act(MD_ACT_GELU, 0, 0, x[gate]);
        dx[gate] = dy[i] * x[value] * ref__act_slope(MD_ACT_GELU, 0, 0, x[gate]);
    }
    return MD_OK;
}
REF_KERNEL(geglu_grad)

REF_RUN(cast) /* all float types are doubles here */
{
    (void)scratch;
    memcpy(out[0], in[0], (size_t)md_numel(k->node->in[0]) * sizeof(double));
    return MD_OK;
}
REF_KERNEL(cast)
