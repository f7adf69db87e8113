/* UNet2DConditionModel and UNet2DModel as a graph. Reference: diffusers 0.27.2,
   models/unets/{unet_2d_condition,unet_2d,unet_2d_blocks}.py,
   models/transformers/transformer_2d.py, models/attention.py. */
#include "model/unet.h"
#include "model/blocks.h"

enum { MAX_SKIPS = 1 + MODEL_MAX_BLOCKS * 9 };

/* Outputs of the way down, taken back in reverse order on the way up. */
typedef struct skip_stack {
    int n;
    md_tensor *t[MAX_SKIPS];
} skip_stack;

static const double TRANSFORMER_NORM_EPS = 1e-6; /* GroupNorm of Transformer2DModel */
static const double LAYER_NORM_EPS = 1e-5;

int unet_multiple(const unet_config *c)
{
    return 1 << (c->n_blocks - 1);
}

/* x [N,T,D], context [N,S,Dc] -> [N,T,D].
   Keys: norm1 attn1 norm2 attn2 norm3 ff.net.0.proj ff.net.2 */
static md_tensor *transformer_block(nn m, md_tensor *x, md_tensor *context, int heads)
{
    int64_t d = x->dim[2];
    md_tensor *h = nn_layer_norm(m, "norm1", x, LAYER_NORM_EPS);
    nn a = nn_in(m, "attn1"), b = nn_in(m, "attn2");
    x = md_add(x, nn_tap(a, model__attention(a, h, h, heads, false)));
    h = nn_layer_norm(m, "norm2", x, LAYER_NORM_EPS);
    x = md_add(x, nn_tap(b, model__attention(b, h, context, heads, false)));
    h = nn_layer_norm(m, "norm3", x, LAYER_NORM_EPS);
    h = nn_linear(m, "ff.net.0.proj", h, 8 * d, true);  /* [N,T,8D]: value, gate */
    h = nn_linear(m, "ff.net.2", md_geglu(h), d, true); /* [N,T,D] */
    return nn_tap(m, md_add(x, h));
}

/* x [N,H,W,C], context [N,S,Dc] -> [N,H,W,C]. Keys: norm proj_in transformer_blocks.i proj_out */
static md_tensor *transformer(nn m, const unet_config *c, md_tensor *x, md_tensor *context,
                              int level)
{
    md_tensor *(*project)(nn, const char *, md_tensor *, int64_t, bool) =
        c->use_linear_projection ? nn_linear : nn_linear_conv;
    int64_t ch = x->dim[3];
    md_block_begin(m.g);
    md_tensor *h =
        nn_group_norm(m, "norm", x, c->norm_num_groups, TRANSFORMER_NORM_EPS, MD_ACT_NONE);
    h = project(m, "proj_in", model__tokens(h), ch, true); /* [N,HW,C] */
    for (int i = 0; i < c->transformer_layers[level]; i++)
        h = transformer_block(nn_in(m, "transformer_blocks.%d", i), h, context, c->heads[level]);
    h = project(m, "proj_out", h, ch, true);              /* [N,HW,C] */
    x = md_add(x, model__image(h, x->dim[1], x->dim[2])); /* [N,H,W,C] */
    md_block_end(m.g);
    return nn_tap(m, x);
}

/* What a level with attention has after each ResNet block. x [N,H,W,C] -> same */
static md_tensor *attend(nn m, const unet_config *c, md_tensor *x, md_tensor *context, int level)
{
    if (!context)
        return model__image_attention(m, x, c->heads[level], c->norm_num_groups, c->norm_eps);
    return transformer(m, c, x, context, level);
}

static md_tensor *push(skip_stack *s, md_tensor *x)
{
    if (s->n == MAX_SKIPS)
        return md_graph_poison(x->g, MD_UNSUPPORTED, "unet: more than %d skip connections",
                               MAX_SKIPS);
    return s->t[s->n++] = x;
}

