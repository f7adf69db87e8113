/* The UNet against diffusers' UNet2DConditionModel: 4 channels as SD 1.5, and 9 channels with
   linear projections, heads per level and deeper transformers. */
#include "harness.h"
#include "model/unet.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const unet_config four = {.in_channels = 4,
                                 .out_channels = 4,
                                 .n_blocks = 2,
                                 .block_out_channels = {4, 8},
                                 .down_attention = {true, false},
                                 .up_attention = {false, true},
                                 .layers_per_block = {1, 1},
                                 .transformer_layers = {1, 1},
                                 .heads = {2, 2},
                                 .cross_attention_dim = 8,
                                 .norm_num_groups = 2,
                                 .norm_eps = 1e-5,
                                 .flip_sin_to_cos = true,
                                 .freq_shift = 0,
                                 .time_embedding_dim = 16};
static const unet_config nine = {.in_channels = 9,
                                 .out_channels = 4,
                                 .n_blocks = 3,
                                 .block_out_channels = {4, 4, 8},
                                 .down_attention = {false, true, true},
                                 .up_attention = {true, true, false},
                                 .layers_per_block = {2, 2, 2},
                                 .transformer_layers = {1, 2, 1},
                                 .heads = {1, 2, 4},
                                 .cross_attention_dim = 8,
                                 .norm_num_groups = 2,
                                 .norm_eps = 1e-5,
                                 .flip_sin_to_cos = false,
                                 .freq_shift = 1,
                                 .time_embedding_dim = 16,
                                 .use_linear_projection = true};

static md_status declare(nn_params *p, const void *c)
{
    return unet_declare(p, c);
}

static void build(model_graph *b, const void *c)
{
    md_tensor *sample = feed(b, "sample"), *t = feed(b, "timesteps"), *context = feed(b, "context");
    expect(b, unet(b->m, c, sample, t, context), "out", "weight");
    expect_gradient(b, sample, "dsample");
    expect_gradient(b, context, "dcontext");
}

static const model_case cases[] = {{"sd/unet", declare, build, &four},
                                   {"unet9/unet", declare, build, &nine}};

static void test_ref(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++)
        check_ref(&cases[i]);
}

static void test_cpu(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++)
        check_cpu(&cases[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ref), cmocka_unit_test(test_cpu)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
