/* import.png: every pair with its mask's outline (green: used for training; yellow: train, but
   beyond data.pairs; blue: val; red: test), the lesion-free images, then what backgrounds.h5 holds,
   red where no lesion may lie. */
#include "store/import_sheet.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "image/sheet.h"

typedef struct drawing {
    image_sheet sheet;
    image rgb, mask; /* one stored picture */
    int64_t next;    /* cell */
} drawing;

static image_color color_of(const data_row *row)
{
    static const image_color used = {60, 230, 60}, spare = {240, 220, 40}, val = {70, 150, 255},
                             test = {255, 70, 70};
    return row->split == DATA_VAL ? val : row->split == DATA_TEST ? test : row->used ? used : spare;
}

/* "malignant (3) val": the file's stem and what it is for. */
static void caption_of(const data_row *row, bool background, char *out, size_t bytes)
{
    const char *slash = strrchr(row->name, '/'), *name = slash ? slash + 1 : row->name;
    const char *dot = strrchr(name, '.');
    int stem = dot && dot != name ? (int)(dot - name) : (int)strlen(name);
    const char *use = background                 ? "bg"
                      : row->split != DATA_TRAIN ? data_split_name(row->split)
                      : row->used                ? "train"
                                                 : "spare";
    (void)snprintf(out, bytes, "%.*s %s", stem, name, use);
}

/* What the map leaves out. */
static md_status tint_outside(image *rgb, image *map)
{
    static const image_color red = {200, 0, 0};
    for (int64_t k = 0; k < map->h * map->w; k++)
        map->px[k] = !map->px[k];
    return image_draw_tint(rgb, map, red, 0.4);
}

static md_status put_all(drawing *d, data_store *from, bool background)
{
    double line = (double)data_size(from) / (double)d->sheet.w;
    for (int64_t i = 0; i < data_rows(from); i++) {
        data_row row;
        char caption[DATA_NAME_BYTES + 16];
        MD_TRY(data_read_row(from, i, &row));
        MD_TRY(data_read_pixels(from, i, d->rgb.px, d->mask.px));
        MD_TRY(background ? tint_outside(&d->rgb, &d->mask)
                          : image_draw_outline(&d->rgb, &d->mask, color_of(&row), line));
        caption_of(&row, background, caption, sizeof caption);
        MD_TRY(image_sheet_put(&d->sheet, d->next / d->sheet.cols, d->next % d->sheet.cols, &d->rgb,
                               caption));
        d->next++;
    }
    return MD_OK;
}

static md_status draw(drawing *d, const char *path, data_store *data, data_store *backgrounds)
{
    int64_t size = data_size(data), n = data_rows(data),
            b = backgrounds ? data_rows(backgrounds) : 0;
    int64_t cell = n + b <= 200 ? 128 : n + b <= 1000 ? 96 : 64;
    int64_t cols = (int64_t)ceil(1.2 * sqrt((double)(n + b)));
    int64_t rows =
        (n + cols - 1) / cols + (b + cols - 1) / cols; /* backgrounds on a row of their own */
    cell = cell < size ? cell : size;
    MD_TRY(image_sheet_new(&d->sheet, rows, cols, cell, cell, 2, 1));
    MD_TRY(image_new(&d->rgb, size, size, 3));
    MD_TRY(image_new(&d->mask, size, size, 1));
    MD_TRY(put_all(d, data, false));
    d->next = (n + cols - 1) / cols * cols;
    if (backgrounds)
        MD_TRY(put_all(d, backgrounds, true));
    MD_TRY(image_write_png(path, &d->sheet.im, NULL, 0));
    return MD_OK;
}

md_status import__sheet(const char *path, data_store *data, data_store *backgrounds)
{
    drawing d = {.next = 0};
    md_status status = draw(&d, path, data, backgrounds);
    image_sheet_free(&d.sheet);
    image_free(&d.rgb);
    image_free(&d.mask);
    return status == MD_OK ? MD_OK : md_frame(status, __FILE__, __LINE__);
}
