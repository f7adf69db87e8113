/* cuDNN's graph interface for conv.c, attention.c and attention_grad.c: describe tensors and
   operations, let the heuristics offer engines, keep the plan that is fastest, execute it.
   Attributes and their types as in cudnn_graph.h. */
#ifndef MD_BACKEND_CUDA_DNN_H
#define MD_BACKEND_CUDA_DNN_H

#include "backend/cuda/choose.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    DNN_MAX_DESCRIPTORS = 80, /* attention_grad.c makes 60 */
    DNN_MAX_TENSORS = 32,
    DNN_MAX_PLANS = 8,
    DNN_MAX_OPS = 20,
    DNN_MAX_VALUES = 2,
    DNN_MAX_PARTS = 2
};

/* Where a tensor's address comes from when the graph runs. */
typedef enum dnn_place {
    DNN_IN = 0,       /* + i: the node's input */
    DNN_OUT = 16,     /* + i: the node's output */
    DNN_VALUE = 32,   /* + i: one f32 on the host, dnn.value[i] */
    DNN_PART = 40,    /* + i: memory of the graph's own, dnn__part */
    DNN_VIRTUAL = 48, /* between two operations, never in memory */
} dnn_place;

typedef struct dnn_plan {
    cudnnBackendDescriptor_t config, plan;
    size_t workspace; /* the parts and cuDNN's own */
    int64_t offer;    /* its place in the heuristics' lists: what the tuning cache remembers */
} dnn_plan;

/* Zeroed before use; dnn__close frees what it holds, in any state. */
typedef struct dnn {
    cuda_impl *d;
    cudnnBackendDescriptor_t made[DNN_MAX_DESCRIPTORS]; /* by age */
    cudnnBackendDescriptor_t ops[DNN_MAX_OPS];
    int n_made, n_ops, n_tensors, n_plans;
    int place[DNN_MAX_TENSORS]; /* of the tensor with id i + 1; virtual ones included */
    int64_t alignment[DNN_MAX_TENSORS];
    dnn_plan plans[DNN_MAX_PLANS];
    cudnnBackendDescriptor_t pack;      /* for the addresses below */
    void *address[DNN_MAX_TENSORS + 1]; /* the workspace last */
    float value[DNN_MAX_VALUES];
    size_t part[DNN_MAX_PARTS], part_bytes; /* where each begins in the workspace; all of them */
    int n_parts;
} dnn;

/* A descriptor that dnn__close destroys. */
MD_MUST md_status dnn__make(dnn *g, cudnnBackendDescriptorType_t type,
                            cudnnBackendDescriptor_t *out);
/* MD_UNSUPPORTED where cuDNN says that it does not support something. */
MD_MUST md_status dnn__set(cudnnBackendDescriptor_t desc, cudnnBackendAttributeName_t name,
                           cudnnBackendAttributeType_t type, int64_t count, const void *values);
MD_MUST md_status dnn__set_descriptor(cudnnBackendDescriptor_t desc,
                                      cudnnBackendAttributeName_t name,
                                      cudnnBackendDescriptor_t value);
MD_MUST md_status dnn__finalize(cudnnBackendDescriptor_t desc);
/* A finalized tensor of rank 4. `alignment` in bytes, a power of two. */
MD_MUST md_status dnn__tensor(dnn *g, int place, cudnnDataType_t type, int64_t alignment,
                              const int64_t dim[4], const int64_t stride[4],
                              cudnnBackendDescriptor_t *out);
/* The place of `bytes` at the workspace's start, for what operations hand on through memory. */
MD_MUST md_status dnn__part(dnn *g, size_t bytes, int *place);
/* Finalizes `op` as the graph's next operation. */
MD_MUST md_status dnn__add_op(dnn *g, cudnnBackendDescriptor_t op);
/* Builds the plans that the options allow and keeps the best in plans[0]; n_plans is 0 when no
   engine takes the graph. `question` names the graph in the tuning cache. */
MD_MUST md_status dnn__plan(dnn *g, const md_node *node, const char *question);
/* Executes plans[which]. */
MD_MUST md_status dnn__run(dnn *g, int which, void *const *in, void *const *out, void *scratch);
void dnn__close(dnn *g);

#ifdef __cplusplus
}
#endif
#endif
