/* Activations and their slopes in f32. Included by .cu files. */
#ifndef MD_BACKEND_CUDA_ACT_CUH
#define MD_BACKEND_CUDA_ACT_CUH

#include "backend/cuda/gpu.cuh"

enum { AFFINE = 100 }; /* beside the values of md_act; p, q: alpha, beta */

/* 1 / (1 + e^-x), by the units for 2^x and 1 / x: the exact ones that C asks for cost
   more than the memory that an activation reads. Within 4 ulp + |x| 2^-24. */
GPU_DEVICE float sigmoid(float x)
{
    return gpu_fast_inverse(1.0f + gpu_fast_exp2(-1.44269504f * x));
}

GPU_DEVICE float normal_cdf(float x)
{
    return 0.5f + 0.5f * erff(x * 0.70710678118654752f);
}

/* A NaN stays one everywhere, through clamp too. p, q: what the kind needs. */
template <int KIND> GPU_DEVICE float value_of(float x, float p, float q)
{
    switch (KIND) {
    case AFFINE:
        return p * x + q;
    case MD_ACT_SILU:
        return x * sigmoid(x);
    case MD_ACT_GELU:
        return x * normal_cdf(x);
    case MD_ACT_QUICK_GELU:
        return x * sigmoid(1.702f * x);
    case MD_ACT_EXP:
        return expf(x);
    case MD_ACT_LOG:
        return logf(x);
    default: // clamp
        return x < p ? p : x > q ? q : x;
    }
}

template <int KIND> GPU_DEVICE float slope_of(float x, float p, float q)
{
    float s;
    switch (KIND) {
    case MD_ACT_SILU:
        s = sigmoid(x);
        return s * (1.0f + x * (1.0f - s));
    case MD_ACT_GELU:
        return normal_cdf(x) + x * (0.3989422804014327f * expf(-0.5f * x * x));
    case MD_ACT_QUICK_GELU:
        s = sigmoid(1.702f * x);
        return s * (1.0f + 1.702f * x * (1.0f - s));
    case MD_ACT_EXP:
        return expf(x);
    case MD_ACT_LOG:
        return 1.0f / x;
    default: // clamp
        return x < p || x > q ? 0.0f : x == x ? 1.0f : x;
    }
}

#endif
