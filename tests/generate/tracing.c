#include "tracing.h"
#include "backend/cpu/cpu.h"
#include "base/rng.h"
#include "format/safetensors.h"
#include <stdlib.h>
#include <string.h>

enum { SEED = 5, SLOT = 3, ATTEMPT = 1 };

typedef struct easel {
    md_backend *be;
    foundation *f;
    painter *p;
    trace *t;
    int beats;
} easel;

/* A rectangle whose edges lie on eighths of the picture, and a picture with some structure. */
static md_status draw(trace *t)
{
    int s = t->size;
    MD_TRY(image_new(&t->guide, s, s, 1));
    for (int i = 0; i < s * s; i++) {
        int x = i % s, y = i / s;
        t->guide.px[i] = 8 * x >= 2 * s && 8 * x < 5 * s && 8 * y >= 3 * s && 8 * y < 6 * s;
        for (int c = 0; c < 3; c++)
            t->background[3 * i + c] =
                (uint8_t)((160 * x / s + 70 * y / s + 20 * c + x * y % 7) % 256);
    }
    return MD_OK;
}

static md_status alloc(easel *e)
{
    trace *t = e->t;
    t->latent = painter_moments(e->p) / 2;
    t->edge = codec_edge(painter_codec(e->p));
    t->channels = t->latent / (t->edge * t->edge);
    t->evaluations = painter_evaluations(e->p);
    size_t pixels = (size_t)t->size * (size_t)t->size, n = (size_t)t->latent;
    t->background = malloc(3 * pixels);
    t->rgb = malloc(3 * pixels);
    t->noise = malloc(n * sizeof(float));
    t->steps = malloc((size_t)t->evaluations * n * sizeof(float));
    t->latents = malloc((size_t)t->evaluations * n * sizeof(float));
    if (!t->background || !t->rgb || !t->noise || !t->steps || !t->latents)
        MD_FAIL(MD_NOMEM, "trace: out of memory");
    return MD_OK;
}

/* The numbers that the painter draws for this slot. */
static void draw_noise(trace *t)
{
    md_rng r = md_rng_at(SEED, MD_RNG_SAMPLE_NOISE, SLOT, ATTEMPT);
    md_rng_normal_fill(&r, t->noise, t->latent);
    r = md_rng_at(SEED, MD_RNG_STEP_NOISE, SLOT, ATTEMPT);
    for (int i = 0; i < t->evaluations; i++)
        md_rng_normal_fill(&r, t->steps + i * t->latent, t->latent);
}

static md_status beat(void *user)
{
    easel *e = user;
    return painter_latents(e->p, e->t->latents + e->beats++ * e->t->latent);
}

static md_status paint(easel *e, const char *folder, const char *sampler, int steps)
{
    trace *t = e->t;
    bool finite;
    MD_TRY(cpu_backend_open(&e->be, 1));
    MD_TRY(foundation_open(folder, &e->f));
    for (int i = 0; i < MODEL_N_PARTS; i++)
        MD_TRY(foundation_load(e->f, (model_part)i, e->be));
    bool inpainting = e->f->unet->in_channels > e->f->vae->latent_channels;
    painter_options o = {.size = t->size,
                         .batch = 1,
                         .prompt = "an image of hta",
                         .guidance = 7.5,
                         .sampler = sampler ? sampler_find(sampler) : NULL,
                         .steps = steps,
                         .blend = blend_find(inpainting ? "none" : "renoise"),
                         .seed = SEED,
                         .dtype = MD_F32};
    MD_TRY(painter_new(e->f, e->be, &o, &e->p));
    MD_TRY(painter_load(e->p));
    MD_TRY(alloc(e));
    MD_TRY(draw(t));
    draw_noise(t);
    float *moments = malloc((size_t)painter_moments(e->p) * sizeof *moments);
    if (!moments)
        MD_FAIL(MD_NOMEM, "trace: out of memory");
    painter_item item = {SLOT, ATTEMPT, &t->guide, t->background, moments};
    md_status status = painter_encode(e->p, t->background, moments);
    if (status == MD_OK)
        status = painter_paint(e->p, &item, 1, beat, e, t->rgb, &finite);
    free(moments);
    MD_TRY(status);
    if (!finite)
        MD_FAIL(MD_NONFINITE, "trace: the latent is not finite");
    return MD_OK;
}

md_status trace_paint(const char *folder, const char *sampler, int steps, int size, trace *out)
{
    easel e = {.t = out};
    *out = (trace){.size = size};
    md_status status = paint(&e, folder, sampler, steps);
    painter_free(e.p);
    foundation_free(e.f, e.be);
    if (e.be)
        e.be->ops->close(e.be);
    return status;
}

static md_status put_bytes(format_writer *w, const uint8_t *bytes, int64_t n)
{
    float *v = malloc((size_t)n * sizeof *v);
    if (!v)
        MD_FAIL(MD_NOMEM, "trace: out of memory");
    for (int64_t i = 0; i < n; i++)
        v[i] = bytes[i];
    md_status status = format_writer_put(w, v, n);
    free(v);
    return status;
}

static md_status put_all(const trace *t, format_writer *w)
{
    int64_t s = t->size, e = t->edge, c = t->channels, n = t->evaluations;
    const int64_t rgb[] = {s, s, 3}, mask[] = {s, s}, one[] = {e, e, c}, many[] = {n, e, e, c};
    MD_TRY(format_writer_declare(w, "background", FORMAT_F32, 3, rgb));
    MD_TRY(format_writer_declare(w, "guide", FORMAT_F32, 2, mask));
    MD_TRY(format_writer_declare(w, "rgb", FORMAT_F32, 3, rgb));
    MD_TRY(format_writer_declare(w, "noise", FORMAT_F32, 3, one));
    MD_TRY(format_writer_declare(w, "steps", FORMAT_F32, 4, many));
    MD_TRY(format_writer_declare(w, "latents", FORMAT_F32, 4, many));
    MD_TRY(put_bytes(w, t->background, 3 * s * s));
    MD_TRY(put_bytes(w, t->guide.px, s * s));
    MD_TRY(put_bytes(w, t->rgb, 3 * s * s));
    MD_TRY(format_writer_put(w, t->noise, t->latent));
    MD_TRY(format_writer_put(w, t->steps, n * t->latent));
    MD_TRY(format_writer_put(w, t->latents, n * t->latent));
    return format_writer_finish(w);
}

md_status trace_save(const trace *t, const char *path)
{
    format_writer *w;
    MD_TRY(format_writer_new(path, &w));
    md_status status = put_all(t, w);
    format_writer_free(w);
    return status;
}

void trace_free(trace *t)
{
    image_free(&t->guide);
    free(t->background);
    free(t->rgb);
    free(t->noise);
    free(t->steps);
    free(t->latents);
    *t = (trace){0};
}
