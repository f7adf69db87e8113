/* The coordinator's book of finished draws: the small columns of pairs.h5, rejected.csv, the
 * counts. */
#ifndef MD_GENERATE_LEDGER_H
#define MD_GENERATE_LEDGER_H

#include "cluster/cluster.h"
#include "generate/assess.h"
#include "generate/rejects.h"
#include "store/pairs.h"

/* What a worker reports of a draw; travels as it is between ranks of one machine type. */
typedef struct pairs_report {
    uint32_t crc;
    int32_t background_id, mask_id;
    int32_t kept_guide; /* 1: erosion would have left nothing, the mask is the guide */
    assessment m;       /* no likeness without an encoder */
} pairs_report;

typedef struct ledger {
    pairs_store *store;     /* a writer, owned */
    const assessor *assess; /* NULL: every draw is accepted */
    rejects *rejected;      /* NULL without an assessor */
    int attempts;           /* draws of a slot; 1 where none is drawn again */
    int corrode_px;
    int64_t draws[N_VERDICTS]; /* of this run */
} ledger;

/* Opens both files, makes rejected.csv agree with the store, and takes the limits stored there into
   use (`a` may be NULL). */
MD_MUST md_status ledger_open(ledger *l, const char *store, const char *csv, assessor *a,
                              const config *cfg);
/* One result. CLUSTER_REDRAW: the slot is empty again, with the next attempt; CLUSTER_DROP:
   rejected for good. `redraw` false: rejected is for good, whatever attempts are left. */
MD_MUST md_status ledger_record(ledger *l, const cluster_result *r, bool redraw,
                                cluster_verdict *v);
MD_MUST md_status ledger_fail(ledger *l, cluster_item item, md_status status, const char *text);
MD_MUST md_status ledger_sync(ledger *l);
/* Puts rejected.csv in order and says what was rejected. */
MD_MUST md_status ledger_finish(ledger *l);
void ledger_close(ledger *l);

/* Rejected slots of the store by reason, "2 too similar, 1 not aligned", into out[size]. */
MD_MUST md_status ledger_reasons(pairs_store *p, char *out, size_t size);

#endif
