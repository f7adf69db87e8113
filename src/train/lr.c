#include "train/lr.h"
#include <math.h>

static double half_cosine(double at)
{
    return 0.5 * (1 + cos(acos(-1.0) * at));
}

double train_lr_at(train_lr_rule rule, double peak, double floor, int64_t cycles, int64_t warmup,
                   int64_t steps, int64_t step)
{
    if (step < warmup)
        return peak * (double)(step + 1) / (double)(warmup + 1);
    int64_t span = steps - warmup > 1 ? steps - warmup - 1 : 1;
    double at = fmin(1.0, (double)(step - warmup) / (double)span);
    double left = 1;
    if (rule == TRAIN_LR_LINEAR)
        left = 1 - at;
    if (rule == TRAIN_LR_COSINE)
        left = half_cosine(at);
    if (rule ==
        TRAIN_LR_RESTARTS) /* a cycle ends before the next begins: its last step is above 0 */
        left =
            step < steps
                ? half_cosine((double)(cycles * (step - warmup) % (span + 1)) / (double)(span + 1))
                : 0;
    return peak * (floor + (1 - floor) * left);
}
