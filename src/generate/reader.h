/* A worker's view of pairs that are written: what an assessment needs of a lease of slots. */
#ifndef MD_GENERATE_READER_H
#define MD_GENERATE_READER_H

#include "generate/ledger.h"
#include "generate/pairs.h"

typedef struct reader {
    const pairs_job *j;
    assessor *assess;
    pairs_store *store;
    data_store *backgrounds;
    image *rgb, *guide; /* [batch] */
    uint8_t *mask;      /* of one pair */
    int batch;
} reader;

/* Opens j's store and backgrounds; the assessor judges by the store's limits from now on. After a
   failure, too, reader_close frees. */
MD_MUST md_status reader_open(reader *r, const pairs_job *j, assessor *a);
void reader_close(reader *r);
/* The slots of b into pairs and reports, which borrow from r until the next call. */
MD_MUST md_status reader_read(reader *r, const cluster_batch *b, assess_pair *pairs,
                              pairs_report *reports);

#endif
