#include "generate/guide_sheet.h"
#include "generate/guide.h"
#include "image/sheet.h"
#include "store/pairs.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { CELL = 128, PARTS = 4, TIMES = 6 };

typedef struct drawing {
    pairs_store *store;
    painter_options o;
    sampler_place *course;
    int train_steps;
    int64_t size, edge;            /* pixels; latent pixels */
    float *pooled, *grown, *soft;  /* [edge,edge]: what the guide becomes */
    image picture, guide, outline; /* [S,S,3], [S,S,1], [CELL,CELL,1] */
    image_sheet sheet;
} drawing;

static md_status set_up(drawing *d, const foundation *f)
{
    int evaluations;
    MD_TRY(painter_check(f, &d->o));
    evaluations = sampler_evaluations(d->o.sampler, d->o.steps);
    d->train_steps = f->schedule.train_steps;
    d->size = pairs_height(d->store);
    d->edge = d->size / vae_shrink(f->vae);
    size_t bytes = (size_t)(d->edge * d->edge) * sizeof *d->pooled;
    d->course = malloc((size_t)evaluations * sizeof *d->course);
    d->pooled = malloc(bytes);
    d->grown = malloc(bytes);
    d->soft = malloc(bytes);
    if (!d->course || !d->pooled || !d->grown || !d->soft)
        MD_FAIL(MD_NOMEM, "guide.png: out of memory");
    MD_TRY(sampler_course(d->o.sampler, &f->schedule, d->o.steps, d->o.eta, d->course));
    MD_TRY(image_new(&d->picture, d->size, d->size, 3));
    MD_TRY(image_new(&d->guide, d->size, d->size, 1));
    return image_new(&d->outline, CELL, CELL, 1);
}

static void tear_down(drawing *d)
{
    image_sheet_free(&d->sheet);
    image_free(&d->picture);
    image_free(&d->guide);
    image_free(&d->outline);
    free(d->course);
    free(d->pooled);
    free(d->grown);
    free(d->soft);
    pairs_close(d->store);
}

/* map [edge,edge] of 0..1 as squares of gray. */
static md_status put_map(drawing *d, int64_t row, int64_t col, const float *map, const char *title)
{
    static const image_color green = {60, 255, 60};
    image im;
    MD_TRY(image_new(&im, CELL, CELL, 3));
    for (int64_t i = 0; i < 3 * CELL * CELL; i++) {
        int64_t y = i / 3 / CELL * d->edge / CELL, x = i / 3 % CELL * d->edge / CELL;
        im.px[i] = (uint8_t)lrintf(255 * map[y * d->edge + x]);
    }
    md_status status = image_draw_outline(&im, &d->outline, green, 1);
    if (status == MD_OK)
        status = image_sheet_put(&d->sheet, row, col, &im, title);
    image_free(&im);
    return status;
}

/* M after the evaluation at this place. */
static md_status put_time(drawing *d, int64_t row, int64_t col, const sampler_place *at)
{
    char title[32];
    double next = at->index < at->count - 1 ? at[1].t : 0;
    double level = blend_level(at, d->train_steps, d->o.settled);
    blend_mask_at(d->o.motion, d->grown, d->soft, d->edge * d->edge, level, d->pooled);
    (void)snprintf(title, sizeof title, "M at t %.0f", next);
    return put_map(d, row, col, d->pooled, title);
}

static md_status put_slot(drawing *d, int64_t row, int64_t slot)
{
    char title[32];
    int last = d->course->count - 1;
    MD_TRY(pairs_read_pixels(d->store, slot, d->picture.px, NULL, d->guide.px));
    for (int64_t i = 0; i < CELL * CELL; i++)
        d->outline.px[i] =
            d->guide.px[i / CELL * d->size / CELL * d->size + i % CELL * d->size / CELL];
    MD_TRY(guide_pool(&d->guide, d->edge, d->o.pool, 0, d->pooled));
    MD_TRY(guide_pool(&d->guide, d->edge, d->o.pool, d->o.grow, d->grown));
    MD_TRY(guide_feather(d->grown, d->edge, d->o.feather, d->soft));
    (void)snprintf(title, sizeof title, "pair %lld", (long long)slot);
    MD_TRY(image_sheet_put(&d->sheet, row, 0, &d->picture, title));
    MD_TRY(put_map(d, row, 1, d->pooled, "pooled"));
    (void)snprintf(title, sizeof title, "grown %d", d->o.grow);
    MD_TRY(put_map(d, row, 2, d->grown, title));
    (void)snprintf(title, sizeof title, "feather %.3g", d->o.feather);
    MD_TRY(put_map(d, row, 3, d->soft, title));
    for (int i = 0; i < TIMES; i++)
        MD_TRY(put_time(d, row, PARTS + i, &d->course[(int64_t)last * i / (TIMES - 1)]));
    return MD_OK;
}

static md_status draw(drawing *d, const uint8_t *state, int most, const char *png)
{
    int64_t rows = pairs_rows(d->store), n = 0, row = 0;
    for (int64_t i = 0; i < rows; i++)
        n += state[i] == PAIRS_ACCEPTED;
    n = n < most ? n : most;
    if (n == 0)
        return MD_OK;
    MD_TRY(image_sheet_new(&d->sheet, n, PARTS + TIMES, CELL, CELL, 2, 1));
    for (int64_t i = 0; i < rows && row < n; i++)
        if (state[i] == PAIRS_ACCEPTED)
            MD_TRY(put_slot(d, row++, i));
    return image_write_png(png, &d->sheet.im, NULL, 0);
}

md_status guide_sheet(const char *store, const foundation *f, painter_options o, int most,
                      const char *png)
{
    drawing d = {.o = o};
    MD_TRY(pairs_open_reader(store, &d.store));
    uint8_t *state = malloc((size_t)pairs_rows(d.store));
    md_status status = state ? pairs_read_states(d.store, state)
                             : md_fail(MD_NOMEM, __FILE__, __LINE__, "guide.png: out of memory");
    if (status == MD_OK)
        status = set_up(&d, f);
    if (status == MD_OK)
        status = draw(&d, state, most, png);
    free(state);
    tear_down(&d);
    return status;
}
