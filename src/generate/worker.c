#include "generate/worker.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/str.h"
#include "comm/comm.h"
#include "generate/alignment.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    PICKS = 16, /* backgrounds that a draw tries until a mask fits */
    NAMED = 5   /* most names in a message */
};

/* A background as it is needed over and over: read and encoded once. */
typedef struct scene {
    uint8_t *rgb;   /* [S,S,3]; NULL until used */
    float *moments; /* of its latent's posterior */
    image allowed;  /* where a lesion may lie */
    int32_t group;
    bool gray;   /* three equal channels: what is painted must have them too */
    float noise; /* what the VAE alone changes: alignment_noise */
} scene;

struct pairs_worker {
    const pairs_job *j;
    assessor *assess; /* NULL: pairs are not judged */
    uint64_t seed;
    painter *painter;
    guide_bank guides;
    data_store *backgrounds;
    pairs_store *store;
    int64_t *rows, n_scenes, size; /* rows of backgrounds.h5 that may be used */
    scene *scenes;                 /* [n_scenes] */
    double feather_px;
    int corrode_px, batch;
    bool paste, keep_gray;
    bool background_in_turn, mask_in_turn; /* else drawn */
    uint8_t *rgb;                          /* [batch,S,S,3] */
    bool *finite;
};

md_status pairs_painter_options(const config *cfg, int64_t size, painter_options *out)
{
    const char *sampler = config_string(cfg, KEY_generate_sampler);
    bool own = strcmp(sampler, "auto") == 0;
    *out = (painter_options){
        .size = (int)size,
        .batch = (int)config_int(cfg, KEY_generate_batch),
        .prompt = config_string(cfg, KEY_model_prompt),
        .guidance = config_float(cfg, KEY_generate_guidance),
        .sampler = own ? NULL : sampler_find(sampler),
        .steps = (int)config_int(cfg, KEY_generate_steps),
        .eta = config_float(cfg, KEY_generate_eta),
        .blend = blend_find(config_string(cfg, KEY_guide_blend)),
        .pool = (image_mask_pooling)config_choice(cfg, KEY_guide_pool),
        .grow = (int)config_int(cfg, KEY_guide_grow),
        .feather = config_float(cfg, KEY_guide_feather),
        .motion = (blend_motion)config_choice(cfg, KEY_guide_dynamic),
        .settled = config_float(cfg, KEY_guide_settled),
        .same_noise = config_choice(cfg, KEY_generate_noise) == 1,
        .sample_posterior = config_choice(cfg, KEY_generate_posterior) == 1,
        .seed = (uint64_t)config_int(cfg, KEY_seed),
        .dtype = config_choice(cfg, KEY_model_dtype) == 1 ? MD_BF16 : MD_F32,
    };
    if ((!own && !out->sampler) || !out->blend)
        return config_fail(cfg, out->blend ? KEY_generate_sampler : KEY_guide_blend,
                           "not known to diffusion/");
    return MD_OK;
}

static md_status check_memory(const pairs_worker *w)
{
    size_t encoder = assessor_bytes(w->assess);
    if (w->j->budget && encoder >= w->j->budget)
        MD_FAIL(
            MD_NOMEM,
            "the encoder takes %zu MiB of the %zu MiB there are: raise memory.budget, or take a "
            "smaller model.encoder",
            encoder >> 20, w->j->budget >> 20);
    return painter_fits(w->painter, w->j->budget ? w->j->budget - encoder : 0);
}

/* Backgrounds without room for the smallest guide are not drawn from: `left` of them, and the names
   of the first. */
static md_status leave_out(pairs_worker *w, int64_t *left, md_text *names)
{
    image map = {0};
    data_row row;
    int64_t kept = 0;
    MD_TRY(image_new(&map, w->size, w->size, 1));
    md_status status = MD_OK;
    for (int64_t i = 0; i < w->n_scenes && status == MD_OK; i++) {
        status = data_read_pixels(w->backgrounds, w->rows[i], NULL, map.px);
        if (status != MD_OK || guide_has_room(&w->guides, &map)) {
            w->rows[kept++] = w->rows[i];
            continue;
        }
        if (++*left <= NAMED)
            status = data_read_row(w->backgrounds, w->rows[i], &row);
        if (status == MD_OK && *left <= NAMED)
            status = md_text_add(names, "%s%lld (%s)", *left > 1 ? ", " : "", (long long)w->rows[i],
                                 row.name);
    }
    image_free(&map);
    w->n_scenes = status == MD_OK ? kept : w->n_scenes;
    return status;
}

