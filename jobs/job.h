/* What main hands to a job. One C file per job: jobs/<name>.c with job_<name>, a row in jobs.def.
   A job returns its status; only main prints a failure, ends MPI and ends the process. The ranks of
   an MPI job return together (comm_agree before anything that one of them may skip). */
#ifndef MD_JOBS_JOB_H
#define MD_JOBS_JOB_H

#include "base/status.h"
#include "config/config.h"

typedef struct job {
    const char *name;
    config *cfg;      /* checked; equal on every rank. For RUN, RUN_ID and DIR jobs: defaults
                         and --set */
    const char *arg;  /* CONFIG: the file; RUN, DIR: the folder */
    const char *id;   /* RUN_ID: what stands behind the folder */
    const char *step; /* of STEP_CONFIG jobs: "train", "sample", or "" for both */
    const char
        *run;    /* MPI jobs: the run directory, which exists; "" for LOCAL jobs of RUN and DIR */
    bool fresh;  /* with --fresh; what there was of this job is gone */
    bool worked; /* set once results have changed: what fails then is no refused start any more */
    int rank, size; /* of comm_world(); 0 of 1 for LOCAL jobs */
} job;

#define JOB(name, argument, ranks, sections, help) MD_MUST md_status job_##name(job *j);
#define JOB_OF(name, second, argument, ranks, sections, help)                                      \
    MD_MUST md_status job_##name##_##second(job *j);
#include "jobs.def"
#undef JOB
#undef JOB_OF

#endif
