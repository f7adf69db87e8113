/* Judging pairs that are written already: what an earlier run left in state 1, or a whole store by
   other limits or another encoder. */
#ifndef MD_GENERATE_REASSESS_H
#define MD_GENERATE_REASSESS_H

#include "generate/ledger.h"
#include "generate/pairs.h"

/* Leases the slots in state 1: they become accepted or rejected for good (generate draws those
   again). l: rank 0's, else NULL. Workers need no painter. *n counts them.
   Collective(world). */
MD_MUST md_status reassess_written(const pairs_job *j, assessor *a, ledger *l, int64_t *n);

/* All of `assess`: a store judged by other rules, or by none, is judged anew as a whole; else only
   what is in state 1. Refuses a store of other pictures. Collective(world). */
MD_MUST md_status reassess_store(const pairs_job *j, pairs_outcome *out);

#endif
