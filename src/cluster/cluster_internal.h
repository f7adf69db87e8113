/* Both sides of leased work as machines that are stepped, over a link that may be MPI, a loop back
   within one process, or a simulation with a clock of its own (tests/cluster). */
#ifndef MD_CLUSTER_CLUSTER_INTERNAL_H
#define MD_CLUSTER_CLUSTER_INTERNAL_H

#include "cluster/messages.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CLUSTER_BEAT_S 1.0 /* between heartbeats */
#define CLUSTER_ASK_S  0.5 /* a request for work is repeated after this */

/* How one side reaches the others. Nothing blocks beyond wait_s. */
typedef struct cluster_link {
    void *self;
    md_status (*send)(void *self, int to, const void *data, size_t bytes);
    /* None: MD_OK and *bytes 0. *data is valid until the next call. */
    md_status (*receive)(void *self, double wait_s, int *from, const uint8_t **data, size_t *bytes);
    int (*pending)(void *self, int to);                 /* sends that have not left */
    void (*mark_lost)(void *self, int rank, bool lost); /* as comm_mark_lost */
    double (*now)(void *self);
    cluster_stop (*stop)(void *self);
} cluster_link;

/* silent_s of this work, or what stands for 0. */
double cluster__silence(const cluster_work *work);

/* Tells one cluster_run from the next: every rank of a world calls it in the same order. */
extern uint32_t cluster__runs;
/* In a group: takes up what rank 0 of the world wants. */
void cluster__group_listen(void);

typedef struct cluster_coordinator cluster_coordinator;
typedef struct cluster_worker cluster_worker;

/* Worker ranks are first_worker .. first_worker + n_workers - 1. `run` tells runs of one program
   apart. work and link are borrowed. */
MD_MUST md_status cluster__coordinator_new(const cluster_work *work, const cluster_link *link,
                                           uint32_t run, int first_worker, int n_workers,
                                           cluster_coordinator **out);
/* Worker k was lost in an earlier run: it is not waited for until it speaks. */
void cluster__coordinator_lost(cluster_coordinator *c, int k);
/* Handles what has arrived, waiting at most wait_s for the first message. *done: the run has ended,
   and the returned status is that of the run. */
MD_MUST md_status cluster__coordinator_step(cluster_coordinator *c, double wait_s, bool *done);
void cluster__coordinator_counts(cluster_coordinator *c, cluster_counts *out);
void cluster__coordinator_free(cluster_coordinator *c);

MD_MUST md_status cluster__worker_new(const cluster_work *work, const cluster_link *link,
                                      uint32_t run, int coordinator, cluster_worker **out);
/* One micro-batch, or a wait of at most wait_s for a message. As above. */
MD_MUST md_status cluster__worker_step(cluster_worker *w, double wait_s, bool *done);
void cluster__worker_free(cluster_worker *w);

#ifdef __cplusplus
}
#endif
#endif
