/* Actors with clocks of their own; the one whose next moment is the earliest moves. A worker that
   draws runs ahead to the end of its micro-batch, since nothing that it is told meanwhile changes
   what it does; one that waits is woken by the next message. */
#include "cluster/simulate.h"
#include "base/rng.h"
#include "cluster/cluster_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RUN = 1 };
static const double HEAD_WAIT_S = 0.02;   /* as run.c steps rank 0 */
static const double WORKER_WAIT_S = 0.25; /* a waiting worker looks at its own clock */
static const double JITTER = 0.1;         /* of a micro-batch's time */

typedef struct message {
    struct message *next; /* to a worker: in order of arrival */
    double arrival;
    uint64_t order;
    int from;
    size_t bytes;
    uint8_t data[];
} message;

typedef struct sim sim;

typedef struct actor {
    sim *s;
    double t;             /* its clock */
    double wake;          /* when it moves next */
    double last_arrival;  /* of what it sent to rank 0, or rank 0 to it: nothing overtakes */
    double item_s, death; /* workers; death INFINITY: never */
    double free_since;    /* the end of its last micro-batch, or NAN */
    bool dead, gone;
    int heap_at;
    uint32_t batches;
    message *first, *last, *reading;
    cluster_work work;
    cluster_link link;
    cluster_worker *worker;
} actor;

struct sim {
    const cluster_scenario *in;
    cluster_forecast *out;
    actor *actor; /* [workers + 1] */
    int *heap;    /* actors by wake */
    int n_heap;
    message **inbox; /* of rank 0, a heap by arrival */
    size_t n_inbox, inbox_capacity;
    uint64_t sent;
    int64_t ended, gaps;
    double end_s, gap_s;
    cluster_item *items;
};

/* 0..1, a pure function of its arguments. */
static double draw(const sim *s, uint64_t item, uint32_t attempt)
{
    md_rng r = md_rng_at(s->in->seed, MD_RNG_TEST, item, attempt);
    return md_rng_uniform(&r);
}

enum { SPEED = 1, DEATH, LATENCY, PACE, VERDICT }; /* attempts: what is drawn */

/* ---- heaps */

static void heap_put(sim *s, int at, int who)
{
    s->heap[at] = who;
    s->actor[who].heap_at = at;
}

static void heap_settle(sim *s, int at)
{
    int who = s->heap[at];
    double wake = s->actor[who].wake;
    while (at > 0 && s->actor[s->heap[(at - 1) / 2]].wake > wake) {
        heap_put(s, at, s->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (;;) {
        int child = 2 * at + 1;
        if (child + 1 < s->n_heap &&
            s->actor[s->heap[child + 1]].wake < s->actor[s->heap[child]].wake)
            child++;
        if (child >= s->n_heap || s->actor[s->heap[child]].wake >= wake)
            break;
        heap_put(s, at, s->heap[child]);
        at = child;
    }
    heap_put(s, at, who);
}

static void set_wake(sim *s, int who, double wake)
{
    s->actor[who].wake = wake;
    heap_settle(s, s->actor[who].heap_at);
}

static bool before(const message *a, const message *b)
{
    return a->arrival < b->arrival || (a->arrival == b->arrival && a->order < b->order);
}

static md_status inbox_push(sim *s, message *m)
{
    if (s->n_inbox == s->inbox_capacity) {
        size_t capacity = s->inbox_capacity ? 2 * s->inbox_capacity : 1024;
        message **grown = realloc(s->inbox, capacity * sizeof *grown);
        if (!grown)
            MD_FAIL(MD_NOMEM, "simulation: out of memory");
        s->inbox = grown;
        s->inbox_capacity = capacity;
    }
    size_t at = s->n_inbox++;
    for (; at > 0 && before(m, s->inbox[(at - 1) / 2]); at = (at - 1) / 2)
        s->inbox[at] = s->inbox[(at - 1) / 2];
    s->inbox[at] = m;
    return MD_OK;
}

static message *inbox_pop(sim *s)
{
    message *top = s->inbox[0], *m = s->inbox[--s->n_inbox];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child + 1 < s->n_inbox && before(s->inbox[child + 1], s->inbox[child]))
            child++;
        if (child >= s->n_inbox || !before(s->inbox[child], m))
            break;
        s->inbox[at] = s->inbox[child];
        at = child;
    }
    s->inbox[at] = m;
    return top;
}

