/* LoRA (Hu et al. 2021, arXiv:2106.09685): beside a frozen layer W x + b stands a trained adapter
   of low rank r, scale B (A x), A [r,I] and B [O,r]. A convolution's A is a convolution like its
   own and its B is 1x1, as in peft. The layers of nn.h ask the store; no model knows of it. */
#ifndef MD_NN_LORA_H
#define MD_NN_LORA_H

#include "nn/nn.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nn_lora {
    int rank;
    double scale;              /* alpha / rank */
    const char *const *layers; /* names, or their last parts ("to_q"), of the layers that get an
                                  adapter; NULL-terminated and static; NULL: every layer */
} nn_lora;

/* Adds an open store of adapters to p, which is closed. Building the model once more declares them,
   nn_params_close(p) closes them; from then on every graph of p has them. They are a store like any
   other, to be allocated, drawn and trained: A starts normal, B zero. p itself may be held in bf16
   alone then; the adapters follow with f32 and bf16. */
MD_MUST md_status nn_lora_add(nn_params *p, const nn_lora *o);
nn_params *nn_lora_adapters(const nn_params *p); /* NULL if there are none; owned by p */
/* Graphs built with them must be gone. be: where they were allocated, NULL if they were not. */
void nn_lora_remove(nn_params *p, md_backend *be);

/* Writes the adapters of n stores as one file that diffusers loads (load_lora_weights), in f32:
   MODEL.LAYER.lora_A.weight and lora_B. B holds scale B: diffusers takes alpha = rank where a file
   names none, and knows no name for it in this form. */
MD_MUST md_status nn_lora_save(nn_params *const *p, int n, md_backend *be, const char *path);

/* Opens and checks such a file: pairs for layers that one of the n stores has, in fitting shapes,
   in f16, bf16 or f32, and nothing else; layers may differ in rank. From then on nn_params_load and
   nn_params_convert give these stores' weights with B A added. MD_BAD_INPUT names file and tensor.
 */
MD_MUST md_status nn_lora_merge(nn_params *const *p, int n, const char *path);
bool nn_lora_merged(const nn_params *p); /* whether any weight of p is changed so */

#ifdef __cplusplus
}
#endif
#endif
