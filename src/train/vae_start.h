/* Where the tiny autoencoder's training starts: weights that already pass colours through. */
#ifndef MD_TRAIN_VAE_START_H
#define MD_TRAIN_VAE_START_H

#include "model/vae.h"

/* From random weights in the allocated store p of `c`, makes an autoencoder whose first three
   latent channels are the colours averaged over blocks (in [-1,1]) and whose decoder shows them as
   blocks; everything else stays random, off the colours' path. Wanted: in_channels 3,
   latent_channels at least 4, and groups of norm_num_groups that hold four or more channels: two
   would lose the picture's level and contrast in the last norm. MD_UNSUPPORTED otherwise. Local. */
MD_MUST md_status train_vae_start(nn_params *p, md_backend *be, const vae_config *c);

#endif
