/* NCCL; see device.h. The communicator does not block: every call may answer that it goes on, and
   then is polled under comm's deadline. */
#include "comm/device.h"
#include "comm/comm_internal.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef MEDDIFF_NCCL
#include <nccl.h>

enum { GPU_TEXT = 128, PHASE_TEXT = 120, YIELDS = 1000 };

struct comm_device {
    comm *c;
    ncclComm_t nccl;
    double timeout_s;
    bool aborted, grouped;
    char phase[PHASE_TEXT];
};

/* What every worker tells of itself. */
typedef struct place {
    char host[MPI_MAX_PROCESSOR_NAME], gpu[GPU_TEXT];
} place;

static md_status nccl_fail(const comm_device *d, ncclResult_t r, const char *what)
{
    const char *last = d->nccl && !d->aborted ? ncclGetLastError(d->nccl) : NULL;
    md_status status = md_fail(MD_COMM, __FILE__, __LINE__, "rank %d on %s: %s: %s%s%.120s",
                               d->c->rank, comm_host(), what, ncclGetErrorString(r),
                               last && *last ? ": " : "", last ? last : "");
    return *d->phase ? md_context(status, "%s", d->phase) : status;
}

/* Until the communicator no longer answers that it goes on. */
static md_status settle(comm_device *d, ncclResult_t r, const char *what)
{
    comm__wait w = comm__wait_begin(d->timeout_s, YIELDS);
    while (r == ncclInProgress) {
        md_status status = comm__pause(&w, what);
        if (status != MD_OK)
            return *d->phase ? md_context(status, "%s", d->phase) : status;
        ncclResult_t asked = ncclCommGetAsyncError(d->nccl, &r);
        if (asked != ncclSuccess)
            r = asked;
    }
    return r == ncclSuccess ? MD_OK : nccl_fail(d, r, what);
}

/* Worker 0: whether every GPU is there, and named once. */
static bool all_apart(const place *p, int n)
{
    for (int i = 0; i < n; i++) {
        if (!p[i].gpu[0])
            return false;
        for (int k = 0; k < i; k++)
            if (!strcmp(p[i].host, p[k].host) && !strcmp(p[i].gpu, p[k].gpu))
                return false;
    }
    return true;
}

/* What worker 0 answers: the id, or that the host sums. */
typedef struct answer {
    int32_t apart;
    ncclUniqueId id;
} answer;

static md_status make_answer(const comm *c, const place *all, answer *a)
{
    memset(a, 0, sizeof *a);
    a->apart = all_apart(all, c->size);
    if (!a->apart)
        return MD_OK;
    ncclResult_t r = ncclGetUniqueId(&a->id);
    if (r != ncclSuccess)
        MD_FAIL(MD_COMM, "rank 0 on %s: ncclGetUniqueId: %s", comm_host(), ncclGetErrorString(r));
    return MD_OK;
}

/* Collective(c). */
static md_status exchange(comm *c, const char *gpu, double timeout_s, answer *a)
{
    place mine = {{0}, {0}}, *all = NULL;
    (void)snprintf(mine.host, sizeof mine.host, "%s", comm_host());
    (void)snprintf(mine.gpu, sizeof mine.gpu, "%s", gpu);
    md_status status = MD_OK;
    if (c->rank == 0) {
        all = calloc((size_t)c->size, sizeof *all);
        if (!all)
            status = md_fail(MD_NOMEM, __FILE__, __LINE__, "no memory for %d workers", c->size);
    }
    status = comm_agree(c, status);
    if (status == MD_OK)
        status = comm_gather(c, 0, &mine, sizeof mine, all, timeout_s);
    if (status == MD_OK)
        status = comm_agree(c, c->rank == 0 ? make_answer(c, all, a) : MD_OK);
    free(all);
    if (status == MD_OK)
        status = comm_broadcast(c, 0, a, sizeof *a, timeout_s);
    return status;
}

/* Before NCCL reads it, at its first communicator. */
static md_status fix_order(void)
{
    if (setenv("NCCL_ALGO", "Ring", 0) != 0 || setenv("NCCL_PROTO", "Simple", 0) != 0)
        MD_FAIL(MD_NOMEM, "no memory for NCCL's settings");
    return MD_OK;
}

/* All or none: a worker whose own start failed lets the others go when they agree, and their
   starts end at the deadline. */
static md_status start(comm_device *d, const answer *a)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclResult_t r = ncclCommInitRankConfig(&d->nccl, d->c->size, a->id, d->c->rank, &config);
    return settle(d, r, "joining the GPUs");
}

