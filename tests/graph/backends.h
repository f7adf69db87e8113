/* The two backends that every machine has, for tests of graphs and plans. */
#ifndef MD_TESTS_GRAPH_BACKENDS_H
#define MD_TESTS_GRAPH_BACKENDS_H

#include "backend/cpu/cpu.h"
#include "backend/ref/ref.h"

static md_backend *ref, *cpu;

static inline int open_backends(void **state)
{
    (void)state;
    return ref_backend_open(&ref) != MD_OK || cpu_backend_open(&cpu, 1) != MD_OK;
}

static inline int close_backends(void **state)
{
    (void)state;
    size_t held = ref->allocated_bytes + cpu->allocated_bytes;
    ref->ops->close(ref);
    cpu->ops->close(cpu);
    return held != 0; /* every test gave back what it took */
}

#endif
