/* The worker's side: ask, draw micro-batches, report, until told that the run is over. */
#include "cluster/cluster_internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cluster_worker {
    const cluster_work *work;
    const cluster_link *link;
    uint32_t run;
    int coordinator;
    cluster_msg_lease lease; /* entries from `next` on are still to do */
    int next;
    uint32_t last_lease;
    bool ended;
    cluster_msg_end end;
    cluster_stop told; /* the stop request the coordinator knows of */
    double heard, beat_at, ask_at;
    comm_writer writer;
};

struct cluster_batch {
    cluster_worker *w;
    int n;
    const cluster_entry *entry;
    cluster_msg_result *reply; /* [n], payloads owned */
    bool *replied;
};

static double now(cluster_worker *w)
{
    return w->link->now(w->link->self);
}

static int batch_max(const cluster_worker *w)
{
    return w->work->batch > 0 ? w->work->batch : 1;
}

md_status cluster__worker_new(const cluster_work *work, const cluster_link *link, uint32_t run,
                              int coordinator, cluster_worker **out)
{
    if (!work->on_lease || work->batch < 0 || work->batch > CLUSTER_LEASE_MAX)
        MD_FAIL(MD_INTERNAL, "%s: a micro-batch of %d, or no on_lease", work->name, work->batch);
    cluster_worker *w = calloc(1, sizeof *w);
    if (!w)
        MD_FAIL(MD_NOMEM, "worker of %s", work->name);
    w->work = work;
    w->link = link;
    w->run = run;
    w->coordinator = coordinator;
    w->heard = now(w);
    *out = w;
    return MD_OK;
}

void cluster__worker_free(cluster_worker *w)
{
    if (!w)
        return;
    comm_writer_free(&w->writer);
    free(w);
}

static md_status send(cluster_worker *w)
{
    MD_TRY(comm_frame_end(&w->writer));
    return w->link->send(w->link->self, w->coordinator, w->writer.data, w->writer.size);
}

static md_status send_beat(cluster_worker *w, bool wants_lease)
{
    cluster_msg_beat m = {wants_lease, w->last_lease, w->link->stop(w->link->self)};
    cluster__put_beat(&w->writer, w->run, &m);
    MD_TRY(send(w));
    w->told = m.stop;
    w->beat_at = now(w) + CLUSTER_BEAT_S;
    return MD_OK;
}

static md_status handle(cluster_worker *w, const uint8_t *data, size_t bytes)
{
    comm_frame f;
    cluster_msg_beat beat;
    MD_TRY(comm_frame_open(data, bytes, &f));
    w->heard = now(w);
    if (f.run != w->run)
        return MD_OK; /* of an earlier run that this worker has left */
    switch (f.type) {
    case CLUSTER_MSG_BEAT:
        return cluster__get_beat(&f, &beat);
    case CLUSTER_MSG_END:
        MD_TRY(cluster__get_end(&f, &w->end));
        w->link->mark_lost(w->link->self, -1, w->end.peer_lost);
        w->ended = true;
        return MD_OK;
    case CLUSTER_MSG_LEASE:
        /* Only when the coordinator gave the last one up; then that one is not worth finishing. */
        MD_TRY(cluster__get_lease(&f, &w->lease));
        w->next = 0;
        w->last_lease = w->lease.lease;
        return MD_OK;
    default:
        MD_FAIL(MD_COMM, "a worker got a message of type %u", f.type);
    }
}

static md_status receive_all(cluster_worker *w, double wait_s)
{
    for (;;) {
        const uint8_t *data;
        size_t bytes;
        int from;
        MD_TRY(w->link->receive(w->link->self, wait_s, &from, &data, &bytes));
        if (bytes == 0)
            return MD_OK;
        if (from == w->coordinator)
            MD_TRY(handle(w, data, bytes));
        wait_s = 0;
    }
}

/* ---- what on_lease sees */

int cluster_batch_size(const cluster_batch *b)
{
    return b->n;
}

cluster_item cluster_batch_item(const cluster_batch *b, int index)
{
    return b->entry[index].item;
}

static md_status check_index(const cluster_batch *b, int index)
{
    if (index < 0 || index >= b->n)
        MD_FAIL(MD_INTERNAL, "reply for item %d of a batch of %d", index, b->n);
    return MD_OK;
}

md_status cluster_reply_ok(cluster_batch *b, int index, const void *payload, size_t size)
{
    MD_TRY(check_index(b, index));
    if (size > CLUSTER_PAYLOAD_MAX)
        MD_FAIL(MD_INTERNAL, "result of %zu bytes, at most %zu", size, CLUSTER_PAYLOAD_MAX);
    uint8_t *copy = malloc(size + 1);
    if (!copy)
        MD_FAIL(MD_NOMEM, "result of %zu bytes", size);
    if (size)
        memcpy(copy, payload, size);
    cluster_msg_result *r = &b->reply[index];
    free((void *)r->payload);
    r->payload = copy;
    r->size = size;
    r->status = MD_OK;
    r->text[0] = '\0';
    b->replied[index] = true;
    return MD_OK;
}

md_status cluster_reply_fail(cluster_batch *b, int index, md_status status)
{
    MD_TRY(check_index(b, index));
    cluster_msg_result *r = &b->reply[index];
    free((void *)r->payload);
    r->payload = NULL;
    r->size = 0;
    r->status = status == MD_OK ? MD_INTERNAL : status;
    (void)snprintf(r->text, sizeof r->text, "%.*s", CLUSTER_TEXT_MAX, md_status_text());
    b->replied[index] = true;
    return MD_OK;
}

