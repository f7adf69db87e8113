/* The denoising task: draws, inputs, time weights, the mask, and the two targets. */
#include "ops/grad.h"
#include "ops/ops.h"
#include "rig.h"

static void near(double got, double want, double relative)
{
    if (!(fabs(got - want) <= relative * fabs(want)))
        fail_msg("%.17g, wanted %.17g", got, want);
}

/* From the network's output to noise, clean latent and velocity, for x = a z + b e. */
static void readings(schedule_prediction kind, double x, double out, double a, double b, double *r)
{
    double z = kind == SCHEDULE_X0        ? out
               : kind == SCHEDULE_EPSILON ? (x - b * out) / a
                                          : a * x - b * out;
    double e = (x - a * z) / b;
    r[0] = e;
    r[1] = z;
    r[2] = a * e - b * z;
}

/* w_t times the error of the output is the target's error times its weight: 1, SNR, and for min-SNR
   min(SNR, gamma) / SNR, min(SNR, gamma), min(SNR, gamma) / (SNR + 1) (Hang et al. 2023, and
   diffusers for velocity). */
static void test_time_weight(void **state)
{
    (void)state;
    double alphas[] = {0.9, 0.5, 0.1}; /* SNR 9, 1, 1/9 */
    denoise d = {.alphas_cumprod = alphas, .train_steps = 3, .gamma = 5};
    for (int kind = 0; kind < 3; kind++)
        for (int target = 0; target < 3; target++)
            for (int t = 0; t < 3; t++) {
                double a = sqrt(alphas[t]), b = sqrt(1 - alphas[t]), snr = a * a / (b * b);
                double z = 0.7, e = -1.2, x = a * z + b * e, truth[3], guess[3];
                double clipped = fmin(snr, 5),
                       least[] = {clipped / snr, clipped, clipped / (snr + 1)};
                d.prediction = (schedule_prediction)kind;
                readings(SCHEDULE_EPSILON, x, e, a, b, truth);
                static const int place[] = {
                    [SCHEDULE_EPSILON] = 0, [SCHEDULE_X0] = 1, [SCHEDULE_V] = 2};
                readings(d.prediction, x, truth[place[kind]] + 0.3, a, b, guess);
                double error = (guess[target] - truth[target]) * (guess[target] - truth[target]);
                double weights[] = {1, snr, least[target]};
                for (int weight = 0; weight < 3; weight++) {
                    d.target = (denoise_target)(DENOISE_EPSILON + target);
                    d.weight = (denoise_weight)weight;
                    near(denoise_time_weight(&d, t) * 0.09, weights[weight] * error, 1e-12);
                    if (target == place[kind]) {
                        double own = denoise_time_weight(&d, t);
                        d.target = DENOISE_AUTO;
                        near(denoise_time_weight(&d, t), own, 1e-15);
                    }
                }
            }
}

/* Every image once per pass over the set; every variant and a wide range of timesteps. */
static void test_draws(void **state)
{
    (void)state;
    rig r;
    rig_open(&r, true);
    int variants = 0, late = 0, dropped = 0, empty = 0, other = 0;
    r.d.drop_caption = 0.25;
    for (int pass = 0; pass < 80; pass++) {
        int seen[RIG_N] = {0};
        for (int i = 0; i < RIG_N; i++) {
            int64_t index = pass * RIG_N + i;
            denoise_draw w = denoise_draw_at(&r.d, index / 4, index % 4);
            assert_in_range(w.image, 0, RIG_N - 1);
            assert_in_range(w.variant, 0, 1);
            assert_in_range(w.t, 0, 999);
            assert_true(w.empty == (w.image == RIG_N - 1));
            seen[w.image]++;
            variants += (int)w.variant;
            late += w.t >= 500;
            dropped += w.drop_caption;
            empty += w.empty;
            r.d.seed = 4;
            denoise_draw v = denoise_draw_at(&r.d, index / 4, index % 4);
            other += v.t != w.t;
            r.d.seed = 3;
        }
        for (int i = 0; i < RIG_N; i++)
            assert_int_equal(seen[i], 1);
    }
    /* of 400, five standard deviations */
    assert_in_range(variants, 150, 250);
    assert_in_range(late, 150, 250);
    assert_in_range(dropped, 57, 143);
    assert_int_equal(empty, 80);
    assert_true(other > 390); /* another seed draws otherwise */
    int64_t counted = 0;
    for (int64_t step = 0; step < 100; step++)
        counted += denoise_count_empty(&r.d, step);
    assert_int_equal(counted, 80);
    rig_close(&r);
}