/* ---- the link */

static int rank_of(const actor *a)
{
    return (int)(a - a->s->actor);
}

static bool dies(actor *a)
{
    a->dead = a->dead || a->t >= a->death;
    return a->dead;
}

static md_status link_send(void *self, int to, const void *data, size_t bytes)
{
    actor *a = self;
    sim *s = a->s;
    bool head = rank_of(a) == 0;
    if (head) {
        a->t += s->in->message_s;
        s->out->busy_s += s->in->message_s;
        s->out->sent++;
    } else if (dies(a)) {
        return MD_OK; /* what a dead one says is not heard */
    }
    actor *pair = head ? &s->actor[to] : a; /* holds the last arrival of this pair and way */
    message *m = malloc(sizeof *m + bytes);
    if (!m)
        MD_FAIL(MD_NOMEM, "simulation: a message of %zu bytes", bytes);
    *m = (message){.order = s->sent++, .from = rank_of(a), .bytes = bytes};
    memcpy(m->data, data, bytes);
    double u = draw(s, m->order, LATENCY);
    m->arrival = a->t + s->in->latency_s * (0.5 + u) + s->in->poll_s * fmod(97 * u, 1);
    if (head) {
        m->arrival = fmax(m->arrival, pair->last ? pair->last->arrival : 0);
        if (pair->last)
            pair->last->next = m;
        else
            pair->first = m;
        pair->last = m;
        if (!pair->gone && m->arrival < pair->wake)
            set_wake(s, to, fmax(m->arrival, pair->t));
        return MD_OK;
    }
    m->arrival = fmax(m->arrival, pair->last_arrival);
    pair->last_arrival = m->arrival;
    MD_TRY(inbox_push(s, m));
    if (m->arrival < s->actor[0].wake)
        set_wake(s, 0, fmax(m->arrival, s->actor[0].t));
    return MD_OK;
}

/* Nobody waits in here: who has nothing to do is woken by set_wake. */
static md_status link_receive(void *self, double wait_s, int *from, const uint8_t **data,
                              size_t *bytes)
{
    actor *a = self;
    sim *s = a->s;
    (void)wait_s;
    free(a->reading);
    a->reading = NULL;
    *bytes = 0;
    if (rank_of(a) == 0) {
        if (!s->n_inbox || s->inbox[0]->arrival > a->t)
            return MD_OK;
        a->reading = inbox_pop(s);
        s->out->longest_wait_s = fmax(s->out->longest_wait_s, a->t - a->reading->arrival);
        a->t += s->in->message_s;
        s->out->busy_s += s->in->message_s;
        s->out->received++;
    } else {
        if (!a->first || a->first->arrival > a->t)
            return MD_OK;
        a->reading = a->first;
        a->first = a->first->next;
        if (!a->first)
            a->last = NULL;
    }
    *from = a->reading->from;
    *data = a->reading->data;
    *bytes = a->reading->bytes;
    return MD_OK;
}

static int link_pending(void *self, int to)
{
    (void)self;
    (void)to;
    return 0;
}

static void link_mark_lost(void *self, int rank, bool lost)
{
    (void)self;
    (void)rank;
    (void)lost;
}

static double link_now(void *self)
{
    return ((actor *)self)->t;
}

static cluster_stop link_stop(void *self)
{
    (void)self;
    return CLUSTER_GO;
}

/* ---- callbacks */

/* Draws the micro-batch as the painter does: a heartbeat between steps. */
static md_status on_lease(void *user, cluster_batch *b)
{
    actor *a = user;
    sim *s = a->s;
    int n = cluster_batch_size(b);
    if (!isnan(a->free_since)) {
        s->gap_s += a->t - a->free_since;
        s->gaps++;
    }
    double u = draw(s, (uint64_t)rank_of(a) << 32 | a->batches++, PACE);
    /* a short micro-batch is padded, so it takes as long as a full one */
    double end = a->t + s->in->batch * a->item_s * (1 + JITTER * (2 * u - 1));
    while (a->t < end) {
        a->t = fmin(end, a->t + CLUSTER_BEAT_S);
        if (dies(a))
            MD_FAIL(MD_STOPPED, "dead");
        md_status status = a->t < end ? cluster_beat(b) : MD_OK;
        if (status != MD_OK)
            return status; /* given to another: a lease lost in time */
    }
    for (int i = 0; i < n; i++)
        MD_TRY(cluster_reply_ok(b, i, &a->item_s, sizeof a->item_s));
    s->out->drawn += n;
    a->free_since = a->t;
    return MD_OK;
}

