/* Moving bytes in the largest pieces that addresses and sizes allow. Included by .cu files. */
#ifndef MD_BACKEND_CUDA_UNITS_CUH
#define MD_BACKEND_CUDA_UNITS_CUH

#include "backend/cuda/walk.cuh"

typedef gpu_vec<uint32_t, 4> unit16;
typedef gpu_vec<uint32_t, 2> unit8;
typedef gpu_vec<uint32_t, 1> unit4;
typedef gpu_vec<uint16_t, 1> unit2;

template <class U> GPU_DEVICE U unit_zero(void)
{
    U u;
    for (int i = 0; i < (int)(sizeof u.v / sizeof u.v[0]); i++)
        u.v[i] = 0;
    return u;
}

/* 16, 8, 4 or 2: divides both addresses and every size, which are multiples of 2. */
static inline int unit_of(const void *a, const void *b, int64_t sizes)
{
    uint64_t bits = (uint64_t)(uintptr_t)a | (uint64_t)(uintptr_t)b | (uint64_t)sizes;
    return bits % 4 ? 2 : bits % 8 ? 4 : bits % 16 ? 8 : 16;
}

/* launch<unit>(args...) with the unit of that many bytes */
#define UNIT_LAUNCH(bytes, launch, ...)                                                            \
    ((bytes) == 16  ? launch<unit16>(__VA_ARGS__)                                                  \
     : (bytes) == 8 ? launch<unit8>(__VA_ARGS__)                                                   \
     : (bytes) == 4 ? launch<unit4>(__VA_ARGS__)                                                   \
                    : launch<unit2>(__VA_ARGS__))

#endif
