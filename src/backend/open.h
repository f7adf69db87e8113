/* The list of backends: one row each. */
#ifndef MD_BACKEND_OPEN_H
#define MD_BACKEND_OPEN_H

#include "graph/backend.h"

typedef struct backend_options {
    const char *device; /* "auto", "cpu", "cuda" or "ref" */
    int threads;        /* 0: the processors this process may use, shared by the node's workers */
    int sharing;        /* workers on this node, at least 1 */
    int index;          /* this worker's place among them */
    int64_t workspace_mib; /* most that one call of a GPU's library may take */
    const char *cache;     /* folder for what was timed; NULL: not kept. Must outlive the backend */
    bool deterministic;    /* only sums of a fixed order */
} backend_options;

/* auto: a GPU where there is one that can be used, else the processor; worker 0 of a node says
   which and why. A device that this build or machine lacks is MD_USAGE and says so. Close with
   (*out)->ops->close. */
MD_MUST md_status backend_open(const backend_options *o, md_backend **out);
/* GPUs that this process sees; where there are none, `reason` says why. */
enum { BACKEND_REASON = 400 };
MD_MUST md_status backend_gpus(int *n, char reason[BACKEND_REASON]);
/* "CUDA 13.0, driver for 13.0, cuDNN 9.19.0, cuBLASLt 13.1.0"; "" where the build has no CUDA. */
const char *backend_gpu_libraries(void);
/* The first instruction set that the program was compiled for and this processor lacks, or "". */
const char *backend_cpu_lacks(void);
/* "NVIDIA H200, sm_90, 139.8 GiB, driver 13.0"; "" for what is no GPU. Owned by the backend. */
const char *backend_text(const md_backend *be);
/* What tells the GPUs of one machine apart, for comm_device_new; "" for what is no GPU. Owned by
   the backend. */
const char *backend_identity(const md_backend *be);

#endif