static md_status on_result(void *user, const cluster_result *r, cluster_verdict *verdict)
{
    sim *s = user;
    s->actor[0].t += s->in->result_s;
    s->out->busy_s += s->in->result_s;
    bool again = draw(s, (uint64_t)r->id << 16 | r->attempt, VERDICT) < s->in->redraw;
    *verdict = again ? CLUSTER_REDRAW : CLUSTER_ACCEPT;
    if (!again && ++s->ended == s->in->items)
        s->end_s = s->actor[0].t;
    return MD_OK;
}

static md_status on_tick(void *user, const cluster_counts *counts)
{
    sim *s = user;
    (void)counts;
    s->actor[0].t += s->in->tick_s;
    s->out->busy_s += s->in->tick_s;
    return MD_OK;
}

/* ---- the loop */

static double own_time(void)
{
    struct timespec t;
    return clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) == 0
               ? (double)t.tv_sec + 1e-9 * (double)t.tv_nsec
               : 0;
}

static md_status step_head(sim *s, cluster_coordinator *head, bool *done)
{
    actor *a = &s->actor[0];
    double received = s->out->received, began = own_time();
    MD_TRY(cluster__coordinator_step(head, 0, done));
    double own = own_time() - began;
    s->out->own_s += own;
    s->out->busy_s += own * s->in->own;
    a->t += own * s->in->own;
    double next = s->n_inbox ? fmax(a->t, s->inbox[0]->arrival) : INFINITY;
    set_wake(s, 0, s->out->received > received ? a->t : fmin(a->t + HEAD_WAIT_S, next));
    return MD_OK;
}

static md_status step_worker(sim *s, int rank)
{
    actor *a = &s->actor[rank];
    bool done = false;
    double began = a->t;
    md_status status = dies(a) ? MD_OK : cluster__worker_step(a->worker, 0, &done);
    if (a->dead || done) {
        a->gone = true;
        set_wake(s, rank, INFINITY);
        return MD_OK;
    }
    MD_TRY(status);
    double next = a->first ? fmax(a->t, a->first->arrival) : INFINITY;
    set_wake(s, rank, a->t > began ? a->t : fmin(a->t + WORKER_WAIT_S, next));
    return MD_OK;
}

static md_status run(sim *s, cluster_coordinator *head)
{
    bool done = false;
    while (!done && !s->end_s) {
        int who = s->heap[0];
        actor *a = &s->actor[who];
        if (isinf(a->wake))
            MD_FAIL(MD_INTERNAL, "simulation: nobody moves any more");
        a->t = fmax(a->t, a->wake);
        MD_TRY(who == 0 ? step_head(s, head, &done) : step_worker(s, who));
    }
    return MD_OK;
}

/* ---- what would be ideal */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* When `items` are drawn by workers that never wait, each until its death. */
static md_status ideal(const sim *s, int64_t items, double *seconds)
{
    int n = s->in->workers;
    double(*worker)[2] = malloc((size_t)n * sizeof *worker); /* death, rate */
    if (!worker)
        MD_FAIL(MD_NOMEM, "simulation: out of memory");
    double rate = 0, done = 0, t = 0;
    for (int k = 0; k < n; k++) {
        worker[k][0] = s->actor[k + 1].death;
        worker[k][1] = 1 / s->actor[k + 1].item_s;
        rate += worker[k][1];
    }
    qsort(worker, (size_t)n, sizeof *worker, by_value);
    for (int k = 0; k < n && done + rate * (worker[k][0] - t) < (double)items; k++) {
        done += rate * (worker[k][0] - t);
        t = worker[k][0];
        rate -= worker[k][1];
    }
    *seconds = t + ((double)items - done) / rate;
    free(worker);
    return MD_OK;
}

