/* assessment.json: figures of the whole set of accepted pairs, from their features (figures.h). */
#ifndef MD_GENERATE_SUMMARY_H
#define MD_GENERATE_SUMMARY_H

#include "generate/assess.h"
#include "generate/pairs.h"

/* Most pairs that figures are computed of: the first accepted ones, which are as good as any. */
enum { SUMMARY_PAIRS = 4096 };

/* Encodes the accepted pairs again, on all workers, and writes j->summary, unless it is there: then
   it stands. store: rank 0's, else NULL. Collective(world). */
MD_MUST md_status summary_write(const pairs_job *j, assessor *a, pairs_store *store);
/* Before pairs change: what was written of them stands no longer. Rank 0. */
MD_MUST md_status summary_drop(const pairs_job *j);

#endif
