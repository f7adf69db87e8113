/* A cluster in one thread: coordinator and workers as actors with clocks of their own, messages
   that take time. The actor with the smallest clock moves next, so cause precedes effect and a seed
   repeats a run exactly. The code under test is the real one. */
#ifndef MD_TESTS_CLUSTER_SIM_H
#define MD_TESTS_CLUSTER_SIM_H

#include "cluster/cluster_internal.h"

enum { SIM_WORKERS_MAX = 16, SIM_ITEMS_MAX = 512, SIM_ATTEMPTS_MAX = 64 };

typedef struct sim_worker {
    double item_s;   /* virtual seconds per item */
    double death;    /* it stops existing at this time; 0: never */
    double stall_at; /* the first batch after this takes stall_s longer, without a heartbeat; 0:
                        never */
    double stall_s;
    bool bad;   /* fails every item */
    bool beats; /* calls cluster_beat between items */
} sim_worker;

typedef struct sim {
    /* set by the test */
    uint64_t seed;
    int n_workers, n_items;
    sim_worker worker[SIM_WORKERS_MAX];
    int lease_items, batch, max_failures;
    double lease_s, silent_s, latency_s;
    double duplicate;           /* probability that a result message arrives twice */
    int redraw_percent;         /* of (id, attempt) pairs; decided by a hash */
    uint32_t max_attempt;       /* a redraw beyond this is a drop */
    bool poison[SIM_ITEMS_MAX]; /* fails on everybody */
    bool poison_spreads;        /* its whole micro-batch fails with it */
    int flaky_tries;            /* every (id, attempt) fails this often before it succeeds */
    bool killer[SIM_ITEMS_MAX]; /* kills whoever starts it */
    double signal_at;           /* 0: never */
    int signal_rank;
    cluster_stop signal;
    int64_t result_fails_at; /* on_result number that fails; 0: never */

    /* what happened */
    int tries[SIM_ITEMS_MAX][SIM_ATTEMPTS_MAX];
    int results[SIM_ITEMS_MAX][SIM_ATTEMPTS_MAX]; /* on_result calls */
    int ends[SIM_ITEMS_MAX];                      /* accepted + dropped + failed */
    int accepted_by[SIM_ITEMS_MAX];               /* rank, 0: nobody */
    bool failed[SIM_ITEMS_MAX];
    char failed_text[SIM_ITEMS_MAX][256];
    int done_by[SIM_WORKERS_MAX + 1]; /* accepted results per rank */
    int64_t n_results;
    cluster_counts counts;
    md_status status[SIM_WORKERS_MAX + 1]; /* what each side returned */
    bool returned[SIM_WORKERS_MAX + 1];
    char text[SIM_WORKERS_MAX + 1][512];
    double end_s, last_result_s;
} sim;

/* Runs until every living actor has returned or `limit_s` of virtual time has passed. */
void sim_run(sim *s, double limit_s);
/* 0..1, a pure function of its arguments. */
double sim_hash(uint64_t seed, uint64_t a, uint64_t b);

#endif
