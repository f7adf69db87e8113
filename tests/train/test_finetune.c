/* A fine-tune as its configuration describes it takes the bytes that the plan promised. */
#include "model/foundation.h"
#include "rig.h"
#include "support/peak.h"
#include "train/finetune.h"

enum { SIZE = 64 };

/* Bytes promised for this configuration before anything is taken, then what a training takes. */
static void check(const char *const *sets, size_t n_sets)
{
    foundation *f;
    md_backend *be;
    config *cfg;
    static double alphas[1000];
    OK(config_load(NULL, sets, n_sets, &cfg));
    OK(foundation_open("tests/golden/sd", &f));
    finetune_hold(cfg, f);
    OK(finetune_adapt(cfg, f));
    OK(cpu_backend_open(&be, 1));
    peak_watch(be);

    nn_params *stores[MODEL_N_PARTS];
    train_options o = finetune_options(cfg, 0);
    int n = finetune_stores(cfg, f, stores);
    denoise_source s;
    OK(finetune_source_shape(cfg, f, SIZE, &s));
    denoise d = finetune_task(cfg, f, &s, alphas);
    train_task task = denoise_task(&d);
    train *t;
    OK(train_new(be, stores, n, &task, &o, &t));
    assert_int_equal(peak_bytes, 0);
    train_bytes promised = train_memory(t);
    train_free(t);

    size_t others = 0; /* parts that are loaded, but not trained */
    for (int i = 0; i < MODEL_N_PARTS; i++)
        OK(foundation_load(f, (model_part)i, be));
    OK(foundation_draw_lora(f, be, 1));
    others = be->allocated_bytes - promised.weights;
    size_t px = (size_t)(s.edge * s.edge), latent = px * (size_t)s.channels;
    size_t rows = (size_t)((s.n + s.n_prior) * s.variants);
    float *moments = calloc(rows * 2 * latent, sizeof *moments);
    float *mask = malloc(rows * px * sizeof *mask);
    float *context = calloc((size_t)(DENOISE_N_TEXTS * s.tokens * s.width), sizeof *context);
    int32_t *ids = calloc((size_t)((s.n + s.n_prior) * s.tokens), sizeof *ids);
    assert_true(moments && mask && context && ids);
    for (size_t i = 0; i < rows * px; i++)
        mask[i] = i % 3 ? 1 : 0;
    s.moments = moments;
    s.mask = mask;
    s.context = context;
    s.ids = s.empty_ids = ids;
    diffusion_schedule noise = f->schedule;
    OK(schedule_alphas_cumprod(&noise, alphas));
    OK(train_new(be, stores, n, &task, &o, &t));
    OK(train_load(t));
    assert_int_equal(be->allocated_bytes, promised.total + others);
    for (int i = 0; i < 3; i++) {
        train_stats stats;
        OK(train_step(t, false, &stats));
        assert_false(stats.skipped);
    }
    OK(train_swap_ema(t));
    assert_int_equal(peak_bytes, promised.total + others);
    train_free(t);
    free(moments);
    free(mask);
    free(context);
    free(ids);
    foundation_free(f, be);
    assert_int_equal(be->allocated_bytes, 0);
    be->ops->close(be);
    config_free(cfg);
}

static void test_plain(void **state)
{
    (void)state;
    check(NULL, 0);
}

static void test_all_on(void **state)
{
    (void)state;
    static const char *const sets[] = {"finetune.text_encoder=true", "finetune.ema=0.99",
                                       "finetune.accumulate=2", "finetune.batch=5",
                                       "model.dtype=bf16"};
    check(sets, sizeof sets / sizeof *sets);
}

/* Gradients in bf16, moments in 8 bits or bf16. */
static void test_small_states(void **state)
{
    (void)state;
    static const char *const eight[] = {"finetune.states=8bit", "model.dtype=bf16"};
    static const char *const sixteen[] = {"finetune.states=bf16", "model.dtype=bf16",
                                          "finetune.batch=4"};
    static const char *const alone[] = {"finetune.states=8bit", "finetune.ema=0.9"};
    check(eight, 2);
    check(sixteen, 3);
    check(alone, 2);
}

