/* comm's sums by NCCL, with a NCCL of one rank: polling, groups, asynchronous errors, the n-th call
   failing. Under mpirun: whether all workers come to the same decision about their GPUs. */
#include "comm/comm.h"
#include "comm/device.h"
#include "fake_internal.h"
#include "mpi/check.h"
#include "support/expect.h"

#include <nccl.h>

static object *stream;

static int start(void **state)
{
    (void)state;
    fake_reset();
    fake_nccl_reset();
    stream = fake__new_object(STREAM);
    return 0;
}

static comm_device *join(void)
{
    comm_device *d = NULL;
    OK(comm_device_new(comm_workers(), "GPU-1", false, 5, &d));
    assert_non_null(d);
    return d;
}

static void leave(comm_device *d)
{
    comm_device_free(d);
    assert_int_equal(fake_nccl_leaks(), 0);
    if (fake_problems())
        fail_msg("%s", fake_problem_text());
}

static void sums(void **state)
{
    (void)state;
    for (int delay = 0; delay < 4; delay += 3) {
        fake_log_clear();
        fake_nccl_delay(delay);
        comm_device *d = join();
        float x[8];
        OK(comm_device_sum(d, x, 8, COMM_DEVICE_F32, stream));
        OK(comm_device_group_begin(d));
        OK(comm_device_sum(d, x, 3, COMM_DEVICE_BF16, stream));
        OK(comm_device_sum(d, x, 0, COMM_DEVICE_F32, stream));
        OK(comm_device_group_end(d));
        OK(comm_device_check(d));
        assert_string_equal(fake_log_text(), "s1 sum f32 8\ns1 sum bf16 3\ns1 sum f32 0\n");
        FAILS(comm_device_sum(d, x, -1, COMM_DEVICE_F32, stream), MD_INTERNAL, "-1");
        leave(d);
    }
}

static void asynchronous_errors_name_the_phase(void **state)
{
    (void)state;
    comm_device *d = join();
    float x[8];
    char text[64];
    comm_device_phase(d, "step %d: all-reduce of bucket %d", 123, 4);
    fake_nccl_async_error(ncclRemoteError);
    FAILS(comm_device_check(d), MD_COMM, "step 123: all-reduce of bucket 4: ");
    (void)snprintf(text, sizeof text, "rank 0 on %.40s", comm_host());
    FAILS(comm_device_check(d), MD_COMM, text);
    FAILS(comm_device_check(d), MD_COMM, "a peer is gone: details");
    fake_nccl_delay(1);
    FAILS(comm_device_sum(d, x, 8, COMM_DEVICE_F32, stream), MD_COMM, "bucket 4");
    comm_device_abort(d);
    assert_int_equal(fake_nccl_leaks(), 0);
    FAILS(comm_device_sum(d, x, 8, COMM_DEVICE_F32, stream), MD_COMM, "aborted");
    FAILS(comm_device_check(d), MD_COMM, "aborted");
    leave(d);
}

/* A peer that never answers ends at the deadline. */
static void silence_ends_at_the_deadline(void **state)
{
    (void)state;
    comm_device *d = NULL;
    fake_nccl_delay(1 << 30);
    FAILS(comm_device_new(comm_workers(), "GPU-1", false, 0.05, &d), MD_COMM, "no answer in time");
    assert_null(d);
    assert_int_equal(fake_nccl_leaks(), 0);
    fake_nccl_delay(0);
    OK(comm_device_new(comm_workers(), "GPU-1", false, 0.05, &d));
    fake_nccl_delay(1 << 30);
    comm_device_phase(d, "step 7");
    FAILS(comm_device_sum(d, d, 1, COMM_DEVICE_F32, stream), MD_COMM, "step 7: ncclAllReduce: no");
    comm_device_free(d); /* does not wait for ever either */
    assert_int_equal(fake_nccl_leaks(), 0);
}

static void fixed_order_is_asked_for(void **state)
{
    (void)state;
    comm_device *d = NULL;
    (void)unsetenv("NCCL_ALGO");
    (void)setenv("NCCL_PROTO", "LL", 1);
    leave(join());
    assert_null(getenv("NCCL_ALGO"));
    OK(comm_device_new(comm_workers(), "GPU-1", true, 5, &d));
    assert_string_equal(getenv("NCCL_ALGO"), "Ring");
    assert_string_equal(getenv("NCCL_PROTO"), "LL"); /* the user's */
    leave(d);
}

static md_status use(comm_device *d)
{
    float x[8];
    MD_TRY(comm_device_group_begin(d));
    md_status status = comm_device_sum(d, x, 8, COMM_DEVICE_F32, stream), ended;
    ended = comm_device_group_end(d);
    MD_TRY(status != MD_OK ? status : ended);
    return comm_device_check(d);
}

static void every_call_may_fail(void **state)
{
    int failures = 0;
    for (long n = 1;; n++) {
        comm_device *d = NULL;
        (void)start(state);
        fake_nccl_delay(2);
        fake_fail_at(n);
        md_status status = comm_device_new(comm_workers(), "GPU-1", false, 5, &d);
        if (status == MD_OK)
            status = use(d);
        const char *call = fake_failed_call();
        bool group = call && !strcmp(call, "ncclGroupEnd"); /* then the fake's stays open */
        assert_true((status != MD_OK) == (call != NULL));
        assert_true(status == MD_OK || status == MD_COMM);
        failures += status != MD_OK;
        comm_device_free(d);
        assert_int_equal(fake_nccl_leaks(), group);
        if (fake_problems() && !group)
            fail_msg("%s", fake_problem_text());
        if (!fake_failed_call())
            break;
    }
    assert_true(failures > 8);
}

/* ---- under mpirun: rank 0 of the program is no worker */

static comm_device *decide(const char *gpu)
{
    comm_device *d = NULL;
    must(comm_device_new(comm_workers(), gpu, false, 10, &d));
    return d;
}

static int many(void)
{
    if (comm_workers()) {
        int me = comm_rank(comm_workers());
        char own[16];
        (void)snprintf(own, sizeof own, "GPU-%d", me);
        comm_device *d = decide(own);
        ok(d != NULL); /* worker 0's id reached all: the fake checks it */
        comm_device_free(d);
        ok(decide(me == 2 ? "GPU-1" : own) == NULL); /* 1 and 2 share one */
        ok(decide(me == 1 ? "" : own) == NULL);      /* 1 has none */
        /* one that cannot start: nobody does */
        if (me == 1)
            fake_fail_at(1);
        d = NULL;
        md_status status = comm_device_new(comm_workers(), own, false, 10, &d);
        ok(status == (me == 1 ? MD_COMM : MD_PEER) && d == NULL && fake_nccl_leaks() == 0);
        ok(strstr(md_status_text(), "rank 1 on ") != NULL);
        d = decide(own);
        ok(d != NULL);
        comm_device_free(d);
        ok(fake_nccl_leaks() == 0 && fake_problems() == 0);
    }
    must(comm_agree(comm_world(), MD_OK));
    must(comm_finalize());
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(sums, start),
        cmocka_unit_test_setup(asynchronous_errors_name_the_phase, start),
        cmocka_unit_test_setup(silence_ends_at_the_deadline, start),
        cmocka_unit_test_setup(fixed_order_is_asked_for, start),
        cmocka_unit_test_setup(every_call_may_fail, start),
    };
    must(comm_init(&argc, &argv));
    if (comm_size(comm_world()) > 1)
        return many();
    int failed = cmocka_run_group_tests_name("comm: sums on GPUs", tests, NULL, NULL);
    fake_reset();
    fake_nccl_reset();
    must(comm_finalize());
    return failed;
}
