/* assessment.json: figures of the whole set of accepted pairs, from their features (figures.h). */
#ifndef MD_GENERATE_SUMMARY_H
#define MD_GENERATE_SUMMARY_H

#include "generate/assess.h"
#include "generate/pairs.h"

/* Most pairs that figures are computed of: the first accepted ones, which are as good as any. */
enum { SUMMARY_PAIRS = 4096 };

/* Encodes the accepted pairs again, on all workers, and writes j->summary. store: rank 0's, else
   NULL. Collective(world). */
MD_MUST md_status summary_write(const pairs_job *j, assessor *a, pairs_store *store);

#endif
