/* A foundation's adapters: which layers get one, and the file that diffusers knows. */
#include "base/file.h"
#include "model/foundation.h"
#include "nn/lora.h"

static const char FILE_NAME[] = "pytorch_lora_weights.safetensors"; /* diffusers' */

/* examples/text_to_image/train_text_to_image_lora.py and examples/dreambooth of diffusers 0.27.2
   adapt the attentions by these names. */
static const char *const unet_attention[] = {"to_q", "to_k", "to_v", "to_out.0", NULL};
static const char *const unet_ff[] = {"to_q",          "to_k",     "to_v", "to_out.0",
                                      "ff.net.0.proj", "ff.net.2", NULL};
static const char *const text_attention[] = {"q_proj", "k_proj", "v_proj", "out_proj", NULL};
static const char *const text_ff[] = {"q_proj",  "k_proj",  "v_proj", "out_proj",
                                      "mlp.fc1", "mlp.fc2", NULL};

md_status foundation_adapt(foundation *f, model_part part, int rank, double scale,
                           foundation_layers layers)
{
    static const char *const *const names[MODEL_N_PARTS][FOUNDATION_ALL] = {
        [MODEL_UNET] = {unet_attention, unet_ff},
        [MODEL_TEXT_ENCODER] = {text_attention, text_ff},
    };
    nn_lora o = {.rank = rank, .scale = scale};
    if (layers != FOUNDATION_ALL) {
        o.layers = names[part][layers];
        if (!o.layers)
            MD_FAIL(MD_INTERNAL, "adapters in the %s", nn_params_model(f->params[part]));
    }
    MD_TRY(nn_lora_add(f->params[part], &o));
    return model_registry(part)->declare(f->params[part], &f->config[part]);
}

md_status foundation_draw_lora(foundation *f, md_backend *be, uint64_t seed)
{
    for (int i = 0; i < MODEL_N_PARTS; i++) {
        nn_params *a = nn_lora_adapters(f->params[i]);
        if (!a)
            continue;
        MD_TRY(nn_params_alloc(a, be));
        /* a seed per part, as foundation_randomize */
        MD_TRY(nn_params_randomize(a, be, seed + 0x9e3779b97f4a7c15u * (uint64_t)i));
    }
    return MD_OK;
}

void foundation_remove_lora(foundation *f, md_backend *be)
{
    for (int i = 0; i < MODEL_N_PARTS; i++)
        nn_lora_remove(f->params[i], be);
}

md_status foundation_save_lora(const foundation *f, const char *folder, md_backend *be)
{
    char path[FOUNDATION_PATH];
    nn_params *adapted[MODEL_N_PARTS];
    int n = 0;
    for (int i = 0; i < MODEL_N_PARTS; i++)
        if (nn_lora_adapters(f->params[i]))
            adapted[n++] = f->params[i];
    MD_TRY(md_dir_make(folder));
    MD_TRY(md_path_join(path, sizeof path, folder, FILE_NAME));
    return nn_lora_save(adapted, n, be, path);
}

bool foundation_has_lora(const char *folder)
{
    char path[FOUNDATION_PATH];
    return md_path_join(path, sizeof path, folder, FILE_NAME) == MD_OK && md_file_exists(path);
}

md_status foundation_merge_lora(foundation *f, const char *folder)
{
    nn_params *adapted[] = {f->params[MODEL_UNET], f->params[MODEL_TEXT_ENCODER]};
    MD_TRY(md_path_join(f->lora, sizeof f->lora, folder, FILE_NAME));
    return nn_lora_merge(adapted, 2, f->lora);
}

md_status foundation_use_tuned(foundation *f, const char *folder)
{
    char text[FOUNDATION_PATH];
    if (foundation_has_lora(folder))
        return foundation_merge_lora(f, folder);
    MD_TRY(md_path_join(text, sizeof text, folder, model_registry(MODEL_TEXT_ENCODER)->folder));
    MD_TRY(foundation_replace(f, MODEL_UNET, folder));
    return md_file_exists(text) ? foundation_replace(f, MODEL_TEXT_ENCODER, folder) : MD_OK;
}
