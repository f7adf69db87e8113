/* Writes fill the slots of a ring one after the other, several small ones to a slot; a slot's event
   lies behind its last copy, and the slot is filled again only when that event has come. All copies
   are on the launch stream, so they are ordered with the launches. Reads alternate between two
   slots of their own: one is converted while the other is copied. */
#include "backend/cuda/staging.h"
#include "base/watch.h"
#include <stdlib.h>

enum { READERS = 2 };

typedef struct slot {
    char *bytes; /* [CUDA_STAGING_BYTES] pinned */
    size_t used;
    cudaEvent_t event;
    bool copying;  /* a copy was asked for since the slot was last known to be idle */
    bool recorded; /* and the event lies behind it */
} slot;

struct cuda_staging {
    char *pinned;
    slot ring[CUDA_STAGING_SLOTS], readers[READERS];
    int current;
};

static md_status slot_open(slot *s, char *bytes)
{
    s->bytes = bytes;
    CUDA_TRY(cudaEventCreateWithFlags(&s->event, cudaEventDisableTiming));
    return MD_OK;
}

md_status cuda__staging_open(cuda_impl *d)
{
    struct cuda_staging *g = d->staging = calloc(1, sizeof *g);
    if (!g)
        MD_FAIL(MD_NOMEM, "cuda: out of memory");
    const size_t bytes = (size_t)(CUDA_STAGING_SLOTS + READERS) * CUDA_STAGING_BYTES;
    void *pinned = NULL;
    CUDA_TRY(cudaHostAlloc(&pinned, bytes, cudaHostAllocDefault));
    g->pinned = pinned;
    for (int i = 0; i < CUDA_STAGING_SLOTS; i++)
        MD_TRY(slot_open(&g->ring[i], g->pinned + (size_t)i * CUDA_STAGING_BYTES));
    for (int i = 0; i < READERS; i++)
        MD_TRY(slot_open(&g->readers[i],
                         g->pinned + (size_t)(CUDA_STAGING_SLOTS + i) * CUDA_STAGING_BYTES));
    return MD_OK;
}

cudaError_t cuda__staging_close(cuda_impl *d)
{
    struct cuda_staging *g = d->staging;
    cudaError_t first = cudaSuccess, e;
    if (!g)
        return first;
    for (int i = 0; i < CUDA_STAGING_SLOTS + READERS; i++) {
        slot *s = i < CUDA_STAGING_SLOTS ? &g->ring[i] : &g->readers[i - CUDA_STAGING_SLOTS];
        if (!s->event)
            continue;
        e = cudaEventDestroy(s->event);
        first = first == cudaSuccess ? e : first;
    }
    if (g->pinned) {
        e = cudaFreeHost(g->pinned);
        first = first == cudaSuccess ? e : first;
    }
    free(g);
    d->staging = NULL;
    return first;
}

/* Until nothing reads or writes the slot any more. */
static md_status slot_wait(cuda_impl *d, slot *s)
{
    md_watch(CUDA_WAITING);
    if (s->copying && s->recorded)
        CUDA_TRY(cudaEventSynchronize(s->event));
    else if (s->copying)
        CUDA_TRY(cudaStreamSynchronize(d->launch));
    s->copying = s->recorded = false;
    s->used = 0;
    return MD_OK;
}

static md_status slot_copy(cuda_impl *d, slot *s, void *dst, const void *src, size_t bytes,
                           enum cudaMemcpyKind kind)
{
    s->copying = true;
    s->recorded = false;
    CUDA_TRY(cudaMemcpyAsync(dst, src, bytes, kind, d->launch));
    CUDA_TRY(cudaEventRecord(s->event, d->launch));
    s->recorded = true;
    return MD_OK;
}

static int64_t piece(int64_t n, size_t element)
{
    int64_t most = (int64_t)(CUDA_STAGING_BYTES / element);
    return n < most ? n : most;
}

md_status cuda__staging_write(cuda_impl *d, void *dst, md_dtype dtype, const void *host,
                              md_dtype host_dtype, int64_t n)
{
    struct cuda_staging *g = d->staging;
    const size_t to = md_dtype_bytes(dtype), from = md_dtype_bytes(host_dtype);
    for (int64_t at = 0, m; at < n; at += m) {
        m = piece(n - at, to);
        slot *s = &g->ring[g->current];
        if (s->used + (size_t)m * to > CUDA_STAGING_BYTES) {
            g->current = (g->current + 1) % CUDA_STAGING_SLOTS;
            s = &g->ring[g->current];
            MD_TRY(slot_wait(d, s));
        }
        char *bytes = s->bytes + s->used;
        md_convert_host(bytes, dtype, (const char *)host + (size_t)at * from, host_dtype, m);
        s->used += ((size_t)m * to + 63) & ~(size_t)63; /* the next write is aligned */
        MD_TRY(slot_copy(d, s, (char *)dst + (size_t)at * to, bytes, (size_t)m * to,
                         cudaMemcpyHostToDevice));
    }
    return MD_OK;
}

/* What a reader holds, to the caller. */
typedef struct arrival {
    void *host;
    int64_t n;
} arrival;

static md_status take(cuda_impl *d, slot *s, md_dtype dtype, const arrival *a, md_dtype host_dtype)
{
    MD_TRY(slot_wait(d, s));
    md_convert_host(a->host, host_dtype, s->bytes, dtype, a->n);
    return MD_OK;
}

md_status cuda__staging_read(cuda_impl *d, const void *src, md_dtype dtype, void *host,
                             md_dtype host_dtype, int64_t n)
{
    struct cuda_staging *g = d->staging;
    const size_t from = md_dtype_bytes(dtype), to = md_dtype_bytes(host_dtype);
    arrival coming[READERS] = {{NULL, 0}};
    int i = 0;
    md_watch(CUDA_WAITING);
    CUDA_TRY(cudaStreamSynchronize(d->launch));
    for (int64_t at = 0, m; at < n; at += m, i = (i + 1) % READERS) {
        m = piece(n - at, from);
        if (coming[i].n > 0)
            MD_TRY(take(d, &g->readers[i], dtype, &coming[i], host_dtype));
        coming[i] = (arrival){(char *)host + (size_t)at * to, m};
        MD_TRY(slot_copy(d, &g->readers[i], g->readers[i].bytes,
                         (const char *)src + (size_t)at * from, (size_t)m * from,
                         cudaMemcpyDeviceToHost));
    }
    for (int k = 0; k < READERS; k++, i = (i + 1) % READERS)
        if (coming[i].n > 0)
            MD_TRY(take(d, &g->readers[i], dtype, &coming[i], host_dtype));
    return MD_OK;
}
