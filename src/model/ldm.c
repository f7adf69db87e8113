/* LDM names by rules, and the sizes that a file's tensors show; see ldm.h. Reference for the names:
   ldm/modules/diffusionmodules/{openaimodel,model}.py of CompVis/stable-diffusion; the golden list
   tests/golden/ldm/ is diffusers' own reading of them. */
#include "model/ldm.h"
#include "base/str.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 256, MAX_CHANNELS = 16384, MAX_LAYERS = 8, MAX_DEPTH = 64, MAX_NUMBER = 1000 };

static const char *const prefixes[MODEL_N_PARTS] = {
    [MODEL_TEXT_ENCODER] = "cond_stage_model.transformer.",
    [MODEL_VAE] = "first_stage_model.",
    [MODEL_UNET] = "model.diffusion_model.",
};

const char *ldm_prefix(model_part part)
{
    return prefixes[part];
}

/* ---- Names. In a rule # stands for a number; `place` turns ours into the file's, NULL: as they
   are. What follows the rule's text is renamed by the first of `inner` that it begins with. */

typedef struct pair {
    const char *ours, *theirs;
} pair;

typedef struct rule {
    const char *ours, *theirs;
    void (*place)(const model_config *c, int n[2]);
    const pair *inner;
    bool as_conv;
} rule;

/* LDM numbers the UNet's blocks through: input_blocks.0 is conv_in, then each level's layers and
   its downsampler; output_blocks are the layers of the way up, an upsampler beside the last one. */
static void unet_down(const model_config *c, int n[2])
{
    int at = 1 + n[1];
    for (int level = 0; level < n[0]; level++)
        at += c->unet.layers_per_block[level] + 1;
    n[0] = at;
}

static void unet_downsampler(const model_config *c, int n[2])
{
    n[1] = c->unet.layers_per_block[n[0]];
    unet_down(c, n);
}

static void unet_up(const model_config *c, int n[2])
{
    int at = n[1];
    for (int i = 0; i < n[0]; i++)
        at += c->unet.layers_per_block[c->unet.n_blocks - 1 - i] + 1;
    n[0] = at;
}

/* In the last layer's block, behind the ResNet and, if there is one, the transformer. */
static void unet_upsampler(const model_config *c, int n[2])
{
    int block = n[0];
    n[1] = c->unet.layers_per_block[c->unet.n_blocks - 1 - block];
    unet_up(c, n);
    n[1] = c->unet.up_attention[block] ? 2 : 1;
}

static void vae_up(const model_config *c, int n[2])
{
    n[0] = c->vae.n_blocks - 1 - n[0]; /* numbered by level, not by order */
}

static const pair unet_resnet[] = {
    {"norm1.", "in_layers.0."},
    {"conv1.", "in_layers.2."},
    {"time_emb_proj.", "emb_layers.1."},
    {"norm2.", "out_layers.0."},
    {"conv2.", "out_layers.3."},
    {"conv_shortcut.", "skip_connection."},
    {NULL, NULL},
};
static const pair vae_resnet[] = {{"conv_shortcut.", "nin_shortcut."}, {NULL, NULL}};
static const pair vae_attention[] = {
    {"group_norm.", "norm."},   {"to_q.", "q."}, {"to_k.", "k."}, {"to_v.", "v."},
    {"to_out.0.", "proj_out."}, {NULL, NULL},
};

static const rule unet_rules[] = {
    {"time_embedding.linear_1.", "time_embed.0.", NULL, NULL, false},
    {"time_embedding.linear_2.", "time_embed.2.", NULL, NULL, false},
    {"conv_in.", "input_blocks.0.0.", NULL, NULL, false},
    {"conv_norm_out.", "out.0.", NULL, NULL, false},
    {"conv_out.", "out.2.", NULL, NULL, false},
    {"down_blocks.#.resnets.#.", "input_blocks.#.0.", unet_down, unet_resnet, false},
    {"down_blocks.#.attentions.#.", "input_blocks.#.1.", unet_down, NULL, false},
    {"down_blocks.#.downsamplers.0.conv.", "input_blocks.#.0.op.", unet_downsampler, NULL, false},
    {"mid_block.resnets.0.", "middle_block.0.", NULL, unet_resnet, false},
    {"mid_block.attentions.0.", "middle_block.1.", NULL, NULL, false},
    {"mid_block.resnets.1.", "middle_block.2.", NULL, unet_resnet, false},
    {"up_blocks.#.resnets.#.", "output_blocks.#.0.", unet_up, unet_resnet, false},
    {"up_blocks.#.attentions.#.", "output_blocks.#.1.", unet_up, NULL, false},
    {"up_blocks.#.upsamplers.0.conv.", "output_blocks.#.#.conv.", unet_upsampler, NULL, false},
    {NULL, NULL, NULL, NULL, false},
};

