/* Opening, loading and freeing a foundation. Finding its files: find.c; what is none: kind.c;
   single files: foundation_file.c; writing: foundation_save.c. */
#include "model/foundation.h"
#include "base/file.h"
#include "base/str.h"
#include "model/foundation_internal.h"
#include "model/schedule_json.h"
#include <stdlib.h>
#include <string.h>

/* The component's class in model_index.json, if that names one. */
static md_status check_component(const format_json *doc, const char *folder, const char *want)
{
    char path[64];
    const char *got;
    if (!format_json_has(doc, folder))
        MD_FAIL(MD_BAD_INPUT, "%s: no component %s", format_json_name(doc), folder);
    MD_TRY(md_str_printf(path, sizeof path, "%s[1]", folder));
    MD_TRY(format_json_string(doc, path, &got));
    if (strcmp(got, want) != 0)
        MD_FAIL(MD_BAD_INPUT, "%s: %s is a %s, wanted %s", format_json_name(doc), folder, got,
                want);
    return MD_OK;
}

/* Pipelines of other families have components that we would silently leave out. */
static md_status check_index(const format_json *doc)
{
    static const char *const known[] = {"tokenizer",      "text_encoder",  "vae",
                                        "unet",           "scheduler",     "feature_extractor",
                                        "safety_checker", "image_encoder", NULL};
    int64_t n;
    MD_TRY(model__check_pipeline(doc));
    MD_TRY(format_json_count(doc, "", &n));
    for (int64_t i = 0; i < n; i++) {
        const char *key;
        char path[96];
        MD_TRY(format_json_key(doc, "", i, &key));
        if (key[0] == '_' || strpbrk(key, ".["))
            continue;
        MD_TRY(md_str_printf(path, sizeof path, "%s[0]", key));
        bool component = !strcmp(format_json_type(doc, key), "array") && format_json_has(doc, path);
        const char *const *k = known;
        while (*k && strcmp(*k, key) != 0)
            k++;
        if (component && !*k)
            MD_FAIL(MD_BAD_INPUT,
                    "%s: component %s is not supported (those of Stable Diffusion 1.x are)",
                    format_json_name(doc), key);
    }
    MD_TRY(check_component(doc, "tokenizer", "CLIPTokenizer"));
    for (int i = 0; i < MODEL_N_PARTS; i++)
        MD_TRY(check_component(doc, model_registry(i)->folder, model_registry(i)->class_name));
    return MD_OK;
}

/* Loads a JSON document and hands it to `use`. */
static md_status with_json(const char *path, md_status (*use)(const format_json *, void *),
                           void *arg)
{
    format_json *doc;
    MD_TRY(format_json_load(path, &doc));
    md_status status = use(doc, arg);
    format_json_free(doc);
    return status;
}

static md_status use_index(const format_json *doc, void *arg)
{
    (void)arg;
    return check_index(doc);
}

static md_status use_schedule(const format_json *doc, void *arg)
{
    return schedule_read(doc, arg);
}

/* What each part must know about the others. */
static md_status check_fit(const foundation *f)
{
    const char *name = *f->path ? f->path : "foundation";
    int latent = f->vae->latent_channels, in = f->unet->in_channels;
    if (f->unet->cross_attention_dim != f->text->hidden_size)
        MD_FAIL(MD_BAD_INPUT, "%s: unet cross_attention_dim is %d, text_encoder hidden_size is %d",
                name, f->unet->cross_attention_dim, f->text->hidden_size);
    if (f->unet->out_channels != latent)
        MD_FAIL(MD_BAD_INPUT, "%s: unet out_channels is %d, vae latent_channels is %d", name,
                f->unet->out_channels, latent);
    if (in != latent && in != 2 * latent + 1)
        MD_FAIL(MD_BAD_INPUT,
                "%s: unet in_channels is %d; wanted %d, or %d for an inpainting model", name, in,
                latent, 2 * latent + 1);
    if (!f->tokenizer)
        return MD_OK;
    if (format_tokenizer_vocab_size(f->tokenizer) > f->text->vocab_size)
        MD_FAIL(MD_BAD_INPUT, "%s: the tokenizer has %lld tokens, text_encoder vocab_size is %d",
                name, (long long)format_tokenizer_vocab_size(f->tokenizer), f->text->vocab_size);
    if (format_tokenizer_length(f->tokenizer) > f->text->max_position_embeddings)
        MD_FAIL(MD_BAD_INPUT,
                "%s: the tokenizer pads to %lld, text_encoder max_position_embeddings is %d", name,
                (long long)format_tokenizer_length(f->tokenizer), f->text->max_position_embeddings);
    return MD_OK;
}

md_status model__declare_part(foundation *f, model_part part)
{
    const model_row *row = model_registry(part);
    MD_TRY(nn_params_new(row->folder, &f->params[part]));
    return row->declare(f->params[part], &f->config[part]);
}

