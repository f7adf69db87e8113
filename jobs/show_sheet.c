/* show: the picture. Cells side by side: pair, outlines, background, guide, the guide at the
   latent's size, the nearest real image, the pair painted again. */
#include "base/log.h"
#include "generate/pairs.h"
#include "image/resize.h"
#include "image/sheet.h"
#include "model/foundation.h"
#include "show.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { COLS = 4, MOST = 8, CELL_LEAST = 192, MARGIN = 4 };
static const image_color green = {60, 255, 60}, orange = {255, 160, 40};

typedef struct cell {
    image im; /* [CELL,CELL,3] */
    char caption[96];
} cell;

typedef struct drawing {
    const show *s;
    const image *rgb, *mask, *guide; /* the stored ones, or those painted again */
    int32_t background_id;
    int64_t edge; /* of a cell */
    cell cells[MOST];
    int64_t n;
} drawing;

/* im [S,S,1 or 3] as the next cell's picture; masks (0 and 1) become black and white. */
static md_status add(drawing *d, const image *im, bool is_mask, const char *caption)
{
    image rgb = {0};
    cell *c = &d->cells[d->n];
    MD_TRY(image_to_rgb(im, &rgb));
    for (int64_t i = 0; i < 3 * rgb.h * rgb.w && is_mask; i++)
        rgb.px[i] = rgb.px[i] ? 255 : 0;
    md_status status = image_resize(&rgb, d->edge, d->edge, IMAGE_NEAREST, &c->im);
    image_free(&rgb);
    MD_TRY(status);
    (void)snprintf(c->caption, sizeof c->caption, "%s", caption);
    d->n++;
    return MD_OK;
}

/* On the last cell. */
static md_status outline(drawing *d, const image *mask, image_color color)
{
    image large = {0};
    MD_TRY(image_resize(mask, d->edge, d->edge, IMAGE_NEAREST, &large));
    md_status status = image_draw_outline(&d->cells[d->n - 1].im, &large, color, 1);
    image_free(&large);
    return status;
}

/* A row's picture, with its mask's outline where that is asked for. */
static md_status add_row(drawing *d, data_store *from, int32_t id, bool outlined,
                         const char *caption)
{
    image rgb = {0}, mask = {0};
    if (!from || id < 0 || id >= data_rows(from))
        return MD_OK;
    MD_TRY(image_new(&rgb, d->s->size, d->s->size, 3));
    md_status status = image_new(&mask, d->s->size, d->s->size, 1);
    if (status == MD_OK)
        status = data_read_pixels(from, id, rgb.px, mask.px);
    if (status == MD_OK)
        status = add(d, &rgb, false, caption);
    if (status == MD_OK && outlined)
        status = outline(d, &mask, green);
    image_free(&rgb);
    image_free(&mask);
    return status;
}

/* M of equation 2 after the last step that blends: pooled, grown, feathered; map [edge,edge]. */
static md_status latent_mask(const drawing *d, const painter_options *o, int64_t edge, float *map)
{
    float *grown = malloc((size_t)(2 * edge * edge) * sizeof *grown);
    if (!grown)
        MD_FAIL(MD_NOMEM, "show: out of memory");
    float *soft = grown + edge * edge;
    md_status status = guide_pool(d->guide, edge, o->pool, o->grow, grown);
    if (status == MD_OK)
        status = guide_feather(grown, edge, o->feather, soft);
    if (status == MD_OK)
        blend_mask_at(o->motion, grown, soft, edge * edge, 0, map);
    free(grown);
    return status;
}

static md_status add_map(drawing *d, const float *map, int64_t edge)
{
    char caption[96];
    image gray = {0};
    MD_TRY(image_new(&gray, edge, edge, 1));
    for (int64_t i = 0; i < edge * edge; i++)
        gray.px[i] = (uint8_t)lrintf(255 * map[i]);
    (void)snprintf(caption, sizeof caption, "latent mask %lldx%lld", (long long)edge,
                   (long long)edge);
    md_status status = add(d, &gray, false, caption);
    image_free(&gray);
    return status == MD_OK ? outline(d, d->guide, green) : status;
}

