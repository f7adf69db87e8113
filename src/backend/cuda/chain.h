/* Launcher of chain.cu: returns the error code of its launch. */
#ifndef MD_BACKEND_CUDA_CHAIN_H
#define MD_BACKEND_CUDA_CHAIN_H

#include "backend/cuda/internal.h"
#include "graph/chain.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A chain as its kernel gets it: md_chain and md_chain_shape in fewer bytes, as they travel with
   every launch. Finding a register costs, so the result of the step before has no number where it
   is read, and no register where nothing else reads it. */
enum { CUDA_CHAIN_LAST = -1 };

typedef struct cuda_chain_step {
    int8_t op, act;  /* md_op, md_act */
    int8_t a, b, to; /* registers or CUDA_CHAIN_LAST */
    float p, q;      /* alpha, beta; lo, hi */
} cuda_chain_step;

typedef struct cuda_chain_program {
    int n_in, n, n_dims;
    bool in_bf16[MD_CHAIN_REGS], out_bf16;
    int64_t dim[MD_MAX_DIMS], stride[MD_CHAIN_REGS][MD_MAX_DIMS];
    cuda_chain_step step[MD_CHAIN_STEPS];
} cuda_chain_program;

int cuda__chain(const cuda_device *d, const cuda_chain_program *c, void *const *in, void *out);

#ifdef __cplusplus
}
#endif
#endif
