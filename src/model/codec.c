#include "model/codec.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One direction: a graph with one input and one output, both [batch,...]; no graph when batch is 0.
 */
typedef struct half {
    md_graph *g;
    md_plan *plan;
    md_tensor *in, *out;
    int64_t batch, in_numel, out_numel; /* numel: per picture */
} half;

struct codec {
    md_backend *be;
    half encode, decode;
    int64_t edge;
    float *in, *out; /* staging for the larger batch */
};

static void half_free(half *h)
{
    md_plan_free(h->plan);
    md_graph_free(h->g);
}

static md_status half_build(half *h, md_backend *be)
{
    MD_TRY(md_graph_check(h->g));
    h->in_numel = md_numel(h->in) / h->batch;
    h->out_numel = md_numel(h->out) / h->batch;
    return md_plan_build(h->g, be, &h->out, 1, &h->plan);
}

static md_status build_encoder(codec *k, const vae_config *c, nn_params *params, md_dtype dtype,
                               int64_t size)
{
    half *h = &k->encode;
    MD_TRY(md_graph_new(&h->g));
    h->in = md_input(h->g, "picture", MD_F32, 4, MD_DIMS(h->batch, size, size, c->in_channels));
    h->out = md_cast(vae_encode(nn_root(h->g, params, dtype), c, md_cast(h->in, dtype)), MD_F32);
    return half_build(h, k->be);
}

static md_status build_decoder(codec *k, const vae_config *c, nn_params *params, md_dtype dtype)
{
    half *h = &k->decode;
    MD_TRY(md_graph_new(&h->g));
    h->in = md_input(h->g, "latent", MD_F32, 4,
                     MD_DIMS(h->batch, k->edge, k->edge, c->latent_channels));
    h->out = md_cast(vae_decode(nn_root(h->g, params, dtype), c, md_cast(h->in, dtype)), MD_F32);
    return half_build(h, k->be);
}

static md_status setup(codec *k, const vae_config *c, nn_params *params, md_dtype dtype,
                       int64_t size)
{
    if (k->encode.batch)
        MD_TRY(build_encoder(k, c, params, dtype, size));
    if (k->decode.batch)
        MD_TRY(build_decoder(k, c, params, dtype));
    int64_t most = 1;
    for (int i = 0; i < 2; i++) {
        const half *h = i ? &k->decode : &k->encode;
        most = h->batch * h->in_numel > most ? h->batch * h->in_numel : most;
        most = h->batch * h->out_numel > most ? h->batch * h->out_numel : most;
    }
    k->in = malloc((size_t)most * sizeof *k->in);
    k->out = malloc((size_t)most * sizeof *k->out);
    if (!k->in || !k->out)
        MD_FAIL(MD_NOMEM, "VAE: out of memory");
    return MD_OK;
}

md_status codec_new(md_backend *be, const vae_config *c, nn_params *params, md_dtype dtype,
                    int size, int encode_batch, int decode_batch, codec **out)
{
    int f = vae_shrink(c);
    if (size < f || size % f)
        MD_FAIL(MD_USAGE, "pictures of %d pixels: this VAE needs a multiple of %d", size, f);
    codec *k = calloc(1, sizeof *k);
    if (!k)
        MD_FAIL(MD_NOMEM, "VAE: out of memory");
    k->be = be;
    k->encode.batch = encode_batch;
    k->decode.batch = decode_batch;
    k->edge = size / f;
    md_status status = setup(k, c, params, dtype, size);
    if (status != MD_OK) {
        codec_free(k);
        return status;
    }
    *out = k;
    return MD_OK;
}

void codec_free(codec *k)
{
    if (!k)
        return;
    half_free(&k->encode);
    half_free(&k->decode);
    free(k->in);
    free(k->out);
    free(k);
}

md_status codec_load(codec *k)
{
    if (k->encode.plan)
        MD_TRY(md_plan_load(k->encode.plan));
    return k->decode.plan ? md_plan_load(k->decode.plan) : MD_OK;
}

