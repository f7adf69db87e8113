#include "generate/backgrounds.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "comm/comm.h"
#include "generate/origin.h"
#include "generate/repair.h"
#include "image/sheet.h"

/* The coordinator's side. */
typedef struct desk {
    const backgrounds_job *j;
    data_store *data, *store;
    repair_row *rows;
    cluster_item *items; /* still to do */
    int64_t n_items;
    double contrast; /* summed */
    md_progress bar;
    backgrounds_outcome out;
} desk;

/* What data.h5 says of the data set goes on. */
static md_status create_store(desk *d, const char *origin)
{
    char *format = NULL, *licences = NULL;
    md_status status = MD_OK;
    const char *text = config_text(d->j->cfg, &status);
    MD_TRY(status);
    status = data_text(d->data, "format", &format);
    if (status == MD_OK)
        status = origin_licences(d->j->f, d->data, &licences);
    data_info info = {.config = text,
                      .code_version = MEDDIFF_VERSION,
                      .format = format,
                      .licences = licences,
                      .made_from = origin,
                      .seed = (uint64_t)config_int(d->j->cfg, KEY_seed)};
    if (status == MD_OK)
        status = data_create(d->j->store, DATA_BACKGROUNDS, d->out.rows, data_size(d->data), &info,
                             &d->store);
    if (status == MD_OK)
        data_keep(d->store);
    free(format);
    free(licences);
    return status;
}

/* An unfinished store must come from the same settings, models and images. */
static md_status check_store(desk *d, const char *origin)
{
    char *text = NULL, *from = NULL;
    md_status status = data_text(d->store, "config", &text);
    if (status == MD_OK)
        status = config_same_as(d->j->cfg, text, d->j->store, d->j->sections);
    if (status == MD_OK)
        status = data_text(d->store, "made_from", &from);
    if (status == MD_OK && (strcmp(from, origin) || data_rows(d->store) != d->out.rows))
        status = md_fail(MD_USAGE, __FILE__, __LINE__,
                         "its repairs come from another background model or other images\n"
                         "there:\n%snow:\n%s",
                         from, origin);
    free(text);
    free(from);
    return status == MD_OK
               ? MD_OK
               : md_context(status, "%s.tmp, which an earlier start left: remove it to begin anew",
                            d->j->store);
}

static md_status prepare_store(desk *d)
{
    char *origin = NULL;
    MD_TRY(origin_text(d->j->f, d->j->data, &origin));
    md_status status = data_resume(d->j->store, DATA_BACKGROUNDS, &d->store);
    if (status != MD_OK) {
        md_warn("backgrounds", "an earlier start left a file that cannot be read, made anew: %s",
                md_status_text());
        md_status_clear();
        status = MD_OK;
    } else if (d->store) {
        status = check_store(d, origin);
    }
    if (status == MD_OK && !d->store)
        status = create_store(d, origin);
    free(origin);
    return status;
}

/* A row is done when it says that it was repaired, and its pixels give their checksum. */
static md_status list_items(desk *d)
{
    d->items = malloc((size_t)d->out.rows * sizeof *d->items);
    if (!d->items)
        MD_FAIL(MD_NOMEM, "repair: out of memory");
    int64_t *ids = NULL, n = 0, next = 0;
    MD_TRY(data_select(d->store, DATA_REPAIRED, DATA_TRAIN, false, &ids, &n));
    md_status status = MD_OK;
    for (int64_t i = 0; i < d->out.rows && status == MD_OK; i++) {
        bool whole = false;
        if (next < n && ids[next] == i) {
            next++;
            status = data_verify_row(d->store, i, &whole);
        }
        if (!whole)
            d->items[d->n_items++] = (cluster_item){i, 0};
    }
    free(ids);
    d->out.kept = d->out.rows - d->n_items;
    return status;
}

static md_status open_desk(desk *d)
{
    MD_TRY(data_open(d->j->data, DATA_IMAGES, &d->data));
    MD_TRY(repair_list(d->j->cfg, d->data, &d->rows, &d->out.rows, &d->out.skipped));
    MD_TRY(prepare_store(d));
    MD_TRY(list_items(d));
    if (d->out.skipped)
        md_warn("backgrounds",
                "%lld training images are left out: their lesion fills most of the picture",
                (long long)d->out.skipped);
    if (d->out.kept)
        md_info("backgrounds", "%lld of %lld are done", (long long)d->out.kept,
                (long long)d->out.rows);
    return MD_OK;
}

static md_status on_result(void *user, const cluster_result *r, cluster_verdict *verdict)
{
    desk *d = user;
    repair_report report;
    data_row row;
    if (r->size != sizeof report)
        MD_FAIL(MD_COMM, "row %lld: a report of %zu bytes", (long long)r->id, r->size);
    memcpy(&report, r->payload, sizeof report);
    MD_TRY(data_read_row(d->data, d->rows[r->id].id, &row));
    row.kind = DATA_REPAIRED;
    d->contrast += (double)report.contrast;
    *verdict = CLUSTER_ACCEPT;
    MD_TRY(data_put_crc(d->store, r->id, report.crc));
    return data_write_row(d->store, r->id, &row);
}

