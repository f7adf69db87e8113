/* Lines of the table that `plan` prints; shared by the files of that job. */
#ifndef MD_JOBS_PLAN_H
#define MD_JOBS_PLAN_H

#include "session.h"
#include "train/step.h"

typedef struct plan_job {
    const config *cfg;
    foundation *f;
    md_backend *be;
    md_dtype dtype;
    int64_t size;
    size_t weights, budget; /* of all parts; what may be taken */
    double rate, bandwidth; /* FLOP/s, bytes/s */
    double seconds;         /* of the stage so far */
} plan_job;

/* `runs` of a plan beside p->weights. */
void plan_print_run(plan_job *p, const char *name, const md_plan *plan, double runs);
/* A training's step; runs: of its plan, in all steps. */
void plan_print_training(plan_job *p, const char *name, train *t, double runs);
/* "generate: at most 1234.5 MiB of 8192.0, about 3 h 05 min" */
void plan_print_stage(plan_job *p, const char *name, size_t most);
/* The encoder's line, and the bytes that it takes beside the painter; none without model.encoder.
 */
MD_MUST md_status plan_assess(plan_job *p, size_t *bytes);
/* The mask generator's lines; none where guides are the training masks. */
MD_MUST md_status plan_masks(plan_job *p);
/* The repair's lines, with the foundation held as painting holds it. */
MD_MUST md_status plan_backgrounds(plan_job *p);

#endif
