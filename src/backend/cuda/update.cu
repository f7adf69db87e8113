/* write accumulate adamw ema: bound by memory, so every pass reads and writes each byte once, 16
   bytes at a time where addresses allow. */
#include "backend/cuda/gpu.cuh"
#include "backend/cuda/update.h"
#include "ops/ops.h"
#include "ops/state.h"

enum { THREADS = 256, BLOCKS_PER_SM = 8, PIECE = 4 /* neighbours per thread in adamw */ };
/* adamw: what fits on a multiprocessor at once, so that its grid runs in one go */
enum { ADAMW_BLOCKS = 5, CODES_BLOCKS = 4 };

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
    float scale, lr_bc1, decay, bc2, b1, b2, a1, a2, eps;
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
    s.lr_bc1 = a.hyper[MD_HYPER_LR] * a.hyper[MD_HYPER_BC1];
    s.decay = a.hyper[MD_HYPER_LR] * a.weight_decay;
    s.bc2 = a.hyper[MD_HYPER_BC2];
    s.b1 = a.b1, s.b2 = a.b2, s.a1 = a.a1, s.a2 = a.a2, s.eps = a.eps;
    s.number = (uint32_t)a.hyper[MD_HYPER_STEP];
    return s;
}

/* The fast root and inverse are wrong by less than p's rounding: their error is relative to the
   step. A v below the least normal number counts as that number: its root, 1e-19, is nothing beside
   eps. */
GPU_DEVICE void adamw_element(const adamw_step &s, float g, float *p, float *m, float *v)
{
    g *= s.scale;
    *m = s.b1 * *m + s.a1 * g;
    *v = s.b2 * *v + s.a2 * g * g;
    *p -= s.decay * *p;
    float root = gpu_fast_sqrt(fmaxf(*v * s.bc2, 1.17549435e-38f));
    *p -= s.lr_bc1 * *m * gpu_fast_inverse(root + s.eps);
}

/* x as a state, of which `lower` and `key` choose the random bits where it is rounded. */
GPU_DEVICE void keep(float x, uint32_t lower, uint32_t key, float *to)
{
    (void)lower;
    (void)key;
    *to = x;
}

GPU_DEVICE void keep(float x, uint32_t lower, uint32_t key, bf16 *to)
{
    to->bits = md_state_round(x, md_state_keyed_bits(lower, key));
}

/* Elements i..i+N, i a multiple of N: what counts to 2 N never carries into the index's upper
   word. */
template <class G, class S, int N>
GPU_DEVICE void adamw_piece(const cuda_adamw_args &a, const adamw_step &s, int64_t i)
{
    typedef gpu_vec<float, N> floats;
    typedef gpu_vec<S, N> states;
    const uint64_t index = 2 * (uint64_t)i;
    const uint32_t lower = (uint32_t)index, key = md_state_key((uint32_t)(index >> 32), s.number);
    floats p = *(const floats *)(a.p + i);
    gpu_vec<G, N> g = *(const gpu_vec<G, N> *)((const G *)a.g + i);
    states m = *(const states *)((S *)a.m + i), v = *(const states *)((S *)a.v + i);
    gpu_vec<bf16, N> shadow;
    for (int j = 0; j < N; j++) {
        float mj = gpu_float(m.v[j]), vj = gpu_float(v.v[j]);
        adamw_element(s, gpu_float(g.v[j]), &p.v[j], &mj, &vj);
        keep(mj, lower + 2 * (uint32_t)j, key, &m.v[j]);
        keep(vj, lower + 2 * (uint32_t)j + 1, key, &v.v[j]);
        shadow.v[j] = gpu_bf16(p.v[j]);
    }
    *(floats *)(a.p + i) = p;
    *(states *)((S *)a.m + i) = m;
    *(states *)((S *)a.v + i) = v;
    if (a.shadow)
        *(gpu_vec<bf16, N> *)((bf16 *)a.shadow + i) = shadow;
}

template <class G, class S, int N>
GPU_KERNEL GPU_BOUNDS(THREADS, ADAMW_BLOCKS) void adamw(cuda_adamw_args a)
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

