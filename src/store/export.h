/* Copies of a run's pairs in the layouts of other programs: a format is export_<name>.c with one
   function and one row in export.c. Selecting, checking, refusing and naming are the same for all.
   Synthetic pairs, of which the accepted ones are taken, are always training material; the data
   set's own pairs keep their split. An export is there whole, under its name, or not at all. */
#ifndef MD_STORE_EXPORT_H
#define MD_STORE_EXPORT_H

#include <stdint.h>

#include "base/status.h"
#include "config/config.h"
#include "store/data.h"
#include "store/pairs.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { EXPORT_PATH = 4096 };

typedef enum export_kind { EXPORT_PAIR, EXPORT_REAL, EXPORT_HEALTHY, EXPORT_N_KINDS } export_kind;

typedef struct export_report {
    char folder[EXPORT_PATH];                     /* what was made */
    int64_t count[EXPORT_N_KINDS][DATA_N_SPLITS]; /* what is in it */
    int64_t slots[PAIRS_N_STATES];                /* of pairs.h5 */
} export_report;

/* Copies what pairs.h5, data.h5 and backgrounds.h5 of the run directory hold, as export.* of `cfg`
   says. Reads only, so it works beside a live run. USAGE: the target is there, --share on real
   pixels; BAD_INPUT: nothing accepted, a store that is missing, damaged or not the one that the
   pairs were made from; IO: full disk, unwritable folder. Local. */
MD_MUST md_status export_run(const config *cfg, const char *run, export_report *report);

#ifdef __cplusplus
}
#endif
#endif
