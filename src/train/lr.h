/* Learning-rate schedules: a pure function of the step, so that nothing needs to be saved. */
#ifndef MD_TRAIN_LR_H
#define MD_TRAIN_LR_H

#include <stdint.h>

typedef enum train_lr_rule {
    TRAIN_LR_CONSTANT,
    TRAIN_LR_LINEAR,
    TRAIN_LR_COSINE,
    TRAIN_LR_RESTARTS
} train_lr_rule;

/* Rate at `step` (0-based) of `steps`: a linear rise over `warmup` steps, then constant, or falling
   to `floor` times the peak at the last step, linearly or along half a cosine; with restarts along
   `cycles` half cosines of equal length, each from the peak on (diffusers optimization.py, there
   with floor 0). */
double train_lr_at(train_lr_rule rule, double peak, double floor, int64_t cycles, int64_t warmup,
                   int64_t steps, int64_t step);

#endif
