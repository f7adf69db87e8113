/* The handles of cuDNN and cuBLASLt; see fake.h. */
#include "fake_internal.h"
#include <cublasLt.h>
#include <cudnn.h>
#include <stdio.h>

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle)
{
    if (fake__entered(__func__) != cudaSuccess)
        return CUDNN_STATUS_NOT_INITIALIZED;
    *handle = (cudnnHandle_t)(void *)fake__new_object(CUDNN);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle)
{
    cudaError_t e = fake__entered(__func__);
    object *o = fake__find(handle, CUDNN);
    if (o)
        o->live = false;
    return o && e == cudaSuccess ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_INTERNAL_ERROR;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
    if (fake__entered(__func__) != cudaSuccess || !fake__find(handle, CUDNN) ||
        !fake__find(stream, STREAM))
        return CUDNN_STATUS_BAD_PARAM;
    return CUDNN_STATUS_SUCCESS;
}

size_t cudnnGetVersion(void)
{
    return 91900;
}

size_t cublasLtGetVersion(void)
{
    return 130100;
}

const char *cudnnGetErrorString(cudnnStatus_t s)
{
    return s == CUDNN_STATUS_SUCCESS ? "no error" : "a fake cudnn error";
}

void cudnnGetLastErrorString(char *message, size_t size)
{
    (void)snprintf(message, size, "details");
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    if (fake__entered(__func__) != cudaSuccess)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    *handle = (cublasLtHandle_t)(void *)fake__new_object(BLAS);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    cudaError_t e = fake__entered(__func__);
    object *o = fake__find(handle, BLAS);
    if (o)
        o->live = false;
    return o && e == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INTERNAL_ERROR;
}

const char *cublasLtGetStatusString(cublasStatus_t s)
{
    return s == CUBLAS_STATUS_SUCCESS ? "no error" : "a fake cublas error";
}
