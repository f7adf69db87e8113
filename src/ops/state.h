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
   over a mix of the three words). */
MD_STATE_FN uint32_t md_state_bits(uint64_t index, uint32_t step)
{
    uint32_t x = (uint32_t)index ^ (uint32_t)(index >> 32) * 0x9e3779b9u ^ step * 0x85ebca6bu;
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ x >> 16;
}

/* The bf16 below or above v (its upper 16 bits), above with the probability of the remainder. v
   must be finite. */
MD_STATE_FN uint16_t md_state_round(float v, uint32_t bits)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return (uint16_t)((u + (bits & 0xffffu)) >> 16);
}

/* Codes of m: 0..254, 127 is zero. scale: the largest |m| of the block; 0: all are zero. */
MD_STATE_FN uint8_t md_state_m_code(float m, float scale)
{
    if (!(scale > 0))
        return 127;
    float r = rintf(127.0f * cbrtf(fminf(fabsf(m) / scale, 1.0f)));
    return (uint8_t)(127 + (int)(m < 0 ? -r : r));
}

MD_STATE_FN float md_state_m(uint8_t code, float scale)
{
    float r = (float)((int)code - 127) * (1.0f / 127.0f);
    return scale * r * r * r;
}

/* Codes of v: 0 is zero, any v above zero gets at least 1. scale: the largest v of the block. */
MD_STATE_FN uint8_t md_state_v_code(float v, float scale)
{
    if (!(scale > 0) || !(v > 0))
        return 0;
    float r = rintf(255.0f * sqrtf(sqrtf(fminf(v / scale, 1.0f))));
    return (uint8_t)(r < 1.0f ? 1.0f : r);
}

MD_STATE_FN float md_state_v(uint8_t code, float scale)
{
    float r = (float)code * (1.0f / 255.0f), q = r * r;
    return scale * q * q;
}

#endif
