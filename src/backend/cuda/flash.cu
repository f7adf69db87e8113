/* Attention that never stores T x S (Dao et al. 2022, arXiv:2205.14135), in f32 products: a block
   owns TILE rows (queries; for dk and dv, keys) of one head and walks over the other side in tiles.
   A thread has 4 x 4 of a tile of logits, rows ty + 16 i and columns tx + 16 j, and 4 x 4 of each
   CHUNK columns of its result; heads wider than PIECES chunks are cut into `parts` that compute
   their logits again. Each result has one owner and one order of sums. */
#include "backend/cuda/flash.h"
#include "backend/cuda/gpu.cuh"

enum {
    THREADS = 256,
    SIDE = 16,             /* threads along each side of a tile */
    TILE = 64,             /* rows, and columns of the other side */
    DEPTH = 32,            /* columns of a head that a product takes at once */
    CHUNK = 64,            /* columns of a head that a result takes at once */
    PIECES = 4,            /* chunks that a block accumulates, at most */
    DEPTH_ROW = DEPTH + 1, /* odd: neighbours in a column lie in different banks */
    TILE_ROW = TILE + 1,
    BLOCKS_PER_SM = 4
};

/* What a block works on. */
struct flash_place {
    int64_t n, first; /* sample, first row */
    int head, part;   /* part: of the head's columns */
};

/* Rows of one head. */
template <class T> struct flash_rows {
    const T *at; /* row 0, the head's column 0 */
    int64_t n;   /* rows */
    int64_t stride;
    int d;
};

template <class T>
GPU_DEVICE flash_rows<T> head_of(const void *x, const cuda_flash_shape &z, const flash_place &p,
                                 int64_t rows)
{
    const int64_t stride = (int64_t)z.heads * z.d;
    return flash_rows<T>{(const T *)x + p.n * rows * stride + (int64_t)p.head * z.d, rows, stride,
                         z.d};
}

GPU_DEVICE flash_place place_of(const cuda_flash_shape &z, int64_t unit, int64_t rows, int parts)
{
    const int64_t tiles = (rows + TILE - 1) / TILE;
    flash_place p;
    p.first = unit % tiles * TILE;
    p.part = (int)(unit / tiles % parts);
    p.head = (int)(unit / tiles / parts % z.heads);
    p.n = unit / tiles / parts / z.heads;
    return p;
}

GPU_DEVICE int64_t n_units(const cuda_flash_shape &z, int64_t rows, int parts)
{
    return (rows + TILE - 1) / TILE * parts * z.heads * z.N;
}

/* room[r * row + c] = x(first + r, column + c), zero where there is none. WIDTH columns. */
template <class T, int WIDTH>
GPU_DEVICE void load(const flash_rows<T> &x, int64_t first, int column, int row, float *room)
{
    for (int i = (int)threadIdx.x; i < TILE * WIDTH; i += THREADS) {
        int r = i / WIDTH, c = i % WIDTH;
        bool is = first + r < x.n && column + c < x.d;
        room[r * row + c] = is ? gpu_float(x.at[(first + r) * x.stride + column + c]) : 0.0f;
    }
}

/* s[i][j] = a(first_a + row i) . b(first_b + column j); room: 2 TILE DEPTH_ROW. */
template <class T>
GPU_DEVICE void product(const flash_rows<T> &a, int64_t first_a, const flash_rows<T> &b,
                        int64_t first_b, float *room, float s[4][4])
{
    const int tx = (int)threadIdx.x % SIDE, ty = (int)threadIdx.x / SIDE;
    float *other = room + TILE * DEPTH_ROW;
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++)
            s[i][j] = 0.0f;
    for (int column = 0; column < a.d; column += DEPTH) {
        __syncthreads();
        load<T, DEPTH>(a, first_a, column, DEPTH_ROW, room);
        load<T, DEPTH>(b, first_b, column, DEPTH_ROW, other);
        __syncthreads();
        const int depth = a.d - column < DEPTH ? a.d - column : DEPTH;
        for (int c = 0; c < depth; c++) {
            float x[4], y[4];
            for (int i = 0; i < 4; i++) {
                x[i] = room[(ty + SIDE * i) * DEPTH_ROW + c];
                y[i] = other[(tx + SIDE * i) * DEPTH_ROW + c];
            }
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++)
                    s[i][j] += x[i] * y[j];
        }
    }
}

/* The block's tile in `shared`, for gather; the barriers of gather make it visible. */
GPU_DEVICE void spread(const float s[4][4], float *shared)
{
    const int tx = (int)threadIdx.x % SIDE, ty = (int)threadIdx.x / SIDE;
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++)
            shared[(ty + SIDE * i) * TILE_ROW + tx + SIDE * j] = s[i][j];
}

