/* A worker's side of the repair: a lesion image becomes a lesion-free one. The lesion, grown, is
   filled smoothly before the picture is encoded, so that nothing of it is in any latent; then the
   background model paints there, from noise, into what surrounds it. */
#ifndef MD_GENERATE_REPAIR_H
#define MD_GENERATE_REPAIR_H

#include "generate/backgrounds.h"
#include "store/data.h"

/* A row of backgrounds.h5: which image of data.h5, and for the how manieth time. */
typedef struct repair_row {
    int64_t id;
    uint32_t repeat;
} repair_row;

/* The rows that cfg asks for, from the training pairs in use; `skipped` of these have a lesion too
   large to be repaired from what is around it. *rows: free(). */
MD_MUST md_status repair_list(const config *cfg, data_store *data, repair_row **rows, int64_t *n,
                              int64_t *skipped);

/* What a worker reports of a row. */
typedef struct repair_report {
    uint32_t crc;
    float contrast;
} repair_report;

/* What a repair changes: the mask without holes, grown and inside the valid area. */
MD_MUST md_status repair_region(const image *mask, const int32_t valid[4], double grow_px,
                                image *out);
/* How much the inside of the mask stands out against a ring around it that begins `gap` pixels from
   it and is `width` wide, in the channel where it does most: |difference of the means| over the
   ring's deviation + |log of the deviations' ratio|, deviations of at least 4 of 255. 0 where there
   is no ring. */
MD_MUST md_status repair_contrast(const image *rgb, const image *mask, const int32_t valid[4],
                                  double gap, double width, double *out);

typedef struct repair_worker repair_worker;

MD_MUST md_status repair_worker_open(const backgrounds_job *j, repair_worker **out);
/* Opens the unfinished store, which exists by now, and takes all memory. */
MD_MUST md_status repair_worker_start(repair_worker *w);
void repair_worker_close(repair_worker *w);
/* cluster_work's on_lease; worker: repair_worker. */
MD_MUST md_status repair_worker_lease(void *worker, cluster_batch *b);

#endif
