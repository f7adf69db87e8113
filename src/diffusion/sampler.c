/* What samplers share: the table, coefficients of the estimates, the graph of a step. */
#include "diffusion/sampler.h"
#include "diffusion/sampler_internal.h"
#include "ops/ops.h"
#include <math.h>
#include <string.h>

static const diffusion_sampler *const table[] = {&sampler__ddim, &sampler__ddpm, &sampler__pndm,
                                                 &sampler__dpm, &sampler__euler};

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
    row->next(s, at, coef);
}

md_tensor *sampler_coef(md_tensor *coef, int i)
{
    return md_view(coef, i, 1, MD_DIMS(1));
}

md_tensor *sampler_scaled(md_tensor *x, md_tensor *coef, int i)
{
    return md_mul(x, sampler_coef(coef, i));
}

sampler_estimate sampler_predict(const diffusion_sampler *row, md_tensor *x, md_tensor *pred,
                                 md_tensor *coef, double clip)
{
    sampler_estimate est;
    est.x0 = md_add(sampler_scaled(x, coef, SAMPLER_X0_X),
                    sampler_scaled(pred, coef, SAMPLER_X0_PRED)); /* [N,h,w,C] */
    est.e =
        md_add(sampler_scaled(x, coef, SAMPLER_E_X), sampler_scaled(pred, coef, SAMPLER_E_PRED));
    if (row->clips && clip > 0)
        est.x0 = md_clamp(est.x0, -clip, clip);
    return est;
}

md_tensor *sampler_noise_of(md_tensor *x, md_tensor *x0, md_tensor *coef)
{
    return md_add(sampler_scaled(x, coef, SAMPLER_EX_X), sampler_scaled(x0, coef, SAMPLER_EX_X0));
}

/* sum + coef[i] x; sum NULL: nothing yet */
static md_tensor *plus(md_tensor *sum, md_tensor *x, md_tensor *coef, int i)
{
    md_tensor *term = sampler_scaled(x, coef, i);
    return sum ? md_add(sum, term) : term;
}

/* Answer i of the past: [N,h,w,C]. */
static md_tensor *remembered(md_tensor *past, int i, const md_tensor *x)
{
    return md_view(past, i * md_numel(x), x->ndim, x->dim);
}

md_tensor *sampler_step(const diffusion_sampler *row, md_tensor *x, sampler_estimate est,
                        md_tensor *noise, md_tensor *past, md_tensor *coef)
{
    md_tensor *y = NULL; /* [N,h,w,C] */
    if (row->uses & SAMPLER_USES_X0)
        y = plus(y, est.x0, coef, SAMPLER_NEXT_X0);
    if (row->uses & SAMPLER_USES_X)
        y = plus(y, x, coef, SAMPLER_NEXT_X);
    if (row->uses & SAMPLER_USES_E)
        y = plus(y, est.e, coef, SAMPLER_NEXT_E);
    if (noise)
        y = plus(y, noise, coef, SAMPLER_NEXT_NOISE);
    for (int i = 0; i < row->past; i++)
        y = plus(y, remembered(past, i, x), coef, SAMPLER_NEXT_PAST + i);
    return y;
}

md_tensor *sampler_remember(const diffusion_sampler *row, sampler_estimate est, md_tensor *past,
                            md_tensor *coef)
{
    if (!row->past)
        return NULL;
    md_tensor *all[2] = {md_add(sampler_scaled(est.x0, coef, SAMPLER_KEEP_X0),
                                sampler_scaled(est.e, coef, SAMPLER_KEEP_E)), /* [N,h,w,C] */
                         NULL};
    if (row->past == 1)
        return md_write(past, all[0]);
    int64_t dim[MD_MAX_DIMS];
    memcpy(dim, past->dim, sizeof dim);
    dim[0] -= all[0]->dim[0];
    all[1] = md_view(past, 0, past->ndim, dim);  /* [(past - 1) N,h,w,C]: all but the oldest */
    return md_write(past, md_concat(all, 2, 0)); /* [past N,h,w,C] */
}
