#include "session.h"
#include "base/file.h"
#include "base/str.h"
#include "cluster/signals.h"
#include "store/import.h"
#include "train/checkpoint.h"
#include "train/finetune.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool session_works(void)
{
    return comm_workers() != NULL;
}

bool session_first_worker(void)
{
    return session_works() && comm_rank(comm_workers()) == 0;
}

bool session_wants_stop(void)
{
    return cluster_stop_requested() != CLUSTER_GO;
}

/* Where what was timed on a GPU is kept between runs: $XDG_CACHE_HOME/meddiff, else
   ~/.cache/meddiff; "" where the environment names no place. */
static const char *cache_folder(void)
{
    static char path[SESSION_PATH]; /* the backend borrows it */
    const char *base = getenv("XDG_CACHE_HOME"), *below = "meddiff";
    if (!base || *base != '/') {
        base = getenv("HOME");
        below = ".cache/meddiff";
    }
    if (!base || *base != '/' || md_path_join(path, sizeof path, base, below) != MD_OK) {
        md_status_clear();
        *path = 0;
    }
    return path;
}

backend_options session_backend_options(const config *cfg, int sharing, int index)
{
    return (backend_options){.device = config_string(cfg, KEY_device),
                             .threads = (int)config_int(cfg, KEY_threads),
                             .sharing = sharing,
                             .index = index,
                             .workspace_mib = config_int(cfg, KEY_memory_workspace),
                             .cache = cache_folder(),
                             .deterministic = config_bool(cfg, KEY_deterministic)};
}

static md_status open_backend(session *s)
{
    backend_options o = session_backend_options(s->j->cfg, comm_node_workers(), comm_node_index());
    return backend_open(&o, &s->be);
}

md_status session_open(session *s, job *j, bool without)
{
    *s = (session){.j = j,
                   .dtype = config_choice(j->cfg, KEY_model_dtype) == 1 ? MD_BF16 : MD_F32,
                   .seed = (uint64_t)config_int(j->cfg, KEY_seed)};
    md_status status = MD_OK;
    if (!without) {
        status = foundation_open(config_string(j->cfg, KEY_model_foundation), &s->f);
        if (status != MD_OK)
            (void)md_context(status, "model.foundation");
    }
    if (status == MD_OK && session_works())
        status = open_backend(s);
    if (status == MD_OK && session_works() && comm_size(comm_workers()) > 1)
        status = comm_reducer_new(comm_workers(), &s->reducer);
    return comm_agree(comm_world(), status);
}

md_status session_meet(session *s)
{
    enum { SECONDS = 300 }; /* NCCL looks at the machine first */
    md_status status = MD_OK;
    if (session_works() && comm_size(comm_workers()) > 1)
        status = comm_device_new(comm_workers(), backend_identity(s->be),
                                 config_bool(s->j->cfg, KEY_deterministic), SECONDS, &s->device);
    return comm_agree(comm_world(), status);
}

void session_close(session *s)
{
    comm_device_free(s->device);
    comm_reducer_free(s->reducer);
    foundation_free(s->f, s->be);
    if (s->be)
        s->be->ops->close(s->be);
}

/* A GPU's own memory where there is one; what is held already was given by it. Workers that share
   a GPU each count its free memory: memory.budget says otherwise. */
md_status session_budget(const config *cfg, md_backend *be, int sharing, size_t *bytes)
{
    size_t mib = (size_t)config_int(cfg, KEY_memory_budget), left, all;
    if (mib) {
        *bytes = mib << 20;
        return MD_OK;
    }
    if (be && be->ops->queues) {
        MD_TRY(be->ops->queues->memory(be, &left, &all));
        *bytes = left + be->allocated_bytes;
        return MD_OK;
    }
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (pages <= 0 || page <= 0)
        return config_fail(cfg, KEY_memory_budget, "this machine does not tell its memory: set it");
    *bytes = (size_t)pages * (size_t)page / (size_t)sharing;
    return MD_OK;
}

md_status session_training_budget(const config *cfg, const foundation *f, md_backend *be,
                                  int sharing, size_t *bytes)
{
    nn_params *trained[MODEL_N_PARTS];
    size_t all = 0, others = 0;
    MD_TRY(session_budget(cfg, be, sharing, &all));
    int n = finetune_stores(cfg, f, trained);
    for (int i = 0; i < MODEL_N_PARTS; i++) {
        bool other = true;
        for (int k = 0; k < n; k++)
            other = other && f->params[i] != trained[k];
        others += other ? nn_params_bytes(f->params[i], be) : 0;
    }
    if (all <= others)
        MD_FAIL(MD_NOMEM,
                "the parts that are not trained take %zu MiB of the %zu MiB there are: raise "
                "memory.budget, or use another machine",
                others >> 20, all >> 20);
    *bytes = all - others;
    return MD_OK;
}

md_status session_need_data(const session *s)
{
    char path[SESSION_PATH], *text = NULL;
    data_store *d = NULL;
    MD_TRY(session_path(s, path, "data.h5"));
    if (!md_file_exists(path))
        MD_FAIL(MD_BAD_INPUT,
                "%s does not exist: run \"meddiff import\" with this configuration first", path);
    MD_TRY(data_open(path, DATA_IMAGES, &d));
    md_status status = data_text(d, "config", &text);
    if (status == MD_OK)
        status = config_same_as(s->j->cfg, text, path, ". data");
    free(text);
    data_close(d);
    return status;
}

