// sum_to broadcast_to sumsq. Each thread adds into f32 accumulators that it empties every few
// steps, so that rounding errors grow with the root of the length or slower, and blocks add in
// trees.
#include "backend/cuda/reduce.h"
#include "backend/cuda/walk.cuh"

enum { BLOCK = CUDA_SUM_BLOCK, SPAN = 16 };

// V sums of which the recent terms are kept apart.
template <int V> struct sums {
    float recent[V], all[V];
    int n;
};

template <int V> GPU_DEVICE void sums_begin(sums<V> &s)
{
    for (int j = 0; j < V; j++)
        s.recent[j] = s.all[j] = 0;
    s.n = 0;
}

template <int V> GPU_DEVICE void sums_step(sums<V> &s)
{
    if (++s.n < SPAN)
        return;
    for (int j = 0; j < V; j++) {
        s.all[j] += s.recent[j];
        s.recent[j] = 0;
    }
    s.n = 0;
}

template <bool SQUARES> GPU_DEVICE float term(float x)
{
    return SQUARES ? x * x : x;
}

// Adds a piece of V elements, or four of them.
template <bool SQUARES, int V, class T> GPU_DEVICE void sums_add(sums<V> &s, const T *x)
{
    gpu_vec<T, V> v = walk_load<V>(x);
    for (int j = 0; j < V; j++)
        s.recent[j] += term<SQUARES>(gpu_float(v.v[j]));
    sums_step(s);
}

template <bool SQUARES, int V, class T>
GPU_DEVICE void sums_add4(sums<V> &s, const T *x, int64_t stride)
{
    gpu_vec<T, V> v0 = walk_load<V>(x), v1 = walk_load<V>(x + stride),
                  v2 = walk_load<V>(x + 2 * stride), v3 = walk_load<V>(x + 3 * stride);
    for (int j = 0; j < V; j++)
        s.recent[j] += (term<SQUARES>(gpu_float(v0.v[j])) + term<SQUARES>(gpu_float(v1.v[j]))) +
                       (term<SQUARES>(gpu_float(v2.v[j])) + term<SQUARES>(gpu_float(v3.v[j])));
    sums_step(s);
}

template <int V> GPU_DEVICE float sums_total(const sums<V> &s)
{
    float total = 0;
    for (int j = 0; j < V; j++)
        total += s.all[j] + s.recent[j];
    return total;
}

// ---- columns: `lanes` threads side by side, V columns each; 256 / lanes rows at a time

template <int V, class T>
GPU_DEVICE void sum_rows(sums<V> &sum, const cuda_sum &s, int64_t a, int64_t r, int64_t end,
                         int64_t step, const T *__restrict__ x)
{
    sums_begin(sum);
    if (s.r0 == 1) { // rows lie one behind the other
        const T *from = x + a * s.r1 * s.b;
        for (; r + 3 * step < end; r += 4 * step)
            sums_add4<false, V>(sum, from + r * s.b, step * s.b);
        for (; r < end; r += step)
            sums_add<false, V>(sum, from + r * s.b);
    } else {
        for (; r < end; r += step)
            sums_add<false, V>(sum, x + ((r / s.r1 * s.a + a) * s.r1 + r % s.r1) * s.b);
    }
}

template <int V, class From, class To>
GPU_KERNEL void sum_columns(cuda_sum s, int lanes, const From *__restrict__ x, To *__restrict__ y)
{
    GPU_SHARED(float, part, BLOCK *V); // [V][rows][lanes]
    const int me = (int)threadIdx.x, row = me / lanes, rows = BLOCK / lanes;
    // 32 bits: a division of 64 costs as much as the rows of a small sum
    const int tiles = (int)((s.b / V + lanes - 1) / lanes), n_a = (int)s.a, parts = (int)s.parts;
    const int64_t n_rows = s.r0 * s.r1;
    for (int item = (int)blockIdx.x; item < tiles * n_a * parts; item += (int)gridDim.x) {
        const int rest = item / tiles, p = rest / n_a, a = rest - p * n_a;
        int64_t column = ((item - rest * tiles) * lanes + me % lanes) * (int64_t)V;
        int64_t end = (p + 1) * s.part < n_rows ? (p + 1) * s.part : n_rows;
        sums<V> sum;
        sum_rows(sum, s, a, p * s.part + row, column < s.b ? end : 0, rows, x + column);
        for (int j = 0; j < V; j++)
            part[j * BLOCK + me] = sum.all[j] + sum.recent[j];
        __syncthreads();
        for (int half = rows / 2; half > 0; half /= 2) {
            for (int j = 0; row < half && j < V; j++)
                part[j * BLOCK + me] += part[j * BLOCK + me + half * lanes];
            __syncthreads();
        }
        for (int j = 0; row == 0 && column < s.b && j < V; j++)
            y[(p * s.a + a) * s.b + column + j] = gpu_from<To>(part[j * BLOCK + me]);
    }
}

