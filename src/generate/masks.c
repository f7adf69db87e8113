#include "generate/masks.h"
#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/sha256.h"
#include "comm/comm.h"
#include "generate/mask_worker.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_WITHOUT_ASKING = 1500 }; /* masks.count = 0: pairs that are many share masks */

/* The coordinator's side. */
typedef struct desk {
    const masks_job *j;
    masks_store *store;
    int64_t rows, n_items, done_before;
    uint32_t attempts;
    uint8_t *state;      /* [rows], as on disk once a round has ended */
    int32_t *attempt;    /* [rows] */
    cluster_item *items; /* [n_items] of this round */
    image_form *forms;   /* [rows] of accepted masks; the first n_forms are there */
    int64_t n_forms;
    md_progress bar;
    masks_outcome out;
} desk;

int64_t masks_count(const config *c)
{
    int64_t count = config_int(c, KEY_masks_count), pairs = config_int(c, KEY_generate_pairs);
    return count ? count : pairs < MOST_WITHOUT_ASKING ? pairs : MOST_WITHOUT_ASKING;
}

/* "0 fine, 1 empty, ..." */
static void list_codes(char *out, size_t size)
{
    size_t at = 0;
    for (int f = 0; f < MASK_N_FAULTS && at < size; f++)
        at += (size_t)snprintf(out + at, size - at, "%s%d %s", f ? ", " : "", f,
                               mask_fault_text((mask_fault)f));
}

static md_status create_store(const masks_job *j, const char *data_hex, const char *model_hex)
{
    mask_judge judge;
    data_store *d = NULL;
    char *licences = NULL, codes[512];
    md_status status = MD_OK;
    const char *text = config_text(j->cfg, &status);
    MD_TRY(status);
    MD_TRY(mask_judge_open(j->data, config_float(j->cfg, KEY_masks_copy), &judge));
    const masks_limits *l = &judge.limits;
    md_info("masks",
            "limits of %lld training masks: area %.4f to %.4f of the square, at most %lld parts, "
            "%lld holes, %lld border pixels; a copy: IoU above %.3f",
            (long long)judge.real.n, l->area[0], l->area[1], (long long)l->components,
            (long long)l->holes, (long long)l->border, l->copy);
    list_codes(codes, sizeof codes);
    status = data_open(j->data, DATA_IMAGES, &d);
    if (status == MD_OK)
        status = data_text(d, "licences", &licences);
    masks_spec spec = {.rows = masks_count(j->cfg),
                       .size = judge.real.size,
                       .attempts = config_int(j->cfg, KEY_masks_attempts),
                       .fault_codes = codes,
                       .config = text,
                       .code_version = MEDDIFF_VERSION,
                       .licences = licences,
                       .sha256_data = data_hex,
                       .sha256_model = model_hex,
                       .seed = (uint64_t)config_int(j->cfg, KEY_seed),
                       .limits = *l};
    if (status == MD_OK)
        status = masks_create(j->store, &spec);
    free(licences);
    data_close(d);
    mask_judge_close(&judge);
    return status;
}

static md_status open_desk(desk *d)
{
    const masks_job *j = d->j;
    char data_hex[65], model_hex[65];
    MD_TRY(md_sha256_file(j->data, data_hex));
    MD_TRY(mask_model_hash(j->model, model_hex));
    if (!md_file_exists(j->store))
        MD_TRY(create_store(j, data_hex, model_hex));
    MD_TRY(masks_open_writer(j->store, &d->store));
    MD_TRY(masks_check(d->store, j->cfg, j->sections, data_hex, model_hex));
    MD_TRY(masks_repair(d->store, &d->out.torn));
    if (d->out.torn)
        md_warn("masks", "%s: %lld slots were torn and will be made again", j->store,
                (long long)d->out.torn);
    d->rows = masks_rows(d->store);
    d->attempts = (uint32_t)config_int(j->cfg, KEY_masks_attempts);
    d->state = malloc((size_t)d->rows);
    d->attempt = malloc((size_t)d->rows * sizeof *d->attempt);
    d->items = malloc((size_t)d->rows * sizeof *d->items);
    d->forms = malloc((size_t)d->rows * sizeof *d->forms);
    if (!d->state || !d->attempt || !d->items || !d->forms)
        MD_FAIL(MD_NOMEM, "masks: out of memory for %lld slots", (long long)d->rows);
    return MD_OK;
}

static int64_t count_state(const desk *d, masks_state state)
{
    int64_t n = 0;
    for (int64_t i = 0; i < d->rows; i++)
        n += d->state[i] == state;
    return n;
}

