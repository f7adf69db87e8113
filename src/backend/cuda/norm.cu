/* group_norm group_norm_grad layer_norm layer_norm_grad.
     xhat = (x - mean) rstd, z = gamma xhat + beta, y = act(z), d = dy act'(z)
     dgamma = sum d xhat, dbeta = sum d
     dx = rstd (d gamma - mean(d gamma) - xhat mean(d gamma xhat)), means over the group.
   A norm over groups goes in three passes: partial results per chunk of rows and channel, which
   neighbouring threads read along the channels; their sum over chunks and the group's channels;
   the result. The sums have one order: no atomics. */
#include "backend/cuda/gpu.cuh"
#include "backend/cuda/norm.h"

enum { THREADS = 256, SUM_SLOTS = 16, BLOCKS_PER_SM = 8 };

/* How a block's threads lie over a chunk: `wide` along the channels, V channels each, by `high`
   rows; `tiles` of that width in a row. */
struct norm_tiles {
    cuda_norm_shape z;
    int wide, high, tiles;
};

struct norm_place {
    int64_t sample, chunk, first_row, end_row;
    int channel; /* this thread's first */
    int slot;    /* its row within `high` */
    bool active;
};

template <int V> GPU_DEVICE norm_place place_of(const norm_tiles &t, int64_t unit)
{
    const cuda_norm_shape &z = t.z;
    norm_place p;
    p.chunk = unit % z.chunks;
    p.sample = unit / z.chunks / t.tiles;
    p.first_row = p.chunk * z.chunk_rows;
    p.end_row = p.first_row + z.chunk_rows < z.rows ? p.first_row + z.chunk_rows : z.rows;
    p.channel = ((int)(unit / z.chunks % t.tiles) * t.wide + (int)threadIdx.x % t.wide) * V;
    p.slot = (int)threadIdx.x / t.wide;
    p.active = p.slot < t.high && p.channel < z.channels;
    return p;
}

