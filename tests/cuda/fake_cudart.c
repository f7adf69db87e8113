/* The CUDA runtime on the host; see fake.h. */
#include "fake_internal.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- device */

cudaError_t cudaGetDeviceCount(int *count)
{
    ENTER();
    if (fake__s.count_error) /* and *count stays as it was, as without a driver */
        return fake__failing((cudaError_t)fake__s.count_error);
    *count = fake__s.n_devices;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    ENTER();
    return fake__failing(device >= 0 && device < fake__s.n_devices ? cudaSuccess
                                                                   : cudaErrorInvalidDevice);
}

cudaError_t cudaDriverGetVersion(int *version)
{
    ENTER();
    *version = fake__s.driver;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    ENTER();
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    ENTER();
    memset(p, 0, sizeof *p);
    (void)snprintf(p->name, sizeof p->name, "Fake GPU %d", device);
    p->uuid.bytes[15] = (char)(0xe0 + device); /* a digit that a signed char would spoil */
    p->major = fake__s.major;
    p->minor = fake__s.minor;
    p->multiProcessorCount = 3;
    p->totalGlobalMem = fake__s.total;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    ENTER();
    *free_bytes = fake__s.total - fake__s.held;
    *total = fake__s.total;
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t e = fake__s.last;
    fake__s.last = cudaSuccess;
    return e;
}

cudaError_t cudaPeekAtLastError(void)
{
    return fake__s.last;
}

const char *cudaGetErrorString(cudaError_t e)
{
    return e == cudaSuccess                 ? "no error"
           : e == cudaErrorMemoryAllocation ? "out of memory"
                                            : "a fake error";
}

const char *cudaGetErrorName(cudaError_t e)
{
    static char name[32];
    (void)snprintf(name, sizeof name, "cudaError%d", (int)e);
    return name;
}

/* ---- memory */

static object *allocate(kind k, size_t bytes)
{
    object *o = fake__new_object(k);
    void *p = NULL;
    if (posix_memalign(&p, 256, bytes + GUARD) != 0)
        abort();
    o->p = p;
    o->bytes = bytes;
    memset(o->p, FAKE_FRESH, bytes);
    memset(o->p + bytes, FAKE_AFTER, GUARD);
    return o;
}

static cudaError_t give_back(kind k, void *p)
{
    if (fake__s.capture)
        fake_problemf("free of %s while launches are recorded", fake__kind_names[k]);
    for (object *o = fake__s.objects; p && o; o = o->next)
        if (o->kind == k && o->p == p) {
            if (!o->live) {
                fake_problemf("%s %d freed twice", fake__kind_names[k], o->number);
                return fake__failing(cudaErrorInvalidValue);
            }
            fake__run_all(); /* freeing waits for the device */
            o->live = false;
            memset(o->p, FAKE_FREED, o->bytes);
            fake__s.held -= k == DEVICE_MEMORY ? o->bytes : 0;
            return cudaSuccess;
        }
    if (p)
        fake_problemf("free of an address that is no %s", fake__kind_names[k]);
    return fake__failing(p ? cudaErrorInvalidValue : cudaSuccess);
}

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    ENTER();
    cudaError_t e = fake__forbidden_while_recording();
    if (e != cudaSuccess)
        return e;
    if (bytes > fake__s.total - fake__s.held)
        return fake__failing(cudaErrorMemoryAllocation);
    *p = allocate(DEVICE_MEMORY, bytes)->p;
    fake__s.held += bytes;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    cudaError_t e = fake__entered(__func__), g = give_back(DEVICE_MEMORY, p);
    return e != cudaSuccess ? e : g;
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags)
{
    (void)flags;
    ENTER();
    cudaError_t e = fake__forbidden_while_recording();
    if (e == cudaSuccess)
        *p = allocate(PINNED_MEMORY, bytes)->p;
    return e;
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    return cudaHostAlloc(p, bytes, 0);
}

cudaError_t cudaFreeHost(void *p)
{
    cudaError_t e = fake__entered(__func__), g = give_back(PINNED_MEMORY, p);
    return e != cudaSuccess ? e : g;
}

cudaError_t cudaHostGetDevicePointer(void **on_device, void *host, unsigned flags)
{
    (void)flags;
    ENTER();
    *on_device = host;
    return cudaSuccess;
}

static const char *const copy_names[] = {"h2h", "h2d", "d2h", "d2d"};

