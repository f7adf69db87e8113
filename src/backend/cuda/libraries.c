/* The versions of the libraries that are loaded, for people. */
#include "backend/cuda/vendor.h"

#include <stdio.h>

const char *cuda_libraries(void)
{
    static char text[120];
    int runtime = 0, driver = 0;
    if (cudaRuntimeGetVersion(&runtime) != cudaSuccess ||
        cudaDriverGetVersion(&driver) != cudaSuccess)
        (void)cudaGetLastError(); /* then they are 0.0 */
    size_t dnn = cudnnGetVersion(), blas = cublasLtGetVersion();
    (void)snprintf(
        text, sizeof text, "CUDA %d.%d, driver for %d.%d, cuDNN %zu.%zu.%zu, cuBLASLt %zu.%zu.%zu",
        runtime / 1000, runtime % 1000 / 10, driver / 1000, driver % 1000 / 10, dnn / 10000,
        dnn / 100 % 100, dnn % 100, blas / 10000, blas / 100 % 100, blas % 100);
    return text;
}
