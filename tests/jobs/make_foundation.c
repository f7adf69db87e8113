/* make_foundation DIR [inpainting|VALUE]: a small foundation of random weights, in which every part
   does something (nothing starts at zero): 64 x 64 pixels, a VAE that shrinks by 4, a UNet of 16
   and 32 channels. It paints noise, in a second; tests of everything but the pictures' looks use
   it. inpainting: the UNet has 9 input channels. VALUE: all weights of its last layer (nan, 3e38).
 */
#include "backend/open.h"
#include "base/file.h"
#include "base/rng.h"
#include "image/procedural.h"
#include "model/foundation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 32, TOKENS = 77, SEED = 11 };

static const vae_config vae = {
    .in_channels = 3,
    .out_channels = 3,
    .latent_channels = 4,
    .n_blocks = 3,
    .block_out_channels = {8, 16, 16},
    .layers_per_block = 1,
    .norm_num_groups = 4,
    .sample_size = 64,
    .mid_attention = true,
    .use_quant_conv = true,
    .use_post_quant_conv = true,
    .scaling_factor = 0.7,
};

static const unet_config unet_small = {
    .in_channels = 4,
    .out_channels = 4,
    .sample_size = 16,
    .n_blocks = 2,
    .block_out_channels = {16, 32},
    .down_attention = {false, true},
    .up_attention = {true, false},
    .layers_per_block = {1, 1},
    .transformer_layers = {1, 1},
    .heads = {2, 4},
    .cross_attention_dim = WIDTH,
    .norm_num_groups = 8,
    .norm_eps = 1e-5,
    .flip_sin_to_cos = true,
    .time_embedding_dim = 64,
};

static clip_text_config text_of(int64_t vocab)
{
    return (clip_text_config){.vocab_size = (int)vocab,
                              .max_position_embeddings = TOKENS,
                              .hidden_size = WIDTH,
                              .intermediate_size = 2 * WIDTH,
                              .num_hidden_layers = 1,
                              .num_attention_heads = 2,
                              .hidden_act = MD_ACT_QUICK_GELU,
                              .layer_norm_eps = 1e-5};
}

/* Random start, plus a little everywhere. */
static md_status draw(foundation *f, model_part part, md_backend *be)
{
    MD_TRY(foundation_randomize(f, part, be, SEED));
    for (int i = 0; i < nn_params_count(f->params[part]); i++) {
        int64_t n = nn_params_info(f->params[part], i)->numel;
        float *w = malloc((size_t)(2 * n) * sizeof *w);
        if (!w)
            MD_FAIL(MD_NOMEM, "out of memory");
        md_rng r = md_rng_at(SEED, MD_RNG_INIT, (uint64_t)i, 1);
        md_rng_normal_fill(&r, w + n, n);
        md_status status = nn_params_read(f->params[part], be, i, w);
        for (int64_t k = 0; k < n; k++)
            w[k] += 0.02f * w[n + k];
        if (status == MD_OK)
            status = nn_params_write(f->params[part], be, i, w);
        free(w);
        MD_TRY(status);
    }
    return MD_OK;
}

static md_status set_last_layer(foundation *f, md_backend *be, float value)
{
    nn_params *p = f->params[MODEL_UNET];
    int i = nn_params_find(p, "conv_out.weight");
    if (i < 0)
        MD_FAIL(MD_INTERNAL, "no conv_out.weight");
    int64_t n = nn_params_info(p, i)->numel;
    float *w = malloc((size_t)n * sizeof *w);
    if (!w)
        MD_FAIL(MD_NOMEM, "out of memory");
    for (int64_t k = 0; k < n; k++)
        w[k] = value;
    md_status status = nn_params_write(p, be, i, w);
    free(w);
    return status;
}

static md_status make(const char *dir, const char *option)
{
    char tokenizer[1024];
    format_tokenizer *t = NULL;
    md_backend *be = NULL;
    foundation *f = NULL;
    diffusion_schedule noise = schedule_stable_diffusion();
    bool inpainting = option && !strcmp(option, "inpainting");
    unet_config unet_here = unet_small;
    if (inpainting)
        unet_here.in_channels = 9;
    MD_TRY(md_path_join(tokenizer, sizeof tokenizer, dir, "tokenizer"));
    MD_TRY(md_dir_make(tokenizer));
    MD_TRY(procedural_write_tokenizer(tokenizer));
    MD_TRY(format_tokenizer_open(tokenizer, &t));
    clip_text_config text = text_of(format_tokenizer_vocab_size(t));
    format_tokenizer_free(t);
    MD_TRY(backend_open(&(backend_options){.device = "cpu", .threads = 1, .sharing = 1}, &be));
    MD_TRY(foundation_new(&text, &vae, &unet_here, &noise, tokenizer, &f));
    for (int part = 0; part < MODEL_N_PARTS; part++)
        MD_TRY(draw(f, (model_part)part, be));
    if (option && !inpainting)
        MD_TRY(set_last_layer(f, be, strtof(option, NULL)));
    MD_TRY(foundation_save(f, dir, be, false));
    foundation_free(f, be);
    be->ops->close(be);
    return MD_OK;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        (void)fprintf(stderr, "make_foundation DIR [inpainting|VALUE]\n");
        return 2;
    }
    if (make(argv[1], argc > 2 ? argv[2] : NULL) != MD_OK) {
        (void)fprintf(stderr, "make_foundation: %s\n", md_status_text());
        return 1;
    }
    return 0;
}