static void list_items(desk *d)
{
    d->n_items = 0;
    for (int64_t i = 0; i < d->rows; i++)
        if (d->state[i] == MASKS_EMPTY)
            d->items[d->n_items++] = (cluster_item){i, (uint32_t)d->attempt[i]};
}

/* ---- a worker's results */

static void give_reason(masks_row *row, mask_fault fault)
{
    (void)snprintf(row->reason, sizeof row->reason, "%s", mask_fault_text(fault));
}

static md_status on_result(void *user, const cluster_result *r, cluster_verdict *verdict)
{
    desk *d = user;
    mask_report report;
    if (r->size != sizeof report)
        MD_FAIL(MD_COMM, "mask %lld: a report of %zu bytes", (long long)r->id, r->size);
    memcpy(&report, r->payload, sizeof report);
    if (report.fault < 0 || report.fault >= MASK_N_FAULTS)
        MD_FAIL(MD_COMM, "mask %lld: a report of fault %d", (long long)r->id, (int)report.fault);
    masks_row row = {.state = MASKS_WRITTEN,
                     .attempt = (int32_t)r->attempt,
                     .nearest_id = report.nearest_id,
                     .nearest_iou = report.nearest_iou,
                     .crc = report.crc};
    memcpy(row.shape, report.shape, sizeof row.shape);
    *verdict = CLUSTER_ACCEPT;
    if (report.fault == MASK_FINE)
        return masks_write_row(d->store, r->id, &row);
    d->out.redrawn[report.fault]++;
    MD_TRY(masks_write_fault(d->store, r->id, row.attempt, report.fault, NULL)); /* first */
    if (r->attempt + 1 < d->attempts) {
        *verdict = CLUSTER_REDRAW;
        return masks_reset(d->store, r->id, (int32_t)r->attempt + 1);
    }
    *verdict = CLUSTER_DROP;
    row.state = MASKS_REJECTED;
    give_reason(&row, (mask_fault)report.fault);
    return masks_write_row(d->store, r->id, &row);
}

static md_status on_failed(void *user, cluster_item item, md_status status, const char *text)
{
    desk *d = user;
    masks_row row = {.state = MASKS_FAILED, .attempt = (int32_t)item.attempt, .nearest_id = -1};
    (void)snprintf(row.reason, sizeof row.reason, "%s", md_status_name(status));
    md_warn("masks", "mask %lld failed for good: %s", (long long)item.id, text);
    return masks_write_row(d->store, item.id, &row);
}

static md_status on_tick(void *user, const cluster_counts *c)
{
    desk *d = user;
    d->out.seconds = c->seconds;
    d->out.rate = c->rate;
    md_progress_at(&d->bar, d->rows - d->n_items + c->accepted + c->dropped + c->failed);
    return masks_sync(d->store);
}

/* ---- between rounds: masks among each other */

/* Is mask `slot` one of those that are accepted? It becomes one if it is not. */
static md_status compare(desk *d, int64_t slot, image *mask, image_form *turned, bool *twin)
{
    double iou;
    MD_TRY(masks_read_pixels(d->store, slot, mask->px));
    MD_TRY(image_form_turned(mask, turned));
    (void)mask_nearest(d->forms, d->n_forms, -1, turned, &iou);
    *twin = d->state[slot] == MASKS_WRITTEN && iou >= MASK_TWIN_IOU;
    if (!*twin)
        d->forms[d->n_forms++] = turned[0];
    return MD_OK;
}

/* Decides every slot of the round that has ended, in their order, so that neither the number of
   workers nor who was first matters. Masks accepted in earlier rounds go before. */
static md_status settle(desk *d, image *mask, image_form *turned)
{
    d->n_forms = 0;
    for (int pass = 0; pass < 2; pass++) {
        masks_state which = pass ? MASKS_WRITTEN : MASKS_ACCEPTED;
        for (int64_t i = 0; i < d->rows; i++) {
            bool twin;
            if (d->state[i] != which)
                continue;
            MD_TRY(compare(d, i, mask, turned, &twin));
            if (!twin) {
                /* what follows in this pass is still told apart: pass 0 has ended */
                d->state[i] = MASKS_ACCEPTED;
                continue;
            }
            d->out.redrawn[MASK_TWIN]++;
            bool again = (uint32_t)d->attempt[i] + 1 < d->attempts;
            MD_TRY(masks_write_fault(d->store, i, d->attempt[i], MASK_TWIN,
                                     again ? NULL : mask_fault_text(MASK_TWIN)));
            d->state[i] = again ? MASKS_EMPTY : MASKS_REJECTED;
            d->attempt[i] += again;
        }
    }
    return masks_settle(d->store, d->state, d->attempt);
}

