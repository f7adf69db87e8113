/* Chains in whole trainings: the same losses and weights to the bit as with single nodes, no more
   memory, fewer nodes. */
#include "rig.h"

enum { STEPS = 3 };

static md_backend_ops single_nodes;

static md_backend *open_cpu(bool chains)
{
    md_backend *be;
    OK(cpu_backend_open(&be, 1));
    if (!chains) {
        single_nodes = *be->ops;
        single_nodes.fuses_chains = false;
        be->ops = &single_nodes;
    }
    return be;
}

/* With a quarter of the blocks computed twice, or none. */
static float *train_some(bool chains, bool recompute, int64_t *n, double *losses, int *nodes)
{
    rig r;
    rig_open_on(&r, open_cpu(chains), MD_F32);
    rig_start(&r);
    if (recompute) {
        r.o.budget_bytes = train_memory(r.t).total - 1;
        rig_stop(&r);
        rig_start(&r);
    }
    for (int i = 0; i < STEPS; i++) {
        train_stats s;
        OK(train_step(r.t, false, &s));
        losses[i] = s.loss;
    }
    *nodes = md_plan_n_nodes(train_plan(r.t));
    float *all = rig_all(&r, n);
    rig_stop(&r);
    rig_close(&r);
    return all;
}

static void test_same_bits(void **state)
{
    (void)state;
    double losses[2][STEPS];
    float *all[2];
    int64_t n[2];
    int nodes[2];
    for (int recompute = 0; recompute < 2; recompute++) {
        for (int chains = 0; chains < 2; chains++)
            all[chains] = train_some(chains, recompute, &n[chains], losses[chains], &nodes[chains]);
        assert_int_equal(n[0], n[1]);
        assert_memory_equal(losses[0], losses[1], sizeof losses[0]);
        assert_memory_equal(all[0], all[1], (size_t)n[0] * sizeof(float));
        assert_true(nodes[1] < nodes[0]);
        free(all[0]);
        free(all[1]);
    }
}

typedef struct size {
    const char *path;
    int64_t edge, tokens, width, batch;
    md_dtype dtype;
    bool recompute;
    int saved; /* nodes, at least */
} size;

/* The step's plan of a UNet that exists only as shapes. */
static md_plan_bytes plan_of(const size *s, bool chains, int *nodes)
{
    const model_row *row = model_registry(MODEL_UNET);
    model_config c;
    nn_params *params;
    md_backend *be = open_cpu(chains);
    OK(row->read(s->path, &c));
    OK(nn_params_new("unet", &params));
    OK(row->declare(params, &c));
    nn_params_hold(params, s->dtype == MD_BF16 ? NN_HOLD_BOTH : NN_HOLD_F32);
    denoise_source source = {.n = 1,
                             .variants = 1,
                             .edge = s->edge,
                             .channels = c.unet.in_channels,
                             .tokens = s->tokens,
                             .width = s->width};
    denoise d = {.unet = &c.unet,
                 .unet_params = params,
                 .dtype = s->dtype,
                 .source = &source,
                 .batch = s->batch};
    train_task task = denoise_task(&d);
    train_options o = {.steps = 1, .batch = s->batch, .accumulate = 1, .lr = 1};
    train *t;
    OK(train_new(be, &params, 1, &task, &o, &t));
    if (s->recompute) {
        o.budget_bytes = train_memory(t).total - 1;
        train_free(t);
        task = denoise_task(&d);
        OK(train_new(be, &params, 1, &task, &o, &t));
    }
    md_plan_bytes bytes = md_plan_memory(train_plan(t));
    *nodes = md_plan_n_nodes(train_plan(t));
    train_free(t);
    nn_params_free(params, be);
    be->ops->close(be);
    return bytes;
}

static void test_no_more_memory(void **state)
{
    (void)state;
    static const size sizes[] = {
        {"data/tiny/unet/config.json", 32, 77, 64, 2, MD_F32, false, 20},
        {"data/tiny/unet/config.json", 32, 77, 64, 2, MD_BF16, false, 20},
        {"data/tiny/unet/config.json", 32, 77, 64, 2, MD_F32, true, 20},
        {"tests/golden/published/sd15-unet.json", 64, 77, 768, 1, MD_BF16, false, 40},
        {"tests/golden/published/sd15-unet.json", 64, 77, 768, 8, MD_BF16, true, 40},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int single, chains;
        md_plan_bytes before = plan_of(&sizes[i], false, &single);
        md_plan_bytes after = plan_of(&sizes[i], true, &chains);
        print_message("%s in %s: %d nodes and %.1f MiB, with chains %d and %.1f\n", sizes[i].path,
                      md_dtype_name(sizes[i].dtype), single, (double)before.total / 1048576, chains,
                      (double)after.total / 1048576);
        assert_true(after.total <= before.total);
        assert_true(single - chains >= sizes[i].saved);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_bits),
                                       cmocka_unit_test(test_no_more_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
