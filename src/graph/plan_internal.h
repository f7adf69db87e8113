/* Shared by plan.c and fuse.c. */
#ifndef MD_GRAPH_PLAN_INTERNAL_H
#define MD_GRAPH_PLAN_INTERNAL_H

#include "graph/chain.h"
#include "graph/plan.h"

typedef struct plan_chain {
    struct plan_chain *next;
    md_chain program;
} plan_chain;

typedef struct step {
    md_kernel kernel;
    void *in[MD_MAX_IN], *out[MD_MAX_OUT];
} step;

/* What becomes ready when: see md_plan_on_written. */
typedef struct watch {
    int n, *step; /* [n] the last step that touches range i */
    md_status (*ready)(void *user, int range);
    void *user;
} watch;

struct md_plan {
    md_graph *g;
    md_backend *be;
    int n_tensors, n_nodes;
    md_node *nodes;     /* copies of the graph's, which the plan may change */
    bool *used;         /* per node: runs */
    bool *kept;         /* per tensor (bases): readable after the run */
    md_tensor **placed; /* per tensor (bases): lives in this persistent tensor instead */
    size_t *at;         /* per tensor (bases): arena offset */
    int *first, *last;  /* per tensor (bases): node indices between which it must hold */
    plan_chain *chains; /* of the nodes that are chains */
    step *steps;
    int n_steps;
    md_plan_bytes bytes;
    int64_t flops, traffic;
    char *arena;
    watch watch;
    bool ran;
    void *recording; /* of all launches, by a backend with queues */
    bool profile;
    double seconds[MD_OP_COUNT];
    int64_t calls[MD_OP_COUNT];
};

static inline md_tensor *graph__base(md_tensor *t)
{
    return t->storage == MD_VIEW ? t->base : t;
}

/* In the arena, in whole cache lines. */
size_t graph__bytes(const md_plan *p, const md_tensor *t);
/* Where t's bytes are: the persistent tensor that its base was placed in, or t itself. */
const md_tensor *graph__home(const md_plan *p, md_tensor *t);
/* Whether both are persistent and share elements. */
bool graph__overlap(const md_tensor *a, const md_tensor *b);

/* add(conv or linear, r) becomes the conv or linear with residual r, in the addition's place.
   Before lifetimes are known. */
MD_MUST md_status graph__fuse_residuals(md_plan *p);
/* Elementwise nodes that only each other read become one node of op chain, in the last one's place.
   Keeps lifetimes up to date. */
MD_MUST md_status graph__fuse_chains(md_plan *p);

#endif