/* A planned task of n samples, inputs readable. */
typedef struct planned {
    md_graph *g;
    md_plan *p;
    denoise d;
    md_tensor *loss;
    int64_t n;
} planned;

static void plan(rig *r, int64_t n, planned *out)
{
    out->d = r->d;
    train_task task = denoise_task(&out->d);
    OK(md_graph_new(&out->g));
    out->n = n;
    out->loss = task.build(task.user, out->g, n);
    md_tensor *const all[] = {out->loss, out->d.noisy, out->d.wanted, out->d.map};
    OK(md_plan_build(out->g, r->be, all, 4, &out->p));
    OK(task.load(task.user, r->be));
    OK(md_plan_load(out->p));
}

static void unplan(planned *p)
{
    md_plan_free(p->p);
    md_graph_free(p->g);
    denoise_task(&p->d).release(&p->d);
}

/* What the samples of `step` from `first` on become: noisy, noise, wanted, map, numbers, index;
   sample by sample. */
enum { NOISE = RIG_LATENT, WANTED = 2 * RIG_LATENT, MAP = 3 * RIG_LATENT, NUMBERS = MAP + RIG_PX };
enum { INDEX = NUMBERS + DENOISE_N_NUMBERS, PER_SAMPLE = INDEX + DENOISE_N_INDICES, MOST = 8 };

static void read_samples(planned *p, int64_t step, int64_t first, double *out)
{
    const denoise *d = &p->d;
    static double noisy[MOST * RIG_LATENT], noise[2 * MOST * RIG_LATENT];
    static double wanted[MOST * RIG_LATENT], map[MOST * RIG_PX];
    double numbers[DENOISE_N_NUMBERS * MOST];
    int32_t index[DENOISE_N_INDICES * MOST];
    int64_t n = p->n;
    train_task task = denoise_task(&p->d);
    OK(task.fill(task.user, p->p, step, first, n));
    OK(md_plan_run(p->p));
    OK(md_plan_read(p->p, d->noisy, noisy, MD_F64, n * RIG_LATENT));
    OK(md_plan_read(p->p, d->noises, noise, MD_F64, 2 * n * RIG_LATENT));
    OK(md_plan_read(p->p, d->wanted, wanted, MD_F64, n * RIG_LATENT));
    OK(md_plan_read(p->p, d->map, map, MD_F64, n * RIG_PX));
    OK(md_plan_read(p->p, d->numbers, numbers, MD_F64, DENOISE_N_NUMBERS * n));
    OK(md_plan_read(p->p, d->index, index, MD_I32, DENOISE_N_INDICES * n));
    for (int64_t s = 0; s < n; s++, out += PER_SAMPLE) {
        memcpy(out, noisy + s * RIG_LATENT, RIG_LATENT * sizeof *out);
        memcpy(out + NOISE, noise + (n + s) * RIG_LATENT, RIG_LATENT * sizeof *out);
        memcpy(out + WANTED, wanted + s * RIG_LATENT, RIG_LATENT * sizeof *out);
        memcpy(out + MAP, map + s * RIG_PX, RIG_PX * sizeof *out);
        for (int i = 0; i < DENOISE_N_NUMBERS; i++)
            out[NUMBERS + i] = numbers[i * n + s];
        for (int i = 0; i < DENOISE_N_INDICES; i++)
            out[INDEX + i] = index[i * n + s];
    }
}

