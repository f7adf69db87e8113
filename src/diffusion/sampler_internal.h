/* The rows of the sampler table, and what they share. */
#ifndef MD_DIFFUSION_SAMPLER_INTERNAL_H
#define MD_DIFFUSION_SAMPLER_INTERNAL_H

#include "diffusion/sampler.h"

extern const diffusion_sampler sampler__ddim, sampler__ddpm, sampler__pndm, sampler__dpm,
    sampler__euler;

/* DDIM, DDPM, PNDM: from whole timesteps, each step back by train_steps / steps. */
md_status sampler__strided(const diffusion_sampler *row, const diffusion_schedule *s,
                           const double *alphas, int steps, sampler_place *out);
/* DPM-Solver++ and Euler: by sigma = sqrt((1 - a) / a), each step to the next one's sigma. */
md_status sampler__by_sigma(const diffusion_sampler *row, const diffusion_schedule *s,
                            const double *alphas, int steps, sampler_place *out);
/* Deterministic with eta 0: Euler's step, too. */
void sampler__ddim_next(const diffusion_schedule *s, const sampler_place *at, double *coef);

#endif
