/* Guided sampling (MedDiff-FT, equation 2): inside the guide M the model paints, outside stands the
   known background z_0. After the step from t to s: x = M x_model + (1 - M) F. What F is, is the
   blend; with alpha = a_t / a_s, beta = 1 - alpha, sigma^2 = beta (1 - a_s) / (1 - a_t):
     paper       sqrt(a_s) beta / (1 - a_t) z_0 + sqrt(alpha) (1 - a_s) / (1 - a_t) x_t + sigma z,
                 z the step's noise: q(x_s | x_t, z_0), equation 7 of DDPM
     paper-mean  the same without sigma z, as the equation is printed
     renoise     sqrt(a_s) z_0 + sqrt(1 - a_s) map, one fixed noise map for all steps (diffusers; s
                 is where the network looks next)
     x0          the clean estimate is blended before the step: M x_0 + (1 - M) z_0
     none        nothing; for UNets that see mask and background as input channels
   After the last step all but none have exactly z_0 where M is 0. Every blend goes with every
   sampler: where pndm evaluates twice, F of the second is x_t. */
#ifndef MD_DIFFUSION_BLEND_H
#define MD_DIFFUSION_BLEND_H

#include "diffusion/sampler.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    BLEND_ON,    /* 1: x = M x_model + (1 - M) F; 0: x = x_model */
    BLEND_CLEAN, /* F = CLEAN z_0 + X x_t + NOISE z + MAP map */
    BLEND_X,
    BLEND_NOISE,
    BLEND_MAP,
    BLEND_ESTIMATE, /* 1: x_0 = M x_0 + (1 - M) z_0 before the step; 0: as the network has it */
    BLEND_N_COEF
};

typedef struct diffusion_blend {
    const char *name;
    bool active;   /* uses mask and z_0 */
    bool estimate; /* blends x_0 before the step */
    bool uses_noise, uses_map;
    /* coef[BLEND_N_COEF], zeroed, for any step but the last. */
    void (*fill)(const sampler_place *at, double *coef);
} diffusion_blend;

/* "paper", "paper-mean", "renoise", "x0", "none"; NULL if there is none of that name. */
const diffusion_blend *blend_find(const char *name);
const diffusion_blend *blend_row(int i); /* by number; NULL beyond the last */

/* coef[BLEND_N_COEF] for this step; write them to the input with MD_F64. */
void blend_coefficients(const diffusion_blend *b, const sampler_place *at, double *coef);

/* Device inputs of a step; all f32. Those that sampler and blend do not use may be NULL. */
typedef struct blend_inputs {
    md_tensor *x;          /* [N,h,w,C] the latent at t */
    md_tensor *pred;       /* [N,h,w,C] the network's output, guidance applied */
    md_tensor *noise;      /* [N,h,w,C] unit normal, this step's */
    md_tensor *map;        /* [N,h,w,C] unit normal, the same at all steps */
    md_tensor *past;       /* [past N,h,w,C] as in sampler_remember */
    md_tensor *clean;      /* [N,h,w,C] z_0, the background's latent */
    md_tensor *mask;       /* [N,h,w,1] M in [0,1], may change from step to step */
    md_tensor *coef;       /* [SAMPLER_N_COEF] */
    md_tensor *blend_coef; /* [BLEND_N_COEF] */
    double eta;
} blend_inputs;

bool blend_wants_noise(const diffusion_blend *b, const diffusion_sampler *s, double eta);

/* One guided step: [N,h,w,C], the latent at s. clip as in sampler_predict; *past is what
   sampler_remember returned, NULL or one more output for the plan. */
md_tensor *blend_step(const diffusion_blend *b, const diffusion_sampler *s, const blend_inputs *in,
                      double clip, md_tensor **past);

/* M of equation 2 over time. guide[n] in [0,1]; feather[n] is 0 at its edge and 1 in its core (1
   everywhere: no feather); level falls from 1 at pure noise to 0 (blend_level), where both moving
   masks are the guide:
     static      M = guide feather
     edge first  M = guide where feather <= 1 - level, else 0
     core first  M = guide where feather >= level, else 0: each place may change as long as its
                 change map says, as in Differential Diffusion (arXiv:2306.00950) */
typedef enum blend_motion { BLEND_STATIC, BLEND_EDGE_FIRST, BLEND_CORE_FIRST } blend_motion;
void blend_mask_at(blend_motion motion, const float *guide, const float *feather, int64_t n,
                   double level, float *out);
/* Level of the latent that the step at this place leads to: its timestep's share of all
   train_steps, less the last `settled` of them: level 0 from t = settled train_steps on. 0 after
   the last step. */
double blend_level(const sampler_place *at, int train_steps, double settled);

#ifdef __cplusplus
}
#endif
#endif