/* x [N,H,W,Cin] -> [N,H/2,W/2,C], or [N,H,W,C] at the last level; every step's output is pushed */
static md_tensor *down_block(nn m, const unet_config *c, md_tensor *x, md_tensor *temb,
                             md_tensor *context, int level, skip_stack *skips)
{
    int64_t ch = c->block_out_channels[level];
    for (int i = 0; i < c->layers_per_block[level]; i++) {
        nn r = nn_in(m, "resnets.%d", i);
        x = model__resnet(r, x, temb, ch, c->norm_num_groups, c->norm_eps); /* [N,H,W,C] */
        if (c->down_attention[level])
            x = attend(nn_in(m, "attentions.%d", i), c, x, context, level);
        x = push(skips, x);
    }
    if (level < c->n_blocks - 1) {
        nn s = nn_in(m, "downsamplers.0");
        x = push(skips, nn_tap(s, nn_conv2d(s, "conv", x, ch, 3, 2, 1))); /* [N,H/2,W/2,C] */
    }
    return nn_tap(m, x);
}

/* x [N,H,W,Cin] -> [N,2H,2W,C], or [N,H,W,C] for the last block. `level` counts as on the way down
 */
static md_tensor *up_block(nn m, const unet_config *c, md_tensor *x, md_tensor *temb,
                           md_tensor *context, int level, skip_stack *skips)
{
    int64_t ch = c->block_out_channels[level];
    for (int i = 0; i < c->layers_per_block[level] + 1; i++) {
        if (skips->n == 0)
            return md_graph_poison(m.g, MD_INTERNAL, "%s: no skip connection left", m.path);
        x = md_concat((md_tensor *[]){x, skips->t[--skips->n]}, 2, 3); /* [N,H,W,Cin+Cskip] */
        nn r = nn_in(m, "resnets.%d", i);
        x = model__resnet(r, x, temb, ch, c->norm_num_groups, c->norm_eps); /* [N,H,W,C] */
        if (c->up_attention[c->n_blocks - 1 - level])
            x = attend(nn_in(m, "attentions.%d", i), c, x, context, level);
    }
    if (level > 0)
        x = model__upsample(nn_in(m, "upsamplers.0"), x); /* [N,2H,2W,C] */
    return nn_tap(m, x);
}

/* x [N,H,W,C] -> same. Keys: resnets.0 attentions.0 resnets.1 */
static md_tensor *mid_block(nn m, const unet_config *c, md_tensor *x, md_tensor *temb,
                            md_tensor *context)
{
    int64_t ch = x->dim[3];
    int last = c->n_blocks - 1;
    x = model__resnet(nn_in(m, "resnets.0"), x, temb, ch, c->norm_num_groups, c->norm_eps);
    x = attend(nn_in(m, "attentions.0"), c, x, context, last);
    x = model__resnet(nn_in(m, "resnets.1"), x, temb, ch, c->norm_num_groups, c->norm_eps);
    return nn_tap(m, x);
}

/* timesteps [N] -> [N,time_embedding_dim], through the SiLU that every ResNet block begins with */
static md_tensor *time_embedding(nn root, const unet_config *c, md_tensor *timesteps)
{
    nn m = nn_in(root, "time_embedding");
    md_tensor *t = md_timestep_embedding(timesteps, c->block_out_channels[0], c->flip_sin_to_cos,
                                         c->freq_shift, 10000); /* [N,C0] f32 */
    t = nn_linear(m, "linear_1", md_cast(t, m.dtype), c->time_embedding_dim, true);
    t = nn_linear(m, "linear_2", md_silu(t), c->time_embedding_dim, true); /* [N,time dim] */
    return md_silu(nn_tap(m, t));
}

