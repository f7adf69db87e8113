/* check_export FORMAT RUN FOLDER: what "meddiff export" wrote into FOLDER (png, nnunet, coco, hdf5,
   with the defaults of export.real) against RUN's stores: every accepted pair and every real one,
   each in its part, byte for byte, and nothing else. Prints the number of pictures. check_export
   lines STORE: what read_store prints of pairs.h5, by the store library. */
#include "adler.h"
#include "base/file.h"
#include "base/str.h"
#include "format/json.h"
#include "image/image.h"
#include "store/data.h"
#include "store/pairs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH = 4096, EDGE_MAX = 512 };

static uint8_t rgb[EDGE_MAX * EDGE_MAX * 3], mask[EDGE_MAX * EDGE_MAX], guide[EDGE_MAX * EDGE_MAX];

typedef struct check {
    const char *format, *folder;
    pairs_store *pairs;
    data_store *data;
    int64_t side, files, pictures; /* files that were looked at */
    format_json *coco[DATA_N_SPLITS];
} check;

/* The picture is the file, with `scale` for 1. */
static md_status same_picture(check *c, const uint8_t *px, int channels, int scale, const char *fmt,
                              const char *a, const char *b)
{
    char path[PATH];
    image im = {0};
    size_t at = 0, n = (size_t)(c->side * c->side * channels);
    MD_TRY(md_str_printf(path, sizeof path, "%s/", c->folder));
    size_t used = strlen(path);
    (void)snprintf(path + used, sizeof path - used, "%s/%s%s", a, b, fmt);
    MD_TRY(image_read(path, &im));
    bool same = im.h == c->side && im.w == c->side && im.c == channels;
    while (same && at < n && im.px[at] == px[at] * scale)
        at++;
    image_free(&im);
    c->files++;
    if (!same || at < n)
        MD_FAIL(MD_BAD_INPUT, "%s: not the pixels of the store (%zu of %zu)", path, at, n);
    return MD_OK;
}

/* ---- coco */

/* pycocotools' rleFrString, for one annotation; adds to found[side * side]. */
static md_status add_runs(const char *text, int64_t side, uint8_t *found, int64_t *area)
{
    int64_t count[1 << 14], n = 0, at = 0;
    for (const char *p = text; *p;) {
        int64_t x = 0;
        int shift = 0;
        bool more = true;
        while (more) {
            int letter = *p++ - 48;
            x |= (int64_t)(letter & 31) << shift;
            shift += 5;
            more = letter & 32;
            if (!more && (letter & 16))
                x |= -((int64_t)1 << shift);
        }
        count[n] = n > 2 ? x + count[n - 2] : x;
        n++;
    }
    *area = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < count[i]; k++, at++)
            if (i % 2) {
                uint8_t *px = &found[at % side * side + at / side];
                if (*px)
                    MD_FAIL(MD_BAD_INPUT, "two annotations share a pixel");
                *px = 1;
                ++*area;
            }
    if (at != side * side)
        MD_FAIL(MD_BAD_INPUT, "runs of %lld pixels", (long long)at);
    return MD_OK;
}

static md_status annotation(check *c, const format_json *j, int64_t k, int64_t image_id,
                            uint8_t *found)
{
    char path[64];
    const char *text;
    int64_t id, area, box[4], n, pixels = 0, top = c->side, left = c->side;
    uint8_t one[EDGE_MAX * EDGE_MAX] = {0};
    (void)snprintf(path, sizeof path, "annotations[%lld].image_id", (long long)k);
    MD_TRY(format_json_int(j, path, 1, 1 << 30, &id));
    if (id != image_id)
        return MD_OK;
    (void)snprintf(path, sizeof path, "annotations[%lld].area", (long long)k);
    MD_TRY(format_json_int(j, path, 1, 1 << 30, &area));
    (void)snprintf(path, sizeof path, "annotations[%lld].bbox", (long long)k);
    MD_TRY(format_json_ints(j, path, 0, c->side, box, 4, &n));
    (void)snprintf(path, sizeof path, "annotations[%lld].segmentation.counts", (long long)k);
    MD_TRY(format_json_string(j, path, &text));
    MD_TRY(add_runs(text, c->side, one, &pixels));
    for (int64_t i = 0; i < c->side * c->side; i++)
        if (one[i]) {
            int64_t y = i / c->side, x = i % c->side;
            top = y < top ? y : top;
            left = x < left ? x : left;
            if (found[i] || y >= box[1] + box[3] || x >= box[0] + box[2])
                MD_FAIL(MD_BAD_INPUT, "annotation %lld: overlaps, or leaves its box", (long long)k);
            found[i] = 1;
        }
    if (pixels != area || box[0] != left || box[1] != top)
        MD_FAIL(MD_BAD_INPUT, "annotation %lld: wrong area or box", (long long)k);
    return MD_OK;
}

