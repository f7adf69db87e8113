/* cluster_run over real MPI. Modes: plain (default); kill RANK: that worker kills itself with
   SIGKILL in the middle of its second lease; usr1 RANK / term RANK: that rank gets the signal
   midway; signal FILE: runs long and creates FILE once work is under way, for a script that
   signals; agree RANKS: those ranks fail. The last line of rank 0 says how it ended. */
#include "base/clock.h"
#include "check.h"
#include "cluster/cluster.h"
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ITEMS = 150 };

typedef struct test_state {
    int rank, run, batches;
    const char *mode, *file;
    int victim;
    double item_s;
    int judged[ITEMS]; /* results per item, rank 0 */
    int failed[ITEMS];
} test_state;

static void sleep_s(double s)
{
    struct timespec t = {0, (long)(s * 1e9)};
    (void)nanosleep(&t, NULL);
}

static bool is(const test_state *t, const char *mode)
{
    return strcmp(t->mode, mode) == 0;
}

static md_status on_lease(void *user, cluster_batch *b)
{
    test_state *t = user;
    t->batches++;
    for (int i = 0; i < cluster_batch_size(b); i++) {
        cluster_item item = cluster_batch_item(b, i);
        sleep_s(t->item_s);
        if (t->rank == t->victim && t->run == 1 && t->batches == 4) {
            if (is(t, "kill"))
                (void)raise(SIGKILL);
            if (is(t, "usr1"))
                (void)raise(SIGUSR1);
            if (is(t, "term"))
                (void)raise(SIGTERM);
        }
        MD_TRY(cluster_beat(b));
        if (item.id == 1077) /* the last of a batch, too: nobody can do this one */
            MD_FAIL(MD_NONFINITE, "item %lld is not finite", (long long)item.id);
        int64_t payload[2] = {item.id, item.attempt};
        MD_TRY(cluster_reply_ok(b, i, payload, sizeof payload));
    }
    return MD_OK;
}

static md_status on_result(void *user, const cluster_result *r, cluster_verdict *verdict)
{
    test_state *t = user;
    int64_t payload[2];
    ok(r->size == sizeof payload);
    memcpy(payload, r->payload, sizeof payload);
    ok(payload[0] == r->id && payload[1] == r->attempt && r->id >= 1000 && r->id < 1000 + ITEMS);
    ok(t->judged[r->id - 1000]++ == (int)r->attempt);
    *verdict = r->id % 5 == 0 && r->attempt < 2 ? CLUSTER_REDRAW : CLUSTER_ACCEPT;
    if (t->file && r->id == 1000) {
        FILE *f = fopen(t->file, "w");
        ok(f != NULL && fclose(f) == 0);
    }
    return MD_OK;
}

static md_status on_failed(void *user, cluster_item item, md_status status, const char *text)
{
    test_state *t = user;
    ok(status == MD_NONFINITE && strstr(text, "item 1077 is not finite"));
    t->failed[item.id - 1000]++;
    return MD_OK;
}

static md_status one_run(test_state *t, cluster_counts *counts)
{
    static cluster_item items[ITEMS];
    for (int i = 0; i < ITEMS; i++)
        items[i] = (cluster_item){1000 + i, 0};
    memset(t->judged, 0, sizeof t->judged);
    memset(t->failed, 0, sizeof t->failed);
    t->batches = 0;
    cluster_work work = {.name = "numbers",
                         .user = t,
                         .items = t->rank == 0 ? items : NULL,
                         .n_items = t->rank == 0 ? ITEMS : 0,
                         .on_result = on_result,
                         .on_failed = on_failed,
                         .worker = t,
                         .on_lease = on_lease,
                         .lease_items = 6,
                         .batch = 2,
                         .silent_s = is(t, "kill") && t->run == 2 ? 25 : 2};
    if (comm_size(comm_world()) == 1)
        work.items = items, work.n_items = ITEMS;
    return cluster_run(&work, counts);
}

static void check_complete(const test_state *t, const cluster_counts *c)
{
    for (int i = 0; i < ITEMS; i++) {
        ok(t->failed[i] == (i == 77)); /* its neighbour in the batch fails with it, then alone */
        ok(t->judged[i] == (i == 77 ? 0 : i % 5 == 0 ? 3 : 1));
    }
    ok(c->accepted == ITEMS - 1 && c->failed == 1 && c->redraws == 2 * ITEMS / 5);
    ok(c->workers == (comm_size(comm_world()) > 1 ? comm_size(comm_world()) - 1 : 1));
}

static int fail_as_asked(const char *ranks)
{
    char me[16];
    (void)snprintf(me, sizeof me, "%d", comm_rank(comm_world()));
    md_status status = MD_OK;
    if (strstr(ranks, me))
        status = md_fail(MD_BAD_INPUT, __FILE__, __LINE__, "rank %s cannot read its file", me);
    status = comm_agree(comm_world(), status);
    if (status != MD_OK && status != MD_PEER) /* what jobs/main does */
        (void)fprintf(stderr, "ERROR %s\n", md_status_text());
    must(comm_finalize());
    return md_status_exit_code(comm_cause(status));
}

/* As jobs/main ends: without finalize when somebody is gone or a quick end was asked for. */
static int leave(void)
{
    (void)fflush(stdout);
    if (comm_lost_peer() || cluster_stop_requested() == CLUSTER_STOP_NOW)
        _exit(0);
    must(comm_finalize());
    return 0;
}

int main(int argc, char **argv)
{
    must(comm_init(&argc, &argv));
    must(cluster_signals_install());
    comm *world = comm_world();
    test_state t = {.rank = comm_rank(world),
                    .mode = argc > 1 ? argv[1] : "plain",
                    .victim = argc > 2 ? atoi(argv[2]) : -1,
                    .item_s = 0.002};
    cluster_counts counts = {0};
    comm_set_timeout(30);
    if (is(&t, "agree"))
        return fail_as_asked(argv[2]);
    if (is(&t, "signal")) {
        t.file = argv[2];
        t.item_s = 0.05;
    }
    for (t.run = 0; t.run < 3; t.run++) {
        md_status status = one_run(&t, &counts);
        if (status != MD_OK) {
            ok(status == MD_STOPPED && cluster_stop_requested() != CLUSTER_GO);
            (void)printf("rank %d: stopped in run %d, %lld accepted\n", t.rank, t.run,
                         (long long)counts.accepted);
            return leave();
        }
        if (t.rank == 0)
            check_complete(&t, &counts);
        ok(t.rank != 0 || counts.seconds < 20); /* a dead worker is waited for once */
        must(comm_barrier(world, 30));          /* goes on without the dead one */
    }
    if (t.rank == 0)
        (void)printf("rank 0: all items done, %d of %d workers lost\n", counts.lost_workers,
                     counts.workers);
    return leave();
}