/* How a warp goes over a block: PIECES: all of it exists and addresses allow pieces; ONES: all of
   it exists; SOME: its first `left` elements do. */
enum held_form { PIECES, ONES, SOME };

/* `from` is the block's first element; what does not exist stays as it was in to[]. */
template <class T, held_form F> GPU_DEVICE void take(const T *from, int64_t left, T to[HELD])
{
    for (int k = 0; k < HELD; k += PIECE) {
        int at = held_at(k);
        if (F == PIECES) {
            gpu_vec<T, PIECE> piece = *(const gpu_vec<T, PIECE> *)(from + at);
            for (int j = 0; j < PIECE; j++)
                to[k + j] = piece.v[j];
        } else {
            for (int j = 0; j < PIECE; j++)
                if (F == ONES || at + j < left)
                    to[k + j] = from[at + j];
        }
    }
}

template <class T, held_form F> GPU_DEVICE void give(T *to, int64_t left, const T from[HELD])
{
    for (int k = 0; k < HELD; k += PIECE) {
        int at = held_at(k);
        if (F == PIECES) {
            gpu_vec<T, PIECE> piece;
            for (int j = 0; j < PIECE; j++)
                piece.v[j] = from[k + j];
            *(gpu_vec<T, PIECE> *)(to + at) = piece;
        } else {
            for (int j = 0; j < PIECE; j++)
                if (F == ONES || at + j < left)
                    to[at + j] = from[k + j];
        }
    }
}

/* About codes (x / scale)^power for each x of a block, by logarithms: two of the slow instructions,
   where the exact quotient and root take five and fifty others. The codes do not depend on the
   error (ops/state.h), which is some 1e-4. */
struct root_about {
    float power, offset;
};

GPU_DEVICE root_about root_of(float scale, float codes, float power)
{
    return root_about{power, gpu_fast_log2(codes) - power * gpu_fast_log2(scale)};
}

GPU_DEVICE float root_at(const root_about &r, float x)
{
    return gpu_fast_exp2(r.power * gpu_fast_log2(x) + r.offset);
}

/* m, v: a block's new values; m_max, v_max: their largest magnitudes. Changes m and v. */
GPU_DEVICE void encode(float m[HELD], float v[HELD], float m_max, float v_max, uint8_t m_code[HELD],
                       uint8_t v_code[HELD])
{
    const float m_lift = md_state_lift(m_max), v_lift = md_state_lift(v_max);
    /* zeros have their codes under any scale */
    const float m_top = m_max > 0.0f ? m_max * m_lift : 1.0f;
    const float v_top = v_max > 0.0f ? v_max * v_lift : 1.0f;
    const float m_unit = md_state_m_unit(m_top), v_unit = md_state_v_unit(v_top);
    const root_about cube = root_of(m_top, 127.0f, 1.0f / 3.0f);
    const root_about fourth = root_of(v_top, 255.0f, 0.25f);
    if (m_lift != 1.0f || v_lift != 1.0f) /* rare, and a warp agrees on it */
        for (int k = 0; k < HELD; k++) {
            m[k] *= m_lift;
            v[k] *= v_lift;
        }
    for (int k = 0; k < HELD; k++) {
        m_code[k] = md_state_m_code_near(m[k], m_unit, root_at(cube, fabsf(m[k])));
        v_code[k] = md_state_v_code_near(v[k], v_unit, root_at(fourth, v[k]));
    }
}

