/* What jobs that compute share: the foundation (opened and checked on every rank) and, on workers,
   the backend and the gradient reducer. */
#ifndef MD_JOBS_SESSION_H
#define MD_JOBS_SESSION_H

#include "comm/comm.h"
#include "job.h"
#include "model/foundation.h"

enum { SESSION_PATH = 1024 };

typedef struct session {
    job *j;
    md_dtype dtype;
    uint64_t seed;
    foundation *f;         /* NULL until opened */
    md_backend *be;        /* workers only */
    comm_reducer *reducer; /* workers, when there are several */
} session;

/* Backend and reducer; the foundation of model.foundation too, unless `without`. Collective(world).
 */
MD_MUST md_status session_open(session *s, job *j, bool without);
void session_close(session *s);
bool session_works(void);        /* this rank is a worker */
bool session_first_worker(void); /* the one that writes files for all */
bool session_wants_stop(void);   /* a signal asked for an end */
/* RUN/<fmt> into out[SESSION_PATH]. */
MD_MUST md_status session_path(const session *s, char out[SESSION_PATH], const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