static md_status open_part(foundation *f, model_part part, bool need_weights)
{
    const model_row *row = model_registry(part);
    char path[FOUNDATION_PATH];
    MD_TRY(model__part_path(path, f->path, row->folder, "config.json"));
    MD_TRY(row->read(path, &f->config[part]));
    md_status status = model__declare_part(f, part);
    if (status != MD_OK)
        return md_context(status, "building %s", path);
    MD_TRY(md_path_join(path, sizeof path, f->path, row->folder));
    return need_weights ? model__find_weights(path, row->weights, f->weights[part]) : MD_OK;
}

static md_status open_folder(foundation *f, bool need_weights)
{
    char path[FOUNDATION_PATH];
    MD_TRY(md_path_join(path, sizeof path, f->path, "model_index.json"));
    if (model__is_there(path))
        MD_TRY(with_json(path, use_index, NULL));
    else if (need_weights)
        MD_TRY(model__refuse_folder(f->path));
    MD_TRY(model__part_path(path, f->path, "scheduler", "scheduler_config.json"));
    MD_TRY(with_json(path, use_schedule, &f->schedule));
    MD_TRY(md_path_join(f->tokenizer_path, sizeof f->tokenizer_path, f->path, "tokenizer"));
    for (int i = 0; i < MODEL_N_PARTS; i++)
        MD_TRY(open_part(f, i, need_weights));
    return MD_OK;
}

/* The noise schedule of a single file: its own word for it, scheduler/ beside it, or that of Stable
   Diffusion 1.5. */
static md_status open_file(foundation *f)
{
    char path[FOUNDATION_PATH];
    format_json *doc = NULL;
    md_status status = model__open_file(f, &doc);
    if (status == MD_OK && doc)
        status = use_schedule(doc, &f->schedule);
    bool said = doc != NULL;
    format_json_free(doc);
    MD_TRY(status);
    MD_TRY(model__find_tokenizer(f->path, f->tokenizer_path));
    if (said)
        return MD_OK;
    MD_TRY(model__beside(path, f->path, "scheduler/scheduler_config.json"));
    if (model__is_there(path))
        return with_json(path, use_schedule, &f->schedule);
    f->schedule = schedule_stable_diffusion();
    return MD_OK;
}

static md_status open_any(foundation *f, const char *path, bool need_weights)
{
    bool file = false;
    MD_TRY(model__resolve(path, f->path, &file));
    MD_TRY(file ? open_file(f) : open_folder(f, need_weights));
    MD_TRY(format_tokenizer_open(f->tokenizer_path, &f->tokenizer));
    for (int i = 0; i < MODEL_N_PARTS; i++)
        if (*f->weights[i])
            MD_TRY(nn_params_check_file(f->params[i], f->weights[i], &f->rules[i]));
    return check_fit(f);
}

static md_status allocate(foundation **out)
{
    foundation *f = calloc(1, sizeof *f);
    if (!f)
        MD_FAIL(MD_NOMEM, "foundation: out of memory");
    f->vae = &f->config[MODEL_VAE].vae;
    f->unet = &f->config[MODEL_UNET].unet;
    f->text = &f->config[MODEL_TEXT_ENCODER].text;
    for (int i = 0; i < MODEL_N_PARTS; i++)
        f->rules[i] = model_registry(i)->rules;
    *out = f;
    return MD_OK;
}

static md_status open_either(const char *path, bool need_weights, foundation **out)
{
    foundation *f = NULL;
    md_status status = MD_OK;
    MD_TRY(allocate(&f));
    MD_TRY_GOTO(open_any(f, path, need_weights), fail_open);
    *out = f;
    return MD_OK;
fail_open:
    foundation_free(f, NULL);
    return status;
}

md_status foundation_open(const char *path, foundation **out)
{
    return open_either(path, true, out);
}

md_status foundation_open_configs(const char *path, foundation **out)
{
    return open_either(path, false, out);
}

md_status foundation_new(const clip_text_config *text, const vae_config *vae,
                         const unet_config *unet, const foundation_schedule *noise,
                         const char *tokenizer_path, foundation **out)
{
    foundation *f = NULL;
    md_status status = MD_OK;
    MD_TRY(allocate(&f));
    f->config[MODEL_TEXT_ENCODER].text = *text;
    f->config[MODEL_VAE].vae = *vae;
    f->config[MODEL_UNET].unet = *unet;
    f->schedule = *noise;
    MD_TRY_GOTO(md_str_copy(f->tokenizer_path, sizeof f->tokenizer_path, tokenizer_path), fail);
    MD_TRY_GOTO(format_tokenizer_open(tokenizer_path, &f->tokenizer), fail);
    MD_TRY_GOTO(schedule_check("schedule", noise), fail);
    for (int i = 0; i < MODEL_N_PARTS; i++) {
        const model_row *row = model_registry(i);
        MD_TRY_GOTO(row->check(row->folder, &f->config[i]), fail);
        MD_TRY_GOTO(model__declare_part(f, i), fail);
    }
    MD_TRY_GOTO(check_fit(f), fail);
    *out = f;
    return MD_OK;
fail:
    foundation_free(f, NULL);
    return status;
}

