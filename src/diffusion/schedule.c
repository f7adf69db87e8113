/* Noise schedules as rows of a table, and the spacing of timesteps. */
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
                                .steps_offset = 1};
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
        !schedule_spacing_name(s->spacing))
        MD_FAIL(MD_INTERNAL, "%s: a schedule, prediction or spacing that does not exist", name);
    if (s->betas != SCHEDULE_SQUARED_COS &&
        !(s->beta_start > 0 && s->beta_start <= s->beta_end && s->beta_end < 1))
        MD_FAIL(MD_BAD_INPUT, "%s: beta_start %g and beta_end %g, wanted 0 < start <= end < 1",
                name, s->beta_start, s->beta_end);
    if (s->steps_offset < 0 || s->steps_offset >= s->train_steps)
        MD_FAIL(MD_BAD_INPUT, "%s: steps_offset is %d, wanted 0 to %d", name, s->steps_offset,
                s->train_steps - 1);
    if (!(s->clip >= 0 && isfinite(s->clip)))
        MD_FAIL(MD_BAD_INPUT, "%s: clip_sample_range is %g", name, s->clip);
    return MD_OK;
}

md_status schedule_alphas_cumprod(const diffusion_schedule *s, double *out)
{
    MD_TRY(schedule_check("noise schedule", s));
    double product = 1;
    for (int t = 0; t < s->train_steps; t++) {
        product *= 1 - betas_table[s->betas].beta(s, t);
        out[t] = product;
    }
    return MD_OK;
}

/* diffusers' schedulers round half to even, as rint does in the default mode. */
md_status schedule_timesteps(const diffusion_schedule *s, int steps, int *out)
{
    MD_TRY(schedule_check("noise schedule", s));
    if (steps < 1 || steps > s->train_steps)
        MD_FAIL(MD_USAGE, "%d sampling steps, 1 to %d are possible", steps, s->train_steps);
    int n = s->train_steps;
    for (int i = 0; i < steps; i++) {
        int back = steps - 1 - i;
        switch (s->spacing) {
        case SCHEDULE_LEADING:
            out[i] = back * (n / steps) + s->steps_offset;
            break;
        case SCHEDULE_TRAILING:
            out[i] = (int)rint(n - i * ((double)n / steps)) - 1;
            break;
        case SCHEDULE_LINSPACE:
            out[i] = (int)rint(point(0, n - 1, back, steps));
            break;
        }
        if (out[i] < 0 || out[i] >= n)
            MD_FAIL(MD_USAGE, "%d %s sampling steps with offset %d reach timestep %d of %d", steps,
                    schedule_spacing_name(s->spacing), s->steps_offset, out[i], n);
    }
    return MD_OK;
}