/* The latent's size is the foundation's to say. */
static md_status add_latent(drawing *d)
{
    const config *given = d->s->j->cfg;
    const char *path = config_string(config_is_set(given, KEY_model_foundation) ? given : d->s->cfg,
                                     KEY_model_foundation);
    foundation *f = NULL;
    painter_options o;
    if (foundation_open(path, &f) != MD_OK) {
        md_warn("show", "no latent mask: %s; --set model.foundation=FOLDER says where it is",
                md_status_text());
        md_status_clear();
        return MD_OK;
    }
    int64_t edge = d->s->size / vae_shrink(f->vae);
    foundation_free(f, NULL);
    MD_TRY(pairs_painter_options(d->s->cfg, d->s->size, &o));
    float *map = malloc((size_t)(edge * edge) * sizeof *map);
    if (!map)
        MD_FAIL(MD_NOMEM, "show: out of memory");
    md_status status = latent_mask(d, &o, edge, map);
    if (status == MD_OK)
        status = add_map(d, map, edge);
    free(map);
    return status;
}

static md_status add_nearest(drawing *d)
{
    char caption[96];
    if (!d->s->painted || d->s->row.nearest_id < 0)
        return MD_OK;
    (void)snprintf(caption, sizeof caption, "nearest: row %d, %.4f", (int)d->s->row.nearest_id,
                   (double)d->s->row.similarity);
    return add_row(d, d->s->data, d->s->row.nearest_id, true, caption);
}

static md_status add_again(drawing *d)
{
    char caption[96];
    show_difference c = show_compare(d->s);
    if (!d->s->redrawn || !d->s->painted)
        return MD_OK;
    (void)snprintf(caption, sizeof caption, "redrawn %u: %s", (unsigned)d->s->attempt,
                   !c.known                 ? "another draw"
                   : c.crc == d->s->row.crc ? "same bytes"
                                            : "differs");
    return add(d, &d->s->again.rgb, false, caption);
}

static md_status add_cells(drawing *d)
{
    static const char *const states[] = {"empty", "not judged", "accepted", "rejected", "failed"};
    char caption[96];
    (void)snprintf(caption, sizeof caption, "pair %lld: %s", (long long)d->s->slot,
                   d->s->painted ? states[d->s->row.state] : "painted again");
    MD_TRY(add(d, d->rgb, false, caption));
    MD_TRY(add(d, d->rgb, false, "mask, guide"));
    MD_TRY(outline(d, d->guide, orange));
    MD_TRY(outline(d, d->mask, green));
    (void)snprintf(caption, sizeof caption, "background: row %d", (int)d->background_id);
    MD_TRY(add_row(d, d->s->backgrounds, d->background_id, false, caption));
    MD_TRY(add(d, d->guide, true, "guide"));
    MD_TRY(add_latent(d));
    MD_TRY(add(d, d->mask, true, "mask"));
    MD_TRY(add_nearest(d));
    return add_again(d);
}

static md_status write(const drawing *d, const char *png, const char *text)
{
    md_status status;
    image_sheet sheet = {0};
    const char *settings = config_text(d->s->cfg, &status);
    MD_TRY(status);
    const image_text texts[] = {{"Software", "meddiff " MEDDIFF_VERSION},
                                {"Description", text},
                                {"meddiff.config", settings}};
    MD_TRY(image_sheet_new(&sheet, (d->n + COLS - 1) / COLS, COLS, d->edge, d->edge, MARGIN, 1));
    for (int64_t i = 0; i < d->n && status == MD_OK; i++)
        status = image_sheet_put(&sheet, i / COLS, i % COLS, &d->cells[i].im, d->cells[i].caption);
    if (status == MD_OK)
        status = image_write_png(png, &sheet.im, texts, 3);
    image_sheet_free(&sheet);
    return status;
}

md_status show_sheet(const show *s, const char *png, const char *text)
{
    drawing d = {.s = s, .rgb = &s->rgb, .mask = &s->mask, .guide = &s->guide};
    int64_t times = (CELL_LEAST + s->size - 1) / s->size;
    d.edge = s->size * (times > 1 ? times : 1);
    d.background_id = s->row.background_id;
    if (!s->painted && !s->redrawn)
        return MD_OK;
    if (!s->painted) {
        d.rgb = &s->again.rgb;
        d.mask = &s->again.mask;
        d.guide = &s->again.guide;
        d.background_id = s->again.background_id;
    }
    md_status status = add_cells(&d);
    if (status == MD_OK)
        status = write(&d, png, text);
    for (int i = 0; i < MOST; i++)
        image_free(&d.cells[i].im);
    return status;
}
