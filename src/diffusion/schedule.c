/* Noise schedules as rows of a table. */
#include "diffusion/schedule.h"
#include <math.h>
#include <stddef.h>

diffusion_schedule schedule_stable_diffusion(void)
{
    return (diffusion_schedule){.train_steps = 1000,
                                .beta_start = 0.00085,
                                .beta_end = 0.012,
                                .betas = SCHEDULE_SCALED_LINEAR,
                                .prediction = SCHEDULE_EPSILON,
                                .spacing = SCHEDULE_LEADING,
                                .steps_offset = 1,
                                .sampler = "ddim"};
}

/* i of n points from a to b, both included. */
static double point(double a, double b, int i, int n)
{
    return n > 1 ? a + (b - a) * i / (n - 1) : a;
}

static double scaled_linear(const diffusion_schedule *s, int t)
{
    double root = point(sqrt(s->beta_start), sqrt(s->beta_end), t, s->train_steps);
    return root * root;
}

static double linear(const diffusion_schedule *s, int t)
{
    return point(s->beta_start, s->beta_end, t, s->train_steps);
}

static double cos_alpha_bar(double u)
{
    double c = cos((u + 0.008) / 1.008 * acos(-1.0) / 2);
    return c * c;
}

static double squared_cos(const diffusion_schedule *s, int t)
{
    double n = s->train_steps;
    return fmin(1 - cos_alpha_bar((t + 1) / n) / cos_alpha_bar(t / n), 0.999);
}

static const struct {
    const char *name;
    double (*beta)(const diffusion_schedule *s, int t);
} betas_table[] = {
    [SCHEDULE_SCALED_LINEAR] = {"scaled_linear", scaled_linear},
    [SCHEDULE_LINEAR] = {"linear", linear},
    [SCHEDULE_SQUARED_COS] = {"squaredcos_cap_v2", squared_cos},
};
static const char *const predictions[] = {"epsilon", "sample", "v_prediction"};
static const char *const spacings[] = {"leading", "trailing", "linspace"};

#define COUNT(a) (sizeof(a) / sizeof *(a))

const char *schedule_betas_name(schedule_betas b)
{
    return (size_t)b < COUNT(betas_table) ? betas_table[b].name : NULL;
}

const char *schedule_prediction_name(schedule_prediction p)
{
    return (size_t)p < COUNT(predictions) ? predictions[p] : NULL;
}

const char *schedule_spacing_name(schedule_spacing s)
{
    return (size_t)s < COUNT(spacings) ? spacings[s] : NULL;
}

md_status schedule_check(const char *name, const diffusion_schedule *s)
{
    if (s->train_steps < 1 || s->train_steps > SCHEDULE_TRAIN_STEPS_MAX)
        MD_FAIL(MD_BAD_INPUT, "%s: num_train_timesteps is %d, 1 to %d are supported", name,
                s->train_steps, SCHEDULE_TRAIN_STEPS_MAX);
    if (!schedule_betas_name(s->betas) || !schedule_prediction_name(s->prediction) ||
        (!schedule_spacing_name(s->spacing) && s->spacing != SCHEDULE_OWN_SPACING))
        MD_FAIL(MD_INTERNAL, "%s: a schedule, prediction or spacing that does not exist", name);
    if (s->betas != SCHEDULE_SQUARED_COS &&
        !(s->beta_start > 0 && s->beta_start <= s->beta_end && s->beta_end < 1))
        MD_FAIL(MD_BAD_INPUT, "%s: beta_start %g and beta_end %g, wanted 0 < start <= end < 1",
                name, s->beta_start, s->beta_end);
    if (s->steps_offset < 0 || s->steps_offset >= s->train_steps)
        MD_FAIL(MD_BAD_INPUT, "%s: steps_offset is %d, wanted 0 to %d", name, s->steps_offset,
                s->train_steps - 1);
    if (s->zero_snr && s->train_steps < 2)
        MD_FAIL(MD_BAD_INPUT, "%s: rescale_betas_zero_snr with one timestep", name);
    if (!(s->clip >= 0 && isfinite(s->clip)))
        MD_FAIL(MD_BAD_INPUT, "%s: clip_sample_range is %g", name, s->clip);
    return MD_OK;
}

/* Lin et al. 2023, arXiv:2305.08891, algorithm 1: sqrt(a) shifted and scaled so that the first
   stays and the last is 0. */
static void rescale_to_zero_snr(double *a, int n)
{
    double first = sqrt(a[0]), last = sqrt(a[n - 1]);
    for (int t = 0; t < n; t++) {
        double root = (sqrt(a[t]) - last) * first / (first - last);
        a[t] = root * root;
    }
}

md_status schedule_alphas_cumprod(const diffusion_schedule *s, double *out)
{
    MD_TRY(schedule_check("noise schedule", s));
    double product = 1;
    for (int t = 0; t < s->train_steps; t++) {
        product *= 1 - betas_table[s->betas].beta(s, t);
        out[t] = product;
    }
    if (s->zero_snr)
        rescale_to_zero_snr(out, s->train_steps);
    return MD_OK;
}
