/* All-reduce on host memory: every rank owns a stretch of each segment, receives all others' part
   of it, adds in rank order in double, and sends the sum to all. Point to point throughout, so
   every wait has a deadline. Segments bound the staging memory and the counts given to MPI. */
#include "comm/comm_internal.h"
#include <stdlib.h>
#include <string.h>

#define SEGMENT_FLOATS ((int64_t)1 << 20)
#define YIELDS         20000 /* polls without sleep once the peers are known to be there */

enum { PHASE_IDLE, PHASE_READY, PHASE_PARTS, PHASE_SUMS };

struct comm_reducer {
    comm *c;
    float *x;      /* caller's, while running */
    int64_t n, at; /* elements in all, start of the current segment */
    int phase;
    int n_requests;
    MPI_Request *requests; /* [2 size] */
    float *parts;          /* [size * stretch]: what the ranks sent for this rank's stretch */
    int64_t stretch_max;
    char ready;
};

md_status comm_reducer_new(comm *c, comm_reducer **out)
{
    comm_reducer *r = calloc(1, sizeof *r);
    if (!r)
        MD_FAIL(MD_NOMEM, "all-reduce");
    r->c = c;
    r->stretch_max = (SEGMENT_FLOATS + c->size - 1) / c->size;
    r->requests = calloc(2 * (size_t)c->size, sizeof(MPI_Request));
    r->parts = c->size > 1 ? malloc((size_t)(c->size * r->stretch_max) * sizeof(float)) : NULL;
    if (!r->requests || (c->size > 1 && !r->parts)) {
        comm_reducer_free(r);
        MD_FAIL(MD_NOMEM, "all-reduce over %d ranks", c->size);
    }
    *out = r;
    return MD_OK;
}

void comm_reducer_free(comm_reducer *r)
{
    if (!r)
        return;
    if (r->phase == PHASE_IDLE) { /* else MPI may still write there */
        free(r->requests);
        free(r->parts);
    }
    free(r);
}

/* Rank k's stretch of the current segment: from *from on, *count floats, 0 at the end of a short
 * one. */
static void stretch(const comm_reducer *r, int k, int64_t *from, int *count)
{
    int64_t length = r->n - r->at < SEGMENT_FLOATS ? r->n - r->at : SEGMENT_FLOATS;
    int64_t each = (length + r->c->size - 1) / r->c->size;
    int64_t begin = k * each < length ? k * each : length;
    int64_t end = begin + each < length ? begin + each : length;
    *from = r->at + begin;
    *count = (int)(end - begin); /* at most SEGMENT_FLOATS */
}

/* Tells all peers that this rank has come; until they have, polling may sleep. */
static md_status start_ready(comm_reducer *r)
{
    static char heard; /* zero bytes arrive here */
    r->n_requests = 0;
    for (int k = 0; k < r->c->size; k++) {
        if (k == r->c->rank)
            continue;
        MPI_TRY(MPI_Irecv(&heard, 0, MPI_BYTE, r->c->at[k], r->c->tag + COMM_TAG_READY, r->c->mpi,
                          &r->requests[r->n_requests++]));
        MPI_TRY(MPI_Isend(&r->ready, 0, MPI_BYTE, r->c->at[k], r->c->tag + COMM_TAG_READY,
                          r->c->mpi, &r->requests[r->n_requests++]));
    }
    r->phase = PHASE_READY;
    return MD_OK;
}

static md_status start_parts(comm_reducer *r)
{
    int64_t from;
    int count, mine;
    r->n_requests = 0;
    stretch(r, r->c->rank, &from, &mine);
    for (int k = 0; k < r->c->size; k++) {
        if (k == r->c->rank)
            continue;
        MPI_TRY(MPI_Irecv(r->parts + k * r->stretch_max, mine, MPI_FLOAT, r->c->at[k],
                          r->c->tag + COMM_TAG_PART, r->c->mpi, &r->requests[r->n_requests++]));
        stretch(r, k, &from, &count);
        MPI_TRY(MPI_Isend(r->x + from, count, MPI_FLOAT, r->c->at[k], r->c->tag + COMM_TAG_PART,
                          r->c->mpi, &r->requests[r->n_requests++]));
    }
    r->phase = PHASE_PARTS;
    return MD_OK;
}

