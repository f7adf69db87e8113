/* softmax.cu on the host against double: rows of odd lengths, longer than the registers hold, large
   logits; what lies behind a row's columns must not count, and what behind the last row must stay.
 */
#include "backend/cuda/softmax.h"
#include "ops_cmocka.h"
#include "ops_test.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 16, BF16_ONE = 0x3f80 };

static double value(uint16_t bits)
{
    uint32_t u = (uint32_t)bits << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* Half a step of bf16 around the true value, and expf's few last bits of f32. */
static void check_row(const float *x, int64_t cols, const uint16_t *p, float lse)
{
    double most = -INFINITY, sum = 0;
    for (int64_t c = 0; c < cols; c++)
        most = fmax(most, x[c]);
    for (int64_t c = 0; c < cols; c++)
        sum += exp(x[c] - most);
    double want = most + log(sum);
    assert_true(fabs(lse - want) <= 1e-6 * fmax(1, fabs(want)));
    for (int64_t c = 0; c < cols; c++) {
        double y = exp(x[c] - most) / sum;
        if (!(fabs(value(p[c]) - y) <= y * (1.0 / 256 + 1e-5) + 1e-37))
            fail_msg("column %lld of %lld: %g, want %g", (long long)c, (long long)cols, value(p[c]),
                     y);
    }
}

static void check(int64_t rows, int64_t cols, int64_t ld, double scale, double offset)
{
    const cuda_device d = {.sm = 90, .n_sm = 3};
    uint64_t seed = (uint64_t)(rows * 1000 + cols);
    float *x = aligned_alloc(64, (size_t)(rows * ld + GUARD) * sizeof *x / 64 * 64 + 64);
    uint16_t *p = aligned_alloc(64, (size_t)(rows * ld + GUARD) * sizeof *p / 64 * 64 + 64);
    float *lse = malloc((size_t)(rows + 1) * sizeof *lse);
    assert_true(x && p && lse);
    for (int64_t i = 0; i < rows * ld; i++)
        x[i] = i % ld < cols ? (float)(offset + scale * op_normal(&seed)) : NAN;
    memset(p, 0xa5, (size_t)(rows * ld + GUARD) * sizeof *p);
    lse[rows] = 77;
    assert_int_equal(cuda__softmax_launch(&d, x, rows, cols, ld, p, lse), 0);
    for (int64_t r = 0; r < rows; r++)
        check_row(x + r * ld, cols, p + r * ld, lse[r]);
    for (int64_t i = 0; i < GUARD; i++)
        assert_int_equal(p[rows * ld + i], 0xa5a5);
    assert_true(lse[rows] == 77);
    free(x);
    free(p);
    free(lse);
}

static void test_shapes(void **state)
{
    (void)state;
    static const int64_t cols[] = {1, 2, 3, 4, 5, 7, 8, 31, 77, 1023, 1025, 4093, 4096, 4097, 9001};
    for (size_t i = 0; i < sizeof cols / sizeof *cols; i++) {
        int64_t ld = (cols[i] + 7) / 8 * 8;
        check(1, cols[i], ld, 1, 0);
        check(5, cols[i], ld, 3, 0);
        check(4, cols[i], ld + 8, 1, -2);
    }
}

static void test_large_logits(void **state)
{
    (void)state;
    check(7, 100, 104, 300, 0);
    check(7, 100, 104, 1, 1e4);
    check(7, 5000, 5000, 1, -1e4);
}

/* The same logits throughout: weights are exact where 1 / columns is. */
static void test_equal(void **state)
{
    (void)state;
    check(3, 4096, 4096, 0, 5);
    const cuda_device d = {.sm = 90, .n_sm = 3};
    _Alignas(16) float x[8] = {-3, NAN, NAN, NAN};
    _Alignas(16) uint16_t p[8];
    float lse;
    assert_int_equal(cuda__softmax_launch(&d, x, 1, 1, 8, p, &lse), 0);
    assert_int_equal(p[0], BF16_ONE);
    assert_true(lse == -3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_large_logits),
        cmocka_unit_test(test_equal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
