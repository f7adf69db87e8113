/* Fused attention (Dao et al. 2022): the backward pass recomputes the probabilities from lse. */
#include "ops/common.h"
#include <math.h>

md_tensor *md_attention(md_tensor *q, md_tensor *k, md_tensor *v, int heads, double scale,
                        bool causal)
{
    PASS_POISON(q);
    PASS_POISON(k);
    PASS_POISON(v);
    if (!ops__is_float(q) || q->ndim != 3 || k->ndim != 3 || q->dim[0] != k->dim[0] ||
        q->dim[2] != k->dim[2] || q->dtype != k->dtype)
        return ops__mismatch(MD_OP_attention, q, k, "want q [N,T,D] and k [N,S,D]");
    if (!md_same_shape(k, v) || k->dtype != v->dtype)
        return ops__mismatch(MD_OP_attention, k, v, "k and v must be alike");
    if (heads < 1 || q->dim[2] % heads || (causal && q->dim[1] != k->dim[1]))
        return ops__mismatch(MD_OP_attention, q, k,
                             "width must divide into heads; causal needs T == S");
    if (scale == 0)
        scale = 1 / sqrt((double)q->dim[2] / heads);
    md_attr attr = {.attn = {heads, scale, causal}};
    md_node *n = md_node_new(q->g, MD_OP_attention, 3, (md_tensor *[]){q, k, v}, &attr);
    n->flops = 4 * md_numel(q) * k->dim[1];
    md_tensor *y = md_node_output(n, q->dtype, 3, q->dim);
    md_node_output(n, MD_F32, 3, MD_DIMS(q->dim[0], heads, q->dim[1]));
    return y;
}

md_node *md_attention_grad(md_tensor *dout, md_node *attention)
{
    md_tensor *q = attention->in[0], *k = attention->in[1], *v = attention->in[2];
    md_tensor *in[] = {dout, q, k, v, attention->out[0], attention->out[1]};
    md_node *n = md_node_new(q->g, MD_OP_attention_grad, 6, in, &attention->attr);
    n->flops = 10 * md_numel(q) * k->dim[1];
    md_node_output(n, q->dtype, 3, q->dim);
    md_node_output(n, q->dtype, 3, k->dim);
    md_node_output(n, q->dtype, 3, k->dim);
    return n;
}

VJP(attention)
{
    if (!gy[0])
        return;
    md_node *grad = md_attention_grad(gy[0], n);
    for (int i = 0; i < 3; i++)
        if (want[i])
            gx[i] = grad->n_out == 3 ? grad->out[i] : NULL;
}
