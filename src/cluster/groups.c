/* Rank 0 and the first rank of each group exchange small frames through the whole world, while each
   group's own traffic stays in its own communicator. */
#include "cluster/groups.h"
#include "base/clock.h"
#include "base/log.h"
#include "cluster/cluster_internal.h"
#include "comm/comm.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* The first of a group to rank 0; the last two from rank 0 to everybody. */
enum {
    MESSAGE_LINE = 0x5601,
    MESSAGE_ROW,
    MESSAGE_BEAT,
    MESSAGE_END,
    MESSAGE_STOP,
    MESSAGE_RELEASE /* all tasks have ended */
};
enum { LINE_MAX_BYTES = 8192 };

static double beat_s, beat_at; /* of the first of a group */
static bool released;          /* rank 0 has said that all have ended, or that it no longer waits */

bool cluster_in_group(void)
{
    return comm_outer() != NULL;
}

void cluster_share(int workers, int n, int *out)
{
    for (int i = 0; i < n; i++)
        out[i] = workers / n + (i < workers % n);
}

/* ---- in a group */

static md_status tell(uint16_t type, md_status outcome, const char *text)
{
    comm_writer w = {0};
    comm_frame_begin(&w, type, 0);
    comm_put_u32(&w, (uint32_t)outcome);
    comm_put_text(&w, text, LINE_MAX_BYTES);
    md_status status = comm_frame_end(&w);
    if (status == MD_OK)
        status = comm_send(comm_outer(), 0, w.data, w.size);
    comm_writer_free(&w);
    beat_at = md_now() + beat_s;
    return status;
}

md_status cluster_send_row(const char *row)
{
    if (!cluster_in_group())
        MD_FAIL(MD_INTERNAL, "a row of metrics for rank 0, but this rank is in no group");
    return tell(MESSAGE_ROW, MD_OK, row);
}

static void relay_line(const char *line, size_t n)
{
    (void)n;
    if (tell(MESSAGE_LINE, MD_OK, line) != MD_OK)
        md_warn("cluster", "a line of the log is lost: %s", md_status_text());
}

/* One message of rank 0, if there is one within wait_s. */
static md_status hear_rank0(comm *world, double wait_s, bool *heard)
{
    int from;
    const uint8_t *data;
    size_t bytes;
    comm_frame f;
    MD_TRY(comm_receive(world, wait_s, &from, &data, &bytes));
    *heard = bytes > 0;
    if (!bytes)
        return MD_OK;
    MD_TRY(comm_frame_open(data, bytes, &f));
    released = released || f.type == MESSAGE_RELEASE;
    if (f.type == MESSAGE_STOP)
        cluster_stop_request(comm_get_u32(&f) == CLUSTER_STOP_NOW ? CLUSTER_STOP_NOW
                                                                  : CLUSTER_STOP_ORDERLY);
    return MD_OK;
}

/* What rank 0 wants, and that this rank lives. Called with every look for a stop. */
static md_status listen_to_rank0(void)
{
    bool heard = true;
    while (heard)
        MD_TRY(hear_rank0(comm_outer(), 0, &heard));
    if (comm_rank(comm_world()) == 0 && md_now() >= beat_at)
        MD_TRY(tell(MESSAGE_BEAT, MD_OK, ""));
    return MD_OK;
}

/* The other tasks may take hours more, longer than an agreement waits. */
static md_status wait_for_release(void)
{
    bool heard;
    while (!released) {
        if (cluster_stop_requested() == CLUSTER_STOP_NOW)
            MD_FAIL(MD_STOPPED, "stopped by a signal");
        MD_TRY(hear_rank0(comm_world(), 0.2, &heard));
    }
    return MD_OK;
}

void cluster__group_listen(void)
{
    if (cluster_in_group() && listen_to_rank0() != MD_OK) {
        md_warn("cluster", "%s", md_status_text());
        cluster_stop_request(CLUSTER_STOP_ORDERLY);
    }
}

static double silence(const cluster_groups *g)
{
    return g->silent_s > 0 ? g->silent_s : comm_timeout();
}

/* The group's part: in, the task, and out. */
static md_status work(const cluster_groups *g, int k)
{
    char text[4096] = "";
    const cluster_task *t = &g->task[k];
    bool first = comm_rank(comm_world()) == 0;
    uint32_t runs = cluster__runs; /* the groups' leased runs are their own */
    released = false;
    beat_s = fmin(5, silence(g) / 4);
    if (first)
        md_log_relay(relay_line);
    md_status status = t->run(t->user), told = MD_OK;
    if (status != MD_OK)
        (void)snprintf(text, sizeof text, "%s", md_status_text());
    md_log_relay(NULL);
    if (first || status == MD_COMM) /* the first may be the one that died */
        told = tell(MESSAGE_END, status, "");
    cluster__runs = runs;
    comm_leave();
    if (status == MD_OK && told != MD_OK)
        return md_context(told, "%s", t->name);
    md_status waited = wait_for_release();
    if (status != MD_OK)
        return md_fail(status, __FILE__, __LINE__, "%s: %s", t->name, text);
    return waited;
}

/* ---- rank 0 */

typedef struct desk {
    const cluster_groups *g;
    int leader[CLUSTER_MAX_TASKS]; /* ranks in the world */
    bool ended[CLUSTER_MAX_TASKS];
    double heard[CLUSTER_MAX_TASKS], began;
    cluster_stop told; /* the stop that all were asked for */
} desk;

