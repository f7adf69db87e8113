/* Stable Diffusion 1.5 and DINOv2 at full size, without weights: the published configs declare the
   published number of parameters, and the graphs do the published amount of work. And every
   config.json that we write is read as what it was written from. */
#include "base/str.h"
#include "model/registry.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define PUBLISHED "tests/golden/published/"
#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != MD_OK)                                                                       \
            fail_msg("%s", md_status_text());                                                      \
    } while (0)

static nn_params *declare(model_part part, const model_config *c)
{
    nn_params *p;
    OK(nn_params_new(model_registry(part)->folder, &p));
    OK(model_registry(part)->declare(p, c));
    return p;
}

/* Multiply-adds of everything in the graph, in units of 1e9. */
static double gmac(md_graph *g)
{
    double flops = 0;
    OK(md_graph_check(g));
    for (int i = 0; i < md_graph_n_nodes(g); i++)
        flops += (double)md_graph_node(g, i)->flops;
    md_graph_free(g);
    return flops / 2e9;
}

/* Within 0.5 %: the wanted values have four digits. */
static void assert_near(double got, double want)
{
    if (!(fabs(got / want - 1) < 0.005))
        fail_msg("%.2f GMAC, wanted %.2f", got, want);
}

static void test_unet(void **state)
{
    (void)state;
    model_config c;
    md_graph *g;
    OK(unet_config_read(PUBLISHED "sd15-unet.json", &c.unet));
    nn_params *p = declare(MODEL_UNET, &c);
    assert_int_equal(nn_params_numel(p), 859520964);
    assert_int_equal(nn_params_count(p), 686);
    OK(md_graph_new(&g));
    unet(nn_root(g, p, MD_F32), &c.unet, md_input(g, "x", MD_F32, 4, MD_DIMS(1, 64, 64, 4)),
         md_input(g, "t", MD_F32, 1, MD_DIMS(1)), md_input(g, "c", MD_F32, 3, MD_DIMS(1, 77, 768)));
    assert_near(gmac(g), 401.6);
    nn_params_free(p, NULL);
    c.unet.in_channels = 9; /* SD 1.5-inpainting: five more channels into 320 filters of 3x3 */
    p = declare(MODEL_UNET, &c);
    assert_int_equal(nn_params_numel(p), 859520964 + 5 * 320 * 9);
    nn_params_free(p, NULL);
}

static void test_vae(void **state)
{
    (void)state;
    model_config c;
    md_graph *g;
    OK(vae_config_read(PUBLISHED "sd15-vae.json", &c.vae));
    assert_true(c.vae.scaling_factor == 0.18215); /* the file is older than the key */
    nn_params *p = declare(MODEL_VAE, &c);
    assert_int_equal(nn_params_numel(p), 83653863);
    OK(md_graph_new(&g));
    vae_encode(nn_root(g, p, MD_F32), &c.vae, md_input(g, "x", MD_F32, 4, MD_DIMS(1, 512, 512, 3)));
    assert_near(gmac(g), 558.3);
    OK(md_graph_new(&g));
    vae_decode(nn_root(g, p, MD_F32), &c.vae, md_input(g, "z", MD_F32, 4, MD_DIMS(1, 64, 64, 4)));
    assert_near(gmac(g), 1257.3);
    nn_params_free(p, NULL);
}

static void test_text(void **state)
{
    (void)state;
    model_config c;
    md_graph *g;
    OK(clip_text_config_read(PUBLISHED "sd15-text_encoder.json", &c.text));
    nn_params *p = declare(MODEL_TEXT_ENCODER, &c);
    assert_int_equal(nn_params_numel(p), 123060480);
    OK(md_graph_new(&g));
    clip_text(nn_root(g, p, MD_F32), &c.text, md_input(g, "ids", MD_I32, 2, MD_DIMS(1, 77)));
    /* 12 layers of 12 x 768^2 weights on 77 tokens, and two products of 77 x 77 x 768 each */
    assert_near(gmac(g), 12 * (12 * 768.0 * 768 * 77 + 2 * 77.0 * 77 * 768) / 1e9);
    nn_params_free(p, NULL);
}

/* Parameters without the mask token of pretraining. */
static void test_dino(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        int64_t numel;
        int count;
        double width, layers;
    } sizes[] = {{PUBLISHED "dinov2-small.json", 22056192, 222, 384, 12},
                 {PUBLISHED "dinov2-base.json", 86579712, 222, 768, 12},
                 {PUBLISHED "dinov2-large.json", 304367616, 438, 1024, 24}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        model_config c;
        md_graph *g;
        OK(dino_config_read(sizes[i].path, &c.dino));
        nn_params *p = declare(MODEL_DINO, &c);
        assert_int_equal(nn_params_numel(p), sizes[i].numel);
        assert_int_equal(nn_params_count(p), sizes[i].count);
        OK(md_graph_new(&g));
        md_tensor *image = md_input(g, "image", MD_F32, 4, MD_DIMS(1, 224, 224, 3));
        assert_true(dino_interpolates(&c.dino, 224, 224));
        dino(nn_root(g, p, MD_F32), &c.dino, image,
             md_input(g, "positions", MD_F32, 2, MD_DIMS(256, dino_positions(&c.dino))));
        double d = sizes[i].width, t = 257;
        assert_near(gmac(g), (sizes[i].layers * (12 * d * d * t + 2 * t * t * d) +
                              256 * d * (14 * 14 * 3 + 37 * 37)) /
                                 1e9);
        nn_params_free(p, NULL);
    }
}

static void test_round_trip(void **state)
{
    (void)state;
    static const struct {
        model_part part;
        const char *path;
    } files[] = {{MODEL_UNET, PUBLISHED "sd15-unet.json"},
                 {MODEL_VAE, PUBLISHED "sd15-vae.json"},
                 {MODEL_TEXT_ENCODER, PUBLISHED "sd15-text_encoder.json"},
                 {MODEL_DINO, PUBLISHED "dinov2-large.json"},
                 {MODEL_DINO, "tests/golden/dino/config.json"},
                 {MODEL_MASK_UNET, "tests/golden/masks/config.json"}};
    char path[64];
    OK(md_str_printf(path, sizeof path, "test_sizes.%d.json", (int)getpid()));
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        const model_row *row = model_registry(files[i].part);
        model_config a, b;
        memset(&a, 0, sizeof a);
        memset(&b, 0, sizeof b);
        OK(row->read(files[i].path, &a));
        OK(row->write(path, &a));
        OK(row->read(path, &b));
        assert_memory_equal(&a, &b, sizeof a);
    }
    remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_unet), cmocka_unit_test(test_vae),
                                       cmocka_unit_test(test_text), cmocka_unit_test(test_dino),
                                       cmocka_unit_test(test_round_trip)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
