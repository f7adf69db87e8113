/* Shared inside backend/cpu. Every cpu_<op> prepares an f32 kernel; nodes with bf16 tensors go
   through bf16.c, which converts around the same kernels (but adamw and write take every type). */
#ifndef MD_BACKEND_CPU_INTERNAL_H
#define MD_BACKEND_CPU_INTERNAL_H

#include "backend/cpu/cpu.h"
#include "backend/cpu/simd.h"
#include <omp.h>
#include <stdlib.h>

#define MD_OP(name, n_out, vjp)                                                                    \
    md_status cpu_##name(md_backend *be, const md_node *node, md_kernel *k);
#include "graph/ops.def"
#undef MD_OP

/* The f32 kernel of a node, by its op. */
md_status cpu__prepare_f32(md_backend *be, const md_node *node, md_kernel *k);
/* Converts bf16 inputs to f32 scratch, runs the f32 kernel, rounds bf16 outputs once. */
md_status cpu__prepare_bf16(md_backend *be, const md_node *node, md_kernel *k);

/* An elementwise node as a chain of one step, which converts bf16 block by block, not whole tensors
   through scratch; the same bits. */
bool cpu__is_step(md_op op);
md_status cpu__prepare_step(const md_node *node, md_kernel *k);

/* A node with a residual (in[3]): the node without it, then an addition in place. `inner` prepares
   the first. */
md_status cpu__prepare_residual(md_backend *be, const md_node *node, md_prepare_fn inner,
                                md_kernel *k);

void cpu__f32_from_bf16(float *dst, const uint16_t *src, int64_t n, int threads);
void cpu__bf16_from_f32(uint16_t *dst, const float *src, int64_t n, int threads);

static inline int64_t cpu__min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
static inline int64_t cpu__max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}
static inline int64_t cpu__ceil(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}
static inline bool cpu__is_half(const md_tensor *t)
{
    return t && t->dtype == MD_BF16;
}
/* Bytes of n floats, rounded up to a cache line; for laying out scratch. */
static inline size_t cpu__floats(int64_t n)
{
    return ((size_t)n * sizeof(float) + 63) & ~(size_t)63;
}
static inline void *cpu__at(void *scratch, size_t offset)
{
    return (char *)scratch + offset;
}
static inline int cpu__threads(const md_kernel *k)
{
    return k->backend->threads;
}
/* Below this much work (in elements or so) a parallel region costs more than it gives. */
static inline int cpu__threads_for(const md_kernel *k, int64_t work)
{
    return work < 16384 ? 1 : k->backend->threads;
}

#endif
