/* scheduler_config.json: what the files of diffusers' classes mean, what is refused by name, and
   that what we write means the same. */
#include "diffusion/sampler.h"
#include "model/schedule_json.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != MD_OK)                                                                       \
            fail_msg("%s", md_status_text());                                                      \
    } while (0)

static md_status parse(const char *text, diffusion_schedule *s)
{
    format_json *doc;
    MD_TRY(format_json_parse("scheduler_config.json", text, strlen(text), &doc));
    md_status status = schedule_read(doc, s);
    format_json_free(doc);
    return status;
}

static diffusion_schedule read(const char *text)
{
    diffusion_schedule s;
    OK(parse(text, &s));
    return s;
}

/* The published file of Stable Diffusion 1.5, and of its inpainting sister as diffusers has it. */
static void test_published(void **state)
{
    (void)state;
    diffusion_schedule s =
        read("{\"_class_name\": \"PNDMScheduler\", \"_diffusers_version\": \"0.6.0\", "
             "\"beta_end\": 0.012, \"beta_schedule\": \"scaled_linear\", \"beta_start\": 0.00085, "
             "\"num_train_timesteps\": 1000, \"set_alpha_to_one\": false, "
             "\"skip_prk_steps\": true, \"steps_offset\": 1, \"trained_betas\": null, "
             "\"clip_sample\": false}");
    assert_string_equal(s.sampler, "pndm");
    assert_string_equal(s.refused, "");
    assert_int_equal(s.spacing, SCHEDULE_OWN_SPACING);
    assert_int_equal(s.steps_offset, 1);
    assert_true(!s.set_alpha_to_one && s.clip == 0);
    s = read(
        "{\"_class_name\": \"DPMSolverMultistepScheduler\", \"lambda_min_clipped\": -Infinity, "
        "\"variance_type\": null, \"algorithm_type\": \"dpmsolver++\"}");
    assert_string_equal(s.sampler, "dpm++");
    assert_string_equal(s.refused, "");
}

/* Each class's own defaults. */
static void test_defaults(void **state)
{
    (void)state;
    diffusion_schedule s = read("{\"_class_name\": \"DDIMScheduler\"}");
    assert_true(s.set_alpha_to_one && s.clip == 1 && s.beta_start == 0.0001 && s.beta_end == 0.02);
    assert_int_equal(s.betas, SCHEDULE_LINEAR);
    s = read("{\"_class_name\": \"PNDMScheduler\", \"skip_prk_steps\": true}");
    assert_true(!s.set_alpha_to_one && s.clip == 0);
    s = read("{\"_class_name\": \"DDPMScheduler\", \"clip_sample_range\": 2.5}");
    assert_true(s.clip == 2.5);
    s = read("{\"_class_name\": \"EulerDiscreteScheduler\"}");
    assert_true(s.clip == 0 && !s.karras);
}

/* What is refused only where the folder's own sampler is asked for. */
static void test_own_sampler_refused(void **state)
{
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"{\"_class_name\": \"UniPCMultistepScheduler\"}", "_class_name UniPCMultistepScheduler"},
        {"{\"_class_name\": \"EulerAncestralDiscreteScheduler\"}", "EulerAncestral"},
        {"{\"beta_end\": 0.01}", "_class_name (missing)"},
        {"{\"_class_name\": \"PNDMScheduler\"}", "skip_prk_steps false"},
        {"{\"_class_name\": \"DPMSolverMultistepScheduler\", \"solver_order\": 3}",
         "solver_order 3"},
        {"{\"_class_name\": \"DPMSolverMultistepScheduler\", \"algorithm_type\": "
         "\"sde-dpmsolver++\"}",
         "algorithm_type sde-dpmsolver++"},
        {"{\"_class_name\": \"DPMSolverMultistepScheduler\", \"solver_type\": \"heun\"}",
         "solver_type heun"},
        {"{\"_class_name\": \"DPMSolverMultistepScheduler\", \"use_lu_lambdas\": true}",
         "use_lu_lambdas"},
        {"{\"_class_name\": \"DPMSolverMultistepScheduler\", \"lambda_min_clipped\": -5.1}",
         "lambda_min_clipped"},
        {"{\"_class_name\": \"DPMSolverMultistepScheduler\", \"variance_type\": \"learned\"}",
         "variance_type"},
        {"{\"_class_name\": \"DPMSolverMultistepScheduler\", \"final_sigmas_type\": \"x\"}",
         "final_sigmas_type x"},
        {"{\"_class_name\": \"DDPMScheduler\", \"variance_type\": \"learned_range\"}",
         "variance_type learned_range"},
        {"{\"_class_name\": \"EulerDiscreteScheduler\", \"interpolation_type\": \"log_linear\"}",
         "interpolation_type log_linear"},
        {"{\"_class_name\": \"EulerDiscreteScheduler\", \"timestep_type\": \"continuous\"}",
         "timestep_type continuous"},
        {"{\"_class_name\": \"EulerDiscreteScheduler\", \"sigma_max\": 14}", "sigma_m"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        diffusion_schedule s = read(rows[i].text);
        if (!strstr(s.refused, rows[i].says))
            fail_msg("%s: \"%s\"", rows[i].text, s.refused);
        assert_string_equal(schedule_class(&s), "DDIMScheduler"); /* what we would write */
    }
}

