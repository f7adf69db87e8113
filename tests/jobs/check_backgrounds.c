/* check_backgrounds RUN COUNT [OTHER]: RUN/backgrounds.h5 holds COUNT repaired training images of
   RUN/data.h5, each as often as the others or once more: their columns, pixels of the source
   outside what was repaired and others inside, maps within the valid area. With OTHER, another such
   store: every picture of it is in this one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "generate/repair.h"

enum { PATH = 4096 };

typedef struct check {
    data_store *data, *backgrounds;
    uint8_t *before, *after, *map;
    image mask;
    double grow_px;
    int *seen; /* [rows of data.h5] */
} check;

static md_status check_columns(const check *c, const data_row *row, data_row *from, int64_t i)
{
    if (row->data_id < 0 || row->data_id >= data_rows(c->data))
        MD_FAIL(MD_BAD_INPUT, "row %lld: from no row of data.h5", (long long)i);
    MD_TRY(data_read_row(c->data, row->data_id, from));
    if (from->kind != DATA_LESION || from->split != DATA_TRAIN || !from->used)
        MD_FAIL(MD_BAD_INPUT, "row %lld: %s is not among the training pairs in use", (long long)i,
                from->name);
    if (row->kind != DATA_REPAIRED || row->split != DATA_TRAIN || row->group != from->group ||
        strcmp(row->name, from->name) || strcmp(row->sha256, from->sha256) ||
        strcmp(row->licence, from->licence) || memcmp(row->valid, from->valid, sizeof row->valid) ||
        memcmp(row->source, from->source, sizeof row->source) ||
        memcmp(row->size, from->size, sizeof row->size))
        MD_FAIL(MD_BAD_INPUT, "row %lld: its columns are not those of %s", (long long)i,
                from->name);
    return MD_OK;
}

static md_status check_pixels(check *c, const data_row *row, int64_t i)
{
    int64_t size = data_size(c->data), inside = 0, changed = 0;
    image region = {0};
    bool whole = false;
    MD_TRY(data_read_pixels(c->data, row->data_id, c->before, c->mask.px));
    MD_TRY(data_read_pixels(c->backgrounds, i, c->after, c->map));
    MD_TRY(data_verify_row(c->backgrounds, i, &whole));
    if (!whole)
        MD_FAIL(MD_BAD_INPUT, "row %lld: another checksum", (long long)i);
    MD_TRY(repair_region(&c->mask, row->valid, c->grow_px, &region));
    md_status status = MD_OK;
    for (int64_t k = 0; k < size * size && status == MD_OK; k++) {
        int64_t y = k / size, x = k % size;
        bool same = memcmp(c->before + 3 * k, c->after + 3 * k, 3) == 0;
        bool valid =
            y >= row->valid[0] && y < row->valid[2] && x >= row->valid[1] && x < row->valid[3];
        if ((!region.px[k] && !same) || (!valid && c->map[k]) || c->map[k] > 1)
            status = md_fail(MD_BAD_INPUT, __FILE__, __LINE__, "row %lld, pixel %lld, %lld: %s",
                             (long long)i, (long long)y, (long long)x,
                             same ? "the map leaves the valid area" : "changed beside the lesion");
        inside += c->mask.px[k] != 0;
        changed += c->mask.px[k] && !same;
    }
    image_free(&region);
    MD_TRY(status);
    if (2 * changed < inside)
        MD_FAIL(MD_BAD_INPUT, "row %lld: %lld of the lesion's %lld pixels were repainted",
                (long long)i, (long long)changed, (long long)inside);
    return MD_OK;
}

static md_status check_rows(check *c, int64_t count)
{
    int least = 1 << 30, most = 0;
    if (data_rows(c->backgrounds) != count)
        MD_FAIL(MD_BAD_INPUT, "%lld rows", (long long)data_rows(c->backgrounds));
    for (int64_t i = 0; i < count; i++) {
        data_row row, from;
        MD_TRY(data_read_row(c->backgrounds, i, &row));
        MD_TRY(check_columns(c, &row, &from, i));
        MD_TRY(check_pixels(c, &row, i));
        c->seen[row.data_id]++;
    }
    for (int64_t k = 0; k < data_rows(c->data); k++) {
        data_row row;
        MD_TRY(data_read_row(c->data, k, &row));
        if (row.kind != DATA_LESION || row.split != DATA_TRAIN || !row.used)
            continue;
        least = c->seen[k] < least ? c->seen[k] : least;
        most = c->seen[k] > most ? c->seen[k] : most;
    }
    if (most - least > 1)
        MD_FAIL(MD_BAD_INPUT, "one image is there %d times, another %d times", most, least);
    return MD_OK;
}

static md_status contains(check *c, const char *path)
{
    data_store *other = NULL;
    MD_TRY(data_open(path, DATA_BACKGROUNDS, &other));
    md_status status = MD_OK;
    for (int64_t i = 0; i < data_rows(other) && status == MD_OK; i++) {
        int64_t at = 0, bytes = 3 * data_size(other) * data_size(other);
        status = data_read_pixels(other, i, c->before, NULL);
        for (; at < data_rows(c->backgrounds) && status == MD_OK; at++) {
            status = data_read_pixels(c->backgrounds, at, c->after, NULL);
            if (memcmp(c->before, c->after, (size_t)bytes) == 0)
                break;
        }
        if (status == MD_OK && at == data_rows(c->backgrounds))
            status = md_fail(MD_BAD_INPUT, __FILE__, __LINE__, "row %lld of %s is not here",
                             (long long)i, path);
    }
    data_close(other);
    return status;
}

static md_status run(const char *folder, int64_t count, const char *other)
{
    char path[PATH];
    check c = {.grow_px = 8}; /* two latents of the test's foundations */
    MD_TRY(md_path_join(path, sizeof path, folder, "data.h5"));
    MD_TRY(data_open(path, DATA_IMAGES, &c.data));
    MD_TRY(md_path_join(path, sizeof path, folder, "backgrounds.h5"));
    MD_TRY(data_open(path, DATA_BACKGROUNDS, &c.backgrounds));
    int64_t size = data_size(c.data);
    c.before = malloc((size_t)(3 * size * size));
    c.after = malloc((size_t)(3 * size * size));
    c.map = malloc((size_t)(size * size));
    c.seen = calloc((size_t)data_rows(c.data), sizeof *c.seen);
    if (!c.before || !c.after || !c.map || !c.seen)
        MD_FAIL(MD_NOMEM, "out of memory");
    MD_TRY(image_new(&c.mask, size, size, 1));
    MD_TRY(check_rows(&c, count));
    return other ? contains(&c, other) : MD_OK;
}

int main(int argc, char **argv)
{
    if (argc != 3 && argc != 4)
        return 2;
    if (run(argv[1], strtoll(argv[2], NULL, 10), argc == 4 ? argv[3] : NULL) != MD_OK) {
        (void)printf("%s: %s\n", argv[1], md_status_text());
        return 1;
    }
    return 0;
}
