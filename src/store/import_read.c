/* Reading, checking and fitting one picture. */
#include "store/import_read.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/outlines.h"
#include "image/mask.h"
#include "store/import_list.h"

enum { FILE_MAX = 1 << 30 };

static md_status read_bytes(const import_list *list, const char *relative, char name[PATH_MAX],
                            void **bytes, size_t *n)
{
    char path[PATH_MAX];
    MD_TRY(import__resolve(list, relative, path, sizeof path));
    MD_TRY(md_path_join(name, PATH_MAX, list->root, relative));
    MD_TRY(md_file_read(path, FILE_MAX, bytes, n));
    return MD_OK;
}

static md_status read_image(const import_list *list, const char *relative, import_pixels *out)
{
    char name[PATH_MAX];
    void *bytes = NULL;
    size_t n = 0;
    image any = {0};
    MD_TRY(read_bytes(list, relative, name, &bytes, &n));
    md_sha256(bytes, n, out->sha256);
    image_about about = {.orientation = 1};
    md_status status = image_read_about(name, bytes, n, &any, &about);
    free(bytes);
    if (status == MD_OK)
        status = image_to_rgb(&any, &out->rgb);
    image_free(&any);
    MD_TRY(status);
    out->orientation = out->mask_orientation = about.orientation;
    return MD_OK;
}

static md_status refuse_size(const import_picture *p, const char *name, const image *mask,
                             int orientation, const import_pixels *px)
{
    long long w = px->rgb.w, h = px->rgb.h;
    if (mask->h == w && mask->w == h && orientation != px->orientation)
        MD_FAIL(MD_BAD_INPUT,
                "%s is %lldx%lld pixels as its EXIF orientation %d shows it, but its mask %s is "
                "%lldx%lld (orientation %d): turn the mask likewise, or take the orientation out "
                "of the picture, for example: exiftool -Orientation= FILE",
                p->image, w, h, px->orientation, name, h, w, orientation);
    MD_FAIL(MD_BAD_INPUT,
            "%s is %lldx%lld pixels, but its mask %s is %lldx%lld: save the mask again at the "
            "picture's size",
            p->image, w, h, name, (long long)mask->w, (long long)mask->h);
}

static md_status refuse_empty(const import_list *list, const import_picture *p, const char *name,
                              const image_about *about)
{
    const char *healthy = list->format->healthy;
    MD_FAIL(MD_BAD_INPUT,
            "%s marks nothing, but %s counts as a lesion image: the mask's largest value is %d, "
            "and from %d on a pixel is lesion; draw the mask with 255, or, if the picture shows no "
            "lesion, %s%s",
            name, p->image, about->largest, about->threshold,
            healthy ? "move it without its mask to " : "take both out", healthy ? healthy : "");
}

/* ORs one mask file into out->mask. */
static md_status read_mask(const import_list *list, const import_picture *p, int i,
                           import_pixels *out)
{
    char name[PATH_MAX];
    void *bytes = NULL;
    size_t n = 0;
    image m = {0};
    image_about about;
    MD_TRY(read_bytes(list, p->mask[i], name, &bytes, &n));
    md_status status = image_read_mask_about(name, bytes, n, &m, &about);
    free(bytes);
    MD_TRY(status);
    if (m.h != out->rgb.h || m.w != out->rgb.w)
        status = refuse_size(p, name, &m, about.orientation, out);
    if (about.orientation != out->orientation)
        out->mask_orientation = about.orientation;
    bool any = false;
    for (int64_t k = 0; status == MD_OK && k < m.h * m.w; k++) {
        out->mask.px[k] |= m.px[k];
        any = any || m.px[k];
    }
    image_free(&m);
    MD_TRY(status);
    if (!any && p->kind == DATA_LESION)
        return refuse_empty(list, p, name, &about);
    if (any && p->kind == DATA_HEALTHY)
        MD_FAIL(MD_BAD_INPUT,
                "%s marks a lesion, but %s counts as lesion-free: move both to the lesion images, "
                "or clear the mask",
                name, p->image);
    return MD_OK;
}

