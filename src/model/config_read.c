/* Reading config.json. Each model has a table of the keys it knows: the values that we implement,
   or
   "*" for keys that are read below or do not matter here. */
#include "base/log.h"
#include "format/json.h"
#include "model/config.h"
#include <stdio.h>
#include <string.h>

typedef struct rule {
    const char *key;
    const char *accept; /* values as JSON text, separated by blanks; "*": any */
} rule;

enum { MAX_CHANNELS = 16384, MAX_LAYERS = 64 };

/* The scalar at `path` as JSON would write it, numbers as %g. */
static md_status value_text(const format_json *doc, const char *path, char *text, size_t size)
{
    const char *type = format_json_type(doc, path), *s = type;
    double number;
    if (!strcmp(type, "string")) {
        MD_TRY(format_json_string(doc, path, &s));
    } else if (!strcmp(type, "integer") || !strcmp(type, "real")) {
        MD_TRY(format_json_float(doc, path, &number));
        snprintf(text, size, "%g", number);
        return MD_OK;
    }
    snprintf(text, size, "%.*s", (int)size - 1, s);
    return MD_OK;
}

static bool accepted(const char *accept, const char *value)
{
    size_t n = strlen(value);
    if (n == 0)
        return false;
    for (const char *p = accept; (p = strstr(p, value)); p++)
        if ((p == accept || p[-1] == ' ') && (p[n] == ' ' || p[n] == 0))
            return true;
    return false;
}

static md_status check_value(const format_json *doc, const char *path, const char *accept)
{
    char text[96], element[160];
    if (!strcmp(accept, "*"))
        return MD_OK;
    if (!strcmp(format_json_type(doc, path), "array")) { /* one value per block */
        int64_t n;
        MD_TRY(format_json_count(doc, path, &n));
        for (int64_t i = 0; i < n; i++) {
            MD_TRY(md_str_printf(element, sizeof element, "%s[%lld]", path, (long long)i));
            if (!strcmp(format_json_type(doc, element), "array"))
                MD_FAIL(MD_BAD_INPUT, "%s: %s: nested lists are not supported",
                        format_json_name(doc), path);
            MD_TRY(check_value(doc, element, accept));
        }
        return MD_OK;
    }
    MD_TRY(value_text(doc, path, text, sizeof text));
    if (!accepted(accept, text))
        MD_FAIL(MD_BAD_INPUT, "%s: %s is %s; supported: %s", format_json_name(doc), path, text,
                accept);
    return MD_OK;
}

static const rule *find_rule(const rule *rules, const char *key)
{
    while (rules && rules->key && strcmp(rules->key, key) != 0)
        rules++;
    return rules && rules->key ? rules : NULL;
}

/* Every key of the document against the tables, of which the second may be NULL; a key that is not
   in them is warned about, unless its value says that it is off. */
static md_status check_rules(const format_json *doc, const rule *rules, const rule *more)
{
    int64_t n;
    MD_TRY(format_json_count(doc, "", &n));
    for (int64_t i = 0; i < n; i++) {
        const char *key;
        MD_TRY(format_json_key(doc, "", i, &key));
        if (key[0] == '_' || strpbrk(key, ".["))
            continue;
        const rule *r = find_rule(rules, key);
        r = r ? r : find_rule(more, key);
        if (r)
            MD_TRY(check_value(doc, key, r->accept));
        else if (format_json_has(doc, key) && strcmp(format_json_type(doc, key), "false") != 0)
            md_warn("model", "%s: unknown key %s is ignored", format_json_name(doc), key);
    }
    return MD_OK;
}

/* Where the class is not given, what only the other library's configs say tells a wrong model: with
   defaults for most keys it might pass otherwise. */
static md_status check_class(const format_json *doc, const char *path, const char *want)
{
    const char *got, *other = path[0] == '_' ? "model_type" : "_class_name";
    if (!format_json_has(doc, path) && format_json_has(doc, other)) {
        MD_TRY(format_json_string(doc, other, &got));
        MD_FAIL(MD_BAD_INPUT, "%s: %s is %s, wanted %s", format_json_name(doc), other, got, want);
    }
    MD_TRY(format_json_string_or(doc, path, want, &got));
    if (strcmp(got, want) != 0)
        MD_FAIL(MD_BAD_INPUT, "%s: %s is %s, wanted %s", format_json_name(doc), path, got, want);
    return MD_OK;
}

