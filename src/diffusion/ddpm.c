/* Ancestral sampling (Ho et al. 2020, arXiv:2006.11239, equations 6 and 7, over a subset of the
   timesteps) with the smaller of the two variances unless the file says fixed_large; diffusers'
   scheduling_ddpm.py. */
#include "diffusion/sampler_internal.h"
#include <math.h>

static void next(const diffusion_schedule *s, const sampler_place *at, double *coef)
{
    double alpha = at->a_t / at->a_s, beta = 1 - alpha;
    double small = beta * (1 - at->a_s) / (1 - at->a_t);
    coef[SAMPLER_NEXT_X0] = sqrt(at->a_s) * beta / (1 - at->a_t);
    coef[SAMPLER_NEXT_X] = sqrt(alpha) * (1 - at->a_s) / (1 - at->a_t);
    coef[SAMPLER_NEXT_NOISE] = sqrt(s->large_variance && at->t > 0 ? beta : small);
}

const diffusion_sampler sampler__ddpm = {.name = "ddpm",
                                         .class_name = "DDPMScheduler",
                                         .uses =
                                             SAMPLER_USES_X0 | SAMPLER_USES_X | SAMPLER_USES_NOISE,
                                         .clips = true,
                                         .ends_at_one = true,
                                         .spacing = SCHEDULE_LEADING,
                                         .course = sampler__strided,
                                         .next = next};
