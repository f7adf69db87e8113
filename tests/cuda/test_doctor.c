/* The GPU part of meddiff doctor on fakes of the CUDA runtime: GPUs that are there, none, one too
   old, one that computes wrong numbers, and one of which any call fails. Under mpirun with NCCL's
   fake: GPUs that sum, sum wrongly, and one that cannot join. */
#include "doctor.h"

#include "backend/cuda/vendor.h"
#include "comm/comm.h"
#include "fake.h"
#include "mpi/check.h"
#include "runtime_ops.h"
#include "support/expect.h"

#include <limits.h>

static char said[4096];
static config *cfg;
static float factor = 1; /* of what the device's linear layer computes; 1 is right */

/* ---- in place of doctor.c: lines "ok GPU text" */

static void say(const char *state, const char *what, const char *fmt, va_list ap)
{
    size_t n = strlen(said);
    n += (size_t)snprintf(said + n, sizeof said - n, "%s %s ", state, what);
    n += (size_t)vsnprintf(said + n, sizeof said - n, fmt, ap);
    (void)snprintf(said + n, sizeof said - n, "\n");
}

#define SAY(name, state, count)                                                                    \
    void doctor_##name(doctor *d, const char *what, const char *fmt, ...)                          \
    {                                                                                              \
        va_list ap;                                                                                \
        va_start(ap, fmt);                                                                         \
        say(state, what, fmt, ap);                                                                 \
        va_end(ap);                                                                                \
        count;                                                                                     \
    }
SAY(ok, "ok", (void)d)
SAY(note, "note", (void)d)
SAY(warn, "warning", d->warnings++)
SAY(missing, "missing", d->missing++)

const char *doctor_size(char out[DOCTOR_SIZE], double bytes)
{
    (void)snprintf(out, DOCTOR_SIZE, "%.0f bytes", bytes);
    return out;
}

/* ---- a linear layer of the device that can be wrong; takes the place of runtime_ops.c's */

typedef struct product {
    const float *x, *w;
    float *y;
    int64_t rows, in, out;
} product;

static int multiply(void *closure)
{
    const product *p = closure;
    for (int64_t r = 0; r < p->rows; r++)
        for (int64_t o = 0; o < p->out; o++) {
            double sum = 0;
            for (int64_t i = 0; i < p->in; i++)
                sum += (double)p->x[r * p->in + i] * (double)p->w[o * p->in + i];
            p->y[r * p->out + o] = factor * (float)sum;
        }
    return 0;
}

static md_status launch(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    const md_tensor *w = k->node->in[1];
    product *p = malloc(sizeof *p);
    if (!p)
        MD_FAIL(MD_NOMEM, "out of memory");
    *p = (product){
        .x = in[0], .w = in[1], .y = out[0], .rows = md_numel(k->node->in[0]) / w->dim[1]};
    p->in = w->dim[1];
    p->out = w->dim[0];
    (void)fake_enqueue(cuda__device(k->backend)->stream, "linear", multiply, free, p);
    return cuda__launched(k, (int)cudaGetLastError());
}

md_status cuda_linear(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = launch;
    return MD_OK;
}

/* ---- the cases */

static doctor look(const char *device)
{
    char set[32];
    doctor d = {.prints = comm_rank(comm_world()) == 0,
                .mpi = comm_size(comm_world()) > 1,
                .launch = {.size = comm_size(comm_world()), .met = true}};
    (void)snprintf(set, sizeof set, "device=%s", device);
    OK(config_set(cfg, set, "test"));
    d.cfg = cfg;
    *said = 0;
    doctor_devices(&d);
    runtime_ops_close();
    assert_int_equal(fake_leaks(), 0);
    return d;
}

static void holds(const char *text)
{
    if (!strstr(said, text))
        fail_msg("no \"%s\" in:\n%s", text, said);
}

static int start(void **state)
{
    (void)state;
    fake_reset();
    gpu_host_queue = fake_enqueue;
    factor = 1;
    OK(config_load(NULL, NULL, 0, &cfg));
    return 0;
}

static int end(void **state)
{
    (void)state;
    fake_reset();
    config_free(cfg);
    return 0;
}

static void every_gpu_is_looked_at(void **state)
{
    (void)state;
    fake_devices(2, 0, 13000);
    doctor d = look("auto");
    assert_int_equal(d.missing + d.warnings, 0);
    holds("ok GPU CUDA ");
    holds("cuDNN 9.19.0, cuBLASLt 13.1.0, ");
    holds("ok GPU 0: Fake GPU 0, sm_");
    holds("ok GPU 1: Fake GPU 1, sm_");
    holds("its kernels agree");
    d = look("cpu");
    holds("note GPU device = \"cpu\"");
}