static md_status same_annotations(check *c, data_split split, const char *name)
{
    uint8_t found[EDGE_MAX * EDGE_MAX] = {0};
    char path[PATH], file[64];
    int64_t n, id = 0;
    const char *text;
    (void)snprintf(path, sizeof path, "%s/annotations/instances_%s.json", c->folder,
                   data_split_name(split));
    if (!c->coco[split]) {
        MD_TRY(format_json_load(path, &c->coco[split]));
        c->files++;
    }
    const format_json *j = c->coco[split];
    MD_TRY(format_json_count(j, "images", &n));
    (void)snprintf(file, sizeof file, "%s.png", name);
    for (int64_t i = 0; i < n && !id; i++) {
        (void)snprintf(path, sizeof path, "images[%lld].file_name", (long long)i);
        MD_TRY(format_json_string(j, path, &text));
        if (strcmp(text, file) != 0)
            continue;
        (void)snprintf(path, sizeof path, "images[%lld].id", (long long)i);
        MD_TRY(format_json_int(j, path, 1, 1 << 30, &id));
    }
    MD_TRY(format_json_count(j, "annotations", &n));
    for (int64_t k = 0; k < n; k++)
        MD_TRY(annotation(c, j, k, id, found));
    if (!id || memcmp(found, mask, (size_t)(c->side * c->side)) != 0)
        MD_FAIL(MD_BAD_INPUT, "%s: not there, or not the mask of the store", name);
    return MD_OK;
}

/* ---- all formats */

static md_status same_item(check *c, const char *kind, int64_t row, data_split split)
{
    char name[64], part[64];
    const char *nn = split == DATA_TEST ? "Ts" : "Tr";
    (void)snprintf(name, sizeof name, "%s-%06lld", kind, (long long)row);
    c->pictures++;
    if (!strcmp(c->format, "png")) {
        (void)snprintf(part, sizeof part, "%s/images", data_split_name(split));
        MD_TRY(same_picture(c, rgb, 3, 1, ".png", part, name));
        (void)snprintf(part, sizeof part, "%s/masks", data_split_name(split));
        return same_picture(c, mask, 1, 255, ".png", part, name);
    }
    if (!strcmp(c->format, "nnunet")) {
        (void)snprintf(part, sizeof part, "images%s", nn);
        MD_TRY(same_picture(c, rgb, 3, 1, "_0000.png", part, name));
        (void)snprintf(part, sizeof part, "labels%s", nn);
        return same_picture(c, mask, 1, 1, ".png", part, name);
    }
    MD_TRY(same_picture(c, rgb, 3, 1, ".png", "images", name));
    return same_annotations(c, split, name);
}

static md_status check_pictures(check *c)
{
    for (int64_t i = 0; i < pairs_rows(c->pairs); i++) {
        pairs_row r;
        MD_TRY(pairs_read_row(c->pairs, i, &r));
        MD_TRY(pairs_read_pixels(c->pairs, i, rgb, mask, guide));
        if (r.state == PAIRS_ACCEPTED)
            MD_TRY(same_item(c, "pair", i, DATA_TRAIN));
    }
    for (int64_t i = 0; i < data_rows(c->data); i++) {
        data_row r;
        MD_TRY(data_read_row(c->data, i, &r));
        MD_TRY(data_read_pixels(c->data, i, rgb, mask));
        if (r.kind == DATA_LESION && (r.split != DATA_TRAIN || r.used))
            MD_TRY(same_item(c, "real", i, r.split));
    }
    return MD_OK;
}

