#include "base/rng.h"

#include <math.h>
#include <string.h>

static uint32_t mul_hi_lo(uint32_t a, uint32_t b, uint32_t *lo)
{
    uint64_t p = (uint64_t)a * b;
    *lo = (uint32_t)p;
    return (uint32_t)(p >> 32);
}

void md_philox4x32_10(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint32_t lo0, lo1;
        uint32_t hi0 = mul_hi_lo(0xD2511F53u, c0, &lo0);
        uint32_t hi1 = mul_hi_lo(0xCD9E8D57u, c2, &lo1);
        c0 = hi1 ^ c1 ^ k0;
        c1 = lo1;
        c2 = hi0 ^ c3 ^ k1;
        c3 = lo0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

md_rng md_rng_at(uint64_t seed, md_purpose purpose, uint64_t item, uint32_t attempt)
{
    md_rng r = {.key = {(uint32_t)seed, (uint32_t)(seed >> 32)},
                .counter = {0, (uint32_t)item, (uint32_t)(item >> 32),
                            attempt ^ ((uint32_t)purpose << 24)}};
    return r;
}

uint32_t md_rng_u32(md_rng *r)
{
    if (r->n_left == 0) {
        md_philox4x32_10(r->counter, r->key, r->word);
        r->counter[0]++;
        r->n_left = 4;
    }
    return r->word[4 - r->n_left--];
}

static uint64_t next_u64(md_rng *r)
{
    uint64_t hi = md_rng_u32(r);
    return hi << 32 | md_rng_u32(r);
}

double md_rng_uniform(md_rng *r)
{
    return (double)(next_u64(r) >> 11) * 0x1p-53;
}

int64_t md_rng_below(md_rng *r, int64_t n)
{
    if (n <= 1)
        return 0;
    uint64_t range = (uint64_t)n;
    uint64_t reject_from = UINT64_MAX - UINT64_MAX % range; /* a multiple of range */
    uint64_t x;
    do {
        x = next_u64(r);
    } while (x >= reject_from);
    return (int64_t)(x % range);
}

double md_rng_range(md_rng *r, double lo, double hi)
{
    double x = lo + (hi - lo) * md_rng_uniform(r);
    return x < hi ? x : lo; /* rounding may reach hi */
}

/* Natural logarithm of a positive normal double, error below 1 ulp (the scheme of fdlibm's e_log.c:
   x = 2^k (1+f), s = f/(2+f), log(1+f) = f - (hfsq - s (hfsq + R(s^2)))). */
static double own_log(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int k = (int)(bits >> 52) - 1023;
    bits = (bits & 0xFFFFFFFFFFFFFu) | 0x3FF0000000000000u;
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        k++;
    }
    double f = m - 1.0, s = f / (2.0 + f), z = s * s, w = z * z;
    double even = w * (3.999999999940941908e-01 +
                       w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01));
    double odd = z * (6.666666666666735130e-01 +
                      w * (2.857142874366239149e-01 +
                           w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01)));
    double half_square = 0.5 * f * f;
    return k * 6.93147180369123816490e-01 -
           ((half_square - (s * (half_square + even + odd) + k * 1.90821492927058770002e-10)) - f);
}

/* sin and cos of 2 pi u, 0 <= u < 1: the quarter turn nearest to u is exact, the rest lies within
   pi/4 and takes fdlibm's kernels (k_sin.c, k_cos.c). */
static void own_sincos_turn(double u, double *sine, double *cosine)
{
    double quarters = floor(4.0 * u + 0.5);
    double x = (4.0 * u - quarters) * 1.57079632679489661923;
    double z = x * x;
    double s =
        x +
        x * z *
            (-1.66666666666666324348e-01 +
             z * (8.33333333332248946124e-03 +
                  z * (-1.98412698298579493134e-04 +
                       z * (2.75573137070700676789e-06 +
                            z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)))));
    double c =
        1.0 - 0.5 * z +
        z * z *
            (4.16666666666666019037e-02 +
             z * (-1.38888888888741095749e-03 +
                  z * (2.48015872894767294178e-05 +
                       z * (-2.75573143513906633035e-07 +
                            z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11)))));
    switch ((int)quarters & 3) {
    case 0:
        *sine = s;
        *cosine = c;
        break;
    case 1:
        *sine = c;
        *cosine = -s;
        break;
    case 2:
        *sine = -s;
        *cosine = -c;
        break;
    default:
        *sine = -c;
        *cosine = s;
    }
}

static void box_muller(double u1, double u2, double *a, double *b)
{
    double radius = sqrt(-2.0 * own_log(u1)), sine, cosine;
    own_sincos_turn(u2, &sine, &cosine);
    *a = radius * cosine;
    *b = radius * sine;
}

double md_rng_normal(md_rng *r)
{
    double u1 = 1.0 - md_rng_uniform(r), a, b; /* (0,1] */
    double u2 = md_rng_uniform(r);
    box_muller(u1, u2, &a, &b);
    return a;
}

void md_rng_normal_fill(md_rng *r, float *out, int64_t n)
{
    r->n_left = 0; /* start at a block, so that a fill does not depend on odd draws before it */
    for (int64_t i = 0; i < n; i += 4) {
        double v[4];
        for (int j = 0; j < 4; j += 2) {
            double u1 = ((double)md_rng_u32(r) + 0.5) * 0x1p-32;
            double u2 = (double)md_rng_u32(r) * 0x1p-32;
            box_muller(u1, u2, &v[j], &v[j + 1]);
        }
        for (int j = 0; j < 4 && i + j < n; j++)
            out[i + j] = (float)v[j];
    }
}