static bool copy_fits(void *p, size_t bytes, bool device)
{
    object *o = fake__find_memory(p, bytes);
    return o && (o->kind == DEVICE_MEMORY) == device;
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind way,
                            cudaStream_t stream)
{
    ENTER();
    object *s = fake__find(stream, STREAM);
    if (!s || way > cudaMemcpyDeviceToDevice)
        return fake__failing(cudaErrorInvalidValue);
    bool to_device = way == cudaMemcpyHostToDevice || way == cudaMemcpyDeviceToDevice;
    bool from_device = way == cudaMemcpyDeviceToHost || way == cudaMemcpyDeviceToDevice;
    if (!copy_fits(dst, bytes, to_device) || !copy_fits((void *)(uintptr_t)src, bytes, from_device))
        fake_problemf("s%d: a copy %s of %zu bytes that are not there (or not pinned)", s->number,
                      copy_names[way], bytes);
    op *o = fake__new_op(COPY, s);
    o->dst = dst;
    o->src = src;
    o->bytes = bytes;
    fake_logf(s, "%s %zu", copy_names[way], bytes);
    return fake__put(o);
}

cudaError_t cudaMemsetAsync(void *dst, int value, size_t bytes, cudaStream_t stream)
{
    ENTER();
    object *s = fake__find(stream, STREAM);
    if (!s)
        return fake__failing(cudaErrorInvalidResourceHandle);
    op *o = fake__new_op(SET, s);
    o->dst = dst;
    o->value = value;
    o->bytes = bytes;
    fake_logf(s, "set %zu", bytes);
    return fake__put(o);
}

/* ---- streams and events */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    ENTER();
    if (flags != cudaStreamNonBlocking)
        fake_problemf("a stream that waits for the default stream");
    *stream = (cudaStream_t)(void *)fake__new_object(STREAM);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    cudaError_t e = fake__entered(__func__);
    object *s = fake__find(stream, STREAM);
    if (!s)
        return fake__failing(cudaErrorInvalidResourceHandle);
    if (s->head)
        fake_problemf("s%d destroyed with work on it", s->number);
    if (s->capture)
        fake_problemf("s%d destroyed while it is recorded", s->number);
    s->live = false;
    return e;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    ENTER();
    object *s = fake__find(stream, STREAM);
    if (!s)
        return fake__failing(cudaErrorInvalidResourceHandle);
    if (s->capture)
        return fake__forbidden_while_recording();
    fake_logf(s, "sync");
    fake__run_until(s, NULL, 0);
    return fake__failing(fake__s.sticky);
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    ENTER();
    object *s = fake__find(stream, STREAM);
    if (!s)
        return fake__failing(cudaErrorInvalidResourceHandle);
    if (s->head)
        fake__run_head(s);
    return fake__failing(s->head ? cudaErrorNotReady : fake__s.sticky);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    (void)flags;
    ENTER();
    *event = (cudaEvent_t)(void *)fake__new_object(EVENT);
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, 0);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    cudaError_t e = fake__entered(__func__);
    object *o = fake__find(event, EVENT);
    if (!o)
        return fake__failing(cudaErrorInvalidResourceHandle);
    o->live = false;
    return e;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    ENTER();
    object *e = fake__find(event, EVENT), *s = fake__find(stream, STREAM);
    if (!e || !s)
        return fake__failing(cudaErrorInvalidResourceHandle);
    op *o = fake__new_op(RECORD, s);
    fake_logf(s, "record e%d", e->number);
    e->on = s;
    e->in = s->capture;
    o->event = e;
    if (s->capture) {
        e->node = fake__graph_add(s->capture, o);
        return cudaSuccess;
    }
    o->version = ++e->recorded;
    return fake__put(o);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    ENTER();
    object *e = fake__find(event, EVENT);
    if (!e)
        return fake__failing(cudaErrorInvalidResourceHandle);
    if (e->in)
        return fake__forbidden_while_recording() ? cudaErrorStreamCaptureUnsupported
                                                 : fake__failing(cudaErrorInvalidValue);
    fake__log_line("e%d sync", e->number);
    if (e->on)
        fake__run_until(e->on, e, e->recorded);
    return fake__failing(fake__s.sticky);
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    ENTER();
    object *e = fake__find(event, EVENT);
    if (!e || e->in)
        return fake__failing(cudaErrorInvalidResourceHandle);
    if (e->on && e->done < e->recorded && e->on->head)
        fake__run_head(e->on);
    return fake__failing(e->done < e->recorded ? cudaErrorNotReady : fake__s.sticky);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t begin, cudaEvent_t end)
{
    ENTER();
    object *a = fake__find(begin, EVENT), *b = fake__find(end, EVENT);
    if (!a || !b || !a->recorded || !b->recorded)
        return fake__failing(cudaErrorInvalidResourceHandle);
    if (a->done < a->recorded || b->done < b->recorded)
        return fake__failing(cudaErrorNotReady);
    *ms = (float)(b->at - a->at);
    return fake__failing(fake__s.sticky);
}

/* ---- recording */

