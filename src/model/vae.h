/* The autoencoder of latent diffusion (Rombach et al. 2022, arXiv:2112.10752), named and shaped as
   diffusers' AutoencoderKL. Images are [-1,1], NHWC. */
#ifndef MD_MODEL_VAE_H
#define MD_MODEL_VAE_H

#include "nn/nn.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MODEL_MAX_BLOCKS 8

typedef struct vae_config {
    int in_channels, out_channels, latent_channels;
    int n_blocks; /* the latent is 2^(n_blocks-1) times smaller than the image */
    int block_out_channels[MODEL_MAX_BLOCKS];
    int layers_per_block;
    int norm_num_groups;
    int sample_size;    /* image edge it was trained at; informative */
    bool mid_attention; /* mid_block_add_attention */
    bool use_quant_conv, use_post_quant_conv;
    double scaling_factor; /* the UNet sees scaling_factor * z */
} vae_config;

/* Image edge / latent edge. */
int vae_shrink(const vae_config *c);

/* image [N,H,W,in_channels], H and W multiples of vae_shrink -> moments
   [N,H/f,W/f,2 latent_channels]: mean, then log variance. */
md_tensor *vae_encode(nn m, const vae_config *c, md_tensor *image);
/* z [N,h,w,latent_channels], not scaled -> image [N,f h,f w,out_channels], not clipped */
md_tensor *vae_decode(nn m, const vae_config *c, md_tensor *z);
/* Declares every parameter by building both halves in a throwaway graph; closes the store. */
MD_MUST md_status vae_declare(nn_params *p, const vae_config *c);

/* The Gaussian that moments describe. Log variance is clamped to [-30,20] as in diffusers. */
md_tensor *vae_mean(md_tensor *moments);   /* [N,h,w,latent_channels] */
md_tensor *vae_logvar(md_tensor *moments); /* [N,h,w,latent_channels] */
/* exp(logvar / 2), the log variance clamped as above; on the host */
double vae_deviation(double logvar);
/* mean + exp(logvar / 2) noise; noise [N,h,w,latent_channels] standard normal */
md_tensor *vae_sample(md_tensor *moments, md_tensor *noise);
/* KL(q || N(0,1)) in nats, the mean over the elements of each latent: [N,1,1,1] */
md_tensor *vae_kl(md_tensor *moments);

#ifdef __cplusplus
}
#endif
#endif