static md_status open_all(comm *c, bool deterministic, double timeout_s, const answer *a,
                          comm_device **out)
{
    comm_device *d = calloc(1, sizeof *d);
    md_status status = d ? MD_OK : md_fail(MD_NOMEM, __FILE__, __LINE__, "joining the GPUs");
    if (status == MD_OK && deterministic)
        status = fix_order();
    status = comm_agree(c, status); /* so that all or none begin to start */
    if (status == MD_OK) {
        *d = (comm_device){.c = c, .timeout_s = timeout_s};
        status = comm_agree(c, start(d, a));
    }
    if (status != MD_OK) {
        if (d)
            comm_device_abort(d);
        free(d);
        return md_frame(status, __FILE__, __LINE__);
    }
    *out = d;
    return MD_OK;
}

md_status comm_device_new(comm *c, const char *gpu, bool deterministic, double timeout_s,
                          comm_device **out)
{
    answer a;
    *out = NULL;
    MD_TRY(exchange(c, gpu, timeout_s, &a));
    return a.apart ? open_all(c, deterministic, timeout_s, &a, out) : MD_OK;
}

void comm_device_abort(comm_device *d)
{
    if (d->nccl && !d->aborted)
        (void)ncclCommAbort(d->nccl); /* an error here has nobody to go to: we are leaving */
    d->aborted = true;
}

void comm_device_free(comm_device *d)
{
    if (!d)
        return;
    if (!d->aborted && settle(d, ncclCommFinalize(d->nccl), "leaving the GPUs") == MD_OK &&
        ncclCommDestroy(d->nccl) == ncclSuccess)
        d->aborted = true; /* there is nothing left to abort */
    comm_device_abort(d);
    free(d);
}

void comm_device_phase(comm_device *d, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(d->phase, sizeof d->phase, fmt, ap);
    va_end(ap);
}

static md_status usable(const comm_device *d)
{
    if (d->aborted)
        MD_FAIL(MD_COMM, "rank %d on %s: the GPUs' group was aborted", d->c->rank, comm_host());
    return MD_OK;
}

md_status comm_device_sum(comm_device *d, void *x, int64_t n, comm_device_type type, void *stream)
{
    MD_TRY(usable(d));
    if (n < 0)
        MD_FAIL(MD_INTERNAL, "sum of %lld elements", (long long)n);
    ncclDataType_t t = type == COMM_DEVICE_F32 ? ncclFloat32 : ncclBfloat16;
    ncclResult_t r = ncclAllReduce(x, x, (size_t)n, t, ncclSum, d->nccl, (cudaStream_t)stream);
    if (d->grouped && r == ncclInProgress) /* it begins with the group's end */
        return MD_OK;
    return settle(d, r, "ncclAllReduce");
}

md_status comm_device_group_begin(comm_device *d)
{
    MD_TRY(usable(d));
    ncclResult_t r = ncclGroupStart();
    if (r != ncclSuccess)
        return nccl_fail(d, r, "ncclGroupStart");
    d->grouped = true;
    return MD_OK;
}

md_status comm_device_group_end(comm_device *d)
{
    MD_TRY(usable(d));
    d->grouped = false;
    return settle(d, ncclGroupEnd(), "ncclGroupEnd");
}

md_status comm_device_check(comm_device *d)
{
    ncclResult_t r = ncclSuccess;
    MD_TRY(usable(d));
    ncclResult_t asked = ncclCommGetAsyncError(d->nccl, &r);
    if (asked != ncclSuccess)
        return nccl_fail(d, asked, "ncclCommGetAsyncError");
    return r == ncclSuccess || r == ncclInProgress ? MD_OK : nccl_fail(d, r, "the GPUs' sums");
}

#else

md_status comm_device_new(comm *c, const char *gpu, bool deterministic, double timeout_s,
                          comm_device **out)
{
    (void)c, (void)gpu, (void)deterministic, (void)timeout_s;
    *out = NULL;
    return MD_OK;
}

void comm_device_free(comm_device *d)
{
    (void)d;
}

void comm_device_phase(comm_device *d, const char *fmt, ...)
{
    (void)d, (void)fmt;
}

static md_status missing(void)
{
    MD_FAIL(MD_UNSUPPORTED, "this build has no NCCL");
}

md_status comm_device_sum(comm_device *d, void *x, int64_t n, comm_device_type type, void *stream)
{
    (void)d, (void)x, (void)n, (void)type, (void)stream;
    return missing();
}

md_status comm_device_group_begin(comm_device *d)
{
    (void)d;
    return missing();
}

md_status comm_device_group_end(comm_device *d)
{
    (void)d;
    return missing();
}

md_status comm_device_check(comm_device *d)
{
    (void)d;
    return missing();
}

void comm_device_abort(comm_device *d)
{
    (void)d;
}

#endif
