/* What samplers share: coefficients of the estimates, the place in a schedule, the table. */
#include "diffusion/sampler.h"
#include "diffusion/sampler_internal.h"
#include "ops/ops.h"
#include <math.h>
#include <string.h>

static const diffusion_sampler *const table[] = {&sampler__ddim, &sampler__ddpm};

const diffusion_sampler *sampler_row(int i)
{
    return i >= 0 && i < (int)(sizeof table / sizeof *table) ? table[i] : NULL;
}

const diffusion_sampler *sampler_find(const char *name)
{
    for (int i = 0; sampler_row(i); i++)
        if (strcmp(sampler_row(i)->name, name) == 0)
            return sampler_row(i);
    return NULL;
}

bool sampler_wants_noise(const diffusion_sampler *s, double eta)
{
    return s->noisy || eta > 0;
}

md_status sampler_at(const diffusion_sampler *row, const diffusion_schedule *s,
                     const double *alphas, const int *timesteps, int steps, int index, double eta,
                     sampler_place *out)
{
    if (index < 0 || index >= steps || timesteps[index] < 0 || timesteps[index] >= s->train_steps)
        MD_FAIL(MD_INTERNAL, "%s: step %d of %d", row->name, index, steps);
    /* diffusers goes back by a fixed stride, also where the spacing is uneven. */
    int t = timesteps[index], prev = t - s->train_steps / steps;
    double last = s->set_alpha_to_one || row->ends_at_one ? 1 : alphas[0];
    *out = (sampler_place){.index = index,
                           .steps = steps,
                           .t = t,
                           .s = prev >= 0 ? prev : -1,
                           .a_t = alphas[t],
                           .a_s = prev >= 0 ? alphas[prev] : last,
                           .eta = eta};
    return MD_OK;
}

void sampler_coefficients(const diffusion_sampler *row, const diffusion_schedule *s,
                          const sampler_place *at, double *coef)
{
    double a = sqrt(at->a_t), b = sqrt(1 - at->a_t);
    memset(coef, 0, SAMPLER_N_COEF * sizeof *coef);
    switch (s->prediction) {
    case SCHEDULE_EPSILON:
        coef[SAMPLER_X0_X] = 1 / a;
        coef[SAMPLER_X0_PRED] = -b / a;
        coef[SAMPLER_E_PRED] = 1;
        break;
    case SCHEDULE_X0:
        coef[SAMPLER_X0_PRED] = 1;
        coef[SAMPLER_E_X] = 1 / b;
        coef[SAMPLER_E_PRED] = -a / b;
        break;
    case SCHEDULE_V:
        coef[SAMPLER_X0_X] = a;
        coef[SAMPLER_X0_PRED] = -b;
        coef[SAMPLER_E_X] = b;
        coef[SAMPLER_E_PRED] = a;
        break;
    }
    coef[SAMPLER_EX_X] = 1 / b;
    coef[SAMPLER_EX_X0] = -a / b;
    row->next(at, coef);
}

md_tensor *sampler_coef(md_tensor *coef, int i)
{
    return md_view(coef, i, 1, MD_DIMS(1));
}

md_tensor *sampler_scaled(md_tensor *x, md_tensor *coef, int i)
{
    return md_mul(x, sampler_coef(coef, i));
}

sampler_estimate sampler_predict(md_tensor *x, md_tensor *pred, md_tensor *coef, double clip)
{
    sampler_estimate est;
    est.x0 = md_add(sampler_scaled(x, coef, SAMPLER_X0_X),
                    sampler_scaled(pred, coef, SAMPLER_X0_PRED)); /* [N,h,w,C] */
    est.e =
        md_add(sampler_scaled(x, coef, SAMPLER_E_X), sampler_scaled(pred, coef, SAMPLER_E_PRED));
    if (clip > 0)
        est.x0 = md_clamp(est.x0, -clip, clip);
    return est;
}

md_tensor *sampler_noise_of(md_tensor *x, md_tensor *x0, md_tensor *coef)
{
    return md_add(sampler_scaled(x, coef, SAMPLER_EX_X), sampler_scaled(x0, coef, SAMPLER_EX_X0));
}
