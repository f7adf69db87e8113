/* Checking configs and writing them as config.json. */
#include "base/file.h"
#include "base/str.h"
#include "model/config.h"

static md_status positive(const char *name, const char *key, int value)
{
    if (value < 1)
        MD_FAIL(MD_BAD_INPUT, "%s: %s is %d, must be at least 1", name, key, value);
    return MD_OK;
}

static md_status divides(const char *name, const char *key, int value, const char *what, int whole)
{
    MD_TRY(positive(name, key, value));
    if (whole % value)
        MD_FAIL(MD_BAD_INPUT, "%s: %s %d does not divide %s %d", name, key, value, what, whole);
    return MD_OK;
}

static md_status check_blocks(const char *name, int n, const int *channels, int groups)
{
    if (n < 1 || n > MODEL_MAX_BLOCKS)
        MD_FAIL(MD_BAD_INPUT, "%s: %d blocks, supported are 1 to %d", name, n, MODEL_MAX_BLOCKS);
    for (int i = 0; i < n; i++) {
        MD_TRY(positive(name, "block_out_channels", channels[i]));
        MD_TRY(divides(name, "norm_num_groups", groups, "block_out_channels", channels[i]));
    }
    return MD_OK;
}

md_status vae_config_check(const char *name, const vae_config *c)
{
    MD_TRY(check_blocks(name, c->n_blocks, c->block_out_channels, c->norm_num_groups));
    MD_TRY(positive(name, "in_channels", c->in_channels));
    MD_TRY(positive(name, "out_channels", c->out_channels));
    MD_TRY(positive(name, "latent_channels", c->latent_channels));
    MD_TRY(positive(name, "layers_per_block", c->layers_per_block));
    if (!(c->scaling_factor > 0 && c->scaling_factor < 1e6))
        MD_FAIL(MD_BAD_INPUT, "%s: scaling_factor is %g, must be positive", name,
                c->scaling_factor);
    return MD_OK;
}

/* What both kinds of UNet must fulfil. */
static md_status check_unet_common(const char *name, const unet_config *c)
{
    MD_TRY(check_blocks(name, c->n_blocks, c->block_out_channels, c->norm_num_groups));
    MD_TRY(positive(name, "in_channels", c->in_channels));
    MD_TRY(positive(name, "out_channels", c->out_channels));
    MD_TRY(positive(name, "time_embedding_dim", c->time_embedding_dim));
    MD_TRY(divides(name, "2, since the time embedding is sines and cosines,", 2,
                   "block_out_channels[0]", c->block_out_channels[0]));
    for (int i = 0; i < c->n_blocks; i++) {
        bool used = c->down_attention[i] || c->up_attention[c->n_blocks - 1 - i] ||
                    i == c->n_blocks - 1; /* the middle block has attention too */
        MD_TRY(positive(name, "layers_per_block", c->layers_per_block[i]));
        if (used)
            MD_TRY(positive(name, "transformer_layers_per_block", c->transformer_layers[i]));
        if (used)
            MD_TRY(divides(name, "the number of heads (attention_head_dim)", c->heads[i],
                           "block_out_channels", c->block_out_channels[i]));
    }
    if (!(c->norm_eps > 0 && c->norm_eps < 1))
        MD_FAIL(MD_BAD_INPUT, "%s: norm_eps is %g", name, c->norm_eps);
    if (!(c->freq_shift >= 0 && c->freq_shift < c->block_out_channels[0] / 2))
        MD_FAIL(MD_BAD_INPUT, "%s: freq_shift is %g", name, c->freq_shift);
    return MD_OK;
}

md_status unet_config_check(const char *name, const unet_config *c)
{
    MD_TRY(check_unet_common(name, c));
    return positive(name, "cross_attention_dim", c->cross_attention_dim);
}

/* The file gives the width of a head, one for all levels, so that is all that can be written. */
md_status mask_unet_config_check(const char *name, const unet_config *c)
{
    MD_TRY(check_unet_common(name, c));
    if (c->cross_attention_dim)
        MD_FAIL(MD_BAD_INPUT, "%s: a mask UNet has no cross attention", name);
    for (int i = 0; i < c->n_blocks; i++) {
        if (c->layers_per_block[i] != c->layers_per_block[0])
            MD_FAIL(MD_BAD_INPUT, "%s: layers_per_block must be one number", name);
        if (c->heads[i] != 1 &&
            c->block_out_channels[i] / c->heads[i] != c->block_out_channels[0] / c->heads[0])
            MD_FAIL(MD_BAD_INPUT, "%s: attention_head_dim must be one number", name);
    }
    return MD_OK;
}

