/* How the threads of a launch share out the elements of nested dims. Included by .cu files. */
#ifndef MD_BACKEND_CUDA_WALK_CUH
#define MD_BACKEND_CUDA_WALK_CUH

#include "backend/cuda/gpu.cuh"
#include "backend/cuda/internal.h"

enum { WALK_BLOCK = 256 };

GPU_DEVICE int64_t walk_thread(void)
{
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

GPU_DEVICE int64_t walk_threads(void)
{
    return (int64_t)gridDim.x * blockDim.x;
}

/* V elements in one piece: 16 bytes where V is gpu_lanes<T>::n. */
template <int V, class T> GPU_DEVICE gpu_vec<T, V> walk_load(const T *p)
{
    return *(const gpu_vec<T, V> *)p;
}

template <int V, class T> GPU_DEVICE void walk_store(T *p, const gpu_vec<T, V> &v)
{
    *(gpu_vec<T, V> *)p = v;
}

/* D nested dims, outermost first. A thread starts at its own number and goes on by the number of
   threads, whose digits in these dims are `step`: so it knows its place in every dim without a
   division. `stride`: what a step along each dim moves in a second tensor. */
template <int D> struct walk {
    int64_t n, dim[D], step[D], stride[D];
};

/* Host side: blocks for n pieces, and the walk of that many. More blocks than fit at once, so that
   multiprocessors that finish early find work. */
static inline unsigned walk_grid(const cuda_device *d, int64_t n)
{
    return gpu_grid(n, WALK_BLOCK, (int64_t)d->n_sm * 16);
}

template <int D> static walk<D> walk_of(const int64_t *dim, const int64_t *stride, unsigned grid)
{
    walk<D> w;
    int64_t threads = (int64_t)grid * WALK_BLOCK;
    w.n = 1;
    for (int i = D - 1; i >= 0; i--) {
        w.n *= dim[i];
        w.dim[i] = dim[i];
        w.stride[i] = stride[i];
        w.step[i] = i ? threads % dim[i] : threads; /* the outermost never wraps */
        threads /= dim[i];
    }
    return w;
}

/* The digits of the thread's own number, which fits 32 bits: as does any dim below it. */
template <int D> GPU_DEVICE void walk_begin(const walk<D> &w, int64_t *at)
{
    unsigned left = blockIdx.x * blockDim.x + threadIdx.x;
    for (int i = D - 1; i > 0; i--) {
        unsigned dim = w.dim[i] > (int64_t)left ? left + 1 : (unsigned)w.dim[i];
        unsigned next = left / dim;
        at[i] = left - next * dim;
        left = next;
    }
    at[0] = left;
}

template <int D> GPU_DEVICE void walk_next(const walk<D> &w, int64_t *at)
{
    int64_t carry = 0;
    for (int i = D - 1; i > 0; i--) {
        at[i] += w.step[i] + carry;
        carry = at[i] >= w.dim[i];
        at[i] -= carry ? w.dim[i] : 0;
    }
    at[0] += w.step[0] + carry;
}

template <int D> GPU_DEVICE int64_t walk_offset(const walk<D> &w, const int64_t *at)
{
    int64_t offset = 0;
    for (int i = 0; i < D; i++)
        offset += at[i] * w.stride[i];
    return offset;
}

#endif
