/* The denoisers: diffusers' UNet2DConditionModel (SD 1.x and 2.x) and, without a context, its
   UNet2DModel, which draws masks. Both are named and shaped as there. */
#ifndef MD_MODEL_UNET_H
#define MD_MODEL_UNET_H

#include "model/vae.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct unet_config {
    int in_channels; /* 4: noisy latent; 9: noisy latent, mask, latent of the masked image */
    int out_channels;
    int sample_size; /* latent edge it was trained at; informative */
    int n_blocks;
    int block_out_channels[MODEL_MAX_BLOCKS];
    bool down_attention[MODEL_MAX_BLOCKS]; /* CrossAttnDownBlock2D, AttnDownBlock2D */
    bool up_attention[MODEL_MAX_BLOCKS];   /* CrossAttnUpBlock2D, AttnUpBlock2D */
    int layers_per_block[MODEL_MAX_BLOCKS];
    int transformer_layers[MODEL_MAX_BLOCKS]; /* with a context */
    /* Heads per level, down order. The config's key for it is attention_head_dim, a misnomer that
       diffusers keeps for the sake of old files (issue 2011 there); in a UNet2DModel it means what
       it says. */
    int heads[MODEL_MAX_BLOCKS];
    int cross_attention_dim; /* 0: no context, positions attend to each other alone (UNet2DModel) */
    int norm_num_groups;
    double norm_eps;
    bool use_linear_projection; /* proj_in and proj_out are stored as linear, not as 1x1 conv */
    bool flip_sin_to_cos;
    double freq_shift;
    int time_embedding_dim; /* 4 x the first block's channels unless given */
} unet_config;

/* Latent edge must be a multiple of this. */
int unet_multiple(const unet_config *c);

/* sample [N,h,w,in_channels], timesteps [N] f32, context [N,T,cross_attention_dim] or NULL ->
   [N,h,w,out_channels] */
md_tensor *unet(nn m, const unet_config *c, md_tensor *sample, md_tensor *timesteps,
                md_tensor *context);
/* The mask generator's: one picture, and beside it a sketch where there are channels for it.
   x [N,h,w,1] f32, sketch [N,h,w,in_channels - 1] f32 or NULL -> [N,h,w,1] */
bool mask_unet_sketches(const unet_config *c);
md_tensor *mask_unet(nn m, const unet_config *c, md_tensor *x, md_tensor *sketch,
                     md_tensor *timesteps);
/* Declares every parameter by building the model in a throwaway graph; closes the store. */
MD_MUST md_status unet_declare(nn_params *p, const unet_config *c);
static inline md_status mask_unet_declare(nn_params *p, const unet_config *c)
{
    return unet_declare(p, c);
}

#ifdef __cplusplus
}
#endif
#endif
