#include "generate/ledger.h"
#include "base/log.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Lines of draws that an earlier run accepted or had under way belong to no rejected draw. */
static md_status match(ledger *l)
{
    for (int64_t slot = 0; slot < pairs_rows(l->store) && rejects_count(l->rejected) > 0; slot++) {
        pairs_row row;
        MD_TRY(pairs_read_row(l->store, slot, &row));
        if (row.state == PAIRS_ACCEPTED || row.state == PAIRS_WRITTEN)
            MD_TRY(rejects_forget(l->rejected, slot, row.attempt));
    }
    return rejects_order(l->rejected);
}

md_status ledger_open(ledger *l, const char *store, const char *csv, assessor *a, const config *cfg)
{
    *l = (ledger){.assess = a,
                  .attempts = config_bool(cfg, KEY_quality_redraw)
                                  ? (int)config_int(cfg, KEY_quality_attempts)
                                  : 1,
                  .corrode_px = (int)config_int(cfg, KEY_quality_corrode_px)};
    MD_TRY(pairs_open_writer(store, &l->store));
    if (!a)
        return MD_OK;
    double limits[PAIRS_BAND];
    MD_TRY(pairs_band(l->store, limits));
    assessor_use_band(a, limits);
    MD_TRY(rejects_open(csv, &l->rejected));
    return match(l);
}

void ledger_close(ledger *l)
{
    pairs_close(l->store);
    rejects_close(l->rejected);
    l->store = NULL;
    l->rejected = NULL;
}

static md_status reject_draw(ledger *l, const reject *line, pairs_row *row, bool redraw,
                             cluster_verdict *v)
{
    MD_TRY(rejects_add(l->rejected, line)); /* first: a kill must not lose the line */
    if (redraw && line->attempt + 1 < l->attempts) {
        *v = CLUSTER_REDRAW;
        return pairs_reset(l->store, line->slot, line->attempt + 1);
    }
    row->state = PAIRS_REJECTED;
    assessor_explain(l->assess, &line->m, row->reason, sizeof row->reason);
    *v = CLUSTER_DROP;
    return pairs_write_row(l->store, line->slot, row);
}

md_status ledger_record(ledger *l, const cluster_result *r, bool redraw, cluster_verdict *v)
{
    pairs_report report;
    if (r->size != sizeof report)
        MD_FAIL(MD_COMM, "slot %lld: a report of %zu bytes", (long long)r->id, r->size);
    memcpy(&report, r->payload, sizeof report);
    verdict why = l->assess ? assessor_judge(l->assess, &report.m) : VERDICT_GOOD;
    pairs_row row = pairs_row_empty();
    row.state = PAIRS_ACCEPTED;
    row.attempt = (int32_t)r->attempt;
    row.background_id = report.background_id;
    row.mask_id = report.mask_id;
    row.crc = report.crc;
    row.alignment = report.m.alignment;
    if (l->assess) {
        row.similarity = report.m.part[PART_WHOLE].nearest;
        row.similarity_lesion = report.m.part[PART_LESION].nearest;
        row.nearest_id = report.m.part[PART_WHOLE].id;
    }
    if (report.kept_guide)
        (void)snprintf(row.reason, sizeof row.reason,
                       "not eroded: a disc of %d px leaves nothing of the guide", l->corrode_px);
    l->draws[why]++;
    if (why != VERDICT_GOOD)
        return reject_draw(
            l, &(reject){r->id, row.attempt, row.background_id, row.mask_id, why, report.m}, &row,
            redraw, v);
    *v = CLUSTER_ACCEPT;
    return pairs_write_row(l->store, r->id, &row);
}

md_status ledger_fail(ledger *l, cluster_item item, md_status status, const char *text)
{
    pairs_row row = pairs_row_empty();
    row.state = PAIRS_FAILED;
    row.attempt = (int32_t)item.attempt;
    (void)snprintf(row.reason, sizeof row.reason, "%s: %s", md_status_name(status), text);
    md_warn("generate", "slot %lld failed: %s", (long long)item.id, text);
    return pairs_write_row(l->store, item.id, &row);
}

md_status ledger_sync(ledger *l)
{
    if (l->rejected)
        MD_TRY(rejects_sync(l->rejected));
    return pairs_sync(l->store);
}

/* "2 too similar, 1 not aligned" into out[size] */
static void list(const int64_t count[N_VERDICTS], char *out, size_t size)
{
    size_t at = 0;
    *out = 0;
    for (int why = VERDICT_GOOD + 1; why < N_VERDICTS; why++) {
        if (!count[why])
            continue;
        int n = snprintf(out + at, size - at, "%s%lld %s", at ? ", " : "", (long long)count[why],
                         verdict_name((verdict)why));
        at = n > 0 && (size_t)n < size - at ? at + (size_t)n : at;
    }
}

/* Puts rejected.csv in order and says what was rejected. */
static md_status finish(ledger *l)
{
    char text[256];
    int64_t rejected = 0;
    if (!l->assess)
        return MD_OK;
    for (int why = VERDICT_GOOD + 1; why < N_VERDICTS; why++)
        rejected += l->draws[why];
    list(l->draws, text, sizeof text);
    if (rejected)
        md_info("assess", "%lld of %lld draws were rejected: %s", (long long)rejected,
                (long long)(rejected + l->draws[VERDICT_GOOD]), text);
    return rejects_order(l->rejected);
}

/* Rejected slots of the store by reason, "2 too similar, 1 not aligned", into out[size]. */
static md_status list_reasons(pairs_store *p, char *out, size_t size)
{
    int64_t count[N_VERDICTS] = {0};
    for (int64_t slot = 0; slot < pairs_rows(p); slot++) {
        pairs_row row;
        MD_TRY(pairs_read_row(p, slot, &row));
        for (int why = VERDICT_GOOD + 1; why < N_VERDICTS && row.state == PAIRS_REJECTED; why++)
            count[why] += md_str_starts(row.reason, verdict_name((verdict)why));
    }
    list(count, out, size);
    return MD_OK;
}

md_status ledger_total(ledger *l, pairs_outcome *out)
{
    int64_t n[PAIRS_N_STATES];
    MD_TRY(finish(l));
    MD_TRY(pairs_sync(l->store));
    MD_TRY(pairs_count_states(l->store, n));
    out->accepted = n[PAIRS_ACCEPTED];
    out->rejected = n[PAIRS_REJECTED];
    out->failed = n[PAIRS_FAILED];
    return list_reasons(l->store, out->reasons, sizeof out->reasons);
}
