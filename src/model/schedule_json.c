#include "model/schedule_json.h"
#include "diffusion/sampler.h"
#include <stdio.h>
#include <string.h>

/* The index of the name at `key`, among the names that name(0), name(1), ... gives. */
static md_status read_choice(const format_json *doc, const char *key, const char *other,
                             const char *(*name)(int), int *out)
{
    const char *got;
    MD_TRY(format_json_string_or(doc, key, other, &got));
    for (int i = 0; name(i); i++)
        if (!strcmp(got, name(i))) {
            *out = i;
            return MD_OK;
        }
    MD_FAIL(MD_BAD_INPUT, "%s: %s is %s, which is not supported; %s is, for one",
            format_json_name(doc), key, got, name(0));
}

static const char *betas_name(int i)
{
    return schedule_betas_name((schedule_betas)i);
}

static const char *prediction_name(int i)
{
    return schedule_prediction_name((schedule_prediction)i);
}

static const char *spacing_name(int i)
{
    return schedule_spacing_name((schedule_spacing)i);
}

/* The noise that the model knows, whatever samples it. */
static md_status read_noise(const format_json *doc, diffusion_schedule *s)
{
    int64_t n;
    int betas = 0, prediction = 0;
    MD_TRY(format_json_int_or(doc, "num_train_timesteps", 1, SCHEDULE_TRAIN_STEPS_MAX, 1000, &n));
    MD_TRY(format_json_float_or(doc, "beta_start", 0.0001, &s->beta_start));
    MD_TRY(format_json_float_or(doc, "beta_end", 0.02, &s->beta_end));
    MD_TRY(read_choice(doc, "beta_schedule", "linear", betas_name, &betas));
    MD_TRY(read_choice(doc, "prediction_type", "epsilon", prediction_name, &prediction));
    MD_TRY(format_json_bool_or(doc, "rescale_betas_zero_snr", false, &s->zero_snr));
    s->train_steps = (int)n;
    s->betas = (schedule_betas)betas;
    s->prediction = (schedule_prediction)prediction;
    if (format_json_has(doc, "trained_betas"))
        MD_FAIL(MD_BAD_INPUT, "%s: trained_betas is not supported", format_json_name(doc));
    return MD_OK;
}

/* What samplers share. */
static md_status read_sampling(const format_json *doc, const diffusion_sampler *row,
                               diffusion_schedule *s)
{
    bool ddim = row && !strcmp(row->name, "ddim"), clip, thresholding;
    double range;
    int64_t offset;
    int spacing = SCHEDULE_OWN_SPACING;
    MD_TRY(format_json_int_or(doc, "steps_offset", 0, 1000, 0, &offset));
    if (format_json_has(doc, "timestep_spacing"))
        MD_TRY(read_choice(doc, "timestep_spacing", "", spacing_name, &spacing));
    MD_TRY(format_json_bool_or(doc, "set_alpha_to_one", ddim, &s->set_alpha_to_one));
    MD_TRY(format_json_bool_or(doc, "clip_sample", row && row->clips, &clip));
    MD_TRY(format_json_float_or(doc, "clip_sample_range", 1, &range));
    MD_TRY(format_json_bool_or(doc, "use_karras_sigmas", false, &s->karras));
    MD_TRY(format_json_bool_or(doc, "thresholding", false, &thresholding));
    s->steps_offset = (int)offset;
    s->spacing = (schedule_spacing)spacing;
    s->clip = clip ? range : 0;
    if (thresholding)
        MD_FAIL(MD_BAD_INPUT,
                "%s: thresholding is not supported: it is for models of pixels, not of latents",
                format_json_name(doc));
    return MD_OK;
}

/* Notes the first thing that the file's own sampler would need. */
static void refuse(diffusion_schedule *s, const char *key, const char *value)
{
    if (!*s->refused)
        (void)snprintf(s->refused, sizeof s->refused, "%.64s %.64s", key, value);
}

