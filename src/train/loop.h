/* Runs steps until done, stopped or out of time: checkpoints, metrics.csv, progress. Rank 0
   reports; with several ranks it does nothing else, and worker 0 tells it how things go. */
#ifndef MD_TRAIN_LOOP_H
#define MD_TRAIN_LOOP_H

#include "train/checkpoint.h"
#include <stdio.h>

typedef struct train_loop {
    const char *what;        /* "finetune": in progress, log and metrics */
    const char *checkpoints; /* folder */
    const char *metrics;     /* CSV file, appended; NULL: none */
    config *cfg;
    const char *sections; /* of cfg that a resume must share */
    int64_t steps;
    double checkpoint_minutes; /* 0: after every step */
    bool (*stop)(void);        /* asked on every rank before each step; true ends all orderly */
} train_loop;

/* The metrics of all trainings of a run, opened for appending, with a first line when it is new. */
MD_MUST md_status train_metrics_open(const char *path, FILE **out);
/* NULL is fine. MD_IO when something could not be written. */
MD_MUST md_status train_metrics_close(const char *path, FILE *csv);

/* Worker ranks: resumes from the newest checkpoint, steps, and leaves a last checkpoint. MD_STOPPED
   when `stop` ended it. *t has its final state. Collective(workers). */
MD_MUST md_status train_loop_work(const train_loop *l, train *t);
/* Rank 0 of several, while the workers are in train_loop_work. */
MD_MUST md_status train_loop_watch(const train_loop *l);

#endif
