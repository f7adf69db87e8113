/* A worker's side of masks.h5. */
#ifndef MD_GENERATE_MASK_WORKER_H
#define MD_GENERATE_MASK_WORKER_H

#include "generate/masks.h"

/* What a worker reports of a slot; travels as it is between ranks of one machine type. */
typedef struct mask_report {
    uint32_t crc; /* of the pixels, written where the mask is fine */
    int32_t fault, nearest_id;
    float nearest_iou, shape[MASKS_SHAPES];
} mask_report;

typedef struct mask_worker mask_worker;

/* Opens inputs and plans. */
MD_MUST md_status mask_worker_open(const masks_job *j, mask_worker **out);
/* Opens the store, which exists by now, and takes all memory. */
MD_MUST md_status mask_worker_start(mask_worker *w);
void mask_worker_close(mask_worker *w);
/* cluster_work's on_lease; worker: mask_worker. */
MD_MUST md_status mask_worker_lease(void *worker, cluster_batch *b);

#endif