static md_status on_failed(void *user, cluster_item item, md_status status, const char *text)
{
    desk *d = user;
    (void)status;
    d->out.failed++;
    md_warn("backgrounds", "row %lld failed for good: %s", (long long)item.id, text);
    return MD_OK;
}

static md_status on_tick(void *user, const cluster_counts *c)
{
    desk *d = user;
    d->out.rate = c->rate;
    md_progress_at(&d->bar, d->out.kept + c->accepted + c->failed);
    return data_sync(d->store);
}

static md_status run(desk *d, repair_worker *w)
{
    cluster_work work = {.name = "backgrounds",
                         .user = d,
                         .items = d->items,
                         .n_items = d->n_items,
                         .on_result = on_result,
                         .on_failed = on_failed,
                         .on_tick = on_tick,
                         .worker = w,
                         .on_lease = repair_worker_lease,
                         .batch = (int)config_int(d->j->cfg, KEY_generate_batch)};
    return cluster_run(&work, NULL);
}

/* ---- the sheet: before, with what was repaired; after, with where no lesion may lie */

static md_status put_row(desk *d, int64_t i, int64_t cell, image_sheet *sheet)
{
    static const image_color green = {60, 255, 60}, red = {200, 0, 0};
    int64_t size = data_size(d->data), at = 2 * (cell / sheet->cols), col = cell % sheet->cols;
    image rgb = {0}, map = {0};
    md_status status = image_new(&rgb, size, size, 3);
    if (status == MD_OK)
        status = image_new(&map, size, size, 1);
    if (status == MD_OK)
        status = data_read_pixels(d->data, d->rows[i].id, rgb.px, map.px);
    if (status == MD_OK)
        status = image_draw_outline(&rgb, &map, green, (double)size / 128);
    if (status == MD_OK)
        status = image_sheet_put(sheet, at, col, &rgb, NULL);
    if (status == MD_OK)
        status = data_read_pixels(d->store, i, rgb.px, map.px);
    for (int64_t k = 0; k < size * size && status == MD_OK; k++)
        map.px[k] = !map.px[k];
    if (status == MD_OK)
        status = image_draw_tint(&rgb, &map, red, 0.4);
    if (status == MD_OK)
        status = image_sheet_put(sheet, at + 1, col, &rgb, NULL);
    image_free(&rgb);
    image_free(&map);
    return status;
}

static md_status draw_sheet(desk *d)
{
    enum { MOST = 60, COLS = 10, CELL = 256 };
    int64_t size = data_size(d->data), cell = size < CELL ? size : CELL;
    int64_t n = d->out.rows < MOST ? d->out.rows : MOST, cols = n < COLS ? n : COLS;
    image_sheet sheet = {0};
    MD_TRY(image_sheet_new(&sheet, 2 * ((n + cols - 1) / cols), cols, cell, cell, 2, 0));
    md_status status = MD_OK;
    for (int64_t i = 0; i < n && status == MD_OK; i++)
        status = put_row(d, i, i, &sheet);
    if (status == MD_OK)
        status = image_write_png(d->j->sheet, &sheet.im, NULL, 0);
    image_sheet_free(&sheet);
    return status;
}

/* ---- the whole */

static md_status finish(desk *d)
{
    if (d->out.failed)
        MD_FAIL(MD_NONFINITE, "%lld of %lld repairs failed; see the log", (long long)d->out.failed,
                (long long)d->out.rows);
    if (d->n_items)
        md_info("backgrounds", "contrast of what was repaired against its surroundings: %.2f",
                d->contrast / (double)d->n_items);
    MD_TRY(draw_sheet(d));
    data_store *store = d->store;
    d->store = NULL;
    return data_finish(store);
}

/* What desk and worker hold is freed by the caller. */
static md_status repair(desk *d, repair_worker **w)
{
    const backgrounds_job *j = d->j;
    bool leads = comm_rank(comm_world()) == 0;
    md_status status = j->be ? repair_worker_open(j, w) : MD_OK;
    MD_TRY(comm_agree(comm_world(), status));
    MD_TRY(comm_agree(comm_world(), leads ? open_desk(d) : MD_OK));
    status = j->be ? repair_worker_start(*w) : MD_OK;
    MD_TRY(comm_agree(comm_world(), status));
    if (leads)
        d->bar = md_progress_begin("backgrounds", "pictures", d->out.kept, d->out.rows);
    status = run(d, *w);
    if (!leads)
        return status;
    md_progress_end(&d->bar, d->out.rows);
    MD_TRY(status);
    return finish(d);
}

md_status backgrounds_repair(const backgrounds_job *j, backgrounds_outcome *out)
{
    desk d = {.j = j};
    repair_worker *w = NULL;
    md_status status = repair(&d, &w);
    *out = d.out;
    repair_worker_close(w);
    data_close(d.store);
    data_close(d.data);
    free(d.rows);
    free(d.items);
    return status;
}
