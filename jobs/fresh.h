/* --fresh: the job starts over. */
#ifndef MD_JOBS_FRESH_H
#define MD_JOBS_FRESH_H

#include "job.h"

/* Removes what the job made in its run directory and what was made from that, once it is clear that
   the job can begin: what would refuse it is found first, and then nothing is removed. Rank 0,
   which holds the run's lock; local. */
MD_MUST md_status fresh_start(job *j);

#endif