/* Guides "in-turn" lie where they lie, whatever the maps say. */
static md_status choose_backgrounds(pairs_worker *w)
{
    int64_t left = 0, n = w->n_scenes;
    md_text names = {0};
    md_status status = w->mask_in_turn ? MD_OK : leave_out(w, &left, &names);
    const char *more = left > NAMED ? ", ..." : "";
    if (status == MD_OK && w->n_scenes == 0)
        status = md_fail(MD_BAD_INPUT, __FILE__, __LINE__,
                         "%s: none of its %lld backgrounds has room for a lesion: rows %s%s; look "
                         "at import.png (or backgrounds.png), where red is what they do not allow",
                         w->j->backgrounds, (long long)n, names.s, more);
    else if (status == MD_OK && left && comm_leads())
        md_warn("generate",
                "%s: %lld of %lld backgrounds have no room for a lesion and are left out: rows "
                "%s%s; see import.png",
                w->j->backgrounds, (long long)left, (long long)n, names.s, more);
    md_text_free(&names);
    return status;
}

static void tell_cut(const pairs_worker *w)
{
    const guide_bank *b = &w->guides;
    int64_t cut = b->n - b->n_whole;
    if (cut == 0 || w->mask_in_turn || !comm_leads())
        return;
    md_warn("generate", "%lld of %lld masks reach their picture's edge, which cuts them: %s",
            (long long)cut, (long long)b->n,
            b->n_whole ? "guides are made of the others"
                       : "moved into a background, their guides have straight sides");
}

static md_status open_inputs(pairs_worker *w)
{
    painter_options o;
    MD_TRY(w->j->masks ? guide_bank_open_masks(w->j->masks, &w->guides)
                       : guide_bank_open(w->j->data, &w->guides));
    MD_TRY(data_open(w->j->backgrounds, DATA_BACKGROUNDS, &w->backgrounds));
    MD_TRY(data_select(w->backgrounds, -1, DATA_TRAIN, false, &w->rows, &w->n_scenes));
    w->size = data_size(w->backgrounds);
    if (w->n_scenes == 0)
        MD_FAIL(MD_BAD_INPUT, "%s: no background in the train split", w->j->backgrounds);
    if (w->size != w->guides.size)
        MD_FAIL(MD_BAD_INPUT, "%s has pictures of %lld pixels, %s of %lld", w->j->backgrounds,
                (long long)w->size, w->j->data, (long long)w->guides.size);
    MD_TRY(choose_backgrounds(w));
    tell_cut(w);
    MD_TRY(pairs_painter_options(w->j->cfg, w->size, &o));
    MD_TRY(painter_new(w->j->f, w->j->be, &o, &w->painter));
    return check_memory(w);
}

static md_status setup(pairs_worker *w)
{
    const config *c = w->j->cfg;
    w->seed = (uint64_t)config_int(c, KEY_seed);
    w->batch = (int)config_int(c, KEY_generate_batch);
    w->feather_px = config_float(c, KEY_guide_feather_px);
    w->corrode_px = (int)config_int(c, KEY_quality_corrode_px);
    w->paste = config_bool(c, KEY_guide_paste);
    w->background_in_turn = config_choice(c, KEY_generate_background) == 1;
    w->mask_in_turn = config_choice(c, KEY_guide_mask) == 1;
    w->keep_gray = config_bool(c, KEY_generate_gray);
    MD_TRY(open_inputs(w));
    w->scenes = calloc((size_t)w->n_scenes, sizeof *w->scenes);
    w->rgb = malloc((size_t)(3 * w->batch * w->size * w->size));
    w->finite = calloc((size_t)w->batch, sizeof *w->finite);
    if (!w->scenes || !w->rgb || !w->finite)
        MD_FAIL(MD_NOMEM, "generate: out of memory");
    return MD_OK;
}

