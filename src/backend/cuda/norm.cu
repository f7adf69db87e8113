/* group_norm group_norm_grad layer_norm layer_norm_grad.
     xhat = (x - mean) rstd, z = gamma xhat + beta, y = act(z), d = dy act'(z)
     dgamma = sum d xhat, dbeta = sum d
     dx = rstd (d gamma - mean(d gamma) - xhat mean(d gamma xhat)), means over the group.
   A norm over groups goes in three passes: partial results per chunk of rows and channel, which
   neighbouring threads read along the channels; their sum over chunks and the group's channels;
   the result. The sums have one order: no atomics. */
#include "backend/cuda/act.cuh"
#include "backend/cuda/gpu.cuh"
#include "backend/cuda/norm.h"

enum { THREADS = 256, SUM_SLOTS = 16, BLOCKS_PER_SM = 8 };

/* Of a group that a block holds in registers: at most HELD bytes per thread. */
enum { HELD_THREADS = 1024, HELD = 64 };

/* How a block's threads lie over a chunk: `wide` along the channels, V channels each, by `high`
   rows; `tiles` of that width in a row. */
struct norm_tiles {
    cuda_norm_shape z;
    int wide, high, tiles;
};

/* Indices are 32 bits: a division of 64 bits costs more than a row. */
struct norm_place {
    int sample, chunk, first_row;
    int rows;      /* of the chunk */
    int channel;   /* this thread's first */
    int slot;      /* its row within `high` */
    int64_t first; /* the element at the chunk's first row and this channel */
    bool active;
};

template <int V> GPU_DEVICE norm_place place_of(const norm_tiles &t, int unit)
{
    const int chunks = (int)t.z.chunks, rows = (int)t.z.rows, channels = (int)t.z.channels;
    const int chunk_rows = (int)t.z.chunk_rows, row = unit / chunks;
    norm_place p;
    p.chunk = unit % chunks;
    p.sample = row / t.tiles;
    p.first_row = p.chunk * chunk_rows;
    p.rows = p.first_row + chunk_rows < rows ? chunk_rows : rows - p.first_row;
    p.channel = (row % t.tiles * t.wide + (int)threadIdx.x % t.wide) * V;
    p.slot = (int)threadIdx.x / t.wide;
    p.first = ((int64_t)p.sample * rows + p.first_row) * channels + p.channel;
    p.active = p.slot < t.high && p.channel < channels;
    return p;
}

GPU_DEVICE int n_units(const norm_tiles &t)
{
    return (int)t.z.samples * t.tiles * (int)t.z.chunks;
}

template <class T, int V> GPU_DEVICE void take(const T *from, float to[V])
{
    gpu_vec<T, V> piece = *(const gpu_vec<T, V> *)from;
    for (int j = 0; j < V; j++)
        to[j] = gpu_float(piece.v[j]);
}

template <class T, int V> GPU_DEVICE void give(T *to, const float from[V])
{
    gpu_vec<T, V> piece;
    for (int j = 0; j < V; j++)
        piece.v[j] = gpu_from<T>(from[j]);
    *(gpu_vec<T, V> *)to = piece;
}

GPU_DEVICE float silu_slope(float x)
{
    return slope_of<MD_ACT_SILU>(x, 0.0f, 0.0f);
}

/* The pairs of a sample's chunk, one per channel. */
GPU_DEVICE gpu_vec<float, 2> *pairs_of(float *partial, const cuda_norm_shape &z, int sample,
                                       int chunk)
{
    return (gpu_vec<float, 2> *)partial + ((int64_t)sample * z.chunks + chunk) * (int)z.channels;
}

/* to[j] = from[group of channel + j] for V neighbours, with one division. */
template <int V> GPU_DEVICE void by_group(const float *from, int channel, int per, float to[V])
{
    int g = channel / per, left = per - (channel - g * per);
    for (int j = 0; j < V; j++) {
        if (left == 0) {
            left = per;
            g++;
        }
        left--;
        to[j] = from[g];
    }
}

/* Two sums per column of a block's tile, over its `high` rows of threads. A column's threads lie a
   padded row of shared memory apart from its neighbours', so that neither the writes nor the reads
   meet in a bank. */
template <int V> struct tile_sums {
    enum { ROW = THREADS + 32 / V };
};

template <int V>
GPU_DEVICE void put_sums(float *a, float *b, const float from_a[V], const float from_b[V])
{
    for (int j = 0; j < V; j++) {
        a[j * tile_sums<V>::ROW + (int)threadIdx.x] = from_a[j];
        b[j * tile_sums<V>::ROW + (int)threadIdx.x] = from_b[j];
    }
}

template <int V>
GPU_DEVICE void column_sums(const norm_tiles &t, const float *a, const float *b, int column,
                            float *sum_a, float *sum_b)
{
    const int at = column % V * tile_sums<V>::ROW + column / V;
    float x = a[at], y = b[at];
    for (int s = 1; s < t.high; s++) {
        x += a[at + s * t.wide];
        y += b[at + s * t.wide];
    }
    *sum_a = x;
    *sum_b = y;
}

