/* Samplers: from the network's output at timestep t to the latent at the next, less noisy one, s.
   A step is a piece of graph whose numbers come from one small device input, so that one captured
   graph serves every step; the host fills that input (sampler_coefficients). All tensors f32.

     coef = md_input(g, "coef", MD_F32, 1, MD_DIMS(SAMPLER_N_COEF))
     est  = sampler_predict(x, pred, coef, schedule.clip)      x_0 and e as the network sees them
     next = row->step(x, est, noise, coef)                     or blend_step (blend.h) around both

   A new sampler is one function pair and one row of the table. */
#ifndef MD_DIFFUSION_SAMPLER_H
#define MD_DIFFUSION_SAMPLER_H

#include "diffusion/schedule.h"
#include "graph/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    SAMPLER_X0_X, /* x_0 = X0_X x + X0_PRED pred */
    SAMPLER_X0_PRED,
    SAMPLER_E_X, /* e = E_X x + E_PRED pred */
    SAMPLER_E_PRED,
    SAMPLER_EX_X, /* e = EX_X x + EX_X0 x_0, for an x_0 that was changed */
    SAMPLER_EX_X0,
    SAMPLER_NEXT_X0, /* next = NEXT_X0 x_0 + NEXT_X x + NEXT_E e + NEXT_NOISE noise */
    SAMPLER_NEXT_X,
    SAMPLER_NEXT_E,
    SAMPLER_NEXT_NOISE,
    SAMPLER_N_COEF
};

/* Where a sampling is: fill with sampler_at. */
typedef struct sampler_place {
    int index, steps; /* 0-based; the last is steps - 1 */
    int t, s;         /* timesteps; s is -1 after the last, or between two of the training's */
    double a_t, a_s;  /* alphas_cumprod there */
    double eta;
} sampler_place;

typedef struct sampler_estimate {
    md_tensor *x0, *e; /* x's shape */
} sampler_estimate;

typedef struct diffusion_sampler {
    const char *name;
    bool noisy; /* needs the noise input for every eta (DDPM); DDIM only for eta > 0 */
    /* x, est, noise [N,h,w,C]; coef [SAMPLER_N_COEF]; noise may be NULL when unused. */
    md_tensor *(*step)(md_tensor *x, sampler_estimate est, md_tensor *noise, md_tensor *coef);
    /* Fills the NEXT_* entries; the others are common. */
    void (*next)(const sampler_place *at, double *coef);
    bool ends_at_one; /* a_s after the last step is 1, whatever set_alpha_to_one says */
} diffusion_sampler;

/* "ddim", "ddpm"; NULL if there is none of that name. */
const diffusion_sampler *sampler_find(const char *name);
const diffusion_sampler *sampler_row(int i); /* by number; NULL beyond the last */
bool sampler_wants_noise(const diffusion_sampler *s, double eta);

/* Step `index` of `steps`. alphas: schedule_alphas_cumprod; timesteps: schedule_timesteps. */
MD_MUST md_status sampler_at(const diffusion_sampler *row, const diffusion_schedule *s,
                             const double *alphas, const int *timesteps, int steps, int index,
                             double eta, sampler_place *out);
/* coef[SAMPLER_N_COEF] for this step; write them to the input with MD_F64. */
void sampler_coefficients(const diffusion_sampler *row, const diffusion_schedule *s,
                          const sampler_place *at, double *coef);

/* Both estimates from the network's output. clip > 0 clamps x_0 to +-clip; as in diffusers, e keeps
   what the network said. */
sampler_estimate sampler_predict(md_tensor *x, md_tensor *pred, md_tensor *coef, double clip);
/* e that belongs to a changed x_0. */
md_tensor *sampler_noise_of(md_tensor *x, md_tensor *x0, md_tensor *coef);

/* coef[i] as a [1] tensor, and x times it. */
md_tensor *sampler_coef(md_tensor *coef, int i);
md_tensor *sampler_scaled(md_tensor *x, md_tensor *coef, int i);

#ifdef __cplusplus
}
#endif
#endif
