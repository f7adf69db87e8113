/* pretrain: the tiny foundation, from procedural pictures alone. First the VAE, then UNet and text
   encoder on its latents, which make a diffusers folder; then the encoder beside them. */
#include "pretrain.h"
#include "base/file.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/str.h"
#include "format/tokenizer.h"
#include "image/procedural.h"
#include "model/codec.h"
#include "train/autoencode.h"
#include "train/denoise.h"
#include "train/vae_start.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIZE = PROCEDURAL_MAX_SIZE, TOKENS = 77, WIDTH = 64 };

static const vae_config tiny_vae = {
    .in_channels = 3,
    .out_channels = 3,
    .latent_channels = 4,
    .n_blocks = 3, /* shrinks by 4 */
    .block_out_channels = {16, 32, 64},
    .layers_per_block = 1,
    .norm_num_groups = 2, /* 8 groups of 2 channels at the end would forget a picture's hue */
    .sample_size = SIZE,
    .mid_attention = true,
    .use_quant_conv = true,
    .use_post_quant_conv = true,
    .scaling_factor = 1, /* set from the latents once the VAE is trained */
};

static const unet_config tiny_unet = {
    .in_channels = 4,
    .out_channels = 4,
    .sample_size = SIZE / 4,
    .n_blocks = 3,
    .block_out_channels = {32, 64, 96},
    .down_attention = {false, true, true}, /* self-attention over 32 x 32 would be half the work */
    .up_attention = {true, true, false},
    .layers_per_block = {1, 1, 1},
    .transformer_layers = {1, 1, 1},
    .heads = {4, 4, 4},
    .cross_attention_dim = WIDTH,
    .norm_num_groups = 8,
    .norm_eps = 1e-5,
    .flip_sin_to_cos = true,
    .time_embedding_dim = 128,
};

static clip_text_config tiny_text(int64_t vocab)
{
    return (clip_text_config){
        .vocab_size = (int)vocab,
        .max_position_embeddings = TOKENS,
        .hidden_size = WIDTH,
        .intermediate_size = 4 * WIDTH,
        .num_hidden_layers = 2,
        .num_attention_heads = 4,
        .hidden_act = MD_ACT_QUICK_GELU,
        .layer_norm_eps = 1e-5,
    };
}

static md_status randomize(session *p, model_part part)
{
    md_status status = session_works() ? foundation_randomize(p->f, part, p->be, p->seed) : MD_OK;
    return comm_agree(comm_world(), status);
}

static md_status start(session *p, nn_params *const *stores, int n, const train_task *task,
                       train_options *o, train **out)
{
    o->lr_rule = TRAIN_LR_COSINE;
    o->lr_floor = 0.02;
    o->warmup = o->steps / 50 + 1;
    o->accumulate = 1;
    o->beta1 = 0.9;
    o->beta2 = 0.99;
    o->eps = 1e-8;
    o->clip = 1;
    o->ema = config_float(p->j->cfg, KEY_pretrain_ema);
    o->workers = comm_workers();
    o->reducer = p->reducer;
    o->device = p->device;
    MD_TRY(train_new(p->be, stores, n, task, o, out));
    MD_TRY(train_load(*out));
    md_info("pretrain", "%.2f GFLOP and %.0f MiB for a worker's step",
            (double)md_plan_flops(train_plan(*out)) / 1e9,
            (double)train_memory(*out).total / 1048576);
    return MD_OK;
}

md_status pretrain_learn(session *p, const char *what, nn_params *const *stores, int n,
                         const train_task *task, train_options o)
{
    const config *cfg = p->j->cfg;
    char checkpoints[SESSION_PATH], metrics[SESSION_PATH];
    MD_TRY(session_path(p, checkpoints, "checkpoints/%s", what));
    MD_TRY(session_path(p, metrics, "metrics.csv"));
    train_loop l = {.what = what,
                    .checkpoints = checkpoints,
                    .metrics = metrics,
                    .cfg = p->j->cfg,
                    .sections = ". model pretrain",
                    .steps = o.steps,
                    .checkpoint_minutes = config_float(cfg, KEY_checkpoint_minutes),
                    .stop = session_wants_stop};
    train *t = NULL;
    md_status status = session_works() ? start(p, stores, n, task, &o, &t) : MD_OK;
    MD_TRY(comm_agree(comm_world(), status));
    if (!session_works())
        return train_loop_watch(&l);
    status = train_loop_work(&l, t);
    if (status == MD_OK)
        status = train_swap_ema(t);
    train_free(t);
    return status;
}

