#include "rig.h"
#include "base/log.h"
#include "base/rng.h"

static void draw(rig *r)
{
    md_rng rng = md_rng_at(12, MD_RNG_TRAIN_NOISE, 0, 0);
    for (size_t i = 0; i < sizeof r->moments / sizeof *r->moments; i++)
        r->moments[i] = i / RIG_CHANNELS % 2 ? -3 : (float)md_rng_normal(&rng);
    for (int i = 0; i < RIG_N * RIG_VARIANTS * RIG_PX; i++) {
        int x = i % RIG_EDGE, y = i / RIG_EDGE % RIG_EDGE, picture = i / RIG_PX / RIG_VARIANTS;
        bool in = x > picture % 3 && x < 6 && y > 1 && y < 4 + picture % 4;
        r->mask[i] = picture == RIG_N - 1 || !in ? 0 : x == 5 ? 0.25F : 1;
    }
    for (int i = 0; i < DENOISE_N_TEXTS * RIG_TOKENS * RIG_WIDTH; i++)
        r->context[i] = (float)md_rng_normal(&rng);
}

static void load_weights(rig *r)
{
    OK(nn_params_alloc(r->params, r->be));
    OK(nn_params_load(r->params, r->be, "tests/golden/sd/unet/diffusion_pytorch_model.safetensors",
                      &model_registry(MODEL_UNET)->rules));
    if (r->trained == r->params)
        return;
    OK(nn_params_alloc(r->trained, r->be));
    OK(nn_params_randomize(r->trained, r->be, 6));
}

nn_params *rig_twin(const rig *r, nn_params **base)
{
    const model_row *row = model_registry(MODEL_UNET);
    OK(nn_params_new("unet", base));
    OK(row->declare(*base, &r->config));
    if (r->trained == r->params)
        return *base;
    OK(nn_lora_add(*base, &r->lora));
    OK(row->declare(*base, &r->config));
    return nn_lora_adapters(*base);
}

void rig_adapt(rig *r, const nn_lora *o)
{
    r->lora = *o;
    OK(nn_lora_add(r->params, o));
    OK(model_registry(MODEL_UNET)->declare(r->params, &r->config));
    r->trained = nn_lora_adapters(r->params);
    load_weights(r);
}

void rig_open(rig *r, bool ref)
{
    md_backend *be;
    if (ref)
        OK(ref_backend_open(&be));
    else
        OK(cpu_backend_open(&be, 1));
    rig_open_on(r, be, MD_F32);
}

void rig_open_on(rig *r, md_backend *be, md_dtype dtype)
{
    const model_row *row = model_registry(MODEL_UNET);
    diffusion_schedule s = schedule_stable_diffusion();
    memset(r, 0, sizeof *r);
    md_log_quiet(true);
    r->be = be;
    OK(row->read("tests/golden/sd/unet/config.json", &r->config));
    OK(nn_params_new("unet", &r->params));
    OK(row->declare(r->params, &r->config));
    r->trained = r->params;
    nn_params_hold(r->params, dtype == MD_BF16 ? NN_HOLD_BOTH : NN_HOLD_F32);
    load_weights(r);
    OK(schedule_alphas_cumprod(&s, r->alphas));
    draw(r);
    r->source = (denoise_source){.n = RIG_N,
                                 .variants = RIG_VARIANTS,
                                 .edge = RIG_EDGE,
                                 .channels = RIG_CHANNELS,
                                 .moments = r->moments,
                                 .mask = r->mask,
                                 .context = r->context,
                                 .tokens = RIG_TOKENS,
                                 .width = RIG_WIDTH,
                                 .scaling = 0.7};
    r->d = (denoise){.unet = &r->config.unet,
                     .unet_params = r->params,
                     .dtype = dtype,
                     .source = &r->source,
                     .alphas_cumprod = r->alphas,
                     .train_steps = 1000,
                     .seed = 3,
                     .batch = 4,
                     .area_norm = true,
                     .min_area = 1};
    r->task = denoise_task(&r->d);
    r->o = (train_options){.steps = 20,
                           .batch = 4,
                           .accumulate = 1,
                           .lr_rule = TRAIN_LR_CONSTANT,
                           .lr = 1e-3,
                           .beta1 = 0.9,
                           .beta2 = 0.99,
                           .eps = 1e-6,
                           .weight_decay = 0.01,
                           .clip = 1,
                           .ema = 0.9};
}

void rig_start(rig *r)
{
    OK(train_new(r->be, &r->trained, 1, &r->task, &r->o, &r->t));
    OK(train_load(r->t));
}

void rig_stop(rig *r)
{
    train_free(r->t);
    r->t = NULL;
    load_weights(r);
}

void rig_close(rig *r)
{
    train_free(r->t);
    denoise_task(&r->d).release(&r->d); /* where it was filled without a training */
    nn_params_free(r->params, r->be);
    assert_int_equal(r->be->allocated_bytes, 0);
    r->be->ops->close(r->be);
}

float *rig_state(rig *r, int which, int64_t *n)
{
    train_part p[TRAIN_MAX_PARTS];
    assert_in_range(which, 0, train_parts(r->t, 0, p) - 1);
    *n = p[which].buffer->numel;
    float *out = malloc((size_t)*n * sizeof *out);
    assert_non_null(out);
    OK(md_buffer_read(r->be, p[which].buffer, 0, out, MD_F32, *n));
    return out;
}

float *rig_all(rig *r, int64_t *n)
{
    float *out = NULL;
    int64_t one, kinds = r->o.ema > 0 ? 4 : 3;
    for (int i = 0; i < kinds; i++) {
        float *part = rig_state(r, i, &one);
        out = realloc(out, (size_t)(one * (i + 1)) * sizeof *out);
        assert_non_null(out);
        memcpy(out + one * i, part, (size_t)one * sizeof *out);
        free(part);
    }
    *n = one * kinds;
    return out;
}

double rig_distance(const float *a, const float *b, int64_t n)
{
    double d = 0, s = 0;
    for (int64_t i = 0; i < n; i++) {
        d += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        s += (double)b[i] * (double)b[i];
    }
    return s > 0 ? sqrt(d / s) : sqrt(d);
}