static void join_capture(graph *g, object *s)
{
    if (s->capture == g || g->n_streams == STREAMS)
        return;
    s->capture = g;
    g->streams[g->n_streams++] = s;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    (void)flags;
    ENTER();
    object *e = fake__find(event, EVENT), *s = fake__find(stream, STREAM);
    if (!e || !s)
        return fake__failing(cudaErrorInvalidResourceHandle);
    if (e->in && e->in != fake__s.capture) /* of a recording that has ended */
        return fake__failing(cudaErrorInvalidValue);
    if (s->capture && !e->in) {
        s->capture->invalid = true;
        return fake__failing(cudaErrorStreamCaptureIsolation);
    }
    if (e->in)
        join_capture(e->in, s);
    op *o = fake__new_op(WAIT, s);
    o->event = e;
    o->event_stream = e->on;
    o->version = e->in ? e->node : e->recorded;
    fake_logf(s, "wait e%d", e->number);
    return fake__put(o);
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    ENTER();
    object *s = fake__find(stream, STREAM);
    if (!s || fake__s.capture)
        return fake__failing(cudaErrorIllegalState);
    if (mode != cudaStreamCaptureModeThreadLocal)
        fake_problemf("a recording that NCCL's threads would break");
    fake__s.capture = calloc(1, sizeof *fake__s.capture);
    if (!fake__s.capture)
        abort();
    fake__s.capture->references = 1;
    fake__s.capture->origin = s;
    s->capture = fake__s.capture;
    fake__s.capture->streams[fake__s.capture->n_streams++] = s;
    fake__log_line("s%d begin", s->number);
    return cudaSuccess;
}

/* The last thing on every stream that was forked must be an event that the origin waits for. */
static bool joined(const graph *g)
{
    for (int i = 0; i < g->n_streams; i++) {
        long last = -1;
        bool waited = g->streams[i] == g->origin;
        for (long k = 0; k < g->n; k++)
            if (g->nodes[k]->stream == g->streams[i])
                last = k;
        for (long k = last + 1; k < g->n; k++)
            waited = waited || (g->nodes[k]->kind == WAIT && g->nodes[k]->stream == g->origin &&
                                g->nodes[k]->version == last);
        if (!waited)
            return false;
    }
    return true;
}

/* An event of a recording cannot be waited for after it. */
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    cudaError_t e = fake__entered(__func__);
    object *s = fake__find(stream, STREAM);
    *out = NULL;
    if (!s || !s->capture || s->capture->origin != s)
        return fake__failing(cudaErrorStreamCaptureUnmatched);
    graph *g = s->capture;
    fake__log_line("s%d end", s->number);
    for (int i = 0; i < g->n_streams; i++)
        g->streams[i]->capture = NULL;
    fake__s.capture = NULL;
    if (e == cudaSuccess && g->invalid)
        e = cudaErrorStreamCaptureInvalidated;
    if (e == cudaSuccess && !joined(g))
        e = cudaErrorStreamCaptureUnjoined;
    if (e != cudaSuccess) {
        for (object *o = fake__s.objects; o; o = o->next)
            if (o->in == g) {
                o->in = NULL;
                o->on = NULL;
            }
        fake__graph_release(g);
        return fake__failing(e);
    }
    object *o = fake__new_object(GRAPH);
    o->g = g;
    *out = (cudaGraph_t)(void *)o;
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status)
{
    ENTER();
    object *s = fake__find(stream, STREAM);
    if (!s)
        return fake__failing(cudaErrorInvalidResourceHandle);
    *status = !s->capture           ? cudaStreamCaptureStatusNone
              : s->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                    : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t from, unsigned long long flags)
{
    (void)flags;
    ENTER();
    object *o = fake__find(from, GRAPH);
    if (!o)
        return fake__failing(cudaErrorInvalidValue);
    object *x = fake__new_object(EXEC);
    x->g = o->g;
    x->g->references++;
    *exec = (cudaGraphExec_t)(void *)x;
    return cudaSuccess;
}

static cudaError_t drop_graph(const void *handle, kind k, cudaError_t e)
{
    object *o = fake__find(handle, k);
    if (!o)
        return fake__failing(cudaErrorInvalidValue);
    o->live = false; /* o->g stays: events remember it */
    return e;
}

cudaError_t cudaGraphDestroy(cudaGraph_t handle)
{
    return drop_graph(handle, GRAPH, fake__entered(__func__));
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    return drop_graph(exec, EXEC, fake__entered(__func__));
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    ENTER();
    object *x = fake__find(exec, EXEC), *s = fake__find(stream, STREAM);
    if (!x || !s || s->capture)
        return fake__failing(cudaErrorInvalidValue);
    op *o = fake__new_op(LAUNCH, s);
    o->g = x->g;
    o->g->references++;
    fake_logf(s, "graph %ld", x->g->n);
    return fake__put(o);
}
