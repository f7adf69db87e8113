/* The VAE's task: samples that depend on nothing but their place in the global batch, and a loss
   that adds up however the batch is split. */
#include "rig.h"
#include "train/autoencode.h"

enum { CROP = 16, BATCH = 5, PIXELS = CROP * CROP * 3 };

typedef struct planned {
    autoencode a;
    md_graph *g;
    md_plan *p;
    md_tensor *loss;
} planned;

static struct {
    md_backend *be;
    model_config config;
    nn_params *params;
} vae;

static int open_vae(void **state)
{
    (void)state;
    const model_row *row = model_registry(MODEL_VAE);
    OK(ref_backend_open(&vae.be));
    OK(row->read("tests/golden/sd/vae/config.json", &vae.config));
    OK(nn_params_new("vae", &vae.params));
    OK(row->declare(vae.params, &vae.config));
    OK(md_buffer_alloc(vae.be, nn_params_buffer(vae.params)));
    OK(nn_params_load(vae.params, vae.be, "tests/golden/sd/vae/diffusion_pytorch_model.safetensors",
                      &row->rules));
    return 0;
}

static int close_vae(void **state)
{
    (void)state;
    nn_params_free(vae.params, vae.be);
    bool all = vae.be->allocated_bytes == 0;
    vae.be->ops->close(vae.be);
    return !all;
}

static void plan(int64_t n, double kl, planned *out)
{
    out->a = (autoencode){.config = &vae.config.vae,
                          .params = vae.params,
                          .seed = 9,
                          .batch = BATCH,
                          .crop = CROP,
                          .kl = kl};
    train_task task = autoencode_task(&out->a);
    OK(md_graph_new(&out->g));
    out->loss = task.build(task.user, out->g, n);
    OK(md_plan_build(out->g, vae.be, &out->loss, 1, &out->p));
    OK(md_plan_load(out->p));
}

static void unplan(planned *p)
{
    md_plan_free(p->p);
    md_graph_free(p->g);
}

/* Fills, runs, returns the loss; pictures and weights if wanted. */
static double run(planned *p, int64_t step, int64_t first, int64_t n, double *pictures,
                  double *weights)
{
    double loss;
    train_task task = autoencode_task(&p->a);
    OK(task.fill(task.user, p->p, step, first, n));
    OK(md_plan_run(p->p));
    OK(md_plan_read(p->p, p->loss, &loss, MD_F64, 1));
    OK(md_plan_read(p->p, p->a.image, pictures, MD_F64, n * PIXELS));
    OK(md_plan_read(p->p, p->a.weight, weights, MD_F64, n));
    return loss;
}

static void test_any_split(void **state)
{
    (void)state;
    static double whole[6 * PIXELS], part[2 * PIXELS];
    double w[6], v[2];
    planned six, two;
    plan(6, 0, &six); /* one position beyond the batch */
    plan(2, 0, &two);
    for (int64_t step = 0; step < 5; step += 4) {
        double loss = run(&six, step, 0, 6, whole, w), sum = 0;
        for (int first = 4; first >= 0; first -= 2) {
            sum += run(&two, step, first, 2, part, v);
            assert_memory_equal(part, whole + first * PIXELS, sizeof part);
            assert_memory_equal(v, w + first, sizeof v);
        }
        assert_true(fabs(loss - sum) <= 1e-12 * fabs(loss) && isfinite(loss));
        for (int i = 0; i < 6; i++)
            assert_true(fabs(w[i] - (i < BATCH ? 0.2 : 0)) < 1e-7);
    }
    assert_true(memcmp(whole, whole + PIXELS, PIXELS * sizeof *whole) != 0);
    for (int i = 0; i < 6 * PIXELS; i++)
        assert_true(whole[i] >= -1 && whole[i] <= 1);
    unplan(&six);
    unplan(&two);
}

/* The KL term is there, is positive, and has the weight it is given. */
static void test_kl(void **state)
{
    (void)state;
    static double pictures[5 * PIXELS];
    double w[5], loss[3];
    static const double kl[] = {0, 1e-3, 2e-3};
    for (int i = 0; i < 3; i++) {
        planned p;
        plan(5, kl[i], &p);
        loss[i] = run(&p, 1, 0, 5, pictures, w);
        unplan(&p);
    }
    assert_true(loss[1] > loss[0]);
    assert_true(fabs((loss[2] - loss[0]) - 2 * (loss[1] - loss[0])) < 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_any_split), cmocka_unit_test(test_kl)};
    return cmocka_run_group_tests(tests, open_vae, close_vae);
}
