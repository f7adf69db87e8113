/* The UNet against diffusers' UNet2DConditionModel: 4 channels as SD 1.5, and 9 channels with
   linear projections, heads per level and deeper transformers. */
#include "harness.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void build(model_graph *b, const model_config *c)
{
    md_tensor *sample = feed(b, "sample"), *context = feed(b, "context");
    feed(b, "timesteps"); /* stay f32 */
    expect(b, unet(b->m, &c->unet, sample, b->in[2].t, context), "out", "weight");
    expect_gradient(b, b->in[0].t, "dsample");
    expect_gradient(b, b->in[1].t, "dcontext");
}

/* 2e-7: golden values are rounded to f32, 6e-8. bf16: PyTorch's own bf16 run of the same two models
   is off by 0.024 and 0.019 (outputs), 0.051 and 0.044 (gradients). */
static const model_case cases[] = {
    {"sd/unet", MODEL_UNET, build, 2e-7, 0.025, 0.052},
    {"unet9/unet", MODEL_UNET, build, 2e-7, 0.025, 0.052},
};

enum { N_CASES = sizeof cases / sizeof cases[0] };

static void test_ref(void **state)
{
    (void)state;
    for (int i = 0; i < N_CASES; i++)
        check_ref(&cases[i]);
}

static void test_cpu(void **state)
{
    (void)state;
    for (int i = 0; i < N_CASES; i++)
        check_cpu(&cases[i]);
}

static void test_cpu_bf16(void **state)
{
    (void)state;
    for (int i = 0; i < N_CASES; i++)
        check_cpu_bf16(&cases[i]);
}

static void test_recompute(void **state)
{
    (void)state;
    for (int i = 0; i < N_CASES; i++)
        check_recompute(&cases[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ref), cmocka_unit_test(test_cpu),
                                       cmocka_unit_test(test_cpu_bf16),
                                       cmocka_unit_test(test_recompute)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
