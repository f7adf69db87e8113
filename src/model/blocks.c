/* Blocks shared by the VAE and the UNet. */
#include "model/blocks.h"

md_tensor *model__tokens(md_tensor *x)
{
    return md_reshape(x, 3, MD_DIMS(x->dim[0], -1, x->dim[3]));
}

md_tensor *model__image(md_tensor *x, int64_t h, int64_t w)
{
    return md_reshape(x, 4, MD_DIMS(x->dim[0], h, w, x->dim[2]));
}

md_tensor *model__resnet(nn m, md_tensor *x, md_tensor *temb, int64_t cout, int groups, double eps)
{
    md_block_begin(m.g);
    md_tensor *h = nn_group_norm(m, "norm1", x, groups, eps, MD_ACT_SILU);
    h = nn_conv2d(m, "conv1", h, cout, 3, 1, 1); /* [N,H,W,cout] */
    if (temb) {
        md_tensor *t = nn_linear(m, "time_emb_proj", temb, cout, true);  /* [N,cout] */
        h = md_add(h, md_reshape(t, 4, MD_DIMS(t->dim[0], 1, 1, cout))); /* over H,W */
    }
    h = nn_group_norm(m, "norm2", h, groups, eps, MD_ACT_SILU);
    h = nn_conv2d(m, "conv2", h, cout, 3, 1, 1);
    if (x->dim[3] != cout)
        x = nn_linear_conv(m, "conv_shortcut", x, cout, true); /* [N,H,W,cout] */
    x = md_add(x, h);
    md_block_end(m.g);
    return nn_tap(m, x);
}

md_tensor *model__upsample(nn m, md_tensor *x)
{
    x = md_upsample2x(x); /* [N,2H,2W,C] */
    return nn_tap(m, nn_conv2d(m, "conv", x, x->dim[3], 3, 1, 1));
}

md_tensor *model__attention(nn m, md_tensor *x, md_tensor *context, int heads, bool qkv_bias)
{
    int64_t d = x->dim[2];
    md_tensor *q = nn_linear(m, "to_q", x, d, qkv_bias);       /* [N,T,D] */
    md_tensor *k = nn_linear(m, "to_k", context, d, qkv_bias); /* [N,S,D] */
    md_tensor *v = nn_linear(m, "to_v", context, d, qkv_bias); /* [N,S,D] */
    md_tensor *h = md_attention(q, k, v, heads, 0, false);     /* [N,T,D] */
    return nn_linear(m, "to_out.0", h, d, true);
}

md_tensor *model__image_attention(nn m, md_tensor *x, int heads, int groups, double eps)
{
    md_block_begin(m.g);
    md_tensor *h = nn_group_norm(m, "group_norm", x, groups, eps, MD_ACT_NONE);
    h = model__tokens(h);                                 /* [N,HW,C] */
    h = model__attention(m, h, h, heads, true);           /* [N,HW,C] */
    x = md_add(x, model__image(h, x->dim[1], x->dim[2])); /* [N,H,W,C] */
    md_block_end(m.g);
    return nn_tap(m, x);
}