/* A worker gets the same sample at a position however the batch is split, in whatever order. */
static void test_any_split(void **state)
{
    (void)state;
    static double whole[6 * PER_SAMPLE], part[2 * PER_SAMPLE];
    rig r;
    planned six, two;
    rig_open(&r, true);
    r.d.batch = 5;
    plan(&r, 6, &six);
    plan(&r, 2, &two);
    for (int64_t step = 0; step < 7; step += 3) {
        read_samples(&six, step, 0, whole);
        for (int first = 4; first >= 0; first -= 2) {
            read_samples(&two, step, first, part);
            assert_memory_equal(part, whole + first * PER_SAMPLE, sizeof part);
        }
        assert_true(whole[5 * PER_SAMPLE + NUMBERS + DENOISE_SHARE] == 0); /* beyond the batch */
    }
    unplan(&six);
    unplan(&two);
    rig_close(&r);
}

/* z_t = a z + b noise with z = s (mean + std e); the map is M^2; the coefficient is the share of
   the valid samples over C max(sum M^2, least). */
static void test_inputs(void **state)
{
    (void)state;
    static double in[4 * PER_SAMPLE];
    rig r;
    planned p;
    rig_open(&r, true);
    for (size_t i = 0; i < sizeof r.moments / sizeof *r.moments; i++)
        if (i / RIG_CHANNELS % 2)
            r.moments[i] = -60; /* below the limit of -30: a deviation of 3e-7 */
    plan(&r, 4, &p);
    int seen_empty = 0;
    for (int64_t step = 0; step < 6; step++) {
        read_samples(&p, step, 0, in);
        int64_t valid = 4 - denoise_count_empty(&r.d, step);
        for (int s = 0; s < 4; s++) {
            denoise_draw w = denoise_draw_at(&r.d, step, s);
            const double *noisy = in + s * PER_SAMPLE, *noise = noisy + NOISE;
            const double *map = noisy + MAP, *numbers = noisy + NUMBERS;
            const float *mean = r.moments + (w.image * 2 + w.variant) * RIG_LATENT * 2;
            const float *mask = r.mask + (w.image * 2 + w.variant) * RIG_PX;
            double a = sqrt(r.alphas[w.t]), b = sqrt(1 - r.alphas[w.t]), area = 0;
            for (int i = 0; i < RIG_LATENT; i++) {
                double z =
                    0.7 * (double)mean[i / RIG_CHANNELS * 2 * RIG_CHANNELS + i % RIG_CHANNELS];
                assert_true(fabs(noisy[i] - (a * z + b * noise[i])) < 1e-5);
            }
            for (int i = 0; i < RIG_PX; i++) {
                near(map[i], (double)mask[i] * (double)mask[i], 1e-15);
                area += map[i];
            }
            assert_true(numbers[DENOISE_T] == w.t);
            if (w.empty)
                assert_true(numbers[DENOISE_SHARE] == 0);
            else
                near(numbers[DENOISE_SHARE], 1 / ((double)valid * RIG_CHANNELS * area), 1e-6);
            seen_empty += w.empty;
        }
    }
    assert_true(seen_empty > 0);
    unplan(&p);
    rig_close(&r);
}

/* Once loaded, nothing of the source is read again: pictures, masks, their areas, texts. */
static void test_stays(void **state)
{
    (void)state;
    static double before[4 * PER_SAMPLE], after[4 * PER_SAMPLE];
    double loss[2];
    rig r;
    planned p;
    rig_open(&r, true);
    plan(&r, 4, &p);
    read_samples(&p, 3, 0, before);
    OK(md_plan_read(p.p, p.loss, &loss[0], MD_F64, 1));
    memset(r.moments, 0, sizeof r.moments);
    memset(r.mask, 0, sizeof r.mask);
    memset(r.context, 0, sizeof r.context);
    read_samples(&p, 4, 0, after);
    read_samples(&p, 3, 0, after);
    OK(md_plan_read(p.p, p.loss, &loss[1], MD_F64, 1));
    assert_memory_equal(before, after, sizeof before);
    assert_true(loss[0] == loss[1] && loss[0] > 0);
    unplan(&p);
    rig_close(&r);
}

