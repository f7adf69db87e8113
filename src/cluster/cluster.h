/* Leased work. Rank 0 (the coordinator) holds a list of items and hands out a few at a time;
   workers ask, work, report. A failed item is data and goes to somebody else; a lease whose worker
   is silent or slow is given again; the first result of an item counts. This room knows neither
   models nor stores: two callbacks do the work. One process alone is both sides, through the same
   code.

   How generate/ uses it:
     items = the slots still to be drawn, each with its next attempt        (rank 0)
     on_lease: draw a micro-batch, write the pixels, sync, cluster_reply_ok(batch, i, &crc, 4)
     on_result: assess, write the small columns; CLUSTER_REDRAW leases the slot with attempt + 1
     on_failed: write state 4 and the reason */
#ifndef MD_CLUSTER_CLUSTER_H
#define MD_CLUSTER_CLUSTER_H

#include "base/status.h"
#include "cluster/signals.h"
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CLUSTER_TEXT_MAX    1024              /* of a failure's chain as it travels */
#define CLUSTER_PAYLOAD_MAX ((size_t)1 << 20) /* of one item's result */
#define CLUSTER_LEASE_MAX   4096              /* items in one lease */

typedef struct cluster_item {
    int64_t id;       /* the caller's number, a slot; each at most once in a list */
    uint32_t attempt; /* together with id it names the random stream */
} cluster_item;

/* What on_lease is given: one micro-batch. */
typedef struct cluster_batch cluster_batch;
int cluster_batch_size(const cluster_batch *b);
cluster_item cluster_batch_item(const cluster_batch *b, int index);
/* The item is done; payload (may be NULL with size 0) is copied. The last reply for an index
 * counts. */
MD_MUST md_status cluster_reply_ok(cluster_batch *b, int index, const void *payload, size_t size);
/* The item failed with this status and the thread's chain; the others may still succeed. */
MD_MUST md_status cluster_reply_fail(cluster_batch *b, int index, md_status status);
/* Tells the coordinator that this worker lives; call it between sampler steps, it costs nothing
   more often than once a second. MD_STOPPED when the batch should be dropped: after SIGTERM, or
   when the coordinator ended the run. */
MD_MUST md_status cluster_beat(cluster_batch *b);
/* The same as a callback, of a void pointer to the batch. */
MD_MUST md_status cluster_beat_of(void *batch);

typedef enum cluster_verdict {
    CLUSTER_ACCEPT, /* the item is done */
    CLUSTER_REDRAW, /* again, with attempt + 1 */
    CLUSTER_DROP    /* done for good, but counted apart: no attempts are left */
} cluster_verdict;

typedef struct cluster_result {
    int64_t id;
    uint32_t attempt;
    int worker; /* rank in the world */
    const void *payload;
    size_t size;
} cluster_result;

typedef struct cluster_counts {
    int64_t items;      /* in the list */
    int64_t accepted;   /* CLUSTER_ACCEPT */
    int64_t dropped;    /* CLUSTER_DROP */
    int64_t failed;     /* failed max_failures times */
    int64_t redraws;    /* CLUSTER_REDRAW verdicts */
    int64_t failures;   /* failed tries, also of items that succeeded later */
    int64_t duplicates; /* results that came too late and were ignored */
    int64_t released;   /* items taken from a silent or slow worker */
    int workers, lost_workers;
    double seconds, rate; /* since the start; finished items per second over the last while */
} cluster_counts;

typedef struct cluster_work {
    const char *name; /* "pairs", for messages */

    /* rank 0 only */
    void *user;                /* first argument of the next callbacks */
    const cluster_item *items; /* [n_items], borrowed; only what is still to do */
    int64_t n_items;
    /* A result, once per (id, attempt), in order of arrival. A failure here ends the run
     * everywhere. */
    md_status (*on_result)(void *user, const cluster_result *r, cluster_verdict *verdict);
    /* An item that failed max_failures times at one attempt; `text` is the last chain. NULL: only
       counted. */
    md_status (*on_failed)(void *user, cluster_item item, md_status status, const char *text);
    /* About once a second and at the end: syncs, progress bars. NULL: none. */
    md_status (*on_tick)(void *user, const cluster_counts *counts);

    /* every rank, the same values */
    int lease_items;  /* items per lease; 0: batch */
    int batch;        /* items per on_lease call, the micro-batch; 0: 1 */
    int max_failures; /* 0: 3 */
    double lease_s;   /* a lease older than this is also given to another; 0: 1800 */
    double silent_s;  /* a worker not heard for this long counts as lost until it speaks;
                         0: 120, or half of comm's default timeout if that is less */

    /* workers only. A returned failure is the failure of all items of the batch without a reply. */
    void *worker; /* first argument of on_lease */
    md_status (*on_lease)(void *worker, cluster_batch *b);
} cluster_work;

/* Works until every item is accepted, dropped or failed. On every rank MD_OK then (failed items are
   in counts, rank 0 only; counts may be NULL). MD_STOPPED on every rank after a signal on any of
   them: results that reached on_result count, the others are to be leased next time. Rank 0's own
   failures (on_result, nobody left to work) come back there with their chain, on the others as
   MD_PEER. Lost workers are marked in comm (comm_lost_peer). Collective(world). */
MD_MUST md_status cluster_run(const cluster_work *work, cluster_counts *counts);

#ifdef __cplusplus
}
#endif
#endif
