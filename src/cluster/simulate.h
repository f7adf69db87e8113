/* Leased work in virtual time: the real coordinator and real workers over a simulated network, with
   uneven speeds and random deaths. What rank 0 computes is measured and counted, so its own limits
   show; everything else is a cost given here. For `meddiff bench cluster`. */
#ifndef MD_CLUSTER_SIMULATE_H
#define MD_CLUSTER_SIMULATE_H

#include "cluster/cluster.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cluster_scenario {
    int workers, batch;
    int64_t items;
    double item_s;            /* seconds of the fastest worker per item */
    double spread;            /* the slowest takes this many times as long */
    double deaths_per_hour;   /* of each worker; they never come back */
    double redraw;            /* share of results that are drawn again */
    double latency_s;         /* of a message, half to one and a half times this */
    double poll_s;            /* a waiting rank looks every so often */
    double message_s;         /* rank 0 per message, either way */
    double result_s;          /* rank 0 per item's result: its row in the store */
    double tick_s;            /* rank 0 once a second: the store's sync */
    double own;               /* rank 0's measured time counts so many times; 0: repeatable runs */
    double silent_s, lease_s; /* as in cluster_work */
    uint64_t seed;
} cluster_scenario;

typedef struct cluster_forecast {
    double seconds;        /* until the last item was done */
    double ideal_s;        /* if no worker had ever waited and nothing had been lost */
    double received, sent; /* messages at rank 0 */
    double busy_s;         /* of rank 0 */
    double own_s;          /* of it, in the coordinator's code */
    double longest_wait_s; /* of a message at rank 0 */
    double idle_s;         /* of a worker between two micro-batches, the mean */
    int64_t drawn, twice;  /* items drawn, and of them for nothing */
    int deaths;
    cluster_counts counts;
} cluster_forecast;

/* Local. */
MD_MUST md_status cluster_simulate(const cluster_scenario *s, cluster_forecast *out);

#ifdef __cplusplus
}
#endif
#endif
