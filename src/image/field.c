/* Noise octaves, blurs and strokes on square float fields. */
#include "image/field.h"

#include "base/rng.h"

#include <math.h>
#include <string.h>

struct field_rng field_rng_at(uint64_t seed, md_purpose purpose, uint64_t item)
{
    md_rng g = md_rng_at(seed, purpose, item, 0);
    uint64_t high = md_rng_u32(&g);
    return (struct field_rng){high << 32 | md_rng_u32(&g)};
}

uint64_t field_bits(struct field_rng *r)
{
    uint64_t z = r->state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

float field_uniform(struct field_rng *r)
{
    return (float)(field_bits(r) >> 40) * 0x1p-24f;
}

float field_range(struct field_rng *r, float lo, float hi)
{
    return lo + (hi - lo) * field_uniform(r);
}

float field_log_range(struct field_rng *r, float lo, float hi)
{
    return lo * powf(hi / lo, field_uniform(r));
}

int field_int(struct field_rng *r, int n)
{
    return (int)((field_bits(r) >> 33) % (uint64_t)n);
}

float field_normal(struct field_rng *r)
{
    uint64_t b = field_bits(r);
    int32_t sum = (int32_t)(b & 0xffff) + (int32_t)(b >> 16 & 0xffff) +
                  (int32_t)(b >> 32 & 0xffff) + (int32_t)(b >> 48);
    return ((float)sum - 131070.0f) * (1.7320508f / 65536.0f); /* 4 uniforms: variance 4/12 */
}

/* Cubic B-spline weights at phase t in [0,1). */
static void spline(float t, float w[4])
{
    float u = 1.0f - t;
    w[0] = u * u * u * (1.0f / 6.0f);
    w[1] = (3.0f * t * t * t - 6.0f * t * t + 4.0f) * (1.0f / 6.0f);
    w[2] = (3.0f * u * u * u - 6.0f * u * u + 4.0f) * (1.0f / 6.0f);
    w[3] = t * t * t * (1.0f / 6.0f);
}

/* The spline averages neighbours, which leaves 0.23 of a white lattice's variance. */
#define SPLINE_GAIN 2.08f

void field_add_noise(float *f, int n, struct field_rng *r, float cx, float cy, float amplitude)
{
    float row[4][FIELD_MAX], w[FIELD_MAX][4];
    int at[FIELD_MAX];
    float lattice[FIELD_MAX + 8];
    float ox = field_uniform(r), oy = field_uniform(r);
    for (int x = 0; x < n; x++) {
        float p = (float)x / cx + ox;
        at[x] = (int)p;
        spline(p - (float)at[x], w[x]);
    }
    int columns = at[n - 1] + 4, filled = 0; /* lattice rows made so far */
    for (int y = 0; y < n; y++) {
        float p = (float)y / cy + oy, v[4];
        int top = (int)p;
        for (; filled < top + 4; filled++) { /* a new lattice row, spread along x */
            for (int i = 0; i < columns; i++)
                lattice[i] = field_normal(r);
            float *out = row[filled & 3];
            for (int x = 0; x < n; x++) {
                const float *l = lattice + at[x];
                out[x] = w[x][0] * l[0] + w[x][1] * l[1] + w[x][2] * l[2] + w[x][3] * l[3];
            }
        }
        spline(p - (float)top, v);
        for (int k = 0; k < 4; k++)
            v[k] *= amplitude * SPLINE_GAIN;
        const float *a = row[top & 3], *b = row[(top + 1) & 3], *c = row[(top + 2) & 3],
                    *d = row[(top + 3) & 3];
        float *out = f + (size_t)y * (size_t)n;
        for (int x = 0; x < n; x++)
            out[x] += v[0] * a[x] + v[1] * b[x] + v[2] * c[x] + v[3] * d[x];
    }
}

/* A lattice value from its place, so that a turned lattice needs no storage. */
static float hashed(uint64_t key, int x, int y)
{
    struct field_rng r = {key + (uint64_t)(uint32_t)x * 0x9E3779B97F4A7C15u +
                          (uint64_t)(uint32_t)y * 0xC2B2AE3D27D4EB4Fu};
    return field_normal(&r);
}

void field_add_noise_turned(float *f, int n, struct field_rng *r, float cx, float cy, float angle,
                            float amplitude)
{
    enum { SIDE = 64 }; /* a wrapped table: 64 cells before it repeats, never seen at these sizes */
    float table[SIDE * SIDE];
    uint64_t key = field_bits(r);
    float half = 0.75f * (float)n;
    int used_x = (int)(2.0f * half / cx) + 6, used_y = (int)(2.0f * half / cy) + 6;
    used_x = used_x < SIDE ? used_x : SIDE;
    used_y = used_y < SIDE ? used_y : SIDE;
    for (int y = 0; y < used_y; y++)
        for (int x = 0; x < used_x; x++)
            table[y * SIDE + x] = hashed(key, x, y);
    float c = cosf(angle), s = sinf(angle), mid = 0.5f * (float)n;
    for (int y = 0; y < n; y++) {
        for (int x = 0; x < n; x++) {
            float dx = (float)x - mid, dy = (float)y - mid;
            float u = (c * dx + s * dy + half) / cx, v = (c * dy - s * dx + half) / cy;
            int iu = (int)u, iv = (int)v;
            float wu[4], wv[4], sum = 0.0f;
            spline(u - (float)iu, wu);
            spline(v - (float)iv, wv);
            for (int j = 0; j < 4; j++) {
                const float *t = table + ((iv + j) & (SIDE - 1)) * SIDE;
                sum +=
                    wv[j] * (wu[0] * t[iu & (SIDE - 1)] + wu[1] * t[(iu + 1) & (SIDE - 1)] +
                             wu[2] * t[(iu + 2) & (SIDE - 1)] + wu[3] * t[(iu + 3) & (SIDE - 1)]);
            }
            f[(size_t)y * (size_t)n + (size_t)x] += amplitude * SPLINE_GAIN * sum;
        }
    }
}

void field_fractal(float *f, int n, struct field_rng *r, float coarse, float fine, float slope,
                   float stretch, float angle)
{
    memset(f, 0, sizeof *f * (size_t)n * (size_t)n);
    float quarter = fabsf(sinf(2.0f * angle)); /* 0 along an axis */
    float root = sqrtf(stretch);
    for (float cell = coarse; cell >= fine * 0.99f; cell *= 0.5f) {
        float amplitude = powf(cell / coarse, slope);
        float longer = fmaxf(cell * root, 1.5f), shorter = fmaxf(cell / root, 1.5f);
        if (stretch < 1.05f || quarter < 0.02f) {
            int upright = stretch >= 1.05f && fabsf(sinf(angle)) > 0.7f;
            field_add_noise(f, n, r, upright ? shorter : longer, upright ? longer : shorter,
                            amplitude);
        } else {
            field_add_noise_turned(f, n, r, fmaxf(longer, 3.2f), fmaxf(shorter, 1.6f), angle,
                                   amplitude);
        }
    }
    field_standardize(f, n);
}

void field_grain(float *f, int n, struct field_rng *r, float sigma_x, float sigma_y)
{
    for (int i = 0; i < n * n; i++)
        f[i] = field_normal(r);
    if (sigma_x > 0.0f || sigma_y > 0.0f) {
        field_blur(f, n, sigma_x, sigma_y);
        field_standardize(f, n);
    }
}

enum { GAUSS_MAX = 128 }; /* widest kernel, half of it: sigma up to 50 */

static int gauss(float sigma, float w[GAUSS_MAX])
{
    int radius = (int)ceilf(2.5f * sigma);
    radius = radius >= GAUSS_MAX ? GAUSS_MAX - 1 : radius;
    float sum = 0.0f;
    for (int i = 0; i <= radius; i++) {
        w[i] = expf(-0.5f * (float)(i * i) / (sigma * sigma));
        sum += i ? 2.0f * w[i] : w[i];
    }
    for (int i = 0; i <= radius; i++)
        w[i] /= sum;
    return radius;
}

static void blur_rows(float *f, int n, float sigma)
{
    float w[GAUSS_MAX], line[FIELD_MAX + 2 * GAUSS_MAX];
    int radius = gauss(sigma, w);
    for (int y = 0; y < n; y++) {
        float *row = f + (size_t)y * (size_t)n;
        for (int x = -radius; x < n + radius; x++)
            line[x + radius] = row[x < 0 ? 0 : x >= n ? n - 1 : x];
        for (int x = 0; x < n; x++)
            row[x] = w[0] * line[x + radius];
        for (int k = 1; k <= radius; k++)
            for (int x = 0; x < n; x++)
                row[x] += w[k] * (line[x + radius - k] + line[x + radius + k]);
    }
}

/* Columns in stripes, so that the inner loop runs along memory. */
static void blur_columns(float *f, int n, float sigma)
{
    enum { STRIPE = 16 };
    float w[GAUSS_MAX], line[FIELD_MAX + 2 * GAUSS_MAX][STRIPE];
    int radius = gauss(sigma, w);
    for (int x0 = 0; x0 < n; x0 += STRIPE) {
        int width = n - x0 < STRIPE ? n - x0 : STRIPE;
        for (int y = -radius; y < n + radius; y++) {
            const float *row = f + (size_t)(y < 0 ? 0 : y >= n ? n - 1 : y) * (size_t)n + x0;
            memset(line[y + radius], 0, sizeof line[0]);
            memcpy(line[y + radius], row, sizeof *row * (size_t)width);
        }
        for (int y = 0; y < n; y++) {
            float sum[STRIPE];
            for (int i = 0; i < STRIPE; i++)
                sum[i] = w[0] * line[y + radius][i];
            for (int k = 1; k <= radius; k++)
                for (int i = 0; i < STRIPE; i++)
                    sum[i] += w[k] * (line[y + radius - k][i] + line[y + radius + k][i]);
            memcpy(f + (size_t)y * (size_t)n + x0, sum, sizeof *sum * (size_t)width);
        }
    }
}

void field_blur(float *f, int n, float sigma_x, float sigma_y)
{
    if (sigma_x > 0.05f)
        blur_rows(f, n, sigma_x);
    if (sigma_y > 0.05f)
        blur_columns(f, n, sigma_y);
}

void field_standardize(float *f, int n)
{
    double sum = 0.0, square = 0.0;
    int count = n * n;
    for (int i = 0; i < count; i++) {
        sum += (double)f[i];
        square += (double)f[i] * (double)f[i];
    }
    double mean = sum / count, variance = square / count - mean * mean;
    float scale = variance > 1e-12 ? (float)(1.0 / sqrt(variance)) : 0.0f;
    for (int i = 0; i < count; i++)
        f[i] = (f[i] - (float)mean) * scale;
}

void field_unit(float *f, int n)
{
    float lo = f[0], hi = f[0];
    for (int i = 1; i < n * n; i++) {
        lo = fminf(lo, f[i]);
        hi = fmaxf(hi, f[i]);
    }
    for (int i = 0; i < n * n; i++)
        f[i] = hi > lo ? (f[i] - lo) / (hi - lo) : 0.5f;
}

void field_stroke(float *m, int n, float x0, float y0, float x1, float y1, float width)
{
    float reach = 0.5f * width + 1.0f, dx = x1 - x0, dy = y1 - y0;
    float square = dx * dx + dy * dy;
    int left = (int)floorf(fminf(x0, x1) - reach), right = (int)ceilf(fmaxf(x0, x1) + reach);
    int top = (int)floorf(fminf(y0, y1) - reach), bottom = (int)ceilf(fmaxf(y0, y1) + reach);
    left = left < 0 ? 0 : left;
    top = top < 0 ? 0 : top;
    right = right > n - 1 ? n - 1 : right;
    bottom = bottom > n - 1 ? n - 1 : bottom;
    for (int y = top; y <= bottom; y++) {
        for (int x = left; x <= right; x++) {
            float px = (float)x - x0, py = (float)y - y0;
            float t = square > 0.0f ? field_clamp((px * dx + py * dy) / square) : 0.0f;
            float ex = px - t * dx, ey = py - t * dy;
            float cover = field_clamp(0.5f * width + 0.5f - sqrtf(ex * ex + ey * ey));
            cover = fminf(cover, fminf(width, 1.0f)); /* a hair thinner than a pixel is fainter */
            float *p = m + (size_t)y * (size_t)n + (size_t)x;
            *p = *p < cover ? cover : *p;
        }
    }
}