md_status pairs_worker_open(const pairs_job *j, assessor *assess, pairs_worker **out)
{
    pairs_worker *w = calloc(1, sizeof *w);
    if (!w)
        MD_FAIL(MD_NOMEM, "generate: out of memory");
    w->j = j;
    w->assess = assess;
    md_status status = setup(w);
    if (status != MD_OK) {
        pairs_worker_close(w);
        return status;
    }
    *out = w;
    return MD_OK;
}

md_status pairs_worker_start(pairs_worker *w)
{
    double limits[PAIRS_BAND];
    MD_TRY(pairs_open_writer(w->j->store, &w->store));
    MD_TRY(pairs_band(w->store, limits));
    if (w->assess)
        assessor_use_band(w->assess, limits);
    if (w->size != pairs_height(w->store))
        MD_FAIL(MD_BAD_INPUT, "%s has pictures of %lld pixels, %s of %lld", w->j->backgrounds,
                (long long)w->size, w->j->store, (long long)pairs_height(w->store));
    return painter_load(w->painter);
}

void pairs_worker_close(pairs_worker *w)
{
    if (!w)
        return;
    for (int64_t i = 0; i < w->n_scenes && w->scenes; i++) {
        free(w->scenes[i].rgb);
        free(w->scenes[i].moments);
        image_free(&w->scenes[i].allowed);
    }
    free(w->scenes);
    free(w->rows);
    free(w->rgb);
    free(w->finite);
    painter_free(w->painter);
    guide_bank_free(&w->guides);
    data_close(w->backgrounds);
    pairs_close(w->store);
    free(w);
}

/* What encoding and decoding alone change. */
static md_status measure_noise(pairs_worker *w, const uint8_t *rgb, scene *s)
{
    uint8_t *back = malloc((size_t)(3 * w->size * w->size));
    if (!back)
        MD_FAIL(MD_NOMEM, "generate: out of memory");
    md_status status = painter_decode(w->painter, s->moments, back);
    if (status == MD_OK && w->keep_gray && s->gray)
        image_make_gray(&(image){w->size, w->size, 3, back});
    if (status == MD_OK)
        status = alignment_noise(rgb, back, w->size, &s->noise);
    free(back);
    return status;
}

static md_status read_scene(pairs_worker *w, int64_t i)
{
    scene *s = &w->scenes[i];
    data_row row;
    if (s->rgb)
        return MD_OK;
    uint8_t *rgb = malloc((size_t)(3 * w->size * w->size));
    s->moments = malloc((size_t)painter_moments(w->painter) * sizeof *s->moments);
    md_status status = rgb && s->moments
                           ? image_new(&s->allowed, w->size, w->size, 1)
                           : md_fail(MD_NOMEM, __FILE__, __LINE__, "generate: out of memory");
    if (status == MD_OK)
        status = data_read_row(w->backgrounds, w->rows[i], &row);
    if (status == MD_OK)
        status = data_read_pixels(w->backgrounds, w->rows[i], rgb, s->allowed.px);
    if (status == MD_OK)
        status = painter_encode(w->painter, rgb, s->moments);
    s->gray = status == MD_OK && image_looks_gray(&(image){w->size, w->size, 3, rgb});
    if (status == MD_OK)
        status = measure_noise(w, rgb, s);
    if (status != MD_OK) {
        free(rgb);
        free(s->moments);
        s->moments = NULL;
        image_free(&s->allowed);
        return md_context(status, "background %lld", (long long)w->rows[i]);
    }
    s->group = row.group;
    s->rgb = rgb;
    return MD_OK;
}

/* What a slot is made of; `guide` is owned. */
typedef struct recipe {
    int64_t scene;
    int32_t mask_id;
    image guide;
} recipe;

/* A pure function of slot and attempt. Where no mask fits into a background, both streams go on to
   another. */
