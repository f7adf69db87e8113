/* comm/ over real MPI: groups, agreement, collectives, messages, deadlines, the all-reduce. */
#include "base/clock.h"
#include "base/crc32c.h"
#include "check.h"
#include <math.h>
#include <string.h>
#include <time.h>

static int rank, size;

static void sleep_s(double s)
{
    struct timespec t = {(time_t)s, (long)((s - floor(s)) * 1e9)};
    (void)nanosleep(&t, NULL);
}

static void groups(void)
{
    comm *w = comm_workers();
    if (size == 1) {
        ok(w && comm_size(w) == 1 && comm_node_index() == 0);
    } else if (rank == 0) {
        ok(w == NULL);
    } else {
        ok(w && comm_size(w) == size - 1 && comm_rank(w) == rank - 1);
        ok(comm_node_index() == rank - 1 && comm_node_workers() == size - 1); /* one node here */
    }
    ok(comm_host()[0] != '\0');
}

static void small_collectives(comm *c)
{
    int me = comm_rank(c), n = comm_size(c);
    for (int root = 0; root < n; root++) {
        int32_t mine[3] = {me, me * me, -7}, all[16 * 3];
        memset(all, 0xff, sizeof all);
        must(comm_gather(c, root, mine, sizeof mine, me == root ? all : NULL, 20));
        for (int r = 0; r < n && me == root; r++)
            ok(all[3 * r] == r && all[3 * r + 1] == r * r && all[3 * r + 2] == -7);

        const size_t sizes[] = {0, 1, 1000, ((size_t)16 << 20) + 5};
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            if (k == 3 && root > 0)
                break; /* the big one once is enough */
            uint8_t *data = calloc(1, sizes[k] + 1);
            ok(data != NULL);
            for (size_t i = 0; i < sizes[k] && me == root; i++)
                data[i] = (uint8_t)(i * 7 + (size_t)root);
            must(comm_broadcast(c, root, data, sizes[k], 20));
            for (size_t i = 0; i < sizes[k]; i++)
                ok(data[i] == (uint8_t)(i * 7 + (size_t)root));
            free(data);
        }
        char text[] = "the whole config";
        void *blob = me == root ? text : NULL;
        size_t bytes = me == root ? sizeof text - 1 : 0;
        must(comm_broadcast_blob(c, root, &blob, &bytes, 20));
        ok(bytes == sizeof text - 1 && strcmp(blob, text) == 0);
        if (me != root)
            free(blob);
        must(comm_barrier(c, 20));
    }
}

/* Nobody leaves a barrier before the last has come. */
static void barrier_waits(comm *c)
{
    double came, t[16];
    if (comm_rank(c) == comm_size(c) - 1)
        sleep_s(0.1);
    came = md_now(); /* one machine, one clock */
    must(comm_barrier(c, 20));
    double left = md_now();
    must(comm_gather(c, 0, &came, sizeof came, comm_rank(c) == 0 ? t : NULL, 20));
    double last = comm_rank(c) == 0 ? t[comm_size(c) - 1] : 0;
    must(comm_broadcast(c, 0, &last, sizeof last, 20));
    ok(left >= last);
}

static md_status fail_as(md_status s)
{
    return s == MD_OK ? MD_OK : md_fail(s, __FILE__, __LINE__, "rank %d has a reason", rank);
}

/* For every subset of failing ranks: the lowest keeps its chain, the rest know of it. */
static void agreement(comm *c)
{
    int me = comm_rank(c), n = comm_size(c);
    char expected[64];
    for (int set = 0; set < 1 << n; set++) {
        int lowest = -1;
        for (int r = n - 1; r >= 0; r--)
            if (set >> r & 1)
                lowest = r;
        bool failing = set >> me & 1;
        md_status s = comm_agree(c, fail_as(failing ? (me % 2 ? MD_IO : MD_BAD_INPUT) : MD_OK));
        if (set == 0) {
            ok(s == MD_OK);
            continue;
        }
        (void)snprintf(expected, sizeof expected, "rank %d has a reason",
                       lowest + (c == comm_workers() && size > 1));
        ok(strstr(md_status_text(), expected) != NULL);
        if (me == lowest)
            ok(s == (me % 2 ? MD_IO : MD_BAD_INPUT));
        else
            ok(s == MD_PEER && md_status_exit_code(comm_cause(s)) == (lowest % 2 ? 1 : 2));
    }
    /* A stop alone stops all; a failure outranks it; an echo does not hide the failure itself. */
    ok(comm_agree(c, fail_as(me == n - 1 ? MD_STOPPED : MD_OK)) == MD_STOPPED);
    if (n >= 3) {
        md_status s = comm_agree(c, fail_as(me == 0 ? MD_STOPPED : me == 1 ? MD_PEER : MD_SHAPE));
        ok(s == (me == 2 ? MD_SHAPE : MD_PEER));
    }
    ok(comm_agree(c, MD_OK) == MD_OK);
}

