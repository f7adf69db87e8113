/* The language of the own kernels: CUDA C++ under nvcc; under a host compiler the same source runs
   a block's threads one after the other (tests/cuda/gpu_host.cc), so that a machine without a GPU
   executes every kernel in its tests. Kernels use threadIdx, blockIdx, blockDim, gridDim (x only),
   __syncthreads, the two shuffles below with a full warp, GPU_SHARED, GPU_BOUNDS and GPU_LAUNCH,
   and no other CUDA feature. Grids may be of any size: kernels stride over their work. No atomics
   on floats: results must not depend on the order of blocks. */
#ifndef MD_BACKEND_CUDA_GPU_CUH
#define MD_BACKEND_CUDA_GPU_CUH

#include "graph/graph.h" /* md_dtype */
#include <math.h>
#include <stdint.h>

typedef void *gpu_stream; /* a cudaStream_t */

enum { GPU_WARP = 32 };

struct bf16 {
    uint16_t bits;
};

#ifdef __CUDACC__

#include <cuda_bf16.h>

#define GPU_KERNEL static __global__
#define GPU_DEVICE static __device__ __forceinline__
/* After GPU_KERNEL: run with `threads` a block, `blocks` of them at once on a multiprocessor, which
   limits the registers. */
#define GPU_BOUNDS(threads, blocks) __launch_bounds__(threads, blocks)
/* Before a loop whose index picks registers: an array indexed at run time would lie in memory. */
#define GPU_UNROLL _Pragma("unroll")
/* Before a loop of loads that do not wait for each other: n of them are then on their way. */
#define GPU_PRAGMA(text) _Pragma(#text)
#define GPU_UNROLL_BY(n) GPU_PRAGMA(unroll n)
/* An array that the block shares; undefined at the block's start. */
#define GPU_SHARED(type, name, n) __shared__ type name[n]
/* Runs kernel(args...) and gives the error code of the launch, 0 if there is none. `kernel` in
   parentheses when it has template arguments. */
#define GPU_LAUNCH(kernel, grid, block, stream, ...)                                               \
    (kernel<<<(unsigned)(grid), (unsigned)(block), 0, (cudaStream_t)(stream)>>>(__VA_ARGS__),      \
     (int)cudaGetLastError())

GPU_DEVICE float gpu_shuffle_xor(float v, int lane_mask)
{
    return __shfl_xor_sync(0xffffffffu, v, lane_mask);
}

GPU_DEVICE float gpu_shuffle(float v, int lane)
{
    return __shfl_sync(0xffffffffu, v, lane);
}

/* One instruction each, where the exact ones take 10 and a branch: two units in the last place, of
   log2 2^-22. Below the least normal number arguments count as 0 and so do results. */
GPU_DEVICE float gpu_fast_sqrt(float v)
{
    float r;
    asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
    return r;
}

GPU_DEVICE float gpu_fast_inverse(float v)
{
    float r;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
    return r;
}

GPU_DEVICE float gpu_fast_log2(float v)
{
    float r;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
    return r;
}

GPU_DEVICE float gpu_fast_exp2(float v)
{
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
    return r;
}

/* Stores `code` if the word is still 0. */
GPU_DEVICE void gpu_fault(uint32_t *word, uint32_t code)
{
    atomicCAS_system(word, 0u, code);
}

GPU_DEVICE float gpu_float(bf16 v)
{
    return __uint_as_float((uint32_t)v.bits << 16);
}

GPU_DEVICE bf16 gpu_bf16(float v) /* to nearest even */
{
    __nv_bfloat16 h = __float2bfloat16_rn(v);
    return bf16{__bfloat16_as_ushort(h)};
}

#else

#include <functional>
#include <string.h>

struct gpu_index {
    unsigned x;
};
extern gpu_index threadIdx, blockIdx, blockDim, gridDim;

extern "C" {
void __syncthreads(void);
float gpu_shuffle_xor(float v, int lane_mask);
float gpu_shuffle(float v, int lane);
}
/* Fills `p` with NaN patterns when a block meets it for the first time. */
void gpu_host_shared(void *p, size_t bytes);
int gpu_host_launch(void *stream, const char *name, unsigned grid, unsigned block,
                    const std::function<void()> &thread);

#define GPU_KERNEL static
#define GPU_DEVICE static inline
#define GPU_BOUNDS(threads, blocks)
#define GPU_UNROLL
#define GPU_UNROLL_BY(n)
#define GPU_SHARED(type, name, n)                                                                  \
    static type name[n];                                                                           \
    gpu_host_shared(name, sizeof name)
