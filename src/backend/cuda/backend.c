/* The backend table of a GPU: opening it, its memory, its two streams, what is recorded. Copies are
   in staging.c; the ops in their families. All calls come from one thread, and this process uses
   one GPU. An error of the runtime that a launch left behind stays with the device for good: every
   later call fails with it. */
#include "backend/cuda/staging.h"
#include "base/log.h"
#include "base/watch.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 256 };

/* ---- errors */

/* The runtime keeps an error until it is asked for; a launch after it would be blamed for it. */
md_status cuda__fail(cudaError_t e, const char *call, const char *file, int line)
{
    (void)cudaGetLastError();
    return md_fail(e == cudaErrorMemoryAllocation ? MD_NOMEM : MD_DEVICE, file, line,
                   "cuda: %.60s: %s (%s)", call, cudaGetErrorString(e), cudaGetErrorName(e));
}

md_status cuda__cudnn_fail(cudnnStatus_t s, const char *call, const char *file, int line)
{
    char detail[120] = "";
    (void)cudaGetLastError();
    cudnnGetLastErrorString(detail, sizeof detail);
    bool memory = s == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED ||
                  s == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED;
    return md_fail(memory ? MD_NOMEM : MD_DEVICE, file, line, "cudnn: %.60s: %s%s%s", call,
                   cudnnGetErrorString(s), *detail ? ": " : "", detail);
}

md_status cuda__blas_fail(cublasStatus_t s, const char *call, const char *file, int line)
{
    (void)cudaGetLastError();
    return md_fail(s == CUBLAS_STATUS_ALLOC_FAILED ? MD_NOMEM : MD_DEVICE, file, line,
                   "cublasLt: %.60s: %s", call, cublasLtGetStatusString(s));
}

md_status cuda__launched(const md_kernel *k, int code)
{
    if (code != cudaSuccess)
        MD_FAIL(MD_DEVICE, "%s: cannot launch: %s", md_op_name(k->node->op),
                cudaGetErrorString((cudaError_t)code));
    return MD_OK;
}

/* On the way out, where nobody can be told but the log. */
static void released(cudaError_t e, const char *what)
{
    if (e == cudaSuccess)
        return;
    (void)cudaGetLastError();
    md_warn("cuda", "%s: %s", what, cudaGetErrorString(e));
}

/* ---- nodes */

static const md_prepare_fn families[MD_OP_COUNT] = {
#define MD_OP(name, n_out, vjp) [MD_OP_##name] = cuda_##name,
#include "graph/ops.def"
#undef MD_OP
};

static md_status prepare(md_backend *be, const md_node *node, md_kernel *k)
{
    *k = (md_kernel){.node = node, .backend = be};
    md_status status = families[node->op](be, node, k);
    if (status != MD_OK && k->release)
        k->release(k);
    return status;
}

#define PREPARE_4  prepare, prepare, prepare, prepare
#define PREPARE_16 PREPARE_4, PREPARE_4, PREPARE_4, PREPARE_4
static const md_prepare_fn prepare_table[64] = {PREPARE_16, PREPARE_16, PREPARE_16, PREPARE_16};
_Static_assert(MD_OP_COUNT <= 64, "prepare_table is too short");

/* ---- memory */

static md_status not_while_recording(const cuda_impl *d, const char *what)
{
    if (d->recording)
        MD_FAIL(MD_INTERNAL, "cuda: %s while launches are recorded", what);
    return MD_OK;
}

static md_status be_alloc(md_backend *be, size_t bytes, void **out)
{
    cuda_impl *d = cuda__impl(be);
    MD_TRY(not_while_recording(d, "alloc"));
    size_t size = (bytes + ALIGN - 1) / ALIGN * ALIGN, left = 0, all = 0;
    if (!size)
        size = ALIGN;
    cuda_block *block = size < bytes ? NULL : malloc(sizeof *block);
    if (!block)
        MD_FAIL(MD_NOMEM, "cuda: no memory for %zu bytes", bytes);
    cudaError_t e = cudaMalloc(&block->p, size);
    if (e != cudaSuccess) {
        free(block);
        if (e != cudaErrorMemoryAllocation)
            return cuda__fail(e, "cudaMalloc", __FILE__, __LINE__);
        (void)cudaGetLastError();
        if (cudaMemGetInfo(&left, &all) != cudaSuccess)
            (void)cudaGetLastError(); /* then the message says 0 of 0 */
        MD_FAIL(MD_NOMEM, "cuda: cannot allocate %zu MiB (held: %zu MiB; free: %zu of %zu MiB)",
                bytes >> 20, be->allocated_bytes >> 20, left >> 20, all >> 20);
    }
    block->bytes = bytes;
    block->next = d->blocks;
    d->blocks = block;
    be->allocated_bytes += bytes;
    *out = block->p;
    return MD_OK;
}