static md_status read_int(const format_json *doc, const char *key, int64_t lo, int64_t hi,
                          int64_t other, int *out)
{
    int64_t v;
    if (other < lo)
        MD_TRY(format_json_int(doc, key, lo, hi, &v));
    else
        MD_TRY(format_json_int_or(doc, key, lo, hi, other, &v));
    *out = (int)v;
    return MD_OK;
}

/* One integer for all n blocks, or a list of n. other < lo: required. */
static md_status read_per_block(const format_json *doc, const char *key, int64_t lo, int64_t hi,
                                int64_t other, int n, int *out)
{
    if (strcmp(format_json_type(doc, key), "array") != 0) {
        MD_TRY(read_int(doc, key, lo, hi, other, &out[0]));
        for (int i = 1; i < n; i++)
            out[i] = out[0];
        return MD_OK;
    }
    int64_t v[MODEL_MAX_BLOCKS], count;
    MD_TRY(format_json_ints(doc, key, lo, hi, v, MODEL_MAX_BLOCKS, &count));
    if (count != n)
        MD_FAIL(MD_BAD_INPUT, "%s: %s has %lld entries, block_out_channels has %d",
                format_json_name(doc), key, (long long)count, n);
    for (int i = 0; i < n; i++)
        out[i] = (int)v[i];
    return MD_OK;
}

static md_status read_channels(const format_json *doc, int *n, int *channels)
{
    int64_t v[MODEL_MAX_BLOCKS], count;
    MD_TRY(
        format_json_ints(doc, "block_out_channels", 1, MAX_CHANNELS, v, MODEL_MAX_BLOCKS, &count));
    if (count < 1)
        MD_FAIL(MD_BAD_INPUT, "%s: block_out_channels is empty", format_json_name(doc));
    *n = (int)count;
    for (int i = 0; i < *n; i++)
        channels[i] = (int)v[i];
    return MD_OK;
}

/* A list of n block types, each either `plain` or `attention`; NULL for no choice. */
static md_status read_block_types(const format_json *doc, const char *key, int n, const char *plain,
                                  const char *attention, bool *out)
{
    int64_t count;
    char path[64];
    const char *type;
    MD_TRY(format_json_count(doc, key, &count));
    if (count != n)
        MD_FAIL(MD_BAD_INPUT, "%s: %s has %lld entries, block_out_channels has %d",
                format_json_name(doc), key, (long long)count, n);
    for (int i = 0; i < n; i++) {
        MD_TRY(md_str_printf(path, sizeof path, "%s[%d]", key, i));
        MD_TRY(format_json_string(doc, path, &type));
        bool with = attention && !strcmp(type, attention);
        if (!with && strcmp(type, plain) != 0)
            MD_FAIL(MD_BAD_INPUT, "%s: %s is %s; supported: %s%s%s", format_json_name(doc), path,
                    type, plain, attention ? " " : "", attention ? attention : "");
        if (out)
            out[i] = with;
    }
    return MD_OK;
}

static const rule vae_rules[] = {
    {"act_fn", "silu swish"},
    {"latents_mean", "null"},
    {"latents_std", "null"},
    {"shift_factor", "null 0"},
    {"force_upcast", "*"}, /* we compute it in f32 or bf16, never in f16 */
    {"block_out_channels", "*"},
    {"down_block_types", "*"},
    {"up_block_types", "*"},
    {"in_channels", "*"},
    {"out_channels", "*"},
    {"latent_channels", "*"},
    {"layers_per_block", "*"},
    {"norm_num_groups", "*"},
    {"sample_size", "*"},
    {"scaling_factor", "*"},
    {"mid_block_add_attention", "*"},
    {"use_quant_conv", "*"},
    {"use_post_quant_conv", "*"},
    {0},
};

