/* Making backgrounds.h5 from lesion images: every image is leased to a worker, which repairs it
   (repair.h); the coordinator writes the small columns. The file has a temporary name until it is
   complete; a later start goes on with it. */
#ifndef MD_GENERATE_BACKGROUNDS_H
#define MD_GENERATE_BACKGROUNDS_H

#include "cluster/cluster.h"
#include "config/config.h"
#include "generate/painter.h"

typedef struct backgrounds_job {
    config *cfg;
    const foundation *f; /* the background model; every rank, parts loaded on workers */
    md_backend *be;      /* workers; NULL elsewhere */
    size_t budget;       /* bytes a worker may take; 0: no limit */
    const char *data, *store, *sheet; /* data.h5; backgrounds.h5; a picture of before and after */
    const char *sections; /* of cfg that must not have changed since the store was begun */
} backgrounds_job;

/* Rank 0. */
typedef struct backgrounds_outcome {
    int64_t rows, kept, failed, skipped; /* kept: done by an earlier start; skipped: images */
    double rate;
} backgrounds_outcome;

/* Makes or resumes the store until every row is done. MD_STOPPED after a signal.
   Collective(world). */
MD_MUST md_status backgrounds_repair(const backgrounds_job *j, backgrounds_outcome *out);

/* The painter of the repair; for `plan` too. */
MD_MUST md_status backgrounds_painter_options(const config *cfg, int64_t size,
                                              painter_options *out);

#endif
