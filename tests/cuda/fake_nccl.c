/* NCCL for processes that do not meet: every sum is of equal ranks, that is a product with their
   number, on the stream as everything else. */
#include "fake_internal.h"
#include "graph/backend.h"
#include <nccl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ncclComm {
    int ranks, rank;
    bool live, finalized;
    struct ncclComm *next;
};

static struct ncclComm *comms;
static int delay, waited, depth, peers = 1;
static ncclResult_t async;

static ncclComm_t live(ncclComm_t c, const char *call)
{
    for (ncclComm_t k = comms; k; k = k->next)
        if (k == c && k->live)
            return c;
    fake_problemf("%s of a communicator that is none, or none any more", call);
    return NULL;
}

#define NCCL_ENTER()                                                                               \
    do {                                                                                           \
        if (fake_enter(__func__))                                                                  \
            return ncclSystemError;                                                                \
    } while (0)

/* After a call that may go on. */
static ncclResult_t going_on(void)
{
    waited = delay;
    return delay ? ncclInProgress : ncclSuccess;
}

void fake_nccl_delay(int polls)
{
    delay = polls;
    waited = 0;
}

void fake_nccl_async_error(int nccl_result)
{
    async = (ncclResult_t)nccl_result;
}

void fake_nccl_peers(int n)
{
    peers = n;
}

int fake_nccl_leaks(void)
{
    int n = depth;
    for (ncclComm_t k = comms; k; k = k->next)
        n += k->live;
    return n;
}

void fake_nccl_reset(void)
{
    while (comms) {
        ncclComm_t next = comms->next;
        free(comms);
        comms = next;
    }
    delay = waited = depth = 0;
    peers = 1;
    async = ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    NCCL_ENTER();
    memset(id, 0x5a, sizeof *id);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t *config)
{
    NCCL_ENTER();
    for (size_t i = 0; i < sizeof id.internal; i++)
        if (id.internal[i] != 0x5a)
            return ncclInvalidArgument;
    if (config->blocking != 0)
        fake_problemf("a communicator that blocks: a dead peer hangs it");
    ncclComm_t c = calloc(1, sizeof *c);
    if (!c)
        abort();
    *c = (struct ncclComm){.ranks = ranks, .rank = rank, .live = true, .next = comms};
    comms = c;
    *out = c;
    return going_on();
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t c, ncclResult_t *result)
{
    NCCL_ENTER();
    if (!live(c, __func__))
        return ncclInvalidArgument;
    *result = waited > 0 ? ncclInProgress : async;
    waited -= waited > 0;
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t c)
{
    NCCL_ENTER();
    if (!live(c, __func__))
        return ncclInvalidArgument;
    c->finalized = true;
    return going_on();
}

ncclResult_t ncclCommDestroy(ncclComm_t c)
{
    NCCL_ENTER();
    if (!live(c, __func__))
        return ncclInvalidArgument;
    if (!c->finalized || waited > 0)
        fake_problemf("a communicator destroyed before it was quiet");
    c->live = false;
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t c)
{
    bool failing = fake_enter(__func__);
    if (live(c, __func__))
        c->live = false;
    return failing ? ncclSystemError : ncclSuccess;
}

ncclResult_t ncclGroupStart(void)
{
    NCCL_ENTER();
    depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    NCCL_ENTER();
    if (depth-- < 1)
        fake_problemf("a group ended that was not begun");
    return going_on();
}

typedef struct sum {
    void *x;
    size_t n;
    bool bf16;
    int peers;
} sum;

static int sum_run(void *closure)
{
    const sum *s = closure;
    for (size_t i = 0; i < s->n; i++) {
        float v;
        md_convert_host(&v, MD_F32, (char *)s->x + i * (s->bf16 ? 2 : 4),
                        s->bf16 ? MD_BF16 : MD_F32, 1);
        v *= (float)s->peers;
        md_convert_host((char *)s->x + i * (s->bf16 ? 2 : 4), s->bf16 ? MD_BF16 : MD_F32, &v,
                        MD_F32, 1);
    }
    return 0;
}

static void put_sum(void *x, size_t n, bool bf16, object *stream)
{
    sum *s = malloc(sizeof *s);
    if (!s)
        abort();
    *s = (sum){x, n, bf16, peers};
    op *o = fake__new_op(CALL, stream);
    o->name = "sum";
    o->run = sum_run;
    o->drop = free;
    o->closure = s;
    (void)fake__put(o);
}

/* Logged as "s2 sum f32 100". */
ncclResult_t ncclAllReduce(const void *send, void *receive, size_t n, ncclDataType_t type,
                           ncclRedOp_t how, ncclComm_t c, cudaStream_t stream)
{
    NCCL_ENTER();
    if (!live(c, __func__) || how != ncclSum || (type != ncclFloat32 && type != ncclBfloat16))
        return ncclInvalidArgument;
    if (send != receive)
        fake_problemf("a sum that is not in place");
    if (waited > 0)
        fake_problemf("a call on a communicator that is not ready");
    fake_logf(stream, "sum %s %zu", type == ncclFloat32 ? "f32" : "bf16", n);
    put_sum(receive, n, type == ncclBfloat16, (object *)stream);
    return depth ? ncclInProgress : going_on();
}

const char *ncclGetErrorString(ncclResult_t r)
{
    return r == ncclRemoteError ? "a peer is gone" : "a fake nccl error";
}

const char *ncclGetLastError(ncclComm_t c)
{
    (void)c;
    return "details";
}