static void messages(comm *c)
{
    int me = comm_rank(c), n = comm_size(c);
    enum { EACH = 40 };
    int next[16] = {0};
    for (int k = 0; k < EACH; k++)
        for (int to = 0; to < n; to++) {
            size_t bytes = 8 + mix((uint64_t)k, (uint64_t)to) % (k == 7 ? 3000000 : 5000);
            uint8_t *data = malloc(bytes);
            ok(data != NULL);
            memset(data, k, bytes);
            data[0] = (uint8_t)me;
            must(comm_send(c, to, data, bytes)); /* also to itself */
            free(data);
        }
    for (int got = 0; got < EACH * n;) {
        const uint8_t *data;
        size_t bytes;
        int from;
        must(comm_receive(c, 20, &from, &data, &bytes));
        ok(bytes >= 8 && data[0] == from && data[bytes - 1] == next[from]);
        ok(bytes ==
           8 + mix((uint64_t)next[from], (uint64_t)me) % (next[from] == 7 ? 3000000 : 5000));
        next[from]++;
        got++;
    }
    must(comm_flush(c, 20));
    for (int r = 0; r < n; r++)
        ok(comm_pending(c, r) == 0);
    const uint8_t *data;
    size_t bytes = 1;
    int from;
    double began = md_now();
    must(comm_receive(c, 0.05, &from, &data, &bytes)); /* nothing more, and not for long */
    ok(bytes == 0 && md_now() - began >= 0.05 && md_now() - began < 2);
    ok(comm_send(c, n, "x", 1) == MD_INTERNAL && comm_send(c, 0, "x", 0) == MD_COMM);
    must(comm_barrier(c, 20));
}

/* A late rank: those in time give up at their deadline, and the group is in step again afterwards.
 */
static void deadlines(comm *c)
{
    int me = comm_rank(c), n = comm_size(c);
    if (n == 1)
        return;
    if (me == n - 1)
        sleep_s(1.2);
    double began = md_now();
    md_status s = comm_barrier(c, 0.3);
    ok(s == MD_COMM && md_now() - began < 0.3 + 0.5);
    ok(strstr(md_status_text(), "no answer in time") != NULL);
    must(comm_barrier(c, 20));
    must(comm_barrier(c, 20));
    if (me == 0)
        comm_mark_lost(c, n - 1, true); /* a lost rank is not waited for */
    ok(me != 0 || (comm_lost_peer() && comm_is_lost(c, n - 1)));
    if (me != n - 1)
        sleep_s(0.1);
    must(comm_barrier(c, 20)); /* the lost one, if it lives, hears the answers nevertheless */
    ok(comm_lost_peer());      /* all know by now */
    must(comm_agree(c, MD_OK));
    if (me == 0)
        comm_mark_lost(c, n - 1, false);
    must(comm_barrier(c, 20));
    ok(!comm_lost_peer());
}

static bool interrupted(void)
{
    return true;
}

static void interrupts(comm *c)
{
    if (comm_size(c) > 1) {
        comm_set_interrupt(interrupted);
        if (comm_rank(c) == 0)
            ok(comm_barrier(c, 20) == MD_STOPPED);
        comm_set_interrupt(NULL);
        if (comm_rank(c) > 0)
            ok(comm_barrier(c, 0.5) == MD_COMM);
    }
    must(comm_barrier(c, 20));
}

/* ---- all-reduce */

/* Integers up to 2^24 / size: every sum is exact, so zero elements may be wrong. */
static int64_t integer(int r, int64_t i)
{
    return (int64_t)(mix((uint64_t)r, (uint64_t)i) % 1000000) - 500000;
}

static void same_bits_everywhere(comm *c, const float *x, int64_t n)
{
    uint32_t crc = md_crc32c(0, x, (size_t)n * sizeof *x), all[16];
    must(comm_gather(c, 0, &crc, sizeof crc, comm_rank(c) == 0 ? all : NULL, 20));
    for (int r = 0; r < comm_size(c) && comm_rank(c) == 0; r++)
        ok(all[r] == crc);
}