/* ---- group_norm */

/* (mean, sum of squared distances from it) per chunk and channel, from sums of differences from
   the chunk's first row: a large mean costs no digits, and in a chunk of n rows the difference of
   the two sums loses at most log2 n bits. */
template <class T, int V> GPU_KERNEL void group_moments(norm_tiles t, const T *x, float *partial)
{
    GPU_SHARED(float, sums, V *tile_sums<V>::ROW);
    GPU_SHARED(float, squares, V *tile_sums<V>::ROW);
    const int C = (int)t.z.channels;
    for (int unit = (int)blockIdx.x; unit < n_units(t); unit += (int)gridDim.x) {
        const norm_place p = place_of<V>(t, unit);
        float s[V] = {}, q[V] = {}, from[V] = {};
        if (p.active) {
            take<T, V>(x + p.first, from);
            GPU_UNROLL_BY(4)
            for (int r = p.slot; r < p.rows; r += t.high) {
                float v[V];
                take<T, V>(x + p.first + (int64_t)r * C, v);
                for (int j = 0; j < V; j++) {
                    const float d = v[j] - from[j];
                    s[j] += d;
                    q[j] += d * d;
                }
            }
        }
        put_sums<V>(sums, squares, s, q);
        __syncthreads();
        const int first = p.channel - (int)threadIdx.x % t.wide * V; /* the tile's */
        const T *row = x + (p.first - p.channel) + first;
        gpu_vec<float, 2> *pairs = pairs_of(partial, t.z, p.sample, p.chunk) + first;
        for (int c = (int)threadIdx.x; c < t.wide * V && first + c < C; c += THREADS) {
            float sum, square;
            column_sums<V>(t, sums, squares, c, &sum, &square);
            const float mean = sum / (float)p.rows;
            pairs[c] =
                gpu_vec<float, 2>{{gpu_float(row[c]) + mean, fmaxf(square - sum * mean, 0.0f)}};
        }
        __syncthreads();
    }
}

/* A block per sample and group: its chunks' and channels' moments into one. */
GPU_KERNEL void group_statistics(cuda_norm_shape z, float *partial, float *mean, float *rstd)
{
    const int groups = (int)z.groups, per = (int)z.channels / groups, C = (int)z.channels;
    const int n = (int)z.chunks * per, last = (int)z.chunks - 1;
    const float rows = (float)z.chunk_rows, last_rows = (float)(z.rows - last * z.chunk_rows);
    const float count = (float)(z.rows * per);
    for (int u = (int)blockIdx.x; u < (int)z.samples * groups; u += (int)gridDim.x) {
        const gpu_vec<float, 2> *pairs = pairs_of(partial, z, u / groups, 0) + u % groups * per;
        const float near = pairs[0].v[0];
        float sum = 0.0f, squares = 0.0f;
        for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) {
            const int chunk = i / per;
            sum += (chunk == last ? last_rows : rows) *
                   (pairs[(int64_t)chunk * C + (i - chunk * per)].v[0] - near);
        }
        const float m = near + gpu_block_sum(sum) / count;
        for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) {
            const int chunk = i / per;
            const gpu_vec<float, 2> pair = pairs[(int64_t)chunk * C + (i - chunk * per)];
            squares +=
                pair.v[1] + (chunk == last ? last_rows : rows) * (pair.v[0] - m) * (pair.v[0] - m);
        }
        const float variance = gpu_block_sum(squares) / count;
        if (threadIdx.x == 0) {
            mean[u] = m;
            rstd[u] = 1.0f / sqrtf(variance + (float)z.eps);
        }
    }
}

template <class T, int V, bool SILU>
GPU_KERNEL void group_apply(norm_tiles t, const T *x, const T *gamma, const T *beta,
                            const float *mean, const float *rstd, T *y)
{
    const int C = (int)t.z.channels, groups = (int)t.z.groups, per = C / groups;
    for (int unit = (int)blockIdx.x; unit < n_units(t); unit += (int)gridDim.x) {
        const norm_place p = place_of<V>(t, unit);
        if (!p.active)
            continue;
        float mu[V], rs[V], a[V], b[V];
        take<T, V>(gamma + p.channel, a);
        take<T, V>(beta + p.channel, b);
        by_group<V>(mean + p.sample * groups, p.channel, per, mu);
        by_group<V>(rstd + p.sample * groups, p.channel, per, rs);
        for (int j = 0; j < V; j++)
            a[j] *= rs[j];
        GPU_UNROLL_BY(4)
        for (int r = p.slot; r < p.rows; r += t.high) {
            float v[V];
            const int64_t at = p.first + (int64_t)r * C;
            take<T, V>(x + at, v);
            for (int j = 0; j < V; j++) {
                v[j] = (v[j] - mu[j]) * a[j] + b[j];
                if (SILU)
                    v[j] *= sigmoid(v[j]);
            }
            give<T, V>(y + at, v);
        }
    }
}

