/* The coordinator's side: who has what, what came back, who is silent, when it is over. Invariants:
   an item is TODO until its one result counts; `queued` items are in the ring once; `active` counts
   the leases in which an item is still open. */
#include "cluster/cluster_internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAILURES_MAX 8 /* upper bound of max_failures, so that the failers fit */
#define RATE_SAMPLES 32
#define LOST_ASK_S   5.0 /* after this a lease that its worker does not know of was lost */
#define LINGER       2.0 /* silent_s that everybody may be silent before the run is given up */
/* Once nothing is left to lease and somebody waits, an item is given to a second worker when its
   first has been silent for so long (beats come every second), or had it for so many times the mean
   time of a lease: else all wait at the end for one that died, or hangs. */
#define SPARE_SILENT_S (5 * CLUSTER_BEAT_S)
#define SPARE_LEASES   3.0

typedef enum slot_state { TODO, ACCEPTED, DROPPED, FAILED } slot_state;

typedef struct slot {
    uint32_t attempt;
    uint8_t state, failures, active;
    bool queued;
    int32_t failer[FAILURES_MAX]; /* workers that failed it at this attempt */
} slot;

typedef struct peer {
    uint32_t lease; /* id of its last lease, 0 at first */
    int n;          /* entries of it; 0: none held */
    int64_t *index; /* [lease_items] */
    bool *open;     /* [lease_items]: no result yet */
    bool overdue;   /* its open entries were given to others as well */
    bool spared;    /* those that may were, since somebody waits */
    double leased_at, heard, allowance, beat_at, not_before, succeeded_at;
    int streak; /* batches in a row without a success */
    bool waiting, lost, told_end, gone;
} peer;

struct cluster_coordinator {
    const cluster_work *work;
    const cluster_link *link;
    uint32_t run, next_lease;
    int first_worker, n_workers, lease_items, batch, max_failures;
    double lease_s, silent_s;
    slot *slot;    /* [n_items] */
    int64_t *ring; /* [n_items] indices to lease */
    int64_t ring_at, ring_n;
    peer *peer; /* [n_workers] */
    int64_t *lease_index;
    bool *lease_open;     /* what the peers' pointers point into */
    cluster_entry *entry; /* [lease_items] */
    cluster_counts counts;
    double began, tick_at, check_at;
    double lease_mean_s; /* of those that were finished; 0: none yet */
    double sample_time[RATE_SAMPLES];
    int64_t sample_done[RATE_SAMPLES];
    int n_samples;
    bool ending;
    cluster_end how;
    md_status result; /* of the run */
    char text[CLUSTER_TEXT_MAX + 1];
    comm_writer writer;
};

static double now(cluster_coordinator *c)
{
    return c->link->now(c->link->self);
}

static double or_default(double v, double fallback)
{
    return v > 0 ? v : fallback;
}

void cluster__coordinator_free(cluster_coordinator *c)
{
    if (!c)
        return;
    free(c->slot);
    free(c->ring);
    free(c->peer);
    free(c->lease_index);
    free(c->lease_open);
    free(c->entry);
    comm_writer_free(&c->writer);
    free(c);
}

static md_status check_work(const cluster_work *w, int n_workers)
{
    if (n_workers < 1)
        MD_FAIL(MD_INTERNAL, "%s: no workers", w->name);
    if (w->n_items < 0 || (w->n_items > 0 && !w->items) || !w->on_result)
        MD_FAIL(MD_INTERNAL, "%s: no items or no on_result", w->name);
    if (w->batch < 0 || w->lease_items < 0 || w->lease_items > CLUSTER_LEASE_MAX ||
        w->batch > CLUSTER_LEASE_MAX)
        MD_FAIL(MD_INTERNAL, "%s: leases of %d items in batches of %d, at most %d", w->name,
                w->lease_items, w->batch, CLUSTER_LEASE_MAX);
    if (w->max_failures < 0 || w->max_failures > FAILURES_MAX)
        MD_FAIL(MD_INTERNAL, "%s: max_failures %d, at most %d", w->name, w->max_failures,
                FAILURES_MAX);
    return MD_OK;
}

