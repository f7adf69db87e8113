/* A model outside a foundation: a folder with config.json and weights, as transformers and
   diffusers write one alone. The encoder (DINOv2) and the mask generator's UNet are such models. */
#ifndef MD_MODEL_STANDALONE_H
#define MD_MODEL_STANDALONE_H

#include "base/sha256.h"
#include "model/foundation.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct standalone {
    model_part part;            /* MODEL_MASK_UNET or MODEL_DINO */
    char path[FOUNDATION_PATH]; /* folder; "" when made by standalone_new */
    model_config config;
    nn_params *params;             /* declared; allocated by load or randomize */
    char weights[FOUNDATION_PATH]; /* file behind it, "" if there is none */
} standalone;

/* Opens a folder, or a repository folder of the Hugging Face cache (models--owner--name), and
   checks everything but the weights' values. MD_BAD_INPUT names file and key or tensor; a pickle is
   refused with the name of what to get. */
MD_MUST md_status standalone_open(model_part part, const char *folder, standalone **out);
/* From a config made in code. */
MD_MUST md_status standalone_new(model_part part, const model_config *config, standalone **out);
/* be: where it was loaded, NULL if it was not. */
void standalone_free(standalone *s, md_backend *be);
/* Allocates the parameters and reads or draws them. nn_params_hold(s->params, ...) goes before. */
MD_MUST md_status standalone_load(standalone *s, md_backend *be);
MD_MUST md_status standalone_randomize(standalone *s, md_backend *be, uint64_t seed);
/* Writes <folder>/{config.json, weights} from the loaded parameters, or from `values` (laid out
   alike, e.g. the moving average) if not NULL. */
MD_MUST md_status standalone_save(const standalone *s, const char *folder, md_backend *be,
                                  const md_buffer *values, bool f16);
/* SHA-256 of the weight file; of a sharded one that of its shards' in the index's order. */
MD_MUST md_status standalone_hash(const standalone *s, char hex[MD_SHA256_HEX]);

#ifdef __cplusplus
}
#endif
#endif
