#include "train/masks.h"
#include "base/rng.h"
#include "ops/ops.h"
#include <math.h>
#include <stdlib.h>

enum { A, B, SHARE, T, N_NUMBERS }; /* rows of the numbers */
enum { STREAM = 32 };               /* this task's first attempt in shared purposes (base/rng.h) */

static md_tensor *number(const mask_train *d, int row, int64_t n, int ndim, const int64_t *dim)
{
    return md_view(d->numbers, row * n, ndim, dim);
}

static md_tensor *build(void *user, md_graph *g, int64_t n)
{
    mask_train *d = user;
    int64_t e = d->view.edge;
    const int64_t *dim = MD_DIMS(n, e, e, 1), *one = MD_DIMS(n, 1, 1, 1);
    d->picture = md_input(g, "picture", MD_F32, 4, dim);
    d->noise = md_input(g, "noise", MD_F32, 4, dim);
    d->numbers = md_input(g, "numbers", MD_F32, 2, MD_DIMS(N_NUMBERS, n));
    d->sketch = mask_unet_sketches(d->unet)
                    ? md_input(g, "sketch", MD_F32, 4, MD_DIMS(n, e, e, IMAGE_SKETCH_PLANES))
                    : NULL;
    md_tensor *a = number(d, A, n, 4, one), *b = number(d, B, n, 4, one);
    md_tensor *noisy = md_add(md_mul(d->picture, a), md_mul(d->noise, b)); /* [n,e,e,1] */
    md_tensor *wanted = d->prediction == SCHEDULE_EPSILON
                            ? d->noise
                            : md_sub(md_mul(d->noise, a), md_mul(d->picture, b));
    md_tensor *said = mask_unet(nn_root(g, d->params, d->dtype), d->unet, noisy, d->sketch,
                                number(d, T, n, 1, MD_DIMS(n)));
    md_tensor *diff = md_sub(md_cast(said, MD_F32), wanted);
    md_tensor *sums = md_sum_to(md_mul(diff, diff), 4, one); /* [n,1,1,1] */
    return md_sum(md_mul(sums, number(d, SHARE, n, 4, one)));
}

void mask_train_picture(const mask_train *d, int64_t step, int64_t position, float *picture)
{
    int64_t index = step * d->batch + position, px = d->view.size * d->view.size;
    md_rng r = md_rng_at(d->seed, MD_RNG_TRAIN_ORDER, (uint64_t)index, STREAM);
    int64_t mask = md_rng_below(&r, d->n);
    r = md_rng_at(d->seed, MD_RNG_TRAIN_AUGMENT, (uint64_t)index, STREAM);
    image_field_augment(&d->view, d->fields + mask * px, d->augment, d->warp, &r, picture);
}

md_status mask_train_sketch(const mask_train *d, int64_t step, int64_t position,
                            const float *picture, float *planes)
{
    md_rng r = md_rng_at(d->seed, MD_RNG_TRAIN_AUGMENT, (uint64_t)(step * d->batch + position),
                         STREAM + 1);
    return image_sketch_planes(&d->view, picture, &d->spread, &r, planes);
}

/* Sample i of n: pictures, noises, numbers, sketches lie one after the other. */
static md_status fill_one(const mask_train *d, int64_t step, int64_t position, int64_t n, int64_t i)
{
    float *numbers = d->host + 2 * n * d->view.edge * d->view.edge,
          *sketches = numbers + N_NUMBERS * n;
    int64_t index = step * d->batch + position, px = d->view.edge * d->view.edge;
    mask_train_picture(d, step, position, d->host + i * px);
    md_rng r = md_rng_at(d->seed, MD_RNG_TRAIN_NOISE, (uint64_t)index, STREAM);
    md_rng_normal_fill(&r, d->host + (n + i) * px, px);
    r = md_rng_at(d->seed, MD_RNG_TRAIN_TIMESTEP, (uint64_t)index, STREAM);
    int64_t t = md_rng_below(&r, d->train_steps);
    numbers[A * n + i] = (float)sqrt(d->alphas_cumprod[t]);
    numbers[B * n + i] = (float)sqrt(1 - d->alphas_cumprod[t]);
    numbers[T * n + i] = (float)t;
    numbers[SHARE * n + i] =
        position < d->batch ? (float)(1.0 / ((double)d->batch * (double)px)) : 0;
    return d->sketch ? mask_train_sketch(d, step, position, d->host + i * px,
                                         sketches + i * IMAGE_SKETCH_PLANES * px)
                     : MD_OK;
}