/* All of the above in one launch where a block can hold a group: K pieces of V per thread. */
template <class T, int V, bool SILU>
GPU_KERNEL GPU_BOUNDS(HELD_THREADS, 1) void group_held(cuda_norm_shape z, const T *x,
                                                       const T *gamma, const T *beta, float *mean,
                                                       float *rstd, T *y)
{
    enum { K = HELD / (int)sizeof(T) / V };
    const int groups = (int)z.groups, C = (int)z.channels, per = C / groups, wide = per / V;
    const int n = (int)z.rows * wide;
    const float count = (float)(z.rows * per);
    for (int u = (int)blockIdx.x; u < (int)z.samples * groups; u += (int)gridDim.x) {
        const int first = u % groups * per;
        const int64_t origin = (int64_t)(u / groups) * z.rows * C + first;
        gpu_vec<T, V> held[K];
        float sum = 0.0f, squares = 0.0f;
        GPU_UNROLL
        for (int k = 0; k < K; k++) {
            const int i = (int)threadIdx.x + k * (int)blockDim.x, row = i / wide;
            if (i < n)
                held[k] = *(const gpu_vec<T, V> *)(x + origin + row * C + (i - row * wide) * V);
        }
        GPU_UNROLL
        for (int k = 0; k < K; k++)
            for (int j = 0; j < V && (int)threadIdx.x + k * (int)blockDim.x < n; j++)
                sum += gpu_float(held[k].v[j]);
        const float m = gpu_block_sum(sum) / count;
        GPU_UNROLL
        for (int k = 0; k < K; k++)
            for (int j = 0; j < V && (int)threadIdx.x + k * (int)blockDim.x < n; j++) {
                const float d = gpu_float(held[k].v[j]) - m;
                squares += d * d;
            }
        const float s = 1.0f / sqrtf(gpu_block_sum(squares) / count + (float)z.eps);
        GPU_UNROLL
        for (int k = 0; k < K; k++) {
            const int i = (int)threadIdx.x + k * (int)blockDim.x, row = i / wide;
            const int at = (i - row * wide) * V;
            float a[V], b[V];
            if (i >= n)
                break;
            take<T, V>(gamma + first + at, a);
            take<T, V>(beta + first + at, b);
            for (int j = 0; j < V; j++) {
                a[j] = (gpu_float(held[k].v[j]) - m) * (s * a[j]) + b[j];
                if (SILU)
                    a[j] *= sigmoid(a[j]);
            }
            give<T, V>(y + origin + row * C + at, a);
        }
        if (threadIdx.x == 0) {
            mean[u] = m;
            rstd[u] = s;
        }
    }
}

/* ---- gradients */

/* (sum d, sum d xhat) per chunk and channel. BY_ROW: each row has its own mean and rstd, and there
   is no activation (layer_norm); else each group has. */
template <class T, int V, bool SILU, bool BY_ROW>
GPU_KERNEL void grad_sums(norm_tiles t, const T *dy, const T *x, const T *gamma, const T *beta,
                          const float *mean, const float *rstd, float *partial)
{
    GPU_SHARED(float, ds, V *tile_sums<V>::ROW);
    GPU_SHARED(float, dxs, V *tile_sums<V>::ROW);
    const int C = (int)t.z.channels, groups = (int)t.z.groups, per = C / groups;
    for (int unit = (int)blockIdx.x; unit < n_units(t); unit += (int)gridDim.x) {
        const norm_place p = place_of<V>(t, unit);
        float sum[V] = {}, sum_x[V] = {}, mu[V], rs[V], a[V] = {}, b[V] = {};
        if (p.active && SILU) {
            take<T, V>(gamma + p.channel, a);
            take<T, V>(beta + p.channel, b);
        }
        if (p.active && !BY_ROW) {
            by_group<V>(mean + p.sample * groups, p.channel, per, mu);
            by_group<V>(rstd + p.sample * groups, p.channel, per, rs);
        }
        GPU_UNROLL_BY(4)
        for (int r = p.active ? p.slot : p.rows; r < p.rows; r += t.high) {
            float v[V], d[V], row_mean = 0.0f, row_rstd = 0.0f;
            const int64_t at = p.first + (int64_t)r * C;
            take<T, V>(x + at, v);
            take<T, V>(dy + at, d);
            if (BY_ROW) {
                row_mean = mean[p.first_row + r];
                row_rstd = rstd[p.first_row + r];
            }
            for (int j = 0; j < V; j++) {
                float xhat = BY_ROW ? (v[j] - row_mean) * row_rstd : (v[j] - mu[j]) * rs[j];
                if (SILU)
                    d[j] *= silu_slope(a[j] * xhat + b[j]);
                sum[j] += d[j];
                sum_x[j] += d[j] * xhat;
            }
        }
        put_sums<V>(ds, dxs, sum, sum_x);
        __syncthreads();
        const int first = p.channel - (int)threadIdx.x % t.wide * V;
        gpu_vec<float, 2> *pairs = pairs_of(partial, t.z, p.sample, p.chunk) + first;
        for (int c = (int)threadIdx.x; c < t.wide * V && first + c < C; c += THREADS) {
            gpu_vec<float, 2> pair;
            column_sums<V>(t, ds, dxs, c, &pair.v[0], &pair.v[1]);
            pairs[c] = pair;
        }
        __syncthreads();
    }
}

