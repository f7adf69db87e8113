/* config.json of each model: read with every value checked, written so that diffusers and
   transformers read it. What we do not implement is refused with the file and the key. */
#ifndef MD_MODEL_CONFIG_H
#define MD_MODEL_CONFIG_H

#include "format/json.h"
#include "model/clip_text.h"
#include "model/dino.h"
#include "model/unet.h"
#include "model/vae.h"

#ifdef __cplusplus
extern "C" {
#endif

/* For each model:
   read    a file; MD_BAD_INPUT: missing, of another class, out of range, or not supported
   parse   the same from a document that is open already
   check   the consistency of a config made in code: sizes positive, channels divisible by groups
           and heads; `name` stands for the file in messages. The readers call it.
   text    adds what `write` writes */
#define MODEL_CONFIG(model, config)                                                                \
    MD_MUST md_status model##_config_read(const char *path, config *out);                          \
    MD_MUST md_status model##_config_parse(const format_json *doc, config *out);                   \
    MD_MUST md_status model##_config_check(const char *name, const config *c);                     \
    MD_MUST md_status model##_config_text(md_text *t, const config *c);                            \
    MD_MUST md_status model##_config_write(const char *path, const config *c);

MODEL_CONFIG(clip_text, clip_text_config)
MODEL_CONFIG(vae, vae_config)
MODEL_CONFIG(unet, unet_config)
MODEL_CONFIG(mask_unet, unet_config) /* without cross attention: UNet2DModel in files */
MODEL_CONFIG(dino, dino_config)
#undef MODEL_CONFIG

#ifdef __cplusplus
}
#endif
#endif