/* Refused unless the string is `a` or `b`; missing is fine. */
static md_status want_string(const format_json *doc, const char *key, const char *a, const char *b,
                             diffusion_schedule *s)
{
    const char *got;
    MD_TRY(format_json_string_or(doc, key, a, &got));
    if (strcmp(got, a) != 0 && strcmp(got, b) != 0)
        refuse(s, key, got);
    return MD_OK;
}

static md_status read_pndm(const format_json *doc, diffusion_schedule *s)
{
    bool skip;
    MD_TRY(format_json_bool_or(doc, "skip_prk_steps", false, &skip));
    if (!skip)
        refuse(s, "skip_prk_steps", "false");
    return MD_OK;
}

/* fixed_small_log gives the same deviations as fixed_small. */
static md_status read_ddpm(const format_json *doc, diffusion_schedule *s)
{
    const char *variance;
    MD_TRY(format_json_string_or(doc, "variance_type", "fixed_small", &variance));
    s->large_variance = !strcmp(variance, "fixed_large");
    return s->large_variance
               ? MD_OK
               : want_string(doc, "variance_type", "fixed_small", "fixed_small_log", s);
}

static md_status read_dpm(const format_json *doc, diffusion_schedule *s)
{
    int64_t order;
    double least;
    bool lower, lu;
    const char *final;
    MD_TRY(format_json_int_or(doc, "solver_order", 1, 3, 2, &order));
    MD_TRY(want_string(doc, "algorithm_type", "dpmsolver++", "dpmsolver++", s));
    MD_TRY(want_string(doc, "solver_type", "midpoint", "midpoint", s));
    MD_TRY(format_json_bool_or(doc, "lower_order_final", true, &lower));
    MD_TRY(format_json_bool_or(doc, "euler_at_final", false, &s->euler_at_final));
    MD_TRY(want_string(doc, "final_sigmas_type", "zero", "sigma_min", s));
    MD_TRY(format_json_string_or(doc, "final_sigmas_type", "zero", &final));
    MD_TRY(format_json_bool_or(doc, "use_lu_lambdas", false, &lu));
    MD_TRY(format_json_float_or(doc, "lambda_min_clipped", -1e308, &least));
    s->first_order = order == 1;
    s->full_to_end = !lower;
    s->final_sigma_min = !strcmp(final, "sigma_min");
    if (order == 3)
        refuse(s, "solver_order", "3");
    if (lu)
        refuse(s, "use_lu_lambdas", "true");
    if (least > -1e300)
        refuse(s, "lambda_min_clipped", "beside -Infinity");
    if (format_json_has(doc, "variance_type"))
        refuse(s, "variance_type", "of a model that predicts it");
    return MD_OK;
}

static md_status read_euler(const format_json *doc, diffusion_schedule *s)
{
    MD_TRY(want_string(doc, "interpolation_type", "linear", "linear", s));
    MD_TRY(want_string(doc, "timestep_type", "discrete", "discrete", s));
    if (format_json_has(doc, "sigma_min") || format_json_has(doc, "sigma_max"))
        refuse(s, "sigma_min", "or sigma_max");
    return MD_OK;
}

static const struct {
    const char *sampler;
    md_status (*read)(const format_json *doc, diffusion_schedule *s);
} options[] = {
    {"pndm", read_pndm}, {"ddpm", read_ddpm}, {"dpm++", read_dpm}, {"euler", read_euler}};

static const diffusion_sampler *row_of_class(const char *class_name)
{
    for (int i = 0; sampler_row(i); i++)
        if (!strcmp(class_name, sampler_row(i)->class_name))
            return sampler_row(i);
    return NULL;
}

md_status schedule_read(const format_json *doc, diffusion_schedule *out)
{
    diffusion_schedule s = {0};
    const char *class_name;
    if (strcmp(format_json_type(doc, ""), "object") != 0)
        MD_FAIL(MD_BAD_INPUT, "%s: not an object", format_json_name(doc));
    MD_TRY(format_json_string_or(doc, "_class_name", "", &class_name));
    const diffusion_sampler *row = row_of_class(class_name);
    MD_TRY(read_noise(doc, &s));
    MD_TRY(read_sampling(doc, row, &s));
    if (row)
        (void)snprintf(s.sampler, sizeof s.sampler, "%s", row->name);
    else
        refuse(&s, "_class_name", *class_name ? class_name : "(missing)");
    for (size_t i = 0; row && i < sizeof options / sizeof options[0]; i++)
        if (!strcmp(row->name, options[i].sampler))
            MD_TRY(options[i].read(doc, &s));
    MD_TRY(schedule_check(format_json_name(doc), &s));
    *out = s;
    return MD_OK;
}

