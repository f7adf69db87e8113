/* A colour travels in channel 4k, beside two constants, +LEVEL in 4k+1 and -LEVEL in 4k+2. They
   dominate the deviation that group norm divides by, and tell the mean that it takes away, so that
   the last convolution can put both back. */
#include "train/vae_start.h"
#include "base/str.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COLOURS = 3, STRIDE = 4, CARRIERS = COLOURS * STRIDE };

static const float LEVEL = 6.0F; /* against colours in [-1,1] */

/* One parameter on the host while it is changed. */
typedef struct weights {
    const nn_param_info *info;
    int index;
    float *v;
} weights;

static md_status take(nn_params *p, md_backend *be, const char *name, weights *w)
{
    w->index = nn_params_find(p, name);
    if (w->index < 0)
        MD_FAIL(MD_INTERNAL, "VAE start: no parameter %s", name);
    w->info = nn_params_info(p, w->index);
    w->v = malloc((size_t)w->info->numel * sizeof *w->v);
    if (!w->v)
        MD_FAIL(MD_NOMEM, "VAE start: out of memory");
    md_status status = nn_params_read(p, be, w->index, w->v);
    if (status != MD_OK)
        free(w->v);
    return status;
}

static md_status put(nn_params *p, md_backend *be, weights *w)
{
    md_status status = nn_params_write(p, be, w->index, w->v);
    free(w->v);
    w->v = NULL;
    return status;
}

static bool is_carrier(int64_t channel)
{
    return channel < CARRIERS && channel % STRIDE != STRIDE - 1;
}

/* Multiplies the rows (outputs) of carriers, or all other rows, of a weight or bias. */
static void scale_rows(weights *w, bool carriers, float factor)
{
    int64_t rows = w->info->dim[0], per = w->info->numel / rows;
    for (int64_t o = 0; o < rows; o++)
        for (int64_t i = 0; i < per && is_carrier(o) == carriers; i++)
            w->v[o * per + i] *= factor;
}

/* Entry [o,kh,kw,i] of a convolution, or [o,i] of a linear layer (kh, kw ignored). */
static float *at(weights *w, int64_t o, int64_t kh, int64_t kw, int64_t i)
{
    const int64_t *d = w->info->dim;
    return w->info->ndim == 2 ? &w->v[o * d[1] + i]
                              : &w->v[((o * d[1] + kh) * d[2] + kw) * d[3] + i];
}

/* Carriers pass through this layer unchanged: from channel o for o, or nothing of them (the branch
   of a residual block). */
typedef enum passage { NOTHING, SAME, HALVED } passage;

static md_status pass(nn_params *p, md_backend *be, const char *layer, passage how)
{
    char name[160];
    weights w;
    MD_TRY(md_str_printf(name, sizeof name, "%s.bias", layer));
    MD_TRY(take(p, be, name, &w));
    scale_rows(&w, true, 0);
    MD_TRY(put(p, be, &w));
    MD_TRY(md_str_printf(name, sizeof name, "%s.weight", layer));
    MD_TRY(take(p, be, name, &w));
    scale_rows(&w, true, 0);
    for (int64_t o = 0; o < CARRIERS && how != NOTHING; o++) {
        if (!is_carrier(o))
            continue;
        if (how == SAME)
            *at(&w, o, 1, 1, o) = 1;
        for (int64_t k = 0; k < 4 && how == HALVED; k++) /* the mean of 2 x 2 */
            *at(&w, o, k / 2, k % 2, o) = 0.25F;
    }
    return put(p, be, &w);
}

/* Every layer between the ends, told by its name. */
static md_status pass_all(nn_params *p, md_backend *be)
{
    static const struct {
        const char *ending;
        passage how;
    } rules[] = {{".conv2.weight", NOTHING},
                 {".to_out.0.weight", NOTHING},
                 {".conv_shortcut.weight", SAME},
                 {".downsamplers.0.conv.weight", HALVED},
                 {".upsamplers.0.conv.weight", SAME}};
    for (int i = 0; i < nn_params_count(p); i++) {
        const char *name = nn_params_info(p, i)->name;
        size_t n = strlen(name);
        for (size_t k = 0; k < sizeof rules / sizeof *rules; k++) {
            size_t m = strlen(rules[k].ending);
            char layer[160];
            if (n < m || strcmp(name + n - m, rules[k].ending) != 0)
                continue;
            MD_TRY(md_str_printf(layer, sizeof layer, "%.*s", (int)(n - strlen(".weight")), name));
            MD_TRY(pass(p, be, layer, rules[k].how));
        }
    }
    return MD_OK;
}

/* The first convolution of a half: colours from its first inputs, constants from the bias. */
static md_status enter(nn_params *p, md_backend *be, const char *half)
{
    char name[160];
    weights w;
    MD_TRY(md_str_printf(name, sizeof name, "%s.conv_in.weight", half));
    MD_TRY(take(p, be, name, &w));
    scale_rows(&w, true, 0);
    for (int64_t k = 0; k < COLOURS; k++)
        *at(&w, STRIDE * k, 1, 1, k) = 1;
    MD_TRY(put(p, be, &w));
    MD_TRY(md_str_printf(name, sizeof name, "%s.conv_in.bias", half));
    MD_TRY(take(p, be, name, &w));
    for (int64_t k = 0; k < COLOURS; k++) {
        w.v[STRIDE * k] = 0;
        w.v[STRIDE * k + 1] = LEVEL;
        w.v[STRIDE * k + 2] = -LEVEL;
    }
    return put(p, be, &w);
}