/* Few and large blocks: parameters, arenas. */
static void be_release(md_backend *be, void *p)
{
    cuda_block **link = &cuda__impl(be)->blocks;
    while (*link && (*link)->p != p)
        link = &(*link)->next;
    if (!*link)
        return;
    cuda_block *block = *link;
    *link = block->next;
    be->allocated_bytes -= block->bytes;
    released(cudaFree(p), "cudaFree");
    free(block);
}

static md_status be_write(md_backend *be, void *dst, md_dtype dtype, const void *host,
                          md_dtype host_dtype, int64_t n)
{
    MD_TRY(not_while_recording(cuda__impl(be), "write"));
    if (!md_convertible(dtype, host_dtype))
        MD_FAIL(MD_SHAPE, "cuda: cannot copy %s from the host into %s", md_dtype_name(host_dtype),
                md_dtype_name(dtype));
    return cuda__staging_write(cuda__impl(be), dst, dtype, host, host_dtype, n);
}

/* The word is read where the stream is idle. */
static md_status check_fault(cuda_impl *d)
{
    uint32_t code = *(volatile uint32_t *)d->device.fault;
    *(volatile uint32_t *)d->device.fault = CUDA_FAULT_NONE;
    if (code == CUDA_FAULT_NONE)
        return MD_OK;
    if (code == CUDA_FAULT_EMBEDDING_ID)
        MD_FAIL(MD_BAD_INPUT, "embedding: an id is outside the table");
    MD_FAIL(MD_INTERNAL, "cuda: a kernel left the unknown fault %u", code);
}

static md_status be_read(md_backend *be, const void *src, md_dtype dtype, void *host,
                         md_dtype host_dtype, int64_t n)
{
    cuda_impl *d = cuda__impl(be);
    MD_TRY(not_while_recording(d, "read"));
    if (!md_convertible(dtype, host_dtype))
        MD_FAIL(MD_SHAPE, "cuda: cannot copy %s to the host as %s", md_dtype_name(dtype),
                md_dtype_name(host_dtype));
    MD_TRY(cuda__staging_read(d, src, dtype, host, host_dtype, n));
    return check_fault(d);
}

static md_status be_zero(md_backend *be, void *dst, size_t bytes)
{
    if (bytes > 0)
        CUDA_TRY(cudaMemsetAsync(dst, 0, bytes, cuda__impl(be)->launch));
    return MD_OK;
}

static md_status be_sync(md_backend *be)
{
    cuda_impl *d = cuda__impl(be);
    MD_TRY(not_while_recording(d, "sync"));
    md_watch(CUDA_WAITING);
    CUDA_TRY(cudaStreamSynchronize(d->launch));
    return check_fault(d);
}

/* ---- queues */

/* Thread-local: other threads (NCCL's) may do what a global recording forbids. */
static md_status record_begin(md_backend *be)
{
    cuda_impl *d = cuda__impl(be);
    MD_TRY(not_while_recording(d, "record_begin"));
    CUDA_TRY(cudaStreamBeginCapture(d->launch, cudaStreamCaptureModeThreadLocal));
    d->recording = true;
    d->side_recorded = false;
    return MD_OK;
}

/* Dropped after a failure, which the caller has in hand: whatever spoiled the recording is no news,
   and what broke the device will be said by the next fence. */
static void drop_recording(cuda_impl *d)
{
    cudaGraph_t graph = NULL;
    if (cudaStreamEndCapture(d->launch, &graph) != cudaSuccess ||
        cudaGraphDestroy(graph) != cudaSuccess)
        (void)cudaGetLastError();
}

/* Ending the capture gives the streams back, whatever became of what was recorded. */
static md_status record_end(md_backend *be, void **recording)
{
    cuda_impl *d = cuda__impl(be);
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    if (!d->recording)
        MD_FAIL(MD_INTERNAL, "cuda: record_end without record_begin");
    d->recording = false;
    if (!recording) {
        drop_recording(d);
        return MD_OK;
    }
    CUDA_TRY(cudaStreamEndCapture(d->launch, &graph));
    cudaError_t e = cudaGraphInstantiate(&exec, graph, 0), f = cudaGraphDestroy(graph);
    if (e != cudaSuccess)
        return cuda__fail(e, "cudaGraphInstantiate", __FILE__, __LINE__);
    if (f != cudaSuccess)
        released(f, "cudaGraphDestroy");
    *recording = exec;
    return MD_OK;
}

static md_status replay(md_backend *be, void *recording)
{
    cuda_impl *d = cuda__impl(be);
    MD_TRY(not_while_recording(d, "replay"));
    CUDA_TRY(cudaGraphLaunch((cudaGraphExec_t)recording, d->launch));
    return MD_OK;
}