/* dbeta, dgamma: the pairs summed over samples and chunks; a warp's lanes are neighbouring
   channels, SUM_SLOTS warps share the rows. */
template <class T>
GPU_KERNEL void parameter_sums(cuda_norm_shape z, const float *partial, T *dgamma, T *dbeta)
{
    GPU_SHARED(float, ds, SUM_SLOTS *GPU_WARP);
    GPU_SHARED(float, dxs, SUM_SLOTS *GPU_WARP);
    const int lane = (int)threadIdx.x % GPU_WARP, slot = (int)threadIdx.x / GPU_WARP;
    const int rows = (int)(z.samples * z.chunks), channels = (int)z.channels;
    for (int first = (int)blockIdx.x * GPU_WARP; first < channels;
         first += (int)gridDim.x * GPU_WARP) {
        const int c = first + lane;
        float sum = 0.0f, sum_x = 0.0f;
        GPU_UNROLL_BY(4)
        for (int r = c < channels ? slot : rows; r < rows; r += SUM_SLOTS) {
            gpu_vec<float, 2> pair =
                ((const gpu_vec<float, 2> *)partial)[(int64_t)r * channels + c];
            sum += pair.v[0];
            sum_x += pair.v[1];
        }
        ds[threadIdx.x] = sum;
        dxs[threadIdx.x] = sum_x;
        __syncthreads();
        if (slot == 0 && c < channels) {
            sum = sum_x = 0.0f;
            for (int s = 0; s < SUM_SLOTS; s++) {
                sum += ds[s * GPU_WARP + lane];
                sum_x += dxs[s * GPU_WARP + lane];
            }
            dbeta[c] = gpu_from<T>(sum);
            dgamma[c] = gpu_from<T>(sum_x);
        }
        __syncthreads();
    }
}

/* A block per sample and group: mean(d gamma), and behind all of them mean(d gamma xhat). */
template <class T>
GPU_KERNEL void group_grad_means(cuda_norm_shape z, float *partial, const T *gamma, float *means)
{
    const int groups = (int)z.groups, C = (int)z.channels, per = C / groups;
    const int n = (int)z.chunks * per;
    for (int u = (int)blockIdx.x; u < (int)z.samples * groups; u += (int)gridDim.x) {
        const int first = u % groups * per;
        const gpu_vec<float, 2> *pairs = pairs_of(partial, z, u / groups, 0) + first;
        float sum = 0.0f, sum_x = 0.0f;
        for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) {
            const int chunk = i / per, c = i - chunk * per;
            const gpu_vec<float, 2> pair = pairs[(int64_t)chunk * C + c];
            const float a = gpu_float(gamma[first + c]);
            sum += a * pair.v[0];
            sum_x += a * pair.v[1];
        }
        const float count = (float)(z.rows * per);
        sum = gpu_block_sum(sum) / count;
        sum_x = gpu_block_sum(sum_x) / count;
        if (threadIdx.x == 0) {
            means[u] = sum;
            means[(int)z.samples * groups + u] = sum_x;
        }
    }
}

template <class T, int V, bool SILU>
GPU_KERNEL void group_grad_apply(norm_tiles t, const T *dy, const T *x, const T *gamma,
                                 const T *beta, const float *mean, const float *rstd,
                                 const float *means, T *dx)
{
    const int C = (int)t.z.channels, groups = (int)t.z.groups, per = C / groups;
    for (int unit = (int)blockIdx.x; unit < n_units(t); unit += (int)gridDim.x) {
        const norm_place p = place_of<V>(t, unit);
        if (!p.active)
            continue;
        float mu[V], rs[V], a[V], b[V], m[V], m_x[V];
        take<T, V>(gamma + p.channel, a);
        take<T, V>(beta + p.channel, b);
        by_group<V>(mean + p.sample * groups, p.channel, per, mu);
        by_group<V>(rstd + p.sample * groups, p.channel, per, rs);
        by_group<V>(means + p.sample * groups, p.channel, per, m);
        by_group<V>(means + ((int)t.z.samples + p.sample) * groups, p.channel, per, m_x);
        GPU_UNROLL_BY(2)
        for (int r = p.slot; r < p.rows; r += t.high) {
            float v[V], d[V];
            const int64_t at = p.first + (int64_t)r * C;
            take<T, V>(x + at, v);
            take<T, V>(dy + at, d);
            for (int j = 0; j < V; j++) {
                float xhat = (v[j] - mu[j]) * rs[j];
                if (SILU)
                    d[j] *= silu_slope(a[j] * xhat + b[j]);
                v[j] = rs[j] * (d[j] * a[j] - m[j] - xhat * m_x[j]);
            }
            give<T, V>(dx + at, v);
        }
    }
}

