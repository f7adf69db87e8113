#include "train/denoise.h"
#include "base/rng.h"
#include "ops/ops.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int64_t pixels_of(const denoise_source *s)
{
    return s->edge * s->edge;
}

static bool sees_mask(const denoise *d)
{
    return d->unet->in_channels > d->source->channels;
}

/* Noise maps of a sample: the posterior's, the one to predict, and that of the masked picture. */
static int64_t n_noises(const denoise *d)
{
    return sees_mask(d) ? 3 : 2;
}

/* ---- the graph */

/* Part i of x along its first dimension, as [dim...]. */
static md_tensor *part(md_tensor *x, int64_t i, int ndim, const int64_t *dim)
{
    int64_t n = 1;
    for (int k = 0; k < ndim; k++)
        n *= dim[k];
    return md_view(x, i * n, ndim, dim);
}

/* Rows [n] of a table [V,D] that stays, as [dim...]. */
static md_tensor *rows_of(denoise *d, int table, md_tensor *rows, int64_t width, int ndim,
                          const int64_t *dim)
{
    md_buffer *b = &d->table[table];
    md_tensor *all = md_extern(d->numbers->g, b, 0, 2, MD_DIMS(b->numel / width, width));
    return md_reshape(md_embedding(rows, all), ndim, dim);
}

/* z = s (mean + std e) of the pictures; `table` is that of their means. */
static md_tensor *latents(denoise *d, int table, md_tensor *rows, md_tensor *e)
{
    int64_t width = pixels_of(d->source) * d->source->channels;
    md_tensor *mean = rows_of(d, table, rows, width, 4, e->dim);
    return md_add(md_mul(rows_of(d, table + 1, rows, width, 4, e->dim), e), mean); /* [n,h,w,C] */
}

static md_tensor *context_of(denoise *d, int64_t n)
{
    const denoise_source *s = d->source;
    md_graph *g = d->numbers->g;
    d->ids = NULL;
    if (!d->text)
        return md_cast(rows_of(d, DENOISE_CONTEXT, part(d->index, DENOISE_TEXT, 1, MD_DIMS(n)),
                               s->tokens * s->width, 3, MD_DIMS(n, s->tokens, s->width)),
                       d->dtype); /* [n,T,D] */
    d->ids = md_input(g, "ids", MD_I32, 2, MD_DIMS(n, s->tokens));
    return clip_text(nn_root(g, d->text_params, d->dtype), d->text, d->ids); /* [n,T,D] */
}

static void shape_tables(denoise *d)
{
    static const char *const names[] = {
        "latent means",        "latent deviations",        "latent masks",
        "masked latent means", "masked latent deviations", "text embeddings"};
    const denoise_source *s = d->source;
    int64_t rows = (s->n + s->n_prior) * s->variants, latent = pixels_of(s) * s->channels;
    int64_t masked = sees_mask(d) ? rows * latent : 0;
    const int64_t numel[] = {[DENOISE_MEAN] = rows * latent,
                             [DENOISE_STD] = rows * latent,
                             [DENOISE_MASK] = rows * pixels_of(s),
                             [DENOISE_MASKED_MEAN] = masked,
                             [DENOISE_MASKED_STD] = masked,
                             [DENOISE_CONTEXT] =
                                 d->text ? 0 : DENOISE_N_TEXTS * s->tokens * s->width};
    for (int i = 0; i < DENOISE_N_TABLES; i++)
        md_buffer_init(&d->table[i], names[i], MD_F32, numel[i]);
}