static md_status read_vae(const format_json *doc, vae_config *c)
{
    MD_TRY(check_class(doc, "_class_name", "AutoencoderKL"));
    MD_TRY(check_rules(doc, vae_rules, NULL));
    MD_TRY(read_channels(doc, &c->n_blocks, c->block_out_channels));
    MD_TRY(
        read_block_types(doc, "down_block_types", c->n_blocks, "DownEncoderBlock2D", NULL, NULL));
    MD_TRY(read_block_types(doc, "up_block_types", c->n_blocks, "UpDecoderBlock2D", NULL, NULL));
    MD_TRY(read_int(doc, "in_channels", 1, 64, 3, &c->in_channels));
    MD_TRY(read_int(doc, "out_channels", 1, 64, 3, &c->out_channels));
    MD_TRY(read_int(doc, "latent_channels", 1, 64, 4, &c->latent_channels));
    MD_TRY(read_int(doc, "layers_per_block", 1, MAX_LAYERS, 1, &c->layers_per_block));
    MD_TRY(read_int(doc, "norm_num_groups", 1, MAX_CHANNELS, 32, &c->norm_num_groups));
    MD_TRY(read_int(doc, "sample_size", 1, 1 << 16, 32, &c->sample_size));
    MD_TRY(format_json_bool_or(doc, "mid_block_add_attention", true, &c->mid_attention));
    MD_TRY(format_json_bool_or(doc, "use_quant_conv", true, &c->use_quant_conv));
    MD_TRY(format_json_bool_or(doc, "use_post_quant_conv", true, &c->use_post_quant_conv));
    MD_TRY(format_json_float_or(doc, "scaling_factor", 0.18215, &c->scaling_factor));
    return vae_config_check(format_json_name(doc), c);
}

/* Of both kinds of UNet. */
static const rule unet_common_rules[] = {
    {"act_fn", "silu swish"},
    {"center_input_sample", "false"},
    {"class_embed_type", "null"},
    {"downsample_padding", "1"},
    {"dropout", "0"},
    {"mid_block_scale_factor", "1"},
    {"num_class_embeds", "null"},
    {"resnet_time_scale_shift", "default"},
    {"time_embedding_type", "positional"},
    {"attention_head_dim", "*"},
    {"block_out_channels", "*"},
    {"down_block_types", "*"},
    {"up_block_types", "*"},
    {"flip_sin_to_cos", "*"},
    {"freq_shift", "*"},
    {"in_channels", "*"},
    {"out_channels", "*"},
    {"layers_per_block", "*"},
    {"norm_eps", "*"},
    {"norm_num_groups", "*"},
    {"sample_size", "*"},
    {0},
};

static const rule unet_rules[] = {
    {"addition_embed_type", "null"},
    {"addition_embed_type_num_heads", "*"}, /* of addition_embed_type */
    {"addition_time_embed_dim", "null"},
    {"attention_type", "default"},
    {"class_embeddings_concat", "false"},
    {"conv_in_kernel", "3"},
    {"conv_out_kernel", "3"},
    {"cross_attention_norm", "null"},
    {"dual_cross_attention", "false"},
    {"encoder_hid_dim", "null"},
    {"encoder_hid_dim_type", "null"},
    {"mid_block_only_cross_attention", "null false"},
    {"mid_block_type", "UNetMidBlock2DCrossAttn"},
    {"only_cross_attention", "false"},
    {"projection_class_embeddings_input_dim", "null"},
    {"resnet_out_scale_factor", "1"},
    {"resnet_skip_time_act", "false"},
    {"reverse_transformer_layers_per_block", "null"},
    {"time_cond_proj_dim", "null"},
    {"time_embedding_act_fn", "null"},
    {"timestep_post_act", "null"},
    {"upcast_attention", "*"}, /* logits and softmax are f32 here in any case */
    {"num_attention_heads", "*"},
    {"cross_attention_dim", "*"},
    {"time_embedding_dim", "*"},
    {"transformer_layers_per_block", "*"},
    {"use_linear_projection", "*"},
    {0},
};

/* Keys that mean the same in UNet2DConditionModel and UNet2DModel. `attention` begins the names of
   block types with attention; `sample` stands for a missing sample_size, `channels` for missing
   in_channels and out_channels. */
static md_status read_unet_common(const format_json *doc, const char *attention, int sample,
                                  int channels, unet_config *c)
{
    char down[32], up[32];
    MD_TRY(md_str_printf(down, sizeof down, "%sDownBlock2D", attention));
    MD_TRY(md_str_printf(up, sizeof up, "%sUpBlock2D", attention));
    MD_TRY(read_channels(doc, &c->n_blocks, c->block_out_channels));
    int n = c->n_blocks;
    MD_TRY(read_block_types(doc, "down_block_types", n, "DownBlock2D", down, c->down_attention));
    MD_TRY(read_block_types(doc, "up_block_types", n, "UpBlock2D", up, c->up_attention));
    MD_TRY(read_int(doc, "in_channels", 1, 256, channels, &c->in_channels));
    MD_TRY(read_int(doc, "out_channels", 1, 256, channels, &c->out_channels));
    MD_TRY(read_int(doc, "sample_size", 1, 1 << 16, sample, &c->sample_size));
    MD_TRY(read_per_block(doc, "layers_per_block", 1, 8, 2, n, c->layers_per_block));
    MD_TRY(read_int(doc, "norm_num_groups", 1, MAX_CHANNELS, 32, &c->norm_num_groups));
    MD_TRY(format_json_float_or(doc, "norm_eps", 1e-5, &c->norm_eps));
    MD_TRY(format_json_bool_or(doc, "flip_sin_to_cos", true, &c->flip_sin_to_cos));
    MD_TRY(format_json_float_or(doc, "freq_shift", 0, &c->freq_shift));
    return read_int(doc, "time_embedding_dim", 1, 1 << 16, 4 * (int64_t)c->block_out_channels[0],
                    &c->time_embedding_dim);
}