template <class G, held_form F>
GPU_DEVICE void adamw_codes_block(const cuda_adamw_args &a, const adamw_step &s, int64_t block)
{
    const int64_t from = block * MD_STATE_BLOCK, left = a.n - from;
    float p[HELD] = {}, m[HELD], v[HELD];
    G g[HELD] = {};
    uint8_t m_code[HELD] = {}, v_code[HELD] = {};
    take<float, F>(a.p + from, left, p);
    take<G, F>((const G *)a.g + from, left, g);
    take<uint8_t, F>((const uint8_t *)a.m + from, left, m_code);
    take<uint8_t, F>((const uint8_t *)a.v + from, left, v_code);
    const float m_scale = a.m_scale[block], v_scale = a.v_scale[block];
    float m_max = 0.0f, v_max = 0.0f;
    for (int k = 0; k < HELD; k++) {
        m[k] = md_state_m(m_code[k], m_scale);
        v[k] = md_state_v(v_code[k], v_scale);
        adamw_element(s, gpu_float(g[k]), &p[k], &m[k], &v[k]);
        if (F != SOME || held_at(k) < left) {
            m_max = fmaxf(m_max, fabsf(m[k]));
            v_max = fmaxf(v_max, v[k]);
        }
    }
    give<float, F>(a.p + from, left, p);
    if (a.shadow) {
        bf16 shadow[HELD];
        for (int k = 0; k < HELD; k++)
            shadow[k] = gpu_bf16(p[k]);
        give<bf16, F>((bf16 *)a.shadow + from, left, shadow);
    }
    /* the shuffles also order the reads of the old scales before the writes of the new ones */
    m_max = gpu_warp_max(m_max);
    v_max = gpu_warp_max(v_max);
    encode(m, v, m_max, v_max, m_code, v_code);
    give<uint8_t, F>((uint8_t *)a.m + from, left, m_code);
    give<uint8_t, F>((uint8_t *)a.v + from, left, v_code);
    if (threadIdx.x % GPU_WARP == 0) {
        a.m_scale[block] = m_max;
        a.v_scale[block] = v_max;
    }
}

template <class G, held_form F>
GPU_KERNEL GPU_BOUNDS(THREADS, CODES_BLOCKS) void adamw_codes(cuda_adamw_args a)
{
    const adamw_step s = adamw_read(a);
    const int64_t whole = a.n / MD_STATE_BLOCK;
    if (s.skip)
        return;
    int64_t b = thread_index() / GPU_WARP;
    for (; b < whole; b += thread_count() / GPU_WARP)
        adamw_codes_block<G, F>(a, s, b);
    if (b == whole && a.n % MD_STATE_BLOCK) /* one warp's */
        adamw_codes_block<G, SOME>(a, s, b);
}

/* Whether `p`, NULL included, may be read in pieces of PIECE elements. */
static bool in_pieces(const void *p, md_dtype dtype)
{
    uintptr_t bytes = dtype == MD_F32 ? 4 : dtype == MD_BF16 ? 2 : 1;
    return (uintptr_t)p % (PIECE * bytes) == 0;
}

template <class G, class S>
static int adamw_plain(const cuda_adamw_args &a, bool pieces, int n_sm, gpu_stream stream)
{
    const int64_t most = (int64_t)n_sm * ADAMW_BLOCKS;
    if (pieces)
        return GPU_LAUNCH((adamw<G, S, PIECE>), gpu_grid(a.n, THREADS * PIECE, most), THREADS,
                          stream, a);
    return GPU_LAUNCH((adamw<G, S, 1>), gpu_grid(a.n, THREADS, most), THREADS, stream, a);
}

template <class G>
static int adamw_any(const cuda_adamw_args &a, md_dtype states, bool pieces, int n_sm,
                     gpu_stream stream)
{
    if (states == MD_F32)
        return adamw_plain<G, float>(a, pieces, n_sm, stream);
    if (states == MD_BF16)
        return adamw_plain<G, bf16>(a, pieces, n_sm, stream);
    unsigned grid =
        gpu_grid(a.n, THREADS / GPU_WARP * MD_STATE_BLOCK, (int64_t)n_sm * CODES_BLOCKS);
    if (pieces)
        return GPU_LAUNCH((adamw_codes<G, PIECES>), grid, THREADS, stream, a);
    return GPU_LAUNCH((adamw_codes<G, ONES>), grid, THREADS, stream, a);
}

extern "C" int cuda__adamw_launch(const cuda_adamw_args *a, md_dtype g, md_dtype states, int n_sm,
                                  gpu_stream stream)
{
    bool pieces = in_pieces(a->p, MD_F32) && in_pieces(a->g, g) && in_pieces(a->m, states) &&
                  in_pieces(a->v, states) && in_pieces(a->shadow, MD_BF16);
    return g == MD_BF16 ? adamw_any<bf16>(*a, states, pieces, n_sm, stream)
                        : adamw_any<float>(*a, states, pieces, n_sm, stream);
}
