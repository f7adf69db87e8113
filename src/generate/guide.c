#include "generate/guide.h"
#include "base/rng.h"
#include "store/masks.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TRIES = 64, PLACES = 32 };                        /* masks; places for each */
static const double SCALE_LEAST = 0.7, SCALE_MOST = 1.3; /* of the lesion's size */
static const double OUTSIDE_MOST = 0.01;                 /* of the guide, not allowed */

static int64_t area_of(const image *mask)
{
    int64_t area = 0;
    for (int64_t i = 0; i < mask->h * mask->w; i++)
        area += mask->px[i] != 0;
    return area;
}

/* Does the mask reach the edge of what the picture shows, {y0,x0,y1,x1}? Then the lesion goes on
   beyond it. */
static bool is_cut(const image *mask, const int32_t valid[4])
{
    int64_t s = mask->w;
    bool cut = false;
    for (int64_t y = valid[0]; y < valid[2]; y++)
        cut = cut || mask->px[y * s + valid[1]] || mask->px[y * s + valid[3] - 1];
    for (int64_t x = valid[1]; x < valid[3]; x++)
        cut = cut || mask->px[valid[0] * s + x] || mask->px[(valid[2] - 1) * s + x];
    return cut;
}

/* A bank of up to n masks. */
static md_status bank_new(int64_t n, int64_t size, guide_bank *b)
{
    b->size = size;
    b->least = size * size;
    b->mask = calloc((size_t)n, sizeof *b->mask);
    b->id = calloc((size_t)n, sizeof *b->id);
    b->whole = calloc((size_t)n, sizeof *b->whole);
    if (!b->mask || !b->id || !b->whole)
        MD_FAIL(MD_NOMEM, "guides: out of memory");
    return MD_OK;
}

/* A further mask, whose pixels are to be read. */
static md_status bank_add(guide_bank *b, int64_t id)
{
    MD_TRY(image_new(&b->mask[b->n], b->size, b->size, 1));
    b->id[b->n++] = (int32_t)id;
    return MD_OK;
}

/* The last one has been read. */
static void bank_look(guide_bank *b, const int32_t valid[4])
{
    int64_t last = b->n - 1, area = area_of(&b->mask[last]);
    b->least = area < b->least ? area : b->least;
    if (!is_cut(&b->mask[last], valid))
        b->whole[b->n_whole++] = last;
}

void guide_bank_free(guide_bank *b)
{
    for (int64_t i = 0; i < b->n && b->mask; i++)
        image_free(&b->mask[i]);
    free(b->mask);
    free(b->id);
    free(b->whole);
    *b = (guide_bank){0};
}

static md_status read_masks(data_store *d, const int64_t *ids, int64_t n, guide_bank *b)
{
    MD_TRY(bank_new(n, data_size(d), b));
    for (int64_t i = 0; i < n; i++) {
        data_row row;
        MD_TRY(data_read_row(d, ids[i], &row));
        MD_TRY(bank_add(b, ids[i]));
        MD_TRY(data_read_pixels(d, ids[i], NULL, b->mask[i].px));
        bank_look(b, row.valid);
    }
    return MD_OK;
}

md_status guide_bank_open(const char *data_h5, guide_bank *out)
{
    data_store *d = NULL;
    int64_t *ids = NULL, n = 0;
    guide_bank b = {0};
    MD_TRY(data_open(data_h5, DATA_IMAGES, &d));
    md_status status = data_select(d, DATA_LESION, DATA_TRAIN, true, &ids, &n);
    if (status == MD_OK && n == 0)
        status = md_fail(MD_BAD_INPUT, __FILE__, __LINE__, "%s: no lesion mask in the train split",
                         data_h5);
    if (status == MD_OK)
        status = read_masks(d, ids, n, &b);
    free(ids);
    data_close(d);
    if (status != MD_OK)
        guide_bank_free(&b);
    else
        *out = b;
    return status;
}

static md_status read_accepted(masks_store *m, guide_bank *b)
{
    int64_t rows = masks_rows(m);
    masks_row row;
    MD_TRY(bank_new(rows, masks_size(m), b));
    const int32_t all[4] = {0, 0, (int32_t)b->size, (int32_t)b->size};
    for (int64_t i = 0; i < rows; i++) {
        MD_TRY(masks_read_row(m, i, &row));
        if (row.state != MASKS_ACCEPTED)
            continue;
        MD_TRY(bank_add(b, i));
        MD_TRY(masks_read_pixels(m, i, b->mask[b->n - 1].px));
        bank_look(b, all);
    }
    return MD_OK;
}