static md_status learn_vae(session *p)
{
    const config *cfg = p->j->cfg;
    autoencode a = {.config = p->f->vae,
                    .params = p->f->params[MODEL_VAE],
                    .dtype = p->dtype,
                    .seed = p->seed,
                    .batch = config_int(cfg, KEY_pretrain_vae_batch),
                    .crop = (int)config_int(cfg, KEY_pretrain_vae_crop),
                    .kl = config_float(cfg, KEY_pretrain_vae_kl)};
    train_task task = autoencode_task(&a);
    MD_TRY(randomize(p, MODEL_VAE));
    md_status status = session_works() ? train_vae_start(a.params, p->be, a.config) : MD_OK;
    MD_TRY(comm_agree(comm_world(), status));
    return pretrain_learn(p, "vae", &a.params, 1, &task,
                          (train_options){.steps = config_int(cfg, KEY_pretrain_vae_steps),
                                          .batch = a.batch,
                                          .lr = config_float(cfg, KEY_pretrain_vae_lr)});
}

/* Pictures from here on were never seen by the VAE's training, whose items count from 0. */
static const uint64_t FIRST_PICTURE = (uint64_t)1 << 40;

/* Draws the captioned pictures and encodes them: moments [n,h,w,2C], ids [n,TOKENS]. */
static md_status encode_pictures(session *p, int64_t n, float *moments, int32_t *ids)
{
    enum { BATCH = 8 };
    char caption[PROCEDURAL_CAPTION];
    codec *k = NULL;
    uint8_t *rgb = malloc((size_t)BATCH * SIZE * SIZE * 3);
    if (!rgb)
        MD_FAIL(MD_NOMEM, "pretraining: out of memory");
    md_status status =
        codec_new(p->be, p->f->vae, p->f->params[MODEL_VAE], p->dtype, SIZE, BATCH, 0, &k);
    if (status == MD_OK)
        status = codec_load(k);
    int64_t latent =
        status == MD_OK ? codec_edge(k) * codec_edge(k) * 2 * p->f->vae->latent_channels : 0;
    for (int64_t i = 0; i < n && status == MD_OK && !session_wants_stop(); i += BATCH) {
        int64_t m = n - i < BATCH ? n - i : BATCH;
        for (int64_t b = 0; b < m && status == MD_OK; b++) {
            procedural_draw(p->seed, FIRST_PICTURE + (uint64_t)(i + b), SIZE,
                            rgb + b * SIZE * SIZE * 3, caption);
            status = format_tokenizer_encode(p->f->tokenizer, caption, ids + (i + b) * TOKENS, NULL,
                                             NULL);
        }
        if (status == MD_OK)
            status = codec_encode(k, rgb, m, moments + i * latent);
    }
    if (status == MD_OK && session_wants_stop())
        status = md_fail(MD_STOPPED, __FILE__, __LINE__, "pretraining: stopped while encoding");
    codec_free(k);
    free(rgb);
    return status;
}

/* 1 / deviation of the latents' means, as Rombach et al. 2022 (section G) scale them. */
static double scaling_factor(const float *moments, int64_t n, int channels)
{
    double sum = 0, sum2 = 0;
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++)
        if (i % (2 * channels) < channels) {
            sum += (double)moments[i];
            sum2 += (double)moments[i] * (double)moments[i];
            count++;
        }
    double mean = sum / (double)count;
    return 1 / sqrt(fmax(sum2 / (double)count - mean * mean, 1e-12));
}

static md_status learn_denoiser(session *p, denoise_source *s, float *moments, int32_t *ids,
                                const double *alphas)
{
    const config *cfg = p->j->cfg;
    int32_t empty[TOKENS];
    denoise d = {.unet = p->f->unet,
                 .unet_params = p->f->params[MODEL_UNET],
                 .text = p->f->text,
                 .text_params = p->f->params[MODEL_TEXT_ENCODER],
                 .dtype = p->dtype,
                 .source = s,
                 .alphas_cumprod = alphas,
                 .train_steps = p->f->schedule.train_steps,
                 .prediction = p->f->schedule.prediction,
                 .seed = p->seed,
                 .batch = config_int(cfg, KEY_pretrain_unet_batch),
                 .drop_caption = 0.1}; /* for classifier-free guidance, Ho & Salimans 2022 */
    train_task task = denoise_task(&d);
    MD_TRY(format_tokenizer_encode(p->f->tokenizer, "", empty, NULL, NULL));
    if (session_works()) {
        MD_TRY(encode_pictures(p, s->n, moments, ids));
        int64_t per = s->edge * s->edge * 2 * s->channels;
        s->scaling = scaling_factor(moments, s->n * per, (int)s->channels);
        foundation_set_scaling_factor(p->f, s->scaling);
    }
    MD_TRY(randomize(p, MODEL_UNET));
    MD_TRY(randomize(p, MODEL_TEXT_ENCODER));
    s->moments = moments;
    s->ids = ids;
    s->empty_ids = empty;
    return pretrain_learn(p, "unet", (nn_params *[]){d.unet_params, d.text_params}, 2, &task,
                          (train_options){.steps = config_int(cfg, KEY_pretrain_unet_steps),
                                          .batch = d.batch,
                                          .lr = config_float(cfg, KEY_pretrain_unet_lr)});
}