/* ---- layer_norm: a warp per row. The row stays in registers, K pieces of V per lane; in `long`
   rows, which do not fit or cannot be read in pieces, it is read again from the cache. */

GPU_DEVICE int64_t warp_index()
{
    return ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / GPU_WARP;
}

GPU_DEVICE int64_t warp_count()
{
    return (int64_t)gridDim.x * blockDim.x / GPU_WARP;
}

/* The lane's piece k begins here. */
template <int V> GPU_DEVICE int piece_at(int k)
{
    return (k * GPU_WARP + (int)threadIdx.x % GPU_WARP) * V;
}

template <class T, int V, int K>
GPU_KERNEL void layer_rows(int64_t rows, int D, float eps, const T *x, const T *gamma,
                           const T *beta, T *y, float *mean, float *rstd)
{
    for (int64_t r = warp_index(); r < rows; r += warp_count()) {
        float v[K][V] = {}, sum = 0.0f, squares = 0.0f;
        for (int k = 0; k < K; k++) {
            if (piece_at<V>(k) < D)
                take<T, V>(x + r * D + piece_at<V>(k), v[k]);
            for (int j = 0; j < V; j++)
                sum += v[k][j];
        }
        const float m = gpu_warp_sum(sum) / (float)D;
        for (int k = 0; k < K; k++)
            for (int j = 0; j < V && piece_at<V>(k) < D; j++)
                squares += (v[k][j] - m) * (v[k][j] - m);
        const float s = 1.0f / sqrtf(gpu_warp_sum(squares) / (float)D + eps);
        for (int k = 0; k < K; k++) {
            if (piece_at<V>(k) >= D)
                break;
            float a[V], b[V];
            take<T, V>(gamma + piece_at<V>(k), a);
            take<T, V>(beta + piece_at<V>(k), b);
            for (int j = 0; j < V; j++)
                v[k][j] = (v[k][j] - m) * s * a[j] + b[j];
            give<T, V>(y + r * D + piece_at<V>(k), v[k]);
        }
        if (threadIdx.x % GPU_WARP == 0) {
            mean[r] = m;
            rstd[r] = s;
        }
    }
}

template <class T>
GPU_KERNEL void layer_rows_long(int64_t rows, int D, float eps, const T *x, const T *gamma,
                                const T *beta, T *y, float *mean, float *rstd)
{
    const int lane = (int)threadIdx.x % GPU_WARP;
    for (int64_t r = warp_index(); r < rows; r += warp_count()) {
        const T *row = x + r * D;
        float sum = 0.0f, squares = 0.0f;
        for (int c = lane; c < D; c += GPU_WARP)
            sum += gpu_float(row[c]);
        const float m = gpu_warp_sum(sum) / (float)D;
        for (int c = lane; c < D; c += GPU_WARP)
            squares += (gpu_float(row[c]) - m) * (gpu_float(row[c]) - m);
        const float s = 1.0f / sqrtf(gpu_warp_sum(squares) / (float)D + eps);
        for (int c = lane; c < D; c += GPU_WARP)
            y[r * D + c] =
                gpu_from<T>((gpu_float(row[c]) - m) * s * gpu_float(gamma[c]) + gpu_float(beta[c]));
        if (lane == 0) {
            mean[r] = m;
            rstd[r] = s;
        }
    }
}

template <class T, int V, int K>
GPU_KERNEL void layer_grad_rows(int64_t rows, int D, const T *dy, const T *x, const T *gamma,
                                const float *mean, const float *rstd, T *dx)
{
    for (int64_t r = warp_index(); r < rows; r += warp_count()) {
        float v[K][V] = {}, d[K][V] = {}, sum = 0.0f, sum_x = 0.0f;
        const float m = mean[r], s = rstd[r];
        for (int k = 0; k < K; k++) {
            if (piece_at<V>(k) >= D)
                break;
            float a[V];
            take<T, V>(x + r * D + piece_at<V>(k), v[k]);
            take<T, V>(dy + r * D + piece_at<V>(k), d[k]);
            take<T, V>(gamma + piece_at<V>(k), a);
            for (int j = 0; j < V; j++) {
                v[k][j] = (v[k][j] - m) * s;
                d[k][j] *= a[j];
                sum += d[k][j];
                sum_x += d[k][j] * v[k][j];
            }
        }
        sum = gpu_warp_sum(sum) / (float)D;
        sum_x = gpu_warp_sum(sum_x) / (float)D;
        for (int k = 0; k < K; k++) {
            if (piece_at<V>(k) >= D)
                break;
            for (int j = 0; j < V; j++)
                v[k][j] = s * (d[k][j] - sum - v[k][j] * sum_x);
            give<T, V>(dx + r * D + piece_at<V>(k), v[k]);
        }
    }
}

