/* write accumulate adamw ema: bound by memory, so every pass reads and writes each byte once, 16
   bytes at a time where addresses allow. */
#include "backend/cuda/gpu.cuh"
#include "backend/cuda/update.h"
#include "ops/ops.h"
#include "ops/state.h"

enum { THREADS = 256, BLOCKS_PER_SM = 8, PIECE = 4 /* neighbours per thread in adamw */ };

/* This thread, and how many there are. */
GPU_DEVICE int64_t thread_index()
{
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

GPU_DEVICE int64_t thread_count()
{
    return (int64_t)gridDim.x * blockDim.x;
}

/* ---- write */

/* W: the piece that both addresses allow; the last few bytes one by one. */
template <class W> GPU_KERNEL void copy(void *dst, const void *src, int64_t bytes)
{
    int64_t n = bytes / (int64_t)sizeof(W);
    for (int64_t i = thread_index(); i < n; i += thread_count())
        ((W *)dst)[i] = ((const W *)src)[i];
    for (int64_t i = n * (int64_t)sizeof(W) + thread_index(); i < bytes; i += thread_count())
        ((unsigned char *)dst)[i] = ((const unsigned char *)src)[i];
}

template <class W>
static int copy_by(void *dst, const void *src, int64_t bytes, int n_sm, gpu_stream stream)
{
    int64_t most = (int64_t)n_sm * BLOCKS_PER_SM;
    unsigned grid = gpu_grid(bytes, THREADS * (int64_t)sizeof(W), most);
    return GPU_LAUNCH((copy<W>), grid, THREADS, stream, dst, src, bytes);
}

extern "C" int cuda__copy_launch(void *dst, const void *src, int64_t bytes, int n_sm,
                                 gpu_stream stream)
{
    uintptr_t low = (uintptr_t)dst | (uintptr_t)src;
    if (low % 16 == 0)
        return copy_by<gpu_vec<uint32_t, 4>>(dst, src, bytes, n_sm, stream);
    if (low % 4 == 0)
        return copy_by<uint32_t>(dst, src, bytes, n_sm, stream);
    if (low % 2 == 0)
        return copy_by<uint16_t>(dst, src, bytes, n_sm, stream);
    return copy_by<uint8_t>(dst, src, bytes, n_sm, stream);
}

/* ---- accumulate */

template <class T, int N> GPU_KERNEL void accumulate(T *dst, const T *src, int64_t n)
{
    for (int64_t i = thread_index(); i < n / N; i += thread_count()) {
        gpu_vec<T, N> a = ((gpu_vec<T, N> *)dst)[i], b = ((const gpu_vec<T, N> *)src)[i];
        for (int j = 0; j < N; j++)
            a.v[j] = gpu_from<T>(gpu_float(a.v[j]) + gpu_float(b.v[j]));
        ((gpu_vec<T, N> *)dst)[i] = a;
    }
    for (int64_t i = n / N * N + thread_index(); i < n; i += thread_count())
        dst[i] = gpu_from<T>(gpu_float(dst[i]) + gpu_float(src[i]));
}

template <class T>
static int accumulate_any(void *dst, const void *src, int64_t n, int n_sm, gpu_stream stream)
{
    const int N = gpu_lanes<T>::n;
    int64_t most = (int64_t)n_sm * BLOCKS_PER_SM;
    if (gpu_aligned(dst, src))
        return GPU_LAUNCH((accumulate<T, N>), gpu_grid(n, THREADS * N, most), THREADS, stream,
                          (T *)dst, (const T *)src, n);
    return GPU_LAUNCH((accumulate<T, 1>), gpu_grid(n, THREADS, most), THREADS, stream, (T *)dst,
                      (const T *)src, n);
}

extern "C" int cuda__accumulate_launch(void *dst, const void *src, md_dtype dtype, int64_t n,
                                       int n_sm, gpu_stream stream)
{
    return dtype == MD_BF16 ? accumulate_any<bf16>(dst, src, n, n_sm, stream)
                            : accumulate_any<float>(dst, src, n, n_sm, stream);
}

/* ---- ema */

template <int N> GPU_KERNEL void ema(float *e, const float *p, const float *decay, int64_t n)
{
    const float d = *decay, rest = 1.0f - d;
    if (!isfinite(d))
        return;
    for (int64_t i = thread_index(); i < n / N; i += thread_count()) {
        gpu_vec<float, N> a = ((gpu_vec<float, N> *)e)[i], b = ((const gpu_vec<float, N> *)p)[i];
        for (int j = 0; j < N; j++)
            a.v[j] = d * a.v[j] + rest * b.v[j];
        ((gpu_vec<float, N> *)e)[i] = a;
    }
    for (int64_t i = n / N * N + thread_index(); i < n; i += thread_count())
        e[i] = d * e[i] + rest * p[i];
}

extern "C" int cuda__ema_launch(float *e, const float *p, const float *decay, int64_t n, int n_sm,
                                gpu_stream stream)
{
    int64_t most = (int64_t)n_sm * BLOCKS_PER_SM;
    if (gpu_aligned(e, p))
        return GPU_LAUNCH((ema<4>), gpu_grid(n, THREADS * 4, most), THREADS, stream, e, p, decay,
                          n);
    return GPU_LAUNCH((ema<1>), gpu_grid(n, THREADS, most), THREADS, stream, e, p, decay, n);
}

/* ---- adamw */

struct adamw_step {
    bool skip; /* the norm is not finite */
    float scale, lr, decay, bc1, bc2, b1, b2, a1, a2, eps;
    uint32_t number;
};

GPU_DEVICE adamw_step adamw_read(const cuda_adamw_args &a)
{
    const float gnorm2 = *a.gnorm2, clip = a.hyper[MD_HYPER_CLIP];
    adamw_step s;
    s.skip = !isfinite(gnorm2);
    s.scale = a.hyper[MD_HYPER_SCALE];
    if (clip > 0.0f)
        s.scale *= fminf(1.0f, clip / (s.scale * sqrtf(gnorm2) + 1e-6f));
    s.lr = a.hyper[MD_HYPER_LR];
    s.decay = s.lr * a.weight_decay;
    s.bc1 = a.hyper[MD_HYPER_BC1];
    s.bc2 = a.hyper[MD_HYPER_BC2];
    s.b1 = a.b1, s.b2 = a.b2, s.a1 = a.a1, s.a2 = a.a2, s.eps = a.eps;
    s.number = (uint32_t)a.hyper[MD_HYPER_STEP];
    return s;
}

GPU_DEVICE void adamw_element(const adamw_step &s, float g, float *p, float *m, float *v)
{
    g *= s.scale;
    *m = s.b1 * *m + s.a1 * g;
    *v = s.b2 * *v + s.a2 * g * g;
    *p -= s.decay * *p;
    *p -= s.lr * (*m * s.bc1) / (sqrtf(*v * s.bc2) + s.eps);
}

GPU_DEVICE void keep(float x, uint64_t index, uint32_t step, float *to)
{
    (void)index;
    (void)step;
    *to = x;
}

GPU_DEVICE void keep(float x, uint64_t index, uint32_t step, bf16 *to)
{
    to->bits = md_state_round(x, md_state_bits(index, step));
}

/* Elements i..i+N. */
template <class G, class S, int N>
GPU_DEVICE void adamw_piece(const cuda_adamw_args &a, const adamw_step &s, int64_t i)
{
    typedef gpu_vec<float, N> floats;
    typedef gpu_vec<S, N> states;
    floats p = *(const floats *)(a.p + i);
    gpu_vec<G, N> g = *(const gpu_vec<G, N> *)((const G *)a.g + i);
    states m = *(const states *)((S *)a.m + i), v = *(const states *)((S *)a.v + i);
    gpu_vec<bf16, N> shadow;
    for (int j = 0; j < N; j++) {
        float mj = gpu_float(m.v[j]), vj = gpu_float(v.v[j]);
        adamw_element(s, gpu_float(g.v[j]), &p.v[j], &mj, &vj);
        keep(mj, 2 * (uint64_t)(i + j), s.number, &m.v[j]);
        keep(vj, 2 * (uint64_t)(i + j) + 1, s.number, &v.v[j]);
        shadow.v[j] = gpu_bf16(p.v[j]);
    }
    *(floats *)(a.p + i) = p;
    *(states *)((S *)a.m + i) = m;
    *(states *)((S *)a.v + i) = v;
    if (a.shadow)
        *(gpu_vec<bf16, N> *)((bf16 *)a.shadow + i) = shadow;
}

template <class G, class S, int N> GPU_KERNEL void adamw(cuda_adamw_args a)
{
    const adamw_step s = adamw_read(a);
    if (s.skip)
        return;
    for (int64_t i = thread_index(); i < a.n / N; i += thread_count())
        adamw_piece<G, S, N>(a, s, i * N);
    for (int64_t i = a.n / N * N + thread_index(); i < a.n; i += thread_count())
        adamw_piece<G, S, 1>(a, s, i);
}

/* A block of states belongs to a warp: lane l has elements 4 l..4 l + 3 of both halves, HELD in
   all, so that neighbouring lanes touch neighbouring pieces. */
enum { HELD = MD_STATE_BLOCK / GPU_WARP };

GPU_DEVICE int held_at(int k)
{
    return k / PIECE * (GPU_WARP * PIECE) + (int)threadIdx.x % GPU_WARP * PIECE + k % PIECE;
}

/* `from` is the block's first element, of which `left` exist; beyond them to[] is as it was. */
template <class T, bool VECTORS> GPU_DEVICE void take(const T *from, int64_t left, T to[HELD])
{
    for (int k = 0; k < HELD; k += PIECE) {
        int at = held_at(k);
        if (VECTORS && at + PIECE <= left) {
            gpu_vec<T, PIECE> piece = *(const gpu_vec<T, PIECE> *)(from + at);
            for (int j = 0; j < PIECE; j++)
                to[k + j] = piece.v[j];
        } else {
            for (int j = 0; j < PIECE; j++)
                if (at + j < left)
                    to[k + j] = from[at + j];
        }
    }
}

template <class T, bool VECTORS> GPU_DEVICE void give(T *to, int64_t left, const T from[HELD])
{
    for (int k = 0; k < HELD; k += PIECE) {
        int at = held_at(k);
        if (VECTORS && at + PIECE <= left) {
            gpu_vec<T, PIECE> piece;
            for (int j = 0; j < PIECE; j++)
                piece.v[j] = from[k + j];
            *(gpu_vec<T, PIECE> *)(to + at) = piece;
        } else {
            for (int j = 0; j < PIECE; j++)
                if (at + j < left)
                    to[at + j] = from[k + j];
        }
    }
}

template <class G, bool VECTORS>
GPU_DEVICE void adamw_codes_block(const cuda_adamw_args &a, const adamw_step &s, int64_t block)
{
    const int64_t from = block * MD_STATE_BLOCK, left = a.n - from;
    float p[HELD] = {}, m[HELD], v[HELD];
    G g[HELD] = {};
    bf16 shadow[HELD];
    uint8_t m_code[HELD] = {}, v_code[HELD] = {};
    take<float, VECTORS>(a.p + from, left, p);
    take<G, VECTORS>((const G *)a.g + from, left, g);
    take<uint8_t, VECTORS>((const uint8_t *)a.m + from, left, m_code);
    take<uint8_t, VECTORS>((const uint8_t *)a.v + from, left, v_code);
    float m_scale = a.m_scale[block], v_scale = a.v_scale[block], m_max = 0.0f, v_max = 0.0f;
    for (int k = 0; k < HELD; k++) {
        m[k] = md_state_m(m_code[k], m_scale);
        v[k] = md_state_v(v_code[k], v_scale);
        adamw_element(s, gpu_float(g[k]), &p[k], &m[k], &v[k]);
        shadow[k] = gpu_bf16(p[k]);
        if (held_at(k) < left) {
            m_max = fmaxf(m_max, fabsf(m[k]));
            v_max = fmaxf(v_max, v[k]);
        }
    }
    /* the shuffles also order the reads of the old scales before the writes of the new ones */
    m_max = gpu_warp_max(m_max);
    v_max = gpu_warp_max(v_max);
    for (int k = 0; k < HELD; k++) {
        m_code[k] = md_state_m_code(m[k], m_max);
        v_code[k] = md_state_v_code(v[k], v_max);
    }
    give<float, VECTORS>(a.p + from, left, p);
    give<uint8_t, VECTORS>((uint8_t *)a.m + from, left, m_code);
    give<uint8_t, VECTORS>((uint8_t *)a.v + from, left, v_code);
    if (a.shadow)
        give<bf16, VECTORS>((bf16 *)a.shadow + from, left, shadow);
    if (threadIdx.x % GPU_WARP == 0) {
        a.m_scale[block] = m_max;
        a.v_scale[block] = v_max;
    }
}

template <class G, bool VECTORS> GPU_KERNEL void adamw_codes(cuda_adamw_args a)
{
    const adamw_step s = adamw_read(a);
    const int64_t blocks = (a.n + MD_STATE_BLOCK - 1) / MD_STATE_BLOCK;
    if (s.skip)
        return;
    for (int64_t b = thread_index() / GPU_WARP; b < blocks; b += thread_count() / GPU_WARP)
        adamw_codes_block<G, VECTORS>(a, s, b);
}

/* Whether `p`, NULL included, may be read in pieces of PIECE elements. */
static bool in_pieces(const void *p, md_dtype dtype)
{
    uintptr_t bytes = dtype == MD_F32 ? 4 : dtype == MD_BF16 ? 2 : 1;
    return (uintptr_t)p % (PIECE * bytes) == 0;
}

template <class G, class S>
static int adamw_plain(const cuda_adamw_args &a, bool pieces, int64_t most, gpu_stream stream)
{
    if (pieces)
        return GPU_LAUNCH((adamw<G, S, PIECE>), gpu_grid(a.n, THREADS * PIECE, most), THREADS,
                          stream, a);
    return GPU_LAUNCH((adamw<G, S, 1>), gpu_grid(a.n, THREADS, most), THREADS, stream, a);
}

template <class G>
static int adamw_any(const cuda_adamw_args &a, md_dtype states, bool pieces, int64_t most,
                     gpu_stream stream)
{
    if (states == MD_F32)
        return adamw_plain<G, float>(a, pieces, most, stream);
    if (states == MD_BF16)
        return adamw_plain<G, bf16>(a, pieces, most, stream);
    unsigned grid = gpu_grid(a.n, THREADS / GPU_WARP * MD_STATE_BLOCK, most);
    if (pieces)
        return GPU_LAUNCH((adamw_codes<G, true>), grid, THREADS, stream, a);
    return GPU_LAUNCH((adamw_codes<G, false>), grid, THREADS, stream, a);
}

extern "C" int cuda__adamw_launch(const cuda_adamw_args *a, md_dtype g, md_dtype states, int n_sm,
                                  gpu_stream stream)
{
    bool pieces = in_pieces(a->p, MD_F32) && in_pieces(a->g, g) && in_pieces(a->m, states) &&
                  in_pieces(a->v, states) && in_pieces(a->shadow, MD_BF16);
    int64_t most = (int64_t)n_sm * BLOCKS_PER_SM;
    return g == MD_BF16 ? adamw_any<bf16>(*a, states, pieces, most, stream)
                        : adamw_any<float>(*a, states, pieces, most, stream);
}
