#include "generate/repair.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "generate/guide.h"
#include "generate/pairs.h"
#include "image/fill.h"
#include "image/tissue.h"
#include "store/import_background.h"

enum { REPEAT = 1 << 22, TRIES = 1 << 8 }; /* attempts of rows differ from those of pairs */
static const double LESION_MOST = 0.6;     /* of the valid area */

/* A row on its way. */
typedef struct scene {
    int64_t row;
    data_row source;
    image rgb, filled, region; /* as it was; without the lesion; what is painted */
    image lesion;              /* its mask */
    image best;                /* of the tries so far */
    double contrast;           /* of best */
    float *moments;
    bool gray, any; /* any: best is one */
} scene;

struct repair_worker {
    const backgrounds_job *j;
    data_store *data, *store;
    painter *painter;
    repair_row *rows;
    int64_t n_rows, size;
    int batch, tries;
    double grow_px, feather_px, latent_px;
    scene *scenes; /* [batch] */
    uint8_t *rgb;  /* [batch,S,S,3] */
    bool *finite;
};

/* ---- which rows */

static md_status too_large(data_store *data, int64_t id, uint8_t *mask, bool *out)
{
    data_row row;
    int64_t size = data_size(data), area = 0;
    MD_TRY(data_read_row(data, id, &row));
    MD_TRY(data_read_pixels(data, id, NULL, mask));
    for (int64_t k = 0; k < size * size; k++)
        area += mask[k] != 0;
    int64_t valid = (int64_t)(row.valid[2] - row.valid[0]) * (row.valid[3] - row.valid[1]);
    *out = (double)area > LESION_MOST * (double)valid;
    return MD_OK;
}

/* Every image as often as there are whole rounds, and some of them once more. */
static md_status fill_rows(const config *cfg, const int64_t *ids, int64_t n_ids, int64_t n,
                           repair_row *rows)
{
    int64_t rounds = n / n_ids, rest = n % n_ids, at = 0, next = 0;
    int64_t *chosen = malloc((size_t)(rest + 1) * sizeof *chosen);
    if (!chosen)
        MD_FAIL(MD_NOMEM, "repair: out of memory");
    md_status status = import_choose((uint64_t)config_int(cfg, KEY_seed), n_ids, rest, chosen);
    for (int64_t i = 0; i < n_ids && status == MD_OK; i++) {
        bool more = next < rest && chosen[next] == i;
        next += more;
        for (int64_t k = 0; k < rounds + more; k++)
            rows[at++] = (repair_row){ids[i], (uint32_t)k};
    }
    free(chosen);
    return status;
}

md_status repair_list(const config *cfg, data_store *data, repair_row **rows, int64_t *n,
                      int64_t *skipped)
{
    int64_t *ids = NULL, n_ids = 0, kept = 0, size = data_size(data);
    uint8_t *mask = malloc((size_t)(size * size));
    if (!mask)
        MD_FAIL(MD_NOMEM, "repair: out of memory");
    md_status status = data_select(data, DATA_LESION, DATA_TRAIN, true, &ids, &n_ids);
    for (int64_t i = 0; i < n_ids && status == MD_OK; i++) {
        bool large = false;
        status = too_large(data, ids[i], mask, &large);
        if (status == MD_OK && !large)
            ids[kept++] = ids[i];
    }
    free(mask);
    if (status == MD_OK && kept == 0)
        status = md_fail(MD_BAD_INPUT, __FILE__, __LINE__,
                         "no training image has a lesion of at most %.0f %% of it, so none can be "
                         "repaired",
                         100 * LESION_MOST);
    int64_t count = config_int(cfg, KEY_backgrounds_count), all = count ? count : kept;
    repair_row *list = status == MD_OK ? malloc((size_t)all * sizeof *list) : NULL;
    if (status == MD_OK)
        status = list ? fill_rows(cfg, ids, kept, all, list)
                      : md_fail(MD_NOMEM, __FILE__, __LINE__, "repair: out of memory");
    free(ids);
    if (status != MD_OK) {
        free(list);
        return md_frame(status, __FILE__, __LINE__);
    }
    *rows = list;
    *n = all;
    *skipped = n_ids - kept;
    return MD_OK;
}

/* ---- regions */

static bool shown(const int32_t valid[4], int64_t y, int64_t x)
{
    return y >= valid[0] && y < valid[2] && x >= valid[1] && x < valid[3];
}

static void cut(image *mask, const int32_t valid[4])
{
    for (int64_t k = 0; k < mask->h * mask->w; k++)
        mask->px[k] = mask->px[k] && shown(valid, k / mask->w, k % mask->w);
}

md_status repair_region(const image *mask, const int32_t valid[4], double grow_px, image *out)
{
    image whole = {0}; /* an annotator may have drawn only a lesion's rim */
    MD_TRY(image_mask_fill_holes(mask, &whole));
    md_status status = image_mask_dilate(&whole, grow_px, out);
    image_free(&whole);
    if (status == MD_OK)
        cut(out, valid);
    return status;
}