static float silu(float x)
{
    return x / (1 + expf(-x));
}

static float silu_slope(float x)
{
    float s = 1 / (1 + expf(-x));
    return s * (1 + x * (1 - s));
}

/* The last norm and convolution of a half. After the norm, gain makes the carriers colour - mean,
   LEVEL - mean, -LEVEL - mean again; shifts put all three where SiLU is nearly straight. */
static md_status leave(nn_params *p, md_backend *be, const char *half, int64_t groups)
{
    static const float shift = 5;
    char name[160];
    weights gain, offset, out, bias;
    MD_TRY(md_str_printf(name, sizeof name, "%s.conv_norm_out.weight", half));
    MD_TRY(take(p, be, name, &gain));
    int64_t size = gain.info->numel / groups, inside = size / STRIDE;
    inside = inside < COLOURS ? inside : COLOURS;
    for (int64_t o = 0; o < CARRIERS; o++)
        if (is_carrier(o))
            gain.v[o] = LEVEL * sqrtf(2.0F * (float)inside / (float)size);
    MD_TRY(put(p, be, &gain));
    MD_TRY(md_str_printf(name, sizeof name, "%s.conv_norm_out.bias", half));
    MD_TRY(take(p, be, name, &offset));
    for (int64_t k = 0; k < COLOURS; k++) {
        offset.v[STRIDE * k] = shift;
        offset.v[STRIDE * k + 2] = 2 * LEVEL;
    }
    MD_TRY(put(p, be, &offset));
    float colour = 1 / silu_slope(shift), mean = -0.5F / silu_slope(LEVEL);
    MD_TRY(md_str_printf(name, sizeof name, "%s.conv_out.weight", half));
    MD_TRY(take(p, be, name, &out));
    int64_t per = out.info->numel / out.info->dim[0];
    for (int64_t k = 0; k < COLOURS; k++) {
        for (int64_t i = 0; i < per; i++)
            out.v[k * per + i] *= 0.02F;
        *at(&out, k, 1, 1, STRIDE * k) = colour;
        *at(&out, k, 1, 1, STRIDE * k + 1) = mean;
        *at(&out, k, 1, 1, STRIDE * k + 2) = mean;
    }
    MD_TRY(put(p, be, &out));
    MD_TRY(md_str_printf(name, sizeof name, "%s.conv_out.bias", half));
    MD_TRY(take(p, be, name, &bias));
    for (int64_t k = 0; k < COLOURS; k++)
        bias.v[k] = -colour * silu(shift) - 2 * mean * silu(LEVEL);
    return put(p, be, &bias);
}

/* quant_conv and post_quant_conv start as nothing; the posterior starts narrow. */
static md_status join(nn_params *p, md_backend *be, const vae_config *c)
{
    static const float log_variance = -6;
    weights w;
    const char *const layers[] = {"quant_conv", "post_quant_conv"};
    const bool there[] = {c->use_quant_conv, c->use_post_quant_conv};
    for (int k = 0; k < 2; k++) {
        char name[64];
        if (!there[k])
            continue;
        MD_TRY(md_str_printf(name, sizeof name, "%s.weight", layers[k]));
        MD_TRY(take(p, be, name, &w));
        for (int64_t o = 0; o < w.info->dim[0]; o++)
            for (int64_t i = 0; i < w.info->dim[0]; i++)
                *at(&w, o, 0, 0, i) = o == i;
        MD_TRY(put(p, be, &w));
        MD_TRY(md_str_printf(name, sizeof name, "%s.bias", layers[k]));
        MD_TRY(take(p, be, name, &w));
        memset(w.v, 0, (size_t)w.info->numel * sizeof *w.v);
        MD_TRY(put(p, be, &w));
    }
    MD_TRY(take(p, be, "encoder.conv_out.weight", &w));
    int64_t per = w.info->numel / w.info->dim[0];
    for (int64_t i = c->latent_channels * per; i < w.info->numel; i++)
        w.v[i] *= 0.1F;
    MD_TRY(put(p, be, &w));
    MD_TRY(take(p, be, "encoder.conv_out.bias", &w));
    for (int64_t i = c->latent_channels; i < w.info->numel; i++)
        w.v[i] = log_variance;
    return put(p, be, &w);
}

md_status train_vae_start(nn_params *p, md_backend *be, const vae_config *c)
{
    if (c->in_channels != COLOURS || c->out_channels != COLOURS || c->latent_channels < COLOURS + 1)
        MD_FAIL(MD_UNSUPPORTED, "VAE start: %d colours and %d latent channels; wanted 3 and 4",
                c->in_channels, c->latent_channels);
    for (int i = 0; i < c->n_blocks; i++)
        if (c->block_out_channels[i] < CARRIERS ||
            c->block_out_channels[i] / c->norm_num_groups % STRIDE)
            MD_FAIL(MD_UNSUPPORTED,
                    "VAE start: %d channels in %d groups; wanted groups of 4, 8, ...",
                    c->block_out_channels[i], c->norm_num_groups);
    MD_TRY(pass_all(p, be));
    MD_TRY(enter(p, be, "encoder"));
    MD_TRY(enter(p, be, "decoder"));
    MD_TRY(leave(p, be, "encoder", c->norm_num_groups));
    MD_TRY(leave(p, be, "decoder", c->norm_num_groups));
    return join(p, be, c);
}
