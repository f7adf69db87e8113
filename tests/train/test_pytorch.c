/* Five steps of the small UNet against PyTorch's AdamW: losses, gradient norms, gradients, weights,
   moving averages. Golden files: tests/golden/make_train.py. */
#include "format/safetensors.h"
#include "rig.h"

#define GOLDEN "tests/golden/train/"
enum { STEPS = 5, BATCH = 3 };

typedef struct feed {
    const denoise *d;
    format_tensors *file;
} feed;

static md_status put(const feed *f, md_plan *plan, md_tensor *t, const char *name, int64_t step)
{
    char full[32];
    const format_tensor *found = NULL;
    float host[BATCH * RIG_LATENT];
    int64_t n = md_numel(t);
    (void)snprintf(full, sizeof full, "%s.%d", name, (int)step);
    for (int64_t i = 0; i < format_tensors_count(f->file); i++)
        if (!strcmp(format_tensors_at(f->file, i)->name, full))
            found = format_tensors_at(f->file, i);
    assert_non_null(found);
    assert_int_equal(found->numel, n);
    MD_TRY(format_tensors_read_f32(f->file, found, 0, n, host));
    return md_plan_write(plan, t, host, MD_F32, n);
}

/* The denoising task's graph on PyTorch's inputs. */
static md_status fill(void *user, md_plan *plan, int64_t step, int64_t first, int64_t n)
{
    const feed *f = user;
    assert_true(first == 0 && n == BATCH);
    MD_TRY(put(f, plan, f->d->noisy, "noisy", step));
    MD_TRY(put(f, plan, f->d->noise, "noise", step));
    MD_TRY(put(f, plan, f->d->t, "t", step));
    MD_TRY(put(f, plan, f->d->map, "map", step));
    MD_TRY(put(f, plan, f->d->coef, "coef", step));
    return put(f, plan, f->d->context, "context", step);
}

static md_tensor *(*build_denoise)(void *, md_graph *, int64_t);

static md_tensor *build(void *user, md_graph *g, int64_t n)
{
    feed *f = user;
    return build_denoise((void *)(uintptr_t)f->d, g, n);
}

static void read_row(format_tensors *f, const char *name, double *out)
{
    const format_tensor *t;
    float host[STEPS];
    OK(format_tensors_get(f, name, 1, (int64_t[]){STEPS}, &t));
    OK(format_tensors_read_f32(f, t, 0, STEPS, host));
    for (int i = 0; i < STEPS; i++)
        out[i] = (double)host[i];
}

/* Distance of a state buffer from a golden file, as a share of `scale`'s norm (NULL: of its own).
 */
static double distance(rig *r, int which, const char *file, const float *scale)
{
    nn_params *p;
    int64_t n;
    OK(nn_params_new("unet", &p));
    OK(model_registry(MODEL_UNET)->declare(p, &r->config));
    OK(md_buffer_alloc(r->be, nn_params_buffer(p)));
    OK(nn_params_load(p, r->be, file, &model_registry(MODEL_UNET)->rules));
    float *got = rig_state(r, which, &n), *want = malloc((size_t)n * sizeof *want);
    assert_non_null(want);
    OK(md_buffer_read(r->be, nn_params_buffer(p), 0, want, MD_F32, n));
    double d = 0, s = 0;
    for (int64_t i = 0; i < n; i++) {
        double far = (double)want[i] - (scale ? (double)scale[i] : 0);
        d += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
        s += far * far;
    }
    assert_true(s > 0);
    nn_params_free(p, r->be);
    free(got);
    free(want);
    return sqrt(d / s);
}

static void near(const char *what, double got, double most)
{
    if (!(got <= most))
        fail_msg("%s: %.3g, at most %.3g", what, got, most);
}

/* `loss`: relative; `grad`, `weights`: relative L2, of the weights' change. */
static void compare(bool ref, double loss, double grad, double weights)
{
    rig r;
    int64_t n;
    double losses[STEPS], norms[STEPS];
    rig_open(&r, ref);
    feed f = {.d = &r.d};
    build_denoise = r.task.build;
    OK(format_tensors_open(GOLDEN "inputs.safetensors", &f.file));
    read_row(f.file, "loss", losses);
    read_row(f.file, "norm", norms);
    r.d.batch = BATCH;
    r.task = (train_task){.user = &f, .build = build, .fill = fill};
    r.o = (train_options){.steps = STEPS,
                          .batch = BATCH,
                          .accumulate = 1,
                          .lr_rule = TRAIN_LR_LINEAR,
                          .lr = 2e-3,
                          .warmup = 1,
                          .beta1 = 0.9,
                          .beta2 = 0.99,
                          .eps = 1e-8,
                          .weight_decay = 0.05,
                          .clip = 0.5,
                          .ema = 0.9};
    rig_start(&r);
    float *start = rig_state(&r, 0, &n);
    for (int i = 0; i < STEPS; i++) {
        train_stats s;
        OK(train_step(r.t, false, &s));
        near("loss", fabs(s.loss / losses[i] - 1), loss);
        near("gradient norm", fabs(s.grad_norm / norms[i] - 1), grad);
        if (i == 0)
            near("clipped gradient", distance(&r, 1, GOLDEN "first.safetensors", NULL), grad);
    }
    near("weights", distance(&r, 0, GOLDEN "weights.safetensors", start), weights);
    near("average", distance(&r, 3, GOLDEN "average.safetensors", start), weights);
    free(start);
    format_tensors_close(f.file);
    rig_close(&r);
}

/* Golden values are stored in f32: 6e-8 of a weight, whose change is a hundredth of it. */
static void test_ref(void **state)
{
    (void)state;
    compare(true, 1e-6, 1e-6, 2e-6);
}

/* AdamW divides by the root of the squares: rounding errors of small gradients count in full. */
static void test_cpu(void **state)
{
    (void)state;
    compare(false, 1e-5, 1e-5, 1e-4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ref), cmocka_unit_test(test_cpu)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