/* Mean and deviation of each channel where the mask is; returns the number of pixels. */
static int64_t moments_of(const image *rgb, const image *mask, double mean[3], double std[3])
{
    int64_t n = 0;
    double sum[3] = {0}, squares[3] = {0};
    for (int64_t k = 0; k < mask->h * mask->w; k++) {
        n += mask->px[k] != 0;
        for (int c = 0; c < 3 && mask->px[k]; c++) {
            double v = rgb->px[3 * k + c];
            sum[c] += v;
            squares[c] += v * v;
        }
    }
    for (int c = 0; c < 3 && n; c++) {
        mean[c] = sum[c] / (double)n;
        std[c] = sqrt(fmax(squares[c] / (double)n - mean[c] * mean[c], 0));
    }
    return n;
}

md_status repair_contrast(const image *rgb, const image *mask, const int32_t valid[4], double gap,
                          double width, double *out)
{
    static const double LEAST = 4;
    image inner = {0}, outer = {0};
    double in[3], in_std[3], ring[3], ring_std[3], most = 0;
    md_status status = image_mask_dilate(mask, gap, &inner);
    if (status == MD_OK)
        status = image_mask_dilate(mask, gap + width, &outer);
    for (int64_t k = 0; k < mask->h * mask->w && status == MD_OK; k++)
        outer.px[k] = outer.px[k] && !inner.px[k];
    if (status == MD_OK) {
        cut(&outer, valid);
        if (moments_of(rgb, mask, in, in_std) && moments_of(rgb, &outer, ring, ring_std))
            for (int c = 0; c < 3; c++)
                most = fmax(most, fabs(in[c] - ring[c]) / fmax(ring_std[c], LEAST) +
                                      fabs(log(fmax(in_std[c], LEAST) / fmax(ring_std[c], LEAST))));
        *out = most;
    }
    image_free(&inner);
    image_free(&outer);
    return status;
}

/* ---- the worker */

md_status backgrounds_painter_options(const config *cfg, int64_t size, painter_options *out)
{
    MD_TRY(pairs_painter_options(cfg, size, out));
    out->guidance = config_float(cfg, KEY_backgrounds_guidance);
    out->strength = config_float(cfg, KEY_backgrounds_strength);
    out->sampler = sampler_find("ddim");
    out->motion = BLEND_STATIC;
    out->pool = IMAGE_POOL_MAX; /* no latent that shows a pixel of the region is kept */
    out->grow = 0;
    out->feather = 0;
    out->same_noise = false;
    out->sample_posterior = false;
    return MD_OK;
}

static md_status setup(repair_worker *w)
{
    const config *c = w->j->cfg;
    painter_options o;
    int64_t skipped;
    MD_TRY(data_open(w->j->data, DATA_IMAGES, &w->data));
    MD_TRY(repair_list(c, w->data, &w->rows, &w->n_rows, &skipped));
    w->size = data_size(w->data);
    MD_TRY(backgrounds_painter_options(c, w->size, &o));
    MD_TRY(painter_new(w->j->f, w->j->be, &o, &w->painter));
    MD_TRY(painter_fits(w->painter, w->j->budget));
    w->batch = o.batch;
    w->tries = (int)config_int(c, KEY_backgrounds_tries);
    w->latent_px = (double)vae_shrink(w->j->f->vae);
    w->grow_px = config_float(c, KEY_backgrounds_grow_px);
    w->grow_px = w->grow_px > 0 ? w->grow_px : 2 * w->latent_px;
    w->feather_px = config_float(c, KEY_guide_feather_px);
    w->scenes = calloc((size_t)w->batch, sizeof *w->scenes);
    w->rgb = malloc((size_t)(3 * w->batch * w->size * w->size));
    w->finite = calloc((size_t)w->batch, sizeof *w->finite);
    if (!w->scenes || !w->rgb || !w->finite)
        MD_FAIL(MD_NOMEM, "repair: out of memory");
    return MD_OK;
}

md_status repair_worker_open(const backgrounds_job *j, repair_worker **out)
{
    repair_worker *w = calloc(1, sizeof *w);
    if (!w)
        MD_FAIL(MD_NOMEM, "repair: out of memory");
    w->j = j;
    md_status status = setup(w);
    if (status != MD_OK) {
        repair_worker_close(w);
        return status;
    }
    *out = w;
    return MD_OK;
}

md_status repair_worker_start(repair_worker *w)
{
    MD_TRY(data_resume(w->j->store, DATA_BACKGROUNDS, &w->store));
    if (!w->store)
        MD_FAIL(MD_IO, "%s.tmp is gone: another program removed it", w->j->store);
    return painter_load(w->painter);
}

static void scene_free(scene *s)
{
    image_free(&s->rgb);
    image_free(&s->filled);
    image_free(&s->region);
    image_free(&s->lesion);
    image_free(&s->best);
    free(s->moments);
    *s = (scene){0};
}