#define VAE_HALF(half)                                                                             \
    {half ".conv_norm_out.", half ".norm_out.", NULL, NULL, false},                                \
        {half ".conv_", half ".conv_", NULL, NULL, false},                                         \
        {half ".mid_block.resnets.0.", half ".mid.block_1.", NULL, vae_resnet, false},             \
        {half ".mid_block.resnets.1.", half ".mid.block_2.", NULL, vae_resnet, false},             \
    {                                                                                              \
        half ".mid_block.attentions.0.", half ".mid.attn_1.", NULL, vae_attention, true            \
    }

static const rule vae_rules[] = {
    VAE_HALF("encoder"),
    VAE_HALF("decoder"),
    {"encoder.down_blocks.#.resnets.#.", "encoder.down.#.block.#.", NULL, vae_resnet, false},
    {"encoder.down_blocks.#.downsamplers.0.conv.", "encoder.down.#.downsample.conv.", NULL, NULL,
     false},
    {"decoder.up_blocks.#.resnets.#.", "decoder.up.#.block.#.", vae_up, vae_resnet, false},
    {"decoder.up_blocks.#.upsamplers.0.conv.", "decoder.up.#.upsample.conv.", vae_up, NULL, false},
    {"quant_conv.", "quant_conv.", NULL, NULL, false},
    {"post_quant_conv.", "post_quant_conv.", NULL, NULL, false},
    {NULL, NULL, NULL, NULL, false},
};

static const rule text_rules[] = {
    {"text_model.", "text_model.", NULL, NULL, false},
    {NULL, NULL, NULL, NULL, false},
};

static const rule *const rules[MODEL_N_PARTS] = {
    [MODEL_TEXT_ENCODER] = text_rules, [MODEL_VAE] = vae_rules, [MODEL_UNET] = unet_rules};

/* What is left of `name` behind `pattern`, whose numbers go to n; NULL: it does not begin so. */
static const char *behind(const char *pattern, const char *name, int n[2])
{
    for (int k = 0; *pattern; pattern++) {
        if (*pattern != '#') {
            if (*name++ != *pattern)
                return NULL;
            continue;
        }
        char *end;
        long v = *name >= '0' && *name <= '9' ? strtol(name, &end, 10) : -1;
        if (v < 0 || v >= MAX_NUMBER || k == 2)
            return NULL;
        n[k++] = (int)v;
        name = end;
    }
    return name;
}

/* pattern with n for its #s, then the two texts */
static md_status fill(char *buf, size_t size, const char *prefix, const char *pattern,
                      const int n[2], const char *inner, const char *rest)
{
    char text[NAME_BYTES];
    size_t at = 0;
    int k = 0;
    for (; *pattern && at + 16 < sizeof text; pattern++)
        if (*pattern == '#')
            at += (size_t)snprintf(text + at, sizeof text - at, "%d", n[k++]);
        else
            text[at++] = *pattern;
    text[at] = 0;
    return md_str_printf(buf, size, "%s%s%s%s", prefix, text, inner, rest);
}

md_status ldm_name(model_part part, const model_config *c, const char *name, char *buf, size_t size,
                   bool *as_conv)
{
    const int blocks = part == MODEL_UNET ? c->unet.n_blocks : c->vae.n_blocks;
    for (const rule *r = rules[part]; r->ours; r++) {
        int n[2] = {0};
        const char *rest = behind(r->ours, name, n), *inner = "";
        if (!rest || (r->place && n[0] >= blocks))
            continue;
        for (const pair *p = r->inner; p && p->ours; p++)
            if (md_str_starts(rest, p->ours)) {
                rest += strlen(p->ours);
                inner = p->theirs;
                break;
            }
        if (r->place)
            r->place(c, n);
        *as_conv = r->as_conv;
        return fill(buf, size, prefixes[part], r->theirs, n, inner, rest);
    }
    MD_FAIL(MD_INTERNAL, "%s parameter %s has no name in an LDM file", model_registry(part)->folder,
            name);
}

/* Files from before transformers 4.26 or so lack this level of the text encoder. */
static bool lacks_text_model(const format_tensors *f, model_part part)
{
    char name[NAME_BYTES];
    (void)snprintf(name, sizeof name, "%sembeddings.token_embedding.weight", prefixes[part]);
    return part == MODEL_TEXT_ENCODER && f && format_tensors_find(f, name);
}

