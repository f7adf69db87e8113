#include "train/lr.h"
#include <math.h>

double train_lr_at(train_lr_rule rule, double peak, double floor, int64_t warmup, int64_t steps,
                   int64_t step)
{
    if (step < warmup)
        return peak * (double)(step + 1) / (double)(warmup + 1);
    int64_t span = steps - warmup > 1 ? steps - warmup - 1 : 1;
    double at = fmin(1.0, (double)(step - warmup) / (double)span);
    double left = rule == TRAIN_LR_LINEAR   ? 1 - at
                  : rule == TRAIN_LR_COSINE ? 0.5 * (1 + cos(acos(-1.0) * at))
                                            : 1;
    return peak * (floor + (1 - floor) * left);
}
