/* The VAE against diffusers' AutoencoderKL. */
#include "harness.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void build(model_graph *b, const model_config *c)
{
    expect(b, vae_encode(b->m, &c->vae, feed(b, "image")), "moments", "weight.moments");
    expect(b, vae_decode(b->m, &c->vae, feed(b, "z")), "decoded", "weight.image");
}

/* 2e-7: golden values are rounded to f32, 6e-8. bf16: 4e-3 per rounding. */
static const model_case cases[] = {
    {"sd/vae", MODEL_VAE, build, 2e-7, 0.03, 0.03},
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
