/* Learning-rate schedules against their closed forms. */
#include "train/lr.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-15))
        fail_msg("%.17g, wanted %.17g", got, want);
}

static void test_constant(void **state)
{
    (void)state;
    for (int k = 0; k < 10; k++)
        near(train_lr_at(TRAIN_LR_CONSTANT, 0.25, 0.5, 3, 0, 10, k), 0.25);
}

/* A rise that never is 0: step k of w has (k + 1) / (w + 1) of the peak. */
static void test_warmup(void **state)
{
    (void)state;
    for (int rule = TRAIN_LR_CONSTANT; rule <= TRAIN_LR_RESTARTS; rule++) {
        for (int k = 0; k < 4; k++)
            near(train_lr_at((train_lr_rule)rule, 1, 0, 3, 4, 20, k), (k + 1) / 5.0);
        near(train_lr_at((train_lr_rule)rule, 1, 0, 3, 4, 20, 4), 1);
    }
    near(train_lr_at(TRAIN_LR_LINEAR, 1, 0, 3, 100, 20, 19),
         20 / 101.0); /* warm-up is all there is */
}

static void test_linear(void **state)
{
    (void)state;
    for (int k = 0; k <= 10; k++)
        near(train_lr_at(TRAIN_LR_LINEAR, 2, 0.1, 3, 2, 13, 2 + k),
             2 * (0.1 + 0.9 * (1 - k / 10.0)));
    near(train_lr_at(TRAIN_LR_LINEAR, 2, 0, 3, 2, 13, 12), 0);
    near(train_lr_at(TRAIN_LR_LINEAR, 2, 0, 3, 2, 13, 99), 0); /* never below */
}

static void test_cosine(void **state)
{
    (void)state;
    near(train_lr_at(TRAIN_LR_COSINE, 1, 0, 3, 0, 13, 0), 1);
    near(train_lr_at(TRAIN_LR_COSINE, 1, 0, 3, 0, 13, 4), 0.75); /* cos 60 degrees */
    near(train_lr_at(TRAIN_LR_COSINE, 1, 0, 3, 0, 13, 6), 0.5);
    near(train_lr_at(TRAIN_LR_COSINE, 1, 0, 3, 0, 13, 8), 0.25);
    near(train_lr_at(TRAIN_LR_COSINE, 1, 0.2, 3, 0, 13, 12), 0.2);
    near(train_lr_at(TRAIN_LR_COSINE, 1, 0, 3, 0, 1, 0), 1); /* one step */
}

/* As diffusers' get_cosine_with_hard_restarts_schedule_with_warmup. */
static void test_restarts(void **state)
{
    (void)state;
    for (int k = 0; k < 12; k++) {
        double progress = k / 12.0, left = 0.5 * (1 + cos(acos(-1.0) * fmod(3 * progress, 1.0)));
        near(train_lr_at(TRAIN_LR_RESTARTS, 2, 0, 3, 5, 17, 5 + k), 2 * left);
    }
    near(train_lr_at(TRAIN_LR_RESTARTS, 1, 0, 3, 0, 12, 3), 0.5 * (1 + cos(acos(-1.0) * 0.75)));
    near(train_lr_at(TRAIN_LR_RESTARTS, 1, 0, 3, 0, 12, 4), 1);
    near(train_lr_at(TRAIN_LR_RESTARTS, 1, 0.5, 3, 0, 12, 6), 0.75);
    near(train_lr_at(TRAIN_LR_RESTARTS, 1, 0, 3, 0, 12, 12), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_constant),
                                       cmocka_unit_test(test_warmup), cmocka_unit_test(test_linear),
                                       cmocka_unit_test(test_cosine),
                                       cmocka_unit_test(test_restarts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