template <class T>
GPU_KERNEL void layer_grad_rows_long(int64_t rows, int D, const T *dy, const T *x, const T *gamma,
                                     const float *mean, const float *rstd, T *dx)
{
    const int lane = (int)threadIdx.x % GPU_WARP;
    for (int64_t r = warp_index(); r < rows; r += warp_count()) {
        float sum = 0.0f, sum_x = 0.0f;
        const float m = mean[r], s = rstd[r];
        for (int c = lane; c < D; c += GPU_WARP) {
            float d = gpu_float(dy[r * D + c]) * gpu_float(gamma[c]);
            sum += d;
            sum_x += d * (gpu_float(x[r * D + c]) - m) * s;
        }
        sum = gpu_warp_sum(sum) / (float)D;
        sum_x = gpu_warp_sum(sum_x) / (float)D;
        for (int c = lane; c < D; c += GPU_WARP) {
            float d = gpu_float(dy[r * D + c]) * gpu_float(gamma[c]);
            float xhat = (gpu_float(x[r * D + c]) - m) * s;
            dx[r * D + c] = gpu_from<T>(s * (d - sum - xhat * sum_x));
        }
    }
}

/* ---- launchers */

#define LAUNCH(...)                                                                                \
    do {                                                                                           \
        int code_ = GPU_LAUNCH(__VA_ARGS__);                                                       \
        if (code_)                                                                                 \
            return code_;                                                                          \
    } while (0)

/* The width, at most 64 pieces, that leaves the fewest threads idle in a row of `pieces`. */
static norm_tiles tiles_of(const cuda_norm_shape *z, int V)
{
    const int64_t pieces = z->channels / V;
    norm_tiles best = {*z, 1, THREADS, (int)pieces};
    double most = 0;
    for (int wide = 1; wide <= 64; wide++) {
        int64_t tiles = (pieces + wide - 1) / wide;
        int high = THREADS / wide;
        double busy = (double)pieces / (double)(tiles * wide) * (high * wide) / THREADS;
        if (wide < 8) /* short pieces of memory */
            busy *= wide / 8.0;
        if (busy >= most) {
            most = busy;
            best.wide = wide;
            best.high = high;
            best.tiles = (int)tiles;
        }
    }
    return best;
}

static unsigned grid_of(const norm_tiles *t, int n_sm)
{
    return gpu_grid(t->z.samples * t->tiles * t->z.chunks, 1, (int64_t)n_sm * BLOCKS_PER_SM);
}

template <class T, int V>
static int group_norm(const cuda_norm_shape *z, const cuda_norm_args *a, int n_sm,
                      gpu_stream stream)
{
    const norm_tiles t = tiles_of(z, V);
    const T *x = (const T *)a->x, *gamma = (const T *)a->gamma, *beta = (const T *)a->beta;
    float *partial = a->scratch, *mean = a->mean, *rstd = a->rstd;
    T *y = (T *)a->y;
    const cuda_norm_shape shape = *z;
    unsigned groups = gpu_grid(z->samples * z->groups, 1, (int64_t)n_sm * BLOCKS_PER_SM);
    LAUNCH((group_moments<T, V>), grid_of(&t, n_sm), THREADS, stream, t, x, partial);
    LAUNCH((group_statistics), groups, THREADS, stream, shape, partial, mean, rstd);
    if (z->silu)
        return GPU_LAUNCH((group_apply<T, V, true>), grid_of(&t, n_sm), THREADS, stream, t, x,
                          gamma, beta, mean, rstd, y);
    return GPU_LAUNCH((group_apply<T, V, false>), grid_of(&t, n_sm), THREADS, stream, t, x, gamma,
                      beta, mean, rstd, y);
}

template <class T>
static int sum_parameters(const cuda_norm_shape *z, const cuda_norm_args *a, int n_sm,
                          gpu_stream stream)
{
    const float *partial = a->scratch;
    T *dgamma = (T *)a->dgamma, *dbeta = (T *)a->dbeta;
    const cuda_norm_shape shape = *z;
    unsigned grid = gpu_grid(z->channels, GPU_WARP, (int64_t)n_sm * BLOCKS_PER_SM);
    return GPU_LAUNCH((parameter_sums<T>), grid, SUM_SLOTS * GPU_WARP, stream, shape, partial,
                      dgamma, dbeta);
}

template <class T, int V, bool SILU>
static int group_norm_grad(const cuda_norm_shape *z, const cuda_norm_args *a, int n_sm,
                           gpu_stream stream)
{
    const norm_tiles t = tiles_of(z, V);
    const T *dy = (const T *)a->dy, *x = (const T *)a->x;
    const T *gamma = (const T *)a->gamma, *beta = (const T *)a->beta;
    float *partial = a->scratch, *means = partial + 2 * z->samples * z->chunks * z->channels;
    const float *mean = a->mean, *rstd = a->rstd;
    T *dx = (T *)a->y;
    const cuda_norm_shape shape = *z;
    unsigned groups = gpu_grid(z->samples * z->groups, 1, (int64_t)n_sm * BLOCKS_PER_SM);
    LAUNCH((grad_sums<T, V, SILU, false>), grid_of(&t, n_sm), THREADS, stream, t, dy, x, gamma,
           beta, mean, rstd, partial);
    LAUNCH((group_grad_means<T>), groups, THREADS, stream, shape, partial, gamma, means);
    LAUNCH((group_grad_apply<T, V, SILU>), grid_of(&t, n_sm), THREADS, stream, t, dy, x, gamma,
           beta, mean, rstd, means, dx);
    return sum_parameters<T>(z, a, n_sm, stream);
}

