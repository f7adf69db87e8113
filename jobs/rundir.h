/* What main does with a run directory: takes it, keeps what an earlier run left until it is clear
   that this one begins, and leaves the outcome. Rank 0 alone; all local. */
#ifndef MD_JOBS_RUNDIR_H
#define MD_JOBS_RUNDIR_H

#include "base/status.h"
#include "config/config.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct rundir {
    const char *run; /* borrowed; NULL before rundir_begin */
    void *config;    /* config.cfg as it was, NULL if there was none */
    size_t config_bytes;
} rundir;

/* For jobs that only look: MD_USAGE where `run` is no run directory, with what to do. */
MD_MUST md_status rundir_look(const char *run);
/* Makes the directory, takes its lock until this process ends, puts RESULT and REQUEUE aside, saves
   config.cfg. MD_USAGE when another job works there. On failure all is as it was. */
MD_MUST md_status rundir_begin(rundir *d, const char *run, config *cfg);
/* RESULT holds the outcome, since a launcher's exit code can lie; REQUEUE asks for a further start
   after an orderly stop, or when ranks were lost. A start that was `refused`, before any work,
   leaves config.cfg, RESULT and REQUEUE of an earlier run as they were. The status chain may be
   overwritten. */
MD_MUST md_status rundir_end(rundir *d, md_status status, bool refused);
void rundir_free(rundir *d);

#endif
