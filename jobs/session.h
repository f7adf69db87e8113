/* What jobs that compute share: the foundation (opened and checked on every rank) and, on workers,
   the backend and the gradient reducer. */
#ifndef MD_JOBS_SESSION_H
#define MD_JOBS_SESSION_H

#include "backend/open.h"
#include "comm/comm.h"
#include "comm/device.h"
#include "generate/pairs.h"
#include "job.h"
#include "model/foundation.h"
#include "store/data.h"

enum { SESSION_PATH = 1024 };

typedef struct session {
    job *j;
    md_dtype dtype;
    uint64_t seed;
    foundation *f;         /* NULL until opened */
    md_backend *be;        /* workers only */
    comm_reducer *reducer; /* workers, when there are several */
    comm_device *device;   /* session_meet: workers, when each has a GPU of its own */
} session;

/* Backend and reducer; the foundation of model.foundation too, unless `without`. Collective(world).
 */
MD_MUST md_status session_open(session *s, job *j, bool without);
/* For a training: lets the workers' GPUs sum among themselves where each worker has its own.
   Collective(world). */
MD_MUST md_status session_meet(session *s);
void session_close(session *s);
/* For worker `index` of the `sharing` on its node. Borrows cfg's strings. */
backend_options session_backend_options(const config *cfg, int sharing, int index);
/* What a worker may take when `sharing` of them share this machine: memory.budget, or its share of
   the machine, or what is free on its GPU. be: NULL on a rank that does not compute. */
MD_MUST md_status session_budget(const config *cfg, md_backend *be, int sharing, size_t *bytes);
/* What of it is left for a fine-tune beside the parts that are not trained. */
MD_MUST md_status session_training_budget(const config *cfg, const foundation *f, md_backend *be,
                                          int sharing, size_t *bytes);
/* data.h5 is there and was imported under this configuration; else what to do about it. */
MD_MUST md_status session_need_data(const session *s);
/* And backgrounds.h5 beside it, as backgrounds.from and backgrounds.count say. */
MD_MUST md_status session_need_imported(const session *s);
/* Paths of the files that pairs are made and judged from. */
typedef struct session_files {
    char path[8][SESSION_PATH];
} session_files;
/* The job that makes or judges RUN/pairs.h5, without its memory budget; borrows files. */
MD_MUST md_status session_pairs_job(const session *s, session_files *files, pairs_job *out);
/* What backgrounds.from comes to for the images of data.h5, which is there. */
MD_MUST md_status session_background_kind(const session *s, data_kind *out);
/* The model that RUN/models/<region> holds takes the foundation's place; where there is none, what
   to do about it: `hint` after "run ...". */
MD_MUST md_status session_use_tuned(const session *s, const char *region, const char *hint);
/* *trained: RUN/models/<name> is complete; MD_USAGE, naming the key, when it was trained under
   another configuration in these sections. */
MD_MUST md_status session_is_trained(const session *s, const char *name, const char *sections,
                                     bool *trained);
/* Writes <folder>/DONE, with the configuration: last, when the model is there. */
MD_MUST md_status session_mark_trained(const session *s, const char *folder);
/* Of a model that is complete: rank 0 removes what a kill after its DONE left of its training in
   RUN/checkpoints/<name>. */
MD_MUST md_status session_clear_checkpoints(const session *s, const char *name);
/* All parts of the foundation, on a worker, to paint with. */
MD_MUST md_status session_load(session *s);
bool session_works(void);        /* this rank is a worker */
bool session_first_worker(void); /* the one that writes files for all */
bool session_wants_stop(void);   /* a signal asked for an end */
/* RUN/<fmt> into out[SESSION_PATH]. */
MD_MUST md_status session_path(const session *s, char out[SESSION_PATH], const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
