/* Models that stand alone in a folder: opened, loaded, written and read again, refused by name. */
#include "model/standalone.h"
#include "scratch.h"

static const struct {
    model_part part;
    const char *folder, *weights;
} models[] = {{MODEL_DINO, "tests/golden/dino", "model.safetensors"},
              {MODEL_MASK_UNET, "tests/golden/masks", "diffusion_pytorch_model.safetensors"}};
enum { MODELS = sizeof models / sizeof *models };

/* Largest difference of all parameters of two loaded models. */
static double difference(const standalone *a, const standalone *b)
{
    double worst = 0;
    assert_int_equal(nn_params_count(a->params), nn_params_count(b->params));
    for (int i = 0; i < nn_params_count(a->params); i++) {
        int64_t n = nn_params_info(a->params, i)->numel;
        float *u = malloc((size_t)n * sizeof *u), *v = malloc((size_t)n * sizeof *v);
        assert_string_equal(nn_params_info(a->params, i)->name, nn_params_info(b->params, i)->name);
        OK(nn_params_read(a->params, be, i, u));
        OK(nn_params_read(b->params, be, i, v));
        for (int64_t k = 0; k < n; k++)
            worst = fmax(worst, fabs((double)u[k] - (double)v[k]));
        free(u);
        free(v);
    }
    return worst;
}

static standalone *opened(model_part part, const char *folder)
{
    standalone *s;
    OK(standalone_open(part, folder, &s));
    OK(standalone_load(s, be));
    return s;
}

static void test_round_trip(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        char hash[2][MD_SHA256_HEX];
        standalone *s = opened(models[i].part, models[i].folder), *again, *half;
        OK(standalone_save(s, in_root("copy"), be, NULL, false));
        again = opened(models[i].part, in_root("copy"));
        assert_true(difference(s, again) == 0);
        OK(standalone_save(s, in_root("half"), be, NULL, true));
        half = opened(models[i].part, in_root("half"));
        double d = difference(s, half);
        assert_true(d > 0 && d < 4e-3); /* f16 keeps 11 bits; weights up to about 4 */
        OK(standalone_hash(s, hash[0]));
        OK(standalone_hash(half, hash[1]));
        assert_string_not_equal(hash[0], hash[1]);
        /* written from other values, as an average is */
        OK(standalone_save(s, in_root("average"), be, nn_params_buffer(half->params), false));
        standalone *average = opened(models[i].part, in_root("average"));
        assert_true(difference(average, half) == 0);
        standalone_free(average, be);
        standalone_free(half, be);
        standalone_free(again, be);
        standalone_free(s, be);
        shell("rm -r copy half average");
    }
}

static void test_new(void **state)
{
    (void)state;
    standalone *golden = opened(MODEL_DINO, models[0].folder), *a, *b, *read;
    OK(standalone_new(MODEL_DINO, &golden->config, &a));
    OK(standalone_new(MODEL_DINO, &golden->config, &b));
    FAILS(standalone_load(a, be), MD_INTERNAL, "no weight file");
    OK(standalone_randomize(a, be, 1));
    OK(standalone_randomize(b, be, 2));
    assert_true(difference(a, b) > 1e-3);
    OK(standalone_save(a, in_root("new"), be, NULL, false));
    read = opened(MODEL_DINO, in_root("new"));
    assert_true(difference(a, read) == 0);
    standalone_free(a, be);
    standalone_free(b, be);
    standalone_free(read, be);
    model_config bad = golden->config;
    bad.dino.num_attention_heads = 3; /* 8 is no multiple */
    FAILS(standalone_new(MODEL_DINO, &bad, &a), MD_BAD_INPUT, "num_attention_heads");
    standalone_free(golden, be);
    shell("rm -r new");
}

/* Copies a golden folder to root/<name>. */
static void copy_model(int i, const char *name)
{
    char command[1200];
    (void)snprintf(command, sizeof command, "rm -rf %s && cp -r %s %s", in_root(name),
                   models[i].folder, in_root(name));
    assert_int_equal(system(command), 0);
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const kinds[MODELS] = {"is UNet2DModel, wanted Dinov2Model",
                                              "wanted UNet2DModel"};
    standalone *s = NULL;
    for (int i = 0; i < MODELS; i++) {
        model_part part = models[i].part;
        copy_model(i, "m");
        FAILS(standalone_open(part, in_root("nowhere"), &s), MD_BAD_INPUT, "no such folder");
        /* the other's folder: what it is and what is wanted */
        FAILS(standalone_open(part, models[1 - i].folder, &s), MD_BAD_INPUT, kinds[i]);
        /* a pickle in place of the weights */
        shell("mv m/%s kept && printf x > m/pytorch_model.bin", models[i].weights);
        FAILS(standalone_open(part, in_root("m"), &s), MD_BAD_INPUT, "pickle");
        FAILS(standalone_open(part, in_root("m"), &s), MD_BAD_INPUT, "safetensors");
        shell("rm m/pytorch_model.bin");
        FAILS(standalone_open(part, in_root("m"), &s), MD_BAD_INPUT, models[i].weights);
        /* cut off */
        shell("head -c 2000 kept > m/%s", models[i].weights);
        FAILS(standalone_open(part, in_root("m"), &s), MD_BAD_INPUT, models[i].weights);
        shell("mv kept m/%s && rm m/config.json", models[i].weights);
        FAILS(standalone_open(part, in_root("m"), &s), MD_BAD_INPUT, "config.json");
    }
    /* another size in the config than in the weights: the tensor is named */
    copy_model(0, "m");
    shell("sed -i 's/\"num_hidden_layers\": 2/\"num_hidden_layers\": 3/' m/config.json");
    FAILS(standalone_open(MODEL_DINO, in_root("m"), &s), MD_BAD_INPUT, "encoder.layer.2");
    shell("sed -i 's/\"dinov2\"/\"dinov3_vit\"/' m/config.json");
    FAILS(standalone_open(MODEL_DINO, in_root("m"), &s), MD_BAD_INPUT, "model_type is dinov3_vit");
    assert_null(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_new),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, scratch_open, scratch_close);
}
