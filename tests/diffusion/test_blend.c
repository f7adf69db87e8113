/* Guided sampling: the equations of the blends, on graphs of the ref backend. */
#include "harness.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { H = 3, W = 4, C = 2, PIXELS = H * W, NUMBERS = PIXELS * C };

typedef struct run_options {
    const char *blend, *sampler;
    double eta;
    int steps;
    bool background_only; /* M = 0 everywhere */
    double clean_scale;   /* z_0 = scale * wave */
    bool uneven;          /* timesteps */
} run_options;

typedef struct trace {
    double x[64][NUMBERS]; /* before each step, and after the last */
    double mask[PIXELS], clean[NUMBERS], map[NUMBERS];
    sampler_place at[64];
    double start;
} trace;

static void network(const double *x, double t, double *pred)
{
    for (int i = 0; i < NUMBERS; i++)
        pred[i] = 0.5 * x[i] + 0.4 * sin(i + 0.02 * t);
}

/* Samples once and keeps the path. One graph serves all steps. */
static void sample(const run_options *o, trace *out)
{
    const diffusion_blend *b = blend_find(o->blend);
    const diffusion_sampler *row = sampler_find(o->sampler);
    diffusion_schedule sd = schedule_stable_diffusion();
    double pred[NUMBERS], z[NUMBERS], coef[SAMPLER_N_COEF], mixing[BLEND_N_COEF];
    md_buffer past = {0};
    stage s;
    ok(b && row);
    sd.spacing = o->uneven ? SCHEDULE_LINSPACE : SCHEDULE_LEADING;
    must(sampler_course(row, &sd, o->steps, o->eta, out->at));
    stage_open(&s);
    const int64_t dim[4] = {1, H, W, C};
    blend_inputs in = {.x = md_input(s.g, "x", MD_F32, 4, dim),
                       .pred = md_input(s.g, "pred", MD_F32, 4, dim),
                       .coef = md_input(s.g, "coef", MD_F32, 1, MD_DIMS(SAMPLER_N_COEF)),
                       .blend_coef = md_input(s.g, "blend", MD_F32, 1, MD_DIMS(BLEND_N_COEF)),
                       .eta = o->eta};
    if (blend_wants_noise(b, row, o->eta))
        in.noise = md_input(s.g, "noise", MD_F32, 4, dim);
    if (b->uses_map)
        in.map = md_input(s.g, "map", MD_F32, 4, dim);
    if (b->active) {
        in.clean = md_input(s.g, "clean", MD_F32, 4, dim);
        in.mask = md_input(s.g, "mask", MD_F32, 4, MD_DIMS(1, H, W, 1));
    }
    if (row->past)
        in.past = stage_past(&s, &past, row, 4, dim);
    md_tensor *y[2];
    y[0] = blend_step(b, row, &in, 0, &y[1]);
    stage_load(&s, y, y[1] ? 2 : 1);
    for (int i = 0; i < PIXELS; i++) /* outside, soft, inside */
        out->mask[i] = o->background_only || i < 4 ? 0 : i < 8 ? 0.3 : 1;
    for (int i = 0; i < NUMBERS; i++) {
        out->clean[i] = o->clean_scale * wave(2, i);
        out->map[i] = wave(3, i);
        out->x[0][i] = sampler_start(row, &sd, out->at) * wave(3, i);
    }
    for (int k = 0; k < out->at[0].count; k++) {
        sampler_coefficients(row, &sd, &out->at[k], coef);
        blend_coefficients(b, &out->at[k], mixing);
        network(out->x[k], out->at[k].t, pred);
        for (int i = 0; i < NUMBERS; i++)
            z[i] = wave(100 + k, i);
        stage_put(&s, in.x, out->x[k]);
        stage_put(&s, in.pred, pred);
        stage_put(&s, in.noise, z);
        stage_put(&s, in.map, out->map);
        stage_put(&s, in.clean, out->clean);
        stage_put(&s, in.mask, out->mask);
        stage_put(&s, in.coef, coef);
        stage_put(&s, in.blend_coef, mixing);
        stage_run(&s, y[0], out->x[k + 1]);
    }
    md_buffer_release(s.be, &past);
    stage_close(&s);
}