static md_status choose(pairs_worker *w, cluster_item it, recipe *r)
{
    md_rng scenes = md_rng_at(w->seed, MD_RNG_BACKGROUND, (uint64_t)it.id, it.attempt);
    md_rng guides = md_rng_at(w->seed, MD_RNG_GUIDE, (uint64_t)it.id, it.attempt);
    md_status status = MD_BAD_INPUT;
    for (int pick = 0; pick < PICKS && status == MD_BAD_INPUT; pick++) {
        md_status_clear();
        r->scene = w->background_in_turn ? (it.id + pick) % w->n_scenes
                                         : md_rng_below(&scenes, w->n_scenes);
        MD_TRY(read_scene(w, r->scene));
        status = w->mask_in_turn ? guide_take(&w->guides, it.id, &r->guide, &r->mask_id)
                                 : guide_draw(&w->guides, &guides, &w->scenes[r->scene].allowed,
                                              &r->guide, &r->mask_id);
    }
    return status == MD_OK ? MD_OK
                           : md_context(status, "slot %lld, background %lld, the last one tried",
                                        (long long)it.id, (long long)w->rows[r->scene]);
}

/* Paste, erode, measure: rgb as it came from the painter becomes the pair's image; `mask` is new.
   What the worker reports, but the checksum, into `report`. */
static md_status compose(const pairs_worker *w, const recipe *r, uint8_t *rgb, image *mask,
                         pairs_report *report)
{
    const scene *s = &w->scenes[r->scene];
    bool kept_guide;
    if (w->keep_gray && s->gray)
        image_make_gray(&(image){w->size, w->size, 3, rgb});
    if (w->paste)
        MD_TRY(guide_paste(&r->guide, w->feather_px, s->rgb, rgb));
    MD_TRY(guide_corrode(&r->guide, w->corrode_px, mask, &kept_guide));
    for (int part = 0; part < N_PARTS; part++)
        report->m.part[part] = (likeness){NAN, NAN, -1};
    report->background_id = (int32_t)w->rows[r->scene];
    report->mask_id = r->mask_id;
    report->kept_guide = kept_guide;
    return alignment_measure(rgb, s->rgb, s->noise, mask, &report->m.alignment);
}

static md_status finish(pairs_worker *w, cluster_item it, const recipe *r, uint8_t *rgb,
                        pairs_report *report)
{
    image mask = {0};
    md_status status = compose(w, r, rgb, &mask, report);
    if (status == MD_OK)
        status = pairs_write_pixels(w->store, it.id, rgb, mask.px, r->guide.px, &report->crc);
    image_free(&mask);
    return status;
}

/* Compares the finished ones with the real images; a rejected one leaves a picture. */
static md_status assess(pairs_worker *w, cluster_batch *b, const recipe *r, const int *of, int n,
                        const md_status *done, pairs_report *report)
{
    assess_pair pair[CLUSTER_LEASE_MAX];
    assessment m[CLUSTER_LEASE_MAX];
    int kept = 0, from[CLUSTER_LEASE_MAX];
    for (int i = 0; i < n; i++) {
        if (done[i] != MD_OK)
            continue;
        pair[kept] = (assess_pair){
            .rgb = {w->size, w->size, 3, w->rgb + 3 * i * w->size * w->size},
            .guide = r[of[i]].guide,
            .group = w->scenes[r[of[i]].scene].group,
            .alignment = report[i].m.alignment,
        };
        from[kept++] = i;
    }
    MD_TRY(assessor_measure(w->assess, pair, kept, m));
    for (int k = 0; k < kept; k++) {
        cluster_item it = cluster_batch_item(b, of[from[k]]);
        report[from[k]].m = m[k];
        assessor_show(w->assess, &pair[k], &m[k], it.id, it.attempt, w->j->pictures);
    }
    return MD_OK;
}

static md_status not_finite(cluster_item it)
{
    MD_FAIL(MD_NONFINITE, "slot %lld, attempt %u: the latent is not finite", (long long)it.id,
            (unsigned)it.attempt);
}

