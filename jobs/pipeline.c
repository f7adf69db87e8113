/* pipeline: every stage, one after the other, each skipped when its result is complete. The models
   are trained side by side, where pipeline.parallel says so and there is a worker for each. A
   result made under another configuration is refused, naming the key. */
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "cluster/groups.h"
#include "finetune.h"
#include "generate/band.h"
#include "generate/pairs.h"
#include "generate/repair.h"
#include "memory.h"
#include "model/features.h"
#include "session.h"
#include "train/finetune.h"
#include "train/loop.h"
#include "train/masks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct stage {
    const char *name;
    /* A file of the run directory that is there when the long work is done: the job then only sees
       whether it was made under this configuration. NULL: the job looks itself. */
    const char *result;
    md_status (*wanted)(const session *s, bool *wanted);        /* NULL: always */
    md_status (*is_complete)(const session *s, bool *complete); /* NULL: the job sees to it */
    md_status (*run)(job *j);
    bool trains; /* neighbours that train need nothing of each other */
} stage;

/* ---- the stages */

static md_status repairs_backgrounds(const session *s, bool *wanted)
{
    data_kind kind;
    MD_TRY(session_background_kind(s, &kind));
    *wanted = kind == DATA_REPAIRED;
    return MD_OK;
}

/* What stages after the training would refuse of the data set. */
static md_status check_data(const session *s, bool repairs)
{
    char path[SESSION_PATH];
    data_store *data = NULL;
    repair_row *rows = NULL;
    int64_t n, skipped;
    MD_TRY(session_path(s, path, "data.h5"));
    if (config_string(s->j->cfg, KEY_model_encoder)[0])
        MD_TRY(band_check(s->j->cfg, path));
    if (!repairs)
        return MD_OK;
    MD_TRY(data_open(path, DATA_IMAGES, &data));
    md_status status = repair_list(s->j->cfg, data, &rows, &n, &skipped);
    free(rows);
    data_close(data);
    return status;
}

/* What the import makes is there, of this configuration, and enough for what follows. */
static md_status need_import(const session *s)
{
    bool later = false;
    MD_TRY(session_need_data(s));
    MD_TRY(repairs_backgrounds(s, &later));
    if (!later)
        MD_TRY(session_need_imported(s));
    return check_data(s, later);
}

static md_status import_is_complete(const session *s, bool *complete)
{
    char data[SESSION_PATH], backgrounds[SESSION_PATH];
    bool later = false;
    MD_TRY(session_path(s, data, "data.h5"));
    MD_TRY(session_path(s, backgrounds, "backgrounds.h5"));
    *complete = md_file_exists(data);
    if (*complete)
        MD_TRY(repairs_backgrounds(s, &later));
    *complete = *complete && (later || md_file_exists(backgrounds));
    return *complete ? need_import(s) : MD_OK;
}

static md_status run_import(job *j)
{
    session s = {.j = j};
    MD_TRY(job_import(j));
    /* known now, rather than after the fine-tune */
    return comm_agree(comm_world(), need_import(&s));
}

static md_status train_lesion(job *j)
{
    return job_finetune_region(j, LESIONS_INSIDE);
}

static md_status train_background(job *j)
{
    return job_finetune_region(j, LESIONS_OUTSIDE);
}

static md_status draws_masks(const session *s, bool *wanted)
{
    *wanted = config_choice(s->j->cfg, KEY_guide_from) == 0; /* masks */
    return MD_OK;
}

static md_status run_masks(const job *j, const char *step)
{
    job own = *j;
    own.step = step;
    return job_masks(&own);
}

static md_status train_masks(job *j)
{
    return run_masks(j, "train");
}

static md_status sample_masks(job *j)
{
    return run_masks(j, "sample");
}

static md_status judges(const session *s, bool *wanted)
{
    *wanted = config_string(s->j->cfg, KEY_model_encoder)[0] != '\0';
    return MD_OK;
}

static const stage stages[] = {
    {"import", NULL, NULL, import_is_complete, run_import, false},
    {"lesion model", "models/lesion/DONE", NULL, NULL, train_lesion, true},
    {"background model", "models/background/DONE", repairs_backgrounds, NULL, train_background,
     true},
    {"mask model", "models/masks/DONE", draws_masks, NULL, train_masks, true},
    {"masks", NULL, draws_masks, NULL, sample_masks, false},
    {"backgrounds", NULL, repairs_backgrounds, NULL, job_backgrounds, false},
    {"generate", NULL, NULL, NULL, job_generate, false},
    {"assess", NULL, judges, NULL, job_assess, false},
};
enum { N_STAGES = sizeof stages / sizeof *stages };

static md_status check_encoder(const config *c)
{
    features *encoder = NULL;
    const char *folder = config_string(c, KEY_model_encoder);
    if (!*folder)
        return MD_OK;
    md_status status = features_open(folder, &encoder);
    features_free(encoder);
    return status == MD_OK ? MD_OK : md_context(status, "model.encoder");
}

/* Faults of the settings and of the models, and what it cannot paint, are known before any
   work, rather than after hours of it. Collective(world). */