static md_status tell_all(uint16_t type, cluster_stop how)
{
    comm_writer w = {0};
    comm_frame_begin(&w, type, 0);
    comm_put_u32(&w, (uint32_t)how);
    md_status status = comm_frame_end(&w);
    for (int r = 1; r < comm_size(comm_world()) && status == MD_OK; r++)
        status = comm_send(comm_world(), r, w.data, w.size);
    comm_writer_free(&w);
    return status;
}

static md_status ask_to_stop(desk *d, cluster_stop how)
{
    if (how <= d->told)
        return MD_OK;
    d->told = how;
    return tell_all(MESSAGE_STOP, how);
}

static md_status note_end(desk *d, int k, md_status outcome)
{
    const cluster_task *t = &d->g->task[k];
    d->ended[k] = true;
    if (outcome == MD_OK) {
        md_info("cluster", "%s: done in %.0f s, on %d worker%s", t->name, md_now() - d->began,
                t->workers, t->workers == 1 ? "" : "s");
        return MD_OK;
    }
    if (outcome != MD_STOPPED)
        md_warn("cluster", "%s failed; what goes on beside it is asked to stop orderly", t->name);
    return ask_to_stop(d, CLUSTER_STOP_ORDERLY);
}

static md_status handle(desk *d, int from, const uint8_t *data, size_t bytes)
{
    comm_frame f;
    char text[LINE_MAX_BYTES + 1];
    int k = 0;
    while (k < d->g->n && (from < d->leader[k] || from >= d->leader[k] + d->g->task[k].workers))
        k++;
    MD_TRY(comm_frame_open(data, bytes, &f));
    md_status outcome = (md_status)comm_get_u32(&f);
    comm_get_text(&f, text, sizeof text);
    MD_TRY(comm_frame_done(&f));
    if (k == d->g->n || (from != d->leader[k] && f.type != MESSAGE_END))
        MD_FAIL(MD_COMM, "a message of type %u from rank %d, which leads no task", f.type, from);
    d->heard[k] = md_now();
    switch (f.type) {
    case MESSAGE_LINE:
        md_log_line(text, strlen(text));
        return MD_OK;
    case MESSAGE_ROW:
        return d->g->on_row ? d->g->on_row(d->g->user, text) : MD_OK;
    case MESSAGE_BEAT:
        return MD_OK;
    case MESSAGE_END:
        return d->ended[k] ? MD_OK : note_end(d, k, outcome);
    default:
        MD_FAIL(MD_COMM, "rank %d sent a message of type %u", from, f.type);
    }
}

static md_status check_silence(desk *d)
{
    double limit = silence(d->g);
    for (int k = 0; k < d->g->n; k++)
        if (!d->ended[k] && md_now() - d->heard[k] > limit) {
            comm_mark_lost(comm_world(), d->leader[k], true);
            char who[COMM_WHO];
            MD_FAIL(MD_COMM, "%s: nothing was heard of %s for %.0f s", d->g->task[k].name,
                    comm_who(comm_world(), d->leader[k], who), limit);
        }
    return MD_OK;
}

static md_status watch(desk *d)
{
    for (int left = d->g->n; left > 0;) {
        int from;
        const uint8_t *data;
        size_t bytes;
        MD_TRY(ask_to_stop(d, cluster_stop_requested()));
        if (cluster_stop_requested() == CLUSTER_STOP_NOW)
            MD_FAIL(MD_STOPPED, "stopped by a signal");
        MD_TRY(comm_receive(comm_world(), 0.2, &from, &data, &bytes));
        if (bytes)
            MD_TRY(handle(d, from, data, bytes));
        MD_TRY(check_silence(d));
        left = 0;
        for (int k = 0; k < d->g->n; k++)
            left += !d->ended[k];
    }
    if (d->told != CLUSTER_GO)
        MD_FAIL(MD_STOPPED, "stopped orderly");
    return MD_OK;
}

static md_status lead(const cluster_groups *g)
{
    desk d = {.g = g, .began = md_now()};
    char text[4096] = "";
    int rank = 1;
    for (int k = 0; k < g->n; k++) {
        d.leader[k] = rank;
        d.heard[k] = d.began;
        rank += g->task[k].workers;
        md_info("cluster", "%s: on %d of %d workers, from rank %d on", g->task[k].name,
                g->task[k].workers, comm_size(comm_world()) - 1, d.leader[k]);
    }
    md_status status = watch(&d);
    if (status != MD_OK)
        (void)snprintf(text, sizeof text, "%s", md_status_text());
    md_status told = status == MD_OK ? MD_OK : ask_to_stop(&d, CLUSTER_STOP_ORDERLY);
    if (told == MD_OK)
        told = tell_all(MESSAGE_RELEASE, CLUSTER_GO);
    if (status != MD_OK)
        return md_fail(status, __FILE__, __LINE__, "%s", text);
    return told;
}

md_status cluster_side_by_side(const cluster_groups *g)
{
    int rank = comm_rank(comm_world()), mine = -1, end = 1;
    if (g->n > CLUSTER_MAX_TASKS)
        MD_FAIL(MD_INTERNAL, "%d tasks side by side, at most %d", g->n, CLUSTER_MAX_TASKS);
    for (int k = 0; k < g->n; k++) {
        end += g->task[k].workers;
        if (rank > 0 && mine < 0 && rank < end)
            mine = k;
    }
    if (end != comm_size(comm_world()))
        MD_FAIL(MD_INTERNAL, "%d workers are shared out, %d are there", end - 1,
                comm_size(comm_world()) - 1);
    MD_TRY(comm_enter(mine));
    md_status status = rank == 0 ? lead(g) : work(g, mine);
    return comm_agree(comm_world(), status);
}
