#include "generate/references.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "base/log.h"
#include "format/safetensors.h"
#include "image/mask.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const part_names[N_PARTS] = {"whole", "lesion"};

void references_free(references *r)
{
    free(r->id);
    free(r->group);
    for (int part = 0; part < N_PARTS; part++)
        free(r->view[part]);
    *r = (references){0};
}

static int64_t numel(const references *r)
{
    return r->n * r->views * r->width;
}

static md_status take(references *r, data_store *d, const int64_t *ids)
{
    r->id = calloc((size_t)r->n + 1, sizeof *r->id);
    r->group = calloc((size_t)r->n + 1, sizeof *r->group);
    for (int part = 0; part < N_PARTS; part++)
        r->view[part] = calloc((size_t)numel(r) + 1, sizeof(float));
    if (!r->id || !r->group || !r->view[PART_WHOLE] || !r->view[PART_LESION])
        MD_FAIL(MD_NOMEM, "real images: out of memory");
    for (int64_t i = 0; i < r->n; i++) {
        data_row row;
        MD_TRY(data_read_row(d, ids[i], &row));
        r->id[i] = (int32_t)ids[i];
        r->group[i] = row.group;
    }
    return MD_OK;
}

/* The chosen rows, ascending by split; *ids as data_select's. */
static md_status choose(data_store *d, bool holdout, int64_t **ids, int64_t *n)
{
    int64_t *test = NULL, n_test = 0;
    if (!holdout)
        return data_select(d, DATA_LESION, DATA_TRAIN, true, ids, n);
    MD_TRY(data_select(d, DATA_LESION, DATA_VAL, false, ids, n));
    md_status status = data_select(d, DATA_LESION, DATA_TEST, false, &test, &n_test);
    int64_t *both =
        status == MD_OK ? realloc(*ids, (size_t)(*n + n_test + 1) * sizeof **ids) : NULL;
    if (status == MD_OK && !both)
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "real images: out of memory");
    if (status == MD_OK) {
        memcpy(both + *n, test, (size_t)n_test * sizeof *both);
        *ids = both;
        *n += n_test;
    }
    free(test);
    return status;
}

static md_status open_rows(const char *data_h5, int64_t width, bool holdout, references *out)
{
    data_store *d = NULL;
    int64_t *ids = NULL;
    references r = {.width = width, .views = holdout ? 1 : REFERENCES_VIEWS};
    MD_TRY(data_open(data_h5, DATA_IMAGES, &d));
    md_status status = choose(d, holdout, &ids, &r.n);
    if (status == MD_OK && r.n == 0 && !holdout)
        status = md_fail(MD_BAD_INPUT, __FILE__, __LINE__, "%s: no lesion image in the train split",
                         data_h5);
    if (status == MD_OK)
        status = take(&r, d, ids);
    free(ids);
    data_close(d);
    if (status != MD_OK)
        references_free(&r);
    else
        *out = r;
    return status;
}

md_status references_open(const char *data_h5, int64_t width, references *out)
{
    return open_rows(data_h5, width, false, out);
}

md_status references_open_holdout(const char *data_h5, int64_t width, references *out)
{
    return open_rows(data_h5, width, true, out);
}

/* ---- pictures */

md_status references_box(const image *mask, int64_t box[4])
{
    image_mask_stats m;
    MD_TRY(image_mask_measure(mask, &m));
    if (m.area == 0)
        MD_FAIL(MD_BAD_INPUT, "a mask without a pixel has no box");
    int64_t most = mask->h < mask->w ? mask->h : mask->w;
    int64_t h = m.y1 - m.y0, w = m.x1 - m.x0;
    int64_t edge = ((h > w ? h : w) * 6 + 4) / 5, least = (most + 15) / 16;
    edge = edge < least ? least : edge;
    box[0] = m.y0 - (edge - h) / 2;
    box[1] = m.x0 - (edge - w) / 2;
    box[2] = box[0] + edge;
    box[3] = box[1] + edge;
    return MD_OK;
}

/* The mask without its rim, or all of it where little would be left. */
static md_status core_of(const image *mask, image *out)
{
    image_mask_stats all, core;
    image eroded = {0};
    MD_TRY(image_mask_measure(mask, &all));
    MD_TRY(image_mask_erode(mask, REFERENCES_RIM_PX, &eroded));
    md_status status = image_mask_measure(&eroded, &core);
    if (status == MD_OK && core.area >= all.area / 4) {
        *out = eroded;
        return MD_OK;
    }
    image_free(&eroded);
    return status == MD_OK ? image_copy(mask, out) : status;
}

/* Where a row of the square lies in the picture: pixels [*first, *last) of it, the others beyond.
 */
