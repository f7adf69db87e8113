#include "sim.h"
#include "test.h"
#include <stdlib.h>
#include <string.h>

typedef struct message {
    struct message *next;
    double arrival;
    int from, to;
    size_t bytes;
    uint8_t data[];
} message;

typedef struct world world;

typedef struct actor {
    world *w;
    int rank;
    double t;
    bool dead;
    message *reading;
} actor;

struct world {
    sim *s;
    actor actor[SIM_WORKERS_MAX + 1];
    message *queue; /* by arrival; per pair in order of sending */
    uint64_t draws;
};

double sim_hash(uint64_t seed, uint64_t a, uint64_t b)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15u + a * 0xbf58476d1ce4e5b9u + b * 0x94d049bb133111ebu + 1;
    for (int i = 0; i < 3; i++) {
        x ^= x >> 31;
        x *= 0x7fb5d329728ea185u;
        x ^= x >> 27;
    }
    return (double)(x >> 11) / 9007199254740992.0;
}

static bool is_dead(actor *a)
{
    double death = a->rank > 0 ? a->w->s->worker[a->rank - 1].death : 0;
    if (death > 0 && a->t >= death)
        a->dead = true;
    return a->dead;
}

static void enqueue(world *w, int from, int to, double arrival, const void *data, size_t bytes)
{
    message *m = malloc(sizeof *m + bytes), **at = &w->queue;
    *m = (message){NULL, arrival, from, to, bytes};
    memcpy(m->data, data, bytes);
    message **scan = &w->queue;
    for (; *scan; scan = &(*scan)->next) /* never overtake one of the same pair */
        if ((*scan)->from == from && (*scan)->to == to && (*scan)->arrival > m->arrival)
            m->arrival = (*scan)->arrival;
    while (*at && (*at)->arrival <= m->arrival)
        at = &(*at)->next;
    m->next = *at;
    *at = m;
}

static md_status link_send(void *self, int to, const void *data, size_t bytes)
{
    actor *a = self;
    world *w = a->w;
    comm_frame f;
    if (is_dead(a))
        return MD_OK; /* what a dead one says is not heard */
    double arrival = a->t + w->s->latency_s * (0.5 + sim_hash(w->s->seed, 77, w->draws++));
    enqueue(w, a->rank, to, arrival, data, bytes);
    if (comm_frame_open(data, bytes, &f) == MD_OK && f.type == CLUSTER_MSG_RESULT &&
        sim_hash(w->s->seed, 78, w->draws++) < w->s->duplicate)
        enqueue(w, a->rank, to, arrival + 3, data, bytes);
    return MD_OK;
}

static md_status link_receive(void *self, double wait_s, int *from, const uint8_t **data,
                              size_t *bytes)
{
    actor *a = self;
    free(a->reading);
    a->reading = NULL;
    *bytes = 0;
    for (message **at = &a->w->queue; *at && (*at)->arrival <= a->t; at = &(*at)->next)
        if ((*at)->to == a->rank) {
            a->reading = *at;
            *at = (*at)->next;
            *from = a->reading->from;
            *data = a->reading->data;
            *bytes = a->reading->bytes;
            return MD_OK;
        }
    a->t += wait_s;
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
    actor *a = self;
    sim *s = a->w->s;
    bool asked = s->signal_at > 0 && a->t >= s->signal_at && a->rank == s->signal_rank;
    return asked ? s->signal : CLUSTER_GO;
}

/* ---- callbacks */

static md_status on_lease(void *user, cluster_batch *b)
{
    actor *a = user;
    sim *s = a->w->s;
    sim_worker *me = &s->worker[a->rank - 1];
    if (me->stall_at > 0 && a->t >= me->stall_at) {
        me->stall_at = 0;
        a->t += me->stall_s;
    }
    for (int i = 0; i < cluster_batch_size(b); i++) {
        cluster_item item = cluster_batch_item(b, i);
        a->t += me->item_s;
        if (s->killer[item.id / 10])
            a->dead = true;
        if (is_dead(a))
            return MD_OK; /* nothing it does from now on is heard */
        bool flaky = s->tries[item.id / 10][item.attempt]++ < s->flaky_tries;
        if (me->bad || flaky || s->poison[item.id / 10]) {
            md_status status = md_fail(MD_NONFINITE, __FILE__, __LINE__, "item %lld on rank %d",
                                       (long long)item.id, a->rank);
            if (s->poison_spreads)
                return status;
            MD_TRY(cluster_reply_fail(b, i, status));
        } else {
            uint64_t payload = (uint64_t)item.id * 1000 + item.attempt;
            MD_TRY(cluster_reply_ok(b, i, &payload, sizeof payload));
        }
        if (me->beats)
            MD_TRY(cluster_beat(b));
    }
    return MD_OK;
}

