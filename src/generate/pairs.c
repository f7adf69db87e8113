#include "generate/pairs.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/sha256.h"
#include "comm/comm.h"
#include "generate/origin.h"
#include "generate/reassess.h"
#include "generate/summary.h"
#include "generate/worker.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_INPUTS = 2 + ORIGIN_N_PARTS + 2, PREVIEW_PAIRS = 40, PREVIEW_ROW = 8 };
static const double PREVIEW_EVERY_S = 10;

/* The coordinator's side. */
typedef struct desk {
    const pairs_job *j;
    assessor *assess; /* NULL: pairs are not judged */
    ledger book;
    cluster_item *items; /* still to do */
    int64_t n_items, rows, done_before, accepted_before;
    md_progress bar;
    int64_t previewed;   /* pairs that preview.png shows */
    double previewed_at; /* md_now() */
    pairs_outcome out;
} desk;

/* SHA-256 of everything that shapes samples, and of what judges them. */
static md_status hash_inputs(const pairs_job *j, const assessor *assess,
                             char hex[N_INPUTS][MD_SHA256_HEX], pairs_input input[N_INPUTS], int *n)
{
    int parts;
    MD_TRY(md_sha256_file(j->data, hex[0]));
    MD_TRY(md_sha256_file(j->backgrounds, hex[1]));
    MD_TRY(origin_of(j->f, hex + 2, &parts));
    input[0] = (pairs_input){"data", hex[0]};
    input[1] = (pairs_input){"backgrounds", hex[1]};
    for (int i = 0; i < parts; i++)
        input[2 + i] = (pairs_input){origin_names[i], hex[2 + i]};
    *n = 2 + parts;
    if (j->masks) {
        MD_TRY(md_sha256_file(j->masks, hex[*n]));
        input[*n] = (pairs_input){"masks", hex[*n]};
        ++*n;
    }
    if (assess) {
        input[*n] = (pairs_input){"encoder", assessor_hash(assess)};
        ++*n;
    }
    return MD_OK;
}

md_status pairs_check_made_from(const pairs_job *j)
{
    char hex[N_INPUTS][MD_SHA256_HEX];
    pairs_input input[N_INPUTS];
    pairs_store *p = NULL;
    int n;
    MD_TRY(hash_inputs(j, NULL, hex, input, &n));
    MD_TRY(pairs_open_reader(j->store, &p));
    md_status status = pairs_check_config(p, j->cfg, j->sections, input, n);
    pairs_close(p);
    return status;
}

/* Outside the guides there are a background's pixels, inside what a model learnt from the images.
 */
static md_status find_real_pixels(const pairs_job *j, data_store *d, bool *real)
{
    data_store *backgrounds = NULL;
    bool drawn = false;
    MD_TRY(data_is_drawn(d, &drawn));
    if (drawn) {
        MD_TRY(data_open(j->backgrounds, DATA_BACKGROUNDS, &backgrounds));
        md_status status = data_is_drawn(backgrounds, &drawn);
        data_close(backgrounds);
        MD_TRY(status);
    }
    *real = !drawn;
    return MD_OK;
}

static md_status create_store(const desk *k, const pairs_input *input, int n, const char *text)
{
    const pairs_job *j = k->j;
    data_store *d = NULL;
    char *licences = NULL;
    double limits[PAIRS_BAND] = {NAN, NAN, NAN, NAN};
    if (k->assess)
        MD_TRY(assessor_find_band(k->assess, limits));
    MD_TRY(data_open(j->data, DATA_IMAGES, &d));
    bool real = true;
    md_status status = find_real_pixels(j, d, &real);
    if (status == MD_OK)
        status = origin_licences(j->f, d, &licences);
    pairs_spec spec = {.rows = config_int(j->cfg, KEY_generate_pairs),
                       .height = data_size(d),
                       .width = data_size(d),
                       .prompt = config_string(j->cfg, KEY_model_prompt),
                       .foundation = config_string(j->cfg, KEY_model_foundation),
                       .config = text,
                       .code_version = MEDDIFF_VERSION,
                       .licences = licences,
                       .seed = (uint64_t)config_int(j->cfg, KEY_seed),
                       .contains_real_pixels = real,
                       .n_inputs = n};
    memcpy(spec.band, limits, sizeof limits);
    memcpy(spec.input, input, (size_t)n * sizeof *input);
    if (status == MD_OK)
        status = rejects_drop(j->rejected, j->pictures); /* of a store that was removed */
    if (status == MD_OK)
        status = pairs_create(j->store, &spec);
    free(licences);
    data_close(d);
    return status;
}

