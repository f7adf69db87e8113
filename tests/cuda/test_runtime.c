/* backend/cuda's own work, on a runtime that runs everything as late as it may (fake.h): copies
   through pinned memory, fences, recording, the side stream, and the n-th call failing for all n.
 */
#include "backend/cuda/cuda.h"
#include "backend/cuda/internal.h"
#include "backend/cuda/staging.h"
#include "backend/open.h"
#include "base/log.h"
#include "fake.h"
#include "graph/plan.h"
#include "ops/ops.h"
#include "runtime_ops.h"
#include "support/expect.h"
#include <cuda_runtime_api.h>

#include <math.h>

static const cuda_options options = {.index = 0};

static md_backend *open_gpu(void)
{
    md_backend *be = NULL;
    gpu_host_queue = fake_enqueue;
    OK(cuda_backend_open(&options, &be));
    return be;
}

static void close_gpu(md_backend *be)
{
    assert_int_equal(be->allocated_bytes, 0);
    be->ops->close(be);
    assert_int_equal(fake_leaks(), 0);
    if (fake_problems())
        fail_msg("%s", fake_problem_text());
}

static int start(void **state)
{
    (void)state;
    fake_reset();
    return 0;
}

static int end(void **state)
{
    (void)state;
    fake_reset();
    return 0;
}

static void *alloc(md_backend *be, size_t bytes)
{
    void *p = NULL;
    OK(be->ops->alloc(be, bytes, &p));
    assert_int_equal((uintptr_t)p % 256, 0);
    return p;
}

/* ---- opening */

static void opens_and_closes(void **state)
{
    (void)state;
    md_backend *be = open_gpu();
    assert_string_equal(cuda_backend_text(be), "Fake GPU 0, sm_90, 1.0 GiB, driver 13.0");
    assert_string_equal(be->ops->name, "cuda");
    assert_false(be->ops->host_visible);
    assert_int_equal(cuda__device(be)->sm, 90);
    close_gpu(be);
}

/* More workers than GPUs: they share. */
static void index_modulo_count(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        md_backend *be = NULL;
        char name[40];
        cuda_options o = {.index = i};
        fake_devices(2, 0, 13000);
        OK(cuda_backend_open(&o, &be));
        (void)snprintf(name, sizeof name, "Fake GPU %d,", i % 2);
        assert_non_null(strstr(cuda_backend_text(be), name));
        assert_int_equal(be->device, i % 2);
        (void)snprintf(name, sizeof name, "%030d%02x", 0, i % 2 + 0xe0);
        assert_string_equal(cuda_backend_uuid(be), name);
        close_gpu(be);
    }
}

static void says_why_there_is_none(void **state)
{
    (void)state;
    int n = 7;
    md_backend *be = NULL;
    fake_devices(0, cudaErrorInsufficientDriver, 0);
    OK(cuda_device_count(&n));
    assert_int_equal(n, 0);
    assert_non_null(strstr(md_status_text(), "driver is missing"));
    FAILS(cuda_backend_open(&options, &be), MD_DEVICE, "driver is missing");
    fake_devices(0, cudaErrorInsufficientDriver, 12020);
    OK(cuda_device_count(&n));
    assert_non_null(strstr(md_status_text(), "driver is for CUDA 12.2"));
    fake_devices(0, cudaErrorNoDevice, 13000);
    OK(cuda_device_count(&n));
    assert_non_null(strstr(md_status_text(), "no NVIDIA GPU is visible"));
    assert_int_equal(fake_last_error(), 0);
    assert_int_equal(fake_leaks(), 0);
    fake_devices(1, 0, 13000);
    fake_compute_capability(7, 5);
    FAILS(cuda_backend_open(&options, &be), MD_UNSUPPORTED, "sm_75");
    assert_int_equal(fake_leaks(), 0);
}

