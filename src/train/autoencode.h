/* The VAE's task: reconstruct procedural pictures through the latent (Kingma & Welling 2014). */
#ifndef MD_TRAIN_AUTOENCODE_H
#define MD_TRAIN_AUTOENCODE_H

#include "model/vae.h"
#include "train/step.h"

typedef struct autoencode {
    const vae_config *config;
    nn_params *params;
    md_dtype dtype;
    uint64_t seed;
    int64_t batch; /* global */
    int crop;      /* edge of the square cut from each 128 x 128 picture */
    double kl;     /* weight of the KL term, nats per latent element */

    md_tensor *image, *noise, *weight; /* inputs of the last graph built */
} autoencode;

/* L_i = log(mse_i + 1e-5) + kl * KL_i, mse_i the mean over pixels of (reconstruction - picture)^2
   in
   [-1,1] units: the likelihood with the best variance for each picture (Rybkin et al. 2021,
   arXiv:2006.13202), so that every picture's PSNR counts alike. Plain squares let the noisiest
   pictures outweigh the colours of all others. `a` must outlive the task. */
train_task autoencode_task(autoencode *a);

#endif
