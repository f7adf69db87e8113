/* A writer killed with SIGKILL at random moments, many times: the store opens, every slot in state
   1 to 3 is whole, and the next writer goes on until all is full. Once with the MPI-IO driver on
   MPI_COMM_SELF, as a job runs, and once with the serial driver. */
#include "helper.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/rng.h"
#include "comm/comm.h"
#include "pixels.h"
#include "store/pairs.h"

enum { SIDE = 64, ROWS = 400 };

static const char *self;

/* The child: fills empty slots in random order, as worker and coordinator in one. */
static md_status fill(const char *path, uint64_t seed)
{
    pairs_store *p = NULL;
    MD_TRY(pairs_open_writer(path, &p));
    (void)write(STDOUT_FILENO, "w", 1); /* the parent's clock starts */
    md_rng r = md_rng_at(seed, MD_RNG_TEST, 1, 0);
    for (int64_t done = 0; done < ROWS; done++) {
        uint8_t state[ROWS];
        MD_TRY(pairs_read_states(p, state));
        int64_t slot = md_rng_below(&r, ROWS), looked = 0;
        for (; state[slot] == PAIRS_ACCEPTED && looked < ROWS; looked++)
            slot = (slot + 1) % ROWS;
        if (looked == ROWS)
            break;
        pairs_row row;
        MD_TRY(pairs_read_row(p, slot, &row));
        MD_TRY(pairs_reset(p, slot, row.attempt + 1));
        row.attempt++;
        slot_pixels x = pixels_make(SIDE, (int)slot, row.attempt);
        MD_TRY(pairs_write_pixels(p, slot, x.image, x.mask, x.guide, &row.crc));
        pixels_free(&x);
        row.state = PAIRS_WRITTEN;
        MD_TRY(pairs_write_row(p, slot, &row));
        row.state = PAIRS_ACCEPTED;
        row.similarity = (float)slot;
        MD_TRY(pairs_write_row(p, slot, &row));
    }
    pairs_close(p);
    return MD_OK;
}

static pid_t start(const char *path, bool mpi, uint64_t seed, int *from)
{
    int pipes[2];
    char seed_text[32];
    (void)snprintf(seed_text, sizeof seed_text, "%llu", (unsigned long long)seed);
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)dup2(pipes[1], STDOUT_FILENO);
        (void)close(pipes[0]);
        (void)close(pipes[1]);
        (void)execl(self, self, mpi ? "--fill-mpi" : "--fill", path, seed_text, (char *)NULL);
        _exit(9);
    }
    (void)close(pipes[1]);
    char ready = 0;
    assert_int_equal(read(pipes[0], &ready, 1), 1);
    *from = pipes[0];
    return child;
}

/* Every slot that claims to be written holds exactly the pixels of its attempt. */
static int64_t check(const char *path)
{
    pairs_store *p = NULL;
    int64_t full = 0;
    assert_ok(pairs_open_reader(path, &p));
    slot_pixels y = pixels_make(SIDE, 0, 0);
    for (int64_t slot = 0; slot < ROWS; slot++) {
        pairs_row row;
        bool whole = false;
        assert_ok(pairs_read_row(p, slot, &row));
        if (row.state == PAIRS_EMPTY)
            continue;
        full++;
        slot_pixels x = pixels_make(SIDE, (int)slot, row.attempt);
        assert_ok(pairs_read_pixels(p, slot, y.image, y.mask, y.guide));
        assert_memory_equal(x.image, y.image, SIDE * SIDE * 3);
        assert_memory_equal(x.mask, y.mask, SIDE * SIDE);
        assert_memory_equal(x.guide, y.guide, SIDE * SIDE);
        assert_ok(pairs_verify_slot(p, slot, &whole));
        assert_true(whole);
        if (row.state == PAIRS_ACCEPTED)
            assert_true(row.similarity == (float)slot);
        pixels_free(&x);
    }
    pixels_free(&y);
    pairs_close(p);
    return full;
}