md_plan *codec_encode_plan(const codec *k)
{
    return k->encode.plan;
}

md_plan *codec_decode_plan(const codec *k)
{
    return k->decode.plan;
}

int64_t codec_edge(const codec *k)
{
    return k->edge;
}

/* Runs the staged batch; what lies behind `n` pictures is left from before and read by nobody. */
static md_status run(codec *k, half *h)
{
    MD_TRY(md_plan_write(h->plan, h->in, k->in, MD_F32, h->batch * h->in_numel));
    MD_TRY(md_plan_run(h->plan));
    return md_plan_read(h->plan, h->out, k->out, MD_F32, h->batch * h->out_numel);
}

/* rgb as the network sees it; hole (may be NULL): one value per pixel of C channels. */
static void normalize(const uint8_t *rgb, const uint8_t *hole, int64_t n, int64_t channels,
                      float *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = hole && hole[i / channels] ? 0 : (float)rgb[i] / 127.5F - 1.0F;
}

md_status codec_encode_holed(codec *k, const uint8_t *rgb, const uint8_t *hole, int64_t n,
                             float *moments)
{
    int64_t values = k->encode.in_numel, latent = k->encode.out_numel;
    int64_t channels = k->encode.in->dim[3], pixels = values / channels;
    memset(k->in, 0, (size_t)(k->encode.batch * values) * sizeof *k->in);
    for (int64_t at = 0; at < n; at += k->encode.batch) {
        int64_t m = n - at < k->encode.batch ? n - at : k->encode.batch;
        normalize(rgb + at * values, hole ? hole + at * pixels : NULL, m * values, channels, k->in);
        MD_TRY(run(k, &k->encode));
        memcpy(moments + at * latent, k->out, (size_t)(m * latent) * sizeof *moments);
    }
    return MD_OK;
}

md_status codec_encode(codec *k, const uint8_t *rgb, int64_t n, float *moments)
{
    return codec_encode_holed(k, rgb, NULL, n, moments);
}

md_status codec_decode(codec *k, const float *z, int64_t n, uint8_t *rgb)
{
    int64_t pixels = k->decode.out_numel, latent = k->decode.in_numel;
    memset(k->in, 0, (size_t)(k->decode.batch * latent) * sizeof *k->in);
    for (int64_t at = 0; at < n; at += k->decode.batch) {
        int64_t m = n - at < k->decode.batch ? n - at : k->decode.batch;
        memcpy(k->in, z + at * latent, (size_t)(m * latent) * sizeof *z);
        MD_TRY(run(k, &k->decode));
        for (int64_t i = 0; i < m * pixels; i++) {
            float v = k->out[i];
            if (!isfinite(v))
                MD_FAIL(MD_NONFINITE, "VAE: picture %lld decodes to a value that is not finite",
                        (long long)(at + i / pixels));
            v = (v + 1.0F) * 127.5F;
            rgb[at * pixels + i] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : lrintf(v));
        }
    }
    return MD_OK;
}

md_status codec_text(md_backend *be, const clip_text_config *c, nn_params *params, md_dtype dtype,
                     const int32_t *ids, int64_t n, int64_t tokens, float *context)
{
    half h = {.batch = n};
    MD_TRY(md_graph_new(&h.g));
    h.in = md_input(h.g, "ids", MD_I32, 2, MD_DIMS(n, tokens));
    h.out = md_cast(clip_text(nn_root(h.g, params, dtype), c, h.in), MD_F32);
    md_status status = half_build(&h, be);
    if (status == MD_OK)
        status = md_plan_load(h.plan);
    if (status == MD_OK)
        status = md_plan_write(h.plan, h.in, ids, MD_I32, n * tokens);
    if (status == MD_OK)
        status = md_plan_run(h.plan);
    if (status == MD_OK)
        status = md_plan_read(h.plan, h.out, context, MD_F32, n * h.out_numel);
    half_free(&h);
    return status;
}
