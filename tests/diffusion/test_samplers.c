/* Schedules, samplers and guidance: golden trajectories of diffusers, and closed forms. */
#include "harness.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 5, STEPS_MAX = 128 };

typedef struct golden {
    diffusion_schedule schedule;
    char sampler[16];
    int steps, n_t, n_x;
    double eta, alpha_first, alpha_last;
    int t[STEPS_MAX];
    double x[STEPS_MAX + 1][N];
} golden;

static int by_name(const char *value, const char *(*name)(int))
{
    for (int i = 0; name(i); i++)
        if (strcmp(value, name(i)) == 0)
            return i;
    fail_msg("no %s", value);
    return -1;
}

static const char *betas(int i)
{
    return schedule_betas_name((schedule_betas)i);
}

static const char *prediction(int i)
{
    return schedule_prediction_name((schedule_prediction)i);
}

static const char *spacing(int i)
{
    return schedule_spacing_name((schedule_spacing)i);
}

static void read_line(golden *g, const char *key, const char *value)
{
    diffusion_schedule *s = &g->schedule;
    if (!strcmp(key, "sampler"))
        (void)snprintf(g->sampler, sizeof g->sampler, "%s", value);
    else if (!strcmp(key, "train_steps"))
        s->train_steps = atoi(value);
    else if (!strcmp(key, "beta_start"))
        s->beta_start = atof(value);
    else if (!strcmp(key, "beta_end"))
        s->beta_end = atof(value);
    else if (!strcmp(key, "betas"))
        s->betas = (schedule_betas)by_name(value, betas);
    else if (!strcmp(key, "prediction"))
        s->prediction = (schedule_prediction)by_name(value, prediction);
    else if (!strcmp(key, "spacing"))
        s->spacing = (schedule_spacing)by_name(value, spacing);
    else if (!strcmp(key, "steps_offset"))
        s->steps_offset = atoi(value);
    else if (!strcmp(key, "set_alpha_to_one"))
        s->set_alpha_to_one = atoi(value) != 0;
    else if (!strcmp(key, "clip"))
        s->clip = atof(value);
    else if (!strcmp(key, "steps"))
        g->steps = atoi(value);
    else if (!strcmp(key, "eta"))
        g->eta = atof(value);
    else if (!strcmp(key, "alpha_first"))
        g->alpha_first = atof(value);
    else if (!strcmp(key, "alpha_last"))
        g->alpha_last = atof(value);
    else if (!strcmp(key, "t") && g->n_t < STEPS_MAX)
        g->t[g->n_t++] = atoi(value);
    else if (!strcmp(key, "x") && g->n_x <= STEPS_MAX) {
        char *at = (char *)value;
        for (int i = 0; i < N; i++)
            g->x[g->n_x][i] = strtod(at, &at);
        g->n_x++;
    } else if (strcmp(key, "check") != 0) {
        fail_msg("what is %s?", key);
    }
}

static golden *read_golden(const char *name)
{
    char path[256], line[512];
    golden *g = calloc(1, sizeof *g);
    ok(g != NULL);
    (void)snprintf(path, sizeof path, "tests/diffusion/golden/%s.txt", name);
    FILE *f = fopen(path, "r");
    if (!f)
        fail_msg("%s is missing", path);
    while (fgets(line, sizeof line, f)) {
        char *space = strchr(line, ' ');
        line[strcspn(line, "\n")] = '\0';
        if (line[0] == '#' || !space)
            continue;
        *space = '\0';
        read_line(g, line, space + 1);
    }
    ok(fclose(f) == 0 && g->n_t == g->steps && g->n_x == g->steps + 1);
    return g;
}

/* The network and the noise of make_golden.py. */
static void network(const double *x, int t, double *pred)
{
    for (int i = 0; i < N; i++)
        pred[i] = 0.4 * x[i] + 0.3 * sin(i + 0.01 * t);
}

static void draw(int step, double *noise)
{
    for (int i = 0; i < N; i++)
        noise[i] = 1.3 * sin(12.9898 * (7 * step + i + 1));
}

