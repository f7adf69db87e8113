/* DDIM (Song et al. 2020, arXiv:2010.02502, equations 12 and 16); diffusers' scheduling_ddim.py. */
#include "diffusion/sampler_internal.h"
#include "ops/ops.h"
#include <math.h>

static void next(const sampler_place *at, double *coef)
{
    double variance = (1 - at->a_s) / (1 - at->a_t) * (1 - at->a_t / at->a_s);
    double sigma = at->eta * sqrt(fmax(variance, 0));
    coef[SAMPLER_NEXT_X0] = sqrt(at->a_s);
    coef[SAMPLER_NEXT_E] = sqrt(fmax(1 - at->a_s - sigma * sigma, 0));
    coef[SAMPLER_NEXT_NOISE] = sigma;
}

static md_tensor *step(md_tensor *x, sampler_estimate est, md_tensor *noise, md_tensor *coef)
{
    (void)x;
    md_tensor *y = md_add(sampler_scaled(est.x0, coef, SAMPLER_NEXT_X0),
                          sampler_scaled(est.e, coef, SAMPLER_NEXT_E)); /* [N,h,w,C] */
    return noise ? md_add(y, sampler_scaled(noise, coef, SAMPLER_NEXT_NOISE)) : y;
}

const diffusion_sampler sampler__ddim = {.name = "ddim", .step = step, .next = next};