static md_status read_unet(const format_json *doc, unet_config *c)
{
    MD_TRY(check_class(doc, "_class_name", "UNet2DConditionModel"));
    MD_TRY(check_rules(doc, unet_rules, unet_common_rules));
    MD_TRY(read_unet_common(doc, "CrossAttn", 64, 4, c));
    int n = c->n_blocks;
    MD_TRY(read_per_block(doc, "transformer_layers_per_block", 1, MAX_LAYERS, 1, n,
                          c->transformer_layers));
    const char *heads =
        format_json_has(doc, "num_attention_heads") ? "num_attention_heads" : "attention_head_dim";
    MD_TRY(read_per_block(doc, heads, 1, 1024, 8, n, c->heads));
    MD_TRY(read_int(doc, "cross_attention_dim", 1, MAX_CHANNELS, 1280, &c->cross_attention_dim));
    MD_TRY(format_json_bool_or(doc, "use_linear_projection", false, &c->use_linear_projection));
    return unet_config_check(format_json_name(doc), c);
}

static const rule mask_unet_rules[] = {
    {"add_attention", "true"}, {"attn_norm_num_groups", "null"}, {"downsample_type", "conv"},
    {"upsample_type", "conv"}, {"num_train_timesteps", "null"},  {0},
};

/* attention_head_dim is the width of a head here; missing, a head is 8 wide; null: one head. */
static md_status read_mask_unet(const format_json *doc, unet_config *c)
{
    int width = 0;
    MD_TRY(check_class(doc, "_class_name", "UNet2DModel"));
    MD_TRY(check_rules(doc, mask_unet_rules, unet_common_rules));
    MD_TRY(read_unet_common(doc, "Attn", 64, 3, c));
    if (!format_json_has(doc, "attention_head_dim") ||
        strcmp(format_json_type(doc, "attention_head_dim"), "null") != 0)
        MD_TRY(read_int(doc, "attention_head_dim", 1, MAX_CHANNELS, 8, &width));
    for (int i = 0; i < c->n_blocks; i++) {
        c->transformer_layers[i] = 1;
        c->heads[i] = width ? c->block_out_channels[i] / width : 1;
        if (width && c->heads[i] * width != c->block_out_channels[i])
            MD_FAIL(MD_BAD_INPUT, "%s: attention_head_dim %d does not divide block_out_channels %d",
                    format_json_name(doc), width, c->block_out_channels[i]);
    }
    return mask_unet_config_check(format_json_name(doc), c);
}

static const rule dino_rules[] = {
    {"architectures", "*"},
    {"model_type", "dinov2"},
    {"apply_layernorm", "*"}, /* of the backbone's feature maps, as the next ones */
    {"reshape_hidden_states", "*"},
    {"out_features", "*"},
    {"out_indices", "*"},
    {"stage_names", "*"},
    {"attention_probs_dropout_prob", "0"},
    {"hidden_dropout_prob", "0"},
    {"drop_path_rate", "*"}, /* of training */
    {"hidden_act", "gelu"},
    {"hidden_size", "*"},
    {"image_size", "*"},
    {"initializer_range", "*"},
    {"layer_norm_eps", "*"},
    {"layerscale_value", "*"}, /* a start value */
    {"mlp_ratio", "*"},
    {"num_attention_heads", "*"},
    {"num_channels", "*"},
    {"num_hidden_layers", "*"},
    {"patch_size", "*"},
    {"qkv_bias", "*"},
    {"torch_dtype", "*"},
    {"dtype", "*"},
    {"transformers_version", "*"},
    {"use_swiglu_ffn", "false"}, /* true: size g */
    {"use_mask_token", "*"},     /* of pretraining */
    {0},
};

