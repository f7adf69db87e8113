/* PyTorch's forward results and gradients for the rows that name one, and steps of its AdamW, on
   ref (1e-6 of max: the files hold f32) and on cpu. Made by tests/golden/make_ops.py. */
#include "backend/cpu/cpu.h"
#include "backend/ref/ref.h"
#include "format/safetensors.h"
#include "graph/plan.h"
#include "ops_cmocka.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ELEMENTS = 4096 };

static struct {
    md_backend *be;
    double tolerance;
} backends[2];
static int compared;

static int open_backends(void **state)
{
    (void)state;
    OK(ref_backend_open(&backends[0].be));
    backends[0].tolerance = 1e-6;
    OK(cpu_backend_open(&backends[1].be, 2));
    backends[1].tolerance = 1e-5;
    return 0;
}

static int close_backends(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++)
        backends[i].be->ops->close(backends[i].be);
    return 0;
}

static md_status open_file(const char *family, format_tensors **out)
{
    char path[128];
    snprintf(path, sizeof path, "tests/golden/ops/%s.safetensors", family);
    return format_tensors_open(path, out);
}

/* The named tensor, which must have t's shape, as t's plan takes it: f32 or i32. */
static md_status load(const format_tensors *f, const char *name, const md_tensor *t, float *x)
{
    const format_tensor *ft;
    MD_TRY(format_tensors_get(f, name, t->ndim, t->dim, &ft));
    if (md_numel(t) > MAX_ELEMENTS || (ft->dtype == FORMAT_I32) != (t->dtype == MD_I32))
        MD_FAIL(MD_INTERNAL, "%s: too large, or not %s", name, md_dtype_name(t->dtype));
    return t->dtype == MD_I32 ? format_tensors_read_raw(f, ft, x)
                              : format_tensors_read_f32(f, ft, 0, md_numel(t), x);
}

static md_status compare(const char *name, const double *got, const float *want, int64_t n,
                         double tolerance)
{
    double max = 0, worst = 0;
    for (int64_t i = 0; i < n; i++) {
        double e = fabs(got[i] - (double)want[i]);
        max = fmax(max, fabs((double)want[i]));
        if (!(e <= worst))
            worst = e;
    }
    compared++;
    if (!(worst <= tolerance * max))
        MD_FAIL(MD_INTERNAL, "%s: error %.3g of max %.3g, allowed %.3g", name, worst, max,
                tolerance);
    return MD_OK;
}

/* Every golden tensor of a row: in, w -> out, grad. */
static md_status check(const format_tensors *file, const op_case *c, const op_graph *o,
                       md_plan *plan, double tolerance)
{
    static float x[MAX_ELEMENTS];
    static double got[MAX_ELEMENTS];
    char name[96];
    for (int i = 0; i <= OPS_MAX_IN; i++) {
        const md_tensor *t = i < OPS_MAX_IN ? o->in[i] : o->w;
        if (!t)
            continue;
        if (i < OPS_MAX_IN)
            snprintf(name, sizeof name, "%s.in.%d", c->golden, i);
        else
            snprintf(name, sizeof name, "%s.w", c->golden);
        MD_TRY(load(file, name, t, x));
        MD_TRY(md_plan_write(plan, t, x, t->dtype, md_numel(t)));
    }
    MD_TRY(md_plan_run(plan));
    for (int i = 0; i <= OPS_MAX_IN; i++) {
        const md_tensor *t = i < OPS_MAX_IN ? o->grad[i] : o->y;
        if (!t)
            continue;
        if (i < OPS_MAX_IN)
            snprintf(name, sizeof name, "%s.grad.%d", c->golden, i);
        else
            snprintf(name, sizeof name, "%s.out", c->golden);
        MD_TRY(load(file, name, t, x));
        MD_TRY(md_plan_read(plan, t, got, MD_F64, md_numel(t)));
        MD_TRY(compare(name, got, x, md_numel(t), tolerance));
    }
    return MD_OK;
}

static md_status run_on(const format_tensors *file, const op_family *f, int row, int b)
{
    const op_case *c = &f->rows[row];
    op_graph o;
    md_plan *plan = NULL;
    md_tensor *outputs[OPS_MAX_IN + 1];
    int n = 0;
    md_status status;
    MD_TRY_GOTO(op_graph_build(f, c, MD_F32, c->flags & GRAD, &o), done);
    outputs[n++] = o.y;
    for (int i = 0; i < OPS_MAX_IN; i++)
        if (o.grad[i])
            outputs[n++] = o.grad[i];
    MD_TRY_GOTO(md_plan_build(o.g, backends[b].be, outputs, n, &plan), done);
    MD_TRY_GOTO(md_plan_load(plan), done);
    status = check(file, c, &o, plan, backends[b].tolerance);
done:
    md_plan_free(plan);
    op_graph_free(&o);
    return status == MD_OK ? status
                           : md_context(status, "%s on %s", op_case_text(f, row, MD_F32),
                                        backends[b].be->ops->name);
}

