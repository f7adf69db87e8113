/* concat slice pad_axis upsample2x downsum2x. */
#include "backend/ref/ref_impl.h"

/* Copies block `small` into (or, with `out_of`, out of) the part of `big` that starts at `start`
   along axis. */
static void block(const md_tensor *big, const md_tensor *small, int axis, int64_t start, double *to,
                  const double *from, bool out_of)
{
    int64_t outer = ref__dims(big, 0, axis), inner = ref__dims(big, axis + 1, big->ndim);
    int64_t nb = big->dim[axis], ns = small->dim[axis];
    for (int64_t o = 0; o < outer; o++)
        for (int64_t a = 0; a < ns; a++)
            for (int64_t i = 0; i < inner; i++) {
                int64_t bi = (o * nb + start + a) * inner + i, si = (o * ns + a) * inner + i;
                if (out_of)
                    to[si] = from[bi];
                else
                    to[bi] = from[si];
            }
}

REF_RUN(concat)
{
    (void)scratch;
    const md_node *n = k->node;
    int64_t start = 0;
    for (int i = 0; i < n->n_in; i++) {
        block(n->out[0], n->in[i], n->attr.axis.axis, start, out[0], in[i], false);
        start += n->in[i]->dim[n->attr.axis.axis];
    }
    return MD_OK;
}
REF_KERNEL(concat)

REF_RUN(slice)
{
    (void)scratch;
    const md_node *n = k->node;
    block(n->in[0], n->out[0], n->attr.axis.axis, n->attr.axis.start, out[0], in[0], true);
    return MD_OK;
}
REF_KERNEL(slice)

REF_RUN(pad_axis)
{
    (void)scratch;
    const md_node *n = k->node;
    for (int64_t i = 0; i < md_numel(n->out[0]); i++)
        ((double *)out[0])[i] = 0;
    block(n->out[0], n->in[0], n->attr.axis.axis, n->attr.axis.start, out[0], in[0], false);
    return MD_OK;
}
REF_KERNEL(pad_axis)

/* Offset in the half-size image of element i of `big` [N,2H,2W,C]. */
static int64_t half(const md_tensor *big, int64_t i)
{
    int64_t C = big->dim[3], W = big->dim[2], H = big->dim[1];
    int64_t c = i % C, x = i / C % W, y = i / C / W % H, n = i / C / W / H;
    return ((n * (H / 2) + y / 2) * (W / 2) + x / 2) * C + c;
}

REF_RUN(upsample2x)
{
    (void)scratch;
    const double *x = in[0];
    double *y = out[0];
    for (int64_t i = 0; i < md_numel(k->node->out[0]); i++)
        y[i] = x[half(k->node->out[0], i)];
    return MD_OK;
}
REF_KERNEL(upsample2x)

REF_RUN(downsum2x)
{
    (void)scratch;
    const double *x = in[0];
    double *y = out[0];
    for (int64_t i = 0; i < md_numel(k->node->out[0]); i++)
        y[i] = 0;
    for (int64_t i = 0; i < md_numel(k->node->in[0]); i++)
        y[half(k->node->in[0], i)] += x[i];
    return MD_OK;
}
REF_KERNEL(downsum2x)
