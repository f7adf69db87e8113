#include "generate/pairs.h"
#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/sha256.h"
#include "comm/comm.h"
#include "generate/worker.h"
#include "image/sheet.h"
#include "model/schedule_json.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_INPUTS = 8 };

/* The coordinator's side. */
typedef struct desk {
    const pairs_job *j;
    pairs_store *store;
    cluster_item *items; /* still to do */
    int64_t n_items, rows, done_before;
    md_progress bar;
    pairs_outcome out;
} desk;

/* The noise schedule in one spelling: generate.sampler = "auto" says nothing about it. */
static md_status hash_schedule(const diffusion_schedule *s, char hex[65])
{
    md_text t = {0};
    md_status status = schedule_write(&t, s);
    if (status == MD_OK)
        md_sha256(t.s, t.n, hex);
    md_text_free(&t);
    return status;
}

/* Of UNet, VAE and text encoder; a file that holds several is gigabytes and read once. */
static md_status hash_parts(const foundation *f, char hex[3][65])
{
    static const model_part parts[3] = {MODEL_UNET, MODEL_VAE, MODEL_TEXT_ENCODER};
    for (int i = 0; i < 3; i++) {
        int same = 0;
        while (same < i && strcmp(f->weights[parts[same]], f->weights[parts[i]]) != 0)
            same++;
        if (same < i)
            memcpy(hex[i], hex[same], sizeof hex[i]);
        else
            MD_TRY(foundation_hash(f, parts[i], hex[i]));
    }
    return MD_OK;
}

/* SHA-256 of everything that shapes samples. */
static md_status hash_inputs(const pairs_job *j, char hex[N_INPUTS][65],
                             pairs_input input[N_INPUTS], int *n)
{
    static const char *const names[N_INPUTS] = {"data",         "backgrounds", "unet", "vae",
                                                "text_encoder", "scheduler",   "lora"};
    *n = N_INPUTS - 2;
    MD_TRY(md_sha256_file(j->data, hex[0]));
    MD_TRY(md_sha256_file(j->backgrounds, hex[1]));
    MD_TRY(hash_parts(j->f, hex + 2));
    MD_TRY(hash_schedule(&j->f->schedule, hex[5]));
    for (int i = 0; i < *n; i++)
        input[i] = (pairs_input){names[i], hex[i]};
    const char *const optional[] = {*j->f->lora ? j->f->lora : NULL, j->masks};
    for (int i = 0; i < 2; i++) {
        if (!optional[i])
            continue;
        MD_TRY(md_sha256_file(optional[i], hex[*n]));
        input[*n] = (pairs_input){names[N_INPUTS - 2 + i], hex[*n]};
        ++*n;
    }
    return MD_OK;
}

static md_status create_store(const pairs_job *j, const pairs_input *input, int n, const char *text)
{
    data_store *d = NULL;
    char *licences = NULL;
    MD_TRY(data_open(j->data, DATA_IMAGES, &d));
    md_status status = data_text(d, "licences", &licences);
    pairs_spec spec = {.rows = config_int(j->cfg, KEY_generate_pairs),
                       .height = data_size(d),
                       .width = data_size(d),
                       .prompt = config_string(j->cfg, KEY_model_prompt),
                       .foundation = config_string(j->cfg, KEY_model_foundation),
                       .config = text,
                       .code_version = MEDDIFF_VERSION,
                       .licences = licences,
                       .seed = (uint64_t)config_int(j->cfg, KEY_seed),
                       .band = {NAN, NAN},
                       .contains_real_pixels = true, /* backgrounds are the data set's pictures */
                       .n_inputs = n};
    memcpy(spec.input, input, (size_t)n * sizeof *input);
    if (status == MD_OK)
        status = pairs_create(j->store, &spec);
    free(licences);
    data_close(d);
    return status;
}

