/* A foundation: the pretrained model, a folder in diffusers' layout (model_index.json, tokenizer/,
   text_encoder/, vae/, unet/, scheduler/) or an original checkpoint in a single file. Opening reads
   and checks everything but the weights' values, so that a wrong one ends a job before any work and
   `meddiff plan` can count bytes; loading a part then takes memory. */
#ifndef MD_MODEL_FOUNDATION_H
#define MD_MODEL_FOUNDATION_H

#include "base/sha256.h"
#include "diffusion/schedule.h"
#include "format/tokenizer.h"
#include "model/registry.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef diffusion_schedule foundation_schedule; /* as scheduler_config.json says it */

#define FOUNDATION_PATH 1024

typedef struct foundation {
    char path[FOUNDATION_PATH]; /* folder or file; "" when made by foundation_new */
    char tokenizer_path[FOUNDATION_PATH];
    model_config config[MODEL_N_PARTS];
    const vae_config *vae; /* into config[] */
    const unet_config *unet;
    const clip_text_config *text;
    diffusion_schedule schedule; /* the noise that the UNet was trained with */
    format_tokenizer *tokenizer;
    nn_params *params[MODEL_N_PARTS];             /* declared; allocated by load or randomize */
    char weights[MODEL_N_PARTS][FOUNDATION_PATH]; /* file behind each part, "" if there is none */
    nn_file_rules rules[MODEL_N_PARTS];           /* how it names the parameters */
    nn_file_name *names[MODEL_N_PARTS];           /* of a single file, for rules */
    char lora[FOUNDATION_PATH]; /* file of adapters that are added to them, "" if there is none */
} foundation;

/* Opens a foundation and checks that its parts fit each other. path:
   - a folder; weights are <base>.safetensors, else sharded with <base>.safetensors.index.json, else
   a variant (fp32, fp16, bf16, any other) of either;
   - a repository folder of the Hugging Face cache (models--owner--name): the snapshot of refs/main;
   - a single .safetensors file with LDM names; vocab.json and merges.txt stand in tokenizer/ beside
     it, or beside it; the schedule is Stable Diffusion 1.5's unless scheduler/ beside it differs.
   Pickle files are refused with the name of what to get, other kinds of model with their name.
   MD_BAD_INPUT names file and key or tensor. */
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
/* The terms of what its weights help to make: `data`, those of the data set, and what the
   foundation's folder says of its own ("license:" at the head of README.md, as the hub's model
   cards have it, or LICENSE). free() */
MD_MUST md_status foundation_licences(const foundation *f, const char *data, char **out);
/* SHA-256 of the part's weight file; of a sharded one that of its shards' in the index's order. */
MD_MUST md_status foundation_hash(const foundation *f, model_part part, char hex[MD_SHA256_HEX]);
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
/* Writes all parts as one original checkpoint (LDM names), and tokenizer/ beside it, since such a
   file holds none. Parts held in f32 come from memory, others from their file. */
MD_MUST md_status foundation_save_file(const foundation *f, const char *path, md_backend *be,
                                       bool f16);

/* ---- Adapters (nn/lora.h) */

/* The layers that get one. ATTENTION: queries, keys, values and outputs, as diffusers' scripts do;
   ATTENTION_FF: the two linear layers behind each attention too; ALL: every linear layer and
   convolution. diffusers loads each of them. */
typedef enum foundation_layers {
    FOUNDATION_ATTENTION,
    FOUNDATION_ATTENTION_FF,
    FOUNDATION_ALL
} foundation_layers;

/* Declares adapters beside a part's layers, to be trained in its place. */
MD_MUST md_status foundation_adapt(foundation *f, model_part part, int rank, double scale,
                                   foundation_layers layers);
/* Allocates the adapters of all parts and draws them. */
MD_MUST md_status foundation_draw_lora(foundation *f, md_backend *be, uint64_t seed);
/* Takes them away again. be: where they were allocated, NULL if they were not. */
void foundation_remove_lora(foundation *f, md_backend *be);
/* Writes the adapters of all parts to <folder>/pytorch_lora_weights.safetensors, which diffusers
   loads: pipe.load_lora_weights(folder). */
MD_MUST md_status foundation_save_lora(const foundation *f, const char *folder, md_backend *be);
bool foundation_has_lora(const char *folder); /* whether that file is there */
/* Adds the adapters in <folder> to the weights that are loaded, or copied by foundation_save_part,
   from here on. MD_BAD_INPUT names the file and the tensor. */
MD_MUST md_status foundation_merge_lora(foundation *f, const char *folder);
/* A finished fine-tune's folder: its adapters are merged, or where it has none its UNet, and its
   text encoder if it has one, replace the foundation's. */
MD_MUST md_status foundation_use_tuned(foundation *f, const char *folder);

#ifdef __cplusplus
}
#endif
#endif
