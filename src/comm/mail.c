/* Messages between two ranks, and the polling wait that everything here uses. */
#include "base/clock.h"
#include "base/watch.h"
#include "comm/comm_internal.h"
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define PAUSE_FIRST_S 0.0001
#define PAUSE_LAST_S  0.003
#define AWAY_S        5 /* no pause and nothing between two of them takes so long */

static double default_timeout_s = COMM_TIMEOUT_S;
static bool (*interrupt_hook)(void);

void comm_set_timeout(double seconds)
{
    default_timeout_s = seconds > 0 ? seconds : COMM_TIMEOUT_S;
}

void comm_set_interrupt(bool (*stop_now)(void))
{
    interrupt_hook = stop_now;
}

bool comm__interrupted(void)
{
    return interrupt_hook && interrupt_hook();
}

double comm_timeout(void)
{
    return default_timeout_s;
}

comm__wait comm__wait_begin(double timeout_s, int yields)
{
    double seconds = timeout_s > 0 ? timeout_s : default_timeout_s;
    double now = md_now();
    return (comm__wait){now + seconds, PAUSE_FIRST_S, now, yields};
}

md_status comm__pause(comm__wait *w, const char *what)
{
    if (comm__interrupted())
        MD_FAIL(MD_STOPPED, "%s: stopped by a signal", what);
    md_watch(what); /* a wait has a deadline of its own */
    double now = md_now(), away = now - w->looked_at;
    w->looked_at = now;
    if (away > AWAY_S) /* stopped and continued, as by a scheduler that suspends jobs: so were the
                          others */
        w->deadline += away;
    double left = w->deadline - now;
    if (left <= 0)
        MD_FAIL(MD_COMM, "%s: no answer in time", what);
    if (w->yields > 0) {
        w->yields--;
        (void)sched_yield();
        return MD_OK;
    }
    md_sleep(w->pause_s < left ? w->pause_s : left); /* cut short: only a poll too early */
    w->pause_s *= 1.3;
    if (w->pause_s > PAUSE_LAST_S)
        w->pause_s = PAUSE_LAST_S;
    return MD_OK;
}

md_status comm__progress(comm *c)
{
    comm_outgoing **link = &c->outgoing;
    while (*link) {
        comm_outgoing *o = *link;
        int done = 0;
        MPI_TRY(MPI_Test(&o->request, &done, MPI_STATUS_IGNORE));
        if (done) {
            *link = o->next;
            c->pending[o->to]--;
            free(o);
        } else {
            link = &o->next;
        }
    }
    return MD_OK;
}

md_status comm__send(comm *c, int to, int tag, const void *data, size_t bytes)
{
    if (to < 0 || to >= c->size)
        MD_FAIL(MD_INTERNAL, "send to rank %d of %d", to, c->size);
    if (bytes == 0 || bytes > COMM_MESSAGE_MAX)
        MD_FAIL(MD_COMM, "send to rank %d: %zu bytes, 1 to %zu are allowed", to, bytes,
                COMM_MESSAGE_MAX);
    comm_outgoing *o = malloc(sizeof *o + bytes);
    if (!o)
        MD_FAIL(MD_NOMEM, "send to rank %d: %zu bytes", to, bytes);
    o->to = to;
    o->next = NULL;
    memcpy(o->data, data, bytes);
    int error =
        MPI_Isend(o->data, (int)bytes, MPI_BYTE, c->at[to], c->tag + tag, c->mpi, &o->request);
    if (error != MPI_SUCCESS) {
        free(o);
        return comm__mpi_fail(error, "MPI_Isend", __FILE__, __LINE__);
    }
    comm_outgoing **last = &c->outgoing;
    while (*last)
        last = &(*last)->next;
    *last = o;
    c->pending[to]++;
    return comm__progress(c);
}

/* Waits for a receive already matched to bytes that were announced: short, but a peer may die
   between the announcement and the last byte. */
static md_status finish_receive(MPI_Request *request, int from)
{
    comm__wait w = comm__wait_begin(0, 200);
    for (;;) {
        int done = 0;
        MPI_TRY(MPI_Test(request, &done, MPI_STATUS_IGNORE));
        if (done)
            return MD_OK;
        md_status status = comm__pause(&w, "receiving a message");
        if (status != MD_OK) {
            comm__note_lost(); /* the buffer stays with MPI */
            return md_context(status, "rank %d", from);
        }
    }
}

md_status comm__take(comm *c, int source, int tag, int *from, const uint8_t **data, size_t *bytes)
{
    int there = 0, n = 0;
    MPI_Message message;
    MPI_Status info;
    *bytes = 0;
    MD_TRY(comm__progress(c));
    MPI_TRY(MPI_Improbe(source == MPI_ANY_SOURCE ? source : c->at[source], c->tag + tag, c->mpi,
                        &there, &message, &info));
    if (!there)
        return MD_OK;
    source = c->index[info.MPI_SOURCE];
    MPI_TRY(MPI_Get_count(&info, MPI_BYTE, &n));
    if (source < 0 || n <= 0 || (size_t)n > COMM_MESSAGE_MAX)
        MD_FAIL(MD_COMM,
                "a message of %d bytes from rank %d of the job, 1 to %zu are allowed, and from "
                "this group",
                n, info.MPI_SOURCE, COMM_MESSAGE_MAX);
    if ((size_t)n > c->received_capacity) {
        uint8_t *grown = realloc(c->received, (size_t)n);
        if (!grown)
            MD_FAIL(MD_NOMEM, "a message of %d bytes", n);
        c->received = grown;
        c->received_capacity = (size_t)n;
    }
    MPI_Request request;
    MPI_TRY(MPI_Imrecv(c->received, n, MPI_BYTE, &message, &request));
    md_status status = finish_receive(&request, source);
    if (status != MD_OK) {
        c->received = NULL; /* MPI may still write there */
        c->received_capacity = 0;
        return md_frame(status, __FILE__, __LINE__);
    }
    *from = source;
    *data = c->received;
    *bytes = (size_t)n;
    return MD_OK;
}

md_status comm_send(comm *c, int to, const void *data, size_t bytes)
{
    return comm__send(c, to, COMM_TAG_MAIL, data, bytes);
}

int comm_pending(comm *c, int to)
{
    return to >= 0 && to < c->size ? c->pending[to] : 0;
}

md_status comm_receive(comm *c, double wait_s, int *from, const uint8_t **data, size_t *bytes)
{
    double deadline = md_now() + wait_s;
    comm__wait w = comm__wait_begin(wait_s > 0 ? wait_s + 1 : 1, 0);
    for (;;) {
        MD_TRY(comm__take(c, MPI_ANY_SOURCE, COMM_TAG_MAIL, from, data, bytes));
        if (*bytes > 0 || md_now() >= deadline || comm__interrupted())
            return MD_OK; /* whoever polls looks at the signals itself */
        MD_TRY(comm__pause(&w, "waiting for a message"));
    }
}

md_status comm_flush(comm *c, double timeout_s)
{
    comm__wait w = comm__wait_begin(timeout_s, 50);
    for (;;) {
        MD_TRY(comm__progress(c));
        bool waiting = false;
        for (const comm_outgoing *o = c->outgoing; o; o = o->next)
            waiting = waiting || !c->lost[o->to];
        if (!waiting)
            return MD_OK;
        MD_TRY(comm__pause(&w, "flushing messages"));
    }
}