md_status cluster__coordinator_new(const cluster_work *work, const cluster_link *link, uint32_t run,
                                   int first_worker, int n_workers, cluster_coordinator **out)
{
    MD_TRY(check_work(work, n_workers));
    cluster_coordinator *c = calloc(1, sizeof *c);
    if (!c)
        MD_FAIL(MD_NOMEM, "coordinator of %s", work->name);
    c->work = work;
    c->link = link;
    c->run = run;
    c->first_worker = first_worker;
    c->n_workers = n_workers;
    c->batch = work->batch > 0 ? work->batch : 1;
    c->lease_items = work->lease_items > 0 ? work->lease_items : c->batch;
    c->max_failures = work->max_failures > 0 ? work->max_failures : 3;
    c->lease_s = or_default(work->lease_s, 1800);
    c->silent_s = cluster__silence(work);
    size_t n = (size_t)work->n_items, entries = (size_t)n_workers * (size_t)c->lease_items;
    c->slot = calloc(n + 1, sizeof *c->slot);
    c->ring = calloc(n + 1, sizeof *c->ring);
    c->peer = calloc((size_t)n_workers, sizeof *c->peer);
    c->lease_index = calloc(entries, sizeof *c->lease_index);
    c->lease_open = calloc(entries, sizeof *c->lease_open);
    c->entry = calloc((size_t)c->lease_items, sizeof *c->entry);
    if (!c->slot || !c->ring || !c->peer || !c->lease_index || !c->lease_open || !c->entry) {
        cluster__coordinator_free(c);
        MD_FAIL(MD_NOMEM, "coordinator of %s: %lld items", work->name, (long long)work->n_items);
    }
    c->began = now(c);
    c->tick_at = c->began + 1;
    for (int64_t i = 0; i < work->n_items; i++) {
        c->slot[i].attempt = work->items[i].attempt;
        c->slot[i].queued = true;
        c->ring[i] = i;
    }
    c->ring_n = work->n_items;
    for (int k = 0; k < n_workers; k++) {
        c->peer[k].index = c->lease_index + (size_t)k * (size_t)c->lease_items;
        c->peer[k].open = c->lease_open + (size_t)k * (size_t)c->lease_items;
        c->peer[k].heard = c->began;
        c->peer[k].allowance = c->silent_s;
    }
    c->counts.items = work->n_items;
    c->counts.workers = n_workers;
    *out = c;
    return MD_OK;
}

/* ---- the ring of items to lease */

static void ring_push(cluster_coordinator *c, int64_t index)
{
    slot *s = &c->slot[index];
    if (s->queued || s->state != TODO || c->ring_n >= c->work->n_items)
        return;
    s->queued = true;
    c->ring[(c->ring_at + c->ring_n++) % c->work->n_items] = index;
}

/* For items that have waited already, so that the last ones of a run do not start last. */
static void ring_push_front(cluster_coordinator *c, int64_t index)
{
    int64_t n = c->ring_n;
    ring_push(c, index);
    if (c->ring_n == n)
        return;
    c->ring_at = (c->ring_at + c->work->n_items - 1) % c->work->n_items;
    c->ring[c->ring_at] = index;
}

static int64_t ring_pop(cluster_coordinator *c)
{
    int64_t index = c->ring[c->ring_at];
    c->ring_at = (c->ring_at + 1) % c->work->n_items;
    c->ring_n--;
    c->slot[index].queued = false;
    return index;
}

static bool has_failed(const slot *s, int worker)
{
    for (int i = 0; i < s->failures; i++)
        if (s->failer[i] == worker)
            return true;
    return false;
}

/* Worker k failed this item and somebody alive has not. */
static bool avoids(const cluster_coordinator *c, const slot *s, int k)
{
    if (!has_failed(s, k))
        return false;
    for (int other = 0; other < c->n_workers; other++)
        if (other != k && !c->peer[other].lost && !c->peer[other].gone && !has_failed(s, other))
            return true;
    return false;
}

/* Those who have it may be all that it needs to fail for good: an item that kills workers must not
   meet more of them. */
static bool tries_are_out(const cluster_coordinator *c, const slot *s)
{
    return s->active > 0 && s->failures + s->active >= c->max_failures;
}

/* ---- leases */

static int64_t finished(const cluster_coordinator *c)
{
    return c->counts.accepted + c->counts.dropped + c->counts.failed;
}