/* One graph for all steps; x is taken from our own trajectory, so errors would add up. */
static void follow(const char *name)
{
    golden *g = read_golden(name);
    const diffusion_sampler *row = sampler_find(g->sampler);
    ok(row != NULL);
    int t[STEPS_MAX];
    double *alphas = calloc((size_t)g->schedule.train_steps, sizeof *alphas);
    must(schedule_alphas_cumprod(&g->schedule, alphas));
    near(alphas[0], g->alpha_first, 1e-14);
    near(alphas[g->schedule.train_steps - 1] / g->alpha_last, 1, 1e-12);
    must(schedule_timesteps(&g->schedule, g->steps, t));

    stage s;
    stage_open(&s);
    md_tensor *x = md_input(s.g, "x", MD_F32, 4, MD_DIMS(1, 1, 1, N));
    md_tensor *pred = md_input(s.g, "pred", MD_F32, 4, MD_DIMS(1, 1, 1, N));
    md_tensor *noise = NULL, *coef = md_input(s.g, "coef", MD_F32, 1, MD_DIMS(SAMPLER_N_COEF));
    if (sampler_wants_noise(row, g->eta))
        noise = md_input(s.g, "noise", MD_F32, 4, MD_DIMS(1, 1, 1, N));
    md_tensor *y = row->step(x, sampler_predict(x, pred, coef, g->schedule.clip), noise, coef);
    stage_load(&s, y);

    double now[N], p[N], z[N], c[SAMPLER_N_COEF];
    memcpy(now, g->x[0], sizeof now);
    for (int k = 0; k < g->steps; k++) {
        sampler_place at;
        if (t[k] != g->t[k])
            fail_msg("%s: timestep %d is %d, diffusers has %d", name, k, t[k], g->t[k]);
        must(sampler_at(row, &g->schedule, alphas, t, g->steps, k, g->eta, &at));
        sampler_coefficients(row, &g->schedule, &at, c);
        network(now, t[k], p);
        draw(k, z);
        stage_put(&s, x, now);
        stage_put(&s, pred, p);
        stage_put(&s, noise, z);
        stage_put(&s, coef, c);
        stage_run(&s, y, now);
        for (int i = 0; i < N; i++)
            if (!(fabs(now[i] - g->x[k + 1][i]) <= 1e-9 * (1 + fabs(now[i]))))
                fail_msg("%s: step %d of %d, number %d: %.12g, diffusers has %.12g", name, k,
                         g->steps, i, now[i], g->x[k + 1][i]);
    }
    stage_close(&s);
    free(alphas);
    free(g);
}