/* sum[i][chunk][j] += sum over k of tile(row i, k) x(first + k, column j of chunk). A barrier at
   the end: tile and room may be written again. */
template <class T, int K>
GPU_DEVICE void gather(const float *tile, const flash_rows<T> &x, int64_t first, int column,
                       float *room, float sum[4][K][4])
{
    const int tx = (int)threadIdx.x % SIDE, ty = (int)threadIdx.x / SIDE;
    const int rows = x.n - first < TILE ? (int)(x.n - first) : TILE;
    GPU_UNROLL
    for (int chunk = 0; chunk < K; chunk++) {
        __syncthreads();
        load<T, CHUNK>(x, first, column + chunk * CHUNK, CHUNK, room);
        __syncthreads();
        for (int k = 0; k < rows; k++) {
            float p[4], y[4];
            for (int i = 0; i < 4; i++) {
                p[i] = tile[(ty + SIDE * i) * TILE_ROW + k];
                y[i] = room[k * CHUNK + tx + SIDE * i];
            }
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++)
                    sum[i][chunk][j] += p[i] * y[j];
        }
    }
    __syncthreads();
}

/* The block's result: row i times factor[i]. */
template <class T, int K>
GPU_DEVICE void store(void *to, const cuda_flash_shape &z, const flash_place &p, int64_t rows,
                      const float sum[4][K][4], const float factor[4])
{
    const int tx = (int)threadIdx.x % SIDE, ty = (int)threadIdx.x / SIDE;
    const flash_rows<T> x = head_of<T>(to, z, p, rows);
    T *at = (T *)to + (x.at - (const T *)to);
    for (int i = 0; i < 4; i++)
        GPU_UNROLL
        for (int chunk = 0; chunk < K; chunk++)
            for (int j = 0; j < 4; j++) {
                const int64_t r = p.first + ty + SIDE * i;
                const int c = (p.part * K + chunk) * CHUNK + tx + SIDE * j;
                if (r < rows && c < z.d)
                    at[r * x.stride + c] = gpu_from<T>(sum[i][chunk][j] * factor[i]);
            }
}

GPU_DEVICE bool sees(const cuda_flash_shape &z, int64_t query, int64_t key)
{
    return query < z.T && key < z.S && !(z.causal && key > query);
}

GPU_DEVICE const float *per_query(const float *x, const cuda_flash_shape &z, const flash_place &p)
{
    return x + (p.n * z.heads + p.head) * z.T;
}

/* Sum and maximum over the SIDE threads of a row. */
GPU_DEVICE float row_sum(float v)
{
    for (int k = SIDE / 2; k > 0; k /= 2)
        v += gpu_shuffle_xor(v, k);
    return v;
}

GPU_DEVICE float row_max(float v)
{
    for (int k = SIDE / 2; k > 0; k /= 2)
        v = fmaxf(v, gpu_shuffle_xor(v, k));
    return v;
}

/* ---- forward: rows are queries */

template <class T, int K> GPU_KERNEL void flash(cuda_flash_shape z, cuda_flash_args a, int parts)
{
    GPU_SHARED(float, room, 2 * TILE * DEPTH_ROW);
    GPU_SHARED(float, tile, TILE *TILE_ROW);
    const int tx = (int)threadIdx.x % SIDE, ty = (int)threadIdx.x / SIDE;
    for (int64_t unit = blockIdx.x; unit < n_units(z, z.T, parts); unit += gridDim.x) {
        const flash_place p = place_of(z, unit, z.T, parts);
        const flash_rows<T> q = head_of<T>(a.q, z, p, z.T), k = head_of<T>(a.k, z, p, z.S);
        const flash_rows<T> v = head_of<T>(a.v, z, p, z.S);
        /* sum of e^(logit - max), this thread's columns only until the end */
        float max[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY}, total[4] = {};
        float sum[4][K][4] = {}, s[4][4];
        for (int64_t key = 0; key < z.S && !(z.causal && key >= p.first + TILE); key += TILE) {
            product(q, p.first, k, key, room, s);
            for (int i = 0; i < 4; i++) {
                const int64_t query = p.first + ty + SIDE * i;
                float most = -INFINITY;
                for (int j = 0; j < 4; j++) {
                    bool seen = query >= z.T ? key + tx + SIDE * j < z.S /* a row of zeros */
                                             : sees(z, query, key + tx + SIDE * j);
                    s[i][j] = seen ? s[i][j] * z.scale : -INFINITY;
                    most = fmaxf(most, s[i][j]);
                }
                most = fmaxf(max[i], row_max(most)); /* key 0 is seen by all: finite */
                const float shrink = expf(max[i] - most);
                max[i] = most;
                total[i] *= shrink;
                for (int j = 0; j < 4; j++) {
                    s[i][j] = expf(s[i][j] - most);
                    total[i] += s[i][j];
                }
                GPU_UNROLL
                for (int c = 0; c < K; c++)
                    for (int j = 0; j < 4; j++)
                        sum[i][c][j] *= shrink;
            }
            spread(s, tile);
            gather<T, K>(tile, v, key, p.part * K * CHUNK, room, sum);
        }
        float factor[4];
        for (int i = 0; i < 4; i++) {
            const int64_t query = p.first + ty + SIDE * i;
            total[i] = row_sum(total[i]);
            factor[i] = 1.0f / total[i];
            if (tx == 0 && p.part == 0 && query < z.T)
                a.lse[(p.n * z.heads + p.head) * z.T + query] = max[i] + logf(total[i]);
        }
        store<T, K>(a.out, z, p, z.T, sum, factor);
    }
}