GPU_DEVICE int64_t n_units(const norm_tiles &t)
{
    return t.z.samples * t.tiles * t.z.chunks;
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

GPU_DEVICE float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

GPU_DEVICE float silu_slope(float x)
{
    float s = sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
}

/* Where the pair of a sample's chunk and channel lies. */
GPU_DEVICE float *pair_at(float *partial, const cuda_norm_shape &z, int64_t sample, int64_t chunk,
                          int64_t channel)
{
    return partial + 2 * ((sample * z.chunks + chunk) * z.channels + channel);
}

GPU_DEVICE int64_t rows_of(const cuda_norm_shape &z, int64_t chunk)
{
    int64_t left = z.rows - chunk * z.chunk_rows;
    return left < z.chunk_rows ? left : z.chunk_rows;
}

/* ---- group_norm */

/* (mean, sum of squared distances from it) per chunk and channel: Welford's recurrence per thread,
   merged as Chan, Golub, LeVeque 1979 do, so that a large mean costs no digits. */
template <class T, int V> GPU_KERNEL void group_moments(norm_tiles t, const T *x, float *partial)
{
    GPU_SHARED(float, means, THREADS *V);
    GPU_SHARED(float, squares, THREADS *V);
    const int64_t C = t.z.channels;
    for (int64_t unit = blockIdx.x; unit < n_units(t); unit += gridDim.x) {
        const norm_place p = place_of<V>(t, unit);
        float mean[V] = {}, m2[V] = {}, seen = 0.0f;
        for (int64_t r = p.first_row + p.slot; p.active && r < p.end_row; r += t.high) {
            float v[V], share = 1.0f / ++seen;
            take<T, V>(x + (p.sample * t.z.rows + r) * C + p.channel, v);
            for (int j = 0; j < V; j++) {
                float d = v[j] - mean[j];
                mean[j] += d * share;
                m2[j] += d * (v[j] - mean[j]);
            }
        }
        for (int j = 0; j < V; j++) {
            means[threadIdx.x * V + j] = mean[j];
            squares[threadIdx.x * V + j] = m2[j];
        }
        __syncthreads();
        const int64_t rows = p.end_row - p.first_row;
        const int first = p.channel - (int)threadIdx.x % t.wide * V; /* the tile's */
        for (int c = (int)threadIdx.x; c < t.wide * V && first + c < C; c += THREADS) {
            const float near = means[c]; /* sums of differences lose fewer digits */
            float m = 0.0f, q = 0.0f;
            for (int s = 1; s < t.high && s < rows; s++)
                m += (float)((rows - s + t.high - 1) / t.high) * (means[s * t.wide * V + c] - near);
            m = near + m / (float)rows;
            for (int s = 0; s < t.high && s < rows; s++) {
                float off = means[s * t.wide * V + c] - m;
                q += squares[s * t.wide * V + c] +
                     (float)((rows - s + t.high - 1) / t.high) * off * off;
            }
            float *pair = pair_at(partial, t.z, p.sample, p.chunk, first + c);
            pair[0] = m;
            pair[1] = q;
        }
        __syncthreads();
    }
}

/* A block per sample and group: its chunks' and channels' moments into one. */
GPU_KERNEL void group_statistics(cuda_norm_shape z, float *partial, float *mean, float *rstd)
{
    const int per = (int)(z.channels / z.groups);
    for (int64_t u = blockIdx.x; u < z.samples * z.groups; u += gridDim.x) {
        const int64_t sample = u / z.groups, first = u % z.groups * per;
        const float count = (float)(z.rows * per);
        const float near = pair_at(partial, z, sample, 0, first)[0];
        float sum = 0.0f, squares = 0.0f;
        for (int64_t i = threadIdx.x; i < z.chunks * per; i += blockDim.x)
            sum += (float)rows_of(z, i / per) *
                   (pair_at(partial, z, sample, i / per, first + i % per)[0] - near);
        const float m = near + gpu_block_sum(sum) / count;
        for (int64_t i = threadIdx.x; i < z.chunks * per; i += blockDim.x) {
            const float *pair = pair_at(partial, z, sample, i / per, first + i % per);
            squares += pair[1] + (float)rows_of(z, i / per) * (pair[0] - m) * (pair[0] - m);
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
    const int64_t C = t.z.channels;
    const int per = (int)(C / t.z.groups);
    for (int64_t unit = blockIdx.x; unit < n_units(t); unit += gridDim.x) {
        const norm_place p = place_of<V>(t, unit);
        if (!p.active)
            continue;
        float mu[V], a[V], b[V];
        take<T, V>(gamma + p.channel, a);
        take<T, V>(beta + p.channel, b);
        for (int j = 0; j < V; j++) {
            int64_t g = p.sample * t.z.groups + (p.channel + j) / per;
            mu[j] = mean[g];
            a[j] *= rstd[g];
        }
        for (int64_t r = p.first_row + p.slot; r < p.end_row; r += t.high) {
            float v[V];
            const int64_t at = (p.sample * t.z.rows + r) * C + p.channel;
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

/* ---- gradients */

/* (sum d, sum d xhat) per chunk and channel. BY_ROW: each row has its own mean and rstd, and there
   is no activation (layer_norm); else each group has. */
template <class T, int V, bool SILU, bool BY_ROW>
GPU_KERNEL void grad_sums(norm_tiles t, const T *dy, const T *x, const T *gamma, const T *beta,
                          const float *mean, const float *rstd, float *partial)
{
    GPU_SHARED(float, ds, THREADS *V);
    GPU_SHARED(float, dxs, THREADS *V);
    const int64_t C = t.z.channels;
    const int per = (int)(C / t.z.groups);
    for (int64_t unit = blockIdx.x; unit < n_units(t); unit += gridDim.x) {
        const norm_place p = place_of<V>(t, unit);
        float sum[V] = {}, sum_x[V] = {}, mu[V], rs[V], a[V] = {}, b[V] = {};
        if (p.active && SILU) {
            take<T, V>(gamma + p.channel, a);
            take<T, V>(beta + p.channel, b);
        }
        for (int j = 0; j < V && p.active && !BY_ROW; j++) {
            int64_t g = p.sample * t.z.groups + (p.channel + j) / per;
            mu[j] = mean[g];
            rs[j] = rstd[g];
        }
        for (int64_t r = p.first_row + p.slot; p.active && r < p.end_row; r += t.high) {
            float v[V], d[V];
            const int64_t at = (p.sample * t.z.rows + r) * C + p.channel;
            take<T, V>(x + at, v);
            take<T, V>(dy + at, d);
            for (int j = 0; j < V; j++) {
                float xhat = BY_ROW ? (v[j] - mean[r]) * rstd[r] : (v[j] - mu[j]) * rs[j];
                if (SILU)
                    d[j] *= silu_slope(a[j] * xhat + b[j]);
                sum[j] += d[j];
                sum_x[j] += d[j] * xhat;
            }
        }
        for (int j = 0; j < V; j++) {
            ds[threadIdx.x * V + j] = sum[j];
            dxs[threadIdx.x * V + j] = sum_x[j];
        }
        __syncthreads();
        const int first = p.channel - (int)threadIdx.x % t.wide * V;
        for (int c = (int)threadIdx.x; c < t.wide * V && first + c < C; c += THREADS) {
            float *pair = pair_at(partial, t.z, p.sample, p.chunk, first + c);
            float all = 0.0f, all_x = 0.0f;
            for (int s = 0; s < t.high; s++) {
                all += ds[s * t.wide * V + c];
                all_x += dxs[s * t.wide * V + c];
            }
            pair[0] = all;
            pair[1] = all_x;
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
    const int64_t rows = z.samples * z.chunks;
    for (int64_t first = (int64_t)blockIdx.x * GPU_WARP; first < z.channels;
         first += (int64_t)gridDim.x * GPU_WARP) {
        const int64_t c = first + lane;
        float sum = 0.0f, sum_x = 0.0f;
        for (int64_t r = slot; c < z.channels && r < rows; r += SUM_SLOTS) {
            gpu_vec<float, 2> pair = ((const gpu_vec<float, 2> *)partial)[r * z.channels + c];
            sum += pair.v[0];
            sum_x += pair.v[1];
        }
        ds[threadIdx.x] = sum;
        dxs[threadIdx.x] = sum_x;
        __syncthreads();
        if (slot == 0 && c < z.channels) {
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

/* A block per sample and group: mean(d gamma) and mean(d gamma xhat). */
template <class T>
GPU_KERNEL void group_grad_means(cuda_norm_shape z, float *partial, const T *gamma, float *means)
{
    const int per = (int)(z.channels / z.groups);
    for (int64_t u = blockIdx.x; u < z.samples * z.groups; u += gridDim.x) {
        const int64_t sample = u / z.groups, first = u % z.groups * per;
        float sum = 0.0f, sum_x = 0.0f;
        for (int64_t i = threadIdx.x; i < z.chunks * per; i += blockDim.x) {
            const float *pair = pair_at(partial, z, sample, i / per, first + i % per);
            float a = gpu_float(gamma[first + i % per]);
            sum += a * pair[0];
            sum_x += a * pair[1];
        }
        const float count = (float)(z.rows * per);
        sum = gpu_block_sum(sum) / count;
        sum_x = gpu_block_sum(sum_x) / count;
        if (threadIdx.x == 0) {
            means[2 * u] = sum;
            means[2 * u + 1] = sum_x;
        }
    }
}

template <class T, int V, bool SILU>
GPU_KERNEL void group_grad_apply(norm_tiles t, const T *dy, const T *x, const T *gamma,
                                 const T *beta, const float *mean, const float *rstd,
                                 const float *means, T *dx)
{
    const int64_t C = t.z.channels;
    const int per = (int)(C / t.z.groups);
    for (int64_t unit = blockIdx.x; unit < n_units(t); unit += gridDim.x) {
        const norm_place p = place_of<V>(t, unit);
        if (!p.active)
            continue;
        float mu[V], rs[V], a[V], b[V], m[V], m_x[V];
        take<T, V>(gamma + p.channel, a);
        take<T, V>(beta + p.channel, b);
        for (int j = 0; j < V; j++) {
            int64_t g = p.sample * t.z.groups + (p.channel + j) / per;
            mu[j] = mean[g];
            rs[j] = rstd[g];
            m[j] = means[2 * g];
            m_x[j] = means[2 * g + 1];
        }
        for (int64_t r = p.first_row + p.slot; r < p.end_row; r += t.high) {
            float v[V], d[V];
            const int64_t at = (p.sample * t.z.rows + r) * C + p.channel;
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

template <class T>
static int group_norm_any(const cuda_norm_shape *z, const cuda_norm_args *a, int n_sm,
                          gpu_stream stream)
{
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
