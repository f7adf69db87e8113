/* How optimizer states are kept in fewer bits; shared by every backend and by checkpoints' readers.
   bf16: stochastic rounding, without which small updates of v are lost (Gupta et al. 2015).
   u8: blocks of MD_STATE_BLOCK elements with one scale, the largest magnitude, each (block-wise as
   Dettmers et al. 2022, arXiv:2110.02861), codes on a power law in place of their table: m keeps
   its sign and the cube root (the square root loses what is decades below the largest), v the
   fourth root, so that small values keep their precision. v is never rounded to zero: m / sqrt(0)
   would be an arbitrarily large step. */
#ifndef MD_OPS_STATE_H
#define MD_OPS_STATE_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define MD_STATE_FN static __host__ __device__ inline
#else
#define MD_STATE_FN static inline
#endif

enum { MD_STATE_BLOCK = 256 };

/* 32 random bits for element `index` (of m: 2 i, of v: 2 i + 1) at `step` ("lowbias32", C. Wellons,
   over a mix of the three words). In two parts: neighbours share the index's upper word. */
MD_STATE_FN uint32_t md_state_key(uint32_t upper, uint32_t step)
{
    return upper * 0x9e3779b9u ^ step * 0x85ebca6bu;
}

MD_STATE_FN uint32_t md_state_keyed_bits(uint32_t lower, uint32_t key)
{
    uint32_t x = lower ^ key;
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ x >> 16;
}

MD_STATE_FN uint32_t md_state_bits(uint64_t index, uint32_t step)
{
    return md_state_keyed_bits((uint32_t)index, md_state_key((uint32_t)(index >> 32), step));
}

/* The bf16 below or above v (its upper 16 bits), above with the probability of the remainder. v
   must be finite. */
MD_STATE_FN uint16_t md_state_round(float v, uint32_t bits)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return (uint16_t)((u + (bits & 0xffffu)) >> 16);
}

/* Codes are told apart at the boundaries between them, for which an estimate of the root has to be
   right within 0.4 codes only: a backend takes the root as roughly as it likes and gives the codes
   that all give. A boundary is made of products, which no compiler contracts. Below, a block's
   values and scale are multiplied by md_state_lift of the scale: no boundary is subnormal then. */
MD_STATE_FN float md_state_lift(float scale)
{
    return scale < 0x1p-90f ? 0x1p64f : 1.0f;
}

/* Codes of m: 0..254, 127 is zero. scale: the largest |m| of the block; 0: all are zero. */
MD_STATE_FN float md_state_m(uint8_t code, float scale)
{
    float r = (float)((int)code - 127) * (1.0f / 127.0f);
    return scale * r * r * r;
}

MD_STATE_FN float md_state_m_unit(float scale)
{
    return scale * (1.0f / (127.0f * 127.0f * 127.0f));
}

/* m and scale lifted, scale above 0. unit: of the scale; about: 127 cbrt(|m| / scale). */
MD_STATE_FN uint8_t md_state_m_code_near(float m, float unit, float about)
{
    int k = (int)(about < 126.0f ? about : 126.0f);
    float r = (float)k + 0.5f;
    k += fabsf(m) >= unit * r * r * r;
    return (uint8_t)(127 + (m < 0 ? -k : k));
}

/* The cube root of x, 0 to 1, at most 0.0024 off, for less than half of cbrtf's time: its inverse
   from the bits (a third of the exponent), then a step of Newton's. */
MD_STATE_FN float md_state_cbrt(float x)
{
    uint32_t u;
    float z;
    memcpy(&u, &x, sizeof u);
    u = 0x54a223b4u - u / 3;
    memcpy(&z, &u, sizeof z);
    z *= 1.3345f - x * (1.0f / 3.0f) * z * z * z;
    return x * z * z;
}

MD_STATE_FN uint8_t md_state_m_code(float m, float scale)
{
    if (!(scale > 0))
        return 127;
    float lift = md_state_lift(scale), at = m * lift, top = scale * lift;
    return md_state_m_code_near(at, md_state_m_unit(top), 127.0f * md_state_cbrt(fabsf(at) / top));
}

/* Codes of v: 0 is zero, any v above zero gets at least 1. scale: the largest v of the block. */
MD_STATE_FN float md_state_v(uint8_t code, float scale)
{
    float r = (float)code * (1.0f / 255.0f), q = r * r;
    return scale * q * q;
}

MD_STATE_FN float md_state_v_unit(float scale)
{
    return scale * (1.0f / (255.0f * 255.0f * 255.0f * 255.0f));
}

/* As md_state_m_code_near, v at least 0. about: 255 (v / scale)^(1/4). */
MD_STATE_FN uint8_t md_state_v_code_near(float v, float unit, float about)
{
    int k = (int)(about < 254.0f ? about : 254.0f);
    float r = (float)k + 0.5f, q = r * r;
    k += v >= (k > 0 ? unit * q * q : 0x1p-149f);
    return (uint8_t)k;
}

MD_STATE_FN uint8_t md_state_v_code(float v, float scale)
{
    if (!(scale > 0) || !(v > 0))
        return 0;
    float lift = md_state_lift(scale), at = v * lift, top = scale * lift;
    return md_state_v_code_near(at, md_state_v_unit(top), 255.0f * sqrtf(sqrtf(at / top)));
}

#endif