void repair_worker_close(repair_worker *w)
{
    if (!w)
        return;
    for (int i = 0; i < w->batch && w->scenes; i++)
        scene_free(&w->scenes[i]);
    free(w->scenes);
    free(w->rows);
    free(w->rgb);
    free(w->finite);
    painter_free(w->painter);
    data_close(w->data);
    data_close(w->store);
    free(w);
}

static md_status fill_region(scene *s)
{
    image known = {0};
    MD_TRY(image_new(&known, s->rgb.h, s->rgb.w, 1));
    memset(known.px, 1, (size_t)(known.h * known.w));
    cut(&known, s->source.valid);
    md_status status = image_copy(&s->rgb, &s->filled);
    if (status == MD_OK)
        status = image_fill(&s->filled, &s->region, &known);
    image_free(&known);
    return status;
}

static md_status scene_open(repair_worker *w, int64_t row, scene *s)
{
    int64_t id = w->rows[row].id;
    s->row = row;
    MD_TRY(image_new(&s->rgb, w->size, w->size, 3));
    MD_TRY(image_new(&s->lesion, w->size, w->size, 1));
    MD_TRY(image_new(&s->best, w->size, w->size, 3));
    MD_TRY(data_read_row(w->data, id, &s->source));
    MD_TRY(data_read_pixels(w->data, id, s->rgb.px, s->lesion.px));
    MD_TRY(repair_region(&s->lesion, s->source.valid, w->grow_px, &s->region));
    MD_TRY(fill_region(s));
    s->gray = image_looks_gray(&s->rgb);
    s->moments = malloc((size_t)painter_moments(w->painter) * sizeof *s->moments);
    if (!s->moments)
        MD_FAIL(MD_NOMEM, "repair: out of memory");
    return painter_encode(w->painter, s->filled.px, s->moments);
}

/* A painted picture competes with the best one so far. */
static md_status judge(const repair_worker *w, scene *s, uint8_t *rgb)
{
    image painted = {w->size, w->size, 3, rgb};
    double contrast;
    if (s->gray)
        image_make_gray(&painted);
    MD_TRY(guide_paste(&s->region, w->feather_px, s->rgb.px, rgb));
    MD_TRY(repair_contrast(&painted, &s->lesion, s->source.valid, w->grow_px, 4 * w->latent_px,
                           &contrast));
    if (s->any && contrast >= s->contrast)
        return MD_OK;
    s->any = true;
    s->contrast = contrast;
    memcpy(s->best.px, rgb, (size_t)(3 * w->size * w->size));
    return MD_OK;
}

/* One try of each of the first n scenes. */
static md_status paint(repair_worker *w, cluster_batch *b, int n, int try)
{
    painter_item item[CLUSTER_LEASE_MAX] = {0};
    for (int i = 0; i < n; i++) {
        const scene *s = &w->scenes[i];
        repair_row r = w->rows[s->row];
        item[i] = (painter_item){r.id, REPEAT + r.repeat * TRIES + (uint32_t)try, &s->region,
                                 s->filled.px, s->moments};
    }
    MD_TRY(painter_paint(w->painter, item, n, cluster_beat_of, b, w->rgb, w->finite));
    for (int i = 0; i < n; i++)
        if (w->finite[i])
            MD_TRY(judge(w, &w->scenes[i], w->rgb + 3 * i * w->size * w->size));
    return MD_OK;
}

static md_status write(repair_worker *w, scene *s, repair_report *report)
{
    image allowed = {0};
    if (!s->any)
        MD_FAIL(MD_NONFINITE, "row %lld: the latent is not finite", (long long)s->row);
    MD_TRY(image_tissue(&s->best, s->source.valid, &allowed));
    md_status status = data_put_pixels(w->store, s->row, s->best.px, allowed.px, &report->crc);
    image_free(&allowed);
    report->contrast = (float)s->contrast;
    return status;
}

static md_status repair(repair_worker *w, cluster_batch *b, int n)
{
    repair_report report[CLUSTER_LEASE_MAX];
    md_status done[CLUSTER_LEASE_MAX];
    for (int i = 0; i < n; i++)
        MD_TRY(scene_open(w, cluster_batch_item(b, i).id, &w->scenes[i]));
    for (int try = 0; try < w->tries; try++)
        MD_TRY(paint(w, b, n, try));
    for (int i = 0; i < n; i++) {
        done[i] = write(w, &w->scenes[i], &report[i]);
        if (done[i] != MD_OK)
            MD_TRY(cluster_reply_fail(b, i, done[i]));
    }
    MD_TRY(data_sync(w->store)); /* the pixels are on disk before anybody hears of them */
    for (int i = 0; i < n; i++)
        if (done[i] == MD_OK)
            MD_TRY(cluster_reply_ok(b, i, &report[i], sizeof report[i]));
    return MD_OK;
}

md_status repair_worker_lease(void *worker, cluster_batch *b)
{
    repair_worker *w = worker;
    int n = cluster_batch_size(b);
    if (n > w->batch)
        MD_FAIL(MD_INTERNAL, "repair: a lease of %d rows", n);
    md_status status = repair(w, b, n);
    for (int i = 0; i < n; i++)
        scene_free(&w->scenes[i]);
    return status;
}