static void there_is_none(void **state)
{
    (void)state;
    fake_devices(0, cudaErrorInsufficientDriver, 0);
    doctor d = look("auto");
    assert_int_equal(d.missing, 0);
    holds("note GPU the NVIDIA driver is missing: it computes on the processor");
    d = look("cuda");
    assert_int_equal(d.missing, 1);
    holds("missing GPU device = \"cuda\": the NVIDIA driver is missing");
    holds("docker --gpus all");
    fake_devices(0, cudaErrorInsufficientDriver, 12020);
    look("cuda");
    holds("the NVIDIA driver is for CUDA 12.2, this build needs one for ");
}

static void it_is_too_old(void **state)
{
    (void)state;
    fake_devices(1, 0, 13000);
    fake_compute_capability(7, 5);
    doctor d = look("auto");
    assert_int_equal(d.missing, 0);
    holds("warning GPU 0: ");
    holds("sm_75, 1.0 GiB, driver 13.0: this build is for GPUs from sm_80 on");
    d = look("cuda");
    assert_int_equal(d.missing, 1);
}

static void it_computes_wrong_numbers(void **state)
{
    (void)state;
    fake_devices(1, 0, 13000);
    factor = 1.001F;
    doctor d = look("auto");
    assert_int_equal(d.missing, 1);
    holds("missing GPU 0: ");
    holds("a small network gives wrong numbers");
}

/* Nothing is left open, and it is never called well. */
static void any_call_fails(void **state)
{
    (void)state;
    for (long n = 1;; n++) {
        fake_reset();
        fake_devices(1, 0, 13000);
        fake_fail_at(n);
        doctor d = look("cuda");
        if (!fake_failed_call())
            break;
        if (d.missing == 0 && strstr(said, "its kernels agree") &&
            strncmp(fake_failed_call(), "cudaFree", strlen("cudaFree")) != 0 &&
            !strstr(fake_failed_call(), "Destroy") && !strstr(fake_failed_call(), "GetVersion") &&
            !strstr(fake_failed_call(), "Synchronize"))
            fail_msg("call %ld, %s, failed, and all is well:\n%s", n, fake_failed_call(), said);
    }
}

#ifdef MEDDIFF_NCCL
/* ---- under mpirun: rank 0 of the program is no worker */

/* Which call it was, counted from fake_reset; 0: none. */
static long call_of(const char *name)
{
    for (long n = 1; fake_call(n); n++)
        if (!strcmp(fake_call(n), name))
            return n;
    return 0;
}

static void says(const char *text)
{
    bool first = comm_rank(comm_world()) == 0;
    if (first && !strstr(said, text))
        (void)fprintf(stderr, "no \"%s\" in:\n%s", text, said);
    ok(!first || strstr(said, text));
}

static void look_together(int peers, long fail_at)
{
    fake_reset();
    fake_nccl_reset();
    fake_nccl_peers(peers);
    fake_devices(comm_size(comm_world()), 0, 13000);
    fake_fail_at(fail_at);
    doctor d = look("auto");
    ok(comm_rank(comm_world()) > 0 || d.missing == (peers == 2 && !fail_at ? 0 : 2));
    ok(fake_nccl_leaks() == 0);
}

static int many(void)
{
    bool second = comm_rank(comm_world()) == 2;
    gpu_host_queue = fake_enqueue;
    must(config_load(NULL, NULL, 0, &cfg));
    look_together(2, 0);
    says("ok GPU rank 1: Fake GPU ");
    says("ok GPU rank 2: Fake GPU ");
    long joins = call_of("ncclCommInitRankConfig");
    ok((joins > 0) == (comm_workers() != NULL));
    look_together(1, 0);
    says("missing GPU rank 1: NCCL: 2 GPUs count themselves as 1; NCCL_DEBUG=INFO says more");
    says("missing GPU rank 2: NCCL: 2 GPUs count themselves as 1");
    look_together(2, second ? joins : LONG_MAX);
    says("missing GPU rank 1: NCCL: ");
    says("missing GPU rank 2: NCCL: ");
    says("joining the GPUs: a fake nccl error");
    config_free(cfg);
    must(comm_finalize());
    return 0;
}
#else
static int many(void)
{
    return 77; /* not started so without NCCL's headers */
}
#endif

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_gpu_is_looked_at, start, end),
        cmocka_unit_test_setup_teardown(there_is_none, start, end),
        cmocka_unit_test_setup_teardown(it_is_too_old, start, end),
        cmocka_unit_test_setup_teardown(it_computes_wrong_numbers, start, end),
        cmocka_unit_test_setup_teardown(any_call_fails, start, end),
    };
    must(comm_init(&argc, &argv));
    if (comm_size(comm_world()) > 1)
        return many();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    must(comm_finalize());
    return failed;
}