static int64_t count_files(const char *folder)
{
    char path[PATH], **names = NULL;
    size_t n = 0;
    struct stat st;
    int64_t files = 0;
    if (md_dir_list(folder, &names, &n) != MD_OK)
        return -1000;
    for (size_t i = 0; i < n; i++)
        if (md_path_join(path, sizeof path, folder, names[i]) == MD_OK && stat(path, &st) == 0)
            files += S_ISDIR(st.st_mode) ? count_files(path) : 1;
    free(names);
    return files;
}

/* pairs.csv and about.json, of nnunet two more. */
static md_status check_others(check *c)
{
    static const char *const json[] = {"about.json", "dataset.json", "splits_final.json"};
    char path[PATH];
    const int n = strcmp(c->format, "nnunet") ? 1 : 3;
    for (int i = 0; i < n; i++) {
        format_json *j = NULL;
        (void)snprintf(path, sizeof path, "%s/%s", c->folder, json[i]);
        MD_TRY(format_json_load(path, &j));
        format_json_free(j);
    }
    if (count_files(c->folder) != c->files + n + 1)
        MD_FAIL(MD_BAD_INPUT, "%s: %lld files, wanted %lld", c->folder,
                (long long)count_files(c->folder), (long long)(c->files + n + 1));
    return MD_OK;
}

/* ---- hdf5 */

static md_status same_pair(check *c, pairs_store *copy, int64_t slot, int64_t at)
{
    static uint8_t rgb2[sizeof rgb], mask2[sizeof mask], guide2[sizeof guide];
    const size_t n = (size_t)(c->side * c->side);
    pairs_row a, b;
    bool whole = false;
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    MD_TRY(pairs_read_row(c->pairs, slot, &a));
    MD_TRY(pairs_read_row(copy, at, &b));
    MD_TRY(pairs_read_pixels(c->pairs, slot, rgb, mask, guide));
    MD_TRY(pairs_read_pixels(copy, at, rgb2, mask2, guide2));
    MD_TRY(pairs_verify_slot(copy, at, &whole));
    if (memcmp(&a, &b, sizeof a) != 0 || memcmp(rgb, rgb2, 3 * n) != 0 || !whole ||
        memcmp(mask, mask2, n) != 0 || memcmp(guide, guide2, n) != 0)
        MD_FAIL(MD_BAD_INPUT, "slot %lld is not row %lld of the copy", (long long)slot,
                (long long)at);
    return MD_OK;
}

static md_status same_attributes(check *c, pairs_store *copy)
{
    static const char *const names[] = {"prompt",   "foundation",  "config",     "code_version",
                                        "licences", "sha256_data", "sha256_unet"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *a = NULL, *b = NULL;
        MD_TRY(pairs_text(c->pairs, names[i], &a));
        MD_TRY(pairs_text(copy, names[i], &b));
        bool same = strcmp(a, b) == 0 && *a;
        free(a);
        free(b);
        if (!same)
            MD_FAIL(MD_BAD_INPUT, "attribute %s differs or is empty", names[i]);
    }
    return MD_OK;
}

static md_status check_packed_pairs(check *c)
{
    char path[PATH];
    pairs_store *copy = NULL;
    int64_t at = 0;
    (void)snprintf(path, sizeof path, "%s/pairs.h5", c->folder);
    MD_TRY(pairs_open_reader(path, &copy));
    for (int64_t i = 0; i < pairs_rows(c->pairs); i++) {
        pairs_row r;
        MD_TRY(pairs_read_row(c->pairs, i, &r));
        if (r.state == PAIRS_ACCEPTED)
            MD_TRY(same_pair(c, copy, i, at++));
    }
    MD_TRY(same_attributes(c, copy));
    if (at != pairs_rows(copy))
        MD_FAIL(MD_BAD_INPUT, "%s: %lld rows, wanted %lld", path, (long long)pairs_rows(copy),
                (long long)at);
    pairs_close(copy);
    c->pictures = at;
    return MD_OK;
}