/* The open entry of peer p for this item is settled, one way or another. */
static void close_entry(cluster_coordinator *c, peer *p, int64_t index)
{
    for (int i = 0; i < p->n; i++)
        if (p->open[i] && p->index[i] == index) {
            p->open[i] = false;
            c->slot[index].active--;
        }
}

static md_status item_failed(cluster_coordinator *c, int64_t index, int worker, md_status status,
                             const char *text)
{
    slot *s = &c->slot[index];
    if (s->state != TODO)
        return MD_OK;
    c->counts.failures++;
    s->failer[s->failures++] = worker;
    if (s->failures < c->max_failures) {
        if (s->active == 0)
            ring_push(c, index);
        return MD_OK;
    }
    s->state = FAILED;
    c->counts.failed++;
    cluster_item item = {c->work->items[index].id, s->attempt};
    return c->work->on_failed ? c->work->on_failed(c->work->user, item, status, text) : MD_OK;
}

/* Takes back what peer k has not finished. When it may have died of it, the micro-batch it was at
   counts as failed, so that an item that kills its worker does not kill them all. */
static md_status release(cluster_coordinator *c, int k, bool died)
{
    peer *p = &c->peer[k];
    int at_work = died ? c->batch : 0, n = p->n;
    char text[160];
    (void)snprintf(text, sizeof text, "rank %d was silent for %.0f s while it worked on this",
                   c->first_worker + k, now(c) - p->heard);
    for (int i = 0; i < n; i++) {
        if (!p->open[i])
            continue;
        int64_t index = p->index[i];
        close_entry(c, p, index);
        if (c->slot[index].state != TODO)
            continue;
        c->counts.released++;
        if (at_work > 0) {
            at_work--;
            MD_TRY(item_failed(c, index, k, MD_PEER, text));
        }
        if (!tries_are_out(c, &c->slot[index]))
            ring_push_front(c, index); /* no-op when that made it FAILED or queued */
    }
    p->n = 0;
    p->overdue = p->spared = false;
    return MD_OK;
}

static md_status send(cluster_coordinator *c, int k)
{
    MD_TRY(comm_frame_end(&c->writer));
    return c->link->send(c->link->self, c->first_worker + k, c->writer.data, c->writer.size);
}

static md_status give_lease(cluster_coordinator *c, int k)
{
    peer *p = &c->peer[k];
    int n = 0;
    int64_t looked_at = c->ring_n;
    while (n < c->lease_items && looked_at-- > 0) {
        int64_t index = ring_pop(c);
        slot *s = &c->slot[index];
        if (s->state != TODO)
            continue;
        if (avoids(c, s, k)) {
            ring_push(c, index);
            continue;
        }
        /* What failed before goes alone: it may have been its neighbour's fault, or its own. */
        if (s->failures > 0 && n > 0) {
            ring_push_front(c, index);
            break;
        }
        p->index[n] = index;
        p->open[n] = true;
        c->entry[n] = (cluster_entry){index, {c->work->items[index].id, s->attempt}};
        s->active++;
        n++;
        if (s->failures > 0)
            break;
    }
    if (n == 0)
        return MD_OK; /* it stays waiting */
    if (++c->next_lease == 0)
        c->next_lease = 1;
    p->lease = c->next_lease;
    p->n = n;
    p->overdue = p->spared = false;
    p->leased_at = now(c);
    p->waiting = false;
    cluster__put_lease(&c->writer, c->run, p->lease, c->entry, n);
    return send(c, k);
}

/* ---- what arrives */

/* A failure outranks a quick stop, that an orderly one; what is done is not stopped any more. */
static void start_ending(cluster_coordinator *c, cluster_end how, md_status result,
                         const char *text)
{
    if (c->ending && (how <= c->how || how == CLUSTER_END_ORDERLY))
        return;
    c->ending = true;
    c->how = how;
    c->result = result;
    (void)snprintf(c->text, sizeof c->text, "%.*s", CLUSTER_TEXT_MAX, text);
    for (int k = 0; k < c->n_workers; k++)
        c->peer[k].told_end = false;
}