static trace *sampled(run_options o)
{
    trace *t = calloc(1, sizeof *t);
    ok(t != NULL && o.steps < 64);
    sample(&o, t);
    return t;
}

static double largest_difference(const double *a, const double *b, int n)
{
    double worst = 0;
    for (int i = 0; i < n; i++)
        worst = fmax(worst, fabs(a[i] - b[i]));
    return worst;
}

/* Our reading of the paper's F: under DDPM it is the blend of clean estimates, at every step. */
static void paper_is_x0_under_ddpm(void **state)
{
    (void)state;
    trace *paper = sampled((run_options){"paper", "ddpm", 0, 50, false, 1, false});
    trace *x0 = sampled((run_options){"x0", "ddpm", 0, 50, false, 1, false});
    trace *mean = sampled((run_options){"paper-mean", "ddpm", 0, 50, false, 1, false});
    for (int k = 0; k <= 50; k++)
        ok(largest_difference(paper->x[k], x0->x[k], NUMBERS) < 1e-11);
    ok(largest_difference(paper->x[25], mean->x[25], NUMBERS) > 0.1);
    free(paper);
    free(x0);
    free(mean);
}

/* Every blend but none ends with the background's bits where the mask is 0, and moves nothing where
   it is 1 other than by the model. */
static void the_end_is_clean(void **state)
{
    (void)state;
    for (int b = 0; blend_row(b); b++)
        for (int r = 0; sampler_row(r); r++) {
            const char *name = blend_row(b)->name, *by = sampler_row(r)->name;
            trace *t = sampled((run_options){name, by, 0, 10, false, 1, false});
            trace *free_running = sampled((run_options){"none", by, 0, 10, false, 1, false});
            int end = t->at[0].count;
            double outside = largest_difference(t->x[end], t->clean, 4 * C);
            if (blend_row(b)->active)
                ok(outside == 0);
            else
                ok(outside > 0.1);
            /* This network looks at each number alone, so inside nothing may differ. */
            ok(largest_difference(t->x[end] + 8 * C, free_running->x[end] + 8 * C, 4 * C) < 1e-9);
            if (blend_row(b)->active) /* soft: neither one nor the other */
                ok(largest_difference(t->x[end] + 4 * C, free_running->x[end] + 4 * C, 4 * C) >
                   0.01);
            free(t);
            free(free_running);
        }
}

/* renoise: outside, the network always sees the forward process with the one map, also where a
   sampler takes the latent to be at another timestep (uneven spacing). */
static void renoise_follows_the_forward_process(void **state)
{
    (void)state;
    for (int r = 0; sampler_row(r); r++)
        for (int uneven = 0; uneven < 2; uneven++) {
            trace *t = sampled(
                (run_options){"renoise", sampler_row(r)->name, 0, 20, true, 1, uneven != 0});
            for (int k = 1; k < t->at[0].count; k++)
                for (int i = 0; i < NUMBERS; i++)
                    near(t->x[k][i],
                         sqrt(t->at[k].a_t) * t->clean[i] + sqrt(1 - t->at[k].a_t) * t->map[i],
                         1e-12);
            free(t);
        }
}

/* paper, outside: whatever the noises are, x_s has mean sqrt(a_s) z_0 and variance 1 - a_s. Checked
   on the recursion of the coefficients, for every sampler. paper-mean, as printed: the background
   at t = 501 of 50 steps carries 0.11 of noise where the forward process has 0.85. */
