/* Schedules, samplers and guidance: golden trajectories of diffusers, and closed forms. */
#include "format/json.h"
#include "harness.h"
#include "model/schedule_json.h"
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN "tests/diffusion/golden"

enum { N = 5, STEPS_MAX = 128 };

typedef struct golden {
    diffusion_schedule schedule;
    char sampler[16];
    int steps, n_t, n_x;
    double eta, alpha_first, alpha_last;
    double t[STEPS_MAX], x[STEPS_MAX + 1][N];
} golden;

static void read_config(const char *text, diffusion_schedule *s)
{
    format_json *doc;
    must(format_json_parse("config", text, strlen(text), &doc));
    must(schedule_read(doc, s));
    format_json_free(doc);
}

static void read_line(golden *g, const char *key, const char *value)
{
    if (!strcmp(key, "config"))
        read_config(value, &g->schedule);
    else if (!strcmp(key, "sampler"))
        (void)snprintf(g->sampler, sizeof g->sampler, "%s", value);
    else if (!strcmp(key, "steps"))
        g->steps = atoi(value);
    else if (!strcmp(key, "eta"))
        g->eta = atof(value);
    else if (!strcmp(key, "alpha_first"))
        g->alpha_first = atof(value);
    else if (!strcmp(key, "alpha_last"))
        g->alpha_last = atof(value);
    else if (!strcmp(key, "t") && g->n_t < STEPS_MAX)
        g->t[g->n_t++] = atof(value);
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
    char path[512], line[1024];
    golden *g = calloc(1, sizeof *g);
    ok(g != NULL);
    (void)snprintf(path, sizeof path, GOLDEN "/%s", name);
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
    ok(fclose(f) == 0 && g->n_x == g->n_t + 1);
    return g;
}

/* The network and the noise of make_golden.py. */
static void network(const double *x, double t, double *pred)
{
    for (int i = 0; i < N; i++)
        pred[i] = 0.4 * x[i] + 0.3 * sin(i + 0.01 * t);
}

static void draw(int step, double *noise)
{
    for (int i = 0; i < N; i++)
        noise[i] = 1.3 * sin(12.9898 * (7 * step + i + 1));
}

typedef struct rig {
    stage s;
    md_buffer past;
    md_tensor *x, *pred, *noise, *coef, *out[2];
} rig;

/* One graph for all steps. */
static void rig_open(rig *r, const diffusion_sampler *row, double eta, double clip)
{
    const int64_t dim[4] = {1, 1, 1, N};
    md_tensor *past = NULL;
    *r = (rig){0};
    stage_open(&r->s);
    md_graph *g = r->s.g;
    r->x = md_input(g, "x", MD_F32, 4, dim);
    r->pred = md_input(g, "pred", MD_F32, 4, dim);
    r->coef = md_input(g, "coef", MD_F32, 1, MD_DIMS(SAMPLER_N_COEF));
    if (sampler_wants_noise(row, eta))
        r->noise = md_input(g, "noise", MD_F32, 4, dim);
    if (row->past)
        past = stage_past(&r->s, &r->past, row, 4, dim);
    sampler_estimate est = sampler_predict(row, r->x, r->pred, r->coef, clip);
    r->out[0] = sampler_step(row, r->x, est, r->noise, past, r->coef);
    r->out[1] = sampler_remember(row, est, past, r->coef);
    ok((r->out[1] != NULL) == (row->past > 0));
    stage_load(&r->s, r->out, r->out[1] ? 2 : 1);
}

static void rig_close(rig *r)
{
    md_buffer_release(r->s.be, &r->past);
    stage_close(&r->s);
}

/* x is taken from our own trajectory, so errors would add up. */
static void follow(const char *name)
{
    golden *g = read_golden(name);
    const diffusion_sampler *row = sampler_find(g->sampler);
    ok(row != NULL && !*g->schedule.refused);
    sampler_place course[STEPS_MAX];
    double *alphas = calloc((size_t)g->schedule.train_steps, sizeof *alphas);
    must(schedule_alphas_cumprod(&g->schedule, alphas));
    near(alphas[0], g->alpha_first, 1e-14);
    if (!g->schedule.zero_snr)
        near(alphas[g->schedule.train_steps - 1] / g->alpha_last, 1, 1e-12);
    else
        ok(alphas[g->schedule.train_steps - 1] == 0);
    must(sampler_course(row, &g->schedule, g->steps, g->eta, course));
    ok(sampler_evaluations(row, g->steps) == g->n_t);

    rig r;
    rig_open(&r, row, g->eta, g->schedule.clip);
    double now[N], p[N], z[N], c[SAMPLER_N_COEF];
    for (int i = 0; i < N; i++) {
        now[i] = sampler_start(row, &g->schedule, course) * cos(i);
        near(now[i], g->x[0][i], 1e-12);
    }
    for (int k = 0; k < g->n_t; k++) {
        if (!(fabs(course[k].t - g->t[k]) <= 1e-9 * (1 + g->t[k])))
            fail_msg("%s: timestep %d is %g, diffusers has %g", name, k, course[k].t, g->t[k]);
        sampler_coefficients(row, &g->schedule, &course[k], c);
        network(now, course[k].t, p);
        draw(k, z);
        stage_put(&r.s, r.x, now);
        stage_put(&r.s, r.pred, p);
        stage_put(&r.s, r.noise, z);
        stage_put(&r.s, r.coef, c);
        stage_run(&r.s, r.out[0], now);
        for (int i = 0; i < N; i++)
            if (!(fabs(now[i] - g->x[k + 1][i]) <= 1e-9 * (1 + fabs(now[i]))))
                fail_msg("%s: evaluation %d of %d, number %d: %.12g, diffusers has %.12g", name, k,
                         g->n_t, i, now[i], g->x[k + 1][i]);
    }
    rig_close(&r);
    free(alphas);
    free(g);
}

