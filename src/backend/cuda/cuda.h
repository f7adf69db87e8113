/* The backend for NVIDIA GPUs: cuDNN for convolution and attention, cuBLASLt for linear layers, own
   kernels for the rest; f32 and bf16 with f32 sums. One stream for launches, one for
   communication. */
#ifndef MD_BACKEND_CUDA_CUDA_H
#define MD_BACKEND_CUDA_CUDA_H

#include "graph/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cuda_options {
    int index; /* this worker's place on its node: takes GPU index modulo their number */
    size_t workspace_bytes; /* most that one library call may take */
    const char *cache;      /* folder of the timed choices; NULL or "": they are not kept */
    bool deterministic;     /* only algorithms whose sums have a fixed order */
    bool tf32;              /* f32 products may be rounded to TF32 */
} cuda_options;

/* GPUs that can be used; 0 without a driver, and then md_status_text() says why (MD_OK all the
   same: a machine without one is no error). */
MD_MUST md_status cuda_device_count(int *n);
/* "CUDA 13.0, driver for 13.0, cuDNN 9.19.0, cuBLASLt 13.1.0": those that are loaded. Local. */
const char *cuda_libraries(void);
MD_MUST md_status cuda_backend_open(const cuda_options *o, md_backend **out);
/* "NVIDIA H200, sm_90, 139.8 GiB, driver 13.0"; owned by the backend. */
const char *cuda_backend_text(const md_backend *be);
/* The GPU's UUID as 32 hexadecimal digits, the same in every process; owned by the backend. */
const char *cuda_backend_uuid(const md_backend *be);

#ifdef __cplusplus
}
#endif
#endif