md_status dino_config_check(const char *name, const dino_config *c)
{
    MD_TRY(positive(name, "num_channels", c->num_channels));
    MD_TRY(positive(name, "patch_size", c->patch_size));
    MD_TRY(positive(name, "num_hidden_layers", c->num_hidden_layers));
    MD_TRY(positive(name, "mlp_ratio", c->mlp_ratio));
    MD_TRY(divides(name, "num_attention_heads", c->num_attention_heads, "hidden_size",
                   c->hidden_size));
    if (c->image_size < c->patch_size || c->image_size / c->patch_size > DINO_MAX_GRID)
        MD_FAIL(MD_BAD_INPUT, "%s: image_size is %d, wanted 1 to %d times patch_size %d", name,
                c->image_size, DINO_MAX_GRID, c->patch_size);
    if (!(c->layer_norm_eps > 0 && c->layer_norm_eps < 1))
        MD_FAIL(MD_BAD_INPUT, "%s: layer_norm_eps is %g", name, c->layer_norm_eps);
    return MD_OK;
}

md_status clip_text_config_check(const char *name, const clip_text_config *c)
{
    MD_TRY(positive(name, "vocab_size", c->vocab_size));
    MD_TRY(positive(name, "max_position_embeddings", c->max_position_embeddings));
    MD_TRY(positive(name, "hidden_size", c->hidden_size));
    MD_TRY(positive(name, "intermediate_size", c->intermediate_size));
    MD_TRY(positive(name, "num_hidden_layers", c->num_hidden_layers));
    MD_TRY(divides(name, "num_attention_heads", c->num_attention_heads, "hidden_size",
                   c->hidden_size));
    if (c->hidden_act != MD_ACT_GELU && c->hidden_act != MD_ACT_QUICK_GELU)
        MD_FAIL(MD_BAD_INPUT, "%s: hidden_act must be quick_gelu or gelu", name);
    if (!(c->layer_norm_eps > 0 && c->layer_norm_eps < 1))
        MD_FAIL(MD_BAD_INPUT, "%s: layer_norm_eps is %g", name, c->layer_norm_eps);
    return MD_OK;
}

/* ---- writing */

static const char *yes_no(bool b)
{
    return b ? "true" : "false";
}

static md_status add_ints(md_text *t, const char *key, int n, const int *v)
{
    MD_TRY(md_text_add(t, ",\n  \"%s\": [", key));
    for (int i = 0; i < n; i++)
        MD_TRY(md_text_add(t, "%s%d", i ? ", " : "", v[i]));
    return md_text_add(t, "]");
}

static md_status add_int(md_text *t, const char *key, int v)
{
    return md_text_add(t, ",\n  \"%s\": %d", key, v);
}

static md_status add_bool(md_text *t, const char *key, bool v)
{
    return md_text_add(t, ",\n  \"%s\": %s", key, yes_no(v));
}

static md_status add_types(md_text *t, const char *key, int n, const bool *attention,
                           const char *plain, const char *with)
{
    MD_TRY(md_text_add(t, ",\n  \"%s\": [", key));
    for (int i = 0; i < n; i++)
        MD_TRY(md_text_add(t, "%s\"%s\"", i ? ", " : "", attention && attention[i] ? with : plain));
    return md_text_add(t, "]");
}