/* Class samples follow the lesion samples, which do not notice; each class image once per pass. */
static void test_prior(void **state)
{
    (void)state;
    static double with[8 * PER_SAMPLE], without[4 * PER_SAMPLE];
    rig r;
    int dropped = 0;
    planned alone, both;
    rig_open(&r, true);
    r.source.n = 3;
    r.d.prior_weight = 0.6;
    r.d.drop_caption = 0.5;
    r.d.outside = 0.25; /* which is not for class images: their map is 1 */
    plan(&r, 4, &alone);
    for (int64_t step = 0; step < 4; step++) {
        int seen[2] = {0};
        r.source.n_prior = 0;
        assert_int_equal(denoise_positions(&r.d), 4);
        read_samples(&alone, step, 0, without);
        r.source.n_prior = 2;
        assert_int_equal(denoise_positions(&r.d), 8);
        plan(&r, 8, &both);
        read_samples(&both, step, 0, with);
        assert_memory_equal(with, without, sizeof without);
        for (int s = 4; s < 8; s++) {
            const double *in = with + s * PER_SAMPLE;
            int image = (int)in[INDEX + DENOISE_PICTURE] / RIG_VARIANTS;
            assert_in_range(image, 3, 4);
            seen[image - 3]++;
            assert_true(in[INDEX + DENOISE_TEXT] == DENOISE_CLASS);
            near(in[NUMBERS + DENOISE_SHARE], 0.6 / (4 * RIG_LATENT), 1e-6);
            for (int i = 0; i < RIG_PX; i++)
                assert_true(in[MAP + i] == 1);
            for (int k = 0; k < 4; k++) /* no lesion sample's draw */
                assert_true(memcmp(in + NOISE, without + k * PER_SAMPLE + NOISE,
                                   RIG_LATENT * sizeof *in) != 0);
            dropped += without[(s - 4) * PER_SAMPLE + INDEX + DENOISE_TEXT] == DENOISE_EMPTY;
        }
        assert_true(seen[0] == 2 && seen[1] == 2);
        unplan(&both);
    }
    assert_in_range(dropped, 2, 14); /* of 16 lesion samples; no class sample */
    unplan(&alone);
    rig_close(&r);
}

/* The noise of a sample's channel is moved as a whole, by a normal number of that deviation. */
static void test_noise_offset(void **state)
{
    (void)state;
    static double plain[4 * PER_SAMPLE], moved[4 * PER_SAMPLE];
    double sum2 = 0;
    rig r;
    planned p, q;
    rig_open(&r, true);
    plan(&r, 4, &p);
    r.d.noise_offset = 0.2;
    plan(&r, 4, &q);
    for (int64_t step = 0; step < 8; step++) {
        read_samples(&p, step, 0, plain);
        read_samples(&q, step, 0, moved);
        for (int i = 0; i < 4 * RIG_CHANNELS; i++) {
            int64_t at = i / RIG_CHANNELS * PER_SAMPLE + NOISE + i % RIG_CHANNELS;
            double by = moved[at] - plain[at];
            for (int64_t k = 0; k < RIG_PX; k++)
                assert_true(fabs(moved[at + k * RIG_CHANNELS] - plain[at + k * RIG_CHANNELS] - by) <
                            1e-6);
            sum2 += by * by;
        }
        assert_memory_equal(moved + WANTED, moved + NOISE, RIG_LATENT * sizeof *moved);
    }
    double deviation = sqrt(sum2 / (8 * 4 * RIG_CHANNELS)); /* of 128: five of their own */
    assert_true(deviation > 0.14 && deviation < 0.26);
    unplan(&p);
    unplan(&q);
    rig_close(&r);
}

