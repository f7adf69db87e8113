/* Sums of gradients and flags over the workers: on their GPUs through NCCL, bucket by bucket while
   the backward pass goes on, or on the host through MPI once it is over. */
#ifndef MD_TRAIN_REDUCE_H
#define MD_TRAIN_REDUCE_H

#include "comm/comm.h"
#include "comm/device.h"
#include "graph/plan.h"

enum { TRAIN_MAX_STORES = 4 };

typedef struct train_reduce {
    md_backend *be;
    comm *workers;       /* NULL or size 1: nothing is summed */
    comm_reducer *host;  /* used where device is NULL */
    comm_device *device; /* NULL: on the host */
    md_buffer *gradients[TRAIN_MAX_STORES];
    int n_gradients;
    md_buffer *tail;   /* f32, summed last */
    double patience_s; /* for the other workers to come to a sum on the host; 0: comm's default */
    int64_t bucket;    /* elements summed together on devices; 0: 16 Mi */

    md_range *buckets; /* and the tail; by train_reduce_overlap or the first train_reduce_now */
    int n_buckets, seen;
    bool overlapped;
} train_reduce;

int train_reduce_workers(const train_reduce *r);
/* Makes each run of `p`, which writes all gradients, sum them on the side queue, each bucket as
   soon as it is written; device only, between the plan's load and its first run. Local. */
MD_MUST md_status train_reduce_overlap(train_reduce *r, md_plan *p);
/* Sums what no run has summed. Collective(workers). */
MD_MUST md_status train_reduce_now(train_reduce *r);
/* Before the host waits for a device that waits for others: returns when it is done, MD_COMM when a
   sum failed or nothing ended for `stall_s` seconds. Local. */
MD_MUST md_status train_reduce_wait(train_reduce *r, int64_t step, double stall_s);
void train_reduce_close(train_reduce *r); /* gives back the bucket list */

#endif
