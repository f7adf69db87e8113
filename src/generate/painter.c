#include "generate/painter.h"
#include "base/rng.h"
#include "generate/guide.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct painter {
    const foundation *f;
    md_backend *be;
    painter_options o;
    codec *codec;
    const diffusion_guidance *guidance;
    int64_t edge, channels, latent; /* latent = edge^2 channels */
    sampler_place *course;          /* [evaluations] */
    int evaluations;
    md_rng *rng; /* [batch]: each picture's stream of step noise */

    md_buffer x;    /* [batch,h,w,C]: the latents on their way */
    md_buffer past; /* [sampler's past, batch,h,w,C]: what a multistep sampler remembers */
    md_graph *g;
    md_plan *plan;
    md_tensor *t, *context, *scale, *noise, *map, *clean, *mask, *coef, *blend_coef;
    md_tensor *hole, *masked; /* what a UNet of 9 channels sees: where it paints, and in what */
    float *host;              /* staging, [batch, latent] */
    float *drawn; /* the next step's noise, [batch, latent]; NULL where none is wanted */
    float *guide, *feather, *mask_now; /* [batch,edge,edge] */
};

/* What the UNet sees: the latents once per guidance copy; with 9 channels mask and masked latent
 * too. */
static md_tensor *unet_input(painter *p, md_tensor *x)
{
    md_tensor *seen = guidance_repeat(p->guidance, x);
    if (!p->masked)
        return seen;
    md_tensor *parts[] = {seen, guidance_repeat(p->guidance, p->hole),
                          guidance_repeat(p->guidance, p->masked)};
    return md_concat(parts, 3, 3);
}

static void declare_inputs(painter *p)
{
    const unet_config *u = p->f->unet;
    int64_t n = p->o.batch, e = p->edge, c = p->channels, k = p->guidance->copies;
    int64_t tokens = format_tokenizer_length(p->f->tokenizer);
    md_graph *g = p->g;
    p->t = md_input(g, "t", MD_F32, 1, MD_DIMS(k * n));
    p->context = md_input(g, "context", MD_F32, 3, MD_DIMS(k * n, tokens, u->cross_attention_dim));
    p->scale = md_input(g, "guidance", MD_F32, 1, MD_DIMS(1));
    p->noise = md_input(g, "noise", MD_F32, 4, MD_DIMS(n, e, e, c));
    p->map = md_input(g, "noise map", MD_F32, 4, MD_DIMS(n, e, e, c));
    p->clean = md_input(g, "background", MD_F32, 4, MD_DIMS(n, e, e, c));
    p->mask = md_input(g, "mask", MD_F32, 4, MD_DIMS(n, e, e, 1));
    p->coef = md_input(g, "sampler", MD_F32, 1, MD_DIMS(SAMPLER_N_COEF));
    p->blend_coef = md_input(g, "blend", MD_F32, 1, MD_DIMS(BLEND_N_COEF));
    if (u->in_channels == 2 * c + 1) {
        p->hole = md_input(g, "hole", MD_F32, 4, MD_DIMS(n, e, e, 1));
        p->masked = md_input(g, "masked background", MD_F32, 4, MD_DIMS(n, e, e, c));
    }
}

/* One sampling step, x and past updated in place. */
static md_status build_step(painter *p)
{
    int64_t n = p->o.batch, e = p->edge, c = p->channels, remembered = p->o.sampler->past;
    MD_TRY(md_graph_new(&p->g));
    declare_inputs(p);
    md_tensor *x = md_extern(p->g, &p->x, 0, 4, MD_DIMS(n, e, e, c)), *out[2];
    nn m = nn_root(p->g, p->f->params[MODEL_UNET], p->o.dtype);
    md_tensor *answer = unet(m, p->f->unet, md_cast(unet_input(p, x), p->o.dtype), p->t,
                             md_cast(p->context, p->o.dtype));
    blend_inputs in = {.x = x,
                       .pred = p->guidance->combine(md_cast(answer, MD_F32), p->scale),
                       .noise = p->noise,
                       .map = p->map,
                       .clean = p->clean,
                       .mask = p->mask,
                       .coef = p->coef,
                       .blend_coef = p->blend_coef,
                       .eta = p->o.eta};
    if (remembered)
        in.past = md_extern(p->g, &p->past, 0, 4, MD_DIMS(remembered * n, e, e, c));
    md_tensor *next = blend_step(p->o.blend, p->o.sampler, &in, p->f->schedule.clip, &out[1]);
    out[0] = md_write(x, next);
    return md_plan_build(p->g, p->be, out, remembered ? 2 : 1, &p->plan);
}