md_status vae_config_text(md_text *t, const vae_config *c)
{
    int n = c->n_blocks;
    MD_TRY(md_text_add(t, "{\n  \"_class_name\": \"AutoencoderKL\""));
    MD_TRY(md_text_add(t, ",\n  \"_diffusers_version\": \"0.27.2\",\n  \"act_fn\": \"silu\""));
    MD_TRY(add_ints(t, "block_out_channels", n, c->block_out_channels));
    MD_TRY(add_types(t, "down_block_types", n, NULL, "DownEncoderBlock2D", ""));
    MD_TRY(add_int(t, "in_channels", c->in_channels));
    MD_TRY(add_int(t, "latent_channels", c->latent_channels));
    MD_TRY(add_int(t, "layers_per_block", c->layers_per_block));
    if (!c->mid_attention) /* only what differs from the default: older readers know no such key */
        MD_TRY(add_bool(t, "mid_block_add_attention", false));
    MD_TRY(add_int(t, "norm_num_groups", c->norm_num_groups));
    MD_TRY(add_int(t, "out_channels", c->out_channels));
    if (c->sample_size > 0)
        MD_TRY(add_int(t, "sample_size", c->sample_size));
    MD_TRY(md_text_add(t, ",\n  \"scaling_factor\": %.17g", c->scaling_factor));
    MD_TRY(add_types(t, "up_block_types", n, NULL, "UpDecoderBlock2D", ""));
    if (!c->use_quant_conv)
        MD_TRY(add_bool(t, "use_quant_conv", false));
    if (!c->use_post_quant_conv)
        MD_TRY(add_bool(t, "use_post_quant_conv", false));
    return md_text_add(t, "\n}\n");
}

md_status unet_config_text(md_text *t, const unet_config *c)
{
    int n = c->n_blocks;
    MD_TRY(md_text_add(t, "{\n  \"_class_name\": \"UNet2DConditionModel\""));
    MD_TRY(md_text_add(t, ",\n  \"_diffusers_version\": \"0.27.2\",\n  \"act_fn\": \"silu\""));
    MD_TRY(add_ints(t, "attention_head_dim", n, c->heads));
    MD_TRY(add_ints(t, "block_out_channels", n, c->block_out_channels));
    MD_TRY(add_int(t, "cross_attention_dim", c->cross_attention_dim));
    MD_TRY(add_types(t, "down_block_types", n, c->down_attention, "DownBlock2D",
                     "CrossAttnDownBlock2D"));
    MD_TRY(add_bool(t, "flip_sin_to_cos", c->flip_sin_to_cos));
    MD_TRY(md_text_add(t, ",\n  \"freq_shift\": %.17g", c->freq_shift));
    MD_TRY(add_int(t, "in_channels", c->in_channels));
    MD_TRY(add_ints(t, "layers_per_block", n, c->layers_per_block));
    MD_TRY(md_text_add(t, ",\n  \"norm_eps\": %.17g", c->norm_eps));
    MD_TRY(add_int(t, "norm_num_groups", c->norm_num_groups));
    MD_TRY(add_int(t, "out_channels", c->out_channels));
    if (c->sample_size > 0)
        MD_TRY(add_int(t, "sample_size", c->sample_size));
    if (c->time_embedding_dim != 4 * c->block_out_channels[0])
        MD_TRY(add_int(t, "time_embedding_dim", c->time_embedding_dim));
    MD_TRY(add_ints(t, "transformer_layers_per_block", n, c->transformer_layers));
    MD_TRY(add_types(t, "up_block_types", n, c->up_attention, "UpBlock2D", "CrossAttnUpBlock2D"));
    MD_TRY(add_bool(t, "use_linear_projection", c->use_linear_projection));
    return md_text_add(t, "\n}\n");
}

md_status mask_unet_config_text(md_text *t, const unet_config *c)
{
    int n = c->n_blocks, width = c->block_out_channels[n - 1] / c->heads[n - 1];
    bool one = c->heads[n - 1] == 1; /* null: one head of each level's width */
    MD_TRY(md_text_add(t, "{\n  \"_class_name\": \"UNet2DModel\""));
    MD_TRY(md_text_add(t, ",\n  \"_diffusers_version\": \"0.27.2\",\n  \"act_fn\": \"silu\""));
    MD_TRY(one ? md_text_add(t, ",\n  \"attention_head_dim\": null")
               : add_int(t, "attention_head_dim", width));
    MD_TRY(add_ints(t, "block_out_channels", n, c->block_out_channels));
    MD_TRY(
        add_types(t, "down_block_types", n, c->down_attention, "DownBlock2D", "AttnDownBlock2D"));
    MD_TRY(add_bool(t, "flip_sin_to_cos", c->flip_sin_to_cos));
    MD_TRY(md_text_add(t, ",\n  \"freq_shift\": %.17g", c->freq_shift));
    MD_TRY(add_int(t, "in_channels", c->in_channels));
    MD_TRY(add_int(t, "layers_per_block", c->layers_per_block[0]));
    MD_TRY(md_text_add(t, ",\n  \"norm_eps\": %.17g", c->norm_eps));
    MD_TRY(add_int(t, "norm_num_groups", c->norm_num_groups));
    MD_TRY(add_int(t, "out_channels", c->out_channels));
    if (c->sample_size > 0)
        MD_TRY(add_int(t, "sample_size", c->sample_size));
    MD_TRY(add_types(t, "up_block_types", n, c->up_attention, "UpBlock2D", "AttnUpBlock2D"));
    return md_text_add(t, "\n}\n");
}

