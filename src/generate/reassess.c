#include "generate/reassess.h"
#include "base/log.h"
#include "base/progress.h"
#include "comm/comm.h"
#include "generate/reader.h"
#include "generate/summary.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The coordinator's side. */
typedef struct desk {
    ledger *l; /* NULL on other ranks */
    md_progress bar;
} desk;

static md_status on_lease(void *worker, cluster_batch *b)
{
    reader *r = worker;
    int n = cluster_batch_size(b);
    assess_pair pair[CLUSTER_LEASE_MAX];
    assessment m[CLUSTER_LEASE_MAX];
    pairs_report report[CLUSTER_LEASE_MAX];
    MD_TRY(reader_read(r, b, pair, report));
    MD_TRY(assessor_measure(r->assess, pair, n, m));
    for (int i = 0; i < n; i++) {
        cluster_item it = cluster_batch_item(b, i);
        report[i].m = m[i];
        assessor_show(r->assess, &pair[i], &m[i], it.id, it.attempt, r->j->pictures);
        MD_TRY(cluster_reply_ok(b, i, &report[i], sizeof report[i]));
    }
    return MD_OK;
}

static md_status on_result(void *user, const cluster_result *r, cluster_verdict *v)
{
    return ledger_record(((desk *)user)->l, r, false, v);
}

static md_status on_failed(void *user, cluster_item item, md_status status, const char *text)
{
    return ledger_fail(((desk *)user)->l, item, status, text);
}

static md_status on_tick(void *user, const cluster_counts *c)
{
    desk *d = user;
    md_progress_at(&d->bar, c->accepted + c->dropped + c->failed);
    return ledger_sync(d->l);
}

static md_status list_written(pairs_store *p, cluster_item **items, int64_t *n)
{
    int64_t rows = pairs_rows(p);
    uint8_t *state = malloc((size_t)rows);
    int32_t *attempt = malloc((size_t)rows * sizeof *attempt);
    *items = malloc((size_t)rows * sizeof **items);
    md_status status = state && attempt && *items
                           ? pairs_read_states(p, state)
                           : md_fail(MD_NOMEM, __FILE__, __LINE__, "assess: out of memory");
    if (status == MD_OK)
        status = pairs_read_attempts(p, attempt);
    for (int64_t i = 0; i < rows && status == MD_OK; i++)
        if (state[i] == PAIRS_WRITTEN)
            (*items)[(*n)++] = (cluster_item){i, (uint32_t)attempt[i]};
    free(state);
    free(attempt);
    return status;
}

/* The items of rank 0, n > 0; every rank knows. */
static md_status lease(const pairs_job *j, desk *d, reader *r, const cluster_item *items, int64_t n)
{
    cluster_work work = {.name = "assess",
                         .user = d,
                         .items = items,
                         .n_items = n,
                         .on_result = on_result,
                         .on_failed = on_failed,
                         .on_tick = on_tick,
                         .worker = r,
                         .on_lease = on_lease,
                         .batch = (int)config_int(j->cfg, KEY_generate_batch)};
    if (d->l)
        d->bar = md_progress_begin("assess", "pairs", 0, n);
    md_status status = cluster_run(&work, NULL);
    if (d->l)
        md_progress_end(&d->bar, n);
    return status;
}

md_status reassess_written(const pairs_job *j, assessor *a, ledger *l, int64_t *n)
{
    reader r = {0};
    desk d = {.l = l};
    cluster_item *items = NULL;
    *n = 0;
    md_status status = l ? list_written(l->store, &items, n) : MD_OK;
    if (status == MD_OK && *n > 0)
        status = summary_drop(j);
    if (status == MD_OK && j->be)
        status = reader_open(&r, j, a);
    status = comm_agree(comm_world(), status);
    if (status == MD_OK)
        status = comm_broadcast(comm_world(), 0, n, sizeof *n, 0);
    if (status == MD_OK && *n > 0)
        status = lease(j, &d, &r, items, *n);
    reader_close(&r);
    free(items);
    return status;
}

