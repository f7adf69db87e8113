/* Small collectives as a star of messages with deadlines. Slower than MPI's own for many ranks, but
   a rank known to be lost does not block them, and a rank at another collective is named. */
#include "base/clock.h"
#include "comm/comm_internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KIND_AGREE = 1, KIND_BARRIER, KIND_BROADCAST, KIND_GATHER };

#define TEXT_MAX  3000
#define PIECE_MAX ((size_t)16 << 20)

static md_status peer_status = MD_PEER;
static const double ROLL_CALL_S = 20;

static const char *kind_name(unsigned kind)
{
    static const char *const names[] = {"?", "agreement", "barrier", "broadcast", "gather"};
    return names[kind <= KIND_GATHER ? kind : 0];
}

static md_status enter(comm *c)
{
    if (c->broken)
        MD_FAIL(MD_COMM, "this group of ranks lost step in an earlier collective");
    c->sequence++;
    return MD_OK;
}

static md_status send_frame(comm *c, int to, int tag, comm_writer *w)
{
    MD_TRY(comm_frame_end(w));
    return comm__send(c, to, tag, w->data, w->size);
}

/* A frame that came from this rank: is it of this collective? */
static md_status open_frame(comm *c, int from, unsigned kind, const uint8_t *data, size_t bytes,
                            comm_frame *f, bool *of_this)
{
    MD_TRY(comm_frame_open(data, bytes, f));
    int32_t age = (int32_t)(c->sequence - f->run);
    *of_this = age == 0 && f->type == kind;
    if (*of_this || age > 0) /* older: of a collective that this rank gave up */
        return MD_OK;
    MD_FAIL(MD_COMM, "rank %d is at %s %u, rank %d at %s %u", from, kind_name(f->type), f->run,
            c->rank, kind_name(kind), c->sequence);
}

/* The frame of this collective from this rank. The body stays in c's buffer until the next take. */
static md_status take_frame(comm *c, int from, int tag, unsigned kind, comm__wait *w, comm_frame *f)
{
    char who[COMM_WHO];
    for (bool of_this = false;;) {
        const uint8_t *data;
        size_t bytes;
        int source;
        MD_TRY(comm__take(c, from, tag, &source, &data, &bytes));
        if (bytes > 0) {
            MD_TRY(open_frame(c, from, kind, data, bytes, f, &of_this));
            if (of_this)
                return MD_OK;
            continue;
        }
        md_status status = comm__pause(w, kind_name(kind));
        if (status != MD_OK)
            return md_context(status, "waiting for %s", comm_who(c, from, who));
        if (c->lost[from])
            MD_FAIL(MD_COMM, "%s: %s is lost", kind_name(kind), comm_who(c, from, who));
    }
}

/* ---- agreement */

typedef struct verdict {
    int rank; /* -1: all is well */
    md_status status;
    bool peer_lost; /* the sender knows of a rank that is gone */
    char text[TEXT_MAX + 1];
} verdict;

/* A real failure outranks the echo of one, that outranks a stop. */
static int severity(md_status s)
{
    return s == MD_OK ? 0 : s == MD_STOPPED ? 1 : s == MD_PEER ? 2 : 3;
}

static void put_verdict(comm_writer *w, int rank, md_status status, const char *text)
{
    comm_put_u8(w, comm_lost_peer());
    comm_put_u32(w, (uint32_t)rank);
    comm_put_u32(w, (uint32_t)status);
    comm_put_text(w, text, TEXT_MAX);
}

static md_status get_verdict(comm_frame *f, verdict *v)
{
    v->peer_lost = comm_get_u8(f) != 0;
    v->rank = (int)(int32_t)comm_get_u32(f);
    v->status = (md_status)comm_get_u32(f);
    comm_get_text(f, v->text, sizeof v->text);
    return comm_frame_done(f);
}

