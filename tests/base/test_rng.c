/* Philox against the published vectors, the distributions, and the bits that must never change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"

#include <math.h>
#include <string.h>

/* kat_vectors of Random123 1.14, the lines "philox4x32 10": counter, key, result. */
static void published_vectors(void **state)
{
    (void)state;
    static const uint32_t rows[3][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d,
         0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09,
         0x94fdcceb, 0x5001e420, 0x24126ea1},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        md_philox4x32_10(rows[i], rows[i] + 4, out);
        assert_memory_equal(out, rows[i] + 6, sizeof out);
    }
}

static void keys_do_not_share_numbers(void **state)
{
    (void)state;
    const struct {
        uint64_t seed;
        md_purpose purpose;
        uint64_t item;
        uint32_t attempt;
    } keys[] = {{1, MD_RNG_INIT, 0, 0},          {2, MD_RNG_INIT, 0, 0},
                {1ull << 40, MD_RNG_INIT, 0, 0}, {1, MD_RNG_TEST, 0, 0},
                {1, MD_RNG_INIT, 1, 0},          {1, MD_RNG_INIT, 1ull << 33, 0},
                {1, MD_RNG_INIT, 0, 1},          {1, MD_RNG_TRAIN_ORDER, 0, 1}};
    enum { N = sizeof keys / sizeof *keys };
    uint32_t first[N];
    for (int i = 0; i < N; i++) {
        md_rng r = md_rng_at(keys[i].seed, keys[i].purpose, keys[i].item, keys[i].attempt);
        first[i] = md_rng_u32(&r);
        md_rng again = md_rng_at(keys[i].seed, keys[i].purpose, keys[i].item, keys[i].attempt);
        assert_int_equal(first[i], md_rng_u32(&again));
        for (int j = 0; j < i; j++)
            assert_int_not_equal(first[i], first[j]);
    }
}

/* A stream is the function's blocks one after the other. */
static void stream_counts_blocks(void **state)
{
    (void)state;
    md_rng r = md_rng_at(0x1122334455667788u, MD_RNG_MASK, 0x99aabbccddeeff00u, 3);
    for (uint32_t block = 0; block < 3; block++) {
        uint32_t counter[4] = {block, 0xddeeff00u, 0x99aabbccu, 3u | (uint32_t)MD_RNG_MASK << 24};
        uint32_t key[2] = {0x55667788u, 0x11223344u}, out[4];
        md_philox4x32_10(counter, key, out);
        for (int i = 0; i < 4; i++)
            assert_int_equal(md_rng_u32(&r), out[i]);
    }
}

static void uniform_and_range(void **state)
{
    (void)state;
    md_rng r = md_rng_at(7, MD_RNG_TEST, 0, 0);
    double sum = 0, square = 0;
    enum { N = 100000 };
    for (int i = 0; i < N; i++) {
        double x = md_rng_uniform(&r);
        assert_true(x >= 0 && x < 1);
        sum += x;
        square += x * x;
    }
    assert_true(fabs(sum / N - 0.5) < 0.004); /* 4 sigma */
    assert_true(fabs(square / N - 1.0 / 3) < 0.004);
    for (int i = 0; i < 1000; i++) {
        double x = md_rng_range(&r, -2, 0.5);
        assert_true(x >= -2 && x < 0.5);
    }
}

static void below_is_even(void **state)
{
    (void)state;
    md_rng r = md_rng_at(8, MD_RNG_TEST, 0, 0);
    int count[7] = {0};
    for (int i = 0; i < 70000; i++)
        count[md_rng_below(&r, 7)]++;
    for (int i = 0; i < 7; i++)
        assert_in_range(count[i], 9600, 10400); /* 4 sigma = 370 */
    for (int i = 0; i < 100; i++) {
        int64_t big = md_rng_below(&r, INT64_MAX);
        assert_true(big >= 0 && big < INT64_MAX);
    }
    assert_int_equal(md_rng_below(&r, 1), 0);
    assert_int_equal(md_rng_below(&r, 0), 0);
}