#define GPU_LAUNCH(kernel, grid, block, stream, ...)                                               \
    gpu_host_call(kernel, (stream), #kernel, (unsigned)(grid), (unsigned)(block), __VA_ARGS__)

/* The arguments are taken now, as by a launch: the kernel may run when the caller's are gone. */
template <class T> struct gpu_host_argument {
    typedef T type;
};
template <class... T>
static inline int gpu_host_call(void (*kernel)(T...), void *stream, const char *name, unsigned grid,
                                unsigned block, typename gpu_host_argument<T>::type... args)
{
    return gpu_host_launch(stream, name, grid, block, [=] { kernel(args...); });
}

GPU_DEVICE float gpu_fast_normal(float v)
{
    return fabsf(v) < 1.17549435e-38f ? copysignf(0.0f, v) : v;
}

GPU_DEVICE float gpu_fast_sqrt(float v)
{
    return gpu_fast_normal(sqrtf(gpu_fast_normal(v)));
}

GPU_DEVICE float gpu_fast_inverse(float v)
{
    return gpu_fast_normal(1.0f / gpu_fast_normal(v));
}

GPU_DEVICE float gpu_fast_log2(float v)
{
    return gpu_fast_normal(log2f(gpu_fast_normal(v)));
}

GPU_DEVICE float gpu_fast_exp2(float v)
{
    return gpu_fast_normal(exp2f(gpu_fast_normal(v)));
}

GPU_DEVICE void gpu_fault(uint32_t *word, uint32_t code)
{
    if (*word == 0)
        *word = code;
}

GPU_DEVICE float gpu_float(bf16 v)
{
    uint32_t u = (uint32_t)v.bits << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

GPU_DEVICE bf16 gpu_bf16(float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return bf16{(uint16_t)(u >> 16 | 0x40)};
    return bf16{(uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16)};
}

#endif

GPU_DEVICE float gpu_float(float v)
{
    return v;
}

/* gpu_from<T>(v): v rounded to T */
GPU_DEVICE void gpu_round(float v, float *to)
{
    *to = v;
}

GPU_DEVICE void gpu_round(float v, bf16 *to)
{
    *to = gpu_bf16(v);
}

template <class T> GPU_DEVICE T gpu_from(float v)
{
    T t;
    gpu_round(v, &t);
    return t;
}

/* N neighbours, read and written in one piece of up to 16 bytes; the address must be a multiple of
   the piece. */
template <class T, int N> struct alignas(sizeof(T) * N) gpu_vec {
    T v[N];
};
template <class T> struct gpu_lanes { /* elements in 16 bytes */
    static const int n = 16 / (int)sizeof(T);
};

/* Host side: whether all addresses allow 16-byte pieces. */
static inline bool gpu_aligned(const void *a, const void *b = nullptr, const void *c = nullptr,
                               const void *d = nullptr)
{
    return (((uintptr_t)a | (uintptr_t)b | (uintptr_t)c | (uintptr_t)d) & 15) == 0;
}

/* Sums and maxima over a warp and over a block (blockDim.x a multiple of 32, at most 1024); every
   thread gets the result, always folded in the same order. Those over a block end with a barrier,
   so that they can be called again at once. */
GPU_DEVICE float gpu_warp_sum(float v)
{
    for (int k = GPU_WARP / 2; k > 0; k /= 2)
        v += gpu_shuffle_xor(v, k);
    return v;
}

GPU_DEVICE float gpu_warp_max(float v)
{
    for (int k = GPU_WARP / 2; k > 0; k /= 2)
        v = fmaxf(v, gpu_shuffle_xor(v, k));
    return v;
}

GPU_DEVICE float gpu_block_sum(float v)
{
    GPU_SHARED(float, part, GPU_WARP);
    int warps = (int)blockDim.x / GPU_WARP, lane = (int)threadIdx.x % GPU_WARP;
    v = gpu_warp_sum(v);
    if (lane == 0)
        part[threadIdx.x / GPU_WARP] = v;
    __syncthreads();
    v = gpu_warp_sum(lane < warps ? part[lane] : 0.0f);
    __syncthreads();
    return v;
}

GPU_DEVICE float gpu_block_max(float v)
{
    GPU_SHARED(float, part, GPU_WARP);
    int warps = (int)blockDim.x / GPU_WARP, lane = (int)threadIdx.x % GPU_WARP;
    v = gpu_warp_max(v);
    if (lane == 0)
        part[threadIdx.x / GPU_WARP] = v;
    __syncthreads();
    v = gpu_warp_max(lane < warps ? part[lane] : -INFINITY);
    __syncthreads();
    return v;
}

/* Blocks for n pieces of work with `per_block` each, at most `most`. The host runs few, so that the
   striding loops are walked. */
static inline unsigned gpu_grid(int64_t n, int64_t per_block, int64_t most)
{
#ifndef __CUDACC__
    most = most < 3 ? most : 3;
#endif
    int64_t blocks = (n + per_block - 1) / per_block;
    return (unsigned)(blocks < 1 ? 1 : blocks < most ? blocks : most);
}

#endif