static void keep_worse(verdict *worst, const verdict *v)
{
    int more = severity(v->status) - severity(worst->status);
    if (more > 0 || (more == 0 && v->status != MD_OK && v->rank < worst->rank))
        *worst = *v;
}

/* Rank 0's own failure. */
static void keep_own(verdict *worst, md_status status)
{
    if (severity(status) < severity(worst->status))
        return;
    worst->rank = 0;
    worst->status = status;
    (void)snprintf(worst->text, sizeof worst->text, "%s", md_status_text());
}

/* Where somebody knows of ranks that do not answer, those that live come soon. */
static void hurry(comm__wait *w, const verdict *v, double timeout_s)
{
    double most = timeout_s / 2, soon = md_now() + (ROLL_CALL_S < most ? ROLL_CALL_S : most);
    if (v->status == MD_COMM && w->deadline > soon)
        w->deadline = soon;
}

/* The next verdict of any rank, in whatever order they come, into *v. */
static md_status take_verdict(comm *c, comm__wait *w, verdict *v)
{
    for (;;) {
        const uint8_t *data;
        size_t bytes;
        comm_frame f;
        int from;
        bool of_this = false;
        MD_TRY(comm__take(c, MPI_ANY_SOURCE, COMM_TAG_UP, &from, &data, &bytes));
        if (bytes > 0)
            MD_TRY(open_frame(c, from, KIND_AGREE, data, bytes, &f, &of_this));
        if (of_this) {
            c->heard[from] = true;
            return get_verdict(&f, v);
        }
        if (bytes == 0)
            MD_TRY(comm__pause(w, kind_name(KIND_AGREE)));
    }
}

/* Rank 0, in the end. Those that were not heard count as lost from now on, where others knew
   already of ranks that do not answer: what is only slower than everybody expected may still write
   files. */
static md_status name_silent(comm *c, md_status why, bool known)
{
    char who[COMM_WHO];
    for (int r = 1; r < c->size; r++)
        if (!c->heard[r] && !c->lost[r]) {
            why = md_context(why, "waiting for %s", comm_who(c, r, who));
            if (known)
                comm_mark_lost(c, r, true);
        }
    return why;
}

/* Rank 0: hears everybody, keeps the worst. A rank that does not answer is rank 0's failure. */
static void collect_verdicts(comm *c, comm__wait *w, verdict *worst, double timeout_s)
{
    verdict v;
    bool known = worst->status == MD_COMM;
    hurry(w, worst, timeout_s);
    for (int r = 0; r < c->size; r++)
        c->heard[r] = r == 0;
    for (;;) {
        int missing = 0;
        for (int r = 0; r < c->size; r++)
            missing += !c->heard[r] && !c->lost[r];
        if (missing == 0)
            return;
        md_status status = take_verdict(c, w, &v);
        if (status != MD_OK) {
            if (status == MD_COMM && md_now() >= w->deadline)
                status = name_silent(c, status, known);
            keep_own(worst, status);
            return;
        }
        known = known || v.status == MD_COMM;
        keep_worse(worst, &v);
        hurry(w, &v, timeout_s);
    }
}

static md_status exchange_verdicts(comm *c, verdict *v, double timeout_s)
{
    comm_writer w = {0};
    comm_frame f;
    static const double LONGER =
        1.5; /* than rank 0, which may wait for others until its time is over */
    comm__wait wait = comm__wait_begin(c->rank == 0 ? timeout_s : LONGER * timeout_s, 0);
    md_status status = enter(c);
    if (status == MD_OK && c->rank == 0) {
        collect_verdicts(c, &wait, v, timeout_s);
        for (int r = 1; r < c->size && status == MD_OK; r++) {
            comm_frame_begin(&w, KIND_AGREE, c->sequence);
            put_verdict(&w, v->rank, v->status, v->text);
            status = send_frame(c, r, COMM_TAG_DOWN, &w);
        }
    } else if (status == MD_OK) {
        comm_frame_begin(&w, KIND_AGREE, c->sequence);
        put_verdict(&w, v->rank, v->status, v->text);
        status = send_frame(c, 0, COMM_TAG_UP, &w);
        if (status == MD_OK)
            status = take_frame(c, 0, COMM_TAG_DOWN, KIND_AGREE, &wait, &f);
        if (status == MD_OK)
            status = get_verdict(&f, v);
        if (status == MD_OK)
            comm_mark_lost(c, -1, v->peer_lost);
    }
    comm_writer_free(&w);
    return status;
}

