/* bf16, the upper half of a float's bits, one value at a time. */
#ifndef MD_BASE_BF16_H
#define MD_BASE_BF16_H

#include <stdint.h>
#include <string.h>

static inline float md_bf16_to_f32(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* To nearest even; a NaN stays one. Without a branch, so that loops over it are vectorized. */
static inline uint16_t md_f32_to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    uint32_t rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16, nan = u >> 16 | 0x40;
    return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

#endif