static md_status run(const op_family *f, int row)
{
    format_tensors *file;
    if (!f->rows[row].golden)
        return MD_OK;
    MD_TRY(open_file(f->name, &file));
    md_status status = MD_OK;
    for (int b = 0; b < 2 && status == MD_OK; b++)
        status = run_on(file, f, row, b);
    format_tensors_close(file);
    return status;
}

/* Two parameters under one AdamW, clipped together, each with an EMA: one plan, run once a step. */
enum { N_PARAMS = 2, N_STATE = 4 /* p, m, v, ema */, N_STEPS = 6 };
typedef struct trainer {
    md_graph *g;
    md_plan *plan;
    md_buffer state[N_PARAMS][N_STATE];
    md_tensor *tensor[N_PARAMS][N_STATE], *grad[N_PARAMS], *hyper, *decay;
} trainer;

static const struct {
    int ndim;
    int64_t dim[2];
} param_shape[N_PARAMS] = {{1, {17}}, {2, {3, 5}}};

static md_status trainer_build(trainer *t, md_backend *be)
{
    md_tensor *outputs[2 * N_PARAMS], *gnorm2 = NULL;
    MD_TRY(md_graph_new(&t->g));
    t->hyper = md_input(t->g, "hyper", MD_F32, 1, MD_DIMS(MD_HYPER_COUNT));
    t->decay = md_input(t->g, "decay", MD_F32, 1, MD_DIMS(1));
    for (int i = 0; i < N_PARAMS; i++) {
        t->grad[i] = md_input(t->g, "grad", MD_F32, param_shape[i].ndim, param_shape[i].dim);
        md_tensor *sumsq = md_sumsq(t->grad[i]);
        gnorm2 = gnorm2 ? md_add(gnorm2, sumsq) : sumsq;
        for (int k = 0; k < N_STATE; k++) {
            md_buffer_init(&t->state[i][k], "state", MD_F32, md_numel(t->grad[i]));
            MD_TRY(md_buffer_alloc(be, &t->state[i][k]));
            t->tensor[i][k] =
                md_extern(t->g, &t->state[i][k], 0, param_shape[i].ndim, param_shape[i].dim);
        }
    }
    for (int i = 0; i < N_PARAMS; i++) {
        md_tensor **s = t->tensor[i];
        outputs[2 * i] =
            md_adamw(&(md_adamw_tensors){.p = s[0], .g = t->grad[i], .m = s[1], .v = s[2]}, gnorm2,
                     t->hyper, 0.9, 0.999, 1e-8, 0.01);
        outputs[2 * i + 1] = md_ema(s[3], outputs[2 * i], t->decay);
    }
    MD_TRY(md_plan_build(t->g, be, outputs, 2 * N_PARAMS, &t->plan));
    return md_plan_load(t->plan);
}

static void trainer_free(trainer *t, md_backend *be)
{
    md_plan_free(t->plan);
    md_graph_free(t->g);
    for (int i = 0; i < N_PARAMS; i++)
        for (int k = 0; k < N_STATE; k++)
            md_buffer_release(be, &t->state[i][k]);
}

static md_status write_hyper(trainer *t, int step, double clip)
{
    double hyper[MD_HYPER_COUNT] = {0};
    hyper[MD_HYPER_LR] = 0.01 * (step + 1);
    hyper[MD_HYPER_BC1] = 1 / (1 - pow(0.9, step + 1));
    hyper[MD_HYPER_BC2] = 1 / (1 - pow(0.999, step + 1));
    hyper[MD_HYPER_CLIP] = clip;
    hyper[MD_HYPER_SCALE] = 0.25;
    double decay = fmin(0.9999, (1.0 + step) / (10.0 + step));
    MD_TRY(md_plan_write(t->plan, t->hyper, hyper, MD_F64, MD_HYPER_COUNT));
    return md_plan_write(t->plan, t->decay, &decay, MD_F64, 1);
}