/* A store that was judged otherwise, or by nobody, is judged anew by `assess`, not here. */
static md_status check_rules(const desk *d, pairs_store *p)
{
    config *then = NULL;
    bool judged = pairs_has_input(p, "encoder");
    if (judged != (d->assess != NULL))
        return config_fail(d->j->cfg, KEY_model_encoder, "%s, but the pairs of %s are %s",
                           judged ? "is empty" : "is set", d->j->store,
                           judged ? "judged: set it as it was"
                                  : "not judged: \"meddiff assess\" does that, or leave it empty");
    MD_TRY(pairs_config(p, &then));
    md_status status = band_same_rules(d->j->cfg, then, d->j->store);
    config_free(then);
    return status;
}

static md_status check_store(const desk *d, const pairs_input *input, int n, int64_t *rows)
{
    pairs_store *p = NULL;
    MD_TRY(pairs_open_reader(d->j->store, &p));
    md_status status = check_rules(d, p);
    if (status == MD_OK)
        status = pairs_check_config(p, d->j->cfg, d->j->sections, input, n);
    *rows = pairs_rows(p);
    pairs_close(p);
    return status;
}

/* What made a slot fail may be gone; if it is not, the next attempt is another draw. */
static md_status reopen_failed(pairs_store *p)
{
    int64_t n = 0;
    for (int64_t slot = 0; slot < pairs_rows(p); slot++) {
        pairs_row row;
        MD_TRY(pairs_read_row(p, slot, &row));
        if (row.state != PAIRS_FAILED)
            continue;
        MD_TRY(pairs_reset(p, slot, row.attempt + 1));
        n++;
    }
    if (n)
        md_info("generate", "%lld slots failed in an earlier start and are drawn again",
                (long long)n);
    return MD_OK;
}

/* The store as this run needs it: new, larger, or as it was with torn slots emptied. */
static md_status prepare_store(desk *d)
{
    const pairs_job *j = d->j;
    char hex[N_INPUTS][MD_SHA256_HEX];
    pairs_input input[N_INPUTS];
    int n_inputs = 0;
    int64_t rows = 0, want = config_int(j->cfg, KEY_generate_pairs);
    md_status status = MD_OK;
    const char *text = config_text(j->cfg, &status);
    MD_TRY(status);
    MD_TRY(hash_inputs(j, d->assess, hex, input, &n_inputs));
    if (!md_file_exists(j->store))
        MD_TRY(create_store(d, input, n_inputs, text));
    MD_TRY(check_store(d, input, n_inputs, &rows));
    if (want < rows)
        return config_fail(j->cfg, KEY_generate_pairs, "%lld, but %s has %lld slots already",
                           (long long)want, j->store, (long long)rows);
    if (want > rows)
        MD_TRY(pairs_grow(j->store, want, text));
    MD_TRY(ledger_open(&d->book, j->store, j->rejected, d->assess, j->cfg));
    MD_TRY(pairs_repair(d->book.store, &d->out.torn));
    if (d->out.torn)
        md_warn("generate", "%s: %lld slots were torn and will be made again", j->store,
                (long long)d->out.torn);
    return reopen_failed(d->book.store);
}

