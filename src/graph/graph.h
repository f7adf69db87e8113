/* A graph is a list of nodes that describe tensors; no data lives here. Builders (ops/ops.h) append
   nodes, md_grad (ops/grad.h) appends the gradient, md_plan_build (graph/plan.h) turns it into
   addresses and kernels. Nodes run in the order in which they were appended. */
#ifndef MD_GRAPH_GRAPH_H
#define MD_GRAPH_GRAPH_H

#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MD_MAX_DIMS 4
#define MD_MAX_IN   9
#define MD_MAX_OUT  4

/* F64 is for host arrays only; `ref` stores every float type as double. U8 holds the codes of 8-bit
   optimizer states and is copied to and from the host as it is. */
typedef enum md_dtype { MD_F32, MD_BF16, MD_I32, MD_F64, MD_U8 } md_dtype;

typedef enum md_op {
#define MD_OP(name, n_out, vjp) MD_OP_##name,
#include "graph/ops.def"
#undef MD_OP
    MD_OP_COUNT
} md_op;

typedef enum md_act {
    MD_ACT_NONE,
    MD_ACT_SILU,
    MD_ACT_GELU,
    MD_ACT_QUICK_GELU,
    MD_ACT_EXP,
    MD_ACT_LOG,
    MD_ACT_CLAMP
} md_act;

/* Which member holds is decided by the op; see ops/ops.h. Zeroed where unused. */
typedef union md_attr {
    struct {
        double alpha, beta;
    } affine; /* affine */
    struct {
        md_act kind;
        double lo, hi;
    } act; /* act, act_grad (lo, hi: clamp) */
    struct {
        int stride, pad_t, pad_l, pad_b, pad_r;
    } conv; /* conv2d, conv2d_dx, conv2d_dw */
    struct {
        bool ta, tb;
    } matmul;
    struct {
        int groups;
        double eps;
        md_act act;
    } norm; /* group_norm*, layer_norm* (groups 0) */
    struct {
        int heads;
        double scale;
        bool causal;
    } attn;
    struct {
        int axis;
        int64_t start;
    } axis; /* concat, slice, pad_axis */
    struct {
        double max_period, shift;
        bool flip;
    } temb; /* timestep_embedding */
    struct {
        double beta1, beta2, eps, weight_decay;
    } adamw;
    const struct md_chain *chain; /* graph/chain.h; lives as long as the node */
} md_attr;

typedef struct md_graph md_graph;
typedef struct md_node md_node;
typedef struct md_buffer md_buffer;

/* Where a tensor's bytes live. */
typedef enum md_storage {
    MD_TEMP,   /* the plan's arena, for as long as somebody reads it */
    MD_INPUT,  /* the plan's arena, for the plan's whole life; the host writes it */
    MD_EXTERN, /* a caller's md_buffer: parameters, optimizer state, caches; may be updated in place
                */
    MD_VIEW    /* part of `base`, `offset` elements in; contiguous */
} md_storage;

typedef struct md_tensor {
    md_graph *g;
    md_dtype dtype;
    int ndim;
    int64_t dim[MD_MAX_DIMS]; /* outermost first, as in PyTorch */
    md_storage storage;
    md_node *node;          /* its producer, or NULL for input, extern and plain views */
    int out;                /* which output of the producer */
    int id;                 /* position in the graph's tensor list */
    struct md_tensor *base; /* MD_VIEW: never itself a view */
    int64_t offset;         /* MD_VIEW: elements from base's start */
    md_buffer *buffer;      /* MD_EXTERN */
    const char *path;       /* layer path for messages, "" at top level */
} md_tensor;

struct md_node {
    md_op op;
    int index; /* position in the graph's node list */
    int n_in, n_out;
    md_tensor *in[MD_MAX_IN]; /* optional inputs are NULL */
    md_tensor *out[MD_MAX_OUT];
    md_attr attr;
    int block; /* recompute block, -1 outside; see md_block_begin */
    const char *path;
    int64_t flops; /* multiply-adds x 2; 0 for memory-bound ops */
};

/* Memory that outlives a plan: one flat array of one type. Pointer is NULL until allocated, so
   that `meddiff plan` can add up bytes without taking any. */
struct md_buffer {
    const char *name;
    md_dtype dtype;
    int64_t numel;
    void *ptr;
};

MD_MUST md_status md_graph_new(md_graph **out);
void md_graph_free(md_graph *g);

/* The first builder error, kept with its layer path, or MD_OK. Later builder calls return the
   poison tensor, so that model code needs no checks. */
MD_MUST md_status md_graph_check(md_graph *g);
/* Records an error as a builder would; returns the poison tensor. */
md_tensor *md_graph_poison(md_graph *g, md_status code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The path given to nodes and errors from now on; returns the previous one. `path` must live as
   long as the graph (md_graph_strdup). */
const char *md_graph_set_path(md_graph *g, const char *path);
char *md_graph_printf(md_graph *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Marks the nodes built between begin and end as one block that may be recomputed in the backward
   pass instead of kept. Returns the block number. */
int md_block_begin(md_graph *g);
void md_block_end(md_graph *g);
int md_graph_n_blocks(const md_graph *g);

int md_graph_n_nodes(const md_graph *g);
md_node *md_graph_node(const md_graph *g, int index);
int md_graph_n_tensors(const md_graph *g);
md_tensor *md_graph_tensor(const md_graph *g, int id);

/* Leaves. Names are copied. */
md_tensor *md_input(md_graph *g, const char *name, md_dtype dtype, int ndim, const int64_t *dim);
/* A tensor inside a caller's buffer, `offset` elements in. */
md_tensor *md_extern(md_graph *g, md_buffer *b, int64_t offset, int ndim, const int64_t *dim);
/* The same bytes under another shape, or a contiguous part of them; a gradient flows through. */
md_tensor *md_view(md_tensor *x, int64_t offset, int ndim, const int64_t *dim);
md_tensor *md_reshape(md_tensor *x, int ndim, const int64_t *dim); /* one dim may be -1 */

/* Appends a node. Only builders in ops/ call it. Outputs are created by md_node_output; an output
   of an in-place op is a view of the tensor it updates. */
md_node *md_node_new(md_graph *g, md_op op, int n_in, md_tensor *const *in, const md_attr *attr);
md_tensor *md_node_output(md_node *n, md_dtype dtype, int ndim, const int64_t *dim);
md_tensor *md_node_output_inplace(md_node *n, md_tensor *updated);

int64_t md_numel(const md_tensor *t);
bool md_same_shape(const md_tensor *a, const md_tensor *b);
bool md_is_poison(const md_tensor *t);
const char *md_op_name(md_op op);
const char *md_dtype_name(md_dtype d);
/* "[2,32,32,4] f32" in a static per-thread ring of buffers; for messages. */
const char *md_shape_text(const md_tensor *t);

#define MD_DIMS(...) ((const int64_t[]){__VA_ARGS__})

#ifdef __cplusplus
}
#endif
#endif