/* The gradient at the network's output is exactly zero where the map is, and only there. */
static void test_mask(void **state)
{
    (void)state;
    static double grad[4 * RIG_LATENT], map[4 * RIG_PX];
    rig r;
    for (int outside = 0; outside < 2; outside++) {
        rig_open(&r, true);
        r.d.outside = 0.5 * outside;
        md_graph *g;
        md_plan *p;
        md_tensor *dpred;
        OK(md_graph_new(&g));
        md_tensor *loss = r.task.build(r.task.user, g, 4);
        OK(md_grad(loss, &r.d.pred, 1, 0, &dpred));
        md_tensor *const out[] = {dpred, r.d.map};
        OK(md_plan_build(g, r.be, out, 2, &p));
        OK(r.task.load(r.task.user, r.be));
        OK(md_plan_load(p));
        OK(r.task.fill(r.task.user, p, 1, 0, 4));
        OK(md_plan_run(p));
        OK(md_plan_read(p, dpred, grad, MD_F64, 4 * RIG_LATENT));
        OK(md_plan_read(p, r.d.map, map, MD_F64, 4 * RIG_PX));
        int zero = 0, live = 0;
        for (int i = 0; i < 4 * RIG_LATENT; i++) {
            bool counts = map[i / RIG_CHANNELS] > 0;
            assert_true(counts == (fabs(grad[i]) > 0));
            zero += !counts;
            live += counts;
        }
        assert_true(outside ? zero == 0 : zero > 100 && live > 100);
        md_plan_free(p);
        md_graph_free(g);
        rig_close(&r);
    }
}

/* The x0 loss as equation 1 writes it, from the same prediction. clean [n,1,1,1] x 2: 1/a, b/a. */
static md_tensor *x0_loss(rig *r, md_tensor *inverse_a, md_tensor *b_over_a, md_tensor *weight)
{
    denoise *d = &r->d;
    md_tensor *guess = md_sub(md_mul(d->noisy, inverse_a), md_mul(d->pred, b_over_a));
    md_tensor *clean = md_sub(md_mul(d->noisy, inverse_a), md_mul(d->wanted, b_over_a));
    md_tensor *diff = md_sub(guess, clean);
    md_tensor *sum = md_sum_to(md_mul(md_mul(diff, diff), d->map), 4, MD_DIMS(4, 1, 1, 1));
    return md_sum(md_mul(sum, weight));
}