static md_status load_plans(painter *p)
{
    MD_TRY(codec_load(p->codec));
    MD_TRY(md_buffer_alloc(p->be, &p->x));
    if (p->past.numel)
        MD_TRY(md_buffer_alloc(p->be, &p->past));
    return md_plan_load(p->plan);
}

/* Embeddings of "" and of the prompt, repeated over the batch in guidance's order. The text encoder
   runs first and gives its memory back. */
md_status painter_load(painter *p)
{
    int64_t t = format_tokenizer_length(p->f->tokenizer), n = p->o.batch;
    int64_t one = t * p->f->text->hidden_size, k = p->guidance->copies;
    int32_t *ids = malloc((size_t)(2 * t) * sizeof *ids);
    float *both = malloc((size_t)(2 * one) * sizeof *both);
    float *all = malloc((size_t)(k * n * one) * sizeof *all);
    md_status status = MD_OK;
    if (!ids || !both || !all) {
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "generate: out of memory");
        goto done;
    }
    MD_TRY_GOTO(format_tokenizer_encode(p->f->tokenizer, "", ids, NULL, NULL), done);
    MD_TRY_GOTO(format_tokenizer_encode(p->f->tokenizer, p->o.prompt, ids + t, NULL, NULL), done);
    MD_TRY_GOTO(codec_text(p->be, p->f->text, p->f->params[MODEL_TEXT_ENCODER], p->o.dtype, ids, 2,
                           t, both),
                done);
    MD_TRY_GOTO(load_plans(p), done);
    for (int64_t i = 0; i < k * n; i++)
        memcpy(all + i * one, k == 2 && i < n ? both : both + one, (size_t)one * sizeof *all);
    MD_TRY_GOTO(md_plan_write(p->plan, p->context, all, MD_F32, k * n * one), done);
    status = md_plan_write(p->plan, p->scale, &p->o.guidance, MD_F64, 1);
done:
    free(ids);
    free(both);
    free(all);
    return status;
}

static md_status alloc_host(painter *p)
{
    size_t n = (size_t)p->o.batch, px = (size_t)(p->edge * p->edge);
    p->course = malloc((size_t)p->evaluations * sizeof *p->course);
    p->rng = malloc(n * sizeof *p->rng);
    p->host = calloc(n * (size_t)p->latent, sizeof *p->host);
    p->guide = calloc(n * px, sizeof *p->guide);
    p->feather = calloc(n * px, sizeof *p->feather);
    p->mask_now = calloc(n * px, sizeof *p->mask_now);
    bool noise = blend_wants_noise(p->o.blend, p->o.sampler, p->o.eta);
    if (noise)
        p->drawn = calloc(n * (size_t)p->latent, sizeof *p->drawn);
    if ((noise && !p->drawn) || !p->course || !p->rng || !p->host || !p->guide || !p->feather ||
        !p->mask_now)
        MD_FAIL(MD_NOMEM, "generate: out of memory");
    return MD_OK;
}

static md_status check_blend(const foundation *f, const painter_options *o)
{
    int c = f->vae->latent_channels, in = f->unet->in_channels;
    if (in != c && in != 2 * c + 1)
        MD_FAIL(MD_USAGE, "this UNet takes %d channels; %d or %d are known", in, c, 2 * c + 1);
    if (in == c && !o->blend->active)
        MD_FAIL(MD_USAGE,
                "guide.blend = \"none\" needs an inpainting UNet of %d channels, this one has %d",
                2 * c + 1, in);
    if (o->motion != BLEND_STATIC && !(o->feather > 0))
        MD_FAIL(MD_USAGE, "guide.dynamic thresholds a feathered guide: set guide.feather to the "
                          "latent pixels over which it rises, or guide.dynamic = \"off\"");
    if (!o->blend->active && o->feather > 0)
        MD_FAIL(MD_USAGE,
                "guide.blend = \"none\" blends nothing: guide.feather and guide.dynamic "
                "would have no effect; set guide.feather = 0 and guide.dynamic = \"off\"");
    return MD_OK;
}

/* The folder's own sampler, where none was chosen. */
static md_status choose_sampler(const foundation *f, painter_options *o)
{
    const diffusion_schedule *s = &f->schedule;
    if (!o->sampler && !*s->refused)
        o->sampler = sampler_find(s->sampler);
    if (!o->sampler)
        MD_FAIL(
            MD_USAGE,
            "%s/scheduler/scheduler_config.json: %s is not supported; choose another sampler by "
            "generate.sampler = \"ddim\", \"ddpm\", \"pndm\", \"dpm++\" or \"euler\"",
            f->path, *s->refused ? s->refused : "this class");
    return MD_OK;
}