/* What would change the noise is refused in any case. */
static void test_refused(void **state)
{
    static const char *const rows[][2] = {
        {"{\"trained_betas\": [0.1]}", "trained_betas"},
        {"{\"thresholding\": true}", "thresholding"},
        {"{\"beta_schedule\": \"sigmoid\"}", "beta_schedule is sigmoid"},
        {"{\"prediction_type\": \"flow\"}", "prediction_type is flow"},
        {"{\"timestep_spacing\": \"even\"}", "timestep_spacing is even"},
        {"{\"steps_offset\": -1}", "steps_offset"},
        {"{\"num_train_timesteps\": 0}", "num_train_timesteps"},
        {"{\"num_train_timesteps\": 1, \"rescale_betas_zero_snr\": true}",
         "rescale_betas_zero_snr"},
        {"{\"beta_start\": \"1\"}", "beta_start"},
        {"{\"clip_sample\": true, \"clip_sample_range\": -1}", "clip_sample_range"},
        {"{\"_class_name\": \"DPMSolverMultistepScheduler\", \"solver_order\": 7}", "solver_order"},
        {"{\"_class_name\": 5}", "_class_name"},
        {"[]", "scheduler_config.json"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        diffusion_schedule s;
        assert_int_equal(parse(rows[i][0], &s), MD_BAD_INPUT);
        if (!strstr(md_status_text(), rows[i][1]))
            fail_msg("%s: %s", rows[i][0], md_status_text());
    }
}

/* Every option of every class, written and read again. */
static void test_round_trip(void **state)
{
    static const char *const rows[] = {
        "{\"_class_name\": \"DDIMScheduler\"}",
        "{\"_class_name\": \"DDIMScheduler\", \"clip_sample\": false, \"set_alpha_to_one\": false, "
        "\"timestep_spacing\": \"trailing\", \"rescale_betas_zero_snr\": true, "
        "\"prediction_type\": \"v_prediction\"}",
        "{\"_class_name\": \"DDPMScheduler\", \"variance_type\": \"fixed_large\", "
        "\"clip_sample_range\": 3}",
        "{\"_class_name\": \"PNDMScheduler\", \"skip_prk_steps\": true, \"steps_offset\": 1, "
        "\"set_alpha_to_one\": true, \"beta_schedule\": \"squaredcos_cap_v2\"}",
        "{\"_class_name\": \"DPMSolverMultistepScheduler\", \"solver_order\": 1, "
        "\"lower_order_final\": false, \"euler_at_final\": true, "
        "\"final_sigmas_type\": \"sigma_min\", \"use_karras_sigmas\": true}",
        "{\"_class_name\": \"DPMSolverMultistepScheduler\", \"num_train_timesteps\": 77}",
        "{\"_class_name\": \"EulerDiscreteScheduler\", \"use_karras_sigmas\": true, "
        "\"timestep_spacing\": \"leading\", \"prediction_type\": \"sample\"}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        diffusion_schedule a = read(rows[i]), b;
        md_text t = {0};
        OK(schedule_write(&t, &a));
        OK(parse(t.s, &b));
        assert_non_null(strstr(t.s, schedule_class(&a)));
        assert_memory_equal(&a, &b, sizeof a); /* both began as zeros */
        md_text_free(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published),           cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_own_sampler_refused), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