md_status cluster_beat_of(void *batch)
{
    return cluster_beat(batch);
}

md_status cluster_beat(cluster_batch *b)
{
    cluster_worker *w = b->w;
    cluster_stop stop = w->link->stop(w->link->self);
    if (stop == CLUSTER_STOP_NOW)
        MD_FAIL(MD_STOPPED, "%s: stopped by a signal", w->work->name);
    if (now(w) < w->beat_at && stop == w->told)
        return MD_OK;
    uint32_t lease = w->last_lease;
    MD_TRY(send_beat(w, false));
    MD_TRY(receive_all(w, 0));
    if (w->ended && w->end.how != CLUSTER_END_ORDERLY)
        MD_FAIL(MD_STOPPED, "%s: the run is over", w->work->name);
    if (w->last_lease != lease)
        MD_FAIL(MD_STOPPED, "%s: the lease was given to another worker", w->work->name);
    return MD_OK;
}

/* ---- stepping */

static void free_batch(cluster_batch *b)
{
    for (int i = 0; b->reply && i < b->n; i++)
        free((void *)b->reply[i].payload);
    free(b->reply);
    free(b->replied);
    free((void *)b->entry);
}

static md_status report(cluster_worker *w, cluster_batch *b)
{
    cluster__put_results(&w->writer, w->run, b->n);
    for (int i = 0; i < b->n; i++)
        cluster__put_result(&w->writer, &b->reply[i]);
    MD_TRY(send(w));
    w->beat_at = now(w) + CLUSTER_BEAT_S;
    return MD_OK;
}

static md_status run_batch(cluster_worker *w)
{
    int n = w->lease.n - w->next < batch_max(w) ? w->lease.n - w->next : batch_max(w);
    /* Copied: a new lease may arrive while the batch runs. */
    cluster_entry *entry = malloc((size_t)n * sizeof *entry);
    cluster_batch b = {w, n, entry, calloc((size_t)n, sizeof *b.reply),
                       calloc((size_t)n, sizeof *b.replied)};
    if (!entry || !b.reply || !b.replied) {
        free_batch(&b);
        MD_FAIL(MD_NOMEM, "a batch of %d items", n);
    }
    uint32_t lease = w->last_lease;
    memcpy(entry, w->lease.entry + w->next, (size_t)n * sizeof *entry);
    w->next += n;
    for (int i = 0; i < n; i++)
        b.reply[i].entry = entry[i];
    md_status_clear();
    md_status status = w->work->on_lease(w->work->worker, &b);
    bool dropped = status == MD_STOPPED && (w->last_lease != lease || w->ended ||
                                            w->link->stop(w->link->self) != CLUSTER_GO);
    for (int i = 0; i < n && !dropped; i++) {
        if (b.replied[i])
            continue;
        if (status == MD_OK)
            status = md_fail(MD_INTERNAL, __FILE__, __LINE__, "no reply for item %lld",
                             (long long)entry[i].item.id);
        md_status put = cluster_reply_fail(&b, i, status);
        if (put != MD_OK) {
            free_batch(&b);
            return put;
        }
    }
    md_status sent = dropped ? MD_OK : report(w, &b);
    free_batch(&b);
    return sent;
}

static md_status leave(cluster_worker *w, bool *done)
{
    cluster__put_bye(&w->writer, w->run);
    MD_TRY(send(w));
    *done = true;
    switch (w->end.how) {
    case CLUSTER_END_DONE:
        return MD_OK;
    case CLUSTER_END_ORDERLY:
        MD_FAIL(MD_STOPPED, "%s: stopped orderly", w->work->name);
    case CLUSTER_END_NOW:
        MD_FAIL(MD_STOPPED, "%s: stopped", w->work->name);
    case CLUSTER_END_FAILED:
        break;
    }
    MD_FAIL(MD_PEER, "%s: rank %d: %s", w->work->name, w->coordinator, w->end.text);
}

md_status cluster__worker_step(cluster_worker *w, double wait_s, bool *done)
{
    *done = false;
    bool busy = w->next < w->lease.n;
    MD_TRY(receive_all(w, busy || w->ended ? 0 : wait_s));
    if (w->ended)
        return leave(w, done);
    cluster_stop stop = w->link->stop(w->link->self);
    if (stop != w->told)
        MD_TRY(send_beat(w, false));
    if (stop == CLUSTER_STOP_NOW) {
        *done = true;
        MD_FAIL(MD_STOPPED, "%s: stopped by a signal", w->work->name);
    }
    busy = w->next < w->lease.n && stop == CLUSTER_GO;
    if (busy) {
        if (now(w) >= w->beat_at)
            MD_TRY(send_beat(w, false));
        MD_TRY(run_batch(w));
        w->ask_at = 0;
        w->heard = now(w); /* it was this side that did not listen */
        return MD_OK;
    }
    if (now(w) >= w->ask_at) {
        MD_TRY(send_beat(w, stop == CLUSTER_GO));
        w->ask_at = now(w) + CLUSTER_ASK_S;
    }
    if (now(w) - w->heard > 4 * cluster__silence(w->work)) {
        w->link->mark_lost(w->link->self, w->coordinator, true);
        *done = true;
        MD_FAIL(MD_COMM, "%s: the coordinator has been silent for %.0f s", w->work->name,
                now(w) - w->heard);
    }
    return MD_OK;
}
