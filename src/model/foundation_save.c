/* Writing a foundation folder, so that diffusers and we ourselves open it. */
#include "base/file.h"
#include "base/str.h"
#include "model/foundation_internal.h"
#include "model/schedule_json.h"
#include "nn/lora.h"
#include <stdlib.h>

enum { MAX_COPIED_BYTES = 64 << 20 };

static md_status copy_file(const char *from, const char *to)
{
    void *data;
    size_t n;
    MD_TRY(md_file_read(from, MAX_COPIED_BYTES, &data, &n));
    md_status status = md_file_write_atomic(to, data, n);
    free(data);
    return status;
}

/* Copies `name` from one folder to another if it is there. */
static md_status copy_optional(const char *from, const char *to, const char *name)
{
    char a[FOUNDATION_PATH], b[FOUNDATION_PATH];
    MD_TRY(md_path_join(a, sizeof a, from, name));
    MD_TRY(md_path_join(b, sizeof b, to, name));
    return md_file_exists(a) ? copy_file(a, b) : MD_OK;
}

md_status model__save_tokenizer(const foundation *f, const char *folder)
{
    static const char *const files[] = {"vocab.json", "merges.txt", "tokenizer_config.json",
                                        "special_tokens_map.json"};
    char to[FOUNDATION_PATH];
    MD_TRY(md_path_join(to, sizeof to, folder, "tokenizer"));
    MD_TRY(md_dir_make(to));
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        MD_TRY(copy_optional(f->tokenizer_path, to, files[i]));
    return MD_OK;
}

static md_status index_text(md_text *t, const foundation *f)
{
    bool inpaint = f->unet->in_channels > f->vae->latent_channels;
    MD_TRY(md_text_add(t, "{\n  \"_class_name\": \"%s\",\n  \"_diffusers_version\": \"0.27.2\",\n",
                       inpaint ? "StableDiffusionInpaintPipeline" : "StableDiffusionPipeline"));
    MD_TRY(md_text_add(t, "  \"feature_extractor\": [null, null],\n"));
    MD_TRY(md_text_add(t, "  \"requires_safety_checker\": false,\n"));
    MD_TRY(md_text_add(t, "  \"safety_checker\": [null, null],\n"));
    MD_TRY(md_text_add(t, "  \"scheduler\": [\"diffusers\", \"%s\"],\n",
                       schedule_class(&f->schedule)));
    for (int i = 0; i < MODEL_N_PARTS; i++) {
        const model_row *row = model_registry(i);
        MD_TRY(md_text_add(t, "  \"%s\": [\"%s\", \"%s\"],\n", row->folder, row->library,
                           row->class_name));
    }
    return md_text_add(t, "  \"tokenizer\": [\"transformers\", \"CLIPTokenizer\"]\n}\n");
}

static md_status save_index(const foundation *f, const char *folder)
{
    char path[FOUNDATION_PATH];
    md_text t = {0};
    md_status status = MD_OK;
    MD_TRY_GOTO(md_path_join(path, sizeof path, folder, "scheduler"), done);
    MD_TRY_GOTO(md_dir_make(path), done);
    MD_TRY_GOTO(model__part_path(path, folder, "scheduler", "scheduler_config.json"), done);
    MD_TRY_GOTO(schedule_write(&t, &f->schedule), done);
    MD_TRY_GOTO(md_file_write_atomic(path, t.s, t.n), done);
    md_text_free(&t);
    t = (md_text){0};
    MD_TRY_GOTO(index_text(&t, f), done);
    MD_TRY_GOTO(md_path_join(path, sizeof path, folder, "model_index.json"), done);
    MD_TRY_GOTO(md_file_write_atomic(path, t.s, t.n), done);
done:
    md_text_free(&t);
    return status;
}

md_status foundation_save_part(const foundation *f, model_part part, const char *folder,
                               md_backend *be, const md_buffer *values, bool f16)
{
    const model_row *row = model_registry(part);
    nn_params *p = f->params[part];
    char path[FOUNDATION_PATH], name[128];
    MD_TRY(md_path_join(path, sizeof path, folder, row->folder));
    MD_TRY(md_dir_make(path));
    MD_TRY(model__part_path(path, folder, row->folder, "config.json"));
    MD_TRY(row->write(path, &f->config[part]));
    MD_TRY(md_str_printf(name, sizeof name, "%s.safetensors", row->weights));
    MD_TRY(model__part_path(path, folder, row->folder, name));
    if (values)
        return nn_params_save_from(p, values, be, path, f16);
    if (nn_params_allocated(p) && !nn_lora_merged(p))
        return nn_params_save(p, be, path, f16);
    if (*f->weights[part])
        return nn_params_convert(p, f->weights[part], path, &f->rules[part], f16);
    MD_FAIL(MD_INTERNAL, "%s: the %s has neither values nor a file", folder, row->folder);
}

md_status foundation_save(const foundation *f, const char *folder, md_backend *be, bool f16)
{
    MD_TRY(md_dir_make(folder));
    MD_TRY(model__save_tokenizer(f, folder));
    for (int i = 0; i < MODEL_N_PARTS; i++)
        MD_TRY(foundation_save_part(f, i, folder, be, NULL, f16));
    return save_index(f, folder); /* last: a folder without it is not a foundation */
}
