/* Between bench.c (what to time, tables) and bench_parts.c (the parts themselves). */
#ifndef MD_JOBS_BENCH_H
#define MD_JOBS_BENCH_H

#include "config/config.h"
#include "graph/plan.h"
#include "model/foundation.h"

typedef struct bench {
    const config *cfg;
    foundation *f;
    md_backend *be;
    md_dtype dtype;
    int64_t size; /* of the pictures, in pixels */
    bool loaded[MODEL_N_PARTS];
    double peak; /* FLOP/s of the row "peak"; 0: not timed */
} bench;

/* The times between laps: warm-up laps are dropped, and an end comes early when time is over. */
typedef struct bench_meter {
    md_backend *be;
    int warmup, repeats, n; /* n: laps kept */
    double limit, begin, last;
    double *ms; /* [repeats] */
} bench_meter;

void bench_meter_start(bench_meter *m);
/* Waits for the device and ends a lap; *more: whether another is wanted. */
MD_MUST md_status bench_meter_lap(bench_meter *m, bool *more);

enum { BENCH_SHAPES = 128, BENCH_PLANS = 2 };

/* One row of the table, ready to run; filled by its open function. */
typedef struct bench_part {
    const bench *b;
    int64_t batch;
    void *state;
    md_status (*run)(struct bench_part *p, bench_meter *m); /* laps until the meter has enough */
    void (*close)(struct bench_part *p);                    /* NULL until there is a state */
    char shapes[BENCH_SHAPES];
    double flops;               /* of one lap */
    size_t bytes;               /* on the device: weights, state and arenas */
    md_plan *plan[BENCH_PLANS]; /* what a lap runs, for the profile; NULL behind the last */
} bench_part;

typedef struct bench_row {
    const char *name;
    bool trains; /* finetune.batch rather than generate.batch */
    /* Everything but the first run; p->b and p->batch are set. Closed by its caller, also on
       failure. */
    md_status (*open)(bench *b, bench_part *p);
} bench_row;

enum { BENCH_ROWS = 7 }; /* the first is "peak": what the others are measured against */
extern const bench_row bench_rows[BENCH_ROWS];

#endif
