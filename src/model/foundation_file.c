/* A whole foundation in one file with LDM names (ldm.h). Files that we write carry each part's
   config and the schedule as metadata ("meddiff.unet", ..., "meddiff.scheduler"), so that models of
   other sizes than Stable Diffusion 1.x keep what tensors do not show. */
#include "base/log.h"
#include "base/str.h"
#include "model/foundation_internal.h"
#include "model/ldm.h"
#include "model/schedule_json.h"
#include "nn/lora.h"
#include <stdlib.h>
#include <string.h>

/* The document that the file carries under meddiff.<what>; NULL: none. */
static md_status carried(const format_tensors *t, const char *what, format_json **out)
{
    char key[64], name[FOUNDATION_PATH + 80];
    *out = NULL;
    MD_TRY(md_str_printf(key, sizeof key, "meddiff.%s", what));
    const char *text = format_tensors_meta(t, key);
    if (!text)
        return MD_OK;
    MD_TRY(md_str_printf(name, sizeof name, "%s: __metadata__.%s", format_tensors_name(t), key));
    return format_json_parse(name, text, strlen(text), out);
}

md_status model__file_config(const format_tensors *t, model_part part, model_config *out)
{
    format_json *doc;
    MD_TRY(carried(t, model_registry(part)->folder, &doc));
    md_status status = doc ? model_registry(part)->parse(doc, out) : ldm_config(t, part, out);
    if (status != MD_OK && !doc)
        (void)md_context(status,
                         "taking its %s for Stable Diffusion 1.x's, since it carries no config",
                         model_registry(part)->folder);
    format_json_free(doc);
    return status;
}

/* What training left in published files: schedules, averaged weights, counters. */
static bool known(const char *name)
{
    static const char *const begins[] = {"model_ema.",
                                         "cond_stage_model.logit_scale",
                                         "betas",
                                         "alphas_cumprod",
                                         "sqrt_",
                                         "log_one_minus_alphas_cumprod",
                                         "posterior_",
                                         "logvar",
                                         "global_step",
                                         "lvlb_weights",
                                         "embedding_manager.",
                                         NULL};
    for (int i = 0; i < MODEL_N_PARTS; i++)
        if (md_str_starts(name, ldm_prefix((model_part)i)))
            return true;
    for (const char *const *b = begins; *b; b++)
        if (md_str_starts(name, *b))
            return true;
    return false;
}

static void warn_unknown(const format_tensors *t)
{
    int64_t n = 0, first = 0;
    bool ema = false;
    for (int64_t i = 0; i < format_tensors_count(t); i++) {
        const char *name = format_tensors_at(t, i)->name;
        ema |= md_str_starts(name, "model_ema.");
        if (!known(name) && n++ == 0)
            first = i;
    }
    if (ema) /* as diffusers does unless told otherwise: training goes on from the others */
        md_info("model", "%s: its averaged weights (model_ema.*) are left out",
                format_tensors_name(t));
    if (n)
        md_warn("model", "%s: %lld tensors of no part of the model are ignored, the first is %s",
                format_tensors_name(t), (long long)n, format_tensors_at(t, first)->name);
}

/* Under a part's prefix, but none of its weights: what CLIP has for other ends and a VAE's training
   leaves. */
static const char *const text_ignorable[] = {"embeddings.position_ids", "text_projection", NULL};
static const char *const vae_ignorable[] = {"first_stage_model.loss.",
                                            "first_stage_model.model_ema.", NULL};
static const char *const *const ignorable[MODEL_N_PARTS] = {
    [MODEL_TEXT_ENCODER] = text_ignorable, [MODEL_VAE] = vae_ignorable};

static md_status open_part(foundation *f, model_part part, const format_tensors *t)
{
    MD_TRY(model__file_config(t, part, &f->config[part]));
    md_status status = model__declare_part(f, part);
    if (status != MD_OK)
        return md_context(status, "building the %s of %s", model_registry(part)->folder, f->path);
    MD_TRY(ldm_names(part, &f->config[part], f->params[part], t, &f->names[part]));
    f->rules[part] = (nn_file_rules){
        .ignorable = ignorable[part], .prefix = ldm_prefix(part), .names = f->names[part]};
    return md_str_copy(f->weights[part], FOUNDATION_PATH, f->path);
}

md_status model__open_file(foundation *f, format_json **schedule)
{
    format_tensors *t;
    md_status status = MD_OK;
    MD_TRY(format_tensors_open(f->path, &t));
    MD_TRY_GOTO(model__check_tensors(t), done);
    for (int i = 0; i < MODEL_N_PARTS; i++)
        MD_TRY_GOTO(open_part(f, (model_part)i, t), done);
    warn_unknown(t);
    MD_TRY_GOTO(carried(t, "scheduler", schedule), done);
done:
    format_tensors_close(t);
    return status;
}

/* ---- Writing. */

static md_status carry(format_writer *w, const char *what, const md_text *text)
{
    char key[64];
    MD_TRY(md_str_printf(key, sizeof key, "meddiff.%s", what));
    return format_writer_meta(w, key, text->s);
}

static md_status declare_all(const foundation *f, nn_file_name *const *names, format_writer *w,
                             bool f16)
{
    md_text t = {0};
    md_status status = MD_OK;
    MD_TRY(format_writer_meta(w, "format", "pt"));
    for (int i = 0; i < MODEL_N_PARTS; i++) {
        MD_TRY_GOTO(model_registry(i)->text(&t, &f->config[i]), done);
        MD_TRY_GOTO(carry(w, model_registry(i)->folder, &t), done);
        md_text_free(&t);
        t = (md_text){0};
        MD_TRY_GOTO(nn_params_declare(f->params[i], names[i], f16, w), done);
    }
    MD_TRY_GOTO(schedule_write(&t, &f->schedule), done);
    MD_TRY_GOTO(carry(w, "scheduler", &t), done);
done:
    md_text_free(&t);
    return status;
}

static md_status put_all(const foundation *f, md_backend *be, format_writer *w)
{
    for (int i = 0; i < MODEL_N_PARTS; i++) {
        nn_params *p = f->params[i];
        bool partly = !nn_params_buffer(p)->ptr || nn_lora_merged(p);
        if (partly && *f->weights[i]) /* a bf16 copy is less than the file, and so is the base */
            MD_TRY(nn_params_put_file(p, f->weights[i], &f->rules[i], w));
        else if (nn_params_allocated(p))
            MD_TRY(nn_params_put(p, NULL, be, w));
        else
            MD_FAIL(MD_INTERNAL, "the %s has neither values nor a file", nn_params_model(p));
    }
    return format_writer_finish(w);
}

md_status foundation_save_file(const foundation *f, const char *path, md_backend *be, bool f16)
{
    char folder[FOUNDATION_PATH];
    nn_file_name *names[MODEL_N_PARTS] = {0};
    format_writer *w = NULL;
    md_status status = MD_OK;
    MD_TRY(model__beside(folder, path, ""));
    MD_TRY(model__save_tokenizer(f, folder));
    for (int i = 0; i < MODEL_N_PARTS; i++)
        MD_TRY_GOTO(ldm_names((model_part)i, &f->config[i], f->params[i], NULL, &names[i]), done);
    MD_TRY_GOTO(format_writer_new(path, &w), done);
    MD_TRY_GOTO(declare_all(f, names, w, f16), done);
    MD_TRY_GOTO(put_all(f, be, w), done);
done:
    format_writer_free(w);
    for (int i = 0; i < MODEL_N_PARTS; i++)
        free(names[i]);
    return status;
}
