/* Euler's method in sigma (Karras et al. 2022, arXiv:2206.00364, algorithm 2 without churn);
   diffusers' scheduling_euler_discrete.py. There x' = x + (x - x_0) / sigma (sigma_s - sigma); with
   x_0 = x - sigma e that is x_0 + sigma_s e, and as sqrt(a_s) x_0 + sqrt(1 - a_s) e it is DDIM's
   step: what differs is the course, down to sigma = 0, and how loud the first noise is. */
#include "diffusion/sampler_internal.h"

const diffusion_sampler sampler__euler = {.name = "euler",
                                          .class_name = "EulerDiscreteScheduler",
                                          .uses = SAMPLER_USES_X0 | SAMPLER_USES_E,
                                          .spacing = SCHEDULE_LINSPACE,
                                          .course = sampler__by_sigma,
                                          .next = sampler__ddim_next};
