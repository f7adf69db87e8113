#include "model/codec.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One direction: a graph with one input and one output, both [batch,...]. */
typedef struct half {
    md_graph *g;
    md_plan *plan;
    md_tensor *in, *out;
    int64_t in_numel, out_numel; /* per picture */
} half;

struct codec {
    md_backend *be;
    half encode, decode;
    int size, batch;
    int64_t edge;
    float *in, *out; /* staging for one batch */
};

static void half_free(half *h)
{
    md_plan_free(h->plan);
    md_graph_free(h->g);
}

static md_status half_load(half *h, md_backend *be, int64_t batch)
{
    MD_TRY(md_graph_check(h->g));
    h->in_numel = md_numel(h->in) / batch;
    h->out_numel = md_numel(h->out) / batch;
    MD_TRY(md_plan_build(h->g, be, &h->out, 1, &h->plan));
    return md_plan_load(h->plan);
}

static md_status setup(codec *k, const vae_config *c, nn_params *params, md_dtype dtype)
{
    int64_t n = k->batch, s = k->size, e = k->edge;
    MD_TRY(md_graph_new(&k->encode.g));
    MD_TRY(md_graph_new(&k->decode.g));
    k->encode.in = md_input(k->encode.g, "picture", MD_F32, 4, MD_DIMS(n, s, s, c->in_channels));
    k->decode.in = md_input(k->decode.g, "latent", MD_F32, 4, MD_DIMS(n, e, e, c->latent_channels));
    k->encode.out = md_cast(
        vae_encode(nn_root(k->encode.g, params, dtype), c, md_cast(k->encode.in, dtype)), MD_F32);
    k->decode.out = md_cast(
        vae_decode(nn_root(k->decode.g, params, dtype), c, md_cast(k->decode.in, dtype)), MD_F32);
    MD_TRY(half_load(&k->encode, k->be, n));
    MD_TRY(half_load(&k->decode, k->be, n));
    int64_t pixels = k->encode.in_numel, latent = k->encode.out_numel;
    int64_t most = n * (pixels > latent ? pixels : latent);
    k->in = malloc((size_t)most * sizeof *k->in);
    k->out = malloc((size_t)most * sizeof *k->out);
    if (!k->in || !k->out)
        MD_FAIL(MD_NOMEM, "VAE: out of memory");
    return MD_OK;
}

md_status codec_new(md_backend *be, const vae_config *c, nn_params *params, md_dtype dtype,
                    int size, int batch, codec **out)
{
    int f = vae_shrink(c);
    if (size < f || size % f || batch < 1)
        MD_FAIL(MD_USAGE, "pictures of %d pixels: this VAE needs a multiple of %d", size, f);
    codec *k = calloc(1, sizeof *k);
    if (!k)
        MD_FAIL(MD_NOMEM, "VAE: out of memory");
    k->be = be;
    k->size = size;
    k->batch = batch;
    k->edge = size / f;
    md_status status = setup(k, c, params, dtype);
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

int64_t codec_edge(const codec *k)
{
    return k->edge;
}

/* Runs the staged batch; what lies behind `n` pictures is left from before and read by nobody. */
static md_status run(codec *k, half *h)
{
    MD_TRY(md_plan_write(h->plan, h->in, k->in, MD_F32, k->batch * h->in_numel));
    MD_TRY(md_plan_run(h->plan));
    return md_plan_read(h->plan, h->out, k->out, MD_F32, k->batch * h->out_numel);
}

md_status codec_encode(codec *k, const uint8_t *rgb, int64_t n, float *moments)
{
    int64_t pixels = k->encode.in_numel, latent = k->encode.out_numel;
    memset(k->in, 0, (size_t)(k->batch * pixels) * sizeof *k->in);
    for (int64_t at = 0; at < n; at += k->batch) {
        int64_t m = n - at < k->batch ? n - at : k->batch;
        for (int64_t i = 0; i < m * pixels; i++)
            k->in[i] = (float)rgb[at * pixels + i] / 127.5F - 1.0F;
        MD_TRY(run(k, &k->encode));
        memcpy(moments + at * latent, k->out, (size_t)(m * latent) * sizeof *moments);
    }
    return MD_OK;
}

md_status codec_decode(codec *k, const float *z, int64_t n, uint8_t *rgb)
{
    int64_t pixels = k->decode.out_numel, latent = k->decode.in_numel;
    memset(k->in, 0, (size_t)(k->batch * latent) * sizeof *k->in);
    for (int64_t at = 0; at < n; at += k->batch) {
        int64_t m = n - at < k->batch ? n - at : k->batch;
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
    half h = {0};
    MD_TRY(md_graph_new(&h.g));
    h.in = md_input(h.g, "ids", MD_I32, 2, MD_DIMS(n, tokens));
    h.out = md_cast(clip_text(nn_root(h.g, params, dtype), c, h.in), MD_F32);
    md_status status = half_load(&h, be, n);
    if (status == MD_OK)
        status = md_plan_write(h.plan, h.in, ids, MD_I32, n * tokens);
    if (status == MD_OK)
        status = md_plan_run(h.plan);
    if (status == MD_OK)
        status = md_plan_read(h.plan, h.out, context, MD_F32, n * h.out_numel);
    half_free(&h);
    return status;
}