static void noise_of_the_background(void **state)
{
    diffusion_schedule sd = schedule_stable_diffusion();
    double c[BLEND_N_COEF];
    sampler_place at[51];
    (void)state;
    for (int r = 0; sampler_row(r); r++)
        for (int mode = 0; mode < 2; mode++) {
            const diffusion_blend *b = blend_find(mode ? "paper-mean" : "paper");
            must(sampler_course(sampler_row(r), &sd, 50, 0, at));
            double mean = sqrt(at[0].a_t), variance = 1 - at[0].a_t; /* of z_0, and of noise */
            bool seen = false;
            for (int k = 0; k < at[0].count - 1; k++) {
                blend_coefficients(b, &at[k], c);
                mean = c[BLEND_CLEAN] + c[BLEND_X] * mean;
                variance = c[BLEND_X] * c[BLEND_X] * variance + c[BLEND_NOISE] * c[BLEND_NOISE];
                near(mean, sqrt(at[k].a_s), 1e-12);
                if (mode == 0)
                    near(variance, 1 - at[k].a_s, 1e-12);
                if (mode == 1 && at[k + 1].t == 501) {
                    seen = true;
                    near(sqrt(variance), 0.11, 0.005);
                    near(sqrt(1 - at[k].a_s), 0.85, 0.005);
                }
            }
            if (sampler_row(r)->course == sampler_find("ddim")->course)
                ok(seen == (mode == 1));
        }
}

/* A step by hand, from the equations of the papers and of blend.h: x_t, the network's noise and the
   step's noise z to x_s, for DDIM (Song et al. 2021, equation 12) and DDPM (Ho et al. 2020,
   equation 7). a_s of the last step is where the sampler ends. */
static void by_hand(const run_options *o, const trace *t, int k, double *out)
{
    bool ddpm = !strcmp(o->sampler, "ddpm"), last = k == o->steps - 1;
    double at = t->at[k].a_t, as = !last  ? t->at[k + 1].a_t
                                   : ddpm ? 1
                                          : 1 - 0.00085; /* of timestep 0 */
    double alpha = at / as, beta = 1 - alpha, v = beta * (1 - as) / (1 - at), pred[NUMBERS];
    double to_clean = sqrt(as) * beta / (1 - at), to_x = sqrt(alpha) * (1 - as) / (1 - at);
    double eta = ddpm ? 1 : o->eta;
    network(t->x[k], t->at[k].t, pred);
    for (int i = 0; i < NUMBERS; i++) {
        double x = t->x[k][i], e = pred[i], m = t->mask[i / C], z0 = t->clean[i];
        double z = wave(100 + k, i), x0 = (x - sqrt(1 - at) * e) / sqrt(at), y, f = 0;
        if (!strcmp(o->blend, "x0") && !last) {
            x0 = m * x0 + (1 - m) * z0;
            e = (x - sqrt(at) * x0) / sqrt(1 - at);
        }
        if (ddpm)
            y = to_clean * x0 + to_x * x + sqrt(v) * z;
        else
            y = sqrt(as) * x0 + sqrt(1 - as - eta * eta * v) * e + eta * sqrt(v) * z;
        if (last)
            f = z0;
        else if (!strcmp(o->blend, "paper"))
            f = to_clean * z0 + to_x * x + sqrt(v) * z;
        else if (!strcmp(o->blend, "paper-mean"))
            f = to_clean * z0 + to_x * x;
        else if (!strcmp(o->blend, "renoise"))
            f = sqrt(as) * z0 + sqrt(1 - as) * t->map[i];
        bool mixes = strcmp(o->blend, "none") != 0 && (last || strcmp(o->blend, "x0") != 0);
        out[i] = mixes ? m * y + (1 - m) * f : y;
    }
}

/* Each blend with DDIM and DDPM, each step, under masks of 0, 0.3 and 1. */
static void every_step_is_its_formula(void **state)
{
    static const char *const blends[] = {"paper", "paper-mean", "renoise", "x0", "none"};
    static const struct {
        const char *name;
        double eta;
    } samplers[] = {{"ddim", 0}, {"ddim", 0.7}, {"ddpm", 0}};
    (void)state;
    for (size_t b = 0; b < 5; b++)
        for (size_t r = 0; r < 3; r++) {
            run_options o = {blends[b], samplers[r].name, samplers[r].eta, 20, false, 1, false};
            trace *t = sampled(o);
            double want[NUMBERS];
            for (int k = 0; k < o.steps; k++) {
                by_hand(&o, t, k, want);
                double off = largest_difference(t->x[k + 1], want, NUMBERS);
                if (!(off < 1e-11))
                    fail_msg("%s, %s with eta %g: step %d is %g off", o.blend, o.sampler, o.eta, k,
                             off);
            }
            free(t);
        }
}

