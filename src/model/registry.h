/* One row per model: where a foundation folder keeps it, how it is read, built and written. A new
   model is a file with a build function, its config functions and a row here. */
#ifndef MD_MODEL_REGISTRY_H
#define MD_MODEL_REGISTRY_H

#include "model/config.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The first MODEL_N_PARTS make a foundation; the others stand alone. */
typedef enum model_part {
    MODEL_TEXT_ENCODER,
    MODEL_VAE,
    MODEL_UNET,
    MODEL_N_PARTS,
    MODEL_MASK_UNET = MODEL_N_PARTS,
    MODEL_DINO,
    MODEL_N
} model_part;

/* Any model's config; which member holds is the part's. */
typedef union model_config {
    clip_text_config text;
    vae_config vae;
    unet_config unet; /* of both UNets */
    dino_config dino;
} model_config;

typedef struct model_row {
    const char *folder;     /* "unet"; the component's name in model_index.json too */
    const char *library;    /* "diffusers" or "transformers" */
    const char *class_name; /* "UNet2DConditionModel" */
    const char *weights;    /* base name of the weight file, without .safetensors */
    nn_file_rules rules;
    md_status (*read)(const char *path, model_config *c);
    md_status (*parse)(const format_json *doc, model_config *c);
    md_status (*check)(const char *name, const model_config *c);
    md_status (*write)(const char *path, const model_config *c);
    md_status (*text)(md_text *t, const model_config *c);
    md_status (*declare)(nn_params *p, const model_config *c);
} model_row;

const model_row *model_registry(model_part part);

#ifdef __cplusplus
}
#endif
#endif