static md_status check_packed_data(check *c)
{
    static uint8_t rgb2[sizeof rgb], mask2[sizeof mask];
    char path[PATH];
    data_store *copy = NULL;
    int64_t at = 0;
    (void)snprintf(path, sizeof path, "%s/data.h5", c->folder);
    MD_TRY(data_open(path, DATA_IMAGES, &copy));
    for (int64_t i = 0; i < data_rows(c->data); i++) {
        data_row a, b;
        bool whole = false;
        MD_TRY(data_read_row(c->data, i, &a));
        if (a.kind != DATA_LESION || (a.split == DATA_TRAIN && !a.used))
            continue;
        MD_TRY(data_read_row(copy, at, &b));
        MD_TRY(data_read_pixels(c->data, i, rgb, mask));
        MD_TRY(data_read_pixels(copy, at, rgb2, mask2));
        MD_TRY(data_verify_row(copy, at++, &whole));
        if (strcmp(a.name, b.name) != 0 || a.split != b.split || a.group != b.group || !whole ||
            memcmp(rgb, rgb2, (size_t)(3 * c->side * c->side)) != 0 ||
            memcmp(mask, mask2, (size_t)(c->side * c->side)) != 0)
            MD_FAIL(MD_BAD_INPUT, "row %lld of data.h5 is not in the copy", (long long)i);
    }
    bool all = at == data_rows(copy);
    data_close(copy);
    c->pictures += at;
    if (!all)
        MD_FAIL(MD_BAD_INPUT, "%s has other rows too", path);
    return MD_OK;
}

static md_status check_run(const char *format, const char *run, const char *folder)
{
    check c = {.format = format, .folder = folder};
    char path[PATH];
    MD_TRY(md_path_join(path, sizeof path, run, "pairs.h5"));
    MD_TRY(pairs_open_reader(path, &c.pairs));
    MD_TRY(md_path_join(path, sizeof path, run, "data.h5"));
    MD_TRY(data_open(path, DATA_IMAGES, &c.data));
    c.side = pairs_width(c.pairs);
    if (!strcmp(format, "hdf5")) {
        MD_TRY(check_packed_pairs(&c));
        MD_TRY(check_packed_data(&c));
    } else {
        MD_TRY(check_pictures(&c));
        MD_TRY(check_others(&c));
    }
    for (int i = 0; i < DATA_N_SPLITS; i++)
        format_json_free(c.coco[i]);
    pairs_close(c.pairs);
    data_close(c.data);
    (void)printf("%lld pictures\n", (long long)c.pictures);
    return MD_OK;
}

/* ---- lines */

static md_status print_lines(const char *path)
{
    pairs_store *p = NULL;
    int64_t count[PAIRS_N_STATES];
    char *prompt = NULL;
    uint64_t seed = 0;
    MD_TRY(pairs_open_reader(path, &p));
    MD_TRY(pairs_count_states(p, count));
    MD_TRY(pairs_text(p, "prompt", &prompt));
    MD_TRY(pairs_seed(p, &seed));
    const int64_t n = pairs_height(p) * pairs_width(p);
    (void)printf("%lld %lld %lld %llu %s\n", (long long)count[PAIRS_ACCEPTED],
                 (long long)pairs_height(p), (long long)pairs_width(p), (unsigned long long)seed,
                 prompt);
    for (int64_t i = 0; i < pairs_rows(p); i++) {
        pairs_row r;
        MD_TRY(pairs_read_row(p, i, &r));
        MD_TRY(pairs_read_pixels(p, i, rgb, mask, guide));
        if (r.state == PAIRS_ACCEPTED)
            (void)printf("%lld %d %u\n", (long long)i, r.background_id,
                         adler(adler(adler(1, rgb, 3 * n), mask, n), guide, n));
    }
    free(prompt);
    pairs_close(p);
    return MD_OK;
}

int main(int argc, char **argv)
{
    md_status status = argc == 3 && !strcmp(argv[1], "lines") ? print_lines(argv[2])
                       : argc == 4                            ? check_run(argv[1], argv[2], argv[3])
                                                              : MD_USAGE;
    if (status == MD_OK)
        return 0;
    (void)fprintf(stderr, "check_export: %s\n", md_status_text());
    return 1;
}