static void test_targets(void **state)
{
    (void)state;
    static double grads[2][2][8192];
    double losses[2][2];
    size_t n_grads = 0;
    for (int snr = 0; snr < 2; snr++) {
        rig r;
        md_graph *g;
        md_plan *p;
        md_tensor *loss[2], *leaf[256] = {0}, *out[512], *in[3];
        double coef[3][4];
        rig_open(&r, true);
        /* x0 with weight 1; then x0 with weight SNR, which is epsilon with weight 1 */
        r.d.target = DENOISE_X0;
        r.d.weight = snr ? DENOISE_SNR : DENOISE_ONE;
        OK(md_graph_new(&g));
        loss[0] = r.task.build(r.task.user, g, 4);
        for (int i = 0; i < 3; i++)
            in[i] = md_input(g, "x0", MD_F32, 4, MD_DIMS(4, 1, 1, 1));
        loss[1] = x0_loss(&r, in[0], in[1], in[2]);
        nn_params_tensors(r.params, g, leaf);
        int n = nn_params_count(r.params), n_out = 0;
        assert_in_range(n, 1, 250);
        for (int i = 0; i < 2; i++) {
            OK(md_grad(loss[i], leaf, n, 0, out + n_out));
            n_out += n;
        }
        out[n_out++] = loss[0];
        out[n_out++] = loss[1];
        OK(md_plan_build(g, r.be, out, n_out, &p));
        OK(r.task.load(r.task.user, r.be));
        OK(md_plan_load(p));
        OK(r.task.fill(r.task.user, p, 2, 0, 4));
        double valid = 4 - (double)denoise_count_empty(&r.d, 2);
        for (int s = 0; s < 4; s++) {
            denoise_draw w = denoise_draw_at(&r.d, 2, s);
            double abar = r.alphas[w.t], area = 0;
            for (int i = 0; i < RIG_PX; i++) {
                float m = r.mask[(w.image * 2 + w.variant) * RIG_PX + i];
                area += (double)(m * m);
            }
            coef[0][s] = 1 / sqrt(abar);
            coef[1][s] = sqrt((1 - abar) / abar);
            coef[2][s] =
                w.empty ? 0 : (snr ? abar / (1 - abar) : 1) / (valid * RIG_CHANNELS * area);
        }
        for (int i = 0; i < 3; i++)
            OK(md_plan_write(p, in[i], coef[i], MD_F64, 4));
        OK(md_plan_run(p));
        for (int i = 0; i < 2; i++) {
            OK(md_plan_read(p, loss[i], &losses[snr][i], MD_F64, 1));
            n_grads = 0;
            double most = 0;
            for (int k = 0; k < n; k++) {
                md_tensor *t = out[i * n + k];
                if (n_grads + (size_t)md_numel(t) > 8192)
                    break;
                OK(md_plan_read(p, t, grads[snr][i] + n_grads, MD_F64, md_numel(t)));
                n_grads += (size_t)md_numel(t);
            }
            for (size_t k = 0; k < n_grads; k++)
                most = fmax(most, fabs(grads[snr][i][k]));
            assert_true(most > 1e-6);
            /* the task's coefficients are f32: 6e-8 of each sample's share */
            for (size_t k = 0; i == 1 && k < n_grads; k++)
                assert_true(fabs(grads[snr][0][k] - grads[snr][1][k]) <= 2e-7 * most);
        }
        near(losses[snr][0], losses[snr][1], 2e-7);
        md_plan_free(p);
        md_graph_free(g);
        rig_close(&r);
    }
    assert_true(fabs(losses[0][0] / losses[1][0] - 1) > 0.1); /* the weight does something */
    assert_true(n_grads > 4000);
}

/* x0 weighted by SNR and epsilon weighted by 1 are the same training; so are the two
   forms of min-SNR. */
static void test_targets_are_one(void **state)
{
    (void)state;
    static const struct {
        denoise_target target;
        denoise_weight weight;
    } pairs[][2] = {{{DENOISE_X0, DENOISE_SNR}, {DENOISE_EPSILON, DENOISE_ONE}},
                    {{DENOISE_X0, DENOISE_MIN_SNR}, {DENOISE_EPSILON, DENOISE_MIN_SNR}}};
    for (int i = 0; i < 2; i++) {
        float *got[2];
        int64_t n;
        for (int k = 0; k < 2; k++) {
            rig r;
            train_stats s;
            rig_open(&r, false);
            r.d.target = pairs[i][k].target;
            r.d.weight = pairs[i][k].weight;
            r.d.gamma = 5;
            rig_start(&r);
            for (int step = 0; step < 4; step++)
                OK(train_step(r.t, false, &s));
            got[k] = rig_all(&r, &n);
            rig_close(&r);
        }
        assert_true(rig_distance(got[0], got[1], n) < 1e-6);
        free(got[0]);
        free(got[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_time_weight),  cmocka_unit_test(test_draws),
        cmocka_unit_test(test_any_split),    cmocka_unit_test(test_inputs),
        cmocka_unit_test(test_stays),        cmocka_unit_test(test_prior),
        cmocka_unit_test(test_noise_offset), cmocka_unit_test(test_mask),
        cmocka_unit_test(test_targets),      cmocka_unit_test(test_targets_are_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