/* Whether rows can be read in pieces of 16 bytes. */
template <class T> static bool in_pieces(const cuda_norm_shape *z, const cuda_norm_args *a)
{
    return z->channels % gpu_lanes<T>::n == 0 && gpu_aligned(a->x, a->gamma, a->beta, a->y) &&
           gpu_aligned(a->dy);
}

/* Elements of a group at once, so that its pieces neither cross a group nor leave their alignment;
   0 where a block cannot hold the group. */
template <class T> static int held_piece(const cuda_norm_shape *z, const cuda_norm_args *a)
{
    const int64_t per = z->channels / z->groups;
    int V = gpu_lanes<T>::n;
    if (!gpu_aligned(a->x, a->gamma, a->beta, a->y) ||
        z->rows * per > HELD_THREADS * HELD / (int)sizeof(T))
        return 0;
    while (V > 1 && per % V != 0)
        V /= 2;
    return V > 1 ? V : 0;
}

template <class T, int V>
static int group_norm_held(const cuda_norm_shape *z, const cuda_norm_args *a, int n_sm,
                           gpu_stream stream)
{
    const T *x = (const T *)a->x, *gamma = (const T *)a->gamma, *beta = (const T *)a->beta;
    const int64_t pieces = z->rows * (z->channels / z->groups) / V;
    const int64_t warps = (pieces + GPU_WARP - 1) / GPU_WARP;
    const unsigned threads =
        warps * GPU_WARP < HELD_THREADS ? (unsigned)warps * GPU_WARP : (unsigned)HELD_THREADS;
    const unsigned grid = gpu_grid(z->samples * z->groups, 1, (int64_t)n_sm * BLOCKS_PER_SM);
    const cuda_norm_shape shape = *z;
    if (z->silu)
        return GPU_LAUNCH((group_held<T, V, true>), grid, threads, stream, shape, x, gamma, beta,
                          a->mean, a->rstd, (T *)a->y);
    return GPU_LAUNCH((group_held<T, V, false>), grid, threads, stream, shape, x, gamma, beta,
                      a->mean, a->rstd, (T *)a->y);
}

template <class T>
static int group_norm_any(const cuda_norm_shape *z, const cuda_norm_args *a, int n_sm,
                          gpu_stream stream)
{
    const int piece = held_piece<T>(z, a);
    if (piece == 8)
        return group_norm_held<T, gpu_lanes<T>::n>(z, a, n_sm, stream);
    if (piece == 4)
        return group_norm_held<T, 4>(z, a, n_sm, stream);
    if (piece == 2)
        return group_norm_held<T, 2>(z, a, n_sm, stream);
    return in_pieces<T>(z, a) ? group_norm<T, gpu_lanes<T>::n>(z, a, n_sm, stream)
                              : group_norm<T, 1>(z, a, n_sm, stream);
}

template <class T>
static int group_norm_grad_any(const cuda_norm_shape *z, const cuda_norm_args *a, int n_sm,
                               gpu_stream stream)
{
    const int V = gpu_lanes<T>::n;
    if (z->silu)
        return in_pieces<T>(z, a) ? group_norm_grad<T, V, true>(z, a, n_sm, stream)
                                  : group_norm_grad<T, 1, true>(z, a, n_sm, stream);
    return in_pieces<T>(z, a) ? group_norm_grad<T, V, false>(z, a, n_sm, stream)
                              : group_norm_grad<T, 1, false>(z, a, n_sm, stream);
}

extern "C" int cuda__group_norm_launch(const cuda_norm_shape *z, const cuda_norm_args *a, int n_sm,
                                       gpu_stream stream)
{
    return z->dtype == MD_BF16 ? group_norm_any<bf16>(z, a, n_sm, stream)
                               : group_norm_any<float>(z, a, n_sm, stream);
}

extern "C" int cuda__group_norm_grad_launch(const cuda_norm_shape *z, const cuda_norm_args *a,
                                            int n_sm, gpu_stream stream)
{
    return z->dtype == MD_BF16 ? group_norm_grad_any<bf16>(z, a, n_sm, stream)
                               : group_norm_grad_any<float>(z, a, n_sm, stream);
}