static md_status check(job *j)
{
    session s = {.j = j};
    painter_options o;
    bool masks = false;
    MD_TRY(finetune_check(j->cfg));
    MD_TRY(draws_masks(&s, &masks));
    if (masks)
        MD_TRY(mask_check(j->cfg));
    md_status status = session_open(&s, j, false);
    if (status == MD_OK)
        status = check_encoder(j->cfg);
    if (status == MD_OK)
        status = pairs_painter_options(j->cfg, config_int(j->cfg, KEY_data_size), &o);
    if (status == MD_OK)
        status = painter_check(s.f, &o);
    session_close(&s);
    return comm_agree(comm_world(), status);
}

/* ---- one after the other */

/* What is to be done about a stage, as rank 0 sees it: others may see its files later. */
typedef struct prospect {
    bool wanted, complete;
    bool there; /* its result */
} prospect;

static md_status look(const session *s, const stage *g, prospect *p)
{
    char result[SESSION_PATH];
    if (g->wanted)
        MD_TRY(g->wanted(s, &p->wanted));
    if (p->wanted && g->is_complete)
        MD_TRY(g->is_complete(s, &p->complete));
    if (p->wanted && g->result) {
        MD_TRY(session_path(s, result, "%s", g->result));
        p->there = md_file_exists(result);
    }
    return MD_OK;
}

/* Collective(world). */
static md_status consider(const session *s, const stage *g, prospect *p)
{
    *p = (prospect){.wanted = true};
    MD_TRY(comm_agree(comm_world(), s->j->rank == 0 ? look(s, g, p) : MD_OK));
    MD_TRY(comm_broadcast(comm_world(), 0, p, sizeof *p, 0));
    if (p->wanted)
        md_info("pipeline", "%s%s", g->name, p->complete ? ": complete already" : "");
    return MD_OK;
}

/* Collective(world). */
static md_status run_stage(const session *s, const stage *g)
{
    double began = md_now();
    MD_TRY(g->run(s->j));
    md_info("pipeline", "%s: done in %.0f s", g->name, md_now() - began);
    memory_tell_stage(g->name);
    return MD_OK;
}

/* ---- side by side */

typedef struct part {
    const job *j;
    const stage *g;
} part;

/* On the workers of its group. */
static md_status run_part(void *user)
{
    const part *p = user;
    job own = *p->j;
    own.rank = comm_rank(comm_world());
    own.size = comm_size(comm_world());
    return p->g->run(&own);
}

static md_status put_row(void *user, const char *row)
{
    FILE *csv = user;
    if (fprintf(csv, "%s\n", row) < 0)
        MD_FAIL(MD_IO, "metrics.csv: cannot write: %s", md_file_write_reason(errno));
    return MD_OK;
}

/* pending[n], n >= 2, on shares of the workers. Collective(world). */
static md_status run_side_by_side(const session *s, const stage *const *pending, int n)
{
    part parts[N_STAGES];
    cluster_task tasks[N_STAGES];
    int share[N_STAGES];
    char metrics[SESSION_PATH];
    FILE *csv = NULL;
    cluster_share(s->j->size - 1, n, share);
    for (int i = 0; i < n; i++) {
        parts[i] = (part){s->j, pending[i]};
        tasks[i] = (cluster_task){pending[i]->name, share[i], run_part, &parts[i]};
    }
    MD_TRY(session_path(s, metrics, "metrics.csv"));
    md_status status = s->j->rank == 0 ? train_metrics_open(metrics, &csv) : MD_OK;
    MD_TRY(comm_agree(comm_world(), status));
    cluster_groups g = {.task = tasks, .n = n, .on_row = put_row, .user = csv};
    md_info("pipeline", "%d models side by side", n);
    status = cluster_side_by_side(&g);
    md_status closed = train_metrics_close(metrics, csv);
    MD_TRY(status);
    MD_TRY(comm_agree(comm_world(), closed));
    memory_tell_stage("models side by side");
    return MD_OK;
}

/* stages[first..end) train. Those with a result come first, alone: they are looked at, or refused,
   before the others start. Collective(world). */
static md_status run_trainings(const session *s, int first, int end)
{
    const stage *pending[N_STAGES];
    int n = 0;
    for (int i = first; i < end; i++) {
        prospect p;
        MD_TRY(consider(s, &stages[i], &p));
        if (p.there)
            MD_TRY(run_stage(s, &stages[i]));
        else if (p.wanted)
            pending[n++] = &stages[i];
    }
    if (n > 1 && config_bool(s->j->cfg, KEY_pipeline_parallel) && s->j->size - 1 >= n)
        return run_side_by_side(s, pending, n);
    for (int i = 0; i < n; i++)
        MD_TRY(run_stage(s, pending[i]));
    return MD_OK;
}

/* Collective(world). */
md_status job_pipeline(job *j)
{
    session s = {.j = j};
    j->fresh = false; /* its jobs find nothing old */
    MD_TRY(check(j));
    for (int i = 0, end; i < N_STAGES; i = end) {
        for (end = i; end < N_STAGES && stages[end].trains; end++)
            ;
        if (end > i) {
            MD_TRY(run_trainings(&s, i, end));
            j->worked = true;
            continue;
        }
        prospect p;
        end = i + 1;
        MD_TRY(consider(&s, &stages[i], &p));
        if (p.wanted && !p.complete) {
            MD_TRY(run_stage(&s, &stages[i]));
            j->worked = true;
        }
    }
    return MD_OK;
}
