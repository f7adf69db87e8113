/* DDIM (Song et al. 2020, arXiv:2010.02502, equations 12 and 16); diffusers' scheduling_ddim.py. */
#include "diffusion/sampler_internal.h"
#include <math.h>

void sampler__ddim_next(const diffusion_schedule *s, const sampler_place *at, double *coef)
{
    double variance = (1 - at->a_s) / (1 - at->a_t) * (1 - at->a_t / at->a_s);
    double sigma = at->eta * sqrt(fmax(variance, 0));
    (void)s;
    coef[SAMPLER_NEXT_X0] = sqrt(at->a_s);
    coef[SAMPLER_NEXT_E] = sqrt(fmax(1 - at->a_s - sigma * sigma, 0));
    coef[SAMPLER_NEXT_NOISE] = sigma;
}

const diffusion_sampler sampler__ddim = {.name = "ddim",
                                         .class_name = "DDIMScheduler",
                                         .uses = SAMPLER_USES_X0 | SAMPLER_USES_E,
                                         .eta = true,
                                         .clips = true,
                                         .spacing = SCHEDULE_LEADING,
                                         .course = sampler__strided,
                                         .next = sampler__ddim_next};
