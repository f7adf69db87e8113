/* The coordinator's book of finished draws: the small columns of pairs.h5, rejected.csv, the
 * counts. */
#ifndef MD_GENERATE_LEDGER_H
#define MD_GENERATE_LEDGER_H

#include "cluster/cluster.h"
#include "generate/assess.h"
#include "generate/pairs.h"
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
/* The end of a run: puts rejected.csv in order, says what was rejected, and counts the whole store,
   earlier runs' slots too: accepted, rejected, failed, reasons. */
MD_MUST md_status ledger_total(ledger *l, pairs_outcome *out);
void ledger_close(ledger *l);

#endif