md_status ldm_names(model_part part, const model_config *c, const nn_params *p,
                    const format_tensors *f, nn_file_name **names)
{
    size_t n = (size_t)nn_params_count(p), skip = strlen("text_model.");
    bool old = lacks_text_model(f, part);
    nn_file_name *list = malloc(n * (sizeof *list + NAME_BYTES));
    md_status status = MD_OK;
    if (!list)
        MD_FAIL(MD_NOMEM, "%s: out of memory for its names", nn_params_model(p));
    for (size_t i = 0; i < n; i++) {
        char *text = (char *)(list + n) + i * NAME_BYTES, *at = text + strlen(prefixes[part]);
        list[i].name = text;
        MD_TRY_GOTO(
            ldm_name(part, c, nn_params_info(p, (int)i)->name, text, NAME_BYTES, &list[i].as_conv),
            fail);
        if (old)
            memmove(at, at + skip, strlen(at + skip) + 1);
    }
    *names = list;
    return MD_OK;
fail:
    free(list);
    return status;
}

/* ---- Sizes. */

/* A file's part, asked for tensors by name. */
typedef struct shown {
    const format_tensors *f;
    const char *prefix, *middle; /* of every name */
} shown;

static const format_tensor *ask(const shown *s, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static md_status size_of(const shown *s, int dim, int64_t most, int *out, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

static const format_tensor *ask_args(const shown *s, char name[NAME_BYTES], const char *fmt,
                                     va_list ap)
{
    int n = snprintf(name, NAME_BYTES, "%s%s", s->prefix, s->middle);
    vsnprintf(name + n, NAME_BYTES - (size_t)n, fmt, ap);
    return format_tensors_find(s->f, name);
}

static const format_tensor *ask(const shown *s, const char *fmt, ...)
{
    char name[NAME_BYTES];
    va_list ap;
    va_start(ap, fmt);
    const format_tensor *t = ask_args(s, name, fmt, ap);
    va_end(ap);
    return t;
}

/* Dimension `dim` of a tensor that must be there. */
static md_status size_of(const shown *s, int dim, int64_t most, int *out, const char *fmt, ...)
{
    char name[NAME_BYTES];
    va_list ap;
    va_start(ap, fmt);
    const format_tensor *t = ask_args(s, name, fmt, ap);
    va_end(ap);
    if (!t)
        MD_FAIL(MD_BAD_INPUT, "%s: tensor %s is missing", format_tensors_name(s->f), name);
    if (t->ndim <= dim || t->dim[dim] < 1 || t->dim[dim] > most)
        MD_FAIL(MD_BAD_INPUT, "%s: tensor %s: dimension %d is %lld; supported are 1 to %lld",
                format_tensors_name(s->f), name, dim, (long long)(t->ndim > dim ? t->dim[dim] : 0),
                (long long)most);
    *out = (int)t->dim[dim];
    return MD_OK;
}

static md_status too_many(const shown *s, const char *what, int most)
{
    MD_FAIL(MD_BAD_INPUT, "%s: %s%s has more than %d %s", format_tensors_name(s->f), s->prefix,
            s->middle, most, what);
}

/* The number of transformer blocks in module 1 of <block>.<i>, 0: there is no transformer. */
static md_status unet_depth(const shown *s, const char *block, int i, int *depth)
{
    *depth = 0;
    while (ask(s, "%s.%d.1.transformer_blocks.%d.norm1.weight", block, i, *depth))
        if (++*depth > MAX_DEPTH)
            return too_many(s, "transformer blocks in a layer", MAX_DEPTH);
    return MD_OK;
}

/* input_blocks.1 and on: ResNets and, between levels, downsamplers. */
static md_status unet_way_down(const shown *s, unet_config *c)
{
    int level = 0, depth;
    for (int i = 1;; i++) {
        if (ask(s, "input_blocks.%d.0.op.weight", i)) {
            if (++level == MODEL_MAX_BLOCKS)
                return too_many(s, "levels", MODEL_MAX_BLOCKS);
            continue;
        }
        if (!ask(s, "input_blocks.%d.0.in_layers.2.weight", i))
            break;
        if (++c->layers_per_block[level] > MAX_LAYERS)
            return too_many(s, "ResNets in a level", MAX_LAYERS);
        MD_TRY(size_of(s, 0, MAX_CHANNELS, &c->block_out_channels[level],
                       "input_blocks.%d.0.in_layers.2.weight", i));
        MD_TRY(unet_depth(s, "input_blocks", i, &depth));
        c->down_attention[level] = depth > 0;
        c->transformer_layers[level] = depth;
    }
    c->n_blocks = level + 1;
    return MD_OK;
}

/* Attention of the way up and of the middle; a level's transformers all have one depth. */
static md_status unet_way_up(const shown *s, unet_config *c)
{
    int *layers = c->transformer_layers, depth;
    for (int block = 0, at = 0; block < c->n_blocks; block++) {
        int level = c->n_blocks - 1 - block;
        MD_TRY(unet_depth(s, "output_blocks", at, &depth));
        c->up_attention[block] = depth > 0;
        layers[level] = depth ? depth : layers[level];
        at += c->layers_per_block[level] + 1;
    }
    for (depth = 0; ask(s, "middle_block.1.transformer_blocks.%d.norm1.weight", depth); depth++)
        if (depth == MAX_DEPTH)
            return too_many(s, "transformer blocks in a layer", MAX_DEPTH);
    layers[c->n_blocks - 1] = depth;
    for (int level = 0; level < c->n_blocks; level++)
        layers[level] = layers[level] ? layers[level] : 1; /* as config.json says it */
    return MD_OK;
}

static md_status unet_shown(const shown *s, unet_config *c)
{
    *c = (unet_config){
        .norm_num_groups = 32, .norm_eps = 1e-5, .flip_sin_to_cos = true, .sample_size = 64};
    MD_TRY(size_of(s, 1, 256, &c->in_channels, "input_blocks.0.0.weight"));
    MD_TRY(size_of(s, 0, 256, &c->out_channels, "out.2.weight"));
    MD_TRY(size_of(s, 0, 1 << 16, &c->time_embedding_dim, "time_embed.0.weight"));
    MD_TRY(size_of(s, 1, MAX_CHANNELS, &c->cross_attention_dim,
                   "middle_block.1.transformer_blocks.0.attn2.to_k.weight"));
    const format_tensor *project = ask(s, "middle_block.1.proj_in.weight");
    c->use_linear_projection = project && project->ndim == 2;
    MD_TRY(unet_way_down(s, c));
    for (int i = 0; i < c->n_blocks; i++)
        c->heads[i] = 8;
    return unet_way_up(s, c);
}

static md_status vae_shown(const shown *s, vae_config *c)
{
    *c = (vae_config){.norm_num_groups = 32, .scaling_factor = 0.18215, .sample_size = 512};
    MD_TRY(size_of(s, 1, 64, &c->in_channels, "encoder.conv_in.weight"));
    MD_TRY(size_of(s, 0, 64, &c->out_channels, "decoder.conv_out.weight"));
    MD_TRY(size_of(s, 1, 64, &c->latent_channels, "decoder.conv_in.weight"));
    c->mid_attention = ask(s, "encoder.mid.attn_1.q.weight") != NULL;
    c->use_quant_conv = ask(s, "quant_conv.weight") != NULL;
    c->use_post_quant_conv = ask(s, "post_quant_conv.weight") != NULL;
    while (ask(s, "encoder.down.0.block.%d.conv1.weight", c->layers_per_block))
        if (++c->layers_per_block > MAX_LAYERS)
            return too_many(s, "ResNets in a level", MAX_LAYERS);
    for (; ask(s, "encoder.down.%d.block.0.conv1.weight", c->n_blocks); c->n_blocks++) {
        if (c->n_blocks == MODEL_MAX_BLOCKS)
            return too_many(s, "levels", MODEL_MAX_BLOCKS);
        MD_TRY(size_of(s, 0, MAX_CHANNELS, &c->block_out_channels[c->n_blocks],
                       "encoder.down.%d.block.0.conv1.weight", c->n_blocks));
    }
    return MD_OK;
}

static md_status text_shown(const shown *s, clip_text_config *c)
{
    enum { HEAD = 64, LAYERS = 256 };
    *c = (clip_text_config){.hidden_act = MD_ACT_QUICK_GELU, .layer_norm_eps = 1e-5};
    MD_TRY(size_of(s, 0, 1 << 24, &c->vocab_size, "embeddings.token_embedding.weight"));
    MD_TRY(size_of(s, 1, MAX_CHANNELS, &c->hidden_size, "embeddings.token_embedding.weight"));
    MD_TRY(size_of(s, 0, 1 << 16, &c->max_position_embeddings,
                   "embeddings.position_embedding.weight"));
    MD_TRY(size_of(s, 0, 1 << 18, &c->intermediate_size, "encoder.layers.0.mlp.fc1.weight"));
    while (ask(s, "encoder.layers.%d.layer_norm1.weight", c->num_hidden_layers))
        if (++c->num_hidden_layers > LAYERS)
            return too_many(s, "layers", LAYERS);
    c->num_attention_heads = c->hidden_size / HEAD;
    return MD_OK;
}

md_status ldm_config(const format_tensors *f, model_part part, model_config *out)
{
    const char *name = format_tensors_name(f);
    shown s = {.f = f, .prefix = prefixes[part], .middle = ""};
    model_config c;
    memset(&c, 0, sizeof c);
    switch (part) {
    case MODEL_UNET:
        MD_TRY(unet_shown(&s, &c.unet));
        break;
    case MODEL_VAE:
        MD_TRY(vae_shown(&s, &c.vae));
        break;
    default:
        s.middle = lacks_text_model(f, part) ? "" : "text_model.";
        MD_TRY(text_shown(&s, &c.text));
    }
    MD_TRY(model_registry(part)->check(name, &c));
    *out = c;
    return MD_OK;
}
