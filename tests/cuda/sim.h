/* The own kernels of backend/cuda behind a backend table, run on the host by gpu_host.cc. What
   cuDNN and cuBLASLt do on a device (convolution, linear layers, fast attention) is done by
   backend/cpu, so that whole models run. */
#ifndef MD_TESTS_CUDA_SIM_H
#define MD_TESTS_CUDA_SIM_H

#include "graph/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

MD_MUST md_status sim_backend_open(md_backend **out);
/* False: the op is a vendor library's on a device. */
bool sim_has_kernel(md_op op);

#ifdef __cplusplus
}
#endif
#endif