md_status session_background_kind(const session *s, data_kind *out)
{
    char path[SESSION_PATH];
    data_store *d = NULL;
    MD_TRY(session_path(s, path, "data.h5"));
    MD_TRY(data_open(path, DATA_IMAGES, &d));
    md_status status = import_background_kind(s->j->cfg, d, out);
    data_close(d);
    return status;
}

static md_status check_backgrounds(const session *s, const char *path)
{
    char images[SESSION_PATH];
    data_store *data = NULL, *backgrounds = NULL;
    MD_TRY(session_path(s, images, "data.h5"));
    MD_TRY(data_open(images, DATA_IMAGES, &data));
    md_status status = data_open(path, DATA_BACKGROUNDS, &backgrounds);
    if (status == MD_OK)
        status = import_check_backgrounds(s->j->cfg, data, backgrounds, path);
    data_close(backgrounds);
    data_close(data);
    return status;
}

md_status session_need_imported(const session *s)
{
    char path[SESSION_PATH];
    data_kind kind;
    MD_TRY(session_need_data(s));
    MD_TRY(session_path(s, path, "backgrounds.h5"));
    if (md_file_exists(path))
        return check_backgrounds(s, path);
    MD_TRY(session_background_kind(s, &kind));
    if (kind == DATA_REPAIRED)
        MD_FAIL(MD_BAD_INPUT,
                "%s does not exist: run \"meddiff backgrounds\" with this configuration first, "
                "which repairs the training images; or set backgrounds.from and import again",
                path);
    MD_FAIL(MD_BAD_INPUT,
            "%s does not exist: in the training images the import found no free square of "
            "data.size pixels (data.crops), so there is nothing to paint into; or it was removed, "
            "then run \"meddiff import\" again",
            path);
}

md_status session_use_tuned(const session *s, const char *region, const char *hint)
{
    char folder[SESSION_PATH], done[SESSION_PATH];
    MD_TRY(session_path(s, folder, "models/%s", region));
    MD_TRY(session_path(s, done, "models/%s/DONE", region));
    if (!md_file_exists(done))
        MD_FAIL(MD_BAD_INPUT, "%s does not exist: run %s", done, hint);
    return foundation_use_tuned(s->f, folder);
}

md_status session_is_trained(const session *s, const char *name, const char *sections,
                             bool *trained)
{
    enum { MOST = 1 << 20 };
    char done[SESSION_PATH];
    void *text = NULL;
    size_t n = 0;
    MD_TRY(session_path(s, done, "models/%s/DONE", name));
    *trained = md_file_exists(done);
    if (!*trained)
        return MD_OK;
    MD_TRY(md_file_read(done, MOST, &text, &n));
    md_status status = config_same_as(s->j->cfg, text, done, sections);
    free(text);
    return status;
}

md_status session_mark_trained(const session *s, const char *folder)
{
    char done[SESSION_PATH];
    md_status status = MD_OK;
    const char *text = config_text(s->j->cfg, &status);
    MD_TRY(status);
    MD_TRY(md_path_join(done, sizeof done, folder, "DONE"));
    return md_file_write_atomic(done, text, strlen(text));
}

md_status session_clear_checkpoints(const session *s, const char *name)
{
    char checkpoints[SESSION_PATH];
    if (s->j->rank != 0)
        return MD_OK;
    MD_TRY(session_path(s, checkpoints, "checkpoints/%s", name));
    return train_checkpoint_clear(checkpoints);
}

md_status session_load(session *s)
{
    foundation_hold(s->f, s->dtype, 0);
    for (int part = 0; session_works() && part < MODEL_N_PARTS; part++)
        MD_TRY(foundation_load(s->f, (model_part)part, s->be));
    return MD_OK;
}

md_status session_path(const session *s, char out[SESSION_PATH], const char *fmt, ...)
{
    va_list ap;
    MD_TRY(md_str_printf(out, SESSION_PATH, "%s/", s->j->run));
    size_t n = 0;
    while (out[n])
        n++;
    va_start(ap, fmt);
    int m = vsnprintf(out + n, SESSION_PATH - n, fmt, ap);
    va_end(ap);
    if (m < 0 || (size_t)m >= SESSION_PATH - n)
        MD_FAIL(MD_USAGE, "%s: the path is too long", s->j->run);
    return MD_OK;
}

md_status session_pairs_job(const session *s, session_files *files, pairs_job *out)
{
    *out = (pairs_job){.cfg = s->j->cfg,
                       .f = s->f,
                       .be = s->be,
                       .sections = ". data model generate guide quality"};
    const struct {
        const char *name, **at;
    } all[] = {{"data.h5", &out->data},
               {"backgrounds.h5", &out->backgrounds},
               {"pairs.h5", &out->store},
               {"preview.png", &out->preview},
               {"features.safetensors", &out->features},
               {"rejected.csv", &out->rejected},
               {"rejected", &out->pictures},
               {"assessment.json", &out->summary}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        MD_TRY(session_path(s, files->path[i], "%s", all[i].name));
        *all[i].at = files->path[i];
    }
    return MD_OK;
}