static void exact_sums(comm *c, comm_reducer *reducer, int64_t n)
{
    int me = comm_rank(c);
    float *x = malloc(((size_t)n + 2) * sizeof *x);
    ok(x != NULL);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)integer(me, i);
    x[n] = x[n + 1] = 12345; /* guards */
    if (mix((uint64_t)n, (uint64_t)me) % 3 == 0)
        sleep_s(0.01); /* arrivals differ */
    must(comm_allreduce_f32(reducer, x, n, 30));
    int64_t wrong = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t sum = 0;
        for (int r = 0; r < comm_size(c); r++)
            sum += integer(r, i);
        wrong += x[i] != (float)sum;
    }
    ok(wrong == 0 && x[n] == 12345 && x[n + 1] == 12345);
    same_bits_everywhere(c, x, n);
    free(x);
}

/* Any floats: added in double in rank order and rounded once. */
static void rounded_once(comm *c, comm_reducer *reducer)
{
    enum { N = 1100000 };
    int me = comm_rank(c);
    float *x = malloc(N * sizeof *x);
    ok(x != NULL);
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < N; i++)
            x[i] =
                ldexpf((float)mix((uint64_t)me, (uint64_t)i), (int)(mix(9, (uint64_t)i) % 20) - 40);
        if (me == pass)
            sleep_s(0.05);
        bool done = false;
        must(comm_reduce_begin(reducer, x, N));
        ok(comm_size(c) == 1 || comm_reduce_begin(reducer, x, N) == MD_INTERNAL);
        for (int polls = 0; !done && polls < 5; polls++) {
            must(comm_reduce_poll(reducer, &done));
            sleep_s(0.001);
        }
        must(comm_reduce_wait(reducer, 30));
        for (int i = 0; i < N; i++) {
            double sum = 0;
            for (int r = 0; r < comm_size(c); r++)
                sum += (double)ldexpf((float)mix((uint64_t)r, (uint64_t)i),
                                      (int)(mix(9, (uint64_t)i) % 20) - 40);
            ok(x[i] == (float)sum);
        }
        same_bits_everywhere(c, x, N);
    }
    free(x);
}

static void non_finite_travels(comm *c, comm_reducer *reducer)
{
    float x[3] = {1, comm_rank(c) == 0 ? NAN : 1, comm_rank(c) == comm_size(c) - 1 ? INFINITY : 0};
    must(comm_allreduce_f32(reducer, x, 3, 20));
    ok(x[0] == (float)comm_size(c) && isnan(x[1]) && isinf(x[2]));
}

static void all_reduce(comm *c)
{
    comm_reducer *reducer;
    must(comm_reducer_new(c, &reducer));
    const int64_t counts[] = {0,      1, 2, 3, 4, 5, 1000, 1 << 20, (1 << 20) + 1, (1 << 20) - 1,
                              2200001};
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++)
        exact_sums(c, reducer, counts[k]);
    rounded_once(c, reducer);
    non_finite_travels(c, reducer);
    float *x = calloc(4000000, sizeof *x);
    ok(x != NULL);
    double began = md_now();
    must(comm_allreduce_f32(reducer, x, 4000000, 30));
    if (comm_rank(c) == 0)
        (void)printf("all-reduce of 16 MB over %d ranks: %.1f ms\n", comm_size(c),
                     1e3 * (md_now() - began));
    free(x);
    comm_reducer_free(reducer);
}

int main(int argc, char **argv)
{
    must(comm_init(&argc, &argv));
    rank = comm_rank(comm_world());
    size = comm_size(comm_world());
    comm_set_timeout(30);
    ok(comm_init(NULL, NULL) == MD_INTERNAL);
    groups();
    comm *both[] = {comm_world(), comm_workers()};
    for (int i = 0; i < 2; i++) {
        comm *c = both[i];
        if (!c)
            continue;
        small_collectives(c);
        barrier_waits(c);
        agreement(c);
        messages(c);
        deadlines(c);
        interrupts(c);
        all_reduce(c);
    }
    must(comm_barrier(comm_world(), 60));
    ok(!comm_lost_peer());
    must(comm_finalize());
    if (rank == 0)
        (void)printf("comm: all well on %d ranks\n", size);
    return 0;
}