/* Kolmogorov-Smirnov by histogram against erf, tails included. */
static void normals_are_normal(void **state)
{
    (void)state;
    enum { N = 200000, CELLS = 64 };
    static float x[N];
    md_rng r = md_rng_at(9, MD_RNG_TEST, 0, 0);
    md_rng_normal_fill(&r, x, N);
    int count[CELLS] = {0};
    double sum = 0, square = 0, neighbours = 0;
    for (int i = 0; i < N; i++) {
        sum += (double)x[i];
        square += (double)x[i] * (double)x[i];
        neighbours += (double)x[i] * (double)x[(i + 1) % N];
        int cell = (int)floor(((double)x[i] + 4) / 8 * CELLS);
        count[cell < 0 ? 0 : cell >= CELLS ? CELLS - 1 : cell]++;
    }
    assert_true(fabs(sum / N) < 4 / sqrt(N));
    assert_true(fabs(square / N - 1) < 4 * sqrt(2.0 / N));
    assert_true(fabs(neighbours / N) < 4 / sqrt(N));
    double seen = 0;
    for (int cell = 0; cell < CELLS - 1; cell++) {
        seen += count[cell];
        double want = 0.5 * (1 + erf((-4 + 8.0 * (cell + 1) / CELLS) / sqrt(2)));
        assert_true(fabs(seen / N - want) < 1.95 / sqrt(N)); /* 0.1 % level */
    }
    double other = 0, other_square = 0;
    for (int i = 0; i < N; i++) {
        double v = md_rng_normal(&r);
        other += v;
        other_square += v * v;
    }
    assert_true(fabs(other / N) < 4 / sqrt(N));
    assert_true(fabs(other_square / N - 1) < 4 * sqrt(2.0 / N));
}

/* Our logarithm and sine against the C library's, through the function that uses them. */
static void normal_equals_the_formula(void **state)
{
    (void)state;
    for (uint64_t item = 0; item < 2000; item++) {
        md_rng a = md_rng_at(10, MD_RNG_TEST, item, 0), b = a;
        double u1 = 1.0 - md_rng_uniform(&a), u2 = md_rng_uniform(&a);
        double want = sqrt(-2 * log(u1)) * cos(6.283185307179586476925 * u2);
        double got = md_rng_normal(&b);
        assert_true(fabs(got - want) <= 4e-15 * fmax(1, fabs(want)));
    }
}

/* Every stored result depends on these bits: they must be the same everywhere and for ever. */
static void frozen_bits(void **state)
{
    (void)state;
    md_rng r = md_rng_at(42, MD_RNG_SAMPLE_NOISE, 17, 2);
    float x[5];
    md_rng_normal_fill(&r, x, 5);
    uint32_t bits[5];
    memcpy(bits, x, sizeof bits);
    static const uint32_t want[5] = {0xbf8c92fb, 0x3f3c1efd, 0x3e39f684, 0x4019a7b7, 0x3fc24666};
    assert_memory_equal(bits, want, sizeof bits);
}

static void a_longer_fill_begins_as_a_shorter_one(void **state)
{
    (void)state;
    float a[7], b[16];
    md_rng r = md_rng_at(3, MD_RNG_TEST, 0, 0), s = r;
    (void)md_rng_u32(&s); /* a fill starts at a whole block */
    md_rng_normal_fill(&r, a, 7);
    md_rng_normal_fill(&s, b, 16);
    float c[16];
    md_rng t = md_rng_at(3, MD_RNG_TEST, 0, 0);
    md_rng_normal_fill(&t, c, 16);
    assert_memory_equal(a, c, sizeof a);
    assert_memory_not_equal(b, c, sizeof b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_vectors),
        cmocka_unit_test(keys_do_not_share_numbers),
        cmocka_unit_test(stream_counts_blocks),
        cmocka_unit_test(uniform_and_range),
        cmocka_unit_test(below_is_even),
        cmocka_unit_test(normals_are_normal),
        cmocka_unit_test(normal_equals_the_formula),
        cmocka_unit_test(frozen_bits),
        cmocka_unit_test(a_longer_fill_begins_as_a_shorter_one),
    };
    return cmocka_run_group_tests_name("base/rng", tests, NULL, NULL);
}