// A power of two: all of a narrow tensor's columns; else as many as divide the width, for then no
// thread is idle, as long as they still read neighbouring 32 bytes and more.
extern "C" int cuda__sum_lanes(int64_t b, int v)
{
    int64_t columns = b / v;
    int lanes = 1;
    while (lanes < 32 && lanes < columns)
        lanes *= 2;
    if (columns > 32)
        for (int try_lanes = 32; try_lanes >= 8; try_lanes /= 2)
            if (columns % try_lanes == 0)
                return try_lanes;
    return lanes;
}

template <int V, class From, class To>
static int columns_launch(const cuda_device *d, const cuda_sum *shape, const From *x, To *y)
{
    cuda_sum s = *shape;
    int lanes = cuda__sum_lanes(s.b, V);
    int64_t tiles = (s.b / V + lanes - 1) / lanes;
    return GPU_LAUNCH((sum_columns<V, From, To>), gpu_grid(tiles * s.a * s.parts, 1, d->n_sm * 16),
                      BLOCK, d->stream, s, lanes, x, y);
}

template <class From, class To>
static int columns_of(const cuda_device *d, const cuda_sum *s, const void *x, void *y)
{
    const int V = gpu_lanes<From>::n;
    if (gpu_aligned(x) && s->b % V == 0)
        return columns_launch<V>(d, s, (const From *)x, (To *)y);
    return columns_launch<1>(d, s, (const From *)x, (To *)y);
}

extern "C" int cuda__sum_columns(const cuda_device *d, md_dtype from, md_dtype to,
                                 const cuda_sum *s, const void *x, void *y)
{
    if (from == MD_BF16)
        return to == MD_BF16 ? columns_of<bf16, bf16>(d, s, x, y)
                             : columns_of<bf16, float>(d, s, x, y);
    return to == MD_BF16 ? columns_of<float, bf16>(d, s, x, y)
                         : columns_of<float, float>(d, s, x, y);
}

// ---- segments: G threads for each sum: 1, a warp or a block

template <int G> GPU_DEVICE float sum_group(float v)
{
    return G == 1 ? v : G == GPU_WARP ? gpu_warp_sum(v) : gpu_block_sum(v);
}

template <int G, int V, class From, class To>
GPU_KERNEL void sum_segments(cuda_sum s, const From *__restrict__ x, To *__restrict__ y)
{
    int64_t width = s.r2 / V, n = s.r1 * width, part = s.part / V; // in pieces of V
    int64_t lane = (int)threadIdx.x % G, seg_step = G / width, off_step = G % width;
    for (int64_t item = walk_thread() / G; item < s.a * s.b * s.parts; item += walk_threads() / G) {
        int64_t o = item % (s.a * s.b), p = item / (s.a * s.b);
        const From *from = x + (o / s.b * s.r1 * s.b + o % s.b) * s.r2;
        int64_t i = p * part + lane, end = (p + 1) * part < n ? (p + 1) * part : n;
        int64_t seg = i / width, off = i % width;
        sums<V> sum;
        sums_begin(sum);
        for (; i < end; i += G) {
            sums_add<false, V>(sum, from + seg * s.b * s.r2 + off * V);
            seg += seg_step;
            off += off_step;
            if (off >= width) {
                off -= width;
                seg++;
            }
        }
        float total = sum_group<G>(sums_total(sum));
        if (lane == 0)
            y[item] = gpu_from<To>(total);
    }
}

template <int G, int V, class From, class To>
static int segments_launch(const cuda_device *d, const cuda_sum *shape, const From *x, To *y)
{
    cuda_sum s = *shape;
    return GPU_LAUNCH((sum_segments<G, V, From, To>), walk_grid(d, s.a * s.b * s.parts * G),
                      WALK_BLOCK, d->stream, s, x, y);
}

// One part: as many threads for each sum as have something to do.
template <int V, class T>
static int segments_of(const cuda_device *d, const cuda_sum *s, const T *x, T *y)
{
    int64_t pieces = s->r1 * s->r2 / V;
    return pieces <= 8              ? segments_launch<1, V>(d, s, x, y)
           : pieces <= 8 * GPU_WARP ? segments_launch<GPU_WARP, V>(d, s, x, y)
                                    : segments_launch<WALK_BLOCK, V>(d, s, x, y);
}

template <class T> static int segments(const cuda_device *d, const cuda_sum *s, const T *x, void *y)
{
    const int V = gpu_lanes<T>::n;
    bool wide = gpu_aligned(x) && s->r2 % V == 0;
    if (s->parts > 1)
        return wide ? segments_launch<WALK_BLOCK, V>(d, s, x, (float *)y)
                    : segments_launch<WALK_BLOCK, 1>(d, s, x, (float *)y);
    return wide ? segments_of<V>(d, s, x, (T *)y) : segments_of<1>(d, s, x, (T *)y);
}

extern "C" int cuda__sum_segments(const cuda_device *d, md_dtype from, md_dtype to,
                                  const cuda_sum *s, const void *x, void *y)
{
    (void)to;
    return from == MD_BF16 ? segments(d, s, (const bf16 *)x, y)
                           : segments(d, s, (const float *)x, y);
}