/* Paints the items whose recipe stands (their places in `of`) and replies for each. */
static md_status paint(pairs_worker *w, cluster_batch *b, recipe *r, const int *of, int n)
{
    painter_item item[CLUSTER_LEASE_MAX] = {0};
    for (int i = 0; i < n; i++) {
        cluster_item it = cluster_batch_item(b, of[i]);
        const scene *s = &w->scenes[r[of[i]].scene];
        item[i] = (painter_item){it.id, it.attempt, &r[of[i]].guide, s->rgb, s->moments};
    }
    MD_TRY(painter_paint(w->painter, item, n, cluster_beat_of, b, w->rgb, w->finite));
    pairs_report report[CLUSTER_LEASE_MAX];
    md_status done[CLUSTER_LEASE_MAX];
    for (int i = 0; i < n; i++) {
        cluster_item it = cluster_batch_item(b, of[i]);
        if (w->finite[i])
            done[i] = finish(w, it, &r[of[i]], w->rgb + 3 * i * w->size * w->size, &report[i]);
        else
            done[i] = not_finite(it);
        if (done[i] != MD_OK)
            MD_TRY(cluster_reply_fail(b, of[i], done[i]));
    }
    if (w->assess)
        MD_TRY(assess(w, b, r, of, n, done, report));
    MD_TRY(pairs_sync(w->store)); /* the pixels are on disk before anybody hears of them */
    for (int i = 0; i < n; i++)
        if (done[i] == MD_OK)
            MD_TRY(cluster_reply_ok(b, of[i], &report[i], sizeof report[i]));
    return MD_OK;
}

md_status pairs_worker_lease(void *worker, cluster_batch *b)
{
    pairs_worker *w = worker;
    int n = cluster_batch_size(b), kept = 0, of[CLUSTER_LEASE_MAX];
    recipe *r = calloc((size_t)n, sizeof *r);
    if (!r || n > w->batch) {
        free(r);
        MD_FAIL(r ? MD_INTERNAL : MD_NOMEM, "generate: a lease of %d slots", n);
    }
    md_status status = MD_OK;
    for (int i = 0; i < n && status == MD_OK; i++) {
        md_status chosen = choose(w, cluster_batch_item(b, i), &r[i]);
        if (chosen == MD_OK)
            of[kept++] = i;
        else
            status = cluster_reply_fail(b, i, chosen);
    }
    if (status == MD_OK && kept > 0)
        status = paint(w, b, r, of, kept);
    for (int i = 0; i < n; i++)
        image_free(&r[i].guide);
    free(r);
    return status;
}

static md_status paint_alone(pairs_worker *w, cluster_item it, const recipe *r, image *mask,
                             pairs_report *report)
{
    const scene *s = &w->scenes[r->scene];
    painter_item item = {it.id, it.attempt, &r->guide, s->rgb, s->moments};
    MD_TRY(painter_paint(w->painter, &item, 1, NULL, NULL, w->rgb, w->finite));
    if (!w->finite[0])
        return not_finite(it);
    return compose(w, r, w->rgb, mask, report);
}

md_status pairs_worker_redraw(pairs_worker *w, cluster_item it, pairs_redrawn *out)
{
    recipe r = {0};
    pairs_redrawn got = {0};
    pairs_report report;
    MD_TRY(painter_load(w->painter));
    MD_TRY(choose(w, it, &r));
    md_status status = paint_alone(w, it, &r, &got.mask, &report);
    if (status == MD_OK)
        status = image_copy(&(image){w->size, w->size, 3, w->rgb}, &got.rgb);
    if (status != MD_OK) {
        image_free(&r.guide);
        pairs_redrawn_free(&got);
        return status;
    }
    got.guide = r.guide;
    got.background_id = report.background_id;
    got.mask_id = report.mask_id;
    got.alignment = report.m.alignment;
    *out = got;
    return MD_OK;
}

void pairs_redrawn_free(pairs_redrawn *r)
{
    image_free(&r->rgb);
    image_free(&r->mask);
    image_free(&r->guide);
}
