/* cluster_side_by_side over real MPI, with 3 ranks or more. Modes: plain (default); fail RANK: that
   rank's task fails; usr1 RANK: that rank gets the signal in its task (0: while it waits); silent
   RANK: that rank, the first of its group, says nothing for too long. */
#include "base/clock.h"
#include "base/log.h"
#include "check.h"
#include "cluster/cluster.h"
#include "cluster/groups.h"
#include <math.h>
#include <signal.h>
#include <string.h>

enum { ROWS = 60, TASKS = 2 };

typedef struct part {
    int number, first, workers, calls;
    const char *mode;
    int victim;
} part;

static int rank, next_row[TASKS], share[TASKS];

static md_status on_row(void *user, const char *row)
{
    int task, i;
    char end;
    ok(user == next_row && rank == 0 && sscanf(row, "row %d of task %d%c", &i, &task, &end) == 2);
    ok(next_row[task]++ == i); /* whole, and in order */
    return MD_OK;
}

static md_status on_lease(void *user, cluster_batch *b)
{
    (void)user;
    for (int i = 0; i < cluster_batch_size(b); i++)
        MD_TRY(cluster_reply_ok(b, i, NULL, 0));
    return MD_OK;
}

static md_status on_result(void *user, const cluster_result *r, cluster_verdict *verdict)
{
    (void)r;
    ++*(int *)user;
    *verdict = CLUSTER_ACCEPT;
    return MD_OK;
}

static md_status lease_some(int n, bool leads)
{
    cluster_item items[8];
    int results = 0;
    for (int i = 0; i < n; i++)
        items[i] = (cluster_item){i, 0};
    cluster_work work = {.name = "a few",
                         .user = &results,
                         .items = leads ? items : NULL,
                         .n_items = leads ? n : 0,
                         .on_result = on_result,
                         .on_lease = on_lease,
                         .silent_s = 5};
    MD_TRY(cluster_run(&work, NULL));
    ok(!leads || results == n);
    return MD_OK;
}

/* A group is a world of its own, in which sums, agreements and leases stay. */
static md_status look_around(const part *p)
{
    comm *c = comm_world();
    int me = comm_rank(c);
    ok(c == comm_workers() && comm_size(c) == p->workers && me == rank - p->first);
    ok(comm_outer() && comm_rank(comm_outer()) == rank && cluster_in_group());
    ok(comm_node_index() == rank - 1 && comm_node_workers() == comm_size(comm_outer()) - 1);
    ok(comm_enter(0) == MD_INTERNAL); /* one level */
    comm_reducer *r;
    must(comm_reducer_new(c, &r));
    float x[2] = {(float)rank, 1};
    must(comm_allreduce_f32(r, x, 2, 20));
    float sum = 0;
    for (int i = 0; i < p->workers; i++)
        sum += (float)(p->first + i);
    ok(x[0] == sum && x[1] == (float)p->workers);
    comm_reducer_free(r);
    md_status s = comm_agree(
        c, me == p->workers - 1 ? md_fail(MD_IO, __FILE__, __LINE__, "mine %d", p->number) : MD_OK);
    ok(s == (me == p->workers - 1 ? MD_IO : MD_PEER) &&
       md_status_text()[strlen(md_status_text()) - 1] == '0' + p->number);
    for (int i = 0; i < 1 + 2 * p->number; i++) /* not as often in each */
        must(lease_some(5, me == 0));
    return MD_OK;
}