static md_status draw_outlines(const import_picture *p, import_pixels *out)
{
    for (int64_t i = 0; i < p->n_outlines; i++)
        MD_TRY(image_mask_fill_polygon(&out->mask, p->outline[i].xy, p->outline[i].n));
    return MD_OK;
}

md_status import__read(const import_list *list, const import_picture *p, import_pixels *out)
{
    *out = (import_pixels){0};
    MD_TRY(read_image(list, p->image, out));
    MD_TRY(image_new(&out->mask, out->rgb.h, out->rgb.w, 1));
    for (int i = 0; i < p->n_masks; i++)
        MD_TRY(read_mask(list, p, i, out));
    return draw_outlines(p, out);
}

void import__pixels_free(import_pixels *px)
{
    image_free(&px->rgb);
    image_free(&px->mask);
}

/* ---- fitting ---- */

static void place(int64_t h, int64_t w, image_box box, const int64_t valid[4], data_row *row)
{
    const double source[4] = {box.y0, box.x0, box.y1, box.x1};
    row->size[0] = (int32_t)h;
    row->size[1] = (int32_t)w;
    for (int i = 0; i < 4; i++) {
        row->valid[i] = (int32_t)valid[i];
        row->source[i] = (float)source[i];
    }
}

void import__place_box(int64_t h, int64_t w, image_box box, int64_t size, data_row *row)
{
    place(h, w, box, (const int64_t[4]){0, 0, size, size}, row);
}

md_status import__place(int64_t h, int64_t w, image_fit_mode fit, int64_t size, data_row *row)
{
    image_fit_map m;
    MD_TRY(image_fit_map_make(h, w, size, fit, &m));
    image_box box = {((double)m.y0 - m.oy) / m.sy, ((double)m.x0 - m.ox) / m.sx,
                     ((double)m.y1 - m.oy) / m.sy, ((double)m.x1 - m.ox) / m.sx};
    /* Rounding may leave the source by a hair. */
    box.y0 = fmax(box.y0, 0);
    box.x0 = fmax(box.x0, 0);
    box.y1 = fmin(box.y1, (double)h);
    box.x1 = fmin(box.x1, (double)w);
    place(h, w, box, (const int64_t[4]){m.y0, m.x0, m.y1, m.x1}, row);
    return MD_OK;
}

typedef md_status (*resizer)(const image *src, image_box box, int64_t h, int64_t w,
                             image_filter filter, image *out);

/* Resizes the part of src that row shows into the valid rectangle of dst [size,size,c]; the rest is
   0. */
static md_status draw(resizer resize, const image *src, const data_row *row, int64_t size,
                      image_filter filter, uint8_t *dst)
{
    image_box box = {row->source[0], row->source[1], row->source[2], row->source[3]};
    image part = {0};
    MD_TRY(resize(src, box, row->valid[2] - row->valid[0], row->valid[3] - row->valid[1], filter,
                  &part));
    memset(dst, 0, (size_t)(size * size * part.c));
    for (int64_t y = 0; y < part.h; y++)
        memcpy(dst + ((row->valid[0] + y) * size + row->valid[1]) * part.c,
               part.px + y * part.w * part.c, (size_t)(part.w * part.c));
    image_free(&part);
    return MD_OK;
}

md_status import__draw_image(const import_pixels *px, const data_row *row, int64_t size,
                             image_filter filter, uint8_t *rgb)
{
    return draw(image_resize_box, &px->rgb, row, size, filter, rgb);
}

md_status import__draw_mask(const import_pixels *px, const data_row *row, int64_t size,
                            image_filter filter, uint8_t *mask)
{
    return draw(image_resize_mask_box, &px->mask, row, size, filter, mask);
}
