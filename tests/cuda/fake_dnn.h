/* Between fake_cudnn.c and fake_dnn_run.c: descriptors as lists of attributes, and what they say of
   tensors and convolutions. */
#ifndef MD_TESTS_CUDA_FAKE_DNN_H
#define MD_TESTS_CUDA_FAKE_DNN_H

#include "fake_vendor.h"
#include <cudnn.h>

enum { MAX_ATTRS = 24, MAX_COUNT = 20 };

typedef struct attr {
    cudnnBackendAttributeName_t name;
    cudnnBackendAttributeType_t type;
    int64_t count;
    int64_t v[MAX_COUNT]; /* each element widened to 8 bytes' place */
} attr;

typedef struct desc {
    cudnnBackendDescriptorType_t type;
    bool finalized;
    int n, users; /* users: live descriptors that refer to it */
    int offer;    /* engine, configuration, plan */
    attr attrs[MAX_ATTRS];
    struct desc *graph; /* configuration: what it is for */
} desc;

#define D(x) CUDNN_BACKEND_##x##_DESCRIPTOR
#define A(x) CUDNN_ATTR_##x
#define T(x) CUDNN_TYPE_##x
#define REF  CUDNN_TYPE_BACKEND_DESCRIPTOR

typedef struct tensor {
    int rank;
    int64_t dim[8], stride[8];
    bool bf16, is_virtual, by_value;
    int64_t id, alignment;
    void *data;
} tensor;

/* x, w, y of a convolution in their forward roles */
typedef struct conv_op {
    tensor x, w, y;
    int64_t stride[2], before[2], after[2];
    int written; /* 0 y, 1 x, 2 w */
} conv_op;

#define ATTENTION(op, bwd, x)                                                                      \
    fake_tensor(op, bwd ? A(OPERATION_SDPA_BWD_##x##DESC) : A(OPERATION_SDPA_FWD_##x##DESC))

/* NULL, `otherwise` or NULL where the attribute is not set. */
const attr *fake_attr(const desc *d, cudnnBackendAttributeName_t name);
int64_t fake_number(const desc *d, cudnnBackendAttributeName_t name, int64_t otherwise);
desc *fake_ref(const desc *d, cudnnBackendAttributeName_t name, int i);
/* The tensor that an operation's attribute refers to. */
tensor fake_tensor(const desc *op, cudnnBackendAttributeName_t name);
/* Elements from its first to its last in memory. */
int64_t fake_extent(const tensor *t);
/* False: `op` is no convolution. */
bool fake_conv_of(const desc *op, conv_op *c);
/* Of an OPERATION_POINTWISE. */
cudnnPointwiseMode_t fake_pointwise_mode(const desc *op);
/* Executes one operation; virtual tensors live in `m` from one to the next. */
typedef struct memory {
    const desc *pack;
    void *made[64]; /* of virtual tensors, by id */
} memory;
bool fake_run_op(memory *m, const desc *op);

#endif