/* The store as this run needs it: new, larger, or as it was with torn slots emptied. */
static md_status prepare_store(desk *d)
{
    const pairs_job *j = d->j;
    char hex[N_INPUTS][65];
    pairs_input input[N_INPUTS];
    int n_inputs;
    md_status status = MD_OK;
    const char *text = config_text(j->cfg, &status);
    MD_TRY(status);
    MD_TRY(hash_inputs(j, hex, input, &n_inputs));
    if (!md_file_exists(j->store))
        MD_TRY(create_store(j, input, n_inputs, text));
    MD_TRY(pairs_open_writer(j->store, &d->store));
    MD_TRY(pairs_check_config(d->store, j->cfg, j->sections, input, n_inputs));
    int64_t want = config_int(j->cfg, KEY_generate_pairs);
    if (want < pairs_rows(d->store))
        return config_fail(j->cfg, KEY_generate_pairs, "%lld, but %s has %lld slots already",
                           (long long)want, j->store, (long long)pairs_rows(d->store));
    if (want > pairs_rows(d->store)) {
        pairs_close(d->store);
        d->store = NULL;
        MD_TRY(pairs_grow(j->store, want, text));
        MD_TRY(pairs_open_writer(j->store, &d->store));
    }
    MD_TRY(pairs_repair(d->store, &d->out.torn));
    if (d->out.torn)
        md_warn("generate", "%s: %lld slots were torn and will be made again", j->store,
                (long long)d->out.torn);
    return MD_OK;
}

/* Slots that are empty, with the attempt they are at. */
static md_status list_items(desk *d)
{
    d->rows = pairs_rows(d->store);
    uint8_t *state = malloc((size_t)d->rows);
    int32_t *attempt = malloc((size_t)d->rows * sizeof *attempt);
    d->items = malloc((size_t)d->rows * sizeof *d->items);
    md_status status = MD_OK;
    if (!state || !attempt || !d->items)
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "generate: out of memory for %lld slots",
                         (long long)d->rows);
    if (status == MD_OK)
        status = pairs_read_states(d->store, state);
    if (status == MD_OK)
        status = pairs_read_attempts(d->store, attempt);
    for (int64_t i = 0; i < d->rows && status == MD_OK; i++)
        if (state[i] == PAIRS_EMPTY)
            d->items[d->n_items++] = (cluster_item){i, (uint32_t)attempt[i]};
    d->done_before = d->rows - d->n_items;
    free(state);
    free(attempt);
    return status;
}

static md_status on_result(void *user, const cluster_result *r, cluster_verdict *verdict)
{
    desk *d = user;
    pairs_report report;
    if (r->size != sizeof report)
        MD_FAIL(MD_COMM, "slot %lld: a report of %zu bytes", (long long)r->id, r->size);
    memcpy(&report, r->payload, sizeof report);
    pairs_row row = pairs_row_empty();
    row.state = PAIRS_ACCEPTED; /* there is no assessment yet */
    row.attempt = (int32_t)r->attempt;
    row.background_id = report.background_id;
    row.mask_id = report.mask_id;
    row.crc = report.crc;
    if (report.kept_guide)
        (void)snprintf(row.reason, sizeof row.reason,
                       "not eroded: a disc of %lld px leaves nothing of the guide",
                       (long long)config_int(d->j->cfg, KEY_quality_corrode_px));
    *verdict = CLUSTER_ACCEPT;
    return pairs_write_row(d->store, r->id, &row);
}

static md_status on_failed(void *user, cluster_item item, md_status status, const char *text)
{
    desk *d = user;
    pairs_row row = pairs_row_empty();
    row.state = PAIRS_FAILED;
    row.attempt = (int32_t)item.attempt;
    (void)snprintf(row.reason, sizeof row.reason, "%s: %s", md_status_name(status), text);
    md_warn("generate", "slot %lld failed for good: %s", (long long)item.id, text);
    return pairs_write_row(d->store, item.id, &row);
}

static md_status on_tick(void *user, const cluster_counts *c)
{
    desk *d = user;
    d->out.seconds = c->seconds;
    d->out.rate = c->rate;
    md_progress_at(&d->bar, d->done_before + c->accepted + c->failed);
    return pairs_sync(d->store);
}

