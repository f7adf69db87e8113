/* AutoencoderKL as a graph. Reference: diffusers 0.27.2,
   models/autoencoders/{autoencoder_kl,vae}.py and models/unets/unet_2d_blocks.py. Config parsing:
   config.c; file names of old attention layers: weights.c. */
#include "model/vae.h"
#include "model/blocks.h"
#include <math.h>

static const double EPS = 1e-6; /* of every norm in the VAE */

int vae_shrink(const vae_config *c)
{
    return 1 << (c->n_blocks - 1);
}

/* x [N,H,W,C] -> same. Keys: resnets.0 attentions.0 resnets.1 */
static md_tensor *mid_block(nn m, const vae_config *c, md_tensor *x)
{
    x = model__resnet(nn_in(m, "resnets.0"), x, NULL, x->dim[3], c->norm_num_groups, EPS);
    if (c->mid_attention)
        x = model__image_attention(nn_in(m, "attentions.0"), x, 1, c->norm_num_groups, EPS);
    x = model__resnet(nn_in(m, "resnets.1"), x, NULL, x->dim[3], c->norm_num_groups, EPS);
    return nn_tap(m, x);
}

/* x [N,H,W,Cin] -> [N,H/2,W/2,cout], or [N,H,W,cout] for the last block */
static md_tensor *down_block(nn m, const vae_config *c, md_tensor *x, int64_t cout, bool last)
{
    for (int i = 0; i < c->layers_per_block; i++)
        x = model__resnet(nn_in(m, "resnets.%d", i), x, NULL, cout, c->norm_num_groups, EPS);
    if (!last) { /* pads right and below only: with symmetric padding the image moves by a pixel */
        nn s = nn_in(m, "downsamplers.0");
        x = nn_tap(s, nn_conv2d_pad(s, "conv", x, cout, 3, 2, 0, 0, 1, 1));
    }
    return nn_tap(m, x);
}

/* x [N,H,W,Cin] -> [N,2H,2W,cout], or [N,H,W,cout] for the last block */
static md_tensor *up_block(nn m, const vae_config *c, md_tensor *x, int64_t cout, bool last)
{
    for (int i = 0; i < c->layers_per_block + 1; i++)
        x = model__resnet(nn_in(m, "resnets.%d", i), x, NULL, cout, c->norm_num_groups, EPS);
    if (!last)
        x = model__upsample(nn_in(m, "upsamplers.0"), x);
    return nn_tap(m, x);
}

md_tensor *vae_encode(nn root, const vae_config *c, md_tensor *image)
{
    if (md_is_poison(image))
        return image;
    int f = vae_shrink(c);
    if (image->ndim != 4 || image->dim[3] != c->in_channels || image->dim[1] % f ||
        image->dim[2] % f)
        return md_graph_poison(root.g, MD_SHAPE,
                               "vae encoder: image %s; wanted [N,H,W,%d], H and W multiples of %d",
                               md_shape_text(image), c->in_channels, f);
    nn m = nn_in(root, "encoder");
    const int *ch = c->block_out_channels;
    md_tensor *x = nn_tap(nn_in(m, "conv_in"), nn_conv2d(m, "conv_in", image, ch[0], 3, 1, 1));
    for (int i = 0; i < c->n_blocks; i++)
        x = down_block(nn_in(m, "down_blocks.%d", i), c, x, ch[i], i == c->n_blocks - 1);
    x = mid_block(nn_in(m, "mid_block"), c, x); /* [N,H/f,W/f,Clast] */
    x = nn_group_norm(m, "conv_norm_out", x, c->norm_num_groups, EPS, MD_ACT_SILU);
    x = nn_conv2d(m, "conv_out", x, 2 * c->latent_channels, 3, 1, 1); /* [N,H/f,W/f,2L] */
    nn_tap(m, x);
    if (c->use_quant_conv)
        x = nn_linear_conv(root, "quant_conv", x, 2 * c->latent_channels, true);
    return nn_tap(nn_in(root, "quant_conv"), x); /* [N,H/f,W/f,2L] */
}

md_tensor *vae_decode(nn root, const vae_config *c, md_tensor *z)
{
    if (md_is_poison(z))
        return z;
    if (z->ndim != 4 || z->dim[3] != c->latent_channels)
        return md_graph_poison(root.g, MD_SHAPE, "vae decoder: latent %s; wanted [N,h,w,%d]",
                               md_shape_text(z), c->latent_channels);
    if (c->use_post_quant_conv)
        z = nn_linear_conv(root, "post_quant_conv", z, c->latent_channels, true);
    nn_tap(nn_in(root, "post_quant_conv"), z);
    nn m = nn_in(root, "decoder");
    const int *ch = c->block_out_channels;
    int last = c->n_blocks - 1;
    md_tensor *x = nn_conv2d(m, "conv_in", z, ch[last], 3, 1, 1); /* [N,h,w,Clast] */
    nn_tap(nn_in(m, "conv_in"), x);
    x = mid_block(nn_in(m, "mid_block"), c, x);
    for (int i = 0; i < c->n_blocks; i++)
        x = up_block(nn_in(m, "up_blocks.%d", i), c, x, ch[last - i], i == last);
    x = nn_group_norm(m, "conv_norm_out", x, c->norm_num_groups, EPS, MD_ACT_SILU);
    return nn_tap(m, nn_conv2d(m, "conv_out", x, c->out_channels, 3, 1, 1)); /* [N,fh,fw,C] */
}

md_status vae_declare(nn_params *p, const vae_config *c)
{
    md_graph *g;
    MD_TRY(md_graph_new(&g));
    nn m = nn_root(g, p, MD_F32);
    int f = vae_shrink(c);
    md_tensor *x = md_input(g, "image", MD_F32, 4, MD_DIMS(1, f, f, c->in_channels));
    vae_decode(m, c, vae_mean(vae_encode(m, c, x)));
    md_status status = md_graph_check(g);
    md_graph_free(g);
    MD_TRY(status);
    return nn_params_close(p);
}

double vae_deviation(double logvar)
{
    return exp(0.5 * fmin(fmax(logvar, -30), 20));
}

md_tensor *vae_mean(md_tensor *moments)
{
    return md_slice(moments, 3, 0, moments->dim[3] / 2);
}

md_tensor *vae_logvar(md_tensor *moments)
{
    int64_t c = moments->dim[3] / 2;
    return md_clamp(md_slice(moments, 3, c, c), -30, 20);
}

md_tensor *vae_sample(md_tensor *moments, md_tensor *noise)
{
    md_tensor *std = md_activation(md_scale(vae_logvar(moments), 0.5), MD_ACT_EXP);
    return md_add(vae_mean(moments), md_mul(std, noise));
}

md_tensor *vae_kl(md_tensor *moments)
{
    md_tensor *mean = vae_mean(moments), *logvar = vae_logvar(moments);
    md_tensor *var = md_activation(logvar, MD_ACT_EXP);
    md_tensor *sum = md_sub(md_add(md_mul(mean, mean), var), logvar);
    int64_t n = moments->dim[0];
    sum = md_sum_to(sum, 4, MD_DIMS(n, 1, 1, 1));
    /* (mean^2 + var - logvar - 1) / 2 */
    return md_affine(sum, (double)n / (double)md_numel(mean) / 2, -0.5);
}
