/* Stable Diffusion 1.5 at full size, without weights: the published configs declare the published
   number of parameters, and the graphs do the published amount of work. */
#include "model/registry.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_unet), cmocka_unit_test(test_vae),
                                       cmocka_unit_test(test_text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
