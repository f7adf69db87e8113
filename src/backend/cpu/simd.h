/* Eight floats at a time. With AVX2 and FMA these are intrinsics, elsewhere plain loops over the
   same eight lanes, so that every kernel above is written once. Fused multiply-add is always asked
   for by name (v_fma): the build switches contraction off, so nothing is fused by accident. */
#ifndef MD_BACKEND_CPU_SIMD_H
#define MD_BACKEND_CPU_SIMD_H

#include "base/bf16.h"
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#define CPU_AVX2 1
#endif

#define VL 8

typedef float vf __attribute__((vector_size(32)));
typedef int32_t vi __attribute__((vector_size(32)));

static inline vf v_load(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void v_store(float *p, vf v)
{
    memcpy(p, &v, sizeof v);
}
static inline vf v_set(float x)
{
    return (vf){x, x, x, x, x, x, x, x};
}
static inline vf v_zero(void)
{
    return (vf){0, 0, 0, 0, 0, 0, 0, 0};
}
static inline vf v_fma(vf a, vf b, vf c)
{
#ifdef CPU_AVX2
    return _mm256_fmadd_ps(a, b, c);
#else
    vf r;
    for (int i = 0; i < VL; i++)
        r[i] = fmaf(a[i], b[i], c[i]);
    return r;
#endif
}
/* max(lo, x), min(hi, x): a NaN in x comes through. */
static inline vf v_max(vf lo, vf x)
{
#ifdef CPU_AVX2
    return _mm256_max_ps(lo, x);
#else
    for (int i = 0; i < VL; i++)
        x[i] = lo[i] > x[i] ? lo[i] : x[i];
    return x;
#endif
}
static inline vf v_min(vf hi, vf x)
{
#ifdef CPU_AVX2
    return _mm256_min_ps(hi, x);
#else
    for (int i = 0; i < VL; i++)
        x[i] = hi[i] < x[i] ? hi[i] : x[i];
    return x;
#endif
}
static inline vf v_sqrt(vf x)
{
#ifdef CPU_AVX2
    return _mm256_sqrt_ps(x);
#else
    for (int i = 0; i < VL; i++)
        x[i] = sqrtf(x[i]);
    return x;
#endif
}
/* a where m has all bits set, b where none */
static inline vf v_select(vi m, vf a, vf b)
{
    return (vf)((m & (vi)a) | (~m & (vi)b));
}
static inline vf v_abs(vf x)
{
    return (vf)((vi)x & (0x7fffffff - (vi){0}));
}
/* The sum in a fixed order. */
static inline float v_sum(vf v)
{
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}
static inline float v_hmax(vf v)
{
    float m = v[0];
    for (int i = 1; i < VL; i++)
        m = v[i] > m ? v[i] : m;
    return m;
}

/* The first n (1..8) of eight; the others are zero and untouched in memory. */
#ifdef CPU_AVX2
static inline __m256i v_mask_(int n)
{
    static const int32_t bits[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
    return _mm256_loadu_si256((const __m256i *)(const void *)(bits + 8 - n));
}
#endif
static inline vf v_load_n(const float *p, int n)
{
#ifdef CPU_AVX2
    return _mm256_maskload_ps(p, v_mask_(n));
#else
    vf v = v_zero();
    for (int i = 0; i < n; i++)
        v[i] = p[i];
    return v;
#endif
}
static inline void v_store_n(float *p, vf v, int n)
{
#ifdef CPU_AVX2
    _mm256_maskstore_ps(p, v_mask_(n), v);
#else
    for (int i = 0; i < n; i++)
        p[i] = v[i];
#endif
}

/* Element i and the seven after it of an array of floats, or of bf16 where `half`; v_get_n and
   v_put_n touch the first n only. v_put rounds to nearest even, a NaN stays one. */
static inline vf v_get(const void *p, bool half, int64_t i)
{
    if (!half)
        return v_load((const float *)p + i);
    const uint16_t *h = (const uint16_t *)p + i;
#ifdef CPU_AVX2
    __m128i x = _mm_loadu_si128((const __m128i *)(const void *)h);
    return (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16);
#else
    vf v;
    for (int k = 0; k < VL; k++)
        v[k] = md_bf16_to_f32(h[k]);
    return v;
#endif
}
static inline vf v_get_n(const void *p, bool half, int64_t i, int n)
{
    if (n == VL)
        return v_get(p, half, i);
    if (!half)
        return v_load_n((const float *)p + i, n);
    vf v = v_zero();
    for (int k = 0; k < n; k++)
        v[k] = md_bf16_to_f32(((const uint16_t *)p)[i + k]);
    return v;
}
static inline void v_put(void *p, bool half, int64_t i, vf v)
{
    if (!half) {
        v_store((float *)p + i, v);
        return;
    }
    uint16_t *h = (uint16_t *)p + i;
#ifdef CPU_AVX2
    vi u = (vi)v, bits = (vi)_mm256_srli_epi32((__m256i)u, 16);
    vi rounded = (vi)_mm256_srli_epi32((__m256i)(u + 0x7fff + (bits & 1)), 16);
    vi r = (vi)v_select(v != v, (vf)(bits | 0x40), (vf)rounded);
    __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32((__m256i)r, (__m256i)r), 0x08);
    _mm_storeu_si128((__m128i *)(void *)h, _mm256_castsi256_si128(packed));
#else
    for (int k = 0; k < VL; k++)
        h[k] = md_f32_to_bf16(v[k]);
#endif
}
static inline void v_put_n(void *p, bool half, int64_t i, vf v, int n)
{
    if (n == VL)
        v_put(p, half, i, v);
    else if (!half)
        v_store_n((float *)p + i, v, n);
    else
        for (int k = 0; k < n; k++)
            ((uint16_t *)p)[i + k] = md_f32_to_bf16(v[k]);
}

/* Row i of eight becomes column i. */
static inline void v_transpose(vf r[VL])
{
#ifdef CPU_AVX2
    __m256 t[VL];
    for (int i = 0; i < VL; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < VL; i += 4) {
        r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
        t[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
    }
    for (int i = 0; i < VL; i++)
        r[i] = t[i];
#else
    for (int i = 0; i < VL; i++)
        for (int j = 0; j < i; j++) {
            float x = r[i][j];
            r[i][j] = r[j][i];
            r[j][i] = x;
        }
#endif
}

/* e^x: overflows to infinity, underflows gradually to 0, NaN stays NaN. x = n ln2 + r with
   |r| <= ln2/2, a polynomial for e^r, 2^n in two factors. Below 1.5 ulp. */
static inline vf v_exp(vf x)
{
    x = v_max(v_set(-104.0f), v_min(v_set(89.0f), x));
    vf nf = x * v_set(1.44269504088896341f);
    const vf magic = v_set(12582912.0f);
    vf t = nf + magic;
    vi n = (vi)t - (vi)magic;
    nf = t - magic;
    vf r = v_fma(nf, v_set(-0.693359375f), x);
    r = v_fma(nf, v_set(2.12194440054690583e-4f), r);
    vf p = v_set(1.394175165e-03f); /* least maximum error on the interval: 3.2e-9 */
    p = v_fma(p, r, v_set(8.368768118e-03f));
    p = v_fma(p, r, v_set(4.166638985e-02f));
    p = v_fma(p, r, v_set(1.666652024e-01f));
    p = v_fma(p, r, v_set(0.5f));
    p = v_fma(p, r * r, r) + v_set(1.0f);
    vi half = n >> 1, rest = n - half;
    return p * (vf)((half + 127) << 23) * (vf)((rest + 127) << 23);
}

/* 2^t for -126 <= t <= 126 after clamping, NaN stays NaN. Relative error 1.5e-7: for softmax and
   sigmoid, where what lies beyond the clamp is far below the last bit of the result. */
static inline vf v_exp2_fast(vf t)
{
    const vf magic = v_set(12582912.0f);
    t = v_max(v_set(-126.0f), v_min(v_set(126.0f), t));
    vf u = t + magic, f = t - (u - magic);
    vf p = v_set(1.340734562e-03f); /* least maximum error on [-0.5, 0.5]: 9.3e-8 */
    p = v_fma(p, f, v_set(9.671941410e-03f));
    p = v_fma(p, f, v_set(5.550308121e-02f));
    p = v_fma(p, f, v_set(2.402223360e-01f));
    p = v_fma(p, f, v_set(6.931472150e-01f));
    p = v_fma(p, f, v_set(1.0f));
    return p * (vf)(((vi)u + 127) << 23); /* the shift drops all of magic's bits */
}
#define CPU_LOG2E 1.44269504088896341f

/* 1 / (1 + e^-x) */
static inline vf v_sigmoid(vf x)
{
    return v_set(1.0f) / (v_set(1.0f) + v_exp2_fast(x * v_set(-CPU_LOG2E)));
}

/* Near 0 an odd polynomial, beyond 1 as 1 - e^-q(|x|); fitted by us, maximum error 1e-9 before
   rounding. */
static inline vf v_erf(vf x)
{
    vf s = x * x;
    vf p = v_set(7.853857971e-05f);
    p = v_fma(p, s, v_set(-8.010193219e-04f));
    p = v_fma(p, s, v_set(5.188327726e-03f));
    p = v_fma(p, s, v_set(-2.685381202e-02f));
    p = v_fma(p, s, v_set(1.128358515e-01f));
    p = v_fma(p, s, v_set(-3.761262583e-01f));
    p = v_fma(p, s, v_set(1.283791657e-01f));
    vf near = v_fma(p, x, x);
    vf t = v_min(v_set(4.1f), v_abs(x)); /* erfc(4.1) is below half an ulp of 1 */
    vf q = v_set(-1.855756761e-04f);
    q = v_fma(q, t, v_set(2.939623697e-03f));
    q = v_fma(q, t, v_set(-2.180538417e-02f));
    q = v_fma(q, t, v_set(1.030375070e-01f));
    q = v_fma(q, t, v_set(6.382255171e-01f));
    q = v_fma(q, t, v_set(1.127040133e+00f));
    q = v_fma(q, t, v_set(3.536953771e-04f));
    vf far = v_set(1.0f) - v_exp(-q);
    vi sign = (vi)x & (int32_t)0x80000000;
    return v_select(t > v_set(1.0f), (vf)((vi)far | sign), near);
}

#endif
