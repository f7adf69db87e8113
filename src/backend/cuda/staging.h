/* Pinned host memory between the caller's arrays and the device: backend.c's write and read. */
#ifndef MD_BACKEND_CUDA_STAGING_H
#define MD_BACKEND_CUDA_STAGING_H

#include "backend/cuda/vendor.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    CUDA_STAGING_SLOTS = 4,      /* of writes on their way */
    CUDA_STAGING_BYTES = 4 << 20 /* of one slot; larger copies go in pieces */
};

MD_MUST md_status cuda__staging_open(cuda_impl *d);
cudaError_t cuda__staging_close(cuda_impl *d); /* the first error, with everything freed */
/* Converts n elements into a slot and copies them behind what is on the launch stream; waits only
   where every slot is still on its way. The host array is the caller's again on return. */
MD_MUST md_status cuda__staging_write(cuda_impl *d, void *dst, md_dtype dtype, const void *host,
                                      md_dtype host_dtype, int64_t n);
/* Waits for the launch stream and for the copy. */
MD_MUST md_status cuda__staging_read(cuda_impl *d, const void *src, md_dtype dtype, void *host,
                                     md_dtype host_dtype, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
