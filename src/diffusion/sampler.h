/* Samplers: from the network's output at timestep t to the latent at the next, less noisy one, s.
   A step is a piece of graph whose numbers come from one small device input, so that one captured
   graph serves every step, the first ones of a multistep sampler too (what is not there yet counts
   zero times); the host fills that input. x is always sqrt(a) x_0 + sqrt(1 - a) e, for Euler too,
   whose own latent in diffusers is x / sqrt(a): blends see one kind of latent. All tensors f32.

     sampler_course(row, schedule, steps, eta, course)        all places, on the host
     coef = md_input(g, "coef", MD_F32, 1, MD_DIMS(SAMPLER_N_COEF))
     est  = sampler_predict(row, x, pred, coef, clip)         x_0 and e as the network sees them
     next = sampler_step(row, x, est, noise, past, coef)      or blend_step (blend.h) around all
     sampler_remember(row, est, past, coef)                   for the steps to come

   A new sampler is one file with its course and coefficients, and one row of the table. */
#ifndef MD_DIFFUSION_SAMPLER_H
#define MD_DIFFUSION_SAMPLER_H

#include "diffusion/schedule.h"
#include "graph/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SAMPLER_PAST_MAX 4

enum {
    SAMPLER_X0_X, /* x_0 = X0_X x + X0_PRED pred */
    SAMPLER_X0_PRED,
    SAMPLER_E_X, /* e = E_X x + E_PRED pred */
    SAMPLER_E_PRED,
    SAMPLER_EX_X, /* e = EX_X x + EX_X0 x_0, for an x_0 that was changed */
    SAMPLER_EX_X0,
    SAMPLER_NEXT_X0, /* next = NEXT_X0 x_0 + NEXT_X x + NEXT_E e + NEXT_NOISE noise + ... */
    SAMPLER_NEXT_X,
    SAMPLER_NEXT_E,
    SAMPLER_NEXT_NOISE,
    SAMPLER_NEXT_PAST, /* ... + the sum of NEXT_PAST[i] past[i], the latest first */
    SAMPLER_KEEP_X0 = SAMPLER_NEXT_PAST + SAMPLER_PAST_MAX, /* past = KEEP_X0 x_0 + KEEP_E e */
    SAMPLER_KEEP_E,
    SAMPLER_N_COEF
};

/* One evaluation of the network in its course, an array: at[-1] is the evaluation before. */
typedef struct sampler_place {
    int index, count; /* 0-based; the last is count - 1 */
    double t;         /* what the network is told; whole but for euler */
    double a_t, a_s;  /* alphas_cumprod of x before and after the step */
    double a_from;    /* where the step starts: a_t but for pndm's second evaluation */
    double a_next;    /* where the network looks next: a_s unless timesteps are uneven */
    double eta;
} sampler_place;

typedef struct sampler_estimate {
    md_tensor *x0, *e; /* x's shape */
} sampler_estimate;

/* What a step adds up, beside the past. */
enum { SAMPLER_USES_X0 = 1, SAMPLER_USES_X = 2, SAMPLER_USES_E = 4, SAMPLER_USES_NOISE = 8 };

typedef struct diffusion_sampler diffusion_sampler;
struct diffusion_sampler {
    const char *name;
    const char *class_name; /* in scheduler_config.json */
    unsigned uses;
    int past;                 /* evaluations remembered */
    int extra;                /* evaluations beside one for each step, where there are two steps */
    bool eta;                 /* takes eta: noise where it is above 0 */
    bool clips;               /* minds clip_sample, as its class does in diffusers */
    bool ends_at_one;         /* a_s after the last step is 1, whatever set_alpha_to_one says */
    schedule_spacing spacing; /* where the file names none */
    /* t, a_t, a_s, a_from, a_next of all places. */
    md_status (*course)(const diffusion_sampler *row, const diffusion_schedule *s,
                        const double *alphas, int steps, sampler_place *out);
    /* Fills the NEXT_* and KEEP_* entries; the others are common. */
    void (*next)(const diffusion_schedule *s, const sampler_place *at, double *coef);
};

/* "ddim", "ddpm", "pndm", "dpm++", "euler"; NULL if there is none of that name. */
const diffusion_sampler *sampler_find(const char *name);
const diffusion_sampler *sampler_row(int i); /* by number; NULL beyond the last */
bool sampler_wants_noise(const diffusion_sampler *row, double eta);

/* Evaluations of the network in `steps` steps. */
int sampler_evaluations(const diffusion_sampler *row, int steps);
/* out[sampler_evaluations]. MD_USAGE when that many steps do not fit, or when the network cannot be
   asked at an alphas_cumprod of 0. */
MD_MUST md_status sampler_course(const diffusion_sampler *row, const diffusion_schedule *s,
                                 int steps, double eta, sampler_place *out);
/* The latent to begin with is this times unit normal noise. */
double sampler_start(const diffusion_sampler *row, const diffusion_schedule *s,
                     const sampler_place *course);
/* coef[SAMPLER_N_COEF] for this evaluation; write them to the input with MD_F64. */
void sampler_coefficients(const diffusion_sampler *row, const diffusion_schedule *s,
                          const sampler_place *at, double *coef);

/* Both estimates from the network's output. clip > 0 clamps x_0 to +-clip where the sampler minds
   it; as in diffusers, e keeps what the network said. */
sampler_estimate sampler_predict(const diffusion_sampler *row, md_tensor *x, md_tensor *pred,
                                 md_tensor *coef, double clip);
/* e that belongs to a changed x_0. */
md_tensor *sampler_noise_of(md_tensor *x, md_tensor *x0, md_tensor *coef);
/* x, est, noise [N,h,w,C]; noise NULL where sampler_wants_noise says no; past as in
   sampler_remember, not yet changed. */
md_tensor *sampler_step(const diffusion_sampler *row, md_tensor *x, sampler_estimate est,
                        md_tensor *noise, md_tensor *past, md_tensor *coef);
/* past [row->past N,h,w,C], persistent, the latest first, zeroed before the first evaluation:
   shifted by one and updated in place. Returns the updated tensor, to be listed among the plan's
   outputs; NULL where the sampler remembers nothing. */
md_tensor *sampler_remember(const diffusion_sampler *row, sampler_estimate est, md_tensor *past,
                            md_tensor *coef);

/* coef[i] as a [1] tensor, and x times it. */
md_tensor *sampler_coef(md_tensor *coef, int i);
md_tensor *sampler_scaled(md_tensor *x, md_tensor *coef, int i);

#ifdef __cplusplus
}
#endif
#endif
