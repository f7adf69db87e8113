/* verify: what trainings leave in models/ and checkpoints/. */
#include "base/file.h"
#include "base/str.h"
#include "format/safetensors.h"
#include "model/standalone.h"
#include "train/checkpoint.h"
#include "verify.h"

#include <stdlib.h>
#include <string.h>

enum { STEPS_MOST = 64 };

/* ---- models */

/* A fine-tune's result against the foundation it is to replace parts of. */
static md_status check_tuned(verify *v, const char *folder, const config *cfg)
{
    foundation *f = NULL;
    if (foundation_open(config_string(cfg, KEY_model_foundation), &f) != MD_OK) {
        verify_note(v, "%s is not held against its foundation: %s", folder, md_status_text());
        return MD_OK;
    }
    md_status status = foundation_use_tuned(f, folder);
    foundation_free(f, NULL);
    return status;
}

static md_status check_mask_model(verify *v, const char *folder, const config *cfg)
{
    (void)v;
    (void)cfg;
    standalone *m = NULL;
    MD_TRY(standalone_open(MODEL_MASK_UNET, folder, &m));
    standalone_free(m, NULL);
    return MD_OK;
}

static const struct {
    const char *name;
    md_status (*check)(verify *v, const char *folder, const config *cfg);
} models[] = {{"lesion", check_tuned}, {"background", check_tuned}, {"masks", check_mask_model}};

static md_status check_content(verify *v, const char *name, const char *folder, const config *cfg)
{
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        if (!strcmp(models[i].name, name))
            return models[i].check(v, folder, cfg);
    return MD_OK;
}

/* DONE holds the configuration that the training ended under. What does not open is said once. */
static md_status check_model(verify *v, const char *name, const char *folder)
{
    char done[VERIFY_PATH];
    void *text = NULL;
    size_t n = 0;
    int64_t before = v->problems;
    verify_files(v, folder);
    MD_TRY(md_path_join(done, sizeof done, folder, "DONE"));
    if (!md_file_exists(done)) {
        verify_note(v, "%s is not complete: it has no DONE", folder);
        return MD_OK;
    }
    v->files++;
    MD_TRY(md_file_read(done, VERIFY_TEXT, &text, &n));
    config *cfg = verify_own_config(v, done, text);
    free(text);
    md_status status = v->problems == before ? check_content(v, name, folder, cfg) : MD_OK;
    config_free(cfg);
    return status;
}

void verify_models(verify *v)
{
    char all[VERIFY_PATH], folder[VERIFY_PATH], **names = NULL;
    size_t n = 0;
    if (!verify_path(v, "models", all))
        return;
    if (md_dir_list(all, &names, &n) != MD_OK)
        verify_failed(v);
    for (size_t i = 0; i < n; i++)
        if (md_path_join(folder, sizeof folder, all, names[i]) == MD_OK && md_dir_exists(folder) &&
            check_model(v, names[i], folder) != MD_OK)
            verify_failed(v);
    free(names);
}

/* ---- checkpoints */

static md_status check_state(const char *path)
{
    format_tensors *t = NULL;
    config *cfg = NULL;
    MD_TRY(format_tensors_open(path, &t));
    const char *text = format_tensors_meta(t, "config");
    md_status status =
        text ? config_parse(text, strlen(text), path, &cfg)
             : md_fail(MD_BAD_INPUT, __FILE__, __LINE__, "%s: holds no configuration", path);
    config_free(cfg);
    format_tensors_close(t);
    return status;
}

static void check_checkpoint(verify *v, const char *folder, int64_t step)
{
    char done[VERIFY_PATH], state[VERIFY_PATH];
    if (md_str_printf(done, sizeof done, "%s/step-%lld/DONE", folder, (long long)step) != MD_OK ||
        md_str_printf(state, sizeof state, "%s/step-%lld/state.safetensors", folder,
                      (long long)step) != MD_OK)
        return;
    if (!md_file_exists(done)) {
        if (!v->live)
            verify_note(v, "%s/step-%lld is not complete: the one before it will be used", folder,
                        (long long)step);
        return;
    }
    v->files++;
    md_status status = train_checkpoint_check(folder, step);
    if (status == MD_OK)
        status = check_state(state);
    if (status != MD_OK && !(v->live && !md_file_exists(done)))
        verify_failed(v);
}

void verify_checkpoints(verify *v)
{
    char folder[VERIFY_PATH], each[VERIFY_PATH], **names = NULL;
    size_t n = 0;
    if (!verify_path(v, "checkpoints", folder))
        return;
    if (md_dir_list(folder, &names, &n) != MD_OK)
        verify_failed(v);
    for (size_t i = 0; i < n; i++) {
        int64_t steps[STEPS_MOST];
        int n_steps = 0;
        if (md_path_join(each, sizeof each, folder, names[i]) != MD_OK || !md_dir_exists(each))
            continue;
        if (train_checkpoint_list(each, steps, STEPS_MOST, &n_steps) != MD_OK && !v->live)
            verify_failed(v);
        for (int k = 0; k < n_steps; k++)
            check_checkpoint(v, each, steps[k]);
    }
    free(names);
}
