/* CLIP's text encoder (Radford et al. 2021, arXiv:2103.00020), named and shaped as transformers'
   CLIPTextModel. */
#ifndef MD_MODEL_CLIP_TEXT_H
#define MD_MODEL_CLIP_TEXT_H

#include "nn/nn.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct clip_text_config {
    int vocab_size, max_position_embeddings;
    int hidden_size, intermediate_size;
    int num_hidden_layers, num_attention_heads;
    md_act hidden_act; /* MD_ACT_QUICK_GELU (SD 1.x) or MD_ACT_GELU (SD 2.x) */
    double layer_norm_eps;
} clip_text_config;

/* ids [N,T] i32, T <= max_position_embeddings -> last hidden state after the final norm
   [N,T,hidden_size]. No padding mask, as SD: padded positions are attended to. */
md_tensor *clip_text(nn m, const clip_text_config *c, md_tensor *ids);
/* Declares every parameter by building the model in a throwaway graph; closes the store. */
MD_MUST md_status clip_text_declare(nn_params *p, const clip_text_config *c);

#ifdef __cplusplus
}
#endif
#endif