static void note_stop(cluster_coordinator *c, cluster_stop stop, int rank)
{
    char text[64];
    if (stop == CLUSTER_GO)
        return;
    (void)snprintf(text, sizeof text, "a signal on rank %d", rank);
    start_ending(c, stop == CLUSTER_STOP_ORDERLY ? CLUSTER_END_ORDERLY : CLUSTER_END_NOW,
                 MD_STOPPED, text);
}

static md_status handle_beat(cluster_coordinator *c, int k, const cluster_msg_beat *m)
{
    peer *p = &c->peer[k];
    note_stop(c, m->stop, c->first_worker + k);
    if (!m->wants_lease)
        return MD_OK;
    if (m->last_lease != p->lease && now(c) - p->leased_at < LOST_ASK_S)
        return MD_OK; /* asked before the lease on its way arrived */
    MD_TRY(release(c, k, false));
    p->waiting = true;
    return MD_OK;
}

static md_status handle_result(cluster_coordinator *c, int k, const cluster_msg_result *m)
{
    peer *p = &c->peer[k];
    int64_t index = m->entry.index;
    if (index < 0 || index >= c->work->n_items || c->work->items[index].id != m->entry.item.id)
        MD_FAIL(MD_COMM, "rank %d reports item %lld at place %lld, which is not in the list",
                c->first_worker + k, (long long)m->entry.item.id, (long long)index);
    slot *s = &c->slot[index];
    bool current = s->state == TODO && s->attempt == m->entry.item.attempt;
    if (current || s->state != TODO) /* else its lease may be for the newer attempt */
        close_entry(c, p, index);
    if (!current) {
        c->counts.duplicates++;
        return MD_OK;
    }
    if (m->status != MD_OK)
        return item_failed(c, index, k, m->status, m->text);
    cluster_verdict verdict = CLUSTER_ACCEPT;
    cluster_result r = {m->entry.item.id, s->attempt, c->first_worker + k, m->payload, m->size};
    MD_TRY(c->work->on_result(c->work->user, &r, &verdict));
    if (verdict == CLUSTER_REDRAW) {
        c->counts.redraws++;
        s->attempt++;
        s->failures = 0;
        for (int other = 0; other < c->n_workers; other++)
            close_entry(c, &c->peer[other], index); /* they draw the old attempt */
        ring_push(c, index);
    } else if (verdict == CLUSTER_DROP) {
        s->state = DROPPED;
        c->counts.dropped++;
    } else {
        s->state = ACCEPTED;
        c->counts.accepted++;
    }
    return MD_OK;
}

/* The mean time of a lease, once p has finished its own. */
static void note_lease(cluster_coordinator *c, const peer *p)
{
    static const double WEIGHT = 0.05;
    double held = now(c) - p->leased_at;
    for (int i = 0; i < p->n; i++)
        if (p->open[i])
            return;
    c->lease_mean_s += (c->lease_mean_s > 0 ? WEIGHT : 1) * (held - c->lease_mean_s);
}

static md_status handle_results(cluster_coordinator *c, int k, comm_frame *f)
{
    peer *p = &c->peer[k];
    int n, n_ok = 0;
    MD_TRY(cluster__get_results(f, &n));
    for (int i = 0; i < n; i++) {
        cluster_msg_result m;
        MD_TRY(cluster__get_result(f, &m));
        n_ok += m.status == MD_OK;
        MD_TRY(handle_result(c, k, &m));
    }
    if (n_ok > 0) {
        note_lease(c, p);
        p->streak = 0;
        p->succeeded_at = now(c);
        p->not_before = 0;
        return comm_frame_done(f);
    }
    /* A broken worker fails fast and would take everything: it waits while others succeed. */
    p->streak++;
    for (int other = 0; other < c->n_workers; other++)
        if (other != k && !c->peer[other].lost && c->peer[other].succeeded_at > p->succeeded_at) {
            double pause = 0.1 * (double)(1 << (p->streak < 7 ? p->streak : 7));
            p->not_before = now(c) + (pause < 10 ? pause : 10);
        }
    return comm_frame_done(f);
}

static bool any_lost(const cluster_coordinator *c)
{
    for (int k = 0; k < c->n_workers; k++)
        if (c->peer[k].lost)
            return true;
    return false;
}

static void set_lost(cluster_coordinator *c, int k, bool lost)
{
    c->peer[k].lost = lost;
    c->link->mark_lost(c->link->self, c->first_worker + k, lost);
}