/* Training rows of a store that pairs are made from. */
static md_status count_rows(const char *path, data_schema schema, int64_t *n)
{
    data_store *store = NULL;
    int64_t *ids = NULL;
    bool images = schema == DATA_IMAGES;
    MD_TRY(data_open(path, schema, &store));
    md_status status = data_select(store, images ? DATA_LESION : -1, DATA_TRAIN, images, &ids, n);
    free(ids);
    data_close(store);
    return status;
}

/* Masks and backgrounds in turn under one noise, as the released code has them: after the least
   common multiple of their numbers pairs are copies. */
static md_status warn_of_copies(const desk *d)
{
    const config *c = d->j->cfg;
    int64_t masks, scenes;
    if (d->j->masks) /* the released code has no such masks */
        return MD_OK;
    if (!config_choice(c, KEY_generate_noise) || !config_choice(c, KEY_generate_background) ||
        !config_choice(c, KEY_guide_mask))
        return MD_OK;
    MD_TRY(count_rows(d->j->data, DATA_IMAGES, &masks));
    MD_TRY(count_rows(d->j->backgrounds, DATA_BACKGROUNDS, &scenes));
    int64_t period = masks;
    while (period > 0 && scenes > 0 && period % scenes)
        period += masks;
    if (d->rows > period)
        md_warn("generate",
                "%lld masks in %lld backgrounds under one noise: pairs from number %lld on are "
                "copies of earlier ones",
                (long long)masks, (long long)scenes, (long long)period);
    return MD_OK;
}

/* What "auto" chose, and what has no effect. */
static void tell_sampler(const pairs_job *j)
{
    const char *name = config_string(j->cfg, KEY_generate_sampler);
    bool own = strcmp(name, "auto") == 0;
    const diffusion_sampler *row = sampler_find(own ? j->f->schedule.sampler : name);
    double eta = config_float(j->cfg, KEY_generate_eta);
    if (own && row)
        md_info("generate", "sampler: %s, the foundation's own", row->name);
    if (row && eta > 0 && !row->eta)
        md_warn("generate", "generate.eta = %g has no effect: %s takes none, ddim does", eta,
                row->name);
}

static md_status open_desk(desk *d)
{
    MD_TRY(prepare_store(d));
    MD_TRY(list_items(d));
    MD_TRY(warn_of_copies(d));
    tell_sampler(d->j);
    if (d->done_before)
        md_info("generate", "%s: %lld of %lld slots are done", d->j->store,
                (long long)d->done_before, (long long)d->rows);
    return MD_OK;
}

/* One process alone is both sides. */
typedef struct sides {
    desk *desk;
    pairs_worker *worker;
} sides;

static md_status result_at_desk(void *user, const cluster_result *r, cluster_verdict *verdict)
{
    return on_result(((sides *)user)->desk, r, verdict);
}

static md_status failure_at_desk(void *user, cluster_item item, md_status status, const char *text)
{
    return on_failed(((sides *)user)->desk, item, status, text);
}

static md_status tick_at_desk(void *user, const cluster_counts *c)
{
    return on_tick(((sides *)user)->desk, c);
}

static md_status lease_at_worker(void *user, cluster_batch *b)
{
    return pairs_worker_lease(((sides *)user)->worker, b);
}

static md_status run(const pairs_job *j, sides *s)
{
    cluster_work work = {.name = "pairs",
                         .user = s,
                         .items = s->desk->items,
                         .n_items = s->desk->n_items,
                         .on_result = result_at_desk,
                         .on_failed = failure_at_desk,
                         .on_tick = tick_at_desk,
                         .on_lease = lease_at_worker,
                         .batch = (int)config_int(j->cfg, KEY_generate_batch)};
    return cluster_run(&work, NULL);
}

/* Over the whole store, earlier runs' slots too. */
static md_status count(desk *d)
{
    int64_t n[PAIRS_N_STATES];
    MD_TRY(pairs_sync(d->store));
    MD_TRY(pairs_count_states(d->store, n));
    d->out.accepted = n[PAIRS_ACCEPTED];
    d->out.failed = n[PAIRS_FAILED];
    return pairs_count_remarked(d->store, &d->out.kept_guide);
}

