#include "generate/mask_model.h"
#include "base/file.h"
#include "base/str.h"
#include "image/mask_sketch.h"
#include "model/schedule_json.h"
#include <string.h>

static const char SCHEDULE[] = "scheduler_config.json";

static md_status read_schedule(const char *folder, diffusion_schedule *out)
{
    char path[FOUNDATION_PATH];
    format_json *doc = NULL;
    MD_TRY(md_path_join(path, sizeof path, folder, SCHEDULE));
    MD_TRY(format_json_load(path, &doc));
    md_status status = schedule_read(doc, out);
    format_json_free(doc);
    MD_TRY(status);
    return schedule_check(path, out);
}

md_status mask_model_open(const char *folder, mask_model *out)
{
    mask_model m = {0};
    MD_TRY(standalone_open(MODEL_MASK_UNET, folder, &m.net));
    const unet_config *u = &m.net->config.unet;
    md_status status = read_schedule(m.net->path, &m.schedule);
    if (status == MD_OK && ((u->in_channels != 1 && u->in_channels != 1 + IMAGE_SKETCH_PLANES) ||
                            u->out_channels != 1))
        status = md_fail(MD_BAD_INPUT, __FILE__, __LINE__,
                         "%s: a mask generator has 1 channel in, or %d with a sketch, and 1 out, "
                         "not %d and %d",
                         folder, 1 + IMAGE_SKETCH_PLANES, u->in_channels, u->out_channels);
    if (status != MD_OK)
        mask_model_free(&m, NULL);
    else
        *out = m;
    return status;
}

void mask_model_free(mask_model *m, md_backend *be)
{
    standalone_free(m->net, be);
    *m = (mask_model){0};
}

md_status mask_model_save(const mask_model *m, const char *folder, md_backend *be)
{
    char path[FOUNDATION_PATH];
    md_text t = {0};
    MD_TRY(standalone_save(m->net, folder, be, NULL, false));
    MD_TRY(md_path_join(path, sizeof path, folder, SCHEDULE));
    md_status status = schedule_write(&t, &m->schedule);
    if (status == MD_OK)
        status = md_file_write_atomic(path, t.s, t.n);
    md_text_free(&t);
    return status;
}

md_status mask_model_hash(const mask_model *m, char hex[MD_SHA256_HEX])
{
    char weights[MD_SHA256_HEX];
    md_text t = {0};
    MD_TRY(standalone_hash(m->net, weights));
    md_status status = md_text_add(&t, "%s\n", weights);
    if (status == MD_OK)
        status = schedule_write(&t, &m->schedule);
    if (status == MD_OK)
        md_sha256(t.s, t.n, hex);
    md_text_free(&t);
    return status;
}