/* Not while it may still run. */
static void forget(md_backend *be, void *recording)
{
    if (!recording)
        return;
    released(cudaStreamSynchronize(cuda__impl(be)->launch), "forgetting a recording");
    released(cudaGraphExecDestroy((cudaGraphExec_t)recording), "cudaGraphExecDestroy");
}

static void *side(md_backend *be)
{
    return cuda__impl(be)->side;
}

static md_status fork_side(md_backend *be)
{
    cuda_impl *d = cuda__impl(be);
    CUDA_TRY(cudaEventRecord(d->forked, d->launch));
    CUDA_TRY(cudaStreamWaitEvent(d->side, d->forked, 0));
    d->side_recorded = d->recording;
    return MD_OK;
}

/* While recording only what was forked into the recording may be joined. */
static md_status join_side(md_backend *be)
{
    cuda_impl *d = cuda__impl(be);
    if (d->recording && !d->side_recorded)
        MD_FAIL(MD_INTERNAL, "cuda: join of a side that was not forked while recording");
    CUDA_TRY(cudaEventRecord(d->joined, d->side));
    CUDA_TRY(cudaStreamWaitEvent(d->launch, d->joined, 0));
    return MD_OK;
}

static md_status idle(md_backend *be, bool *out)
{
    cudaError_t e = cudaStreamQuery(cuda__impl(be)->launch);
    *out = e == cudaSuccess;
    if (e != cudaSuccess && e != cudaErrorNotReady)
        return cuda__fail(e, "cudaStreamQuery", __FILE__, __LINE__);
    (void)cudaGetLastError(); /* "not ready" is kept as an error too */
    return MD_OK;
}

static md_status memory(md_backend *be, size_t *free_bytes, size_t *total_bytes)
{
    (void)be;
    CUDA_TRY(cudaMemGetInfo(free_bytes, total_bytes));
    return MD_OK;
}

/* ---- open and close */

md_status cuda_device_count(int *n)
{
    int count = 0, driver = 0;
    *n = 0;
    cudaError_t e = cudaGetDeviceCount(&count);
    if (e == cudaSuccess && count > 0) {
        *n = count;
        return MD_OK;
    }
    (void)cudaGetLastError();
    if (cudaDriverGetVersion(&driver) != cudaSuccess)
        driver = 0;
    if (e == cudaSuccess || e == cudaErrorNoDevice)
        (void)md_fail(MD_DEVICE, __FILE__, __LINE__, "no NVIDIA GPU is visible to this process");
    else if (e == cudaErrorInsufficientDriver && driver == 0)
        (void)md_fail(MD_DEVICE, __FILE__, __LINE__, "the NVIDIA driver is missing");
    else if (e == cudaErrorInsufficientDriver)
        (void)md_fail(MD_DEVICE, __FILE__, __LINE__,
                      "the NVIDIA driver is for CUDA %d.%d, this build needs one for %d.%d",
                      driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000,
                      CUDART_VERSION % 1000 / 10);
    else
        (void)cuda__fail(e, "cudaGetDeviceCount", __FILE__, __LINE__);
    return MD_OK;
}

/* After a broken launch every one of these fails alike: the first is enough. */
static void closed(cudaError_t *first, cudaError_t e)
{
    if (e != cudaSuccess)
        (void)cudaGetLastError();
    if (*first == cudaSuccess)
        *first = e;
}

static void be_close(md_backend *be)
{
    cuda_impl *d = cuda__impl(be);
    cudaError_t e = cudaSuccess;
    if (d->recording)
        (void)record_end(be, NULL);
    if (d->launch)
        closed(&e, cudaStreamSynchronize(d->launch));
    if (d->side)
        closed(&e, cudaStreamSynchronize(d->side));
    if (d->tuning)
        cuda__tuning_close(d);
    closed(&e, cuda__staging_close(d));
    while (d->blocks) {
        cuda_block *block = d->blocks;
        d->blocks = block->next;
        closed(&e, cudaFree(block->p));
        free(block);
    }
    if (d->blas && cublasLtDestroy(d->blas) != CUBLAS_STATUS_SUCCESS)
        closed(&e, cudaErrorUnknown);
    if (d->cudnn && cudnnDestroy(d->cudnn) != CUDNN_STATUS_SUCCESS)
        closed(&e, cudaErrorUnknown);
    if (d->forked)
        closed(&e, cudaEventDestroy(d->forked));
    if (d->joined)
        closed(&e, cudaEventDestroy(d->joined));
    if (d->side)
        closed(&e, cudaStreamDestroy(d->side));
    if (d->launch)
        closed(&e, cudaStreamDestroy(d->launch));
    if (d->device.fault)
        closed(&e, cudaFreeHost(d->device.fault));
    released(e, "closing the device");
    free(d);
    free(be);
}