/* Equation 2 for SD's schedule in 50 steps, computed elsewhere to 40 digits: the shares of z_0 and
   of x_t, and sigma, from t = 981, 501 and 21. */
static void constants_of_equation_2(void **state)
{
    static const struct {
        int step;
        double clean, x, noise;
    } want[] = {{0, 0.017753695516543603, 0.8892403354728472, 0.45446327241359918},
                {24, 0.068478452916702959, 0.9178728239287397, 0.29478454027738482},
                {48, 0.91392693936332847, 0.086069200261146603, 0.039479546140894911}};
    diffusion_schedule sd = schedule_stable_diffusion();
    double c[BLEND_N_COEF];
    sampler_place at[50];
    (void)state;
    must(sampler_course(sampler_find("ddim"), &sd, 50, 0, at));
    for (int mean = 0; mean < 2; mean++)
        for (size_t i = 0; i < 3; i++) {
            blend_coefficients(blend_find(mean ? "paper-mean" : "paper"), &at[want[i].step], c);
            near(c[BLEND_ON], 1, 0);
            near(c[BLEND_CLEAN], want[i].clean, 1e-12);
            near(c[BLEND_X], want[i].x, 1e-12);
            near(c[BLEND_NOISE], mean ? 0 : want[i].noise, 1e-12);
            near(c[BLEND_MAP], 0, 0);
        }
}

/* x0 without noise: outside, the path of the clean background with the noise it started from,
   whatever the sampler remembers. */
static void x0_keeps_its_noise(void **state)
{
    (void)state;
    for (int r = 0; sampler_row(r); r++) {
        if (sampler_wants_noise(sampler_row(r), 0))
            continue;
        trace *t = sampled((run_options){"x0", sampler_row(r)->name, 0, 20, true, 1, false});
        double first = t->at[0].a_t;
        for (int i = 0; i < NUMBERS; i++) {
            double e = (t->x[0][i] - sqrt(first) * t->clean[i]) / sqrt(1 - first);
            for (int k = 1; k < t->at[0].count; k++) {
                double a = t->at[k].a_t;
                near(t->x[k][i], sqrt(a) * t->clean[i] + sqrt(1 - a) * e, 1e-11);
            }
        }
        free(t);
    }
}

/* Which of ten feather values are open at which level, by hand: core first the upper ones, edge
   first the lower ones; both grow alone, and both end as the guide, whose own values stay. Static:
   product. */
static void moving_masks(void **state)
{
    static const double levels[] = {1, 0.961, 0.75, 0.5, 0.25, 0.001, 0};
    static const int open_core[] = {1, 1, 3, 6, 8, 10, 11}; /* of feather 0, 0.1, ..., 1 */
    static const int open_edge[] = {1, 1, 3, 6, 8, 10, 11};
    float guide[11], feather[11], out[11];
    (void)state;
    for (int i = 0; i < 11; i++) {
        guide[i] = i % 3 ? 1 : 0.4f;
        feather[i] = (float)i / 10;
    }
    for (int k = 0; k < 7; k++) {
        blend_mask_at(BLEND_CORE_FIRST, guide, feather, 11, levels[k], out);
        for (int i = 0; i < 11; i++)
            ok(out[i] == (i >= 11 - open_core[k] ? guide[i] : 0));
        blend_mask_at(BLEND_EDGE_FIRST, guide, feather, 11, levels[k], out);
        for (int i = 0; i < 11; i++)
            ok(out[i] == (i < open_edge[k] ? guide[i] : 0));
        blend_mask_at(BLEND_STATIC, guide, feather, 11, levels[k], out);
        for (int i = 0; i < 11; i++)
            ok(out[i] == guide[i] * feather[i]);
    }
    for (int i = 0; i < 11; i++) /* without a feather the static mask is the guide */
        feather[i] = 1;
    blend_mask_at(BLEND_STATIC, guide, feather, 11, 0.5, out);
    ok(memcmp(out, guide, sizeof guide) == 0);
}