/* Adapters: promised and taken alike, and far less than for the whole model. */
static void test_adapters(void **state)
{
    (void)state;
    static const char *const lora[] = {"finetune.lora_rank=2"};
    static const char *const all[] = {"finetune.lora_rank=3", "finetune.lora_layers=all",
                                      "finetune.text_encoder=true", "finetune.ema=0.9",
                                      "model.dtype=bf16"};
    check(lora, 1);
    check(all, 5);
}

/* What the keys say arrives where it should. */
static void test_adapter_keys(void **state)
{
    (void)state;
    static const struct {
        const char *layers;
        int unet, text; /* layers with an adapter */
    } rows[] = {{"attention", 8 * 4, 4 * 2},
                {"attention+ff", 10 * 4, 6 * 2},
                {"all", 83, 6 * 2}}; /* 83: make_training.py counted them */
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char layers[64];
        foundation *f;
        config *cfg;
        nn_params *stores[MODEL_N_PARTS];
        (void)snprintf(layers, sizeof layers, "finetune.lora_layers=%s", rows[i].layers);
        const char *sets[] = {"finetune.lora_rank=3", "finetune.text_encoder=true", layers};
        OK(config_load(NULL, sets, 3, &cfg));
        OK(foundation_open("tests/golden/sd", &f));
        OK(finetune_adapt(cfg, f));
        assert_int_equal(finetune_stores(cfg, f, stores), 2);
        assert_ptr_equal(stores[0], nn_lora_adapters(f->params[MODEL_UNET]));
        assert_ptr_equal(stores[1], nn_lora_adapters(f->params[MODEL_TEXT_ENCODER]));
        assert_int_equal(nn_params_count(stores[0]), 2 * rows[i].unet);
        assert_int_equal(nn_params_count(stores[1]), 2 * rows[i].text);
        foundation_free(f, NULL);
        config_free(cfg);
    }
}

/* A prior: twice the batch, and the class pictures' rows on the device. */
static void test_prior(void **state)
{
    (void)state;
    static const char *const sets[] = {"finetune.prior_weight=0.5",
                                       "finetune.prior_prompt=an image", "finetune.prior_images=9",
                                       "data.pairs=4"};
    check(sets, sizeof sets / sizeof *sets);
}

/* Keys that reach the training through its options. */
static void test_options(void **state)
{
    (void)state;
    static const char *const sets[] = {"finetune.schedule=restarts", "finetune.cycles=3",
                                       "finetune.lr_floor=0.25",     "finetune.batch=6",
                                       "finetune.prior_weight=0.5",  "finetune.noise_offset=0.1",
                                       "finetune.prior_images=9",    "loss.target=v"};
    foundation *f;
    config *cfg;
    OK(config_load(NULL, sets, sizeof sets / sizeof *sets, &cfg));
    OK(foundation_open("tests/golden/sd", &f));
    train_options o = finetune_options(cfg, 0);
    assert_int_equal(o.lr_rule, TRAIN_LR_RESTARTS);
    assert_int_equal(o.lr_cycles, 3);
    assert_true(o.lr_floor == 0.25);
    assert_int_equal(o.batch, 12);
    denoise_source s;
    OK(finetune_source_shape(cfg, f, SIZE, &s));
    assert_int_equal(s.n_prior, 9);
    denoise d = finetune_task(cfg, f, &s, NULL);
    assert_int_equal(d.batch, 6);
    assert_int_equal(denoise_positions(&d), o.batch);
    assert_true(d.prior_weight == 0.5 && d.noise_offset == 0.1);
    assert_int_equal(d.target, DENOISE_V);
    FAILS(MD_USAGE, "finetune.prior_prompt", finetune_check(cfg));
    config_free(cfg);
    foundation_free(f, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),        cmocka_unit_test(test_all_on),
        cmocka_unit_test(test_small_states), cmocka_unit_test(test_adapters),
        cmocka_unit_test(test_adapter_keys), cmocka_unit_test(test_prior),
        cmocka_unit_test(test_options)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