/* The whole of it; what the sides hold is freed by the caller. */
static md_status generate(const pairs_job *j, sides *s)
{
    desk *d = s->desk;
    bool leads = comm_rank(comm_world()) == 0;
    md_status status = j->be ? pairs_worker_open(j, &s->worker) : MD_OK;
    MD_TRY(comm_agree(comm_world(), status));
    MD_TRY(comm_agree(comm_world(), leads ? open_desk(d) : MD_OK));
    status = j->be ? pairs_worker_start(s->worker) : MD_OK;
    MD_TRY(comm_agree(comm_world(), status));
    if (leads)
        d->bar = md_progress_begin("generate", "pairs", d->done_before, d->rows);
    status = run(j, s);
    if (!leads)
        return status;
    char why[1024]; /* counting must not lose the reason of a stop */
    (void)snprintf(why, sizeof why, "%s", md_status_text());
    md_status counted = count(d);
    md_progress_end(&d->bar, d->out.accepted + d->out.failed);
    if (status != MD_OK)
        return md_fail(status, __FILE__, __LINE__, "%s", why);
    MD_TRY(counted);
    return pairs_preview(j->store, j->preview, 40);
}

md_status pairs_generate(const pairs_job *j, pairs_outcome *out)
{
    desk d = {.j = j};
    sides s = {.desk = &d};
    md_status status = generate(j, &s);
    *out = d.out;
    pairs_worker_close(s.worker);
    pairs_close(d.store);
    free(d.items);
    return status;
}

static md_status put_pair(pairs_store *p, int64_t slot, image_sheet *sheet, int64_t cell)
{
    static const image_color green = {60, 255, 60};
    int64_t h = pairs_height(p), w = pairs_width(p);
    image im = {0}, mask = {0};
    md_status status = image_new(&im, h, w, 3);
    if (status == MD_OK)
        status = image_new(&mask, h, w, 1);
    if (status == MD_OK)
        status = pairs_read_pixels(p, slot, im.px, mask.px, NULL);
    /* each pair twice: as it is, and with the outline */
    if (status == MD_OK)
        status = image_sheet_put(sheet, 2 * (cell / sheet->cols), cell % sheet->cols, &im, NULL);
    if (status == MD_OK)
        status = image_draw_outline(&im, &mask, green, 1);
    if (status == MD_OK)
        status =
            image_sheet_put(sheet, 2 * (cell / sheet->cols) + 1, cell % sheet->cols, &im, NULL);
    image_free(&im);
    image_free(&mask);
    return status;
}

md_status pairs_preview(const char *store, const char *png, int most)
{
    enum { COLS = 8 };
    pairs_store *p = NULL;
    image_sheet sheet = {0};
    MD_TRY(pairs_open_reader(store, &p));
    int64_t rows = pairs_rows(p), n = 0;
    uint8_t *state = malloc((size_t)rows);
    md_status status = state ? pairs_read_states(p, state)
                             : md_fail(MD_NOMEM, __FILE__, __LINE__, "preview: out of memory");
    for (int64_t i = 0; i < rows && status == MD_OK; i++)
        n += state[i] == PAIRS_ACCEPTED;
    n = n < most ? n : most;
    if (status == MD_OK && n > 0)
        status = image_sheet_new(&sheet, 2 * ((n + COLS - 1) / COLS), COLS, pairs_height(p),
                                 pairs_width(p), 2, 0);
    int64_t cell = 0;
    for (int64_t i = 0; i < rows && cell < n && status == MD_OK; i++)
        if (state[i] == PAIRS_ACCEPTED)
            status = put_pair(p, i, &sheet, cell++);
    if (status == MD_OK && n > 0)
        status = image_write_png(png, &sheet.im, NULL, 0);
    image_sheet_free(&sheet);
    free(state);
    pairs_close(p);
    return status;
}