/* ---- gradient: p = e^(logit - lse), dp = dout . v, ds = p (dp - delta) scale;
   dv = sum p dout, dk = sum ds q over queries; dq = sum ds k over keys */

/* delta = dout . out: a warp per query and head. */
template <class T> GPU_KERNEL void flash_delta(cuda_flash_shape z, cuda_flash_args a)
{
    const int lane = (int)threadIdx.x % GPU_WARP;
    const int64_t warps = (int64_t)gridDim.x * blockDim.x / GPU_WARP;
    for (int64_t u = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / GPU_WARP;
         u < z.N * z.heads * z.T; u += warps) {
        const int64_t t = u % z.T, head = u / z.T % z.heads, n = u / z.T / z.heads;
        const int64_t at = ((n * z.T + t) * z.heads + head) * z.d;
        float sum = 0.0f;
        for (int c = lane; c < z.d; c += GPU_WARP)
            sum += gpu_float(((const T *)a.dout)[at + c]) * gpu_float(((const T *)a.out)[at + c]);
        sum = gpu_warp_sum(sum);
        if (lane == 0)
            a.delta[u] = sum;
    }
}

template <class T, int K> GPU_KERNEL void flash_dq(cuda_flash_shape z, cuda_flash_args a, int parts)
{
    GPU_SHARED(float, room, 2 * TILE * DEPTH_ROW);
    GPU_SHARED(float, tile, TILE *TILE_ROW);
    const int tx = (int)threadIdx.x % SIDE, ty = (int)threadIdx.x / SIDE;
    for (int64_t unit = blockIdx.x; unit < n_units(z, z.T, parts); unit += gridDim.x) {
        const flash_place p = place_of(z, unit, z.T, parts);
        const flash_rows<T> q = head_of<T>(a.q, z, p, z.T), k = head_of<T>(a.k, z, p, z.S);
        const flash_rows<T> v = head_of<T>(a.v, z, p, z.S), dout = head_of<T>(a.dout, z, p, z.T);
        const float *lse = per_query(a.lse, z, p), *delta = per_query(a.delta, z, p);
        float sum[4][K][4] = {}, s[4][4], dp[4][4];
        const float factor[4] = {1.0f, 1.0f, 1.0f, 1.0f};
        for (int64_t key = 0; key < z.S && !(z.causal && key >= p.first + TILE); key += TILE) {
            product(q, p.first, k, key, room, s);
            product(dout, p.first, v, key, room, dp);
            for (int i = 0; i < 4; i++) {
                const int64_t query = p.first + ty + SIDE * i;
                for (int j = 0; j < 4; j++)
                    s[i][j] = sees(z, query, key + tx + SIDE * j)
                                  ? expf(s[i][j] * z.scale - lse[query]) *
                                        (dp[i][j] - delta[query]) * z.scale
                                  : 0.0f;
            }
            spread(s, tile);
            gather<T, K>(tile, k, key, p.part * K * CHUNK, room, sum);
        }
        store<T, K>(a.dq, z, p, z.T, sum, factor);
    }
}