// ---- whole tensors

template <bool SQUARES, int V, class From, class To>
GPU_KERNEL void sum_flat(cuda_sum s, const From *__restrict__ x, To *__restrict__ y)
{
    for (int64_t p = blockIdx.x; p < s.parts; p += gridDim.x) {
        int64_t end = (p + 1) * s.part < s.r2 ? (p + 1) * s.part : s.r2;
        int64_t i = p * s.part + (int64_t)threadIdx.x * V;
        sums<V> sum;
        sums_begin(sum);
        for (; i + 3 * BLOCK * V + V <= end; i += 4 * BLOCK * V)
            sums_add4<SQUARES, V>(sum, x + i, BLOCK * V);
        for (; i + V <= end; i += BLOCK * V)
            sums_add<SQUARES, V>(sum, x + i);
        for (; i < end; i++) // the tensor's last, incomplete piece
            sum.recent[0] += term<SQUARES>(gpu_float(x[i]));
        float total = gpu_block_sum(sums_total(sum));
        if (threadIdx.x == 0)
            y[p] = gpu_from<To>(total);
    }
}

template <bool SQUARES, int V, class From, class To>
static int flat_launch(const cuda_device *d, const cuda_sum *shape, const From *x, To *y)
{
    cuda_sum s = *shape;
    return GPU_LAUNCH((sum_flat<SQUARES, V, From, To>), gpu_grid(s.parts, 1, d->n_sm * 16), BLOCK,
                      d->stream, s, x, y);
}

template <bool SQUARES, class From, class To>
static int flat(const cuda_device *d, const cuda_sum *s, const void *x, void *y)
{
    if (gpu_aligned(x))
        return flat_launch<SQUARES, gpu_lanes<From>::n>(d, s, (const From *)x, (To *)y);
    return flat_launch<SQUARES, 1>(d, s, (const From *)x, (To *)y);
}

extern "C" int cuda__sum_flat(const cuda_device *d, md_dtype from, md_dtype to, bool squares,
                              const cuda_sum *s, const void *x, void *y)
{
    if (squares) // into f32 alone
        return from == MD_BF16 ? flat<true, bf16, float>(d, s, x, y)
                               : flat<true, float, float>(d, s, x, y);
    if (from == MD_BF16)
        return to == MD_BF16 ? flat<false, bf16, bf16>(d, s, x, y)
                             : flat<false, bf16, float>(d, s, x, y);
    return flat<false, float, float>(d, s, x, y);
}

// ---- broadcast_to: y in pieces of V within the last dim

template <int D, int V, class T>
GPU_KERNEL void repeat(walk<D> w, bool rows, const T *__restrict__ x, T *__restrict__ y)
{
    int64_t at[D];
    walk_begin(w, at);
    for (int64_t i = walk_thread(); i < w.n; i += walk_threads()) {
        const T *from = x + walk_offset(w, at);
        gpu_vec<T, V> v;
        if (rows) {
            v = walk_load<V>(from);
        } else {
            T one = *from;
            for (int j = 0; j < V; j++)
                v.v[j] = one;
        }
        walk_store<V>(y + i * V, v);
        walk_next(w, at);
    }
}

template <int D, int V, class T>
static int repeat_launch(const cuda_device *d, const cuda_broadcast *s, const T *x, T *y)
{
    int64_t dim[D], stride[D], n = 1;
    for (int i = 0; i < D; i++) {
        dim[i] = s->dim[MD_MAX_DIMS - D + i] / (i == D - 1 ? V : 1);
        stride[i] = s->stride[MD_MAX_DIMS - D + i] * (i == D - 1 ? V : 1);
        n *= dim[i];
    }
    unsigned grid = walk_grid(d, n);
    walk<D> w = walk_of<D>(dim, stride, grid);
    return GPU_LAUNCH((repeat<D, V, T>), grid, WALK_BLOCK, d->stream, w, stride[D - 1] != 0, x, y);
}

template <class T>
static int repeat_of(const cuda_device *d, const cuda_broadcast *s, const T *x, T *y)
{
    const int V = gpu_lanes<T>::n;
    bool rows = s->stride[MD_MAX_DIMS - 1] != 0;
    if (gpu_aligned(y, rows ? x : nullptr) && s->dim[MD_MAX_DIMS - 1] % V == 0)
        return s->n <= 2 ? repeat_launch<2, V>(d, s, x, y) : repeat_launch<4, V>(d, s, x, y);
    return s->n <= 2 ? repeat_launch<2, 1>(d, s, x, y) : repeat_launch<4, 1>(d, s, x, y);
}

extern "C" int cuda__repeat(const cuda_device *d, md_dtype t, const cuda_broadcast *shape,
                            const void *x, void *y)
{
    return t == MD_BF16 ? repeat_of(d, shape, (const bf16 *)x, (bf16 *)y)
                        : repeat_of(d, shape, (const float *)x, (float *)y);
}
