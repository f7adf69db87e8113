/* Shared by the ops that a library runs (conv.c, attention.c, linear.c): what a tensor's
   description promises of its address, and the choice among a library's ways to run a node. */
#ifndef MD_BACKEND_CUDA_CHOOSE_H
#define MD_BACKEND_CUDA_CHOOSE_H

#include "backend/cuda/vendor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Libraries want their workspace at multiples of 256; the plan promises 64. */
enum { CUDA_SCRATCH_ALIGN = 256, CUDA_SCRATCH_PAD = 192 };

/* The largest power of two, at most 64, that divides every address the tensor can have: arenas and
   buffers start at multiples of 64, views and parts of buffers lie anywhere. */
int64_t cuda__alignment(const md_tensor *t);
size_t cuda__tensor_bytes(const md_tensor *t);
/* scratch_bytes for a library's workspace, and the workspace inside such a scratch. */
size_t cuda__workspace_room(size_t workspace);
void *cuda__workspace_at(void *scratch);
/* Whether options.workspace_bytes allows it. */
bool cuda__workspace_fits(const cuda_impl *d, size_t workspace);
/* Timed choices differ from run to run, and with them the last bits of a sum; where results must
   not, the first way that a library offers is taken. */
bool cuda__choice_is_timed(const cuda_impl *d);

typedef struct cuda_candidates {
    int n;
    const md_node *node; /* a trial gets memory for its inputs and outputs */
    size_t workspace;    /* largest of all candidates */
    md_status (*run)(void *user, int candidate, void *const *in, void *const *out, void *scratch);
    void *user;
} cuda_candidates;

/* The fastest candidate; 0 where there is no other, memory for a trial is short or nothing may be
   timed. One that fails in its trial is passed over. */
MD_MUST md_status cuda__choose(cuda_impl *d, const cuda_candidates *c, int *best);

#ifdef __cplusplus
}
#endif
#endif