md_status dino_config_text(md_text *t, const dino_config *c)
{
    MD_TRY(
        md_text_add(t, "{\n  \"architectures\": [\"Dinov2Model\"],\n  \"hidden_act\": \"gelu\""));
    MD_TRY(add_int(t, "hidden_size", c->hidden_size));
    MD_TRY(add_int(t, "image_size", c->image_size));
    MD_TRY(md_text_add(t, ",\n  \"layer_norm_eps\": %.17g", c->layer_norm_eps));
    MD_TRY(add_int(t, "mlp_ratio", c->mlp_ratio));
    MD_TRY(md_text_add(t, ",\n  \"model_type\": \"dinov2\""));
    MD_TRY(add_int(t, "num_attention_heads", c->num_attention_heads));
    MD_TRY(add_int(t, "num_channels", c->num_channels));
    MD_TRY(add_int(t, "num_hidden_layers", c->num_hidden_layers));
    MD_TRY(add_int(t, "patch_size", c->patch_size));
    MD_TRY(add_bool(t, "qkv_bias", c->qkv_bias));
    return md_text_add(t, "\n}\n");
}

md_status clip_text_config_text(md_text *t, const clip_text_config *c)
{
    MD_TRY(md_text_add(t, "{\n  \"architectures\": [\"CLIPTextModel\"]"));
    MD_TRY(add_int(t, "bos_token_id", c->vocab_size - 2)); /* as every CLIP vocabulary ends */
    MD_TRY(add_int(t, "eos_token_id", c->vocab_size - 1));
    MD_TRY(md_text_add(t, ",\n  \"hidden_act\": \"%s\"",
                       c->hidden_act == MD_ACT_GELU ? "gelu" : "quick_gelu"));
    MD_TRY(add_int(t, "hidden_size", c->hidden_size));
    MD_TRY(add_int(t, "intermediate_size", c->intermediate_size));
    MD_TRY(md_text_add(t, ",\n  \"layer_norm_eps\": %.17g", c->layer_norm_eps));
    MD_TRY(add_int(t, "max_position_embeddings", c->max_position_embeddings));
    MD_TRY(md_text_add(t, ",\n  \"model_type\": \"clip_text_model\""));
    MD_TRY(add_int(t, "num_attention_heads", c->num_attention_heads));
    MD_TRY(add_int(t, "num_hidden_layers", c->num_hidden_layers));
    MD_TRY(add_int(t, "pad_token_id", c->vocab_size - 1));
    MD_TRY(add_int(t, "projection_dim", c->hidden_size));
    MD_TRY(add_int(t, "vocab_size", c->vocab_size));
    return md_text_add(t, "\n}\n");
}

static md_status write_text(const char *path, md_text *t, md_status status)
{
    if (status == MD_OK)
        status = md_file_write_atomic(path, t->s, t->n);
    md_text_free(t);
    return status;
}

#define WRITER(name, config)                                                                       \
    md_status name##_config_write(const char *path, const config *c)                               \
    {                                                                                              \
        md_text t = {0};                                                                           \
        md_status status = name##_config_text(&t, c);                                              \
        return write_text(path, &t, status);                                                       \
    }

WRITER(vae, vae_config)
WRITER(unet, unet_config)
WRITER(mask_unet, unet_config)
WRITER(clip_text, clip_text_config)
WRITER(dino, dino_config)
