/* embedding embedding_grad timestep_embedding. */
#include "backend/ref/ref_impl.h"
#include <math.h>

static md_status check_ids(const int32_t *ids, int64_t n, int64_t vocab)
{
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= vocab)
            MD_FAIL(MD_BAD_INPUT,
                    "embedding: id %d at position %lld is outside the table of %lld rows",
                    (int)ids[i], (long long)i, (long long)vocab);
    return MD_OK;
}

REF_RUN(embedding)
{
    (void)scratch;
    const int32_t *ids = in[0];
    const double *table = in[1];
    double *y = out[0];
    int64_t V = k->node->in[1]->dim[0], D = k->node->in[1]->dim[1];
    int64_t n = md_numel(k->node->in[0]);
    MD_TRY(check_ids(ids, n, V));
    for (int64_t i = 0; i < n * D; i++)
        y[i] = table[ids[i / D] * D + i % D];
    return MD_OK;
}
REF_KERNEL(embedding)

REF_RUN(embedding_grad)
{
    (void)scratch;
    const double *dy = in[0];
    const int32_t *ids = in[1];
    double *dtable = out[0];
    int64_t V = k->node->out[0]->dim[0], D = k->node->out[0]->dim[1];
    int64_t n = md_numel(k->node->in[1]);
    MD_TRY(check_ids(ids, n, V));
    for (int64_t i = 0; i < V * D; i++)
        dtable[i] = 0;
    for (int64_t i = 0; i < n * D; i++)
        dtable[ids[i / D] * D + i % D] += dy[i];
    return MD_OK;
}
REF_KERNEL(embedding_grad)

REF_RUN(timestep_embedding)
{
    (void)scratch;
    const double *t = in[0];
    double *y = out[0];
    const md_attr *a = &k->node->attr;
    int64_t N = k->node->out[0]->dim[0], dim = k->node->out[0]->dim[1], h = dim / 2;
    for (int64_t n = 0; n < N; n++)
        for (int64_t i = 0; i < h; i++) {
            double f = exp(-log(a->temb.max_period) * (double)i / ((double)h - a->temb.shift));
            y[n * dim + (a->temb.flip ? h : 0) + i] = sin(t[n] * f);
            y[n * dim + (a->temb.flip ? 0 : h) + i] = cos(t[n] * f);
        }
    return MD_OK;
}
REF_KERNEL(timestep_embedding)
