#include "train/finetune.h"
#include "nn/lora.h"

bool finetune_prior(const config *c)
{
    return config_float(c, KEY_finetune_prior_weight) > 0;
}

bool finetune_prior_drawn(const config *c)
{
    return finetune_prior(c) && !*config_string(c, KEY_finetune_prior_folder);
}

bool finetune_adapts(const config *c)
{
    return config_int(c, KEY_finetune_lora_rank) > 0;
}

md_status finetune_check(const config *c)
{
    if (finetune_prior(c) && !*config_string(c, KEY_finetune_prior_prompt))
        return config_fail(c, KEY_finetune_prior_prompt,
                           "finetune.prior_weight wants the text of the class, for example \"an "
                           "image\" for lesions of \"an image of hta\"");
    return MD_OK;
}

train_options finetune_options(const config *c, size_t budget_bytes)
{
    return (train_options){
        .steps = config_int(c, KEY_finetune_steps),
        .batch = config_int(c, KEY_finetune_batch) * (finetune_prior(c) ? 2 : 1),
        .accumulate = config_int(c, KEY_finetune_accumulate),
        .lr_rule = (train_lr_rule)config_choice(c, KEY_finetune_schedule),
        .lr = config_float(c, KEY_finetune_lr),
        .lr_floor = config_float(c, KEY_finetune_lr_floor),
        .warmup = config_int(c, KEY_finetune_warmup),
        .lr_cycles = config_int(c, KEY_finetune_cycles),
        .beta1 = config_float(c, KEY_finetune_beta1),
        .beta2 = config_float(c, KEY_finetune_beta2),
        .eps = config_float(c, KEY_finetune_eps),
        .weight_decay = config_float(c, KEY_finetune_weight_decay),
        .clip = config_float(c, KEY_finetune_clip),
        .ema = config_float(c, KEY_finetune_ema),
        .states = (train_states)config_choice(c, KEY_finetune_states),
        .budget_bytes = budget_bytes,
    };
}

denoise finetune_task(const config *c, const foundation *f, const denoise_source *source,
                      const double *alphas)
{
    bool text = config_bool(c, KEY_finetune_text_encoder);
    return (denoise){
        .unet = f->unet,
        .unet_params = f->params[MODEL_UNET],
        .text = text ? f->text : NULL,
        .text_params = f->params[MODEL_TEXT_ENCODER],
        .dtype = config_choice(c, KEY_model_dtype) == 1 ? MD_BF16 : MD_F32,
        .source = source,
        .alphas_cumprod = alphas,
        .train_steps = f->schedule.train_steps,
        .prediction = f->schedule.prediction,
        .seed = (uint64_t)config_int(c, KEY_seed),
        .batch = config_int(c, KEY_finetune_batch),
        .drop_caption = config_float(c, KEY_finetune_drop_prompt),
        .prior_weight = config_float(c, KEY_finetune_prior_weight),
        .noise_offset = config_float(c, KEY_finetune_noise_offset),
        .target = (denoise_target)config_choice(c, KEY_loss_target),
        .weight = (denoise_weight)config_choice(c, KEY_loss_weight),
        .gamma = config_float(c, KEY_loss_gamma),
        .area_norm = config_bool(c, KEY_loss_area_norm),
        .min_area = 1,
        .outside = config_float(c, KEY_loss_outside),
    };
}

lesions_options finetune_lesions(const config *c, const char *data, const char *class)
{
    return (lesions_options){
        .data = data,
        .prompt = config_string(c, KEY_model_prompt),
        .region = (lesions_region)config_choice(c, KEY_finetune_region),
        .grow_px = config_float(c, KEY_finetune_grow_px),
        .outside = config_float(c, KEY_loss_outside) > 0,
        .mask_out = config_bool(c, KEY_finetune_mask_out),
        .pool = (image_mask_pooling)config_choice(c, KEY_finetune_pool),
        .longest = config_choice(c, KEY_finetune_pad_prompt) == 1,
        .train_text = config_bool(c, KEY_finetune_text_encoder),
        .prior_folder = finetune_prior(c) ? class : NULL,
        .prior_prompt = config_string(c, KEY_finetune_prior_prompt),
        .prior_images = config_int(c, KEY_finetune_prior_images),
        .dtype = config_choice(c, KEY_model_dtype) == 1 ? MD_BF16 : MD_F32,
    };
}

md_status finetune_source_shape(const config *c, const foundation *f, int64_t size,
                                denoise_source *out)
{
    int64_t pairs = config_int(c, KEY_data_pairs);
    lesions_options o = finetune_lesions(c, NULL, "");
    *out = (denoise_source){.n = pairs ? pairs : 1,
                            .n_prior = o.prior_folder ? o.prior_images : 0,
                            .variants = LESIONS_VARIANTS,
                            .edge = size / vae_shrink(f->vae),
                            .channels = f->vae->latent_channels,
                            .width = f->text->hidden_size,
                            .scaling = f->vae->scaling_factor};
    return lesions_tokens(f, &o, &out->tokens);
}

void finetune_hold(const config *cfg, foundation *f)
{
    unsigned trained = 1u << MODEL_UNET;
    if (config_bool(cfg, KEY_finetune_text_encoder))
        trained |= 1u << MODEL_TEXT_ENCODER;
    if (finetune_adapts(cfg))
        trained = 0;
    foundation_hold(f, config_choice(cfg, KEY_model_dtype) == 1 ? MD_BF16 : MD_F32, trained);
}

static const model_part trained_parts[] = {MODEL_UNET, MODEL_TEXT_ENCODER};

static int n_trained(const config *cfg)
{
    return config_bool(cfg, KEY_finetune_text_encoder) ? 2 : 1;
}

md_status finetune_adapt(const config *cfg, foundation *f)
{
    int rank = (int)config_int(cfg, KEY_finetune_lora_rank);
    double alpha = config_float(cfg, KEY_finetune_lora_alpha);
    foundation_layers layers = (foundation_layers)config_choice(cfg, KEY_finetune_lora_layers);
    for (int i = 0; finetune_adapts(cfg) && i < n_trained(cfg); i++)
        MD_TRY(foundation_adapt(f, trained_parts[i], rank, alpha > 0 ? alpha / rank : 1, layers));
    return MD_OK;
}

int finetune_stores(const config *cfg, const foundation *f, nn_params *stores[MODEL_N_PARTS])
{
    bool lora = finetune_adapts(cfg);
    for (int i = 0; i < n_trained(cfg); i++) {
        nn_params *p = f->params[trained_parts[i]];
        stores[i] = lora ? nn_lora_adapters(p) : p;
    }
    return n_trained(cfg);
}
