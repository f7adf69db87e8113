/* meddiff export RUN: the accepted pairs, and the data set's own beside them, in the layout of
   other programs. Reads the run directory without a lock, so a live run is not disturbed. */
#include "store/export.h"
#include "base/log.h"
#include "job.h"
#include "rundir.h"

#include <stdio.h>

static void tell(const export_report *r)
{
    static const char *const kinds[EXPORT_N_KINDS] = {"synthetic", "real", "lesion-free"};
    for (int k = 0; k < EXPORT_N_KINDS; k++) {
        const int64_t *n = r->count[k];
        if (n[DATA_TRAIN] + n[DATA_VAL] + n[DATA_TEST])
            md_info("export", "%s: %lld train, %lld val, %lld test", kinds[k],
                    (long long)n[DATA_TRAIN], (long long)n[DATA_VAL], (long long)n[DATA_TEST]);
    }
    int64_t open = r->slots[PAIRS_EMPTY] + r->slots[PAIRS_WRITTEN],
            lost = r->slots[PAIRS_REJECTED] + r->slots[PAIRS_FAILED];
    if (open)
        md_warn("export", "%lld slots of pairs.h5 are still to be made or judged and are not in it",
                (long long)open);
    if (lost)
        md_info("export", "%lld rejected or failed pairs were left out", (long long)lost);
    md_info("export", "made %s", r->folder);
}

/* Local. */
md_status job_export(job *j)
{
    export_report report;
    MD_TRY(rundir_look(j->arg));
    MD_TRY(export_run(j->cfg, j->arg, &report));
    tell(&report);
    return MD_OK;
}
