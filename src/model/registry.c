/* The table of models; see registry.h. */
#include "model/registry.h"
#include "base/str.h"
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

/* transformers 5.6 and later leave out the first level of the text encoder's names. */
static bool rename_flat_text(const char *name, char *buf, size_t size)
{
    if (md_str_starts(name, "text_model."))
        return false;
    int n = snprintf(buf, size, "text_model.%s", name);
    return n > 0 && (size_t)n < size;
}

/* A buffer 0, 1, 2, ... in files of older transformers. */
static const char *const clip_ignorable[] = {"embeddings.position_ids", NULL};

/* What stood for hidden patches in pretraining. */
static const char *const dino_ignorable[] = {".mask_token", NULL};

#define ROW_FUNCTIONS(name, member)                                                                \
    static md_status name##_read(const char *path, model_config *c)                                \
    {                                                                                              \
        return name##_config_read(path, &c->member);                                               \
    }                                                                                              \
    static md_status name##_parse(const format_json *doc, model_config *c)                         \
    {                                                                                              \
        return name##_config_parse(doc, &c->member);                                               \
    }                                                                                              \
    static md_status name##_check(const char *file, const model_config *c)                         \
    {                                                                                              \
        return name##_config_check(file, &c->member);                                              \
    }                                                                                              \
    static md_status name##_write(const char *path, const model_config *c)                         \
    {                                                                                              \
        return name##_config_write(path, &c->member);                                              \
    }                                                                                              \
    static md_status name##_text(md_text *t, const model_config *c)                                \
    {                                                                                              \
        return name##_config_text(t, &c->member);                                                  \
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

#define FUNCTIONS(name)                                                                            \
    name##_read, name##_parse, name##_check, name##_write, name##_text, name##_declare_row

static const model_row rows[MODEL_N] = {
    {"text_encoder",
     "transformers",
     "CLIPTextModel",
     "model",
     {.rename = rename_flat_text, .ignorable = clip_ignorable},
     FUNCTIONS(clip_text)},
    {"vae",
     "diffusers",
     "AutoencoderKL",
     "diffusion_pytorch_model",
     {.rename = rename_old_attention},
     FUNCTIONS(vae)},
    {"unet", "diffusers", "UNet2DConditionModel", "diffusion_pytorch_model", {0}, FUNCTIONS(unet)},
    {"masks", "diffusers", "UNet2DModel", "diffusion_pytorch_model", {0}, FUNCTIONS(mask_unet)},
    {"encoder",
     "transformers",
     "Dinov2Model",
     "model",
     {.ignorable = dino_ignorable},
     FUNCTIONS(dino)},
};

const model_row *model_registry(model_part part)
{
    return &rows[part];
}