static md_tensor *build(void *user, md_graph *g, int64_t n)
{
    denoise *d = user;
    int64_t e = d->source->edge, c = d->source->channels;
    const int64_t *dim = MD_DIMS(n, e, e, c), *one = MD_DIMS(n, 1, 1, 1);
    if (!d->be)
        shape_tables(d);
    d->noises = md_input(g, "noise", MD_F32, 4, MD_DIMS(n_noises(d) * n, e, e, c));
    d->numbers = md_input(g, "numbers", MD_F32, 2, MD_DIMS(DENOISE_N_NUMBERS, n));
    d->index = md_input(g, "index", MD_I32, 2, MD_DIMS(DENOISE_N_INDICES, n));
    md_tensor *a = part(d->numbers, DENOISE_A, 4, one), *b = part(d->numbers, DENOISE_B, 4, one);
    md_tensor *rows = part(d->index, DENOISE_PICTURE, 1, MD_DIMS(n));
    md_tensor *noise = part(d->noises, 1, 4, dim);
    md_tensor *z = latents(d, DENOISE_MEAN, rows, part(d->noises, 0, 4, dim)); /* [n,h,w,C] */
    md_tensor *mask = rows_of(d, DENOISE_MASK, rows, e * e, 4, MD_DIMS(n, e, e, 1));

    d->noisy = md_add(md_mul(z, a), md_mul(noise, b));
    if (sees_mask(d)) {
        md_tensor *masked = latents(d, DENOISE_MASKED_MEAN, rows, part(d->noises, 2, 4, dim));
        md_tensor *parts[] = {d->noisy, mask, masked};
        d->noisy = md_concat(parts, 3, 3); /* [n,h,w,2C+1] */
    }
    d->wanted = d->prediction == SCHEDULE_EPSILON ? noise
                : d->prediction == SCHEDULE_X0    ? z
                                                  : md_sub(md_mul(noise, a), md_mul(z, b));
    d->map = md_add(md_mul(mask, mask), md_affine(mask, -d->outside, d->outside)); /* [n,h,w,1] */
    d->pred =
        md_cast(unet(nn_root(g, d->unet_params, d->dtype), d->unet, md_cast(d->noisy, d->dtype),
                     part(d->numbers, DENOISE_T, 1, MD_DIMS(n)), context_of(d, n)),
                MD_F32);
    md_tensor *diff = md_sub(d->pred, d->wanted);
    md_tensor *sums = md_sum_to(md_mul(md_mul(diff, diff), d->map), 4, one);
    return md_sum(md_mul(sums, part(d->numbers, DENOISE_SHARE, 4, one)));
}

/* ---- what stays on the device */

/* Rows of one table of means and the deviations behind it, from moments [rows,h,w,2C]. */
static md_status load_moments(denoise *d, int table, const float *moments)
{
    const denoise_source *s = d->source;
    int64_t c = s->channels, latent = pixels_of(s) * c;
    float *mean = malloc((size_t)(2 * latent) * sizeof *mean), *std = mean + latent;
    if (!mean)
        MD_FAIL(MD_NOMEM, "training: out of memory");
    md_status status = MD_OK;
    for (int64_t row = 0; row < d->table[table].numel / latent && status == MD_OK; row++) {
        for (int64_t i = 0; i < latent; i++) {
            const float *m = moments + row * 2 * latent + i / c * 2 * c + i % c;
            mean[i] = (float)(s->scaling * (double)m[0]);
            std[i] = (float)(s->scaling * vae_deviation((double)m[c]));
        }
        status = md_buffer_write(d->be, &d->table[table], row * latent, mean, MD_F32, latent);
        if (status == MD_OK)
            status =
                md_buffer_write(d->be, &d->table[table + 1], row * latent, std, MD_F32, latent);
    }
    free(mean);
    return status;
}

/* Class images are learned everywhere, and so is a source without masks. */
static md_status load_masks(denoise *d)
{
    const denoise_source *s = d->source;
    int64_t px = pixels_of(s), n = s->mask ? s->n * s->variants : 0;
    md_buffer *b = &d->table[DENOISE_MASK];
    if (n)
        MD_TRY(md_buffer_write(d->be, b, 0, s->mask, MD_F32, n * px));
    float *ones = malloc((size_t)px * sizeof *ones);
    if (!ones)
        MD_FAIL(MD_NOMEM, "training: out of memory");
    for (int64_t i = 0; i < px; i++)
        ones[i] = 1;
    md_status status = MD_OK;
    for (int64_t row = n; row < b->numel / px && status == MD_OK; row++)
        status = md_buffer_write(d->be, b, row * px, ones, MD_F32, px);
    free(ones);
    return status;
}

