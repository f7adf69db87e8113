/* From graph to addresses and kernels. Building takes no device memory; loading takes all of it;
   running allocates nothing. */
#ifndef MD_GRAPH_PLAN_H
#define MD_GRAPH_PLAN_H

#include "graph/backend.h"
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct md_plan md_plan;

typedef struct md_plan_bytes {
    size_t inputs;      /* host-written tensors */
    size_t outputs;     /* kept for reading after the run */
    size_t activations; /* peak of everything else, lifetimes shared */
    size_t workspace;   /* largest kernel scratch */
    size_t total;       /* what md_plan_load allocates: one arena */
} md_plan_bytes;

/* Keeps the nodes that `outputs` need (updates are asked for by listing the tensor that the update
   op returned), assigns addresses by lifetime, prepares every kernel. Outputs stay readable after a
   run. The graph must outlive the plan. */
MD_MUST md_status md_plan_build(md_graph *g, md_backend *be, md_tensor *const *outputs, int n,
                                md_plan **out);
/* Allocates the arena. All external buffers must be allocated. */
MD_MUST md_status md_plan_load(md_plan *p);
/* On a device with queues this returns when everything is launched: md_plan_read is the fence. From
   the second run on the launches are one recording (a CUDA graph). */
MD_MUST md_status md_plan_run(md_plan *p);
/* Elements first..end-1 of a buffer. */
typedef struct md_range {
    const md_buffer *buffer;
    int64_t first, end;
} md_range;
/* Calls ready(user, i) once in each run, as soon as everything that writes or reads ranges[i] is
   launched (after the first launch where nothing does); in one order, the same for equal plans. Set
   it between load and the first run. With a device, ready must only put work on queues: when a run
   is replayed it is not called, what it had launched is part of the recording. */
MD_MUST md_status md_plan_on_written(md_plan *p, const md_range *ranges, int n,
                                     md_status (*ready)(void *user, int range), void *user);
void md_plan_free(md_plan *p);

/* Input and output by tensor; n must be md_numel. */
MD_MUST md_status md_plan_write(md_plan *p, const md_tensor *input, const void *host,
                                md_dtype host_dtype, int64_t n);
MD_MUST md_status md_plan_read(md_plan *p, const md_tensor *output, void *host, md_dtype host_dtype,
                               int64_t n);

md_plan_bytes md_plan_memory(const md_plan *p);
int64_t md_plan_flops(const md_plan *p);
/* Bytes read and written by the nodes without FLOP: what bounds their time. */
int64_t md_plan_traffic(const md_plan *p);
int md_plan_n_nodes(const md_plan *p);

/* Per-op seconds since profiling was switched on (it adds a fence after each kernel). */
void md_plan_profile(md_plan *p, bool on);
void md_plan_print_profile(const md_plan *p, FILE *f);

#ifdef __cplusplus
}
#endif
#endif