/* Reads where the round has left the slots, compares, and lists what is to be drawn next. */
static md_status end_round(desk *d)
{
    image mask = {0};
    MD_TRY(masks_read_states(d->store, d->state, d->attempt));
    if (count_state(d, MASKS_EMPTY) == 0 && count_state(d, MASKS_WRITTEN) > 0) {
        image_form *turned = malloc(2 * IMAGE_FORM_TURNS * sizeof *turned);
        int64_t size = masks_size(d->store);
        md_status status = turned ? image_new(&mask, size, size, 1)
                                  : md_fail(MD_NOMEM, __FILE__, __LINE__, "masks: out of memory");
        if (status == MD_OK)
            status = settle(d, &mask, turned);
        image_free(&mask);
        free(turned);
        MD_TRY(status);
        MD_TRY(masks_sync(d->store));
    }
    list_items(d);
    return MD_OK;
}

/* ---- both sides: one process alone is desk and worker */

static md_status draw(desk *d, mask_worker *w)
{
    cluster_work work = {.name = "masks",
                         .user = d,
                         .items = d->items,
                         .n_items = d->n_items,
                         .on_result = on_result,
                         .on_failed = on_failed,
                         .on_tick = on_tick,
                         .worker = w,
                         .on_lease = mask_worker_lease,
                         .batch = (int)config_int(d->j->cfg, KEY_masks_sample_batch)};
    return cluster_run(&work, NULL);
}

/* Rounds until nothing is left to draw; every rank hears from rank 0 whether there is another. */
static md_status draw_rounds(desk *d, mask_worker *w, bool leads)
{
    for (;;) {
        int64_t left = 0;
        MD_TRY(comm_agree(comm_world(), leads ? end_round(d) : MD_OK));
        if (leads)
            left = d->n_items;
        MD_TRY(comm_broadcast(comm_world(), 0, &left, sizeof left, 0));
        if (left == 0)
            return MD_OK;
        d->out.drawn = true;
        MD_TRY(draw(d, w));
    }
}

static void tell_redraws(const desk *d)
{
    for (int f = MASK_EMPTY; f < MASK_N_FAULTS; f++)
        if (d->out.redrawn[f])
            md_info("masks", "%lld draws were not taken: %s", (long long)d->out.redrawn[f],
                    mask_fault_text((mask_fault)f));
}

static md_status conclude(desk *d)
{
    d->out.accepted = count_state(d, MASKS_ACCEPTED);
    d->out.rejected = count_state(d, MASKS_REJECTED);
    d->out.failed = count_state(d, MASKS_FAILED);
    if (d->out.rejected)
        md_warn("masks", "%lld of %lld masks were given up after %u attempts; /reason says why",
                (long long)d->out.rejected, (long long)d->rows, (unsigned)d->attempts);
    if (d->out.accepted == 0)
        MD_FAIL(MD_UNSUPPORTED,
                "%s: none of %lld masks is plausible (see the counts above): train longer "
                "(masks.steps), allow more (masks.copy), or take guides from the data set "
                "(guide.from = \"data\")",
                d->j->store, (long long)d->rows);
    return MD_OK;
}

static md_status generate(desk *d, mask_worker **w)
{
    const masks_job *j = d->j;
    bool leads = comm_rank(comm_world()) == 0;
    md_status status = j->be ? mask_worker_open(j, w) : MD_OK;
    MD_TRY(comm_agree(comm_world(), status));
    MD_TRY(comm_agree(comm_world(), leads ? open_desk(d) : MD_OK));
    status = j->be ? mask_worker_start(*w) : MD_OK;
    MD_TRY(comm_agree(comm_world(), status));
    if (leads)
        d->bar = md_progress_begin("masks", "masks", 0, d->rows);
    status = draw_rounds(d, *w, leads);
    if (leads) {
        md_progress_end(&d->bar, d->rows - d->n_items);
        tell_redraws(d);
    }
    MD_TRY(status);
    return comm_agree(comm_world(), leads ? conclude(d) : MD_OK);
}

md_status masks_generate(const masks_job *j, masks_outcome *out)
{
    desk d = {.j = j};
    mask_worker *w = NULL;
    md_status status = generate(&d, &w);
    *out = d.out;
    mask_worker_close(w);
    masks_close(d.store);
    free(d.state);
    free(d.attempt);
    free(d.items);
    free(d.forms);
    return status;
}