static void trajectories(void **state)
{
    struct dirent **entry;
    int n = scandir(GOLDEN, &entry, NULL, alphasort), seen = 0;
    (void)state;
    for (int i = 0; i < n; i++) {
        const char *dot = strrchr(entry[i]->d_name, '.');
        if (dot && !strcmp(dot, ".txt") && strcmp(entry[i]->d_name, "timesteps.txt") != 0) {
            follow(entry[i]->d_name);
            seen++;
        }
        free(entry[i]);
    }
    free(entry);
    assert_int_equal(seen, 60);
}

/* diffusers' timesteps for each class, spacing and many numbers of steps. */
static void all_spacings(void **state)
{
    char line[128], name[16], spacing[16];
    double sum;
    int steps, seen = 0;
    (void)state;
    FILE *f = fopen(GOLDEN "/timesteps.txt", "r");
    ok(f != NULL);
    while (fgets(line, sizeof line, f)) {
        if (line[0] == '#')
            continue;
        ok(sscanf(line, "%15s %15s %d %lf", name, spacing, &steps, &sum) == 4);
        static sampler_place course[1024];
        diffusion_schedule s = schedule_stable_diffusion();
        int k = 0;
        while (strcmp(spacing, schedule_spacing_name((schedule_spacing)k)) != 0)
            k++;
        s.spacing = (schedule_spacing)k;
        must(sampler_course(sampler_find(name), &s, steps, 0, course));
        double got = 0;
        for (int i = 0; i < sampler_evaluations(sampler_find(name), steps); i++)
            got += (i + 1) * course[i].t;
        if (!(fabs(got - sum) <= 1e-7 * sum)) /* euler's are float32 there */
            fail_msg("%s %s %d: %.17g, diffusers has %.17g", name, spacing, steps, got, sum);
        seen++;
    }
    ok(fclose(f) == 0 && seen > 1000);
}

/* The published checkpoint's steps: 981, 961, ..., 1; PLMS asks at 961 twice. */
static void stable_diffusion_steps(void **state)
{
    sampler_place at[1001];
    double a[1000];
    diffusion_schedule s = schedule_stable_diffusion();
    const diffusion_sampler *ddim = sampler_find("ddim"), *pndm = sampler_find("pndm");
    (void)state;
    must(sampler_course(ddim, &s, 50, 0, at));
    for (int i = 0; i < 50; i++)
        ok(at[i].t == 981 - 20 * i && at[i].index == i && at[i].count == 50);
    ok(sampler_evaluations(pndm, 50) == 51 && sampler_evaluations(pndm, 1) == 1);
    must(sampler_course(pndm, &s, 50, 0, at));
    for (int i = 0; i < 51; i++)
        ok(at[i].t == 981 - 20 * (i > 1 ? i - 1 : i) && at[i].count == 51);
    must(schedule_alphas_cumprod(&s, a));
    for (int i = 1; i < 1000; i++)
        ok(a[i] < a[i - 1] && a[i] > 0);
    near(a[0], 1 - 0.00085, 1e-15);
    ok(sampler_course(ddim, &s, 0, 0, at) == MD_USAGE);
    ok(sampler_course(ddim, &s, 1001, 0, at) == MD_USAGE);
    /* with the offset, 1000 would be reached */
    ok(sampler_course(ddim, &s, 1000, 0, at) == MD_USAGE);
    s.spacing = SCHEDULE_TRAILING;
    must(sampler_course(ddim, &s, 1000, 0, at));
    ok(at[0].t == 999 && at[999].t == 0);
    s.beta_end = 1;
    ok(schedule_check("scheduler_config.json", &s) == MD_BAD_INPUT);
    ok(strstr(md_status_text(), "scheduler_config.json") != NULL);
}

