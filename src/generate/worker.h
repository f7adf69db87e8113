/* A worker's side of pairs: what it keeps open, and a micro-batch of slots. */
#ifndef MD_GENERATE_WORKER_H
#define MD_GENERATE_WORKER_H

#include "generate/guide.h"
#include "generate/ledger.h"
#include "generate/pairs.h"

typedef struct pairs_worker pairs_worker;

/* Opens the inputs and plans, so that what cannot work is known before there is a store. assess:
   NULL where pairs are not judged; borrowed. */
MD_MUST md_status pairs_worker_open(const pairs_job *j, assessor *assess, pairs_worker **out);
/* Opens the store, which exists by now, and takes all memory. */
MD_MUST md_status pairs_worker_start(pairs_worker *w);
void pairs_worker_close(pairs_worker *w);
/* cluster_work's on_lease; worker: pairs_worker. */
MD_MUST md_status pairs_worker_lease(void *worker, cluster_batch *b);

/* One draw, kept out of the store. */
typedef struct pairs_redrawn {
    image rgb, mask, guide; /* [S,S,3], [S,S,1], [S,S,1], owned */
    int32_t background_id, mask_id;
    float alignment;
} pairs_redrawn;

/* Makes the draw as a lease would, once, in place of pairs_worker_start: takes all memory. */
MD_MUST md_status pairs_worker_redraw(pairs_worker *w, cluster_item it, pairs_redrawn *out);
void pairs_redrawn_free(pairs_redrawn *r);

#endif