/* K pieces per lane hold a row of up to K V 32. */
template <class T, int K>
static int layer_norm_held(const cuda_norm_shape *z, const cuda_norm_args *a, unsigned grid,
                           gpu_stream stream)
{
    const int V = gpu_lanes<T>::n, D = (int)z->channels;
    const T *x = (const T *)a->x, *gamma = (const T *)a->gamma, *beta = (const T *)a->beta;
    return GPU_LAUNCH((layer_rows<T, V, K>), grid, THREADS, stream, z->rows, D, (float)z->eps, x,
                      gamma, beta, (T *)a->y, a->mean, a->rstd);
}

template <class T, int K>
static int layer_grad_held(const cuda_norm_shape *z, const cuda_norm_args *a, unsigned grid,
                           gpu_stream stream)
{
    const int V = gpu_lanes<T>::n, D = (int)z->channels;
    const T *dy = (const T *)a->dy, *x = (const T *)a->x, *gamma = (const T *)a->gamma;
    return GPU_LAUNCH((layer_grad_rows<T, V, K>), grid, THREADS, stream, z->rows, D, dy, x, gamma,
                      a->mean, a->rstd, (T *)a->y);
}

static unsigned rows_grid(const cuda_norm_shape *z, int n_sm)
{
    return gpu_grid(z->rows, THREADS / GPU_WARP, (int64_t)n_sm * BLOCKS_PER_SM);
}

template <class T>
static int layer_norm(const cuda_norm_shape *z, const cuda_norm_args *a, int n_sm,
                      gpu_stream stream)
{
    const unsigned grid = rows_grid(z, n_sm);
    const int quarter = 8 / gpu_lanes<T>::n; /* pieces that hold 256 channels per warp */
    if (in_pieces<T>(z, a)) {
        if (z->channels <= 256)
            return layer_norm_held<T, quarter>(z, a, grid, stream);
        if (z->channels <= 512)
            return layer_norm_held<T, 2 * quarter>(z, a, grid, stream);
        if (z->channels <= 768)
            return layer_norm_held<T, 3 * quarter>(z, a, grid, stream);
        if (z->channels <= 1280)
            return layer_norm_held<T, 5 * quarter>(z, a, grid, stream);
    }
    return GPU_LAUNCH((layer_rows_long<T>), grid, THREADS, stream, z->rows, (int)z->channels,
                      (float)z->eps, (const T *)a->x, (const T *)a->gamma, (const T *)a->beta,
                      (T *)a->y, a->mean, a->rstd);
}

template <class T>
static int layer_norm_dx(const cuda_norm_shape *z, const cuda_norm_args *a, unsigned grid,
                         gpu_stream stream)
{
    const int quarter = 8 / gpu_lanes<T>::n;
    if (in_pieces<T>(z, a)) {
        if (z->channels <= 256)
            return layer_grad_held<T, quarter>(z, a, grid, stream);
        if (z->channels <= 512)
            return layer_grad_held<T, 2 * quarter>(z, a, grid, stream);
        if (z->channels <= 768)
            return layer_grad_held<T, 3 * quarter>(z, a, grid, stream);
        if (z->channels <= 1280)
            return layer_grad_held<T, 5 * quarter>(z, a, grid, stream);
    }
    return GPU_LAUNCH((layer_grad_rows_long<T>), grid, THREADS, stream, z->rows, (int)z->channels,
                      (const T *)a->dy, (const T *)a->x, (const T *)a->gamma, a->mean, a->rstd,
                      (T *)a->y);
}

template <class T, int V>
static int layer_norm_sums(const cuda_norm_shape *z, const cuda_norm_args *a, int n_sm,
                           gpu_stream stream)
{
    const norm_tiles t = tiles_of(z, V);
    LAUNCH((grad_sums<T, V, false, true>), grid_of(&t, n_sm), THREADS, stream, t, (const T *)a->dy,
           (const T *)a->x, (const T *)nullptr, (const T *)nullptr, a->mean, a->rstd, a->scratch);
    return sum_parameters<T>(z, a, n_sm, stream);
}

template <class T>
static int layer_norm_grad(const cuda_norm_shape *z, const cuda_norm_args *a, int n_sm,
                           gpu_stream stream)
{
    int code = layer_norm_dx<T>(z, a, rows_grid(z, n_sm), stream);
    if (code)
        return code;
    return in_pieces<T>(z, a) ? layer_norm_sums<T, gpu_lanes<T>::n>(z, a, n_sm, stream)
                              : layer_norm_sums<T, 1>(z, a, n_sm, stream);
}

extern "C" int cuda__layer_norm_launch(const cuda_norm_shape *z, const cuda_norm_args *a, int n_sm,
                                       gpu_stream stream)
{
    return z->dtype == MD_BF16 ? layer_norm<bf16>(z, a, n_sm, stream)
                               : layer_norm<float>(z, a, n_sm, stream);
}

extern "C" int cuda__layer_norm_grad_launch(const cuda_norm_shape *z, const cuda_norm_args *a,
                                            int n_sm, gpu_stream stream)
{
    return z->dtype == MD_BF16 ? layer_norm_grad<bf16>(z, a, n_sm, stream)
                               : layer_norm_grad<float>(z, a, n_sm, stream);
}