static md_status on_result(void *user, const cluster_result *r, cluster_verdict *verdict)
{
    actor *a = user;
    sim *s = a->w->s;
    uint64_t payload = 0;
    int64_t at = r->id / 10;
    ok(r->id % 10 == 3 && at >= 0 && at < s->n_items && r->attempt < SIM_ATTEMPTS_MAX);
    ok(r->size == sizeof payload);
    memcpy(&payload, r->payload, sizeof payload);
    ok(payload == (uint64_t)r->id * 1000 + r->attempt);
    ok(s->ends[at] == 0);
    s->results[at][r->attempt]++;
    s->last_result_s = a->t;
    s->done_by[r->worker]++;
    if (++s->n_results == s->result_fails_at)
        MD_FAIL(MD_IO, "disk full");
    if (sim_hash(s->seed, (uint64_t)r->id, r->attempt) * 100 < s->redraw_percent) {
        *verdict = r->attempt < s->max_attempt ? CLUSTER_REDRAW : CLUSTER_DROP;
        s->ends[at] += *verdict == CLUSTER_DROP;
        return MD_OK;
    }
    *verdict = CLUSTER_ACCEPT;
    s->ends[at]++;
    s->accepted_by[at] = r->worker;
    return MD_OK;
}

static md_status on_failed(void *user, cluster_item item, md_status status, const char *text)
{
    sim *s = ((actor *)user)->w->s;
    ok(status != MD_OK);
    s->ends[item.id / 10]++;
    s->failed[item.id / 10] = true;
    (void)snprintf(s->failed_text[item.id / 10], sizeof s->failed_text[0], "%s", text);
    return MD_OK;
}

static md_status on_tick(void *user, const cluster_counts *c)
{
    (void)user;
    ok(c->accepted + c->dropped + c->failed <= c->items);
    return MD_OK;
}

/* ---- the loop */

void sim_run(sim *s, double limit_s)
{
    static cluster_item items[SIM_ITEMS_MAX];
    world w = {.s = s};
    cluster_work work[SIM_WORKERS_MAX + 1];
    cluster_link link[SIM_WORKERS_MAX + 1];
    cluster_worker *worker[SIM_WORKERS_MAX + 1];
    cluster_coordinator *head;
    for (int i = 0; i < s->n_items; i++)
        items[i] = (cluster_item){10 * i + 3, (uint32_t)(i % 3)};
    for (int r = 0; r <= s->n_workers; r++) {
        w.actor[r] = (actor){.w = &w, .rank = r};
        link[r] = (cluster_link){&w.actor[r],    link_send, link_receive, link_pending,
                                 link_mark_lost, link_now,  link_stop};
        work[r] = (cluster_work){.name = "items",
                                 .user = &w.actor[r],
                                 .items = items,
                                 .n_items = s->n_items,
                                 .on_result = on_result,
                                 .on_failed = on_failed,
                                 .on_tick = on_tick,
                                 .lease_items = s->lease_items,
                                 .batch = s->batch,
                                 .max_failures = s->max_failures,
                                 .lease_s = s->lease_s,
                                 .silent_s = s->silent_s,
                                 .worker = &w.actor[r],
                                 .on_lease = on_lease};
        if (r > 0)
            must(cluster__worker_new(&work[r], &link[r], 5, 0, &worker[r]));
    }
    must(cluster__coordinator_new(&work[0], &link[0], 5, 1, s->n_workers, &head));
    for (;;) {
        int next = -1;
        for (int r = 0; r <= s->n_workers; r++)
            if (!s->returned[r] && !is_dead(&w.actor[r]) &&
                (next < 0 || w.actor[r].t < w.actor[next].t))
                next = r;
        if (next < 0 || w.actor[next].t > limit_s)
            break;
        actor *a = &w.actor[next];
        md_status status;
        bool done;
        s->end_s = a->t;
        if (next == 0)
            status = cluster__coordinator_step(head, 0.05, &done);
        else
            status = cluster__worker_step(worker[next], 0.05, &done);
        a->t += 1e-4;
        if (done && !a->dead) {
            s->returned[next] = true;
            s->status[next] = status;
            (void)snprintf(s->text[next], sizeof s->text[next], "%s",
                           status == MD_OK ? "" : md_status_text());
        } else if (!a->dead) {
            must(status);
        }
    }
    cluster__coordinator_counts(head, &s->counts);
    cluster__coordinator_free(head);
    for (int r = 0; r <= s->n_workers; r++) {
        free(w.actor[r].reading);
        if (r > 0)
            cluster__worker_free(worker[r]);
    }
    while (w.queue) {
        message *m = w.queue;
        w.queue = m->next;
        free(m);
    }
}
