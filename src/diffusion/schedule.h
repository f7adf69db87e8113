/* Noise schedules, in double on the host; the timesteps of a sampling: sampler.h. x_t = sqrt(a_t)
   x_0 + sqrt(1 - a_t) e with a_t = alphas_cumprod[t] (Ho et al. 2020, arXiv:2006.11239; written
   alpha-bar there). Options have the meaning of diffusers' scheduler_config.json (0.27.2); reading
   that file is model/'s work. */
#ifndef MD_DIFFUSION_SCHEDULE_H
#define MD_DIFFUSION_SCHEDULE_H

#include "base/status.h"
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum schedule_betas {
    SCHEDULE_SCALED_LINEAR, /* linear in sqrt(beta): Stable Diffusion */
    SCHEDULE_LINEAR,
    SCHEDULE_SQUARED_COS /* Nichol & Dhariwal 2021, arXiv:2102.09672; squaredcos_cap_v2 */
} schedule_betas;

/* What the network's output is. */
typedef enum schedule_prediction {
    SCHEDULE_EPSILON,
    SCHEDULE_X0, /* "sample" in the file */
    SCHEDULE_V   /* sqrt(a) e - sqrt(1 - a) x_0 (Salimans & Ho 2022, arXiv:2202.00512) */
} schedule_prediction;

typedef enum schedule_spacing {
    SCHEDULE_LEADING,
    SCHEDULE_TRAILING,
    SCHEDULE_LINSPACE,
    SCHEDULE_OWN_SPACING /* the file says nothing: each sampler has its own default */
} schedule_spacing;

typedef struct diffusion_schedule {
    int train_steps;
    double beta_start, beta_end; /* unused by SCHEDULE_SQUARED_COS */
    schedule_betas betas;
    schedule_prediction prediction;
    schedule_spacing spacing;
    int steps_offset;      /* added to leading timesteps */
    bool set_alpha_to_one; /* DDIM's last step ends at a = 1 rather than at that of timestep 0 */
    double clip;           /* the estimate of x_0 is clamped to +-clip; 0: clip_sample is off */
    bool zero_snr;         /* rescale_betas_zero_snr: nothing is left of x_0 at the last timestep */

    /* How the folder's own sampler goes about it; zeroed: diffusers' defaults. */
    char sampler[16];     /* a name of sampler.h; "": the file names a class that is not here */
    char refused[160];    /* what of the file's class or options is not here; "": nothing */
    bool karras;          /* dpm++, euler: use_karras_sigmas */
    bool large_variance;  /* ddpm: variance_type fixed_large */
    bool first_order;     /* dpm++: solver_order 1 */
    bool full_to_end;     /* dpm++: lower_order_final off */
    bool euler_at_final;  /* dpm++ */
    bool final_sigma_min; /* dpm++: final_sigmas_type; ends at the noise of timestep 0 */
} diffusion_schedule;

#define SCHEDULE_TRAIN_STEPS_MAX 100000

/* Stable Diffusion 1.x: 1000 steps, .00085 to .012 scaled linear, epsilon, leading, offset 1; ddim,
   as diffusers samples a checkpoint that comes without a scheduler's file. */
diffusion_schedule schedule_stable_diffusion(void);

/* The names of the config file ("scaled_linear", "v_prediction", "trailing"); NULL beyond the last.
 */
const char *schedule_betas_name(schedule_betas b);
const char *schedule_prediction_name(schedule_prediction p);
const char *schedule_spacing_name(schedule_spacing s);

/* Ranges; `name` stands for the file in messages. MD_BAD_INPUT. */
MD_MUST md_status schedule_check(const char *name, const diffusion_schedule *s);
/* out[train_steps], falling; the last is 0 with zero_snr. */
MD_MUST md_status schedule_alphas_cumprod(const diffusion_schedule *s, double *out);

#ifdef __cplusplus
}
#endif
#endif