/* A step whose gradient has an infinity or a NaN must leave p, m and v as they are. */
static md_status bad_step(trainer *t, md_backend *be, double bad)
{
    double before[N_PARAMS][3][32], after[32], g[32] = {0};
    g[3] = bad;
    for (int i = 0; i < N_PARAMS; i++) {
        int64_t n = md_numel(t->grad[i]);
        for (int k = 0; k < 3; k++)
            MD_TRY(md_buffer_read(be, &t->state[i][k], 0, before[i][k], MD_F64, n));
        MD_TRY(md_plan_write(t->plan, t->grad[i], g, MD_F64, n));
    }
    double keep = 1; /* of the EMA, so that it does not move either */
    MD_TRY(md_plan_write(t->plan, t->decay, &keep, MD_F64, 1));
    MD_TRY(md_plan_run(t->plan));
    for (int i = 0; i < N_PARAMS; i++)
        for (int k = 0; k < 3; k++) {
            int64_t n = md_numel(t->grad[i]);
            MD_TRY(md_buffer_read(be, &t->state[i][k], 0, after, MD_F64, n));
            if (memcmp(after, before[i][k], (size_t)n * sizeof after[0]) != 0)
                MD_FAIL(MD_INTERNAL, "a step with gradient %g changed parameter %d, state %d", bad,
                        i, k);
        }
    return MD_OK;
}

static md_status trainer_run(trainer *t, md_backend *be, const format_tensors *file,
                             const char *name, double clip, double tolerance)
{
    static float x[MAX_ELEMENTS];
    static double got[MAX_ELEMENTS];
    char key[64];
    for (int i = 0; i < N_PARAMS; i++) {
        snprintf(key, sizeof key, "%s.init.%d", name, i);
        MD_TRY(load(file, key, t->grad[i], x));
        for (int k = 0; k < N_STATE; k += N_STATE - 1) /* p and its EMA */
            MD_TRY(md_buffer_write(be, &t->state[i][k], 0, x, MD_F32, md_numel(t->grad[i])));
    }
    for (int step = 0; step < N_STEPS; step++) {
        MD_TRY(write_hyper(t, step, clip));
        if (step == 3) {
            MD_TRY(bad_step(t, be, INFINITY));
            MD_TRY(bad_step(t, be, NAN));
            MD_TRY(write_hyper(t, step, clip));
        }
        for (int i = 0; i < N_PARAMS; i++) {
            snprintf(key, sizeof key, "%s.%d.g.%d", name, step, i);
            MD_TRY(load(file, key, t->grad[i], x));
            MD_TRY(md_plan_write(t->plan, t->grad[i], x, MD_F32, md_numel(t->grad[i])));
        }
        MD_TRY(md_plan_run(t->plan));
        for (int i = 0; i < N_PARAMS; i++)
            for (int k = 0; k < N_STATE; k++) {
                int64_t n = md_numel(t->grad[i]);
                snprintf(key, sizeof key, "%s.%d.%c.%d", name, step, "pmve"[k], i);
                MD_TRY(load(file, key, t->grad[i], x));
                MD_TRY(md_buffer_read(be, &t->state[i][k], 0, got, MD_F64, n));
                MD_TRY(compare(key, got, x, n, tolerance));
            }
    }
    return MD_OK;
}

static md_status train(const char *name, double clip)
{
    format_tensors *file;
    MD_TRY(open_file("update", &file));
    md_status status = MD_OK;
    for (int b = 0; b < 2 && status == MD_OK; b++) {
        trainer t = {0};
        status = trainer_build(&t, backends[b].be);
        if (status == MD_OK)
            status = trainer_run(&t, backends[b].be, file, name, clip, backends[b].tolerance);
        trainer_free(&t, backends[b].be);
        if (status != MD_OK)
            (void)md_context(status, "on %s", backends[b].be->ops->name);
    }
    format_tensors_close(file);
    return status;
}

static void adamw_with_clipping(void **state)
{
    (void)state;
    OK(train("clip", 1));
}

static void adamw_without_clipping(void **state)
{
    (void)state;
    OK(train("free", 0));
}

int main(void)
{
    const struct CMUnitTest steps[] = {cmocka_unit_test(adamw_with_clipping),
                                       cmocka_unit_test(adamw_without_clipping)};
    int failed = op_run_families("PyTorch", run, open_backends, close_backends) +
                 cmocka_run_group_tests(steps, open_backends, close_backends);
    print_message("%d golden tensors compared\n", compared);
    return failed || compared < 200 ? 1 : 0;
}