static md_status learn_unet(session *p)
{
    denoise_source s = {.n = config_int(p->j->cfg, KEY_pretrain_pictures),
                        .variants = 1,
                        .edge = SIZE / vae_shrink(p->f->vae),
                        .channels = p->f->vae->latent_channels,
                        .tokens = TOKENS,
                        .width = WIDTH};
    int64_t latent = s.edge * s.edge * 2 * s.channels, n = session_works() ? s.n : 1;
    float *moments = malloc((size_t)(n * latent) * sizeof *moments);
    int32_t *ids = malloc((size_t)(n * TOKENS) * sizeof *ids);
    double *alphas = malloc((size_t)p->f->schedule.train_steps * sizeof *alphas);
    md_status status = MD_OK;
    if (!moments || !ids || !alphas)
        status = md_fail(MD_NOMEM, __FILE__, __LINE__,
                         "pretraining: out of memory for %lld pictures", (long long)s.n);
    if (status == MD_OK)
        status = schedule_alphas_cumprod(&p->f->schedule, alphas);
    if (status == MD_OK)
        status = learn_denoiser(p, &s, moments, ids, alphas);
    free(moments);
    free(ids);
    free(alphas);
    return status;
}

/* RUN/models/foundation unless the config says otherwise. */
static md_status out_folder(const session *p, char path[SESSION_PATH])
{
    const char *out = config_string(p->j->cfg, KEY_pretrain_out);
    return *out ? md_str_copy(path, SESSION_PATH, out) : session_path(p, path, "models/foundation");
}

static md_status open_tiny(session *p, const char *tokenizer_path)
{
    diffusion_schedule noise = schedule_stable_diffusion();
    format_tokenizer *t = NULL;
    MD_TRY(format_tokenizer_open(tokenizer_path, &t));
    clip_text_config text = tiny_text(format_tokenizer_vocab_size(t));
    format_tokenizer_free(t);
    MD_TRY(foundation_new(&text, &tiny_vae, &tiny_unet, &noise, tokenizer_path, &p->f));
    foundation_hold(p->f, p->dtype, ~0u);
    return MD_OK;
}

static md_status make_foundation(session *p, const char *out)
{
    comm *world = comm_world();
    char tokenizer[SESSION_PATH];
    md_status status = session_path(p, tokenizer, "tokenizer");
    if (status == MD_OK && comm_rank(world) == 0) {
        status = md_dir_make(tokenizer);
        if (status == MD_OK)
            status = procedural_write_tokenizer(tokenizer);
    }
    MD_TRY(comm_agree(world, status));
    MD_TRY(comm_agree(world, open_tiny(p, tokenizer)));
    MD_TRY(comm_agree(world, learn_vae(p)));
    MD_TRY(comm_agree(world, learn_unet(p)));
    status = session_first_worker() ? foundation_save(p->f, out, p->be, true) : MD_OK;
    if (status == MD_OK)
        md_info("pretrain", "wrote the foundation to %s", out);
    return comm_agree(world, status);
}

static md_status run_stages(session *p)
{
    const char *what = config_string(p->j->cfg, KEY_pretrain_what);
    char out[SESSION_PATH];
    MD_TRY(comm_agree(comm_world(), out_folder(p, out)));
    MD_TRY(session_meet(p));
    if (strcmp(what, "encoder") != 0)
        MD_TRY(make_foundation(p, out));
    return strcmp(what, "foundation") != 0 ? pretrain_encoder(p, out) : MD_OK;
}

md_status job_pretrain(job *j)
{
    session s;
    md_status status = session_open(&s, j, true);
    if (status == MD_OK)
        status = run_stages(&s);
    session_close(&s);
    return status;
}