md_status comm_agree(comm *c, md_status local)
{
    return comm_agree_within(c, local, 0);
}

md_status comm_agree_within(comm *c, md_status local, double timeout_s)
{
    if (c->size == 1)
        return local;
    verdict *v = malloc(2 * sizeof *v), *mine = v ? v + 1 : NULL;
    if (!v)
        MD_FAIL(MD_NOMEM, "agreement");
    mine->rank = local == MD_OK ? -1 : c->rank;
    mine->status = local;
    (void)snprintf(mine->text, sizeof mine->text, "%s", local == MD_OK ? "" : md_status_text());
    *v = *mine;
    md_status status = exchange_verdicts(c, v, timeout_s > 0 ? timeout_s : comm_timeout());
    if (status != MD_OK) { /* the rank's own failure matters more than that nobody heard it */
        if (severity(local) == 3)
            status = md_fail(local, __FILE__, __LINE__, "%s", mine->text);
    } else if (v->status == MD_OK) {
        status = MD_OK;
    } else if (v->rank == c->rank) {
        /* Its own chain may have been replaced by failures met while collecting. */
        status = v->status;
        if (strcmp(md_status_text(), v->text) != 0)
            status = md_fail(v->status, __FILE__, __LINE__, "%s", v->text);
    } else if (v->status == MD_STOPPED) {
        status = md_fail(MD_STOPPED, __FILE__, __LINE__, "rank %d: %s", v->rank, v->text);
    } else {
        peer_status = v->status;
        status = md_fail(MD_PEER, __FILE__, __LINE__, "rank %d: %s", v->rank, v->text);
    }
    free(v);
    return status;
}

md_status comm_cause(md_status status)
{
    return status == MD_PEER ? peer_status : status;
}

/* ---- gather, broadcast, barrier */

static md_status gather(comm *c, unsigned kind, int root, const void *mine, size_t bytes, void *all,
                        double timeout_s)
{
    comm__wait wait = comm__wait_begin(timeout_s, 0);
    uint8_t *out = all;
    if (c->rank != root) {
        comm_writer w = {0};
        comm_frame_begin(&w, (uint16_t)kind, c->sequence);
        comm_put_bytes(&w, mine, bytes);
        md_status status = send_frame(c, root, COMM_TAG_UP, &w);
        comm_writer_free(&w);
        return status;
    }
    for (int r = 0; r < c->size; r++) {
        comm_frame f;
        size_t n = bytes;
        const uint8_t *part = mine;
        if (c->lost[r]) {
            if (bytes)
                memset(out + (size_t)r * bytes, 0, bytes);
            continue;
        }
        if (r != root) {
            MD_TRY(take_frame(c, r, COMM_TAG_UP, kind, &wait, &f));
            part = comm_get_bytes(&f, COMM_MESSAGE_MAX, &n);
            MD_TRY(comm_frame_done(&f));
        }
        if (n != bytes)
            MD_FAIL(MD_COMM, "gather: %zu bytes from rank %d, rank %d has %zu", n, r, root, bytes);
        if (bytes)
            memcpy(out + (size_t)r * bytes, part, bytes);
    }
    return MD_OK;
}