/* Slots that are empty, with the attempt they are at, and rejected ones that have attempts left. */
static md_status fill_items(desk *d, const uint8_t *state, const int32_t *attempt)
{
    for (int64_t i = 0; i < d->rows; i++) {
        bool again = d->assess && state[i] == PAIRS_REJECTED && attempt[i] + 1 < d->book.attempts;
        if (again)
            MD_TRY(pairs_reset(d->book.store, i, attempt[i] + 1));
        if (again || state[i] == PAIRS_EMPTY)
            d->items[d->n_items++] = (cluster_item){i, (uint32_t)(attempt[i] + again)};
        d->accepted_before += state[i] == PAIRS_ACCEPTED;
    }
    d->done_before = d->rows - d->n_items;
    return MD_OK;
}

static md_status list_items(desk *d)
{
    d->n_items = d->accepted_before = 0;
    free(d->items);
    uint8_t *state = malloc((size_t)d->rows);
    int32_t *attempt = malloc((size_t)d->rows * sizeof *attempt);
    d->items = malloc((size_t)d->rows * sizeof *d->items);
    md_status status = MD_OK;
    if (!state || !attempt || !d->items)
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "generate: out of memory for %lld slots",
                         (long long)d->rows);
    if (status == MD_OK)
        status = pairs_read_states(d->book.store, state);
    if (status == MD_OK)
        status = pairs_read_attempts(d->book.store, attempt);
    if (status == MD_OK)
        status = fill_items(d, state, attempt);
    if (status == MD_OK && d->n_items > 0)
        status = summary_drop(d->j);
    free(state);
    free(attempt);
    return status;
}

/* preview.png while pairs come in: whenever another row of it is full, so a few times in all, since
   a large one takes the coordinator seconds. One that cannot be written is missed at the end. */
static void look(desk *d, int64_t accepted)
{
    int64_t full = accepted < PREVIEW_PAIRS ? accepted / PREVIEW_ROW * PREVIEW_ROW : PREVIEW_PAIRS;
    if (full <= d->previewed || (d->previewed && md_now() - d->previewed_at < PREVIEW_EVERY_S))
        return;
    d->previewed = full;
    if (pairs_preview(d->j->store, d->j->preview, PREVIEW_PAIRS) != MD_OK) {
        md_warn("generate", "no preview yet: %s", md_status_text());
        md_status_clear();
        d->previewed = PREVIEW_PAIRS;
    }
    d->previewed_at = md_now();
}

static md_status on_tick(void *user, const cluster_counts *c)
{
    desk *d = user;
    d->out.seconds = c->seconds;
    d->out.rate = c->rate;
    md_progress_at(&d->bar, d->done_before + c->accepted + c->dropped + c->failed);
    look(d, d->accepted_before + c->accepted);
    return ledger_sync(&d->book);
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
    d->rows = pairs_rows(d->book.store);
    MD_TRY(warn_of_copies(d));
    tell_sampler(d->j);
    return MD_OK;
}

static md_status on_result(void *user, const cluster_result *r, cluster_verdict *v)
{
    return ledger_record(&((desk *)user)->book, r, true, v);
}

static md_status on_failed(void *user, cluster_item item, md_status status, const char *text)
{
    return ledger_fail(&((desk *)user)->book, item, status, text);
}

static md_status run_once(desk *d, pairs_worker *w, cluster_counts *counts)
{
    cluster_work work = {.name = "pairs",
                         .user = d,
                         .items = d->items,
                         .n_items = d->n_items,
                         .on_result = on_result,
                         .on_failed = on_failed,
                         .on_tick = on_tick,
                         .worker = w,
                         .on_lease = pairs_worker_lease,
                         .batch = (int)config_int(d->j->cfg, KEY_generate_batch)};
    return cluster_run(&work, counts);
}

/* A worker whose lease was given to another may write a draw that came too late over the pixels of
   a later attempt. By the end of a run it has stopped writing, so that the checksums tell. Rank 0.
 */