static md_status measure_areas(denoise *d)
{
    const denoise_source *s = d->source;
    double *area = malloc((size_t)(s->n * s->variants + 1) * sizeof *area);
    if (!area)
        MD_FAIL(MD_NOMEM, "training: out of memory");
    for (int64_t i = 0; i < s->n * s->variants; i++)
        area[i] = denoise_area(d, i / s->variants, i % s->variants);
    d->area = area;
    return MD_OK;
}

static md_status load(void *user, md_backend *be)
{
    denoise *d = user;
    const denoise_source *s = d->source;
    d->be = be;
    MD_TRY(measure_areas(d));
    for (int i = 0; i < DENOISE_N_TABLES; i++)
        if (d->table[i].numel)
            MD_TRY(md_buffer_alloc(be, &d->table[i]));
    MD_TRY(load_moments(d, DENOISE_MEAN, s->moments));
    MD_TRY(load_masks(d));
    if (sees_mask(d))
        MD_TRY(load_moments(d, DENOISE_MASKED_MEAN, s->masked));
    md_buffer *context = &d->table[DENOISE_CONTEXT];
    int64_t n = s->tokens * s->width * (s->n_prior > 0 ? DENOISE_N_TEXTS : DENOISE_CLASS);
    return context->numel ? md_buffer_write(be, context, 0, s->context, MD_F32, n) : MD_OK;
}

static size_t bytes(const void *user, const md_backend *be)
{
    const denoise *d = user;
    size_t n = 0;
    for (int i = 0; i < DENOISE_N_TABLES; i++)
        n += (size_t)d->table[i].numel * be->ops->elem_bytes(d->table[i].dtype);
    return n;
}

/* ---- the inputs of a step */

/* Of n samples, on the host; as the inputs are shaped. */
typedef struct denoise_staging {
    int64_t step, first, n; /* what it holds; n 0: nothing yet */
    float *noises, *numbers;
    int32_t *index, *ids;
} staging;

/* Fills sample i of n with the one at `position` of `step`. */
static void stage(const denoise *d, int64_t step, int64_t position, double share, staging *g,
                  int64_t n, int64_t i)
{
    const denoise_source *s = d->source;
    denoise_draw w = denoise_draw_at(d, step, position);
    int64_t px = pixels_of(s), c = s->channels, latent = px * c;
    float *e1 = g->noises + i * latent, *e2 = e1 + n * latent, *e3 = e2 + n * latent;
    md_rng r = md_rng_at(d->seed, MD_RNG_POSTERIOR, w.index, w.stream);
    md_rng_normal_fill(&r, e1, latent);
    r = md_rng_at(d->seed, MD_RNG_TRAIN_NOISE, w.index, w.stream);
    md_rng_normal_fill(&r, e2, latent);
    r = md_rng_at(d->seed, MD_RNG_TRAIN_NOISE, w.index, w.stream + 1);
    for (int64_t k = 0; k < c && d->noise_offset > 0; k++) {
        float offset = (float)(d->noise_offset * md_rng_normal(&r));
        for (int64_t p = 0; p < px; p++)
            e2[p * c + k] += offset;
    }
    r = md_rng_at(d->seed, MD_RNG_POSTERIOR, w.index, w.stream + 1);
    if (sees_mask(d))
        md_rng_normal_fill(&r, e3, latent);

    double area = denoise_area(d, w.image, w.variant);
    double by = (double)c * (d->area_norm ? fmax(area, d->min_area) : (double)px);
    bool counts = position < d->batch && (!w.empty || d->outside > 0);
    double weight = w.prior  ? d->prior_weight / ((double)d->batch * (double)latent)
                    : counts ? share * denoise_time_weight(d, w.t) / by
                             : 0;
    g->numbers[DENOISE_A * n + i] = (float)sqrt(d->alphas_cumprod[w.t]);
    g->numbers[DENOISE_B * n + i] = (float)sqrt(1 - d->alphas_cumprod[w.t]);
    g->numbers[DENOISE_SHARE * n + i] = (float)weight;
    g->numbers[DENOISE_T * n + i] = (float)w.t;
    g->index[DENOISE_PICTURE * n + i] = (int32_t)(w.image * s->variants + w.variant);
    int text = w.prior ? DENOISE_CLASS : w.drop_caption ? DENOISE_EMPTY : DENOISE_PROMPT;
    g->index[DENOISE_TEXT * n + i] = text;
    if (d->text)
        memcpy(g->ids + i * s->tokens,
               text == DENOISE_EMPTY ? s->empty_ids : s->ids + w.image * s->tokens,
               (size_t)s->tokens * sizeof *g->ids);
}

