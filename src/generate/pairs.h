/* Making pairs.h5: slots are leased to workers, which paint micro-batches and write pixels; the
   coordinator writes the small columns. Resumes from whatever an earlier run left. */
#ifndef MD_GENERATE_PAIRS_H
#define MD_GENERATE_PAIRS_H

#include "cluster/cluster.h"
#include "config/config.h"
#include "generate/painter.h"

typedef struct pairs_job {
    config *cfg;
    const foundation *f;                              /* every rank; parts loaded on workers */
    md_backend *be;                                   /* workers; NULL elsewhere */
    size_t budget;                                    /* bytes a worker may take; 0: no limit */
    const char *data, *backgrounds, *store, *preview; /* files */
    const char *masks;    /* masks.h5; NULL: guides are the training masks */
    const char *features; /* of the real images, kept between runs; safetensors */
    const char *rejected; /* rejected.csv */
    const char *pictures; /* folder for rejected draws */
    const char *summary;  /* assessment.json */
    const char *sections; /* of cfg that must not have changed since the store was made */
    bool anew;            /* reassess_store: whatever judgement there is */
} pairs_job;

/* What came out of it; rank 0. */
typedef struct pairs_outcome {
    int64_t accepted, failed, torn; /* torn: slots of an earlier run that had to be redone */
    int64_t kept_guide;             /* accepted with a mask that erosion would have emptied */
    int64_t rejected;               /* slots given up after quality.attempts draws */
    int64_t assessed;               /* written slots that this run judged */
    char reasons[256];              /* "2 too similar, 1 not aligned": why slots are rejected */
    double seconds, rate;           /* of this run */
} pairs_outcome;

/* Makes or resumes the store until every slot is done. MD_STOPPED after a signal.
 * Collective(world). */
MD_MUST md_status pairs_generate(const pairs_job *j, pairs_outcome *out);

/* MD_USAGE, naming it, where the pairs of j's store were made under another configuration or from
   other files than j has; those that only judge do not count. Local. */
MD_MUST md_status pairs_check_made_from(const pairs_job *j);

/* The painter that cfg asks for; for `plan` too. */
MD_MUST md_status pairs_painter_options(const config *cfg, int64_t size, painter_options *out);

/* A sheet of up to `most` accepted pairs with the mask's outline. Local. */
MD_MUST md_status pairs_preview(const char *store, const char *png, int most);

#endif
