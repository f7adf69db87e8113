/* The original checkpoint: UNet, VAE and text encoder in one file, under the names of the latent
   diffusion code (github.com/CompVis/latent-diffusion; here "LDM"). One table of rules gives the
   file's name for every parameter, for reading and for writing; the sizes come from the tensors.
   Knows Stable Diffusion 1.x alone: other kinds are told apart in kind.c. */
#ifndef MD_MODEL_LDM_H
#define MD_MODEL_LDM_H

#include "format/safetensors.h"
#include "model/registry.h"

#ifdef __cplusplus
extern "C" {
#endif

/* "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer." */
const char *ldm_prefix(model_part part);

/* The config of a part as its tensors show it. What they do not show is Stable Diffusion 1.x's:
   8 heads in the UNet, 64 channels a head in the text encoder, 32 groups a norm, quick GELU, the
   scaling factor .18215. MD_BAD_INPUT names file and tensor; nothing is allocated. */
MD_MUST md_status ldm_config(const format_tensors *f, model_part part, model_config *out);

/* The file's name for the part's parameter `name`, prefix included. MD_INTERNAL when the rules know
   no such parameter. */
MD_MUST md_status ldm_name(model_part part, const model_config *c, const char *name, char *buf,
                           size_t size, bool *as_conv);

/* What nn_params_load needs: the names of all of p's parameters, in one allocation (free(names)).
   f: the file, whose text encoder may be of the time before "text_model."; NULL: as we write it. */
MD_MUST md_status ldm_names(model_part part, const model_config *c, const nn_params *p,
                            const format_tensors *f, nn_file_name **names);

#ifdef __cplusplus
}
#endif
#endif
