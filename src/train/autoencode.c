#include "train/autoencode.h"
#include "base/rng.h"
#include "image/procedural.h"
#include <stdlib.h>

static int64_t latent_numel(const autoencode *a)
{
    int64_t edge = a->crop / vae_shrink(a->config);
    return edge * edge * a->config->latent_channels;
}

static md_tensor *build(void *user, md_graph *g, int64_t n)
{
    autoencode *a = user;
    const vae_config *c = a->config;
    int64_t s = a->crop, l = s / vae_shrink(c);
    a->image = md_input(g, "image", MD_F32, 4, MD_DIMS(n, s, s, c->in_channels));
    a->noise = md_input(g, "noise", MD_F32, 4, MD_DIMS(n, l, l, c->latent_channels));
    a->weight = md_input(g, "weight", MD_F32, 4, MD_DIMS(n, 1, 1, 1));

    nn m = nn_root(g, a->params, a->dtype);
    md_tensor *moments = md_cast(vae_encode(m, c, md_cast(a->image, a->dtype)), MD_F32);
    md_tensor *z = vae_sample(moments, a->noise);
    md_tensor *seen = md_cast(vae_decode(m, c, md_cast(z, a->dtype)), MD_F32);

    md_tensor *d = md_sub(seen, a->image);
    md_tensor *per_sample = md_sum_to(md_mul(d, d), 4, MD_DIMS(n, 1, 1, 1));
    per_sample = md_scale(per_sample, 1.0 / (double)(s * s * c->out_channels)); /* [n,1,1,1] */
    per_sample = md_activation(md_affine(per_sample, 1, 1e-5), MD_ACT_LOG);
    per_sample = md_add(per_sample, md_scale(vae_kl(moments), a->kl));
    return md_sum(md_mul(per_sample, a->weight));
}

/* One picture's square as [-1,1] floats. */
static void draw(const autoencode *a, uint64_t item, uint8_t *rgb, float *out)
{
    enum { SIZE = PROCEDURAL_MAX_SIZE };
    char caption[PROCEDURAL_CAPTION];
    procedural_draw(a->seed, item, SIZE, rgb, caption);
    md_rng r = md_rng_at(a->seed, MD_RNG_TRAIN_AUGMENT, item, 0);
    int64_t y0 = md_rng_below(&r, SIZE - a->crop + 1), x0 = md_rng_below(&r, SIZE - a->crop + 1);
    for (int64_t y = 0; y < a->crop; y++)
        for (int64_t x = 0; x < 3 * a->crop; x++)
            *out++ = (float)rgb[((y0 + y) * SIZE + x0) * 3 + x] / 127.5F - 1.0F;
}

static md_status fill(void *user, md_plan *plan, int64_t step, int64_t first, int64_t n)
{
    autoencode *a = user;
    int64_t pixels = (int64_t)a->crop * a->crop * 3, latent = latent_numel(a);
    uint8_t *rgb = malloc((size_t)PROCEDURAL_MAX_SIZE * PROCEDURAL_MAX_SIZE * 3);
    float *image = malloc((size_t)(n * pixels) * sizeof *image);
    float *noise = malloc((size_t)(n * latent) * sizeof *noise);
    float *weight = malloc((size_t)n * sizeof *weight);
    md_status status = MD_OK;
    if (!rgb || !image || !noise || !weight) {
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "VAE training: out of memory");
        goto done;
    }
    for (int64_t i = 0; i < n; i++) {
        uint64_t item = (uint64_t)(step * a->batch + first + i);
        weight[i] = first + i < a->batch ? 1.0F / (float)a->batch : 0.0F;
        draw(a, item, rgb, image + i * pixels);
        md_rng r = md_rng_at(a->seed, MD_RNG_POSTERIOR, item, 0);
        md_rng_normal_fill(&r, noise + i * latent, latent);
    }
    MD_TRY_GOTO(md_plan_write(plan, a->image, image, MD_F32, n * pixels), done);
    MD_TRY_GOTO(md_plan_write(plan, a->noise, noise, MD_F32, n * latent), done);
    MD_TRY_GOTO(md_plan_write(plan, a->weight, weight, MD_F32, n), done);
done:
    free(rgb);
    free(image);
    free(noise);
    free(weight);
    return status;
}

train_task autoencode_task(autoencode *a)
{
    return (train_task){.user = a, .build = build, .fill = fill};
}
