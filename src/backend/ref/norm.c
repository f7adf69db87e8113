/* group_norm group_norm_grad layer_norm layer_norm_grad. Both norms are one pair of functions over
   x[N,S,C] in G groups of channels: layer_norm is N rows, S = 1, G = 1. Biased variance.
   With xhat = (x - mean) rstd, z = gamma xhat + beta, y = act(z):
     g = dy act'(z);  dgamma = sum g xhat;  dbeta = sum g
     dx = rstd (g gamma - mean(g gamma) - xhat mean(g gamma xhat)), means over the group. */
#include "backend/ref/ref_impl.h"
#include <math.h>

typedef struct norm_size {
    int64_t N, S, C, G;
} norm_size;

static void norm(norm_size z, double eps, md_act act, const double *x, const double *gamma,
                 const double *beta, double *y, double *mean, double *rstd)
{
    int64_t per = z.C / z.G;
    for (int64_t n = 0; n < z.N; n++)
        for (int64_t g = 0; g < z.G; g++) {
            double sum = 0, var = 0;
            for (int64_t s = 0; s < z.S; s++)
                for (int64_t c = g * per; c < (g + 1) * per; c++)
                    sum += x[(n * z.S + s) * z.C + c];
            double mu = sum / (double)(z.S * per);
            for (int64_t s = 0; s < z.S; s++)
                for (int64_t c = g * per; c < (g + 1) * per; c++)
                    var += pow(x[(n * z.S + s) * z.C + c] - mu, 2);
            double r = 1 / sqrt(var / (double)(z.S * per) + eps);
            for (int64_t s = 0; s < z.S; s++)
                for (int64_t c = g * per; c < (g + 1) * per; c++) {
                    int64_t i = (n * z.S + s) * z.C + c;
                    y[i] = ref__act(act, 0, 0, gamma[c] * (x[i] - mu) * r + beta[c]);
                }
            mean[n * z.G + g] = mu;
            rstd[n * z.G + g] = r;
        }
}

/* beta may be NULL where act is NONE. */
static void norm_grad(norm_size z, md_act act, const double *dy, const double *x,
                      const double *gamma, const double *beta, const double *mean,
                      const double *rstd, double *dx, double *dgamma, double *dbeta)
{
    int64_t per = z.C / z.G;
    for (int64_t c = 0; c < z.C; c++)
        dgamma[c] = dbeta[c] = 0;
    for (int64_t n = 0; n < z.N; n++)
        for (int64_t g = 0; g < z.G; g++) {
            double mu = mean[n * z.G + g], r = rstd[n * z.G + g], m1 = 0, m2 = 0;
            for (int64_t s = 0; s < z.S; s++)
                for (int64_t c = g * per; c < (g + 1) * per; c++) {
                    int64_t i = (n * z.S + s) * z.C + c;
                    double xhat = (x[i] - mu) * r, pre = gamma[c] * xhat + (beta ? beta[c] : 0);
                    double d = dy[i] * ref__act_slope(act, 0, 0, pre);
                    dgamma[c] += d * xhat;
                    dbeta[c] += d;
                    m1 += d * gamma[c];
                    m2 += d * gamma[c] * xhat;
                    dx[i] = d * gamma[c];
                }
            for (int64_t s = 0; s < z.S; s++)
                for (int64_t c = g * per; c < (g + 1) * per; c++) {
                    int64_t i = (n * z.S + s) * z.C + c;
                    dx[i] = r * (dx[i] - (m1 + (x[i] - mu) * r * m2) / (double)(z.S * per));
                }
        }
}

static norm_size group_size(const md_tensor *x, int groups)
{
    return (norm_size){x->dim[0], ref__dims(x, 1, x->ndim - 1), x->dim[x->ndim - 1], groups};
}

static norm_size layer_size(const md_tensor *x)
{
    return (norm_size){ref__dims(x, 0, x->ndim - 1), 1, x->dim[x->ndim - 1], 1};
}

REF_RUN(group_norm)
{
    (void)scratch;
    const md_attr *a = &k->node->attr;
    norm(group_size(k->node->in[0], a->norm.groups), a->norm.eps, a->norm.act, in[0], in[1], in[2],
         out[0], out[1], out[2]);
    return MD_OK;
}
REF_KERNEL(group_norm)

REF_RUN(group_norm_grad)
{
    (void)scratch;
    const md_attr *a = &k->node->attr;
    norm_grad(group_size(k->node->in[1], a->norm.groups), a->norm.act, in[0], in[1], in[2], in[3],
              in[4], in[5], out[0], out[1], out[2]);
    return MD_OK;
}
REF_KERNEL(group_norm_grad)

REF_RUN(layer_norm)
{
    (void)scratch;
    norm(layer_size(k->node->in[0]), k->node->attr.norm.eps, MD_ACT_NONE, in[0], in[1], in[2],
         out[0], out[1], out[2]);
    return MD_OK;
}
REF_KERNEL(layer_norm)

REF_RUN(layer_norm_grad)
{
    (void)scratch;
    norm_grad(layer_size(k->node->in[1]), MD_ACT_NONE, in[0], in[1], in[2], NULL, in[3], in[4],
              out[0], out[1], out[2]);
    return MD_OK;
}
REF_KERNEL(layer_norm_grad)