void foundation_free(foundation *f, md_backend *be)
{
    if (!f)
        return;
    for (int i = 0; i < MODEL_N_PARTS; i++) {
        nn_params_free(f->params[i], be);
        free(f->names[i]);
    }
    format_tokenizer_free(f->tokenizer);
    free(f);
}

/* Whether two stores declare the same names and shapes; names the first that differs. */
static md_status same_parameters(const nn_params *a, const nn_params *b, const char *path)
{
    if (nn_params_count(a) != nn_params_count(b))
        MD_FAIL(MD_BAD_INPUT, "%s: a %s of %d parameters, the foundation's has %d", path,
                nn_params_model(a), nn_params_count(b), nn_params_count(a));
    for (int i = 0; i < nn_params_count(a); i++) {
        const nn_param_info *p = nn_params_info(a, i), *q = nn_params_info(b, i);
        if (strcmp(p->name, q->name) != 0 || p->ndim != q->ndim ||
            memcmp(p->dim, q->dim, sizeof p->dim) != 0)
            MD_FAIL(MD_BAD_INPUT, "%s: parameter %s differs from the foundation's %s", path,
                    q->name, p->name);
    }
    return MD_OK;
}

md_status foundation_replace(foundation *f, model_part part, const char *folder)
{
    const model_row *row = model_registry(part);
    char path[FOUNDATION_PATH], weights_folder[FOUNDATION_PATH], weights[FOUNDATION_PATH];
    model_config config;
    nn_params *p = NULL;
    md_status status = MD_OK;
    memset(&config, 0, sizeof config);
    MD_TRY(model__part_path(path, folder, row->folder, "config.json"));
    MD_TRY(row->read(path, &config));
    MD_TRY(md_path_join(weights_folder, sizeof weights_folder, folder, row->folder));
    MD_TRY(model__find_weights(weights_folder, row->weights, weights));
    MD_TRY(nn_params_new(row->folder, &p));
    MD_TRY_GOTO(row->declare(p, &config), done);
    MD_TRY_GOTO(same_parameters(f->params[part], p, path), done);
    MD_TRY_GOTO(nn_params_check_file(f->params[part], weights, &row->rules), done);
    MD_TRY_GOTO(md_str_copy(f->weights[part], FOUNDATION_PATH, weights), done);
    f->rules[part] = row->rules;
done:
    nn_params_free(p, NULL);
    return status;
}

void foundation_hold(foundation *f, md_dtype dtype, unsigned trained)
{
    for (int i = 0; i < MODEL_N_PARTS; i++)
        nn_params_hold(f->params[i], dtype != MD_BF16   ? NN_HOLD_F32
                                     : trained >> i & 1 ? NN_HOLD_BOTH
                                                        : NN_HOLD_BF16);
}

md_status foundation_load(foundation *f, model_part part, md_backend *be)
{
    const model_row *row = model_registry(part);
    if (!*f->weights[part])
        MD_FAIL(MD_INTERNAL, "%s has no weight file to load", row->folder);
    MD_TRY(nn_params_alloc(f->params[part], be));
    return nn_params_load(f->params[part], be, f->weights[part], &f->rules[part]);
}

md_status foundation_randomize(foundation *f, model_part part, md_backend *be, uint64_t seed)
{
    MD_TRY(nn_params_alloc(f->params[part], be));
    /* a seed per part: the parts' parameter numbers overlap */
    return nn_params_randomize(f->params[part], be, seed + 0x9e3779b97f4a7c15u * (uint64_t)part);
}

/* The digests of all files, one after the other; of a single one its digest. */
static md_status hash_files(const format_tensors *t, char hex[MD_SHA256_HEX])
{
    md_text all = {0};
    md_status status = MD_OK;
    int n = format_tensors_n_files(t);
    for (int i = 0; i < n && status == MD_OK; i++) {
        status = md_sha256_file(format_tensors_file(t, i), hex);
        if (status == MD_OK)
            status = md_text_add(&all, "%s", hex);
    }
    if (status == MD_OK && n > 1)
        md_sha256(all.s, all.n, hex);
    md_text_free(&all);
    return status;
}

md_status model__hash_weights(const char *path, char hex[MD_SHA256_HEX])
{
    format_tensors *t;
    MD_TRY(format_tensors_open(path, &t));
    md_status status = hash_files(t, hex);
    format_tensors_close(t);
    return status;
}

md_status foundation_hash(const foundation *f, model_part part, char hex[MD_SHA256_HEX])
{
    return model__hash_weights(f->weights[part], hex);
}

void foundation_set_scaling_factor(foundation *f, double scaling_factor)
{
    f->config[MODEL_VAE].vae.scaling_factor = scaling_factor;
}