/* Complaint about an argument's shape, or NULL. */
static md_tensor *check_arguments(nn m, const unet_config *c, md_tensor *x, md_tensor *t,
                                  md_tensor *context)
{
    if (md_is_poison(x) || md_is_poison(t) || (context && md_is_poison(context)))
        return md_is_poison(x) ? x : md_is_poison(t) ? t : context;
    int f = unet_multiple(c);
    if (x->ndim != 4 || x->dim[3] != c->in_channels || x->dim[1] % f || x->dim[2] % f)
        return md_graph_poison(m.g, MD_SHAPE,
                               "unet: sample %s; wanted [N,h,w,%d], h and w multiples of %d",
                               md_shape_text(x), c->in_channels, f);
    if (t->ndim != 1 || t->dim[0] != x->dim[0])
        return md_graph_poison(m.g, MD_SHAPE, "unet: timesteps %s; wanted [%lld]", md_shape_text(t),
                               (long long)x->dim[0]);
    if (!context != !c->cross_attention_dim)
        return md_graph_poison(m.g, MD_SHAPE,
                               "unet: a context is wanted exactly by a model with "
                               "cross attention");
    if (!context)
        return NULL;
    if (context->ndim != 3 || context->dim[0] != x->dim[0] ||
        context->dim[2] != c->cross_attention_dim)
        return md_graph_poison(m.g, MD_SHAPE, "unet: context %s; wanted [%lld,T,%d]",
                               md_shape_text(context), (long long)x->dim[0],
                               c->cross_attention_dim);
    return NULL;
}

md_tensor *unet(nn m, const unet_config *c, md_tensor *sample, md_tensor *timesteps,
                md_tensor *context)
{
    md_tensor *wrong = check_arguments(m, c, sample, timesteps, context);
    if (wrong)
        return wrong;
    skip_stack skips = {0};
    md_tensor *temb = time_embedding(m, c, timesteps); /* [N,T] */
    md_tensor *x =
        nn_conv2d(m, "conv_in", sample, c->block_out_channels[0], 3, 1, 1); /* [N,h,w,C0] */
    push(&skips, nn_tap(nn_in(m, "conv_in"), x));
    for (int i = 0; i < c->n_blocks; i++)
        x = down_block(nn_in(m, "down_blocks.%d", i), c, x, temb, context, i, &skips);
    x = mid_block(nn_in(m, "mid_block"), c, x, temb, context); /* [N,h/f,w/f,Clast] */
    for (int i = 0; i < c->n_blocks; i++)
        x = up_block(nn_in(m, "up_blocks.%d", i), c, x, temb, context, c->n_blocks - 1 - i, &skips);
    x = nn_group_norm(m, "conv_norm_out", x, c->norm_num_groups, c->norm_eps, MD_ACT_SILU);
    x = nn_conv2d(m, "conv_out", x, c->out_channels, 3, 1, 1); /* [N,h,w,out_channels] */
    return nn_tap(nn_in(m, "conv_out"), x);
}

bool mask_unet_sketches(const unet_config *c)
{
    return c->in_channels > 1;
}

md_tensor *mask_unet(nn m, const unet_config *c, md_tensor *x, md_tensor *sketch,
                     md_tensor *timesteps)
{
    md_tensor *all = sketch ? md_concat((md_tensor *[]){x, sketch}, 2, 3) : x;
    return unet(m, c, md_cast(all, m.dtype), timesteps, NULL);
}

md_status unet_declare(nn_params *p, const unet_config *c)
{
    md_graph *g;
    MD_TRY(md_graph_new(&g));
    int f = unet_multiple(c);
    md_tensor *x = md_input(g, "sample", MD_F32, 4, MD_DIMS(1, f, f, c->in_channels));
    md_tensor *t = md_input(g, "timesteps", MD_F32, 1, MD_DIMS(1));
    md_tensor *context = NULL;
    if (c->cross_attention_dim)
        context = md_input(g, "context", MD_F32, 3, MD_DIMS(1, 1, c->cross_attention_dim));
    unet(nn_root(g, p, MD_F32), c, x, t, context);
    md_status status = md_graph_check(g);
    md_graph_free(g);
    MD_TRY(status);
    return nn_params_close(p);
}