/* Timesteps after each of four evaluations in SD's schedule, as diffusers' set_timesteps has them;
   a level is that share of 1000, and settled = 0.4 leaves (share - 0.4) / 0.6. */
static void levels_of_samplers(void **state)
{
    static const struct {
        const char *name;
        schedule_spacing spacing;
        double next[5]; /* negative: no more */
    } want[] = {
        {"ddim", SCHEDULE_LEADING, {501, 251, 1, 0, -1}},
        {"ddpm", SCHEDULE_LEADING, {501, 251, 1, 0, -1}},
        {"pndm", SCHEDULE_LEADING, {501, 501, 251, 1, 0}}, /* asks at 501 twice */
        {"dpm++", SCHEDULE_LINSPACE, {749, 500, 250, 0, -1}},
        {"euler", SCHEDULE_LINSPACE, {666, 333, 0, 0, -1}},
        {"ddim", SCHEDULE_TRAILING, {749, 499, 249, 0, -1}},
    };
    sampler_place at[8];
    (void)state;
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        diffusion_schedule sd = schedule_stable_diffusion();
        sd.spacing = want[i].spacing;
        must(sampler_course(sampler_find(want[i].name), &sd, 4, 0, at));
        ok(at[0].count == (want[i].next[4] < 0 ? 4 : 5));
        for (int k = 0; k < at[0].count; k++) {
            double share = want[i].next[k] / 1000;
            near(blend_level(&at[k], 1000, 0), share, 1e-12);
            near(blend_level(&at[k], 1000, 0.4), share > 0.4 ? (share - 0.4) / 0.6 : 0, 1e-12);
            near(blend_level(&at[k], 1000, 1), 0, 0);
        }
    }
}

/* Under every sampler the level falls to 0, so that the mask grows alone and is the guide in the
 * end. */
static void levels_fall(void **state)
{
    static const float guide[4] = {0, 0.5f, 1, 1}, feather[4] = {0, 0.1f, 0.6f, 1};
    sampler_place at[64];
    (void)state;
    for (int r = 0; sampler_row(r); r++)
        for (int steps = 1; steps <= 50; steps += 7)
            for (int spacing = SCHEDULE_LEADING; spacing <= SCHEDULE_LINSPACE; spacing++)
                for (int motion = BLEND_EDGE_FIRST; motion <= BLEND_CORE_FIRST; motion++) {
                    diffusion_schedule sd = schedule_stable_diffusion();
                    float before[4] = {0}, out[4];
                    double last = 1;
                    sd.spacing = (schedule_spacing)spacing;
                    must(sampler_course(sampler_row(r), &sd, steps, 0, at));
                    for (int k = 0; k < at[0].count; k++) {
                        double level = blend_level(&at[k], sd.train_steps, 0.1);
                        ok(level >= 0 && level <= last);
                        last = level;
                        blend_mask_at((blend_motion)motion, guide, feather, 4, level, out);
                        for (int i = 0; i < 4; i++)
                            ok(out[i] >= before[i]);
                        memcpy(before, out, sizeof out);
                    }
                    ok(last == 0 && memcmp(out, guide, sizeof guide) == 0);
                }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paper_is_x0_under_ddpm),
        cmocka_unit_test(every_step_is_its_formula),
        cmocka_unit_test(constants_of_equation_2),
        cmocka_unit_test(the_end_is_clean),
        cmocka_unit_test(renoise_follows_the_forward_process),
        cmocka_unit_test(noise_of_the_background),
        cmocka_unit_test(x0_keeps_its_noise),
        cmocka_unit_test(moving_masks),
        cmocka_unit_test(levels_of_samplers),
        cmocka_unit_test(levels_fall),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
