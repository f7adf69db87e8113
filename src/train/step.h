/* THE training step: draw the batch (a pure function of the step), run the plan (forward,
   backward), all-reduce, update. What is learned is a task (train/autoencode.h, train/denoise.h);
   this file knows parameters, gradients and optimizer state only. */
#ifndef MD_TRAIN_STEP_H
#define MD_TRAIN_STEP_H

#include "comm/comm.h"
#include "graph/plan.h"
#include "nn/nn.h"
#include "train/lr.h"
#include "train/reduce.h"

/* A loss and where its samples come from. The loss of a worker's micro-batch must be the sum over
   its samples of w_i L_i with weights that add up to 1 over the global batch, so that gradients of
   workers and micro-batches simply add. */
typedef struct train_task {
    void *user;
    /* Builds the loss [1] f32 of n samples; remembers the inputs it declares. */
    md_tensor *(*build)(void *user, md_graph *g, int64_t n);
    /* Writes the inputs of the n samples at positions first.. of the global batch of `step`; a
       position at or beyond the batch size gets weight 0. Must not depend on rank, time or earlier
       calls. */
    md_status (*fill)(void *user, md_plan *plan, int64_t step, int64_t first, int64_t n);
    /* Optional. The arguments of the next fill, so that the host can prepare it while a device
       works on this one. */
    void (*ahead)(void *user, int64_t step, int64_t first, int64_t n);
    /* Optional. What stays on the device from step to step: takes it before the first fill; its
       bytes are known from build on. */
    md_status (*load)(void *user, md_backend *be);
    size_t (*bytes)(const void *user, const md_backend *be);
    /* Optional. Gives back what load, fill and ahead keep. */
    void (*release)(void *user);
} train_task;

/* Moments of AdamW: in f32; in bf16 with stochastic rounding; in 8 bits (ops/state.h). */
typedef enum train_states { TRAIN_STATES_F32, TRAIN_STATES_BF16, TRAIN_STATES_8BIT } train_states;

typedef struct train_options {
    int64_t steps, batch, accumulate; /* batch: global; accumulate splits it in time */
    train_lr_rule lr_rule;
    double lr, lr_floor;
    int64_t warmup, lr_cycles; /* cycles: of TRAIN_LR_RESTARTS */
    double beta1, beta2, eps, weight_decay;
    double clip;         /* global gradient norm; 0: off */
    double ema;          /* decay of the averaged weights; 0: off */
    train_states states; /* how the moments are kept */
    size_t budget_bytes; /* for train_memory's total: recompute blocks until it fits; 0: no limit */
    comm *workers;       /* NULL or size 1: alone */
    comm_device *device; /* sums on the workers' GPUs; NULL: on the host */
    int64_t bucket;      /* gradients that these sum together; 0: as reduce.c likes it */
    comm_reducer *reducer; /* needed when workers has more than one rank: sums on the host */
} train_options;

/* How long to wait for workers that do what took `longest_s` seconds at most so far (0: nobody
   knows): many times that and at least `least_s`, but no longer than comm waits for anything. */
double train_patience(double longest_s, double least_s);

/* What a worker may wish for with a step; one worker's wish is everybody's. */
enum { TRAIN_STOP = 1, TRAIN_SAVE = 2 };

typedef struct train_stats {
    int64_t step; /* the one just done, 0-based */
    double loss, grad_norm, lr;
    bool skipped; /* not finite, or a worker failed: nothing was updated */
    bool stop;    /* some worker wanted this to be the last step */
    bool save;    /* some worker wanted a checkpoint of this step */
} train_stats;

typedef struct train train;

/* Plans the step and takes no device memory: train_memory and train_plan tell what it will be.
   Stores must be closed. MD_NOMEM when the budget is exceeded with all blocks recomputed. All
   workers must make the same one. */
MD_MUST md_status train_new(md_backend *be, nn_params *const *stores, int n_stores,
                            const train_task *task, const train_options *o, train **out);
void train_free(train *t);
/* Takes all memory that stepping needs. The stores must be allocated. Local. */
MD_MUST md_status train_load(train *t);
/* One step. A worker whose part failed still takes part in the all-reduce; all skip the update
   together, and after TRAIN_MAX_SKIPS in a row all return the error. wishes (TRAIN_STOP |
   TRAIN_SAVE) travel with the gradients, so that all workers see the same s->stop and s->save after
   the same step. MD_COMM when a worker does not come to the sum of a step for many times what steps
   took. Collective(workers). */
#define TRAIN_MAX_SKIPS 5
MD_MUST md_status train_step(train *t, unsigned wishes, train_stats *out);
int64_t train_next_step(const train *t); /* number of steps done */
md_plan *train_plan(train *t);           /* the forward and backward plan, for memory and profile */
md_plan *train_update_plan(train *t);    /* clipping, AdamW and the averages, likewise */
int train_blocks(const train *t);        /* blocks that could be recomputed */
int train_recomputed(const train *t);    /* those that are */

/* Bytes on the device while stepping, exactly. */
typedef struct train_bytes {
    size_t weights, gradients;
    size_t optimizer;   /* moments and averages */
    size_t activations; /* with the inputs */
    size_t data;        /* what the task keeps there */
    size_t workspace, total;
} train_bytes;
train_bytes train_memory(const train *t);

/* What a checkpoint holds: for each store flat buffers by name ("weights", "m", "v", "m_scale",
   "v_scale", "ema"), those that there are. */
int train_n_stores(const train *t);
const char *train_store_name(const train *t, int store); /* of its model */
typedef struct train_part {
    const char *name;
    md_buffer *buffer;
} train_part;
enum { TRAIN_MAX_PARTS = 6 };
int train_parts(train *t, int store, train_part out[TRAIN_MAX_PARTS]);
/* After the parts were read from a checkpoint: whatever derives from them. */
MD_MUST md_status train_restored(train *t);
md_backend *train_backend(train *t);
void train_set_next_step(train *t, int64_t step);
/* Exchanges weights and averages, for sampling or saving the averages. Costs no memory: the buffers
   trade addresses, so it must be undone before the next step. */
MD_MUST md_status train_swap_ema(train *t);

#endif