void cluster__coordinator_lost(cluster_coordinator *c, int k)
{
    set_lost(c, k, true);
}

static md_status handle(cluster_coordinator *c, int from, const uint8_t *data, size_t bytes)
{
    int k = from - c->first_worker;
    comm_frame f;
    cluster_msg_beat beat;
    if (k < 0 || k >= c->n_workers)
        MD_FAIL(MD_COMM, "message from rank %d, which is no worker", from);
    peer *p = &c->peer[k];
    MD_TRY(comm_frame_open(data, bytes, &f));
    if (p->lost) { /* only slow after all: bear with it longer from now on */
        p->allowance = 2 * (now(c) - p->heard);
        set_lost(c, k, false);
    }
    p->heard = now(c);
    if (f.run != c->run) {
        if ((int32_t)(f.run - c->run) > 0) {
            p->gone = true; /* it knows that this run is over and has gone on */
            return MD_OK;
        }
        cluster__put_end(&c->writer, f.run, CLUSTER_END_DONE, any_lost(c),
                         ""); /* missed an earlier end */
        return f.type == CLUSTER_MSG_BYE ? MD_OK : send(c, k);
    }
    switch (f.type) {
    case CLUSTER_MSG_BEAT:
        MD_TRY(cluster__get_beat(&f, &beat));
        return handle_beat(c, k, &beat);
    case CLUSTER_MSG_RESULT:
        return handle_results(c, k, &f);
    case CLUSTER_MSG_BYE:
        MD_TRY(cluster__get_bye(&f));
        p->gone = true;
        return MD_OK;
    default:
        MD_FAIL(MD_COMM, "rank %d sent a message of type %u", from, f.type);
    }
}

/* ---- time */

static void sample_rate(cluster_coordinator *c, double t)
{
    int at = c->n_samples % RATE_SAMPLES;
    c->sample_time[at] = t;
    c->sample_done[at] = finished(c);
    c->n_samples++;
    int oldest = c->n_samples < RATE_SAMPLES ? 0 : c->n_samples % RATE_SAMPLES;
    double since = c->n_samples < RATE_SAMPLES ? c->began : c->sample_time[oldest];
    int64_t before = c->n_samples < RATE_SAMPLES ? 0 : c->sample_done[oldest];
    c->counts.rate = t > since ? (double)(finished(c) - before) / (t - since) : 0;
}

void cluster__coordinator_counts(cluster_coordinator *c, cluster_counts *out)
{
    c->counts.lost_workers = 0;
    for (int k = 0; k < c->n_workers; k++)
        c->counts.lost_workers += c->peer[k].lost;
    c->counts.seconds = now(c) - c->began;
    *out = c->counts;
}

static md_status tick(cluster_coordinator *c)
{
    cluster_counts counts;
    c->tick_at = now(c) + 1;
    sample_rate(c, now(c));
    cluster__coordinator_counts(c, &counts);
    return c->work->on_tick ? c->work->on_tick(c->work->user, &counts) : MD_OK;
}

/* Nothing is left to lease, and somebody could work. */
static bool has_spare_workers(const cluster_coordinator *c)
{
    for (int k = 0; k < c->n_workers && c->ring_n == 0; k++)
        if (c->peer[k].waiting && !c->peer[k].lost)
            return true;
    return false;
}

/* What p has goes to others, too. */
static void share_lease(cluster_coordinator *c, peer *p, bool all)
{
    for (int i = 0; i < p->n; i++) {
        const slot *s = &c->slot[p->index[i]];
        if (!p->open[i] || s->state != TODO || s->queued || (!all && tries_are_out(c, s)))
            continue;
        c->counts.released++;
        ring_push_front(c, p->index[i]);
    }
}

static void check_lease(cluster_coordinator *c, peer *p, double t, bool spare)
{
    double held = t - p->leased_at, typical = SPARE_LEASES * c->lease_mean_s;
    bool slow =
        held > SPARE_SILENT_S && (t - p->heard > SPARE_SILENT_S || (typical > 0 && held > typical));
    if (p->n == 0)
        return;
    if (held > c->lease_s && !p->overdue) {
        p->overdue = true;
        share_lease(c, p, true);
    } else if (spare && slow && !p->spared) {
        p->spared = true;
        share_lease(c, p, false);
    }
}