md_status comm_gather(comm *c, int root, const void *mine, size_t bytes, void *all,
                      double timeout_s)
{
    if (bytes > COMM_MESSAGE_MAX / 2)
        MD_FAIL(MD_COMM, "gather of %zu bytes a rank, at most %zu", bytes, COMM_MESSAGE_MAX / 2);
    MD_TRY(enter(c));
    return gather(c, KIND_GATHER, root, mine, bytes, all, timeout_s);
}

/* One piece from root to all. */
static md_status broadcast_piece(comm *c, unsigned kind, int root, void *data, size_t bytes,
                                 double timeout_s)
{
    comm_writer w = {0};
    comm_frame f;
    size_t n;
    md_status status = MD_OK;
    if (c->rank == root) {
        for (int r = 0; r < c->size && status == MD_OK; r++) {
            if (r == root)
                continue;
            comm_frame_begin(&w, (uint16_t)kind, c->sequence);
            comm_put_u8(&w, comm_lost_peer());
            comm_put_bytes(&w, data, bytes);
            status = send_frame(c, r, COMM_TAG_DOWN, &w);
        }
        comm_writer_free(&w);
        return status;
    }
    comm__wait wait = comm__wait_begin(timeout_s, 0);
    MD_TRY(take_frame(c, root, COMM_TAG_DOWN, kind, &wait, &f));
    bool peer_lost = comm_get_u8(&f) != 0;
    if (kind == KIND_BARRIER) /* from rank 0, who watches */
        comm_mark_lost(c, -1, peer_lost);
    const uint8_t *part = comm_get_bytes(&f, COMM_MESSAGE_MAX, &n);
    MD_TRY(comm_frame_done(&f));
    if (n != bytes)
        MD_FAIL(MD_COMM, "broadcast: %zu bytes from rank %d, rank %d expects %zu", n, root, c->rank,
                bytes);
    if (bytes)
        memcpy(data, part, bytes);
    return MD_OK;
}

md_status comm_broadcast(comm *c, int root, void *data, size_t bytes, double timeout_s)
{
    MD_TRY(enter(c));
    for (size_t at = 0; at < bytes && c->size > 1; at += PIECE_MAX) {
        size_t n = bytes - at < PIECE_MAX ? bytes - at : PIECE_MAX;
        MD_TRY(broadcast_piece(c, KIND_BROADCAST, root, (uint8_t *)data + at, n, timeout_s));
        if (c->rank == root) /* bounds the copies held for slow ranks */
            MD_TRY(comm_flush(c, timeout_s));
    }
    return MD_OK;
}

md_status comm_broadcast_blob(comm *c, int root, void **data, size_t *bytes, double timeout_s)
{
    uint8_t size_le[8] = {0};
    if (c->rank == root)
        for (int i = 0; i < 8; i++)
            size_le[i] = (uint8_t)((uint64_t)*bytes >> (8 * i));
    MD_TRY(comm_broadcast(c, root, size_le, sizeof size_le, timeout_s));
    uint64_t n = 0;
    for (int i = 0; i < 8; i++)
        n |= (uint64_t)size_le[i] << (8 * i);
    if (c->rank == root)
        return comm_broadcast(c, root, *data, *bytes, timeout_s);
    uint8_t *got = n < SIZE_MAX ? malloc((size_t)n + 1) : NULL;
    if (!got)
        MD_FAIL(MD_NOMEM, "broadcast of %llu bytes", (unsigned long long)n);
    md_status status = comm_broadcast(c, root, got, (size_t)n, timeout_s);
    if (status != MD_OK) {
        free(got);
        return md_frame(status, __FILE__, __LINE__);
    }
    got[n] = '\0';
    *data = got;
    *bytes = (size_t)n;
    return MD_OK;
}

md_status comm_barrier(comm *c, double timeout_s)
{
    if (c->size == 1)
        return MD_OK;
    MD_TRY(enter(c));
    MD_TRY(gather(c, KIND_BARRIER, 0, NULL, 0, NULL, timeout_s));
    return broadcast_piece(c, KIND_BARRIER, 0, NULL, 0, timeout_s);
}