/* Where nothing is left of the picture, epsilon says nothing about it. */
static void zero_snr(void **state)
{
    sampler_place at[20];
    diffusion_schedule s = schedule_stable_diffusion();
    (void)state;
    s.zero_snr = true;
    s.spacing = SCHEDULE_TRAILING;
    ok(sampler_course(sampler_find("ddim"), &s, 10, 0, at) == MD_USAGE);
    ok(strstr(md_status_text(), "rescale_betas_zero_snr") && strstr(md_status_text(), "leading"));
    s.spacing = SCHEDULE_LEADING;
    must(sampler_course(sampler_find("ddim"), &s, 10, 0, at));
    s.spacing = SCHEDULE_TRAILING;
    s.prediction = SCHEDULE_V;
    for (int r = 0; sampler_row(r); r++) {
        double c[SAMPLER_N_COEF];
        must(sampler_course(sampler_row(r), &s, 10, 0, at));
        for (int k = 0; k < sampler_evaluations(sampler_row(r), 10); k++) {
            sampler_coefficients(sampler_row(r), &s, &at[k], c);
            for (int i = 0; i < SAMPLER_N_COEF; i++)
                ok(isfinite(c[i]));
        }
    }
    s.prediction = SCHEDULE_X0;
    ok(sampler_course(sampler_find("pndm"), &s, 10, 0, at) == MD_USAGE);
    ok(strstr(md_status_text(), "prediction_type") != NULL);
}

/* With a perfect network the estimates are exact whatever it predicts, and every step lies on the
   path: a mean at sqrt(a_s) x_0 + sqrt(1 - a_s) e without noise, whatever is remembered; and with
   it the next latent's variance is that of the forward process. */
static void perfect_predictions(void **state)
{
    diffusion_schedule s = schedule_stable_diffusion();
    double c[SAMPLER_N_COEF];
    sampler_place course[32];
    (void)state;
    for (int kind = SCHEDULE_EPSILON; kind <= SCHEDULE_V; kind++)
        for (int r = 0; sampler_row(r); r++) {
            const diffusion_sampler *row = sampler_row(r);
            double past[SAMPLER_PAST_MAX] = {0};
            s.prediction = (schedule_prediction)kind;
            if (kind == SCHEDULE_X0 && !strcmp(row->name, "pndm"))
                continue;
            must(sampler_course(row, &s, 20, 0.6, course));
            for (int k = 0; k < sampler_evaluations(row, 20); k++) {
                sampler_place at = course[k];
                sampler_coefficients(row, &s, &course[k], c);
                double x0 = 0.7, e = -1.2, a = sqrt(at.a_t), b = sqrt(1 - at.a_t),
                       x = a * x0 + b * e;
                double pred = kind == SCHEDULE_EPSILON ? e
                              : kind == SCHEDULE_X0    ? x0
                                                       : a * e - b * x0;
                near(c[SAMPLER_X0_X] * x + c[SAMPLER_X0_PRED] * pred, x0, 1e-12);
                near(c[SAMPLER_E_X] * x + c[SAMPLER_E_PRED] * pred, e, 1e-12);
                near(c[SAMPLER_EX_X] * x + c[SAMPLER_EX_X0] * x0, e, 1e-12);
                if (row->past) { /* all that is remembered belongs to the one picture */
                    double next =
                        c[SAMPLER_NEXT_X0] * x0 + c[SAMPLER_NEXT_X] * x + c[SAMPLER_NEXT_E] * e;
                    for (int i = 0; i < row->past; i++)
                        next += c[SAMPLER_NEXT_PAST + i] * past[i];
                    if (kind == SCHEDULE_EPSILON || !strcmp(row->name, "dpm++")) /* v changes */
                        near(next, sqrt(at.a_s) * x0 + sqrt(1 - at.a_s) * e, 1e-12);
                    memmove(past + 1, past, sizeof past - sizeof *past);
                    past[0] = c[SAMPLER_KEEP_X0] * x0 + c[SAMPLER_KEEP_E] * e;
                    continue;
                }
                /* next = A x0 + B e + C z with A = sqrt(a_s), B^2 + C^2 = 1 - a_s */
                double of_x0 = c[SAMPLER_NEXT_X0] + c[SAMPLER_NEXT_X] * a;
                double of_e = c[SAMPLER_NEXT_E] + c[SAMPLER_NEXT_X] * b;
                near(of_x0, sqrt(at.a_s), 1e-12);
                near(of_e * of_e + c[SAMPLER_NEXT_NOISE] * c[SAMPLER_NEXT_NOISE], 1 - at.a_s,
                     1e-12);
            }
        }
}

/* DDIM with eta = 1 and DDPM are the same sampler when x_0 is not clamped. */
static void eta_one_is_ddpm(void **state)
{
    diffusion_schedule s = schedule_stable_diffusion();
    double c[2][SAMPLER_N_COEF];
    sampler_place course[50];
    (void)state;
    s.set_alpha_to_one = true;
    for (int k = 0; k < 50; k++) {
        double y[2];
        for (int r = 0; r < 2; r++) {
            must(sampler_course(sampler_row(r), &s, 50, 1, course));
            sampler_coefficients(sampler_row(r), &s, &course[k], c[r]);
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
    stage_load(&s, &y, 1);
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
    stage_load(&s, &twice, 1);
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
        cmocka_unit_test(trajectories),
        cmocka_unit_test(all_spacings),
        cmocka_unit_test(zero_snr),
        cmocka_unit_test(stable_diffusion_steps),
        cmocka_unit_test(perfect_predictions),
        cmocka_unit_test(eta_one_is_ddpm),
        cmocka_unit_test(guidance_is_linear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