md_status painter_check(const foundation *f, painter_options *o)
{
    MD_TRY(check_blend(f, o));
    MD_TRY(choose_sampler(f, o));
    if (o->strength > 0 && o->strength < 1 && o->sampler->extra)
        MD_FAIL(MD_USAGE, "%s cannot start in the middle", o->sampler->name);
    sampler_place *course =
        malloc((size_t)sampler_evaluations(o->sampler, o->steps) * sizeof *course);
    if (!course)
        MD_FAIL(MD_NOMEM, "generate: out of memory");
    md_status status = sampler_course(o->sampler, &f->schedule, o->steps, o->eta, course);
    free(course);
    return status;
}

/* The first evaluations are left out; those that stay count from 0, so that a multistep sampler
   knows that it remembers nothing yet. */
static void start_later(painter *p)
{
    int kept = (int)lrint(p->o.strength * p->evaluations);
    kept = kept < 1 ? 1 : kept;
    memmove(p->course, p->course + p->evaluations - kept, (size_t)kept * sizeof *p->course);
    p->evaluations = kept;
    for (int i = 0; i < kept; i++) {
        p->course[i].index = i;
        p->course[i].count = kept;
    }
}

static md_status setup(painter *p)
{
    MD_TRY(painter_check(p->f, &p->o));
    p->evaluations = sampler_evaluations(p->o.sampler, p->o.steps);
    MD_TRY(codec_new(p->be, p->f->vae, p->f->params[MODEL_VAE], p->o.dtype, p->o.size, 1,
                     p->o.batch, &p->codec));
    p->edge = codec_edge(p->codec);
    p->channels = p->f->vae->latent_channels;
    p->latent = p->edge * p->edge * p->channels;
    if (p->edge % unet_multiple(p->f->unet))
        MD_FAIL(MD_USAGE, "pictures of %d pixels: this UNet needs latents of a multiple of %d",
                p->o.size, unet_multiple(p->f->unet));
    MD_TRY(alloc_host(p));
    MD_TRY(sampler_course(p->o.sampler, &p->f->schedule, p->o.steps, p->o.eta, p->course));
    if (p->o.strength > 0 && p->o.strength < 1)
        start_later(p);
    md_buffer_init(&p->x, "latents", MD_F32, p->o.batch * p->latent);
    md_buffer_init(&p->past, "sampler's past", MD_F32, p->o.sampler->past * p->o.batch * p->latent);
    return build_step(p);
}

md_status painter_new(const foundation *f, md_backend *be, const painter_options *o, painter **out)
{
    painter *p = calloc(1, sizeof *p);
    if (!p)
        MD_FAIL(MD_NOMEM, "generate: out of memory");
    p->f = f;
    p->be = be;
    p->o = *o;
    p->guidance = guidance_for(o->guidance);
    md_status status = setup(p);
    if (status != MD_OK) {
        painter_free(p);
        return status;
    }
    *out = p;
    return MD_OK;
}

void painter_free(painter *p)
{
    if (!p)
        return;
    md_plan_free(p->plan);
    md_graph_free(p->g);
    md_buffer_release(p->be, &p->x);
    md_buffer_release(p->be, &p->past);
    codec_free(p->codec);
    free(p->course);
    free(p->rng);
    free(p->host);
    free(p->guide);
    free(p->feather);
    free(p->mask_now);
    free(p->drawn);
    free(p);
}

int64_t painter_moments(const painter *p)
{
    return 2 * p->latent;
}

const codec *painter_codec(const painter *p)
{
    return p->codec;
}

md_plan *painter_step_plan(const painter *p)
{
    return p->plan;
}

const diffusion_sampler *painter_sampler(const painter *p)
{
    return p->o.sampler;
}

int painter_evaluations(const painter *p)
{
    return p->evaluations;
}

size_t painter_bytes(const painter *p)
{
    size_t weights = 0;
    for (int i = 0; i < MODEL_N_PARTS; i++)
        weights += nn_params_bytes(p->f->params[i], p->be);
    return weights + (size_t)(p->x.numel + p->past.numel) * p->be->ops->elem_bytes(MD_F32) +
           md_plan_memory(p->plan).total + md_plan_memory(codec_encode_plan(p->codec)).total +
           md_plan_memory(codec_decode_plan(p->codec)).total;
}

