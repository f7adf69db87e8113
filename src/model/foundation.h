/* A foundation: the pretrained model folder in diffusers' layout (model_index.json, tokenizer/,
   text_encoder/, vae/, unet/, scheduler/). Opening reads and checks everything but the weights'
   values, so that a wrong folder ends a job before any work and `meddiff plan` can count bytes;
   loading a part then takes memory. */
#ifndef MD_MODEL_FOUNDATION_H
#define MD_MODEL_FOUNDATION_H

#include "diffusion/schedule.h"
#include "format/tokenizer.h"
#include "model/registry.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef diffusion_schedule foundation_schedule; /* as scheduler_config.json says it */

#define FOUNDATION_PATH 1024

typedef struct foundation {
    char path[FOUNDATION_PATH]; /* the folder; "" when made by foundation_new */
    char tokenizer_path[FOUNDATION_PATH];
    model_config config[MODEL_N_PARTS];
    const vae_config *vae; /* into config[] */
    const unet_config *unet;
    const clip_text_config *text;
    diffusion_schedule schedule; /* the noise that the UNet was trained with */
    format_tokenizer *tokenizer;
    nn_params *params[MODEL_N_PARTS];             /* declared; allocated by load or randomize */
    char weights[MODEL_N_PARTS][FOUNDATION_PATH]; /* file behind each part, "" if there is none */
} foundation;

/* Opens a folder and checks that its parts fit each other. Weight files: <base>.safetensors, a
   sharded <base>.safetensors.index.json, or <base>.fp16.safetensors; pickle files are refused with
   the name of what to get. MD_BAD_INPUT names file and key or tensor. */
MD_MUST md_status foundation_open(const char *path, foundation **out);
/* The same for a folder of configs and a tokenizer without weights, to start a pretraining from. */
MD_MUST md_status foundation_open_configs(const char *path, foundation **out);
/* From configs made in code. tokenizer_path: a folder with vocab.json and merges.txt. */
MD_MUST md_status foundation_new(const clip_text_config *text, const vae_config *vae,
                                 const unet_config *unet, const foundation_schedule *noise,
                                 const char *tokenizer_path, foundation **out);
/* be: where parts were loaded, NULL if none were. */
void foundation_free(foundation *f, md_backend *be);

/* Takes one part's weights from another folder in future: <folder>/<part>/ with config.json and
   weights, as foundation_save_part writes it. Its config must equal the foundation's in everything
   that shapes parameters. */
MD_MUST md_status foundation_replace(foundation *f, model_part part, const char *folder);

/* For computing in `dtype`, before parts are loaded and graphs built: in bf16 parts are held in
   bf16, those that a training updates (bit 1 << part of `trained`) in f32 as well. */
void foundation_hold(foundation *f, md_dtype dtype, unsigned trained);
/* Allocates the part's parameters and reads them. */
MD_MUST md_status foundation_load(foundation *f, model_part part, md_backend *be);
/* Allocates the part's parameters and draws them. */
MD_MUST md_status foundation_randomize(foundation *f, model_part part, md_backend *be,
                                       uint64_t seed);
/* VAE training ends by measuring the latent's deviation; its inverse is the scaling factor. */
void foundation_set_scaling_factor(foundation *f, double scaling_factor);

/* Writes <folder>/<part>/{config.json, weights} from the loaded parameters, or from `values` (laid
   out alike, e.g. the moving average) if not NULL. */
MD_MUST md_status foundation_save_part(const foundation *f, model_part part, const char *folder,
                                       md_backend *be, const md_buffer *values, bool f16);
/* Writes a whole folder that diffusers opens: model_index.json, scheduler, tokenizer, and every
   part: loaded ones from memory, others as a copy of their weight file. */
MD_MUST md_status foundation_save(const foundation *f, const char *folder, md_backend *be,
                                  bool f16);

#ifdef __cplusplus
}
#endif
#endif