/* ---- start and end */

static void end(sim *s)
{
    for (int r = 0; s->actor && r <= s->in->workers; r++) {
        actor *a = &s->actor[r];
        cluster__worker_free(a->worker);
        free(a->reading);
        for (message *m = a->first, *next; m; m = next) {
            next = m->next;
            free(m);
        }
    }
    for (size_t i = 0; i < s->n_inbox; i++)
        free(s->inbox[i]);
    free(s->inbox);
    free(s->heap);
    free(s->actor);
    free(s->items);
}

static void begin_actor(sim *s, int r)
{
    const cluster_scenario *in = s->in;
    actor *a = &s->actor[r];
    double u = draw(s, (uint64_t)r, DEATH);
    bool dies_once = r > 0 && in->deaths_per_hour > 0;
    a->s = s;
    a->item_s = in->item_s * (1 + (in->spread - 1) * draw(s, (uint64_t)r, SPEED));
    a->death = dies_once ? -log(1 - u) * 3600 / in->deaths_per_hour : INFINITY;
    a->free_since = NAN;
    a->link = (cluster_link){a,        link_send, link_receive, link_pending, link_mark_lost,
                             link_now, link_stop};
    a->work = (cluster_work){.name = "simulated items",
                             .user = s,
                             .items = s->items,
                             .n_items = in->items,
                             .on_result = on_result,
                             .on_tick = on_tick,
                             .batch = in->batch,
                             .lease_s = in->lease_s,
                             .silent_s = in->silent_s,
                             .worker = a,
                             .on_lease = on_lease};
    heap_put(s, r, r);
}

static md_status begin(sim *s)
{
    size_t n = (size_t)s->in->workers + 1;
    s->items = malloc((size_t)s->in->items * sizeof *s->items);
    s->actor = calloc(n, sizeof *s->actor);
    s->heap = calloc(n, sizeof *s->heap);
    if (!s->items || !s->actor || !s->heap)
        MD_FAIL(MD_NOMEM, "simulation: out of memory for %d workers", s->in->workers);
    for (int64_t i = 0; i < s->in->items; i++)
        s->items[i] = (cluster_item){i, 0};
    s->n_heap = (int)n;
    for (int r = 0; r < s->n_heap; r++)
        begin_actor(s, r);
    for (int r = 1; r < s->n_heap; r++)
        MD_TRY(
            cluster__worker_new(&s->actor[r].work, &s->actor[r].link, RUN, 0, &s->actor[r].worker));
    return MD_OK;
}

static void count(sim *s, cluster_coordinator *head)
{
    cluster_forecast *out = s->out;
    cluster__coordinator_counts(head, &out->counts);
    out->seconds = s->end_s;
    out->twice = out->drawn - out->counts.accepted - out->counts.redraws;
    out->idle_s = s->gaps ? s->gap_s / (double)s->gaps : 0;
    for (int r = 1; r <= s->in->workers; r++)
        out->deaths += s->actor[r].death < s->end_s;
}

md_status cluster_simulate(const cluster_scenario *in, cluster_forecast *out)
{
    sim s = {.in = in, .out = out};
    cluster_coordinator *head = NULL;
    *out = (cluster_forecast){0};
    if (in->workers < 1 || in->items < 1)
        MD_FAIL(MD_USAGE, "simulation of %d workers and %lld items", in->workers,
                (long long)in->items);
    md_status status = begin(&s);
    if (status == MD_OK)
        status = cluster__coordinator_new(&s.actor[0].work, &s.actor[0].link, RUN, 1, in->workers,
                                          &head);
    if (status == MD_OK)
        status = run(&s, head);
    if (status == MD_OK && !s.end_s)
        status = md_fail(MD_COMM, __FILE__, __LINE__, "%lld of %lld items were done when it ended",
                         (long long)s.ended, (long long)in->items);
    if (status == MD_OK) {
        count(&s, head);
        status = ideal(&s, out->counts.accepted + out->counts.redraws, &out->ideal_s);
    }
    cluster__coordinator_free(head);
    end(&s);
    return status;
}
