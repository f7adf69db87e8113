/* Scalar fields for drawn images: a fast generator, noise octaves, blurs, strokes.
   Everything works on n x n floats that the caller owns and is a pure function of its inputs;
   no call allocates or fails. n is at most FIELD_MAX. */
#ifndef MD_IMAGE_FIELD_H
#define MD_IMAGE_FIELD_H

#include <stdint.h>

#include "base/rng.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { FIELD_MAX = 512 };

/* SplitMix64 (Steele et al., OOPSLA 2014), one multiply chain per draw: pixels need millions of
   draws. It is only ever started from the keyed generator of base/rng.h. */
struct field_rng {
    uint64_t state;
};

struct field_rng field_rng_at(uint64_t seed, md_purpose purpose, uint64_t item);
uint64_t field_bits(struct field_rng *r);
float field_uniform(struct field_rng *r);                       /* [0, 1) */
float field_range(struct field_rng *r, float lo, float hi);     /* [lo, hi) */
float field_log_range(struct field_rng *r, float lo, float hi); /* log-uniform, 0 < lo <= hi */
int field_int(struct field_rng *r, int n);                      /* 0 .. n-1, n >= 1 */
float field_normal(struct field_rng *r); /* mean 0, variance 1; sum of four uniforms */

/* Lattice noise of about unit variance, cubic B-spline interpolated; cx, cy: cell size in pixels
   (>= 1.5). f[n*n] += amplitude * noise. */
void field_add_noise(float *f, int n, struct field_rng *r, float cx, float cy, float amplitude);
/* The same with the lattice turned by `angle`; about five times slower. */
void field_add_noise_turned(float *f, int n, struct field_rng *r, float cx, float cy, float angle,
                            float amplitude);
/* 1/f^a noise: octaves from cell size `coarse` down to `fine` pixels, the amplitude falling as
   cell^slope, `stretch` >= 1 the ratio of the cell's sides along `angle`; then scaled to mean 0,
   variance 1. */
void field_fractal(float *f, int n, struct field_rng *r, float coarse, float fine, float slope,
                   float stretch, float angle);
/* White noise, variance 1, then blurred by `sigma` and scaled back to variance 1. */
void field_grain(float *f, int n, struct field_rng *r, float sigma_x, float sigma_y);
/* Separable Gaussian blur, edges repeated; sigma 0 leaves the direction as it is. */
void field_blur(float *f, int n, float sigma_x, float sigma_y);
/* Mean 0, variance 1 (a constant field becomes 0). */
void field_standardize(float *f, int n);
/* Linear to [0, 1] by the extremes (a constant field becomes 0.5). */
void field_unit(float *f, int n);
/* m[n*n] = max(m, coverage) of the segment (x0,y0)-(x1,y1) of this width, antialiased. */
void field_stroke(float *m, int n, float x0, float y0, float x1, float y1, float width);

/* Smooth step from 0 at lo to 1 at hi. */
static inline float field_step(float lo, float hi, float x)
{
    float t = (x - lo) / (hi - lo);
    t = t < 0.0f ? 0.0f : t > 1.0f ? 1.0f : t;
    return t * t * (3.0f - 2.0f * t);
}

static inline float field_clamp(float x)
{
    return x < 0.0f ? 0.0f : x > 1.0f ? 1.0f : x;
}

#ifdef __cplusplus
}
#endif
#endif