md_status guide_bank_open_masks(const char *masks_h5, guide_bank *out)
{
    masks_store *m = NULL;
    guide_bank b = {0};
    MD_TRY(masks_open_reader(masks_h5, &m));
    md_status status = read_accepted(m, &b);
    if (status == MD_OK && b.n == 0)
        status = md_fail(MD_BAD_INPUT, __FILE__, __LINE__,
                         "%s holds no accepted mask: run \"meddiff masks\" to its end", masks_h5);
    masks_close(m);
    if (status != MD_OK)
        guide_bank_free(&b);
    else
        *out = b;
    return status;
}

/* The mask flipped, turned and scaled at random, with the lesion about the middle; *whole false
   when it leaves the picture or nothing is left. */
static md_status vary(const image *mask, md_rng *r, double most, image *out, image_mask_stats *at,
                      bool *whole)
{
    int flip = (int)md_rng_below(r, 2);
    double degrees = md_rng_range(r, 0, 360);
    double scale = SCALE_LEAST * pow(most / SCALE_LEAST, md_rng_uniform(r));
    int64_t s = mask->h;
    image_mask_stats from;
    MD_TRY(image_mask_measure(mask, &from));
    /* turned and scaled about the image's centre, with the lesion moved there first */
    double cx = from.cx - ((double)s - 1) / 2, cy = from.cy - ((double)s - 1) / 2;
    double rad = degrees * acos(-1.0) / 180, mx = flip ? -cx : cx;
    double tx = scale * (cos(rad) * mx - sin(rad) * cy),
           ty = scale * (sin(rad) * mx + cos(rad) * cy);
    image_affine a = image_affine_make(flip, degrees, scale, -tx, -ty);
    MD_TRY(image_mask_warp(mask, &a, out));
    md_status status = image_mask_measure(out, at);
    *whole = at->border == 0 && at->area > 0;
    if (status != MD_OK)
        image_free(out);
    return status;
}

/* Does the mask, whose box begins at y0, x0, lie where it may when its box begins at y, x? */
static bool lies_inside(const image *mask, const image_mask_stats *at, const image *allowed,
                        int64_t y, int64_t x)
{
    int64_t left = (int64_t)(OUTSIDE_MOST * (double)at->area), s = mask->h;
    for (int64_t v = at->y0; v < at->y1; v++)
        for (int64_t u = at->x0; u < at->x1; u++)
            if (mask->px[v * s + u] && !allowed->px[(v - at->y0 + y) * s + u - at->x0 + x] &&
                left-- == 0)
                return false;
    return true;
}

static md_status move(const image *mask, const image_mask_stats *at, int64_t y, int64_t x,
                      image *out)
{
    int64_t s = mask->h;
    MD_TRY(image_new(out, s, s, 1));
    for (int64_t v = at->y0; v < at->y1; v++)
        memcpy(out->px + (v - at->y0 + y) * s + x, mask->px + v * s + at->x0,
               (size_t)(at->x1 - at->x0));
    return MD_OK;
}

/* One way to place a mask within the box `in` of what is allowed; *fits false when it does not work
   out. */
static md_status try_place(const image *mask, md_rng *r, double most, const image *allowed,
                           const image_mask_stats *in, image *out, bool *fits)
{
    image varied = {0};
    image_mask_stats at;
    bool whole = false;
    *fits = false;
    MD_TRY(vary(mask, r, most, &varied, &at, &whole));
    int64_t room_y = in->y1 - in->y0 - (at.y1 - at.y0), room_x = in->x1 - in->x0 - (at.x1 - at.x0);
    md_status status = MD_OK;
    for (int k = 0; k < PLACES && whole && room_y >= 0 && room_x >= 0 && !*fits; k++) {
        int64_t y = in->y0 + md_rng_below(r, room_y + 1), x = in->x0 + md_rng_below(r, room_x + 1);
        *fits = lies_inside(&varied, &at, allowed, y, x);
        if (*fits)
            status = move(&varied, &at, y, x, out);
    }
    image_free(&varied);
    return status;
}

bool guide_has_room(const guide_bank *b, const image *allowed)
{
    double least = SCALE_LEAST * SCALE_LEAST * (1 - OUTSIDE_MOST) * (double)b->least;
    return (double)area_of(allowed) >= fmax(1, least / 2); /* half: what is warped is rounded */
}

md_status guide_draw(const guide_bank *b, md_rng *r, const image *allowed, image *out, int32_t *id)
{
    image_mask_stats in;
    if (allowed->h != b->size || allowed->w != b->size)
        MD_FAIL(MD_SHAPE, "a map of %lld x %lld for masks of %lld pixels", (long long)allowed->h,
                (long long)allowed->w, (long long)b->size);
    MD_TRY(image_mask_measure(allowed, &in));
    for (int i = 0; i < TRIES; i++) {
        int64_t k = b->n_whole ? b->whole[md_rng_below(r, b->n_whole)] : md_rng_below(r, b->n);
        bool fits;
        /* a mask that keeps not fitting gets smaller */
        double most = SCALE_MOST - (SCALE_MOST - SCALE_LEAST) * i / TRIES;
        MD_TRY(try_place(&b->mask[k], r, most, allowed, &in, out, &fits));
        if (!fits)
            continue;
        *id = b->id[k];
        return MD_OK;
    }
    MD_FAIL(MD_BAD_INPUT,
            "no mask fits where the background allows a lesion: %lld of its %lld pixels, within "
            "%lld x %lld (see import.png)",
            (long long)in.area, (long long)(b->size * b->size), (long long)(in.y1 - in.y0),
            (long long)(in.x1 - in.x0));
}

