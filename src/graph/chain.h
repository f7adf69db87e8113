/* What a node of op `chain` computes: elementwise nodes that the plan made one (fuse.c). A machine
   of a few registers that each hold one element; register i starts with input i, the last step's
   result is the output. */
#ifndef MD_GRAPH_CHAIN_H
#define MD_GRAPH_CHAIN_H

#include "graph/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MD_CHAIN_STEPS = 12, MD_CHAIN_REGS = 8 };

typedef struct md_chain_step {
    md_op op;     /* add, sub, mul, affine, act, act_grad; cast: a copy. As in ops/ops.h */
    int a, b, to; /* registers of its inputs (b: -1 where it has one) and of its result */
    md_attr attr;
} md_chain_step;

typedef struct md_chain {
    int n;
    md_chain_step step[MD_CHAIN_STEPS];
} md_chain;

/* How the inputs lie along the output: neighbouring dims that all inputs treat alike made one. The
   last n of dim, the others are 1. stride: of each input, 0 where it is repeated; along the last
   dim 0 or 1. An input with as many elements as the output lies like it, whatever its dims. */
typedef struct md_chain_shape {
    int n;
    int64_t dim[MD_MAX_DIMS], stride[MD_CHAIN_REGS][MD_MAX_DIMS];
} md_chain_shape;
void md_chain_fold(const md_node *chain, md_chain_shape *out);

#ifdef __cplusplus
}
#endif
#endif