md_status painter_fits(const painter *p, size_t budget)
{
    if (budget && painter_bytes(p) > budget)
        MD_FAIL(MD_NOMEM,
                "painting %d pictures together needs %.1f MiB, there are %.1f MiB: raise "
                "memory.budget, or lower generate.batch or data.size",
                p->o.batch, (double)painter_bytes(p) / 1048576, (double)budget / 1048576);
    return MD_OK;
}

md_status painter_encode(painter *p, const uint8_t *rgb, float *moments)
{
    return codec_encode(p->codec, rgb, 1, moments);
}

md_status painter_decode(painter *p, const float *moments, uint8_t *rgb)
{
    for (int64_t i = 0; i < p->latent; i++) /* [pixels,2C] -> [pixels,C] */
        p->host[i] = moments[i / p->channels * 2 * p->channels + i % p->channels];
    return codec_decode(p->codec, p->host, 1, rgb);
}

/* The stream of a picture's draws for one purpose. */
static md_rng stream(const painter *p, md_purpose what, const painter_item *it)
{
    return p->o.same_noise ? md_rng_at(p->o.seed, what, 0, 0)
                           : md_rng_at(p->o.seed, what, (uint64_t)it->slot, it->attempt);
}

/* moments [pixels,2C] -> out [pixels,C], scaled: the mean, or with sample_posterior a draw. */
static void take_latent(const painter *p, const float *moments, md_rng r, float *out)
{
    int64_t c = p->channels;
    if (p->o.sample_posterior)
        md_rng_normal_fill(&r, out, p->latent);
    for (int64_t i = 0; i < p->latent; i++) {
        const float *mom = moments + i / c * 2 * c + i % c;
        double std = p->o.sample_posterior ? vae_deviation((double)mom[c]) : 0;
        double e = p->o.sample_posterior ? (double)out[i] : 0;
        out[i] = (float)(p->f->vae->scaling_factor * ((double)mom[0] + std * e));
    }
}

/* The latents of the backgrounds with mid-gray where the guide is. */
static md_status write_masked(painter *p, const painter_item *items, int n)
{
    float *moments = malloc((size_t)painter_moments(p) * sizeof *moments);
    if (!moments)
        MD_FAIL(MD_NOMEM, "generate: out of memory");
    md_status status = MD_OK;
    for (int i = 0; i < n && status == MD_OK; i++) {
        status = codec_encode_holed(p->codec, items[i].background, items[i].guide->px, 1, moments);
        if (status == MD_OK)
            take_latent(p, moments, stream(p, MD_RNG_MASKED_POSTERIOR, &items[i]),
                        p->host + i * p->latent);
    }
    free(moments);
    if (status == MD_OK)
        status = md_plan_write(p->plan, p->masked, p->host, MD_F32, p->o.batch * p->latent);
    return status;
}

/* What a painting that starts later starts with: host holds the clean latents. */
static md_status write_noised(painter *p, const painter_item *items, int n)
{
    double a = p->course[0].a_t;
    float *noise = malloc((size_t)p->latent * sizeof *noise);
    if (!noise)
        MD_FAIL(MD_NOMEM, "generate: out of memory");
    for (int i = 0; i < n; i++) {
        md_rng r = stream(p, MD_RNG_SAMPLE_NOISE, &items[i]);
        md_rng_normal_fill(&r, noise, p->latent);
        for (int64_t k = 0; k < p->latent; k++)
            p->host[i * p->latent + k] = (float)(sqrt(a) * (double)p->host[i * p->latent + k] +
                                                 sqrt(1 - a) * (double)noise[k]);
    }
    free(noise);
    return md_buffer_write(p->be, &p->x, 0, p->host, MD_F32, p->o.batch * p->latent);
}

/* Everything that stays over the steps: start noise, masks, background latents; and no past. Host
   arrays come in zeroed, so that the places without an item are, too. */