/* ---- a whole store */

/* Whether the store's judgement stands under this configuration. */
static md_status is_judged(const pairs_job *j, const assessor *a, pairs_store *p, bool *judged)
{
    char *hash = NULL;
    config *then = NULL;
    *judged = false;
    if (!pairs_has_input(p, "encoder"))
        return MD_OK;
    MD_TRY(pairs_text(p, "sha256_encoder", &hash));
    *judged = strcmp(hash, assessor_hash(a)) == 0;
    free(hash);
    MD_TRY(pairs_config(p, &then));
    if (band_same_rules(j->cfg, then, j->store) != MD_OK) {
        *judged = false;
        md_status_clear();
    }
    config_free(then);
    return MD_OK;
}

/* Under this configuration, but with the slots that there are. */
static md_status unjudge(const pairs_job *j, const assessor *a, int64_t rows,
                         const double limits[PAIRS_BAND])
{
    config *own = NULL;
    char pairs[64];
    md_status status = MD_OK;
    const char *text = config_text(j->cfg, &status);
    MD_TRY(status);
    MD_TRY(config_parse(text, strlen(text), "this configuration", &own));
    status = md_str_printf(pairs, sizeof pairs, "generate.pairs=%lld", (long long)rows);
    if (status == MD_OK)
        status = config_set(own, pairs, j->store);
    if (status == MD_OK)
        text = config_text(own, &status);
    if (status == MD_OK)
        status = pairs_unjudge(j->store, text, limits, assessor_hash(a));
    config_free(own);
    return status;
}

/* The store as it is to be judged; rank 0. */
static md_status prepare(const pairs_job *j, const assessor *a)
{
    pairs_store *p = NULL;
    char hex[2][MD_SHA256_HEX];
    double limits[PAIRS_BAND];
    bool judged = false;
    MD_TRY(md_sha256_file(j->data, hex[0]));
    MD_TRY(md_sha256_file(j->backgrounds, hex[1]));
    const pairs_input input[] = {{"data", hex[0]}, {"backgrounds", hex[1]}};
    MD_TRY(pairs_open_reader(j->store, &p));
    md_status status = pairs_check_config(p, j->cfg, j->sections, input, 2);
    if (status == MD_OK && !j->anew)
        status = is_judged(j, a, p, &judged);
    int64_t rows = pairs_rows(p);
    pairs_close(p);
    if (status != MD_OK || judged)
        return status;
    MD_TRY(assessor_find_band(a, limits));
    return unjudge(j, a, rows, limits);
}

static md_status judge_all(const pairs_job *j, assessor *a, ledger *l, pairs_outcome *out)
{
    bool leads = comm_rank(comm_world()) == 0;
    MD_TRY(assessor_prepare(a, j->features));
    md_status status = leads ? prepare(j, a) : MD_OK;
    if (status == MD_OK && leads)
        status = ledger_open(l, j->store, j->rejected, a, j->cfg);
    MD_TRY(comm_agree(comm_world(), status));
    MD_TRY(reassess_written(j, a, leads ? l : NULL, &out->assessed));
    MD_TRY(comm_agree(comm_world(), leads ? ledger_total(l, out) : MD_OK));
    return summary_write(j, a, leads ? l->store : NULL);
}

md_status reassess_store(const pairs_job *j, pairs_outcome *out)
{
    assessor *a = NULL;
    ledger l = {0};
    *out = (pairs_outcome){0};
    md_status status =
        assessor_open(j->cfg, j->data, j->be, (int)config_int(j->cfg, KEY_generate_batch), &a);
    if (status == MD_OK && !a)
        status = config_fail(j->cfg, KEY_model_encoder, "is empty: there is nothing to judge by");
    status = comm_agree(comm_world(), status);
    if (status == MD_OK)
        status = judge_all(j, a, &l, out);
    ledger_close(&l);
    assessor_free(a);
    return status;
}