static md_status describe(cuda_impl *d)
{
    struct cudaDeviceProp p;
    int driver = 0;
    CUDA_TRY(cudaGetDeviceProperties(&p, d->ordinal));
    CUDA_TRY(cudaDriverGetVersion(&driver));
    d->device.sm = 10 * p.major + p.minor;
    d->device.n_sm = p.multiProcessorCount;
    for (size_t i = 0; i < sizeof p.uuid.bytes; i++)
        (void)snprintf(d->uuid + 2 * i, 3, "%02x", (unsigned char)p.uuid.bytes[i]);
    (void)snprintf(d->name, sizeof d->name, "%.*s", (int)sizeof d->name - 1, p.name);
    (void)snprintf(d->text, sizeof d->text, "%s, sm_%d, %.1f GiB, driver %d.%d", d->name,
                   d->device.sm, (double)p.totalGlobalMem / (1 << 30), driver / 1000,
                   driver % 1000 / 10);
    if (d->device.sm < MEDDIFF_CUDA_SM)
        MD_FAIL(MD_UNSUPPORTED, "%s: this build is for GPUs from sm_%d on", d->text,
                MEDDIFF_CUDA_SM);
    return MD_OK;
}

/* Kernels and host use one address for it. */
static md_status open_fault_word(cuda_impl *d)
{
    void *word = NULL, *on_device = NULL;
    CUDA_TRY(cudaHostAlloc(&word, 64, cudaHostAllocMapped));
    memset(word, 0, 64);
    d->device.fault = word;
    CUDA_TRY(cudaHostGetDevicePointer(&on_device, word, 0));
    if (on_device != word)
        MD_FAIL(MD_UNSUPPORTED, "%s: host memory has another address on the device", d->text);
    return MD_OK;
}

static md_status open_device(cuda_impl *d)
{
    int n = 0;
    MD_TRY(cuda_device_count(&n));
    if (n == 0)
        return MD_DEVICE; /* with cuda_device_count's text */
    d->ordinal = (d->options.index < 0 ? 0 : d->options.index) % n;
    CUDA_TRY(cudaSetDevice(d->ordinal));
    MD_TRY(describe(d));
    CUDA_TRY(cudaStreamCreateWithFlags(&d->launch, cudaStreamNonBlocking));
    CUDA_TRY(cudaStreamCreateWithFlags(&d->side, cudaStreamNonBlocking));
    CUDA_TRY(cudaEventCreateWithFlags(&d->forked, cudaEventDisableTiming));
    CUDA_TRY(cudaEventCreateWithFlags(&d->joined, cudaEventDisableTiming));
    d->device.stream = d->launch;
    MD_TRY(open_fault_word(d));
    MD_TRY(cuda__staging_open(d));
    CUDNN_TRY(cudnnCreate(&d->cudnn));
    CUDNN_TRY(cudnnSetStream(d->cudnn, d->launch));
    BLAS_TRY(cublasLtCreate(&d->blas));
    return cuda__tuning_open(d);
}

md_status cuda_backend_open(const cuda_options *o, md_backend **out)
{
    static const md_backend_queues queues = {.record_begin = record_begin,
                                             .record_end = record_end,
                                             .replay = replay,
                                             .forget = forget,
                                             .side = side,
                                             .fork = fork_side,
                                             .join = join_side,
                                             .idle = idle,
                                             .memory = memory};
    static const md_backend_ops ops = {.name = "cuda",
                                       .prepare = prepare_table,
                                       .elem_bytes = md_dtype_bytes,
                                       .alloc = be_alloc,
                                       .release = be_release,
                                       .write = be_write,
                                       .read = be_read,
                                       .zero = be_zero,
                                       .sync = be_sync,
                                       .close = be_close,
                                       .fuses_residual = true,
                                       .fuses_chains = true,
                                       .queues = &queues};
    md_backend *be = calloc(1, sizeof *be);
    cuda_impl *d = calloc(1, sizeof *d);
    if (!be || !d) {
        free(be);
        free(d);
        MD_FAIL(MD_NOMEM, "cuda: out of memory");
    }
    *be = (md_backend){.ops = &ops, .threads = 1, .impl = d};
    d->options = *o;
    d->device.deterministic = o->deterministic;
    md_status status = open_device(d);
    if (status != MD_OK) {
        be_close(be);
        return md_context(status, "opening the GPU");
    }
    be->device = d->ordinal;
    *out = be;
    return MD_OK;
}

const char *cuda_backend_text(const md_backend *be)
{
    return cuda__impl(be)->text;
}

const char *cuda_backend_uuid(const md_backend *be)
{
    return cuda__impl(be)->uuid;
}
