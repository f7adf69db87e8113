/* Whole paintings of small models against diffusers' inpainting pipeline: encoder, text, guidance,
   UNet, sampler and blend together, latents after several of 50 steps. Golden files:
   tests/golden/trajectories, made by tests/golden/full_trajectories.py, which also runs this
   program as
     test_generate_trajectory FOLDER SAMPLER STEPS SIZE OUT.safetensors
   to have paintings of other models from us. */
#include "format/safetensors.h"
#include "tracing.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != MD_OK)                                                                       \
            fail_msg("%s", md_status_text());                                                      \
    } while (0)

enum { SIZE = 32, STEPS = 50 };

/* Diffusers in double with its float32 tables, we in f32: 1.4e-6 is the largest seen. */
static const double TOLERANCE = 1e-5;

static void compare(const trace *t, const format_tensors *f, const char *sampler)
{
    char name[64];
    int seen = 0;
    for (int k = 0; k < t->evaluations; k++) {
        (void)snprintf(name, sizeof name, "%s.%d", sampler, k);
        const format_tensor *g = format_tensors_find(f, name);
        if (!g)
            continue;
        assert_int_equal(g->numel, t->latent);
        float *want = malloc((size_t)t->latent * sizeof *want);
        assert_non_null(want);
        OK(format_tensors_read_f32(f, g, 0, g->numel, want));
        double worst = 0, largest = 0;
        for (int64_t i = 0; i < t->latent; i++) {
            double d = fabs((double)t->latents[k * t->latent + i] - (double)want[i]);
            worst = d > worst || isnan(d) ? d : worst;
            largest = fmax(largest, fabs((double)want[i]));
        }
        if (!(worst <= TOLERANCE * largest))
            fail_msg("%s of %s: %g of %g", name, format_tensors_name(f), worst, largest);
        free(want);
        seen++;
    }
    (void)snprintf(name, sizeof name, "%s.%d", sampler, t->evaluations - 1);
    assert_non_null(format_tensors_find(f, name)); /* as many evaluations as there */
    assert_int_equal(seen, 4);
}

static void follow(const char *folder, const char *golden)
{
    format_tensors *f;
    OK(format_tensors_open(golden, &f));
    for (int i = 0; sampler_row(i); i++) {
        trace t;
        OK(trace_paint(folder, sampler_row(i)->name, STEPS, SIZE, &t));
        compare(&t, f, sampler_row(i)->name);
        trace_free(&t);
    }
    format_tensors_close(f);
}

static void test_4_channels(void **state)
{
    (void)state;
    follow("tests/golden/sd", "tests/golden/trajectories/4.safetensors");
}

/* The folder of the other models with the UNet of 9 channels. */
static void test_9_channels(void **state)
{
    char folder[] = "/tmp/meddiff-trajectory-XXXXXX", command[512];
    (void)state;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(command, sizeof command,
                   "cp -r tests/golden/sd/. %s && rm -r %s/unet && "
                   "cp -r tests/golden/unet9/unet %s/unet",
                   folder, folder, folder);
    assert_int_equal(system(command), 0);
    follow(folder, "tests/golden/trajectories/9.safetensors");
    (void)snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

static int paint_for_python(char **argv)
{
    trace t;
    md_status status = trace_paint(argv[1], argv[2], atoi(argv[3]), atoi(argv[4]), &t);
    if (status == MD_OK)
        status = trace_save(&t, argv[5]);
    trace_free(&t);
    if (status != MD_OK)
        (void)fprintf(stderr, "%s\n", md_status_text());
    return status != MD_OK;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_4_channels),
                                       cmocka_unit_test(test_9_channels)};
    if (argc == 6)
        return paint_for_python(argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
