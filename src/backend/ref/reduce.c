/* sum_to broadcast_to sumsq. */
#include "backend/ref/ref_impl.h"

REF_RUN(sum_to)
{
    (void)scratch;
    const double *x = in[0];
    double *y = out[0];
    for (int64_t i = 0; i < md_numel(k->node->out[0]); i++)
        y[i] = 0;
    for (int64_t i = 0; i < md_numel(k->node->in[0]); i++)
        y[ref__broadcast(k->node->in[0], k->node->out[0], i)] += x[i];
    return MD_OK;
}
REF_KERNEL(sum_to)

REF_RUN(broadcast_to)
{
    (void)scratch;
    const double *x = in[0];
    double *y = out[0];
    for (int64_t i = 0; i < md_numel(k->node->out[0]); i++)
        y[i] = x[ref__broadcast(k->node->out[0], k->node->in[0], i)];
    return MD_OK;
}
REF_KERNEL(broadcast_to)

REF_RUN(sumsq)
{
    (void)scratch;
    const double *x = in[0];
    double sum = 0;
    for (int64_t i = 0; i < md_numel(k->node->in[0]); i++)
        sum += x[i] * x[i];
    *(double *)out[0] = sum;
    return MD_OK;
}
REF_KERNEL(sumsq)
