/* The VAE against diffusers' AutoencoderKL. */
#include "harness.h"
#include "model/vae.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const vae_config config = {.in_channels = 3,
                                  .out_channels = 3,
                                  .latent_channels = 4,
                                  .n_blocks = 3,
                                  .block_out_channels = {4, 8, 8},
                                  .layers_per_block = 1,
                                  .norm_num_groups = 2,
                                  .mid_attention = true,
                                  .use_quant_conv = true,
                                  .use_post_quant_conv = true,
                                  .scaling_factor = 0.7};

static md_status declare(nn_params *p, const void *c)
{
    return vae_declare(p, c);
}

static void build(model_graph *b, const void *c)
{
    expect(b, vae_encode(b->m, c, feed(b, "image")), "moments", "weight.moments");
    expect(b, vae_decode(b->m, c, feed(b, "z")), "decoded", "weight.image");
}

static const model_case vae_case = {"sd/vae", declare, build, &config};

static void test_ref(void **state)
{
    (void)state;
    check_ref(&vae_case);
}

static void test_cpu(void **state)
{
    (void)state;
    check_cpu(&vae_case);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ref), cmocka_unit_test(test_cpu)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
