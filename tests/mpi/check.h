/* For programs under mpiexec: a failed check names rank and line and ends the whole run. */
#ifndef MD_TESTS_MPI_CHECK_H
#define MD_TESTS_MPI_CHECK_H

#include "comm/comm.h"
#include <stdio.h>
#include <stdlib.h>

static inline void check_failed(const char *file, int line, const char *what)
{
    (void)fprintf(stderr, "rank %d: %s:%d: %s\n", comm_world() ? comm_rank(comm_world()) : -1, file,
                  line, what);
    comm_abort(1);
    exit(1);
}

#define ok(condition)                                                                              \
    do {                                                                                           \
        if (!(condition))                                                                          \
            check_failed(__FILE__, __LINE__, #condition);                                          \
    } while (0)
#define must(call)                                                                                 \
    do {                                                                                           \
        if ((call) != MD_OK)                                                                       \
            check_failed(__FILE__, __LINE__, md_status_text());                                    \
    } while (0)

/* 0..2^32-1, a pure function of its arguments. */
static inline uint32_t mix(uint64_t a, uint64_t b)
{
    uint64_t x = a * 0x9e3779b97f4a7c15u + b * 0xbf58476d1ce4e5b9u + 1;
    for (int i = 0; i < 3; i++) {
        x ^= x >> 31;
        x *= 0x7fb5d329728ea185u;
        x ^= x >> 27;
    }
    return (uint32_t)(x >> 32);
}

#endif
