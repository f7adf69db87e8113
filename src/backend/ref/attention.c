/* attention attention_grad. p = softmax(scale q k^T) per head;
     dv = p^T do;  dp = do v^T;  ds = p (dp - do . o);  dq = scale ds k;  dk = scale ds^T q. */
#include "backend/ref/ref_impl.h"
#include <math.h>

typedef struct heads {
    int64_t N, T, S, D, n, d; /* n heads of d columns */
    double scale;
    bool causal;
} heads;

static heads heads_of(const md_node *node, const md_tensor *q, const md_tensor *k)
{
    heads h = {q->dim[0], q->dim[1], k->dim[1], q->dim[2], node->attr.attn.heads, 0, 0, false};
    h.d = h.D / h.n;
    h.scale = node->attr.attn.scale;
    if (h.scale == 0)
        h.scale = 1 / sqrt((double)h.d);
    h.causal = node->attr.attn.causal;
    return h;
}

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

REF_RUN(attention)
{
    (void)scratch;
    const heads h = heads_of(k->node, k->node->in[0], k->node->in[1]);
    double *lse = out[1];
    for (int64_t n = 0; n < h.N; n++)
        for (int64_t head = 0; head < h.n; head++)
            for (int64_t t = 0; t < h.T; t++) {
                int64_t qi = (n * h.T + t) * h.D + head * h.d;
                const double *q = (const double *)in[0] + qi;
                double *o = (double *)out[0] + qi;
                int64_t seen = h.causal ? t + 1 : h.S;
                double max = -INFINITY, sum = 0;
                for (int64_t s = 0; s < seen; s++) {
                    int64_t ki = (n * h.S + s) * h.D + head * h.d;
                    max = fmax(max, h.scale * dot(q, (const double *)in[1] + ki, h.d));
                }
                for (int64_t c = 0; c < h.d; c++)
                    o[c] = 0;
                for (int64_t s = 0; s < seen; s++) {
                    int64_t ki = (n * h.S + s) * h.D + head * h.d;
                    const double *v = (const double *)in[2] + ki;
                    double e = exp(h.scale * dot(q, (const double *)in[1] + ki, h.d) - max);
                    sum += e;
                    for (int64_t c = 0; c < h.d; c++)
                        o[c] += e * v[c];
                }
                for (int64_t c = 0; c < h.d; c++)
                    o[c] /= sum;
                lse[(n * h.n + head) * h.T + t] = max + log(sum);
            }
    return MD_OK;
}
REF_KERNEL(attention)

REF_RUN(attention_grad) /* in: dout, q, k, v, out, lse */
{
    (void)scratch;
    const heads h = heads_of(k->node, k->node->in[1], k->node->in[2]);
    const double *lse = in[5];
    for (int64_t i = 0; i < h.N * h.T * h.D; i++)
        ((double *)out[0])[i] = 0;
    for (int64_t i = 0; i < h.N * h.S * h.D; i++)
        ((double *)out[1])[i] = ((double *)out[2])[i] = 0;
    for (int64_t n = 0; n < h.N; n++)
        for (int64_t head = 0; head < h.n; head++)
            for (int64_t t = 0; t < h.T; t++) {
                int64_t qi = (n * h.T + t) * h.D + head * h.d;
                const double *dout = (const double *)in[0] + qi, *q = (const double *)in[1] + qi;
                double *dq = (double *)out[0] + qi;
                double delta = dot(dout, (const double *)in[4] + qi, h.d);
                for (int64_t s = 0; s < (h.causal ? t + 1 : h.S); s++) {
                    int64_t ki = (n * h.S + s) * h.D + head * h.d;
                    const double *key = (const double *)in[2] + ki, *v = (const double *)in[3] + ki;
                    double *dk = (double *)out[1] + ki, *dv = (double *)out[2] + ki;
                    double p = exp(h.scale * dot(q, key, h.d) - lse[(n * h.n + head) * h.T + t]);
                    double ds = p * (dot(dout, v, h.d) - delta) * h.scale;
                    for (int64_t c = 0; c < h.d; c++) {
                        dv[c] += p * dout[c];
                        dq[c] += ds * key[c];
                        dk[c] += ds * q[c];
                    }
                }
            }
    return MD_OK;
}
REF_KERNEL(attention_grad)
