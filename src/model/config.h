/* config.json of each model part: read with every value checked, written so that diffusers and
   transformers read it. What we do not implement is refused with the file and the key. */
#ifndef MD_MODEL_CONFIG_H
#define MD_MODEL_CONFIG_H

#include "model/clip_text.h"
#include "model/dino.h"
#include "model/unet.h"
#include "model/vae.h"

#ifdef __cplusplus
extern "C" {
#endif

/* mask_unet: a unet_config without cross attention, UNet2DModel in files. */
/* MD_BAD_INPUT: missing, of another class, out of range, or a value that is not supported. */
MD_MUST md_status vae_config_read(const char *path, vae_config *out);
MD_MUST md_status unet_config_read(const char *path, unet_config *out);
MD_MUST md_status mask_unet_config_read(const char *path, unet_config *out);
MD_MUST md_status dino_config_read(const char *path, dino_config *out);
MD_MUST md_status clip_text_config_read(const char *path, clip_text_config *out);

/* Consistency of a config made in code: sizes positive, channels divisible by groups and heads.
   `name` stands for the file in messages. The readers above call these. */
MD_MUST md_status vae_config_check(const char *name, const vae_config *c);
MD_MUST md_status unet_config_check(const char *name, const unet_config *c);
MD_MUST md_status mask_unet_config_check(const char *name, const unet_config *c);
MD_MUST md_status dino_config_check(const char *name, const dino_config *c);
MD_MUST md_status clip_text_config_check(const char *name, const clip_text_config *c);

MD_MUST md_status vae_config_write(const char *path, const vae_config *c);
MD_MUST md_status unet_config_write(const char *path, const unet_config *c);
MD_MUST md_status mask_unet_config_write(const char *path, const unet_config *c);
MD_MUST md_status dino_config_write(const char *path, const dino_config *c);
MD_MUST md_status clip_text_config_write(const char *path, const clip_text_config *c);

#ifdef __cplusplus
}
#endif
#endif
