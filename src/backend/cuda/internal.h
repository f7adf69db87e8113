/* Shared by the op families of backend/cuda. No vendor type stands here: the families with own
   kernels (<family>.c prepares a node, <family>.cu holds its kernels) also build for the host,
   where tests/cuda runs them. What needs the CUDA runtime, cuDNN or cuBLASLt includes vendor.h. */
#ifndef MD_BACKEND_CUDA_INTERNAL_H
#define MD_BACKEND_CUDA_INTERNAL_H

#include "graph/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef void *gpu_stream; /* a cudaStream_t */

/* What own kernels need to know of the device; the first member of every impl behind a md_backend
   that runs them. */
typedef struct cuda_device {
    gpu_stream stream;  /* launches go here */
    int sm;             /* compute capability, 90 for 9.0 */
    int n_sm;           /* multiprocessors */
    uint32_t *fault;    /* readable by host and device; 0, or the first cuda_fault of a kernel */
    bool deterministic; /* results must not depend on the order of blocks */
} cuda_device;

#define CUDA_WAITING "waiting for the GPU" /* for md_watch */

/* Codes for cuda_device.fault: kernels cannot fail, so they leave one and go on with zeros. */
enum { CUDA_FAULT_NONE, CUDA_FAULT_EMBEDDING_ID };

static inline cuda_device *cuda__device(md_backend *be)
{
    return (cuda_device *)be->impl;
}

/* MD_DEVICE... with the op's name and the runtime's text, when a launcher returned an error. */
MD_MUST md_status cuda__launched(const md_kernel *k, int code);

/* ---- flash.c: our own attention kernels, for what cuDNN does not take (prepares like cuda_<op>).
 */
MD_MUST md_status cuda__flash(md_backend *be, const md_node *node, md_kernel *k);
MD_MUST md_status cuda__flash_grad(md_backend *be, const md_node *node, md_kernel *k);

/* The prepare function of every op: cuda_<op>. */
#define MD_OP(name, n_out, vjp)                                                                    \
    md_status cuda_##name(md_backend *be, const md_node *node, md_kernel *k);
#include "graph/ops.def"
#undef MD_OP

#ifdef __cplusplus
}
#endif
#endif
