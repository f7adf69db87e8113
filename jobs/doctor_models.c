/* doctor: what the configuration names: foundation, encoder, data set, by the readers that the jobs
   use; and what its run is going to write. */
#include "backend/open.h"
#include "base/file.h"
#include "base/str.h"
#include "doctor.h"
#include "generate/masks.h"
#include "model/features.h"
#include "model/foundation.h"
#include "model/standalone.h"
#include "store/import.h"
#include "train/finetune.h"
#include "train/masks.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const int moment[] = {4, 2, 1}; /* bytes: finetune.states, as keys.def lists them */

/* Bytes of a training's checkpoints: two are kept while the third is written; weights, average and
   both moments. And of the model that it leaves. */
static int64_t training_bytes(const config *c, int64_t numel)
{
    bool average = config_float(c, KEY_finetune_ema) > 0;
    int bytes = 4 + 2 * moment[config_choice(c, KEY_finetune_states)] + (average ? 4 : 0);
    return numel * (3 * bytes + 4);
}

static bool is_there(const doctor *d, const char *name)
{
    char path[DOCTOR_PATH];
    bool there = md_path_join(path, sizeof path, config_string(d->cfg, KEY_run), name) == MD_OK &&
                 md_file_exists(path);
    md_status_clear();
    return there;
}

/* A file that is still to come. */
static void add_file(doctor *d, const char *name, int64_t bytes)
{
    if (is_there(d, name))
        return;
    d->bytes += bytes;
    d->largest = bytes > d->largest ? bytes : d->largest;
}

/* Weights, gradients and moments: what a fine-tune takes before its first activation, against
   memory.budget, or the machine's memory where no GPU has its own. */
static void check_training(doctor *d, int64_t all, int64_t trained)
{
    char a[DOCTOR_SIZE], b[DOCTOR_SIZE], reason[BACKEND_REASON];
    int gpus = 0;
    double budget = (double)config_int(d->cfg, KEY_memory_budget) * (1 << 20);
    double takes = 4.0 * (double)all +
                   (double)trained * (4 + 2 * moment[config_choice(d->cfg, KEY_finetune_states)]);
    bool host = config_choice(d->cfg, KEY_device) == 1 ||
                (backend_gpus(&gpus, reason) == MD_OK && gpus == 0);
    md_status_clear();
    if (budget == 0 && host)
        budget = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    if (budget > 0 && takes > budget)
        doctor_missing(d, "memory",
                       "a fine-tune takes %s before its first activation, of %s that a worker may "
                       "take: --set finetune.lora_rank=16, finetune.states=8bit, or more memory; "
                       "meddiff plan CONFIG tells the rest",
                       doctor_size(a, takes), doctor_size(b, budget));
}

/* models: those that are trained as the foundation is, the lesion model and perhaps another. */
static void check_foundation(doctor *d)
{
    const char *path = config_string(d->cfg, KEY_model_foundation);
    nn_params *trained[MODEL_N_PARTS];
    foundation *f = NULL;
    int64_t numel = 0, all = 0;
    md_status status = foundation_open(path, &f);
    if (status == MD_OK)
        status = finetune_adapt(d->cfg, f);
    if (status != MD_OK) {
        doctor_missing(d, "foundation", "model.foundation: %s", md_status_text());
        foundation_free(f, NULL);
        return;
    }
    int n = finetune_stores(d->cfg, f, trained);
    for (int i = 0; i < n; i++)
        numel += nn_params_numel(trained[i]);
    for (int i = 0; i < MODEL_N_PARTS; i++)
        all += nn_params_numel(f->params[i]);
    doctor_ok(d, "foundation", "%s: %.1f M parameters, %.1f M of them are trained", path,
              (double)all / 1e6, (double)numel / 1e6);
    check_training(d, all, numel);
    int64_t bytes = training_bytes(d->cfg, numel);
    add_file(d, "models/lesion/DONE", bytes);
    if (config_choice(d->cfg, KEY_backgrounds_from) == 2) /* repaired: another model of that size */
        add_file(d, "models/background/DONE", bytes);
    foundation_free(f, NULL);
}

static void check_encoder(doctor *d)
{
    const char *path = config_string(d->cfg, KEY_model_encoder);
    features *f = NULL;
    if (!*path) {
        doctor_note(d, "encoder", "model.encoder is empty: pairs are made, but not judged");
        return;
    }
    if (features_open(path, &f) != MD_OK)
        doctor_missing(d, "encoder", "model.encoder: %s", md_status_text());
    else
        doctor_ok(d, "encoder", "%s: features of %lld numbers", path, (long long)features_width(f));
    features_free(f);
}

static void add_masks(doctor *d)
{
    const config *c = d->cfg;
    int64_t size = config_int(c, KEY_data_size);
    model_config net = {.unet = mask_unet_for(c)};
    standalone *m = NULL;
    if (config_choice(c, KEY_guide_from) == 1) /* data: there is no mask generator */
        return;
    add_file(d, "masks.h5", masks_count(c) * size * size);
    if (standalone_new(MODEL_MASK_UNET, &net, &m) == MD_OK)
        add_file(d, "models/masks/DONE", training_bytes(c, nn_params_numel(m->params)));
    standalone_free(m, NULL);
}

static void check_data(doctor *d)
{
    const config *c = d->cfg;
    int64_t n_lesion = 0, n_healthy = 0, pixels = config_int(c, KEY_data_size);
    pixels *= pixels;
    if (is_there(d, "data.h5")) {
        doctor_ok(d, "data", "%s/data.h5 is there", config_string(c, KEY_run));
    } else if (import_count(c, &n_lesion, &n_healthy) != MD_OK) {
        doctor_missing(d, "data", "%s", md_status_text());
    } else {
        doctor_ok(d, "data", "%s: %lld images with a lesion, %lld without",
                  config_string(c, KEY_data_root), (long long)n_lesion, (long long)n_healthy);
        add_file(d, "data.h5", (n_lesion + n_healthy) * 4 * pixels);
    }
    int64_t backgrounds = config_int(c, KEY_backgrounds_count);
    add_file(d, "backgrounds.h5",
             4 * pixels *
                 (backgrounds ? backgrounds
                  : n_healthy ? n_healthy
                              : n_lesion));
    add_file(d, "pairs.h5", config_int(c, KEY_generate_pairs) * 5 * pixels);
}

/* Said before MPI starts, whose own files may be too large as well. */
static void check_file_size(doctor *d)
{
    struct rlimit r;
    char a[DOCTOR_SIZE], b[DOCTOR_SIZE];
    if (getrlimit(RLIMIT_FSIZE, &r) == 0 && r.rlim_cur != RLIM_INFINITY &&
        (double)r.rlim_cur < (double)d->largest)
        doctor_missing(d, "room",
                       "a file may have %s here (ulimit -f), the largest will have %s: ulimit -f "
                       "unlimited",
                       doctor_size(a, (double)r.rlim_cur), doctor_size(b, (double)d->largest));
}

void doctor_models(doctor *d)
{
    if (finetune_check(d->cfg) != MD_OK)
        doctor_missing(d, "settings", "%s", md_status_text());
    check_foundation(d);
    check_encoder(d);
    check_data(d);
    add_masks(d);
    check_file_size(d);
}
