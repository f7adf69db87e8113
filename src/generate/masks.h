/* Making masks.h5: slots are leased to workers, which sample micro-batches, cut the masks out and
   judge them; the coordinator writes the small columns and compares the masks with each other.
   Resumes from whatever an earlier run left. */
#ifndef MD_GENERATE_MASKS_H
#define MD_GENERATE_MASKS_H

#include "cluster/cluster.h"
#include "config/config.h"
#include "generate/mask_judge.h"
#include "generate/mask_sampler.h"
#include "image/mask_field.h"

typedef struct masks_job {
    config *cfg;
    const mask_model *model; /* every rank; loaded on workers */
    md_backend *be;          /* workers; NULL elsewhere */
    size_t budget;           /* bytes a worker may take; 0: no limit */
    image_field_view view;
    const char *data, *store; /* files */
    const char *sections;     /* of cfg that must not have changed since the store was made */
} masks_job;

typedef struct masks_outcome {
    int64_t accepted, rejected, failed, torn;
    int64_t redrawn[MASK_N_FAULTS]; /* in this run */
    double seconds, rate;
    bool drawn; /* something was, in this run; every rank */
} masks_outcome;

/* Makes or resumes the store until every slot is decided. MD_STOPPED after a signal;
   MD_UNSUPPORTED where no mask was accepted. out: rank 0. Collective(world). */
MD_MUST md_status masks_generate(const masks_job *j, masks_outcome *out);

/* masks.count, or where it is 0 the number that generate.pairs asks for. */
int64_t masks_count(const config *cfg);
/* The mask that `place` has been given by its picture: moved and cut off at random within the
   strength `affine` and the level `threshold`. */
MD_MUST md_status masks_cut(const masks_job *j, mask_place place, const float *picture,
                            double affine, double threshold, image *out);

#endif