/* Rows are keys, columns queries. */
template <class T, int K>
GPU_KERNEL void flash_dkv(cuda_flash_shape z, cuda_flash_args a, int parts)
{
    GPU_SHARED(float, room, 2 * TILE * DEPTH_ROW);
    GPU_SHARED(float, tile, TILE *TILE_ROW);
    const int tx = (int)threadIdx.x % SIDE, ty = (int)threadIdx.x / SIDE;
    for (int64_t unit = blockIdx.x; unit < n_units(z, z.S, parts); unit += gridDim.x) {
        const flash_place p = place_of(z, unit, z.S, parts);
        const flash_rows<T> q = head_of<T>(a.q, z, p, z.T), k = head_of<T>(a.k, z, p, z.S);
        const flash_rows<T> v = head_of<T>(a.v, z, p, z.S), dout = head_of<T>(a.dout, z, p, z.T);
        const float *lse = per_query(a.lse, z, p), *delta = per_query(a.delta, z, p);
        const int column = p.part * K * CHUNK;
        float dk[4][K][4] = {}, dv[4][K][4] = {}, s[4][4], ds[4][4];
        const float factor[4] = {1.0f, 1.0f, 1.0f, 1.0f};
        /* causal: earlier queries see none of these keys */
        for (int64_t query = z.causal ? p.first : 0; query < z.T; query += TILE) {
            product(k, p.first, q, query, room, s);
            product(v, p.first, dout, query, room, ds);
            for (int j = 0; j < 4; j++) {
                const int64_t t = query + tx + SIDE * j;
                for (int i = 0; i < 4; i++) {
                    bool seen = sees(z, t, p.first + ty + SIDE * i);
                    s[i][j] = seen ? expf(s[i][j] * z.scale - lse[t]) : 0.0f;
                    ds[i][j] = seen ? s[i][j] * (ds[i][j] - delta[t]) * z.scale : 0.0f;
                }
            }
            spread(s, tile);
            gather<T, K>(tile, dout, query, column, room, dv);
            spread(ds, tile);
            gather<T, K>(tile, q, query, column, room, dk);
        }
        store<T, K>(a.dv, z, p, z.S, dv, factor);
        store<T, K>(a.dk, z, p, z.S, dk, factor);
    }
}

/* ---- launchers */

/* How the head's columns are shared out: `parts` blocks of `pieces` chunks. */
struct flash_cut {
    int parts, pieces;
};

static flash_cut cut_of(int d)
{
    const int chunks = (d + CHUNK - 1) / CHUNK;
    flash_cut c;
    c.parts = (chunks + PIECES - 1) / PIECES;
    c.pieces = (chunks + c.parts - 1) / c.parts;
    return c;
}

static unsigned grid_of(const cuda_flash_shape &z, int64_t rows, int parts, int n_sm)
{
    return gpu_grid((rows + TILE - 1) / TILE * parts * z.heads * z.N, 1,
                    (int64_t)n_sm * BLOCKS_PER_SM);
}

template <class T, int K>
static int forward(const cuda_flash_shape &z, const cuda_flash_args &a, int parts, int n_sm,
                   gpu_stream stream)
{
    return GPU_LAUNCH((flash<T, K>), grid_of(z, z.T, parts, n_sm), THREADS, stream, z, a, parts);
}

template <class T, int K>
static int backward(const cuda_flash_shape &z, const cuda_flash_args &a, int parts, int n_sm,
                    gpu_stream stream)
{
    unsigned rows =
        gpu_grid(z.N * z.heads * z.T, THREADS / GPU_WARP, (int64_t)n_sm * BLOCKS_PER_SM);
    int code = GPU_LAUNCH((flash_delta<T>), rows, THREADS, stream, z, a);
    if (!code)
        code = GPU_LAUNCH((flash_dq<T, K>), grid_of(z, z.T, parts, n_sm), THREADS, stream, z, a,
                          parts);
    if (!code)
        code = GPU_LAUNCH((flash_dkv<T, K>), grid_of(z, z.S, parts, n_sm), THREADS, stream, z, a,
                          parts);
    return code;
}

template <class T>
static int launch(const cuda_flash_shape &z, const cuda_flash_args &a, bool grad, int n_sm,
                  gpu_stream s)
{
    const flash_cut c = cut_of(z.d);
    switch (c.pieces) {
    case 1:
        return grad ? backward<T, 1>(z, a, c.parts, n_sm, s)
                    : forward<T, 1>(z, a, c.parts, n_sm, s);
    case 2:
        return grad ? backward<T, 2>(z, a, c.parts, n_sm, s)
                    : forward<T, 2>(z, a, c.parts, n_sm, s);
    case 3:
        return grad ? backward<T, 3>(z, a, c.parts, n_sm, s)
                    : forward<T, 3>(z, a, c.parts, n_sm, s);
    default:
        return grad ? backward<T, 4>(z, a, c.parts, n_sm, s)
                    : forward<T, 4>(z, a, c.parts, n_sm, s);
    }
}

extern "C" int cuda__flash_launch(const cuda_flash_shape *z, const cuda_flash_args *a, int n_sm,
                                  gpu_stream stream)
{
    return z->dtype == MD_BF16 ? launch<bf16>(*z, *a, false, n_sm, stream)
                               : launch<float>(*z, *a, false, n_sm, stream);
}

extern "C" int cuda__flash_grad_launch(const cuda_flash_shape *z, const cuda_flash_args *a,
                                       int n_sm, gpu_stream stream)
{
    return z->dtype == MD_BF16 ? launch<bf16>(*z, *a, true, n_sm, stream)
                               : launch<float>(*z, *a, true, n_sm, stream);
}