static void add_parts(comm_reducer *r)
{
    int64_t from;
    int count;
    stretch(r, r->c->rank, &from, &count);
    memcpy(r->parts + r->c->rank * r->stretch_max, r->x + from, (size_t)count * sizeof(float));
    for (int i = 0; i < count; i++) {
        double sum = 0;
        for (int k = 0; k < r->c->size; k++)
            sum += (double)r->parts[k * r->stretch_max + i];
        r->x[from + i] = (float)sum;
    }
}

static md_status start_sums(comm_reducer *r)
{
    int64_t from, mine_from;
    int count, mine;
    r->n_requests = 0;
    stretch(r, r->c->rank, &mine_from, &mine);
    for (int k = 0; k < r->c->size; k++) {
        if (k == r->c->rank)
            continue;
        stretch(r, k, &from, &count);
        MPI_TRY(MPI_Irecv(r->x + from, count, MPI_FLOAT, r->c->at[k], r->c->tag + COMM_TAG_SUM,
                          r->c->mpi, &r->requests[r->n_requests++]));
        MPI_TRY(MPI_Isend(r->x + mine_from, mine, MPI_FLOAT, r->c->at[k], r->c->tag + COMM_TAG_SUM,
                          r->c->mpi, &r->requests[r->n_requests++]));
    }
    r->phase = PHASE_SUMS;
    return MD_OK;
}

md_status comm_reduce_begin(comm_reducer *r, float *x, int64_t n)
{
    if (r->c->broken)
        MD_FAIL(MD_COMM, "all-reduce: this group of ranks ran out of time before");
    if (r->phase != PHASE_IDLE || n < 0)
        MD_FAIL(MD_INTERNAL, "all-reduce of %lld elements begun while %s", (long long)n,
                r->phase != PHASE_IDLE ? "another is under way" : "idle");
    if (n == 0 || r->c->size == 1)
        return MD_OK;
    r->x = x;
    r->n = n;
    r->at = 0;
    return start_ready(r);
}

md_status comm_reduce_poll(comm_reducer *r, bool *done)
{
    for (;;) {
        int all = 0;
        *done = r->phase == PHASE_IDLE;
        if (*done)
            return MD_OK;
        MPI_TRY(MPI_Testall(r->n_requests, r->requests, &all, MPI_STATUSES_IGNORE));
        if (!all)
            return MD_OK;
        if (r->phase == PHASE_READY) {
            MD_TRY(start_parts(r));
        } else if (r->phase == PHASE_PARTS) {
            add_parts(r);
            MD_TRY(start_sums(r));
        } else {
            r->at += SEGMENT_FLOATS;
            if (r->at < r->n)
                MD_TRY(start_parts(r));
            else
                r->phase = PHASE_IDLE;
        }
    }
}

/* After a wait that ended: who has not come, or not sent all. */
static md_status name_missing(const comm_reducer *r, md_status why)
{
    char who[COMM_WHO];
    for (int k = 0, i = 0; k < r->c->size && i < r->n_requests; k++) {
        int here = 0;
        if (k == r->c->rank)
            continue;
        if (MPI_Request_get_status(r->requests[i], &here, MPI_STATUS_IGNORE) == MPI_SUCCESS &&
            !here)
            why = md_context(why, "waiting for %s", comm_who(r->c, k, who));
        i += 2; /* a receive and a send for each */
    }
    return md_context(why, "elements %lld of %lld", (long long)r->at, (long long)r->n);
}

md_status comm_reduce_wait(comm_reducer *r, double timeout_s)
{
    comm__wait slow = comm__wait_begin(timeout_s, 0), quick = slow;
    int phase = -1;
    int64_t at = -1;
    for (;;) {
        bool done;
        if (r->phase != phase || r->at != at) { /* it moves: poll eagerly again */
            phase = r->phase;
            at = r->at;
            quick = comm__wait_begin(timeout_s, YIELDS);
            quick.deadline = slow.deadline;
        }
        md_status status = comm_reduce_poll(r, &done);
        if (status == MD_OK && done)
            return MD_OK;
        if (status == MD_OK)
            status = comm__pause(r->phase == PHASE_READY ? &slow : &quick, "all-reduce");
        if (status != MD_OK) {
            r->c->broken = true;
            comm__note_lost();
            return name_missing(r, status);
        }
    }
}

md_status comm_allreduce_f32(comm_reducer *r, float *x, int64_t n, double timeout_s)
{
    MD_TRY(comm_reduce_begin(r, x, n));
    return comm_reduce_wait(r, timeout_s);
}
