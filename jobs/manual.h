/* Manual pages and what a shell completes, made of jobs.def and keys.def when the program is built
   or asked. Both return the exit code. */
#ifndef MD_JOBS_MANUAL_H
#define MD_JOBS_MANUAL_H

#include "command.h"

/* The page of a job for man(1), or with r NULL that of the program, to stdout. */
int manual_page(const job_row *r);
/* meddiff --complete: the jobs. --complete JOB: what it takes (CONFIG, RUN, DIR), its options and
   keys. --complete JOB KEY: the key's values, where they can be listed. One a line. */
int manual_complete(int n, char **word);

#endif