/* The row to write: what was refused, we could not write down. */
static const diffusion_sampler *written(const diffusion_schedule *s)
{
    const diffusion_sampler *row = *s->refused ? NULL : sampler_find(s->sampler);
    return row ? row : sampler_find("ddim");
}

const char *schedule_class(const diffusion_schedule *s)
{
    return written(s)->class_name;
}

static md_status add_bool(md_text *t, const char *key, bool on)
{
    return md_text_add(t, "  \"%s\": %s,\n", key, on ? "true" : "false");
}

static md_status write_options(md_text *t, const diffusion_sampler *row,
                               const diffusion_schedule *s)
{
    bool dpm = !strcmp(row->name, "dpm++"), euler = !strcmp(row->name, "euler");
    if (row->clips) {
        MD_TRY(add_bool(t, "clip_sample", s->clip > 0));
        if (s->clip > 0)
            MD_TRY(md_text_add(t, "  \"clip_sample_range\": %.17g,\n", s->clip));
    }
    if (!strcmp(row->name, "pndm"))
        MD_TRY(add_bool(t, "skip_prk_steps", true));
    if (!strcmp(row->name, "ddpm"))
        MD_TRY(md_text_add(t, "  \"variance_type\": \"%s\",\n",
                           s->large_variance ? "fixed_large" : "fixed_small"));
    if (dpm || euler)
        MD_TRY(add_bool(t, "use_karras_sigmas", s->karras));
    if (dpm) {
        MD_TRY(md_text_add(t, "  \"solver_order\": %d,\n", s->first_order ? 1 : 2));
        MD_TRY(add_bool(t, "lower_order_final", !s->full_to_end));
        MD_TRY(add_bool(t, "euler_at_final", s->euler_at_final));
        MD_TRY(md_text_add(t, "  \"final_sigmas_type\": \"%s\",\n",
                           s->final_sigma_min ? "sigma_min" : "zero"));
    }
    return MD_OK;
}

md_status schedule_write(md_text *t, const diffusion_schedule *s)
{
    const diffusion_sampler *row = written(s);
    MD_TRY(md_text_add(t, "{\n  \"_class_name\": \"%s\",\n", row->class_name));
    MD_TRY(md_text_add(t, "  \"_diffusers_version\": \"0.27.2\",\n"));
    MD_TRY(md_text_add(t, "  \"beta_end\": %.17g,\n", s->beta_end));
    MD_TRY(md_text_add(t, "  \"beta_schedule\": \"%s\",\n", schedule_betas_name(s->betas)));
    MD_TRY(md_text_add(t, "  \"beta_start\": %.17g,\n", s->beta_start));
    MD_TRY(write_options(t, row, s));
    MD_TRY(md_text_add(t, "  \"num_train_timesteps\": %d,\n", s->train_steps));
    MD_TRY(md_text_add(t, "  \"prediction_type\": \"%s\",\n",
                       schedule_prediction_name(s->prediction)));
    if (s->zero_snr)
        MD_TRY(add_bool(t, "rescale_betas_zero_snr", true));
    if (!strcmp(row->name, "ddim") || !strcmp(row->name, "pndm"))
        MD_TRY(add_bool(t, "set_alpha_to_one", s->set_alpha_to_one));
    MD_TRY(md_text_add(t, "  \"steps_offset\": %d", s->steps_offset));
    if (schedule_spacing_name(s->spacing))
        MD_TRY(
            md_text_add(t, ",\n  \"timestep_spacing\": \"%s\"", schedule_spacing_name(s->spacing)));
    return md_text_add(t, "\n}\n");
}
