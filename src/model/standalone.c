#include "model/standalone.h"
#include "base/file.h"
#include "base/str.h"
#include "model/foundation_internal.h"
#include <stdlib.h>

static md_status allocate(model_part part, standalone **out)
{
    standalone *s = calloc(1, sizeof *s);
    if (!s)
        MD_FAIL(MD_NOMEM, "%s: out of memory", model_registry(part)->folder);
    s->part = part;
    *out = s;
    return MD_OK;
}

static md_status declare(standalone *s)
{
    const model_row *row = model_registry(s->part);
    MD_TRY(nn_params_new(row->folder, &s->params));
    return row->declare(s->params, &s->config);
}

static md_status open_folder(standalone *s, const char *folder)
{
    const model_row *row = model_registry(s->part);
    char path[FOUNDATION_PATH];
    if (!md_dir_exists(folder))
        MD_FAIL(MD_BAD_INPUT,
                "%s: no such folder; wanted one with config.json and %s.safetensors; "
                "data/README.md says where to get one",
                folder, row->weights);
    MD_TRY(model__resolve_folder(folder, "config.json", s->path));
    MD_TRY(md_path_join(path, sizeof path, s->path, "config.json"));
    MD_TRY(row->read(path, &s->config));
    md_status status = declare(s);
    if (status != MD_OK)
        return md_context(status, "building %s", path);
    MD_TRY(model__find_weights(s->path, row->weights, s->weights));
    return nn_params_check_file(s->params, s->weights, &row->rules);
}

md_status standalone_open(model_part part, const char *folder, standalone **out)
{
    standalone *s = NULL;
    MD_TRY(allocate(part, &s));
    md_status status = open_folder(s, folder);
    if (status != MD_OK)
        standalone_free(s, NULL);
    else
        *out = s;
    return status;
}

md_status standalone_new(model_part part, const model_config *config, standalone **out)
{
    const model_row *row = model_registry(part);
    standalone *s = NULL;
    MD_TRY(row->check(row->folder, config));
    MD_TRY(allocate(part, &s));
    s->config = *config;
    md_status status = declare(s);
    if (status != MD_OK)
        standalone_free(s, NULL);
    else
        *out = s;
    return status;
}

void standalone_free(standalone *s, md_backend *be)
{
    if (!s)
        return;
    nn_params_free(s->params, be);
    free(s);
}

md_status standalone_load(standalone *s, md_backend *be)
{
    const model_row *row = model_registry(s->part);
    if (!*s->weights)
        MD_FAIL(MD_INTERNAL, "%s has no weight file to load", row->folder);
    MD_TRY(nn_params_alloc(s->params, be));
    return nn_params_load(s->params, be, s->weights, &row->rules);
}

md_status standalone_randomize(standalone *s, md_backend *be, uint64_t seed)
{
    MD_TRY(nn_params_alloc(s->params, be));
    return nn_params_randomize(s->params, be, seed);
}

md_status standalone_save(const standalone *s, const char *folder, md_backend *be,
                          const md_buffer *values, bool f16)
{
    const model_row *row = model_registry(s->part);
    char path[FOUNDATION_PATH], name[128];
    MD_TRY(md_dir_make(folder));
    MD_TRY(md_path_join(path, sizeof path, folder, "config.json"));
    MD_TRY(row->write(path, &s->config));
    MD_TRY(md_str_printf(name, sizeof name, "%s.safetensors", row->weights));
    MD_TRY(md_path_join(path, sizeof path, folder, name));
    return values ? nn_params_save_from(s->params, values, be, path, f16)
                  : nn_params_save(s->params, be, path, f16);
}

md_status standalone_hash(const standalone *s, char hex[MD_SHA256_HEX])
{
    return model__hash_weights(s->weights, hex);
}
