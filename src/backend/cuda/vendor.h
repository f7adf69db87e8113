/* For the files of backend/cuda that call the CUDA runtime, cuDNN or cuBLASLt: the handles behind a
   backend, and one wrapper per library that turns its errors into a status. */
#ifndef MD_BACKEND_CUDA_VENDOR_H
#define MD_BACKEND_CUDA_VENDOR_H

#include "backend/cuda/cuda.h"
#include "backend/cuda/internal.h"
#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cuda_tuning cuda_tuning; /* tune.c */

/* What alloc gave and release has not taken back. */
typedef struct cuda_block {
    struct cuda_block *next;
    void *p;
    size_t bytes;
} cuda_block;

typedef struct cuda_impl {
    cuda_device device; /* first: cuda__device() looks here */
    int ordinal;        /* of cudaSetDevice */
    char text[160], name[64], uuid[2 * sizeof(cudaUUID_t) + 1];
    cudaStream_t launch, side;
    cudnnHandle_t cudnn; /* its stream is `launch` */
    cublasLtHandle_t blas;
    cuda_options options;
    cuda_tuning *tuning;
    struct cuda_staging *staging; /* staging.c: pinned memory that copies pass through */
    cuda_block *blocks;
    cudaEvent_t forked, joined;
    bool recording, side_recorded; /* side_recorded: forked since the recording began */
} cuda_impl;

static inline cuda_impl *cuda__impl(const md_backend *be)
{
    return (cuda_impl *)be->impl;
}

md_status cuda__fail(cudaError_t e, const char *call, const char *file, int line);
md_status cuda__cudnn_fail(cudnnStatus_t s, const char *call, const char *file, int line);
md_status cuda__blas_fail(cublasStatus_t s, const char *call, const char *file, int line);

/* MD_NOMEM where memory ran out, else MD_DEVICE; the message holds the call and the library's text.
 */
#define CUDA_TRY(call)                                                                             \
    do {                                                                                           \
        cudaError_t cuda_try_ = (call);                                                            \
        if (cuda_try_ != cudaSuccess)                                                              \
            return cuda__fail(cuda_try_, #call, __FILE__, __LINE__);                               \
    } while (0)
#define CUDNN_TRY(call)                                                                            \
    do {                                                                                           \
        cudnnStatus_t cudnn_try_ = (call);                                                         \
        if (cudnn_try_ != CUDNN_STATUS_SUCCESS)                                                    \
            return cuda__cudnn_fail(cudnn_try_, #call, __FILE__, __LINE__);                        \
    } while (0)
#define BLAS_TRY(call)                                                                             \
    do {                                                                                           \
        cublasStatus_t blas_try_ = (call);                                                         \
        if (blas_try_ != CUBLAS_STATUS_SUCCESS)                                                    \
            return cuda__blas_fail(blas_try_, #call, __FILE__, __LINE__);                          \
    } while (0)

/* ---- tune.c: which of several ways is the fastest, found once per question and kept on disk per
   device and library versions. A question is a text such as "conv2d bf16 [2,64,64,320] ...". */
MD_MUST md_status cuda__tuning_open(cuda_impl *d);
void cuda__tuning_close(cuda_impl *d);
/* The remembered answer, or -1. */
int64_t cuda__tuning_find(cuda_impl *d, const char *question);
/* Remembers it and writes the file (atomic; a file that cannot be written is a warning, once). */
void cuda__tuning_keep(cuda_impl *d, const char *question, int64_t answer);
/* Median milliseconds of run(user) on the launch stream over a few calls after a warm-up. */
MD_MUST md_status cuda__tuning_time(cuda_impl *d, md_status (*run)(void *user), void *user,
                                    double *ms);

#ifdef __cplusplus
}
#endif
#endif