static md_status find_overwritten(desk *d, const cluster_counts *c, int *again)
{
    int64_t torn = 0;
    *again = 0;
    if (!c->released || !c->redraws)
        return MD_OK;
    MD_TRY(pairs_repair(d->book.store, &torn));
    if (torn)
        md_warn("generate", "%lld slots were written by a late worker and are made again",
                (long long)torn);
    *again = torn > 0;
    return MD_OK;
}

static md_status run(desk *d, pairs_worker *w)
{
    bool leads = comm_rank(comm_world()) == 0;
    for (int again = 1; again;) {
        cluster_counts c = {0};
        MD_TRY(comm_agree(comm_world(), leads ? list_items(d) : MD_OK));
        if (leads) {
            if (d->done_before)
                md_info("generate", "%s: %lld of %lld slots are done", d->j->store,
                        (long long)d->done_before, (long long)d->rows);
            d->bar = md_progress_begin("generate", "pairs", d->done_before, d->rows);
        }
        MD_TRY(run_once(d, w, &c));
        MD_TRY(comm_agree(comm_world(), leads ? find_overwritten(d, &c, &again) : MD_OK));
        MD_TRY(comm_broadcast(comm_world(), 0, &again, sizeof again, 0));
    }
    return MD_OK;
}

static md_status count(desk *d)
{
    MD_TRY(ledger_total(&d->book, &d->out));
    return pairs_count_remarked(d->book.store, &d->out.kept_guide);
}

/* Everything that can be known before there is a store, and then the store. Collective(world). */
static md_status open_sides(desk *d, pairs_worker **w)
{
    const pairs_job *j = d->j;
    md_status status = assessor_open(j->cfg, j->data, j->be,
                                     (int)config_int(j->cfg, KEY_generate_batch), &d->assess);
    if (status == MD_OK && j->be)
        status = pairs_worker_open(j, d->assess, w);
    MD_TRY(comm_agree(comm_world(), status));
    if (d->assess)
        MD_TRY(assessor_prepare(d->assess, j->features));
    status = comm_rank(comm_world()) == 0 ? open_desk(d) : MD_OK;
    MD_TRY(comm_agree(comm_world(), status));
    status = j->be ? pairs_worker_start(*w) : MD_OK;
    return comm_agree(comm_world(), status);
}

/* Counts and the preview; rank 0. */
static md_status finish(const pairs_job *j, desk *d)
{
    MD_TRY(count(d));
    md_progress_end(&d->bar, d->out.accepted + d->out.rejected + d->out.failed);
    return pairs_preview(j->store, j->preview, PREVIEW_PAIRS);
}

/* The whole of it; what desk and worker hold is freed by the caller. */
static md_status generate(desk *d, pairs_worker **w)
{
    const pairs_job *j = d->j;
    bool leads = comm_rank(comm_world()) == 0;
    MD_TRY(open_sides(d, w));
    md_status status = MD_OK;
    if (d->assess)
        status = reassess_written(j, d->assess, leads ? &d->book : NULL, &d->out.assessed);
    if (status == MD_OK)
        status = run(d, *w);
    if (status != MD_OK && leads) {
        char why[1024]; /* counting must not lose the reason of a stop */
        (void)snprintf(why, sizeof why, "%s", md_status_text());
        if (count(d) == MD_OK)
            md_progress_end(&d->bar, d->out.accepted + d->out.rejected + d->out.failed);
        return md_fail(status, __FILE__, __LINE__, "%s", why);
    }
    MD_TRY(status);
    MD_TRY(comm_agree(comm_world(), leads ? finish(j, d) : MD_OK));
    return d->assess ? summary_write(j, d->assess, leads ? d->book.store : NULL) : MD_OK;
}

md_status pairs_generate(const pairs_job *j, pairs_outcome *out)
{
    desk d = {.j = j};
    pairs_worker *w = NULL;
    md_status status = generate(&d, &w);
    *out = d.out;
    pairs_worker_close(w);
    ledger_close(&d.book);
    assessor_free(d.assess);
    free(d.items);
    return status;
}