static md_status write_items(painter *p, const painter_item *items, int n)
{
    int64_t px = p->edge * p->edge, all = p->o.batch * p->latent;
    double start = sampler_start(p->o.sampler, &p->f->schedule, p->course);
    for (int64_t at = 0; at < p->past.numel; at += all)
        MD_TRY(md_buffer_write(p->be, &p->past, at, p->host, MD_F32, all));
    for (int i = 0; i < n; i++) {
        const painter_item *it = &items[i];
        md_rng r = stream(p, MD_RNG_SAMPLE_NOISE, it);
        md_rng_normal_fill(&r, p->host + i * p->latent, p->latent);
        p->rng[i] = stream(p, MD_RNG_STEP_NOISE, it);
        MD_TRY(guide_pool(it->guide, p->edge, p->o.pool, p->o.grow, p->guide + i * px));
        MD_TRY(guide_feather(p->guide + i * px, p->edge, p->o.feather, p->feather + i * px));
    }
    MD_TRY(md_plan_write(p->plan, p->map, p->host, MD_F32, all));
    for (int64_t i = 0; i < all && start != 1; i++)
        p->host[i] *= (float)start;
    MD_TRY(md_buffer_write(p->be, &p->x, 0, p->host, MD_F32, all));
    for (int i = 0; i < n; i++)
        take_latent(p, items[i].moments, stream(p, MD_RNG_SAMPLE_POSTERIOR, &items[i]),
                    p->host + i * p->latent);
    MD_TRY(md_plan_write(p->plan, p->clean, p->host, MD_F32, all));
    if (p->o.strength > 0 && p->o.strength < 1)
        MD_TRY(write_noised(p, items, n));
    if (!p->masked)
        return MD_OK;
    MD_TRY(md_plan_write(p->plan, p->hole, p->guide, MD_F32, p->o.batch * px));
    return write_masked(p, items, n);
}

static md_status write_step(painter *p, int index)
{
    const sampler_place *at = &p->course[index];
    double coef[SAMPLER_N_COEF], blend_coef[BLEND_N_COEF];
    sampler_coefficients(p->o.sampler, &p->f->schedule, at, coef);
    blend_coefficients(p->o.blend, at, blend_coef);
    MD_TRY(md_plan_write(p->plan, p->coef, coef, MD_F64, SAMPLER_N_COEF));
    MD_TRY(md_plan_write(p->plan, p->blend_coef, blend_coef, MD_F64, BLEND_N_COEF));

    int64_t copies = p->guidance->copies * p->o.batch, px = p->edge * p->edge;
    for (int64_t i = 0; i < copies; i++)
        p->host[i] = (float)at->t; /* latents are larger than the batch: it fits */
    MD_TRY(md_plan_write(p->plan, p->t, p->host, MD_F32, copies));
    blend_mask_at(p->o.motion, p->guide, p->feather, p->o.batch * px,
                  blend_level(at, p->f->schedule.train_steps, p->o.settled), p->mask_now);
    MD_TRY(md_plan_write(p->plan, p->mask, p->mask_now, MD_F32, p->o.batch * px));
    if (!p->drawn)
        return MD_OK;
    return md_plan_write(p->plan, p->noise, p->drawn, MD_F32, p->o.batch * p->latent);
}

/* The next step's noise. */
static void draw_step(painter *p, int n)
{
    for (int i = 0; i < n && p->drawn; i++)
        md_rng_normal_fill(&p->rng[i], p->drawn + i * p->latent, p->latent);
}

/* Latents to pictures; one that is not finite is marked and decoded as zeros. */
static md_status decode(painter *p, int n, uint8_t *rgb, bool *finite)
{
    MD_TRY(md_buffer_read(p->be, &p->x, 0, p->host, MD_F32, n * p->latent));
    for (int i = 0; i < n; i++) {
        float *z = p->host + i * p->latent;
        finite[i] = true;
        for (int64_t k = 0; k < p->latent; k++) {
            finite[i] = finite[i] && isfinite(z[k]);
            z[k] /= (float)p->f->vae->scaling_factor;
        }
        if (!finite[i])
            memset(z, 0, (size_t)p->latent * sizeof *z);
    }
    return codec_decode(p->codec, p->host, n, rgb);
}

md_status painter_latents(painter *p, float *out)
{
    return md_buffer_read(p->be, &p->x, 0, out, MD_F32, p->o.batch * p->latent);
}

md_status painter_paint(painter *p, const painter_item *items, int n, md_status (*beat)(void *user),
                        void *user, uint8_t *rgb, bool *finite)
{
    memset(p->host, 0, (size_t)(p->o.batch * p->latent) * sizeof *p->host);
    MD_TRY(write_items(p, items, n));
    draw_step(p, n);
    for (int i = 0; i < p->evaluations; i++) {
        MD_TRY(write_step(p, i));
        MD_TRY(md_plan_run(p->plan));
        if (i + 1 < p->evaluations)
            draw_step(p, n); /* while the device computes */
        if (beat)
            MD_TRY(beat(user));
    }
    return decode(p, n, rgb, finite);
}
