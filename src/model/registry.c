/* The table of models; see registry.h. */
#include "model/registry.h"
#include <stdio.h>
#include <string.h>

/* The published VAE files name the layers of the middle attention as before diffusers 0.12. */
static bool rename_old_attention(const char *name, char *buf, size_t size)
{
    static const char *const names[][2] = {
        {".query.", ".to_q."},
        {".key.", ".to_k."},
        {".value.", ".to_v."},
        {".proj_attn.", ".to_out.0."},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *at = strstr(name, names[i][0]);
        if (at) {
            int n = snprintf(buf, size, "%.*s%s%s", (int)(at - name), name, names[i][1],
                             at + strlen(names[i][0]));
            return n > 0 && (size_t)n < size;
        }
    }
    return false;
}

/* A buffer 0, 1, 2, ... in files of older transformers. */
static const char *const clip_ignorable[] = {".position_ids", NULL};

/* What stood for hidden patches in pretraining. */
static const char *const dino_ignorable[] = {".mask_token", NULL};

#define ROW_FUNCTIONS(name, member)                                                                \
    static md_status name##_read(const char *path, model_config *c)                                \
    {                                                                                              \
        return name##_config_read(path, &c->member);                                               \
    }                                                                                              \
    static md_status name##_check(const char *file, const model_config *c)                         \
    {                                                                                              \
        return name##_config_check(file, &c->member);                                              \
    }                                                                                              \
    static md_status name##_write(const char *path, const model_config *c)                         \
    {                                                                                              \
        return name##_config_write(path, &c->member);                                              \
    }                                                                                              \
    static md_status name##_declare_row(nn_params *p, const model_config *c)                       \
    {                                                                                              \
        return name##_declare(p, &c->member);                                                      \
    }

ROW_FUNCTIONS(clip_text, text)
ROW_FUNCTIONS(vae, vae)
ROW_FUNCTIONS(unet, unet)
ROW_FUNCTIONS(mask_unet, unet)
ROW_FUNCTIONS(dino, dino)

static const model_row rows[MODEL_N] = {
    {"text_encoder",
     "transformers",
     "CLIPTextModel",
     "model",
     "pytorch_model.bin",
     {NULL, clip_ignorable},
     clip_text_read,
     clip_text_check,
     clip_text_write,
     clip_text_declare_row},
    {"vae",
     "diffusers",
     "AutoencoderKL",
     "diffusion_pytorch_model",
     "diffusion_pytorch_model.bin",
     {rename_old_attention, NULL},
     vae_read,
     vae_check,
     vae_write,
     vae_declare_row},
    {"unet",
     "diffusers",
     "UNet2DConditionModel",
     "diffusion_pytorch_model",
     "diffusion_pytorch_model.bin",
     {NULL, NULL},
     unet_read,
     unet_check,
     unet_write,
     unet_declare_row},
    {"masks",
     "diffusers",
     "UNet2DModel",
     "diffusion_pytorch_model",
     "diffusion_pytorch_model.bin",
     {NULL, NULL},
     mask_unet_read,
     mask_unet_check,
     mask_unet_write,
     mask_unet_declare_row},
    {"encoder",
     "transformers",
     "Dinov2Model",
     "model",
     "pytorch_model.bin",
     {NULL, dino_ignorable},
     dino_read,
     dino_check,
     dino_write,
     dino_declare_row},
};

const model_row *model_registry(model_part part)
{
    return &rows[part];
}
