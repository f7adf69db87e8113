/* PLMS: the linear multistep method of PNDM (Liu et al. 2022, arXiv:2202.09778, equations 9 and 12)
   without its Runge-Kutta start, as Stable Diffusion ships it; diffusers' scheduling_pndm.py with
   skip_prk_steps. A step is x_s = P x_t + Q r, r an average over the network's last answers (e, or
   v where it predicts v). The second evaluation goes over the first step again, from where it
   began, with the average of both answers: so there is one evaluation more than there are steps. */
#include "diffusion/sampler_internal.h"
#include <math.h>
#include <string.h>

enum { ORDER = 4 };

typedef struct move {
    double x, r;
} move;

/* DDIM's step without noise from a to b, on x and the answer. */
static move from_to(const diffusion_schedule *s, double a, double b)
{
    if (s->prediction == SCHEDULE_V)
        return (move){sqrt(a * b) + sqrt((1 - a) * (1 - b)), sqrt(a * (1 - b)) - sqrt(b * (1 - a))};
    double grow = sqrt(b / a);
    return (move){grow, sqrt(1 - b) - grow * sqrt(1 - a)};
}

/* r = now * this answer + the sum of past[i] answers before it. The second answer counts only in
   its own step. */
static double average(int index, double past[ORDER])
{
    static const double weight[ORDER + 1][ORDER] = {
        {0},
        {1},
        {3.0 / 2, -1.0 / 2},
        {23.0 / 12, -16.0 / 12, 5.0 / 12},
        {55.0 / 24, -59.0 / 24, 37.0 / 24, -9.0 / 24},
    };
    memset(past, 0, ORDER * sizeof *past);
    if (index == 1) {
        past[0] = 0.5;
        return 0.5;
    }
    int order = index == 0 ? 1 : index < ORDER ? index : ORDER;
    for (int k = 1; k < order; k++) {
        int which = index - k > 1 ? index - k : index - k - 1; /* the evaluation */
        past[index - which - 1] = weight[order][k];
    }
    return weight[order][0];
}

static void next(const diffusion_schedule *s, const sampler_place *at, double *coef)
{
    double past[ORDER], now = average(at->index, past);
    move m = from_to(s, at->a_from, at->a_s);
    bool v = s->prediction == SCHEDULE_V;
    for (int i = 0; i < ORDER; i++)
        coef[SAMPLER_NEXT_PAST + i] = m.r * past[i];
    if (at->index == 1) { /* x is where the first step led: taken back, then the whole step */
        move first = from_to(s, at[-1].a_from, at[-1].a_s);
        m.x /= first.x;
        coef[SAMPLER_NEXT_PAST] -= m.x * first.r;
    }
    coef[SAMPLER_KEEP_E] = v ? sqrt(at->a_t) : 1;
    coef[SAMPLER_KEEP_X0] = v ? -sqrt(1 - at->a_t) : 0;
    coef[SAMPLER_NEXT_X] = m.x;
    coef[SAMPLER_NEXT_E] = m.r * now * coef[SAMPLER_KEEP_E];
    coef[SAMPLER_NEXT_X0] = m.r * now * coef[SAMPLER_KEEP_X0];
}

static md_status course(const diffusion_sampler *row, const diffusion_schedule *s,
                        const double *alphas, int steps, sampler_place *out)
{
    if (s->prediction == SCHEDULE_X0)
        MD_FAIL(MD_USAGE,
                "pndm: prediction_type is sample; pndm averages epsilon or v, in diffusers too");
    MD_TRY(sampler__strided(row, s, alphas, steps, out));
    if (steps == 1)
        return MD_OK;
    memmove(out + 2, out + 1, (size_t)(steps - 1) * sizeof *out);
    int from = (int)out[2].t + s->train_steps / steps;
    if (from >= s->train_steps)
        MD_FAIL(MD_USAGE, "%s: %d steps are too unevenly spaced", row->name, steps);
    out[1].t = out[2].t;
    out[1].a_t = out[1].a_s = out[1].a_next = out[2].a_t;
    out[1].a_from = alphas[from];
    return MD_OK;
}

const diffusion_sampler sampler__pndm = {.name = "pndm",
                                         .class_name = "PNDMScheduler",
                                         .uses = SAMPLER_USES_X0 | SAMPLER_USES_X | SAMPLER_USES_E,
                                         .past = ORDER,
                                         .extra = 1,
                                         .spacing = SCHEDULE_LEADING,
                                         .course = course,
                                         .next = next};