static md_status run(void *user)
{
    part *p = user;
    bool me = rank == p->victim, plain = strcmp(p->mode, "plain") == 0;
    p->calls++;
    if (plain)
        MD_TRY(look_around(p));
    for (int i = 0; i < ROWS && comm_rank(comm_world()) == 0 && plain; i++) {
        char row[64];
        (void)snprintf(row, sizeof row, "row %d of task %d", i, p->number);
        MD_TRY(cluster_send_row(row));
        if (i % 20 == 0)
            md_info("test", "task %d is at row %d", p->number, i);
    }
    if (plain && p->number == 1) /* longer than the others' timeout */
        md_sleep(3);
    if (plain)
        return MD_OK;
    if (me && strcmp(p->mode, "silent") == 0)
        md_sleep(2.5);
    if (me && strcmp(p->mode, "usr1") == 0)
        ok(raise(SIGUSR1) == 0);
    /* as a training: a step, then all of the group together look for a reason to end */
    for (double end = md_now() + 20; md_now() < end;) {
        float want = (me && strcmp(p->mode, "fail") == 0) ? 2
                     : cluster_stop_requested()           ? 1
                                                          : 0,
              all[64];
        md_sleep(0.01);
        MD_TRY(comm_gather(comm_world(), 0, &want, sizeof want, all, 10));
        for (int i = 0; i < comm_size(comm_world()) && comm_rank(comm_world()) == 0; i++)
            want = fmaxf(want, all[i]);
        MD_TRY(comm_broadcast(comm_world(), 0, &want, sizeof want, 10));
        if (want == 2)
            return comm_agree(comm_world(),
                              me ? md_fail(MD_NONFINITE, __FILE__, __LINE__, "no number") : MD_OK);
        if (want == 1)
            MD_FAIL(MD_STOPPED, "stopped after a step");
    }
    MD_FAIL(MD_INTERNAL, "nobody asked task %d to stop", p->number);
}

/* As jobs/main ends. */
static int leave(const char *how)
{
    (void)printf("rank %d: %s\n", rank, how);
    (void)fflush(stdout);
    if (comm_lost_peer() || cluster_stop_requested() == CLUSTER_STOP_NOW)
        _Exit(0);
    must(comm_finalize());
    return 0;
}

int main(int argc, char **argv)
{
    must(comm_init(&argc, &argv));
    must(cluster_signals_install());
    comm *world = comm_world();
    rank = comm_rank(world);
    const char *mode = argc > 1 ? argv[1] : "plain";
    int victim = argc > 2 ? atoi(argv[2]) : -1, first = 1;
    part parts[TASKS];
    cluster_task tasks[TASKS];
    must(md_log_open(rank, comm_size(world), NULL));
    comm_set_timeout(2);
    cluster_share(comm_size(world) - 1, TASKS, share);
    ok(share[0] + share[1] == comm_size(world) - 1 && share[0] - share[1] <= 1 && share[1] >= 1);
    for (int k = 0; k < TASKS; k++) {
        parts[k] = (part){k, first, share[k], 0, mode, victim};
        tasks[k] = (cluster_task){k ? "the second" : "the first", share[k], run, &parts[k]};
        first += share[k];
    }
    cluster_groups g = {.task = tasks, .n = TASKS, .on_row = on_row, .user = next_row};
    g.silent_s = strcmp(mode, "silent") == 0 ? 1 : 60;
    if (rank == 0 && victim == 0)
        ok(raise(SIGUSR1) == 0);
    ok(cluster_send_row("outside") == MD_INTERNAL);
    md_status status = cluster_side_by_side(&g);
    ok(!cluster_in_group() && comm_world() == world);
    if (strcmp(mode, "plain") != 0) {
        ok(status != MD_OK);
        return leave(status == MD_STOPPED ? "stopped"
                     : status == MD_PEER  ? "peer"
                                          : md_status_text());
    }
    must(status);
    for (int k = 0; k < TASKS; k++) {
        bool mine = rank >= parts[k].first && rank < parts[k].first + parts[k].workers;
        ok(parts[k].calls == mine && next_row[k] == (rank == 0 ? ROWS : 0));
    }
    ok((rank == 0) == (comm_workers() == NULL));
    must(lease_some(7, rank == 0)); /* in step again */
    memset(next_row, 0, sizeof next_row);
    must(cluster_side_by_side(&g)); /* and once more */
    must(comm_barrier(world, 10));
    tasks[0].workers++;
    ok(cluster_side_by_side(&g) == MD_INTERNAL);
    return leave("all well");
}
