/* linear matmul. */
#include "backend/ref/ref_impl.h"

/* x[M,K] w[O,K] b[O] r[M,O] -> y[M,O] */
REF_RUN(linear)
{
    (void)scratch;
    const double *x = in[0], *w = in[1], *b = in[2], *r = in[3];
    double *y = out[0];
    int64_t O = k->node->in[1]->dim[0], K = k->node->in[1]->dim[1];
    int64_t M = md_numel(k->node->in[0]) / K;
    for (int64_t m = 0; m < M; m++)
        for (int64_t o = 0; o < O; o++) {
            double sum = (b ? b[o] : 0) + (r ? r[m * O + o] : 0);
            for (int64_t i = 0; i < K; i++)
                sum += x[m * K + i] * w[o * K + i];
            y[m * O + o] = sum;
        }
    return MD_OK;
}
REF_KERNEL(linear)

/* Rows: all leading dims folded. */
REF_RUN(matmul)
{
    (void)scratch;
    const double *a = in[0], *b = in[1];
    double *y = out[0];
    const md_tensor *ta = k->node->in[0], *tb = k->node->in[1];
    bool at = k->node->attr.matmul.ta, bt = k->node->attr.matmul.tb;
    int64_t a_cols = ta->dim[ta->ndim - 1], a_rows = md_numel(ta) / a_cols;
    int64_t b_cols = tb->dim[tb->ndim - 1], b_rows = md_numel(tb) / b_cols;
    int64_t M = at ? a_cols : a_rows, K = at ? a_rows : a_cols, N = bt ? b_rows : b_cols;
    for (int64_t m = 0; m < M; m++)
        for (int64_t n = 0; n < N; n++) {
            double sum = 0;
            for (int64_t i = 0; i < K; i++)
                sum += a[at ? i * M + m : m * K + i] * b[bt ? n * K + i : i * N + n];
            y[m * N + n] = sum;
        }
    return MD_OK;
}
REF_KERNEL(matmul)
