/* The mask generator as it lies in models/masks: UNet2DModel and scheduler_config.json in one
   folder, which diffusers opens too. */
#ifndef MD_GENERATE_MASK_MODEL_H
#define MD_GENERATE_MASK_MODEL_H

#include "diffusion/schedule.h"
#include "model/standalone.h"

typedef struct mask_model {
    standalone *net; /* MODEL_MASK_UNET; declared, not loaded */
    diffusion_schedule schedule;
} mask_model;

MD_MUST md_status mask_model_open(const char *folder, mask_model *out);
/* be: where it was loaded, or NULL. */
void mask_model_free(mask_model *m, md_backend *be);
/* config.json, weights, scheduler_config.json. Local. */
MD_MUST md_status mask_model_save(const mask_model *m, const char *folder, md_backend *be);
/* SHA-256 of weights and schedule together. */
MD_MUST md_status mask_model_hash(const mask_model *m, char hex[MD_SHA256_HEX]);

#endif
