/* The timesteps of a sampling as diffusers' schedulers space them, and the noise levels that it
   passes. Not here: what a step does with them. */
#include "diffusion/sampler_internal.h"
#include <math.h>
#include <stdlib.h>

/* Where an x without anything of x_0 would be, samplers that divide by a see this (diffusers). */
static const double LEAST_ALPHA = 1.0 / (1 << 24);

static schedule_spacing spacing_of(const diffusion_sampler *row, const diffusion_schedule *s)
{
    return s->spacing == SCHEDULE_OWN_SPACING ? row->spacing : s->spacing;
}

/* Timestep i of n, falling. beyond: 1 where one more is spaced and left out (DPM-Solver++). */
static double timestep(const diffusion_sampler *row, const diffusion_schedule *s, int n, int i,
                       int beyond)
{
    int last = s->train_steps - 1, back = n - 1 - i + beyond, points = n + beyond;
    double all = s->train_steps,
           stride = all - (all - all / n); /* rounded as numpy's arange does */
    switch (spacing_of(row, s)) {
    case SCHEDULE_LEADING:
        return back * (s->train_steps / points) + s->steps_offset;
    case SCHEDULE_TRAILING:
        return rint(all - i * stride) - 1;
    default: /* in numpy's linspace's order: ties decide */
        return points > 1 && back < points - 1 ? back * ((double)last / (points - 1))
               : points > 1                    ? last
                                               : 0;
    }
}

/* All n; whole: rounded, half to even. */
static md_status space(const diffusion_sampler *row, const diffusion_schedule *s, int n, int beyond,
                       bool whole, sampler_place *out)
{
    if (n < 1 || n + beyond > s->train_steps)
        MD_FAIL(MD_USAGE, "%s: %d sampling steps, 1 to %d are possible", row->name, n,
                s->train_steps - beyond);
    for (int i = 0; i < n; i++) {
        double t = timestep(row, s, n, i, beyond);
        out[i] = (sampler_place){.t = whole ? rint(t) : t};
        if (!(out[i].t >= 0 && out[i].t <= s->train_steps - 1))
            MD_FAIL(MD_USAGE,
                    "%s: %d %s sampling steps with steps_offset %d reach timestep %g of %d",
                    row->name, n, schedule_spacing_name(spacing_of(row, s)), s->steps_offset,
                    out[i].t, s->train_steps);
    }
    return MD_OK;
}

/* diffusers goes back by a fixed stride, also where the spacing is uneven. */
md_status sampler__strided(const diffusion_sampler *row, const diffusion_schedule *s,
                           const double *alphas, int steps, sampler_place *out)
{
    MD_TRY(space(row, s, steps, 0, true, out));
    double end = s->set_alpha_to_one || row->ends_at_one ? 1 : alphas[0];
    for (int i = 0; i < steps; i++) {
        int t = (int)out[i].t, prev = t - s->train_steps / steps;
        out[i].a_t = out[i].a_from = alphas[t];
        out[i].a_s = out[i].a_next = prev >= 0 ? alphas[prev] : end;
        if (i > 0)
            out[i - 1].a_next = out[i].a_t;
    }
    return MD_OK;
}

static double sigma_of(double a)
{
    return sqrt((1 - fmax(a, LEAST_ALPHA)) / fmax(a, LEAST_ALPHA));
}

/* Between two timesteps sigma is interpolated. */
static double sigma_at(const double *alphas, int n, double t)
{
    int lo = (int)t;
    double w = t - lo, at = sigma_of(alphas[lo]);
    return lo + 1 < n && w > 0 ? at + w * (sigma_of(alphas[lo + 1]) - at) : at;
}

/* The timestep of a sigma, by interpolation of its logarithm. */
static double timestep_of(const double *alphas, int n, double sigma)
{
    int lo = 0;
    if (n < 2)
        return 0;
    while (lo < n - 2 && sigma_of(alphas[lo + 1]) <= sigma)
        lo++;
    double a = log(sigma_of(alphas[lo])), b = log(sigma_of(alphas[lo + 1]));
    return lo + fmin(fmax((log(sigma) - a) / (b - a), 0), 1);
}

/* Karras et al. 2022, equation 5: sigma of n that fall from `high` to `low`. */
static double karras(double high, double low, int i, int n)
{
    const double rho = 7;
    double a = pow(high, 1 / rho), b = pow(low, 1 / rho);
    return pow(a + (n > 1 ? (double)i / (n - 1) : 0) * (b - a), rho);
}

md_status sampler__by_sigma(const diffusion_sampler *row, const diffusion_schedule *s,
                            const double *alphas, int steps, sampler_place *out)
{
    bool dpm = row == &sampler__dpm;
    int n = s->train_steps;
    MD_TRY(space(row, s, steps, dpm, dpm, out));
    double high = sigma_at(alphas, n, dpm ? n - 1 : out[0].t);
    double low = sigma_at(alphas, n, dpm ? 0 : out[steps - 1].t);
    for (int i = 0; i < steps; i++) {
        double sigma = s->karras ? karras(high, low, i, steps) : sigma_at(alphas, n, out[i].t);
        if (s->karras) {
            out[i].t = timestep_of(alphas, n, sigma);
            out[i].t = dpm ? rint(out[i].t) : out[i].t;
        }
        out[i].a_t = out[i].a_from = 1 / (1 + sigma * sigma);
        out[i].a_s = out[i].a_next = dpm && s->final_sigma_min ? alphas[0] : 1;
        if (i > 0)
            out[i - 1].a_s = out[i - 1].a_next = out[i].a_t;
    }
    return MD_OK;
}

bool sampler_wants_noise(const diffusion_sampler *row, double eta)
{
    return row->uses & SAMPLER_USES_NOISE || (row->eta && eta > 0);
}

int sampler_evaluations(const diffusion_sampler *row, int steps)
{
    return steps > 1 ? steps + row->extra : steps;
}

md_status sampler_course(const diffusion_sampler *row, const diffusion_schedule *s, int steps,
                         double eta, sampler_place *out)
{
    int n = sampler_evaluations(row, steps);
    MD_TRY(schedule_check("noise schedule", s));
    double *alphas = malloc((size_t)s->train_steps * sizeof *alphas);
    if (!alphas)
        MD_FAIL(MD_NOMEM, "sampler: out of memory");
    md_status status = schedule_alphas_cumprod(s, alphas);
    if (status == MD_OK)
        status = row->course(row, s, alphas, steps, out);
    free(alphas);
    MD_TRY(status);
    for (int i = 0; i < n; i++) {
        out[i].index = i;
        out[i].count = n;
        out[i].eta = row->eta ? eta : 0;
        if (s->prediction == SCHEDULE_EPSILON && !(out[i].a_t > 0 && out[i].a_from > 0))
            MD_FAIL(
                MD_USAGE,
                "%s: with rescale_betas_zero_snr nothing is left of the picture at timestep %g, "
                "and prediction_type epsilon cannot start there: such models predict v; or use "
                "timestep_spacing leading",
                row->name, out[i].t);
    }
    return MD_OK;
}

/* diffusers' init_noise_sigma, for an x that is scaled down by sqrt(1 + sigma^2). */
double sampler_start(const diffusion_sampler *row, const diffusion_schedule *s,
                     const sampler_place *course)
{
    return row == &sampler__euler && spacing_of(row, s) != SCHEDULE_LEADING
               ? sqrt(1 - course[0].a_t)
               : 1;
}
