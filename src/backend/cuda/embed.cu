// embedding embedding_grad timestep_embedding.
#include "backend/cuda/embed.h"
#include "backend/cuda/units.cuh"

// walk: ids, units of a row
template <class U>
GPU_KERNEL void embedding(walk<2> w, int64_t vocab, uint32_t *fault,
                          const int32_t *__restrict__ ids, const U *__restrict__ table,
                          U *__restrict__ y)
{
    int64_t at[2];
    walk_begin(w, at);
    for (int64_t i = walk_thread(); i < w.n; i += walk_threads()) {
        int64_t id = ids[at[0]];
        U v = unit_zero<U>();
        if (id >= 0 && id < vocab)
            v = table[id * w.stride[0] + at[1]];
        else if (at[1] == 0)
            gpu_fault(fault, CUDA_FAULT_EMBEDDING_ID);
        y[i] = v;
        walk_next(w, at);
    }
}

template <class U>
static int embedding_launch(const cuda_device *d, int64_t n, int64_t vocab, int64_t width,
                            const int32_t *ids, const void *table, void *y)
{
    const int64_t units = width / (int64_t)sizeof(U), dim[2] = {n, units}, stride[2] = {units, 1};
    unsigned grid = walk_grid(d, n * units);
    walk<2> w = walk_of<2>(dim, stride, grid);
    return GPU_LAUNCH(embedding<U>, grid, WALK_BLOCK, d->stream, w, vocab, d->fault, ids,
                      (const U *)table, (U *)y);
}

extern "C" int cuda__embedding(const cuda_device *d, int64_t n, int64_t vocab, int64_t width,
                               const int32_t *ids, const void *table, void *y)
{
    int unit = unit_of(table, y, width);
    return UNIT_LAUNCH(unit, embedding_launch, d, n, vocab, width, ids, table, y);
}

template <class U> GPU_KERNEL void zero(int64_t n, U *__restrict__ y)
{
    for (int64_t i = walk_thread(); i < n; i += walk_threads())
        y[i] = unit_zero<U>();
}

template <class U> static int zero_launch(const cuda_device *d, int64_t bytes, void *y)
{
    int64_t n = bytes / (int64_t)sizeof(U);
    return GPU_LAUNCH(zero<U>, walk_grid(d, n), WALK_BLOCK, d->stream, n, (U *)y);
}

// A block per id and part of its row: that of an id's first place adds up all its places.
template <class T>
GPU_KERNEL void embedding_grad(int64_t n, int64_t vocab, int64_t width, uint32_t *fault,
                               const T *__restrict__ dy, const int32_t *__restrict__ ids,
                               T *__restrict__ dtable)
{
    int64_t parts = (width + WALK_BLOCK - 1) / WALK_BLOCK;
    for (int64_t item = blockIdx.x; item < n * parts; item += gridDim.x) {
        int64_t first = item / parts, column = item % parts * WALK_BLOCK + threadIdx.x;
        int32_t id = ids[first];
        if (id < 0 || id >= vocab) {
            if (threadIdx.x == 0)
                gpu_fault(fault, CUDA_FAULT_EMBEDDING_ID);
            continue;
        }
        float earlier = 0;
        for (int64_t i = threadIdx.x; i < first; i += WALK_BLOCK)
            earlier += ids[i] == id ? 1.0f : 0.0f;
        if (gpu_block_sum(earlier) > 0 || column >= width)
            continue;
        float sum = 0;
        for (int64_t i = first; i < n; i++)
            if (ids[i] == id)
                sum += gpu_float(dy[i * width + column]);
        dtable[id * width + column] = gpu_from<T>(sum);
    }
}

template <class T>
static int embedding_grad_launch(const cuda_device *d, int64_t n, int64_t vocab, int64_t width,
                                 const T *dy, const int32_t *ids, T *dtable)
{
    int64_t bytes = vocab * width * (int64_t)sizeof(T);
    int unit = unit_of(dtable, dtable, bytes);
    int code = UNIT_LAUNCH(unit, zero_launch, d, bytes, dtable);
    if (code)
        return code;
    int64_t blocks = n * ((width + WALK_BLOCK - 1) / WALK_BLOCK);
    return GPU_LAUNCH(embedding_grad<T>, gpu_grid(blocks, 1, d->n_sm * 16), WALK_BLOCK, d->stream,
                      n, vocab, width, d->fault, dy, ids, dtable);
}

extern "C" int cuda__embedding_grad(const cuda_device *d, md_dtype t, int64_t n, int64_t vocab,
                                    int64_t width, const void *dy, const int32_t *ids, void *dtable)
{
    return t == MD_BF16 ? embedding_grad_launch(d, n, vocab, width, (const bf16 *)dy, ids,
                                                (bf16 *)dtable)
                        : embedding_grad_launch(d, n, vocab, width, (const float *)dy, ids,
                                                (float *)dtable);
}

// In double: few values, and sines of large angles, where f32 would lose digits.
GPU_KERNEL void timestep_embedding(int64_t n, int64_t half, double log_period, double divisor,
                                   bool flip, const float *__restrict__ t, float *__restrict__ y)
{
    for (int64_t i = walk_thread(); i < n * half; i += walk_threads()) {
        int64_t row = i / half, column = i % half;
        double angle = (double)t[row] * exp(-log_period * (double)column / divisor);
        float s = (float)sin(angle), c = (float)cos(angle);
        y[row * 2 * half + column] = flip ? c : s;
        y[row * 2 * half + half + column] = flip ? s : c;
    }
}

extern "C" int cuda__timestep_embedding(const cuda_device *d, int64_t n, int64_t half,
                                        double max_period, double shift, bool flip, const float *t,
                                        float *y)
{
    double log_period = log(max_period), divisor = (double)half - shift;
    return GPU_LAUNCH(timestep_embedding, walk_grid(d, n * half), WALK_BLOCK, d->stream, n, half,
                      log_period, divisor, flip, t, y);
}
