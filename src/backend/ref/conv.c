/* conv2d conv2d_dx conv2d_dw: one walk over all (output pixel, tap, in channel, out channel). */
#include "backend/ref/ref_impl.h"

typedef void (*visit_fn)(double *to, const double *p, const double *q, int64_t xi, int64_t wi,
                         int64_t yi);

/* Calls visit with the offsets into x[N,H,W,I], w[O,kh,kw,I] and y[N,Ho,Wo,O] of every product that
   the convolution sums. */
static void walk(const md_tensor *x, const md_tensor *w, const md_tensor *y, const md_attr *a,
                 visit_fn visit, double *to, const double *p, const double *q)
{
    int64_t H = x->dim[1], W = x->dim[2], I = x->dim[3];
    int64_t O = w->dim[0], kh = w->dim[1], kw = w->dim[2];
    int64_t Ho = y->dim[1], Wo = y->dim[2];
    for (int64_t yp = 0; yp < x->dim[0] * Ho * Wo; yp++)
        for (int64_t tap = 0; tap < kh * kw; tap++) {
            int64_t r = yp / Wo % Ho * a->conv.stride + tap / kw - a->conv.pad_t;
            int64_t c = yp % Wo * a->conv.stride + tap % kw - a->conv.pad_l;
            if (r < 0 || r >= H || c < 0 || c >= W)
                continue; /* zero padding */
            int64_t xp = (yp / (Ho * Wo) * H + r) * W + c;
            for (int64_t o = 0; o < O; o++)
                for (int64_t i = 0; i < I; i++)
                    visit(to, p, q, xp * I + i, (o * kh * kw + tap) * I + i, yp * O + o);
        }
}

static void visit_y(double *y, const double *x, const double *w, int64_t xi, int64_t wi, int64_t yi)
{
    y[yi] += x[xi] * w[wi];
}

static void visit_dx(double *dx, const double *dy, const double *w, int64_t xi, int64_t wi,
                     int64_t yi)
{
    dx[xi] += dy[yi] * w[wi];
}

static void visit_dw(double *dw, const double *dy, const double *x, int64_t xi, int64_t wi,
                     int64_t yi)
{
    dw[wi] += dy[yi] * x[xi];
}

static void fill_zero(double *p, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        p[i] = 0;
}

REF_RUN(conv2d)
{
    (void)scratch;
    const md_node *n = k->node;
    const double *b = in[2], *r = in[3];
    double *y = out[0];
    int64_t O = n->in[1]->dim[0];
    for (int64_t i = 0; i < md_numel(n->out[0]); i++)
        y[i] = (b ? b[i % O] : 0) + (r ? r[i] : 0);
    walk(n->in[0], n->in[1], n->out[0], &n->attr, visit_y, y, in[0], in[1]);
    return MD_OK;
}
REF_KERNEL(conv2d)

REF_RUN(conv2d_dx)
{
    (void)scratch;
    const md_node *n = k->node;
    fill_zero(out[0], md_numel(n->out[0]));
    walk(n->out[0], n->in[1], n->in[0], &n->attr, visit_dx, out[0], in[0], in[1]);
    return MD_OK;
}
REF_KERNEL(conv2d_dx)

REF_RUN(conv2d_dw)
{
    (void)scratch;
    const md_node *n = k->node;
    fill_zero(out[0], md_numel(n->out[0]));
    walk(n->in[1], n->out[0], n->in[0], &n->attr, visit_dw, out[0], in[0], in[1]);
    return MD_OK;
}
REF_KERNEL(conv2d_dw)