/* Silent workers, slow leases. */
static md_status check_peers(cluster_coordinator *c)
{
    bool spare = has_spare_workers(c);
    double t = now(c), last = c->began;
    int alive = 0;
    for (int k = 0; k < c->n_workers; k++) {
        peer *p = &c->peer[k];
        last = p->heard > last ? p->heard : last;
        if (!p->lost && !p->gone && t - p->heard > p->allowance) {
            set_lost(c, k, true);
            p->waiting = false;
            MD_TRY(release(c, k, true));
        }
        alive += !p->lost;
        check_lease(c, p, t, spare);
    }
    if (alive == 0 && !c->ending && t - last > (1 + LINGER) * c->silent_s)
        MD_FAIL(MD_COMM, "%s: no worker has been heard for %.0f s; %lld of %lld items are done",
                c->work->name, t - last, (long long)finished(c), (long long)c->counts.items);
    return MD_OK;
}

static md_status serve(cluster_coordinator *c)
{
    double t = now(c);
    for (int k = 0; k < c->n_workers && !c->ending; k++) {
        peer *p = &c->peer[k];
        if (p->waiting && !p->lost && t >= p->not_before)
            MD_TRY(give_lease(c, k));
        if (!p->lost && !p->gone && t >= p->beat_at &&
            c->link->pending(c->link->self, c->first_worker + k) < 8) {
            cluster_msg_beat m = {false, 0, CLUSTER_GO};
            cluster__put_beat(&c->writer, c->run, &m);
            MD_TRY(send(c, k));
            p->beat_at = t + CLUSTER_BEAT_S;
        }
    }
    return MD_OK;
}

/* Tells everybody, then waits for those alive to say goodbye. */
static md_status serve_end(cluster_coordinator *c, bool *done)
{
    *done = true;
    for (int k = 0; k < c->n_workers; k++) {
        peer *p = &c->peer[k];
        if (!p->told_end && !p->gone) {
            cluster__put_end(&c->writer, c->run, c->how, any_lost(c), c->text);
            MD_TRY(send(c, k));
            p->told_end = true;
        }
        *done = *done && (p->gone || p->lost);
    }
    if (c->how == CLUSTER_END_NOW)
        *done = true;
    return MD_OK;
}

static md_status receive_all(cluster_coordinator *c, double wait_s)
{
    for (int i = 0; i < 64 + 4 * c->n_workers; i++) {
        const uint8_t *data;
        size_t bytes;
        int from;
        MD_TRY(c->link->receive(c->link->self, wait_s, &from, &data, &bytes));
        if (bytes == 0)
            return MD_OK;
        md_status status = handle(c, from, data, bytes);
        if (status != MD_OK)
            return md_frame(status, __FILE__, __LINE__);
        wait_s = 0;
    }
    return MD_OK;
}

static md_status advance(cluster_coordinator *c, double wait_s, bool *done)
{
    MD_TRY(receive_all(c, wait_s));
    note_stop(c, c->link->stop(c->link->self), c->first_worker > 0 ? c->first_worker - 1 : 0);
    if (now(c) >= c->check_at) {
        MD_TRY(check_peers(c));
        c->check_at = now(c) + 0.1;
    }
    if (!c->ending && finished(c) == c->counts.items)
        start_ending(c, CLUSTER_END_DONE, MD_OK, "");
    if (now(c) >= c->tick_at)
        MD_TRY(tick(c));
    return c->ending ? serve_end(c, done) : serve(c);
}

md_status cluster__coordinator_step(cluster_coordinator *c, double wait_s, bool *done)
{
    *done = false;
    md_status status = advance(c, wait_s, done);
    if (status != MD_OK && c->how == CLUSTER_END_FAILED) {
        *done =
            true; /* a second failure while ending: the first one counts, nobody is waited for */
    } else if (status != MD_OK) {
        *done = false;
        start_ending(c, CLUSTER_END_FAILED, status, md_status_text());
        return MD_OK;
    }
    if (!*done)
        return MD_OK;
    status = tick(c);
    if (c->result != MD_OK)
        MD_FAIL(c->result, "%s", c->text);
    return status;
}
