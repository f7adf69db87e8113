/* The VAE against diffusers' AutoencoderKL. */
#include "backend/ref/ref.h"
#include "graph/plan.h"
#include "harness.h"
#include <math.h>
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
    {"sd/vae", MODEL_VAE, build, 2e-7, 0.03, 0.03, NULL},
};

/* The Gaussian of the latent against closed forms; diffusers DiagonalGaussianDistribution. */
static void test_gaussian(void **state)
{
    (void)state;
    enum { N = 3, C = 2 };
    static const double moments[N][2 * C] = {{0.3, -1.2, 0.5, -0.7},
                                             {2.0, 0.1, -50, 1.5},
                                             {-0.4, 0.9, 35, -2}}; /* two beyond the clamp */
    static const double noise[N][C] = {{1.1, -0.6}, {0.4, 2.2}, {1e-5, -1.3}};
    md_backend *be;
    md_graph *g;
    md_plan *plan;
    assert_int_equal(ref_backend_open(&be), MD_OK);
    assert_int_equal(md_graph_new(&g), MD_OK);
    md_tensor *m = md_input(g, "moments", MD_F32, 4, MD_DIMS(1, 1, N, 2 * C));
    md_tensor *e = md_input(g, "noise", MD_F32, 4, MD_DIMS(1, 1, N, C));
    md_tensor *out[] = {vae_sample(m, e), vae_kl(m)};
    assert_int_equal(md_plan_build(g, be, out, 2, &plan), MD_OK);
    assert_int_equal(md_plan_load(plan), MD_OK);
    assert_int_equal(md_plan_write(plan, m, moments, MD_F64, N * 2 * C), MD_OK);
    assert_int_equal(md_plan_write(plan, e, noise, MD_F64, N * C), MD_OK);
    assert_int_equal(md_plan_run(plan), MD_OK);
    double z[N][C], kl, want_kl = 0;
    assert_int_equal(md_plan_read(plan, out[0], z, MD_F64, N * C), MD_OK);
    assert_int_equal(md_plan_read(plan, out[1], &kl, MD_F64, 1), MD_OK);
    for (int i = 0; i < N; i++)
        for (int k = 0; k < C; k++) {
            double mean = moments[i][k], logvar = fmin(fmax(moments[i][C + k], -30), 20);
            double want = mean + exp(logvar / 2) * noise[i][k];
            assert_true(fabs(z[i][k] - want) <= 1e-12 * (1 + fabs(want)));
            want_kl += 0.5 * (mean * mean + exp(logvar) - 1 - logvar) / (N * C);
        }
    assert_true(fabs(kl / want_kl - 1) < 1e-12);
    md_plan_free(plan);
    md_graph_free(g);
    be->ops->close(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gaussian)};
    return cmocka_run_group_tests(tests, NULL, NULL) +
           model_cases_run(cases, sizeof cases / sizeof cases[0]);
}
