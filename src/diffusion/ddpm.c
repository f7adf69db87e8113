/* Ancestral sampling (Ho et al. 2020, arXiv:2006.11239, equations 6 and 7, over a subset of the
   timesteps) with the smaller of the two variances; diffusers' scheduling_ddpm.py, "fixed_small".
 */
#include "diffusion/sampler_internal.h"
#include "ops/ops.h"
#include <math.h>

static void next(const sampler_place *at, double *coef)
{
    double alpha = at->a_t / at->a_s, beta = 1 - alpha;
    coef[SAMPLER_NEXT_X0] = sqrt(at->a_s) * beta / (1 - at->a_t);
    coef[SAMPLER_NEXT_X] = sqrt(alpha) * (1 - at->a_s) / (1 - at->a_t);
    coef[SAMPLER_NEXT_NOISE] = sqrt(beta * (1 - at->a_s) / (1 - at->a_t));
}

static md_tensor *step(md_tensor *x, sampler_estimate est, md_tensor *noise, md_tensor *coef)
{
    md_tensor *mean = md_add(sampler_scaled(est.x0, coef, SAMPLER_NEXT_X0),
                             sampler_scaled(x, coef, SAMPLER_NEXT_X)); /* [N,h,w,C] */
    return md_add(mean, sampler_scaled(noise, coef, SAMPLER_NEXT_NOISE));
}

const diffusion_sampler sampler__ddpm = {
    .name = "ddpm", .noisy = true, .step = step, .next = next, .ends_at_one = true};