static void run_kills(bool mpi, int trials)
{
    const char *path = helper_path(mpi ? "mpi.h5" : "serial.h5");
    pairs_spec spec = {.rows = ROWS, .height = SIDE, .width = SIDE};
    uint64_t seed = (uint64_t)time(NULL);
    md_rng r = md_rng_at(seed, MD_RNG_TEST, 0, 0);
    print_message("seed %llu\n", (unsigned long long)seed);
    assert_ok(pairs_create(path, &spec));
    int64_t midway = 0, last = 0;
    for (int i = 0; i < trials; i++) {
        if (last == ROWS) { /* full: begin anew */
            assert_ok(pairs_create(path, &spec));
            last = 0;
        }
        int from = -1, rc = 0;
        pid_t child = start(path, mpi, seed + (uint64_t)i, &from);
        struct timespec wait = {0, (long)md_rng_below(&r, 25 * 1000 * 1000)};
        (void)nanosleep(&wait, NULL);
        (void)kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &rc, 0), child);
        (void)close(from);
        midway += WIFSIGNALED(rc);
        int64_t full = check(path);
        assert_true(full + 1 >= last); /* the one being redrawn may be empty again */
        last = full;
    }
    print_message("%d writers, %lld killed while writing\n", trials, (long long)midway);
    assert_true(midway > trials / 2);
    int from = -1, rc = 0;
    pid_t child = start(path, mpi, 1, &from);
    assert_int_equal(waitpid(child, &rc, 0), child);
    (void)close(from);
    assert_int_equal(rc, 0);
    assert_int_equal(check(path), ROWS);
    char out[256];
    if (helper_run(out, sizeof out, "h5dump -V") == 0)
        assert_int_equal(helper_run(out, sizeof out, "h5dump -d /state '%s'", path), 0);
}

static void killed_with_mpi_io(void **state)
{
    (void)state;
    run_kills(true, 20);
}

static void killed_with_the_serial_driver(void **state)
{
    (void)state;
    run_kills(false, 60);
}

/* Workers write pixels of their own slots at the same time; nobody's bytes reach another's slot. */
static void several_writers(void **state)
{
    (void)state;
    enum { WORKERS = 4 };
    const char *path = helper_path("several.h5");
    pairs_spec spec = {.rows = ROWS, .height = SIDE, .width = SIDE};
    assert_ok(pairs_create(path, &spec));
    pid_t child[WORKERS];
    for (int w = 0; w < WORKERS; w++) {
        char first[32];
        (void)snprintf(first, sizeof first, "%d", w);
        child[w] = fork();
        assert_true(child[w] >= 0);
        if (child[w] == 0) {
            (void)execl(self, self, "--every-4th", path, first, (char *)NULL);
            _exit(9);
        }
    }
    for (int w = 0; w < WORKERS; w++) {
        int rc = 0;
        assert_int_equal(waitpid(child[w], &rc, 0), child[w]);
        assert_int_equal(rc, 0);
    }
    pairs_store *p = NULL; /* the coordinator, afterwards: the small columns */
    assert_ok(pairs_open_writer(path, &p));
    for (int64_t slot = 0; slot < ROWS; slot++) {
        slot_pixels x = pixels_make(SIDE, (int)slot, 5);
        pairs_row row = pairs_row_empty();
        row.state = PAIRS_ACCEPTED;
        row.attempt = 5;
        row.similarity = (float)slot;
        row.crc = md_crc32c(md_crc32c(md_crc32c(0, x.image, 3 * SIDE * SIDE), x.mask, SIDE * SIDE),
                            x.guide, SIDE * SIDE);
        assert_ok(pairs_write_row(p, slot, &row));
        pixels_free(&x);
    }
    pairs_close(p);
    assert_int_equal(check(path), ROWS);
}

static md_status write_every_4th(const char *path, int64_t first)
{
    pairs_store *p = NULL;
    MD_TRY(pairs_open_writer(path, &p));
    for (int64_t slot = first; slot < ROWS; slot += 4) {
        uint32_t crc = 0;
        slot_pixels x = pixels_make(SIDE, (int)slot, 5);
        MD_TRY(pairs_write_pixels(p, slot, x.image, x.mask, x.guide, &crc));
        if (slot % 16 < 4)
            MD_TRY(pairs_sync(p));
        pixels_free(&x);
    }
    pairs_close(p);
    return MD_OK;
}

int main(int argc, char **argv)
{
    self = argv[0];
    (void)setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
    if (argc == 4) {
        bool fourth = strcmp(argv[1], "--every-4th") == 0;
        bool mpi = fourth || strcmp(argv[1], "--fill-mpi") == 0;
        const char *path = argv[2];
        uint64_t seed = strtoull(argv[3], NULL, 10);
        md_status status = mpi ? comm_init(NULL, NULL) : MD_OK;
        if (status == MD_OK)
            status = fourth ? write_every_4th(path, (int64_t)seed) : fill(path, seed);
        if (status != MD_OK)
            (void)fprintf(stderr, "%s\n", md_status_text());
        if (mpi && comm_finalize() != MD_OK)
            return 1;
        return status != MD_OK;
    }
    (void)helper_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(several_writers),
        cmocka_unit_test(killed_with_mpi_io),
        cmocka_unit_test(killed_with_the_serial_driver),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    helper_end();
    return failed;
}
