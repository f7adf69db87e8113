#include "pixels.h"

#include <stdlib.h>

#include "base/rng.h"

slot_pixels pixels_make(int side, int slot, int attempt)
{
    size_t n = (size_t)side * (size_t)side;
    slot_pixels p = {malloc(3 * n), malloc(n), malloc(n)};
    if (!p.image || !p.mask || !p.guide)
        abort();
    md_rng r = md_rng_at(1, MD_RNG_TEST, (uint64_t)slot, (uint32_t)attempt);
    for (size_t i = 0; i < 3 * n; i++)
        p.image[i] = (uint8_t)md_rng_u32(&r);
    for (size_t i = 0; i < n; i++) {
        p.guide[i] = md_rng_u32(&r) & 1;
        p.mask[i] = p.guide[i] & (md_rng_u32(&r) & 1);
    }
    return p;
}

void pixels_free(slot_pixels *p)
{
    free(p->image);
    free(p->mask);
    free(p->guide);
}