static void overlap(int64_t from, int64_t edge, int64_t width, int64_t *first, int64_t *last)
{
    *first = from < 0 ? -from : 0;
    *last = from + edge > width ? width - from : edge;
}

/* The mask in the square, 0 beyond the picture. */
static md_status cut_mask(const image *mask, const int64_t box[4], image *out)
{
    int64_t edge = box[2] - box[0], y0, y1, x0, x1;
    MD_TRY(image_new(out, edge, edge, 1));
    overlap(box[0], edge, mask->h, &y0, &y1);
    overlap(box[1], edge, mask->w, &x0, &x1);
    for (int64_t y = y0; y < y1; y++)
        memcpy(out->px + y * edge + x0, mask->px + (box[0] + y) * mask->w + box[1] + x0,
               (size_t)(x1 - x0));
    return MD_OK;
}

md_status references_lesion(const image *rgb, const image *mask, image *out)
{
    static const uint8_t flat[3] = {124, 116, 104}; /* ImageNet's mean */
    int64_t box[4];
    image whole = {0}, core = {0}, cut = {0};
    MD_TRY(references_box(mask, box));
    MD_TRY(cut_mask(mask, box, &whole));
    md_status status = core_of(&whole, &core); /* in the square: the same at the picture's edge */
    if (status == MD_OK)
        status = image_new(&cut, whole.h, whole.w, 3);
    for (int64_t y = 0; y < cut.h; y++)
        for (int64_t x = 0; x < cut.w; x++) {
            int64_t at = y * cut.w + x, from = (box[0] + y) * rgb->w + box[1] + x;
            memcpy(cut.px + 3 * at, core.px[at] ? rgb->px + 3 * from : flat, 3);
        }
    image_free(&whole);
    image_free(&core);
    if (status == MD_OK)
        *out = cut;
    return status;
}

/* View 0: as it is; bit 0: left and right change places; bit 1: top and bottom; bit 2: bilinearly
   between the pixels, half a pixel on, which is the most that resampling takes away. */
static md_status view_of(const image *rgb, int view, image *out)
{
    image im;
    MD_TRY(image_new(&im, rgb->h, rgb->w, 3));
    for (int64_t y = 0; y < im.h; y++)
        for (int64_t x = 0; x < im.w; x++) {
            int64_t v = view & 2 ? im.h - 1 - y : y, u = view & 1 ? im.w - 1 - x : x;
            int64_t below = view & 4 && v + 1 < im.h, right = view & 4 && u + 1 < im.w;
            const uint8_t *at = rgb->px + 3 * (v * im.w + u), *next = at + 3 * below * im.w;
            for (int c = 0; c < 3; c++)
                im.px[3 * (y * im.w + x) + c] =
                    (uint8_t)((at[c] + at[c + 3 * right] + next[c] + next[c + 3 * right] + 2) / 4);
        }
    *out = im;
    return MD_OK;
}

/* The views of one picture, encoded into out [views,width]. */
static md_status encode_views(features *encoder, const image *rgb, int views, float *out)
{
    image view[REFERENCES_VIEWS] = {0};
    md_status status = MD_OK;
    for (int k = 0; k < views && status == MD_OK; k++)
        status = view_of(rgb, k, &view[k]);
    if (status == MD_OK)
        status = features_encode(encoder, view, views, out);
    for (int k = 0; k < REFERENCES_VIEWS; k++)
        image_free(&view[k]);
    return status;
}

static md_status encode_image(references *r, int64_t i, features *encoder, const image *rgb,
                              const image *mask)
{
    int64_t at = i * r->views * r->width;
    image cut;
    MD_TRY(encode_views(encoder, rgb, (int)r->views, r->view[PART_WHOLE] + at));
    MD_TRY(references_lesion(rgb, mask, &cut));
    md_status status = encode_views(encoder, &cut, (int)r->views, r->view[PART_LESION] + at);
    image_free(&cut);
    return status;
}

md_status references_encode(references *r, const char *data_h5, features *encoder)
{
    data_store *d = NULL;
    image rgb = {0}, mask = {0};
    MD_TRY(data_open(data_h5, DATA_IMAGES, &d));
    md_status status = image_new(&rgb, data_size(d), data_size(d), 3);
    if (status == MD_OK)
        status = image_new(&mask, data_size(d), data_size(d), 1);
    for (int64_t i = 0; i < r->n && status == MD_OK; i++) {
        status = data_read_pixels(d, r->id[i], rgb.px, mask.px);
        if (status == MD_OK)
            status = encode_image(r, i, encoder, &rgb, &mask);
        if (status != MD_OK)
            status = md_context(status, "%s, image %d", data_h5, (int)r->id[i]);
    }
    image_free(&rgb);
    image_free(&mask);
    data_close(d);
    return status;
}