static md_status read_dino(const format_json *doc, dino_config *c)
{
    MD_TRY(check_class(doc, "architectures[0]", "Dinov2Model"));
    MD_TRY(check_rules(doc, dino_rules, NULL));
    MD_TRY(read_int(doc, "num_channels", 1, 64, 3, &c->num_channels));
    MD_TRY(read_int(doc, "image_size", 1, 1 << 16, 224, &c->image_size));
    MD_TRY(read_int(doc, "patch_size", 1, 1 << 10, 16, &c->patch_size));
    MD_TRY(read_int(doc, "hidden_size", 1, MAX_CHANNELS, 768, &c->hidden_size));
    MD_TRY(read_int(doc, "num_hidden_layers", 1, 256, 12, &c->num_hidden_layers));
    MD_TRY(read_int(doc, "num_attention_heads", 1, 1024, 12, &c->num_attention_heads));
    MD_TRY(read_int(doc, "mlp_ratio", 1, 64, 4, &c->mlp_ratio));
    MD_TRY(format_json_bool_or(doc, "qkv_bias", true, &c->qkv_bias));
    MD_TRY(format_json_float_or(doc, "layer_norm_eps", 1e-6, &c->layer_norm_eps));
    return dino_config_check(format_json_name(doc), c);
}

static const rule clip_rules[] = {
    {"architectures", "*"},
    {"model_type", "clip_text_model clip"},
    {"attention_dropout", "0"},
    {"dropout", "0"},
    {"bos_token_id", "*"}, /* the tokenizer knows these */
    {"eos_token_id", "*"},
    {"pad_token_id", "*"},
    {"hidden_act", "quick_gelu gelu"},
    {"hidden_size", "*"},
    {"intermediate_size", "*"},
    {"layer_norm_eps", "*"},
    {"max_position_embeddings", "*"},
    {"num_attention_heads", "*"},
    {"num_hidden_layers", "*"},
    {"vocab_size", "*"},
    {"projection_dim", "*"}, /* of the pooled output, which we do not use */
    {"initializer_factor", "*"},
    {"initializer_range", "*"},
    {"torch_dtype", "*"},
    {"dtype", "*"},
    {"transformers_version", "*"},
    {0},
};

static md_status read_clip_text(const format_json *doc, clip_text_config *c)
{
    const char *act;
    MD_TRY(check_class(doc, "architectures[0]", "CLIPTextModel"));
    MD_TRY(check_rules(doc, clip_rules, NULL));
    MD_TRY(read_int(doc, "vocab_size", 1, 1 << 24, 49408, &c->vocab_size));
    MD_TRY(read_int(doc, "max_position_embeddings", 1, 1 << 16, 77, &c->max_position_embeddings));
    MD_TRY(read_int(doc, "hidden_size", 1, MAX_CHANNELS, 512, &c->hidden_size));
    MD_TRY(read_int(doc, "intermediate_size", 1, 1 << 18, 2048, &c->intermediate_size));
    MD_TRY(read_int(doc, "num_hidden_layers", 1, 256, 12, &c->num_hidden_layers));
    MD_TRY(read_int(doc, "num_attention_heads", 1, 1024, 8, &c->num_attention_heads));
    MD_TRY(format_json_float_or(doc, "layer_norm_eps", 1e-5, &c->layer_norm_eps));
    MD_TRY(format_json_string_or(doc, "hidden_act", "quick_gelu", &act));
    c->hidden_act = !strcmp(act, "gelu") ? MD_ACT_GELU : MD_ACT_QUICK_GELU;
    return clip_text_config_check(format_json_name(doc), c);
}

/* Results only on success: the callers' structs stay as they were. */
#define READER(name, config)                                                                       \
    md_status name##_config_parse(const format_json *doc, config *out)                             \
    {                                                                                              \
        config c = {0};                                                                            \
        MD_TRY(read_##name(doc, &c));                                                              \
        *out = c;                                                                                  \
        return MD_OK;                                                                              \
    }                                                                                              \
    md_status name##_config_read(const char *path, config *out)                                    \
    {                                                                                              \
        format_json *doc;                                                                          \
        MD_TRY(format_json_load(path, &doc));                                                      \
        md_status status = name##_config_parse(doc, out);                                          \
        format_json_free(doc);                                                                     \
        return status;                                                                             \
    }

READER(vae, vae_config)
READER(unet, unet_config)
READER(mask_unet, unet_config)
READER(clip_text, clip_text_config)
READER(dino, dino_config)