static void trajectories(void **state)
{
    const char *names[] = {"ddim_sd",   "ddim_eta", "ddim_v_trailing", "ddim_x0_linspace",
                           "ddim_clip", "ddpm_sd",  "ddpm_linear",     "ddpm_cos_clip",
                           "ddpm_v",    "ddpm_x0"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        follow(names[i]);
}

/* The published checkpoint's steps: 981, 961, ..., 1. */
static void stable_diffusion_steps(void **state)
{
    int t[1000];
    double a[1000];
    diffusion_schedule s = schedule_stable_diffusion();
    (void)state;
    must(schedule_timesteps(&s, 50, t));
    for (int i = 0; i < 50; i++)
        ok(t[i] == 981 - 20 * i);
    must(schedule_alphas_cumprod(&s, a));
    for (int i = 1; i < 1000; i++)
        ok(a[i] < a[i - 1] && a[i] > 0);
    near(a[0], 1 - 0.00085, 1e-15);
    ok(schedule_timesteps(&s, 0, t) == MD_USAGE);
    ok(schedule_timesteps(&s, 1001, t) == MD_USAGE);
    ok(schedule_timesteps(&s, 1000, t) == MD_USAGE); /* with the offset, 1000 would be reached */
    s.spacing = SCHEDULE_TRAILING;
    must(schedule_timesteps(&s, 1000, t));
    ok(t[0] == 999 && t[999] == 0);
    s.beta_end = 1;
    ok(schedule_check("scheduler_config.json", &s) == MD_BAD_INPUT);
    ok(strstr(md_status_text(), "scheduler_config.json") != NULL);
}

/* With a perfect network the estimates are exact whatever it predicts, and every step lies on the
   path: a mean at sqrt(a_s) x_0 + sqrt(1 - a_s) e for DDIM without noise; and the next latent's
   variance is that of the forward process for DDPM and for any eta. */
static void perfect_predictions(void **state)
{
    diffusion_schedule s = schedule_stable_diffusion();
    double alphas[1000], c[SAMPLER_N_COEF];
    int t[20];
    (void)state;
    must(schedule_alphas_cumprod(&s, alphas));
    must(schedule_timesteps(&s, 20, t));
    for (int kind = SCHEDULE_EPSILON; kind <= SCHEDULE_V; kind++)
        for (int k = 0; k < 20; k++)
            for (int r = 0; sampler_row(r); r++) {
                sampler_place at;
                s.prediction = (schedule_prediction)kind;
                must(sampler_at(sampler_row(r), &s, alphas, t, 20, k, 0.6, &at));
                sampler_coefficients(sampler_row(r), &s, &at, c);
                double x0 = 0.7, e = -1.2, a = sqrt(at.a_t), b = sqrt(1 - at.a_t),
                       x = a * x0 + b * e;
                double pred = kind == SCHEDULE_EPSILON ? e
                              : kind == SCHEDULE_X0    ? x0
                                                       : a * e - b * x0;
                near(c[SAMPLER_X0_X] * x + c[SAMPLER_X0_PRED] * pred, x0, 1e-12);
                near(c[SAMPLER_E_X] * x + c[SAMPLER_E_PRED] * pred, e, 1e-12);
                near(c[SAMPLER_EX_X] * x + c[SAMPLER_EX_X0] * x0, e, 1e-12);
                /* next = A x0 + B e + C z with A = sqrt(a_s), B^2 + C^2 = 1 - a_s */
                double of_x0 = c[SAMPLER_NEXT_X0] + c[SAMPLER_NEXT_X] * a;
                double of_e = c[SAMPLER_NEXT_E] + c[SAMPLER_NEXT_X] * b;
                near(of_x0, sqrt(at.a_s), 1e-12);
                near(of_e * of_e + c[SAMPLER_NEXT_NOISE] * c[SAMPLER_NEXT_NOISE], 1 - at.a_s,
                     1e-12);
            }
}

/* DDIM with eta = 1 and DDPM are the same sampler when x_0 is not clamped. */
static void eta_one_is_ddpm(void **state)
{
    diffusion_schedule s = schedule_stable_diffusion();
    double alphas[1000], c[2][SAMPLER_N_COEF];
    int t[50];
    (void)state;
    s.set_alpha_to_one = true;
    must(schedule_alphas_cumprod(&s, alphas));
    must(schedule_timesteps(&s, 50, t));
    for (int k = 0; k < 50; k++) {
        double y[2];
        for (int r = 0; r < 2; r++) {
            sampler_place at;
            must(sampler_at(sampler_row(r), &s, alphas, t, 50, k, 1, &at));
            sampler_coefficients(sampler_row(r), &s, &at, c[r]);
            double x = 0.3, pred = -0.8, z = 1.1;
            double x0 = c[r][SAMPLER_X0_X] * x + c[r][SAMPLER_X0_PRED] * pred;
            y[r] = c[r][SAMPLER_NEXT_X0] * x0 + c[r][SAMPLER_NEXT_X] * x +
                   c[r][SAMPLER_NEXT_E] * pred + c[r][SAMPLER_NEXT_NOISE] * z;
        }
        near(y[0], y[1], 1e-12);
    }
}

static void guidance_is_linear(void **state)
{
    stage s;
    double in[12], out[6], scale[1] = {7.5};
    (void)state;
    stage_open(&s);
    const diffusion_guidance *cfg = guidance_for(7.5);
    ok(cfg == guidance_find("cfg") && cfg->copies == 2 && guidance_for(1) == guidance_find("none"));
    ok(guidance_find("nothing") == NULL && sampler_find("nothing") == NULL);
    md_tensor *pred = md_input(s.g, "pred", MD_F32, 4, MD_DIMS(2, 1, 2, 3));
    md_tensor *by = md_input(s.g, "scale", MD_F32, 1, MD_DIMS(1));
    md_tensor *y = cfg->combine(pred, by);
    stage_load(&s, y);
    ok(md_numel(y) == 6 && y->dim[0] == 1);
    for (int i = 0; i < 12; i++)
        in[i] = wave(1, i);
    stage_put(&s, pred, in);
    stage_put(&s, by, scale);
    stage_run(&s, y, out);
    for (int i = 0; i < 6; i++)
        near(out[i], in[i] + 7.5 * (in[6 + i] - in[i]), 1e-12);
    stage_close(&s);

    stage_open(&s);
    md_tensor *x = md_input(s.g, "x", MD_F32, 4, MD_DIMS(1, 1, 2, 3));
    ok(guidance_repeat(guidance_find("none"), x) == x);
    md_tensor *twice = guidance_repeat(cfg, x);
    double both[12];
    stage_load(&s, twice);
    stage_put(&s, x, in);
    stage_run(&s, twice, both);
    for (int i = 0; i < 12; i++)
        near(both[i], in[i % 6], 0);
    md_tensor *odd = md_input(s.g, "odd", MD_F32, 4, MD_DIMS(3, 1, 1, 1));
    ok(md_is_poison(cfg->combine(odd, odd)) && md_graph_check(s.g) == MD_SHAPE);
    stage_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trajectories),        cmocka_unit_test(stable_diffusion_steps),
        cmocka_unit_test(perfect_predictions), cmocka_unit_test(eta_one_is_ddpm),
        cmocka_unit_test(guidance_is_linear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
