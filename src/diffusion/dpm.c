/* DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095, algorithm 2): x_0 is extrapolated through the
   last two estimates; diffusers' scheduling_dpmsolver_multistep.py with dpmsolver++ and midpoint.
   With lambda = log sqrt(a / (1 - a)) and h, h_0 its increase over this step and the one before:
     x_s = sqrt((1 - a_s) / (1 - a_t)) x + G (x_0 + h / (2 h_0) (x_0 - the x_0 before))
     G = sqrt(a_s) (1 - exp(-h)) = sqrt(a_s) - sqrt(a_t (1 - a_s) / (1 - a_t)) */
#include "diffusion/sampler_internal.h"
#include <math.h>

static double lambda(double a)
{
    return 0.5 * log(a / (1 - a));
}

/* The first step, and by default the last: into no noise h has no end. */
static bool is_first_order(const diffusion_schedule *s, const sampler_place *at)
{
    bool last = at->index == at->count - 1;
    return at->index == 0 || s->first_order ||
           (last &&
            (s->euler_at_final || !s->final_sigma_min || (!s->full_to_end && at->count < 15)));
}

static void next(const diffusion_schedule *s, const sampler_place *at, double *coef)
{
    double shrink = sqrt((1 - at->a_s) / (1 - at->a_t)), more = 0;
    double gain = sqrt(at->a_s) - sqrt(at->a_t) * shrink;
    if (!is_first_order(s, at))
        more = (lambda(at->a_s) - lambda(at->a_t)) / (2 * (lambda(at->a_t) - lambda(at[-1].a_t)));
    coef[SAMPLER_NEXT_X] = shrink;
    coef[SAMPLER_NEXT_X0] = gain * (1 + more);
    coef[SAMPLER_NEXT_PAST] = -gain * more;
    coef[SAMPLER_KEEP_X0] = 1;
}

const diffusion_sampler sampler__dpm = {.name = "dpm++",
                                        .class_name = "DPMSolverMultistepScheduler",
                                        .uses = SAMPLER_USES_X0 | SAMPLER_USES_X,
                                        .past = 1,
                                        .spacing = SCHEDULE_LINSPACE,
                                        .course = sampler__by_sigma,
                                        .next = next};