static md_status fill(void *user, md_plan *plan, int64_t step, int64_t first, int64_t n)
{
    mask_train *d = user;
    int64_t all = n * d->view.edge * d->view.edge;
    if (!d->host) /* for all fills: they have one size */
        d->host =
            malloc((size_t)((2 + IMAGE_SKETCH_PLANES) * all + N_NUMBERS * n) * sizeof *d->host);
    if (!d->host)
        MD_FAIL(MD_NOMEM, "mask training: out of memory");
    float *numbers = d->host + 2 * all;
    for (int64_t i = 0; i < n; i++)
        MD_TRY(fill_one(d, step, first + i, n, i));
    MD_TRY(md_plan_write(plan, d->picture, d->host, MD_F32, all));
    MD_TRY(md_plan_write(plan, d->noise, d->host + all, MD_F32, all));
    if (d->sketch)
        MD_TRY(md_plan_write(plan, d->sketch, numbers + N_NUMBERS * n, MD_F32,
                             IMAGE_SKETCH_PLANES * all));
    return md_plan_write(plan, d->numbers, numbers, MD_F32, N_NUMBERS * n);
}

static void release(void *user)
{
    mask_train *d = user;
    free(d->host);
    d->host = NULL;
}

train_task mask_train_task(mask_train *d)
{
    return (train_task){.user = d, .build = build, .fill = fill, .release = release};
}

/* ---- from the configuration */

enum { LEVELS = 4 }; /* of the paper's UNet: 64, 128, 256, 512 channels */

md_status mask_check(const config *c)
{
    int64_t edge = config_int(c, KEY_masks_size), size = config_int(c, KEY_data_size);
    if (edge > size)
        return config_fail(
            c, KEY_masks_size,
            "%lld, but the masks have data.size = %lld pixels: set masks.size to no more",
            (long long)edge, (long long)size);
    return MD_OK;
}

unet_config mask_unet_for(const config *c)
{
    int width = (int)config_int(c, KEY_masks_width);
    unet_config u = {.in_channels = config_bool(c, KEY_masks_sketch) ? 1 + IMAGE_SKETCH_PLANES : 1,
                     .out_channels = 1,
                     .sample_size = (int)config_int(c, KEY_masks_size),
                     .n_blocks = LEVELS,
                     .norm_num_groups = width % 32 ? 8 : 32,
                     .norm_eps = 1e-5,
                     .flip_sin_to_cos = true,
                     .time_embedding_dim = 4 * width};
    for (int i = 0; i < LEVELS; i++) {
        u.block_out_channels[i] = width << i;
        u.layers_per_block[i] = (int)config_int(c, KEY_masks_layers);
        u.transformer_layers[i] = 1;
        u.heads[i] = (width << i) / u.norm_num_groups; /* of as many channels as there are groups */
    }
    /* where an eighth of the edge is left, as in the middle */
    u.down_attention[LEVELS - 1] = u.up_attention[0] = true;
    return u;
}

/* Linear, as Ho et al.: a smooth picture is large patches of one value, of which much is left under
   noise that hides every pixel; the cosine's long end would leave a mask's size to be read from
   what the sampler takes for pure noise. Velocity, since the mask's size is the mean of a picture:
   under the first steps' noise an error d of the predicted noise is one of d / sqrt(a_t), up to 150
   d, in that mean, and one of the velocity is d. */
diffusion_schedule mask_schedule_for(const config *c)
{
    static const schedule_betas betas[] = {SCHEDULE_LINEAR, SCHEDULE_SQUARED_COS};
    static const schedule_prediction predictions[] = {SCHEDULE_V, SCHEDULE_EPSILON};
    return (diffusion_schedule){.train_steps = 1000,
                                .beta_start = 1e-4,
                                .beta_end = 0.02,
                                .betas = betas[config_choice(c, KEY_masks_schedule)],
                                .prediction = predictions[config_choice(c, KEY_masks_prediction)],
                                .spacing = SCHEDULE_TRAILING,
                                .set_alpha_to_one = true,
                                .clip = 1,
                                .sampler = "ddim"};
}

image_field_view mask_view_for(const config *c, int64_t size)
{
    return (image_field_view){.size = size,
                              .edge = config_int(c, KEY_masks_size),
                              .ramp_px = config_float(c, KEY_masks_ramp) * (double)size};
}

void mask_train_fill(const config *c, int64_t size, mask_train *out)
{
    out->dtype = config_choice(c, KEY_model_dtype) == 1 ? MD_BF16 : MD_F32;
    out->view = mask_view_for(c, size);
    out->train_steps = mask_schedule_for(c).train_steps;
    out->prediction = mask_schedule_for(c).prediction;
    out->seed = (uint64_t)config_int(c, KEY_seed);
    out->batch = config_int(c, KEY_masks_batch);
    out->augment = config_float(c, KEY_masks_augment);
    out->warp = config_float(c, KEY_masks_warp);
}

train_options mask_train_options(const config *c, size_t budget_bytes)
{
    int64_t steps = config_int(c, KEY_masks_steps);
    return (train_options){.steps = steps,
                           .batch = config_int(c, KEY_masks_batch),
                           .accumulate = 1,
                           .lr_rule = TRAIN_LR_COSINE,
                           .lr = config_float(c, KEY_masks_lr),
                           .lr_floor = 0.02,
                           .warmup = steps / 50 + 1,
                           .beta1 = 0.9,
                           .beta2 = 0.99,
                           .eps = 1e-8,
                           .clip = 1,
                           .ema = config_float(c, KEY_masks_ema),
                           .budget_bytes = budget_bytes};
}