/* What meddiff doctor prints. */
static void tells_of_libraries(void **state)
{
    (void)state;
    int n = 7;
    char reason[BACKEND_REASON], wanted[80];
    md_backend *be = NULL;
    backend_options o = {.device = "cuda", .threads = 1, .sharing = 1};
    fake_devices(2, 0, 13000);
    (void)snprintf(wanted, sizeof wanted,
                   "CUDA %d.%d, driver for 13.0, cuDNN 9.19.0, cuBLASLt 13.1.0",
                   CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    assert_string_equal(backend_gpu_libraries(), wanted);
    OK(backend_gpus(&n, reason));
    assert_int_equal(n, 2);
    OK(backend_open(&o, &be));
    assert_non_null(strstr(backend_text(be), "Fake GPU 0, sm_"));
    close_gpu(be);
    fake_devices(0, cudaErrorInsufficientDriver, 0);
    OK(backend_gpus(&n, reason));
    assert_int_equal(n, 0);
    assert_non_null(strstr(reason, "driver is missing"));
}

static void device_by_name(void **state)
{
    (void)state;
    md_backend *be = NULL;
    backend_options o = {.device = "auto", .threads = 1, .sharing = 2, .index = 1};
    fake_devices(2, 0, 13000);
    OK(backend_open(&o, &be));
    assert_string_equal(be->ops->name, "cuda");
    assert_int_equal(be->device, 1);
    assert_string_equal(backend_identity(be), "000000000000000000000000000000e1");
    close_gpu(be);
    o.device = "cuda";
    OK(backend_open(&o, &be));
    assert_string_equal(be->ops->name, "cuda");
    close_gpu(be);
    o.device = "cpu";
    OK(backend_open(&o, &be));
    assert_string_equal(be->ops->name, "cpu");
    assert_string_equal(backend_identity(be), "");
    be->ops->close(be);
    o.device = "tpu";
    FAILS(backend_open(&o, &be), MD_USAGE, "auto, cpu and cuda");
    for (int old = 0; old < 2; old++) { /* none, or one too old for this build */
        fake_devices(old, old ? 0 : cudaErrorInsufficientDriver, 0);
        fake_compute_capability(7, 0);
        o.device = "auto";
        OK(backend_open(&o, &be));
        assert_string_equal(be->ops->name, "cpu");
        be->ops->close(be);
        o.device = "cuda";
        FAILS(backend_open(&o, &be), MD_USAGE, "device = \"cuda\": ");
        assert_non_null(strstr(md_status_text(), old ? "sm_70" : "driver is missing"));
    }
    /* there is one, but it does not open: said, not passed over */
    fake_reset();
    fake_fail_at(3); /* behind the counting: cudaSetDevice */
    o.device = "auto";
    FAILS(backend_open(&o, &be), MD_DEVICE, "cudaSetDevice");
    assert_int_equal(fake_leaks(), 0);
}

/* ---- memory */

static void counts_and_limits_memory(void **state)
{
    (void)state;
    md_backend *be = open_gpu();
    size_t left = 0, all = 0;
    void *none = NULL;
    void *a = alloc(be, 1000), *b = alloc(be, 0), *c = alloc(be, 5 << 20);
    assert_int_equal(be->allocated_bytes, 1000 + (5 << 20));
    OK(be->ops->queues->memory(be, &left, &all));
    assert_int_equal(all, 1 << 30);
    assert_true(left <= all - be->allocated_bytes);
    FAILS(be->ops->alloc(be, (size_t)1 << 30, &none), MD_NOMEM, "cannot allocate 1024 MiB");
    FAILS(be->ops->alloc(be, (size_t)-1, &none), MD_NOMEM, "no memory");
    assert_int_equal(fake_last_error(), 0); /* the next launch is not blamed for it */
    be->ops->release(be, b);
    be->ops->release(be, a);
    be->ops->release(be, NULL);
    be->ops->release(be, c);
    close_gpu(be);
}

/* ---- copies */

static float value(int64_t i, int round)
{
    return (float)((i * 2654435761LL + round * 40503LL) % 65521);
}

/* The host array is used again before anything was copied. */
static void writes_survive_reuse(void **state)
{
    (void)state;
    enum { N = 1000, ROUNDS = 50 };
    md_backend *be = open_gpu();
    float *p = alloc(be, sizeof(float) * N * ROUNDS), host[N], got[N];
    for (int r = 0; r < ROUNDS; r++) {
        for (int i = 0; i < N; i++)
            host[i] = value(i, r);
        OK(be->ops->write(be, p + r * N, MD_F32, host, MD_F32, N));
    }
    memset(host, 0xff, sizeof host);
    assert_string_equal(fake_ran_text(), ""); /* all of it is still on its way */
    for (int r = 0; r < ROUNDS; r++) {
        OK(be->ops->read(be, p + r * N, MD_F32, got, MD_F32, N));
        for (int i = 0; i < N; i++)
            assert_true(got[i] == value(i, r));
    }
    be->ops->release(be, p);
    close_gpu(be);
}

/* More than the ring holds, in many sizes: slots are filled again only when they were copied. */
static void ring_wraps_around(void **state)
{
    (void)state;
    md_backend *be = open_gpu();
    const int64_t all = 4 * (int64_t)CUDA_STAGING_SLOTS * CUDA_STAGING_BYTES / 4;
    float *p = alloc(be, (size_t)all * 4), *host = malloc((size_t)all * 4);
    assert_non_null(host);
    int64_t at = 0;
    for (int r = 0; at < all; r++) {
        int64_t n = 1 + (r * 77773LL) % 700001;
        n = n < all - at ? n : all - at;
        for (int64_t i = 0; i < n; i++)
            host[i] = value(at + i, 0);
        OK(be->ops->write(be, p + at, MD_F32, host, MD_F32, n));
        at += n;
    }
    memset(host, 0xff, (size_t)all * 4);
    OK(be->ops->read(be, p, MD_F32, host, MD_F32, all));
    int64_t wrong = 0;
    for (int64_t i = 0; i < all; i++)
        wrong += host[i] != value(i, 0);
    assert_int_equal(wrong, 0);
    free(host);
    be->ops->release(be, p);
    close_gpu(be);
}

/* One call of more than the whole ring, at every pair of types, to an odd place. */
static void big_copies_go_in_pieces(void **state)
{
    (void)state;
    static const md_dtype types[] = {MD_F32, MD_F64, MD_BF16};
    const int64_t n = (int64_t)CUDA_STAGING_BYTES / 2 * 5 + 3;
    md_backend *be = open_gpu();
    char *p = alloc(be, (size_t)n * 8 + 8);
    double *host = malloc((size_t)n * 8), *got = malloc((size_t)n * 8);
    assert_true(host && got);
    for (int t = 0; t < 9; t++) {
        md_dtype on_device = types[t / 3], on_host = types[t % 3];
        if (on_device == MD_F64)
            continue; /* no tensor is one */
        for (int64_t i = 0; i < n; i++) {
            double v = (double)(i % 251) - 125; /* exact in bf16 */
            md_convert_host((char *)host + (size_t)i * md_dtype_bytes(on_host), on_host, &v, MD_F64,
                            1);
        }
        fake_log_clear();
        OK(be->ops->write(be, p + 8, on_device, host, on_host, n));
        assert_true(fake_log_count("h2d") > 1);
        OK(be->ops->read(be, p + 8, on_device, got, on_host, n));
        assert_memory_equal(host, got, (size_t)n * md_dtype_bytes(on_host));
    }
    free(host);
    free(got);
    be->ops->release(be, p);
    close_gpu(be);
}

static void whole_numbers_as_they_are(void **state)
{
    (void)state;
    md_backend *be = open_gpu();
    void *p = alloc(be, 64);
    const int32_t ids[] = {-1, 0, 1 << 30};
    const uint8_t codes[] = {0, 127, 255};
    int32_t got_ids[3];
    uint8_t got_codes[3];
    float no[3] = {0};
    OK(be->ops->write(be, p, MD_I32, ids, MD_I32, 3));
    OK(be->ops->read(be, p, MD_I32, got_ids, MD_I32, 3));
    assert_memory_equal(ids, got_ids, sizeof ids);
    OK(be->ops->write(be, p, MD_U8, codes, MD_U8, 3));
    OK(be->ops->read(be, p, MD_U8, got_codes, MD_U8, 3));
    assert_memory_equal(codes, got_codes, sizeof codes);
    FAILS(be->ops->write(be, p, MD_I32, no, MD_F32, 3), MD_SHAPE, "cannot copy f32");
    FAILS(be->ops->read(be, p, MD_U8, no, MD_F32, 3), MD_SHAPE, "cannot copy u8");
    OK(be->ops->write(be, p, MD_I32, ids, MD_I32, 0));
    OK(be->ops->read(be, p, MD_I32, got_ids, MD_I32, 0));
    OK(be->ops->zero(be, p, 12));
    OK(be->ops->zero(be, p, 0));
    OK(be->ops->read(be, p, MD_I32, got_ids, MD_I32, 3));
    assert_true(!got_ids[0] && !got_ids[1] && !got_ids[2]);
    be->ops->release(be, p);
    close_gpu(be);
}

/* ---- launches of our own */

typedef struct add_one {
    float *p;
    int64_t n;
    float by;
} add_one;

static int add_run(void *closure)
{
    const add_one *a = closure;
    for (int64_t i = 0; i < a->n; i++)
        a->p[i] = a->p[i] * 2 + a->by; /* order matters */
    return 0;
}

static void launch_add(void *stream, float *p, int64_t n, float by)
{
    add_one *a = malloc(sizeof *a);
    assert_non_null(a);
    *a = (add_one){p, n, by};
    assert_int_equal(fake_enqueue(stream, "add", add_run, free, a), 0);
}

static int fault_run(void *closure)
{
    **(uint32_t **)closure = CUDA_FAULT_EMBEDDING_ID;
    return 0;
}

static void launch_fault(md_backend *be)
{
    uint32_t **word = malloc(sizeof *word);
    assert_non_null(word);
    *word = cuda__device(be)->fault;
    assert_int_equal(fake_enqueue(cuda__device(be)->stream, "fault", fault_run, free, word), 0);
}

static void read_is_a_fence(void **state)
{
    (void)state;
    md_backend *be = open_gpu();
    float *p = alloc(be, 16), x[4] = {1, 2, 3, 4};
    OK(be->ops->write(be, p, MD_F32, x, MD_F32, 4));
    launch_add(cuda__device(be)->stream, p, 4, 1);
    x[0] = 9; /* after the launch, with the first array used again */
    OK(be->ops->write(be, p, MD_F32, x, MD_F32, 1));
    launch_add(cuda__device(be)->stream, p, 4, 1);
    OK(be->ops->read(be, p, MD_F32, x, MD_F32, 4));
    assert_true(x[0] == 19 && x[1] == 11 && x[2] == 15 && x[3] == 19);
    be->ops->release(be, p);
    close_gpu(be);
}

static void faults_are_said_once(void **state)
{
    (void)state;
    md_backend *be = open_gpu();
    float *p = alloc(be, 4), x = 1;
    launch_fault(be);
    OK(be->ops->write(be, p, MD_F32, &x, MD_F32, 1)); /* does not wait, so cannot know */
    FAILS(be->ops->sync(be), MD_BAD_INPUT, "embedding: an id is outside the table");
    OK(be->ops->sync(be));
    launch_fault(be);
    FAILS(be->ops->read(be, p, MD_F32, &x, MD_F32, 1), MD_BAD_INPUT, "embedding: an id");
    OK(be->ops->read(be, p, MD_F32, &x, MD_F32, 1));
    be->ops->release(be, p);
    close_gpu(be);
}

/* A launch that went wrong: the next fence says so, and so does everything after it. */
static void broken_launches_are_said(void **state)
{
    (void)state;
    md_backend *be = open_gpu();
    float *p = alloc(be, 4), x = 1;
    fake_async_error(cudaErrorIllegalAddress);
    launch_add(cuda__device(be)->stream, p, 1, 1);
    OK(be->ops->write(be, p, MD_F32, &x, MD_F32, 1));
    FAILS(be->ops->read(be, p, MD_F32, &x, MD_F32, 1), MD_DEVICE, "cudaError700");
    FAILS(be->ops->sync(be), MD_DEVICE, "cudaStreamSynchronize");
    FAILS(be->ops->write(be, p, MD_F32, &x, MD_F32, 1), MD_DEVICE, "cudaMemcpyAsync");
    be->ops->release(be, p);
    close_gpu(be);
}

/* ---- recording */

static void records_and_replays(void **state)
{
    (void)state;
    md_backend *be = open_gpu();
    const md_backend_queues *q = be->ops->queues;
    float *p = alloc(be, 16), x[4] = {1, 2, 3, 4};
    void *recording = NULL, *none = NULL;
    OK(be->ops->write(be, p, MD_F32, x, MD_F32, 4));
    OK(q->record_begin(be));
    launch_add(cuda__device(be)->stream, p, 4, 1);
    OK(be->ops->zero(be, p, 4));
    launch_add(cuda__device(be)->stream, p, 4, 1);
    OK(q->record_end(be, &recording));
    assert_non_null(strstr(fake_log_text(), "s1 begin\ns1 [add]\ns1 [set 4]\ns1 [add]\ns1 end\n"));
    OK(be->ops->read(be, p, MD_F32, x, MD_F32, 4)); /* nothing of it ran */
    assert_true(x[0] == 1 && x[3] == 4);
    for (int i = 0; i < 2; i++)
        OK(q->replay(be, recording));
    OK(be->ops->read(be, p, MD_F32, x, MD_F32, 4));
    assert_true(x[0] == 1 && x[1] == 2 * 16 + 15 && x[3] == 4 * 16 + 15);
    /* between two replays a write is what the second one sees */
    OK(q->replay(be, recording));
    x[1] = 0;
    OK(be->ops->write(be, p + 1, MD_F32, x + 1, MD_F32, 1));
    OK(q->replay(be, recording));
    OK(be->ops->read(be, p, MD_F32, x, MD_F32, 4));
    assert_true(x[1] == 3);
    OK(q->replay(be, recording));
    q->forget(be, recording); /* waits for what still runs */
    q->forget(be, none);
    be->ops->release(be, p);
    close_gpu(be);
}

/* What must not be in a recording is refused, and the recording goes on. */
static void refuses_while_recording(void **state)
{
    (void)state;
    md_backend *be = open_gpu();
    const md_backend_queues *q = be->ops->queues;
    float *p = alloc(be, 16), x[4] = {1, 1, 1, 1};
    void *recording = NULL, *other;
    OK(be->ops->write(be, p, MD_F32, x, MD_F32, 4));
    FAILS(q->record_end(be, &recording), MD_INTERNAL, "without record_begin");
    OK(q->record_begin(be));
    FAILS(be->ops->write(be, p, MD_F32, x, MD_F32, 4), MD_INTERNAL, "write while");
    FAILS(be->ops->read(be, p, MD_F32, x, MD_F32, 4), MD_INTERNAL, "read while");
    FAILS(be->ops->sync(be), MD_INTERNAL, "sync while");
    FAILS(be->ops->alloc(be, 4, &other), MD_INTERNAL, "alloc while");
    FAILS(q->record_begin(be), MD_INTERNAL, "record_begin while");
    FAILS(q->replay(be, p), MD_INTERNAL, "replay while");
    FAILS(q->join(be), MD_INTERNAL, "not forked while recording");
    launch_add(cuda__device(be)->stream, p, 4, 1);
    OK(q->record_end(be, &recording));
    OK(q->replay(be, recording));
    OK(be->ops->read(be, p, MD_F32, x, MD_F32, 4));
    assert_true(x[0] == 3);
    q->forget(be, recording);
    be->ops->release(be, p);
    close_gpu(be);
}

/* Dropped on purpose, or spoiled by a side that was not joined: the stream works as before. */
static void spoiled_recordings_leave_the_stream(void **state)
{
    (void)state;
    md_backend *be = open_gpu();
    const md_backend_queues *q = be->ops->queues;
    float *p = alloc(be, 4), x = 1;
    void *recording = NULL;
    OK(be->ops->write(be, p, MD_F32, &x, MD_F32, 1));
    OK(q->record_begin(be));
    launch_add(cuda__device(be)->stream, p, 1, 1);
    OK(q->record_end(be, NULL));
    OK(q->record_begin(be));
    OK(q->fork(be));
    launch_add(q->side(be), p, 1, 1);
    FAILS(q->record_end(be, &recording), MD_DEVICE, "cudaStreamEndCapture");
    assert_null(recording);
    assert_int_equal(fake_last_error(), 0);
    launch_add(cuda__device(be)->stream, p, 1, 1);
    OK(q->fork(be));
    launch_add(q->side(be), p, 1, 0);
    OK(q->join(be));
    OK(be->ops->read(be, p, MD_F32, &x, MD_F32, 1));
    assert_true(x == 6);
    be->ops->release(be, p);
    close_gpu(be);
}

/* ---- the side stream */

static void launches(md_backend *be, float *p, bool fork, bool join)
{
    const md_backend_queues *q = be->ops->queues;
    launch_add(cuda__device(be)->stream, p, 4, 1);
    if (fork)
        OK(q->fork(be));
    launch_add(q->side(be), p, 4, 2);
    if (join)
        OK(q->join(be));
    launch_add(cuda__device(be)->stream, p, 4, 3);
}

static float after(md_backend *be, float *p)
{
    float x[4];
    OK(be->ops->read(be, p, MD_F32, x, MD_F32, 4));
    return x[0];
}

/* 1, doubled and raised in this order: ((1 2 + 1) 2 + 2) 2 + 3 = 19. */
static void side_runs_between(void **state)
{
    (void)state;
    for (int eager = 0; eager < 2; eager++) {
        fake_reset();
        fake_eager(eager);
        md_backend *be = open_gpu();
        const md_backend_queues *q = be->ops->queues;
        float *p = alloc(be, 16), x[4] = {1, 1, 1, 1};
        OK(be->ops->write(be, p, MD_F32, x, MD_F32, 4));
        fake_log_clear();
        launches(be, p, true, true);
        assert_string_equal(fake_log_text(), "s1 add\ns1 record e1\ns2 wait e1\ns2 add\n"
                                             "s2 record e2\ns1 wait e2\ns1 add\n");
        assert_true(after(be, p) == 19);

        void *recording = NULL;
        OK(q->record_begin(be));
        launches(be, p, true, true);
        OK(q->record_end(be, &recording));
        for (int i = 0; i < 2; i++) {
            OK(be->ops->write(be, p, MD_F32, x, MD_F32, 4));
            OK(q->replay(be, recording));
            assert_true(after(be, p) == 19);
        }
        q->forget(be, recording);
        be->ops->release(be, p);
        close_gpu(be);
    }
}

/* The fake is no judge if it does not see a missing wait. */
static void the_fake_sees_missing_waits(void **state)
{
    (void)state;
    md_backend *be = open_gpu();
    float *p = alloc(be, 16), x[4] = {1, 1, 1, 1};
    OK(be->ops->write(be, p, MD_F32, x, MD_F32, 4));
    launches(be, p, true, false); /* no join: the side comes late */
    assert_false(after(be, p) == 19);
    be->ops->release(be, p);
    close_gpu(be);
    fake_reset();
    be = open_gpu();
    p = alloc(be, 16);
    OK(be->ops->write(be, p, MD_F32, x, MD_F32, 4));
    OK(be->ops->sync(be));
    fake_eager(true);
    launch_add(be->ops->queues->side(be), p, 4, 2); /* no fork: it comes early */
    launches(be, p, true, true);
    assert_false(after(be, p) == 19);
    be->ops->release(be, p);
    close_gpu(be);
    fake_reset();
    be = open_gpu();
    p = alloc(be, 16);
    be->ops->release(be, p);
    p[0] = 1;
    assert_int_equal(fake_problems(), 1);
    be->ops->close(be);
}

/* ---- a plan */

static void plans_run(void **state)
{
    (void)state;
    md_backend *be = open_gpu();
    md_graph *g = NULL;
    md_plan *plan = NULL;
    OK(md_graph_new(&g));
    md_tensor *x = md_input(g, "x", MD_F32, 2, MD_DIMS(3, 5));
    md_tensor *w = md_input(g, "w", MD_F32, 2, MD_DIMS(4, 5));
    md_tensor *y = md_silu(md_linear(x, w, NULL));
    OK(md_plan_build(g, be, &y, 1, &plan));
    OK(md_plan_load(plan));
    float a[15], b[20], first[12], second[12];
    for (int i = 0; i < 20; i++)
        b[i] = 0.1f * (float)i - 1;
    for (int i = 0; i < 15; i++)
        a[i] = 0.2f * (float)i - 1;
    OK(md_plan_write(plan, x, a, MD_F32, 15));
    OK(md_plan_write(plan, w, b, MD_F32, 20));
    OK(md_plan_run(plan));
    OK(md_plan_read(plan, y, first, MD_F32, 12));
    for (int m = 0; m < 3; m++)
        for (int n = 0; n < 4; n++) {
            double s = 0;
            for (int k = 0; k < 5; k++)
                s += (double)a[5 * m + k] * b[5 * n + k];
            assert_true(fabs((double)first[4 * m + n] - s / (1 + exp(-s))) < 1e-5);
        }
    OK(md_plan_write(plan, x, a, MD_F32, 15));
    OK(md_plan_run(plan));
    OK(md_plan_read(plan, y, second, MD_F32, 12));
    assert_memory_equal(first, second, sizeof first);
    md_plan_free(plan);
    md_graph_free(g);
    close_gpu(be);
    runtime_ops_close();
}

/* ---- the n-th call fails */

static md_status use(md_backend *be)
{
    const md_backend_queues *q = be->ops->queues;
    enum { N = CUDA_STAGING_BYTES / 4 * (CUDA_STAGING_SLOTS + 2) };
    static float x[N];
    void *p = NULL, *recording = NULL;
    size_t left, all;
    MD_TRY(q->memory(be, &left, &all));
    MD_TRY(be->ops->alloc(be, sizeof x, &p));
    md_status status = MD_OK;
    MD_TRY_GOTO(be->ops->zero(be, p, sizeof x), out);
    MD_TRY_GOTO(be->ops->write(be, p, MD_F32, x, MD_F32, N), out);
    MD_TRY_GOTO(q->fork(be), out);
    MD_TRY_GOTO(q->join(be), out);
    MD_TRY_GOTO(q->record_begin(be), out);
    status = be->ops->zero(be, p, 4);
    if (status == MD_OK)
        status = q->fork(be);
    if (status == MD_OK)
        status = q->join(be);
    if (status != MD_OK) {
        (void)q->record_end(be, NULL);
        goto out;
    }
    MD_TRY_GOTO(q->record_end(be, &recording), out);
    MD_TRY_GOTO(q->replay(be, recording), out);
    MD_TRY_GOTO(be->ops->sync(be), out);
    MD_TRY_GOTO(be->ops->read(be, p, MD_F32, x, MD_F32, N), out);
out:
    q->forget(be, recording);
    be->ops->release(be, p);
    return status;
}

/* What frees is only warned about, and so is the wait of `forget`. */
static bool only_warned(const char *call, int *waits)
{
    if (strstr(call, "Destroy") || strstr(call, "Free"))
        return true;
    return strstr(call, "cudaStreamSynchronize") && ++*waits <= 1;
}

/* Every other failure is a status that names the call; nothing is left behind, neither memory nor
   an error that a later call would be blamed for: the same work then succeeds. */
static void every_call_may_fail(void **state)
{
    (void)state;
    int failures = 0, waits = 0;
    const char *call = "";
    md_log_quiet(true);
    for (long n = 1; call; n++) {
        md_backend *be = NULL;
        fake_reset();
        fake_fail_at(n);
        md_status status = cuda_backend_open(&options, &be);
        if (status == MD_OK)
            status = use(be);
        call = fake_failed_call();
        if (status != MD_OK) {
            failures++;
            assert_non_null(call);
            assert_true(status == MD_DEVICE || status == MD_NOMEM);
            if (!strstr(md_status_text(), call))
                fail_msg("call %ld, %s, failed with \"%s\"", n, call, md_status_text());
            assert_int_equal(fake_last_error(), 0);
        } else if (call && !only_warned(call, &waits)) {
            fail_msg("call %ld, %s, failed unnoticed", n, call);
        }
        if (be) {
            assert_int_equal(be->allocated_bytes, 0);
            if (status != MD_OK)
                OK(use(be));
            bool closing = !call;
            be->ops->close(be);
            if (closing)
                call = fake_failed_call(); /* in close: all is freed all the same */
        }
        if (fake_leaks())
            fail_msg("call %ld (%s): %d things are left", n, call, fake_leaks());
        if (fake_problems())
            fail_msg("call %ld (%s): %s", n, call, fake_problem_text());
    }
    assert_true(failures > 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(opens_and_closes, start, end),
        cmocka_unit_test_setup_teardown(index_modulo_count, start, end),
        cmocka_unit_test_setup_teardown(says_why_there_is_none, start, end),
        cmocka_unit_test_setup_teardown(tells_of_libraries, start, end),
        cmocka_unit_test_setup_teardown(device_by_name, start, end),
        cmocka_unit_test_setup_teardown(counts_and_limits_memory, start, end),
        cmocka_unit_test_setup_teardown(writes_survive_reuse, start, end),
        cmocka_unit_test_setup_teardown(ring_wraps_around, start, end),
        cmocka_unit_test_setup_teardown(big_copies_go_in_pieces, start, end),
        cmocka_unit_test_setup_teardown(whole_numbers_as_they_are, start, end),
        cmocka_unit_test_setup_teardown(read_is_a_fence, start, end),
        cmocka_unit_test_setup_teardown(faults_are_said_once, start, end),
        cmocka_unit_test_setup_teardown(broken_launches_are_said, start, end),
        cmocka_unit_test_setup_teardown(records_and_replays, start, end),
        cmocka_unit_test_setup_teardown(refuses_while_recording, start, end),
        cmocka_unit_test_setup_teardown(spoiled_recordings_leave_the_stream, start, end),
        cmocka_unit_test_setup_teardown(side_runs_between, start, end),
        cmocka_unit_test_setup_teardown(the_fake_sees_missing_waits, start, end),
        cmocka_unit_test_setup_teardown(plans_run, start, end),
        cmocka_unit_test_setup_teardown(every_call_may_fail, start, end),
    };
    return cmocka_run_group_tests_name("cuda runtime", tests, NULL, NULL);
}