/* ---- the file */

static void checksum(const references *r, char text[16])
{
    uint32_t crc = 0;
    for (int part = 0; part < N_PARTS; part++)
        crc = md_crc32c(crc, r->view[part], (size_t)numel(r) * sizeof(float));
    (void)snprintf(text, 16, "%08x", (unsigned)crc);
}

static md_status write_all(const references *r, const char *key, format_writer *w)
{
    int64_t dim[] = {r->n, r->views, r->width};
    char crc[16];
    checksum(r, crc);
    MD_TRY(format_writer_meta(w, "key", key));
    MD_TRY(format_writer_meta(w, "crc32c", crc));
    for (int part = 0; part < N_PARTS; part++)
        MD_TRY(format_writer_declare(w, part_names[part], FORMAT_F32, 3, dim));
    for (int part = 0; part < N_PARTS; part++)
        MD_TRY(format_writer_put(w, r->view[part], numel(r)));
    return format_writer_finish(w);
}

md_status references_save(const references *r, const char *path, const char *key)
{
    format_writer *w = NULL;
    MD_TRY(format_writer_new(path, &w));
    md_status status = write_all(r, key, w);
    format_writer_free(w);
    return status;
}

/* Into r, whatever the checksum says; *same: the file's key is `key`. */
static md_status read_all(references *r, const format_tensors *f, const char *key, bool *same)
{
    int64_t dim[] = {r->n, r->views, r->width};
    const char *its = format_tensors_meta(f, "key"), *crc = format_tensors_meta(f, "crc32c");
    char now[16];
    *same = its && !strcmp(its, key);
    if (!*same)
        return MD_OK;
    for (int part = 0; part < N_PARTS; part++) {
        const format_tensor *t;
        MD_TRY(format_tensors_get(f, part_names[part], 3, dim, &t));
        MD_TRY(format_tensors_read_f32(f, t, 0, t->numel, r->view[part]));
    }
    checksum(r, now);
    if (!crc || strcmp(crc, now) != 0)
        MD_FAIL(MD_BAD_INPUT, "%s: the checksum is wrong", format_tensors_name(f));
    return MD_OK;
}

md_status references_load(references *r, const char *path, const char *key, bool *hit)
{
    format_tensors *f = NULL;
    *hit = false;
    if (!md_file_exists(path))
        return MD_OK;
    md_status status = format_tensors_open(path, &f);
    if (status == MD_OK)
        status = read_all(r, f, key, hit);
    format_tensors_close(f);
    if (status == MD_OK)
        return MD_OK;
    *hit = false;
    md_warn("assess", "%s is damaged and will be made again: %s", path, md_status_text());
    md_status_clear();
    return status == MD_NOMEM ? status : MD_OK;
}

/* ---- comparing */

/* In lanes, so that the compiler may use its registers: sums of doubles are never reordered. */
static double product(const float *a, const float *b, int64_t n)
{
    enum { LANES = 8 };
    double lane[LANES] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++)
            lane[k] += (double)a[i + k] * (double)b[i + k];
    for (; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    for (int k = 0; k < LANES; k++)
        sum += lane[k];
    return sum;
}

double references_similarity(const references *r, picture_part part, const float *feature,
                             int64_t i)
{
    const float *view = r->view[part] + i * r->views * r->width;
    double most = -INFINITY;
    for (int k = 0; k < r->views; k++)
        most = fmax(most, product(feature, view + k * r->width, r->width));
    return most;
}

/* Puts s into most[REFERENCES_NEAREST], descending, of which n are filled. */
static int insert(double *most, int n, double s)
{
    int at = n < REFERENCES_NEAREST ? n : REFERENCES_NEAREST;
    for (; at > 0 && most[at - 1] < s; at--)
        if (at < REFERENCES_NEAREST)
            most[at] = most[at - 1];
    if (at < REFERENCES_NEAREST)
        most[at] = s;
    return n < REFERENCES_NEAREST ? n + 1 : n;
}

void references_compare(const references *r, picture_part part, const float *feature,
                        int32_t without, const bool *skip, likeness *out)
{
    double most[REFERENCES_NEAREST], sum = 0, nearest = -INFINITY;
    int n = 0;
    *out = (likeness){NAN, NAN, -1};
    for (int64_t i = 0; i < r->n; i++) {
        if (r->group[i] == without || (skip && skip[i]))
            continue;
        double s = references_similarity(r, part, feature, i);
        if (s > nearest) {
            nearest = s;
            out->id = r->id[i];
        }
        n = insert(most, n, s);
    }
    for (int k = 0; k < n; k++)
        sum += most[k];
    if (n > 0) {
        out->nearest = (float)nearest;
        out->mean = (float)(sum / n);
    }
}
