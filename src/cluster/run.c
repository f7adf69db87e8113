/* cluster_run: the machines of coordinator.c and worker.c over MPI, or both in one process. */
#include "base/clock.h"
#include "base/log.h"
#include "cluster/cluster_internal.h"
#include "comm/comm.h"
#include <stdlib.h>
#include <string.h>

uint32_t cluster__runs;

/* Half of what others wait for rank 0 at most: it may have to wait so long for a worker. */
double cluster__silence(const cluster_work *work)
{
    static const double SILENT_S = 120;
    double most = comm_timeout() / 2;
    return work->silent_s > 0 ? work->silent_s : most < SILENT_S ? most : SILENT_S;
}

static double clock_now(void *self)
{
    (void)self;
    return md_now();
}

static cluster_stop signal_stop(void *self)
{
    (void)self;
    return cluster_stop_requested();
}

/* ---- over MPI: self is the world */

static md_status mpi_send(void *self, int to, const void *data, size_t bytes)
{
    return comm_send(self, to, data, bytes);
}

static md_status mpi_receive(void *self, double wait_s, int *from, const uint8_t **data,
                             size_t *bytes)
{
    return comm_receive(self, wait_s, from, data, bytes);
}

static int mpi_pending(void *self, int to)
{
    return comm_pending(self, to);
}

static void mpi_mark_lost(void *self, int rank, bool lost)
{
    char who[COMM_WHO];
    if (rank >= 0 && lost && !comm_is_lost(self, rank))
        md_warn("cluster", "%s is silent%s", comm_who(self, rank, who),
                rank > 0 ? ": others do its work" : "");
    else if (rank >= 0 && !lost && comm_is_lost(self, rank))
        md_warn("cluster", "%s is heard of again", comm_who(self, rank, who));
    comm_mark_lost(self, rank, lost);
}

/* ---- within one process: two queues, each side reads its own */

typedef struct letter {
    struct letter *next;
    size_t bytes;
    uint8_t data[];
} letter;

typedef struct loop_side {
    struct loop_side *other;
    letter *first, *last, *reading;
} loop_side;

static md_status loop_send(void *self, int to, const void *data, size_t bytes)
{
    loop_side *other = ((loop_side *)self)->other;
    letter *l = malloc(sizeof *l + bytes);
    (void)to;
    if (!l)
        MD_FAIL(MD_NOMEM, "a message of %zu bytes", bytes);
    l->next = NULL;
    l->bytes = bytes;
    memcpy(l->data, data, bytes);
    if (other->last)
        other->last->next = l;
    else
        other->first = l;
    other->last = l;
    return MD_OK;
}

static md_status loop_receive(void *self, double wait_s, int *from, const uint8_t **data,
                              size_t *bytes)
{
    loop_side *side = self;
    (void)wait_s; /* nothing comes while this side waits */
    *from = 0;
    *bytes = 0;
    free(side->reading);
    side->reading = side->first;
    if (!side->first)
        return MD_OK;
    side->first = side->first->next;
    if (!side->first)
        side->last = NULL;
    *data = side->reading->data;
    *bytes = side->reading->bytes;
    return MD_OK;
}

static int loop_pending(void *self, int to)
{
    (void)self;
    (void)to;
    return 0;
}

static void loop_mark_lost(void *self, int rank, bool lost)
{
    (void)self;
    (void)rank;
    (void)lost;
}

static void loop_free(loop_side *side)
{
    free(side->reading);
    while (side->first) {
        letter *l = side->first;
        side->first = l->next;
        free(l);
    }
}

/* ---- the three ways to run */

static md_status run_alone(const cluster_work *work, cluster_counts *counts)
{
    loop_side head = {0}, hand = {.other = &head};
    head.other = &hand;
    cluster_link to_hand = {&head,          loop_send, loop_receive, loop_pending,
                            loop_mark_lost, clock_now, signal_stop};
    cluster_link to_head = to_hand;
    to_head.self = &hand;
    cluster_coordinator *c = NULL;
    cluster_worker *w = NULL;
    bool head_done = false, hand_done = false;
    md_status status, worker_status = MD_OK;
    MD_TRY_GOTO(cluster__coordinator_new(work, &to_hand, cluster__runs, 0, 1, &c), done);
    MD_TRY_GOTO(cluster__worker_new(work, &to_head, cluster__runs, 0, &w), done);
    while (!head_done) {
        if (!hand_done)
            worker_status = cluster__worker_step(w, 0, &hand_done);
        if (worker_status != MD_OK && worker_status != MD_STOPPED && worker_status != MD_PEER) {
            status = worker_status; /* its own, not an echo of the coordinator's */
            goto done;
        }
        status = cluster__coordinator_step(c, 0, &head_done);
        if (!head_done && !to_hand.stop(NULL) && !head.first && !hand.first)
            md_sleep(1e-3); /* a worker that has to wait a while */
    }
done:
    if (c && counts)
        cluster__coordinator_counts(c, counts);
    cluster__worker_free(w);
    cluster__coordinator_free(c);
    loop_free(&head);
    loop_free(&hand);
    return status;
}

static md_status run_coordinator(const cluster_work *work, const cluster_link *link,
                                 cluster_counts *counts)
{
    cluster_coordinator *c;
    bool done = false;
    md_status status = MD_OK;
    int workers = comm_size(comm_world()) - 1;
    MD_TRY(cluster__coordinator_new(work, link, cluster__runs, 1, workers, &c));
    for (int k = 0; k < workers; k++)
        if (comm_is_lost(comm_world(), 1 + k))
            cluster__coordinator_lost(c, k);
    while (!done)
        status = cluster__coordinator_step(c, 0.02, &done);
    if (counts)
        cluster__coordinator_counts(c, counts);
    cluster__coordinator_free(c);
    return status;
}

static md_status run_worker(const cluster_work *work, const cluster_link *link)
{
    cluster_worker *w;
    bool done = false;
    md_status status = MD_OK;
    MD_TRY(cluster__worker_new(work, link, cluster__runs, 0, &w));
    while (!done && status == MD_OK)
        status = cluster__worker_step(w, 0.02, &done);
    cluster__worker_free(w);
    return status;
}

md_status cluster_run(const cluster_work *work, cluster_counts *counts)
{
    comm *world = comm_world();
    md_status status;
    cluster__runs++;
    if (!world || comm_size(world) == 1) {
        status = run_alone(work, counts);
    } else {
        cluster_link link = {world,         mpi_send,  mpi_receive, mpi_pending,
                             mpi_mark_lost, clock_now, signal_stop};
        status =
            comm_rank(world) == 0 ? run_coordinator(work, &link, counts) : run_worker(work, &link);
    }
    if (status == MD_STOPPED)
        cluster_stop_request(
            CLUSTER_STOP_ORDERLY); /* the job on every rank sees that it was asked */
    return status;
}