md_status guide_take(const guide_bank *b, int64_t slot, image *out, int32_t *id)
{
    MD_TRY(image_copy(&b->mask[slot % b->n], out));
    *id = b->id[slot % b->n];
    return MD_OK;
}

md_status guide_paste(const image *guide, double feather_px, const uint8_t *background,
                      uint8_t *rgb)
{
    int64_t n = guide->h * guide->w;
    float *alpha = malloc((size_t)n * sizeof *alpha);
    if (!alpha)
        MD_FAIL(MD_NOMEM, "paste: out of memory");
    md_status status = image_mask_feather(guide, feather_px, alpha);
    for (int64_t i = 0; i < n && status == MD_OK; i++)
        for (int64_t k = 3 * i; k < 3 * i + 3; k++)
            rgb[k] =
                (uint8_t)lrintf(alpha[i] * (float)rgb[k] + (1 - alpha[i]) * (float)background[k]);
    free(alpha);
    return status;
}

static bool is_empty(const image *mask)
{
    return area_of(mask) == 0;
}

md_status guide_corrode(const image *guide, int radius_px, image *mask, bool *kept)
{
    MD_TRY(image_mask_erode(guide, radius_px, mask));
    *kept = is_empty(mask) && !is_empty(guide);
    if (*kept)
        memcpy(mask->px, guide->px, (size_t)(guide->h * guide->w));
    return MD_OK;
}

md_status guide_pool(const image *guide, int64_t edge, image_mask_pooling how, int grow, float *out)
{
    float *small = malloc((size_t)(edge * edge) * sizeof *small);
    if (!small)
        MD_FAIL(MD_NOMEM, "guide: out of memory");
    const md_status status = image_mask_pool(guide, edge, how, small);
    if (status != MD_OK) {
        free(small);
        return md_frame(status, __FILE__, __LINE__);
    }
    for (int64_t y = 0; y < edge; y++)
        for (int64_t x = 0; x < edge; x++) {
            float most = 0;
            for (int64_t dy = -grow; dy <= grow; dy++)
                for (int64_t dx = -grow; dx <= grow; dx++) {
                    int64_t v = y + dy, u = x + dx;
                    if (dy * dy + dx * dx <= (int64_t)grow * grow && v >= 0 && v < edge && u >= 0 &&
                        u < edge && small[v * edge + u] > most)
                        most = small[v * edge + u];
                }
            out[y * edge + x] = most;
        }
    free(small);
    return MD_OK;
}

/* The farthest that a part's pixels lie inside its edge; the edge is half a pixel before the centre
   of the first one outside. */
static double *part_depths(const int32_t *part, const int64_t *d2, int64_t pixels, int64_t parts)
{
    double *deepest = calloc((size_t)(parts + 1), sizeof *deepest);
    for (int64_t i = 0; i < pixels && deepest; i++)
        deepest[part[i]] = fmax(deepest[part[i]], sqrt((double)d2[i]) - 0.5);
    return deepest;
}

md_status guide_feather(const float *mask, int64_t edge, double width, float *feather)
{
    int64_t pixels = edge * edge, parts;
    image m;
    MD_TRY(image_new(&m, edge, edge, 1));
    int64_t *d2 = malloc((size_t)pixels * sizeof *d2);
    int32_t *part = malloc((size_t)pixels * sizeof *part);
    double *deepest = NULL;
    md_status status = MD_OK;
    if (!d2 || !part) {
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "guide: out of memory");
        goto done;
    }
    for (int64_t i = 0; i < pixels; i++)
        m.px[i] = mask[i] > 0;
    MD_TRY_GOTO(image_mask_components(&m, &parts, part, NULL), done);
    MD_TRY_GOTO(image_mask_distance2(&m, 0, d2), done);
    deepest = part_depths(part, d2, pixels, parts);
    if (!deepest) {
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "guide: out of memory");
        goto done;
    }
    for (int64_t i = 0; i < pixels; i++) {
        double over = width > 0 ? fmin(width, deepest[part[i]]) : 0;
        double inside = sqrt((double)d2[i]) - 0.5;
        feather[i] = !m.px[i] ? 0 : inside >= over ? 1 : (float)(inside / over);
    }
done:
    free(deepest);
    free(part);
    free(d2);
    image_free(&m);
    return status;
}