static void drop_staging(denoise *d)
{
    staging *g = d->staged;
    d->staged = NULL;
    if (!g)
        return;
    free(g->noises);
    free(g->numbers);
    free(g->index);
    free(g->ids);
    free(g);
}

static void release(void *user)
{
    denoise *d = user;
    drop_staging(d);
    for (int i = 0; i < DENOISE_N_TABLES && d->be; i++)
        md_buffer_release(d->be, &d->table[i]);
    free(d->area);
    d->area = NULL;
    d->be = NULL;
}

/* Made for the first fill, for all that follow: they have one size. */
static md_status make_staging(denoise *d, int64_t n)
{
    const denoise_source *s = d->source;
    int64_t latent = pixels_of(s) * s->channels;
    staging *g = d->staged = calloc(1, sizeof *g);
    if (!g)
        MD_FAIL(MD_NOMEM, "training: out of memory");
    g->noises = malloc((size_t)(n_noises(d) * n * latent) * sizeof *g->noises);
    g->numbers = malloc((size_t)(DENOISE_N_NUMBERS * n) * sizeof *g->numbers);
    g->index = malloc((size_t)(DENOISE_N_INDICES * n) * sizeof *g->index);
    g->ids = malloc((size_t)(n * s->tokens) * sizeof *g->ids);
    if (g->noises && g->numbers && g->index && g->ids)
        return MD_OK;
    drop_staging(d);
    MD_FAIL(MD_NOMEM, "training: out of memory");
}

static void ahead(void *user, int64_t step, int64_t first, int64_t n)
{
    denoise *d = user;
    staging *g = d->staged;
    if (!g || (g->n == n && g->step == step && g->first == first))
        return;
    int64_t n_valid = d->batch - (d->outside > 0 ? 0 : denoise_count_empty(d, step));
    for (int64_t i = 0; i < n; i++)
        stage(d, step, first + i, n_valid > 0 ? 1.0 / (double)n_valid : 0, g, n, i);
    g->step = step;
    g->first = first;
    g->n = n;
}

static md_status fill(void *user, md_plan *plan, int64_t step, int64_t first, int64_t n)
{
    denoise *d = user;
    if (!d->staged)
        MD_TRY(make_staging(d, n));
    ahead(d, step, first, n);
    const staging *g = d->staged;
    MD_TRY(md_plan_write(plan, d->noises, g->noises, MD_F32, md_numel(d->noises)));
    MD_TRY(md_plan_write(plan, d->numbers, g->numbers, MD_F32, DENOISE_N_NUMBERS * n));
    MD_TRY(md_plan_write(plan, d->index, g->index, MD_I32, DENOISE_N_INDICES * n));
    return d->ids ? md_plan_write(plan, d->ids, g->ids, MD_I32, md_numel(d->ids)) : MD_OK;
}

train_task denoise_task(denoise *d)
{
    return (train_task){.user = d,
                        .build = build,
                        .fill = fill,
                        .ahead = ahead,
                        .load = load,
                        .bytes = bytes,
                        .release = release};
}
