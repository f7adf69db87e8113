/* The rows of the sampler table. */
#ifndef MD_DIFFUSION_SAMPLER_INTERNAL_H
#define MD_DIFFUSION_SAMPLER_INTERNAL_H

#include "diffusion/sampler.h"

extern const diffusion_sampler sampler__ddim, sampler__ddpm;

#endif
