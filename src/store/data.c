/* data.h5 and backgrounds.h5 as subsets of one column table. */
#include "store/data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "store/table.h"

enum {
    IMAGES,
    MASKS,
    ALLOWED,
    KIND,
    SPLIT,
    USED,
    GROUP,
    DATA_ID,
    SIZE,
    VALID,
    SOURCE,
    NAME,
    SHA256,
    LICENCE,
    CRC,
    N_COLUMNS
};

#define BOTH 3u /* bits by data_schema */

static const struct {
    store_column c;
    unsigned schemas;
} table[N_COLUMNS] = {
    [IMAGES] = {{"images", STORE_U8, 0, 3, {STORE_ANY, STORE_ANY, 3}, true, 0}, BOTH},
    [MASKS] = {{"masks", STORE_U8, 0, 2, {STORE_ANY, STORE_ANY}, true, 0}, 1u << DATA_IMAGES},
    [ALLOWED] = {{"allowed", STORE_U8, 0, 2, {STORE_ANY, STORE_ANY}, true, 0},
                 1u << DATA_BACKGROUNDS},
    [KIND] = {{"kind", STORE_U8, 0, 0, {0}, false, 0}, BOTH},
    [SPLIT] = {{"split", STORE_U8, 0, 0, {0}, false, 0}, BOTH},
    [USED] = {{"used", STORE_U8, 0, 0, {0}, false, 0}, 1u << DATA_IMAGES},
    [GROUP] = {{"group", STORE_I32, 0, 0, {0}, false, -1}, BOTH},
    [DATA_ID] = {{"data_id", STORE_I32, 0, 0, {0}, false, -1}, 1u << DATA_BACKGROUNDS},
    [SIZE] = {{"size", STORE_I32, 0, 1, {2}, false, 0}, BOTH},
    [VALID] = {{"valid", STORE_I32, 0, 1, {4}, false, 0}, BOTH},
    [SOURCE] = {{"source", STORE_F32, 0, 1, {4}, false, 0}, BOTH},
    [NAME] = {{"name", STORE_TEXT, DATA_NAME_BYTES, 0, {0}, false, 0}, BOTH},
    [SHA256] = {{"sha256", STORE_TEXT, DATA_SHA256_BYTES, 0, {0}, false, 0}, BOTH},
    [LICENCE] = {{"licence", STORE_TEXT, DATA_LICENCE_BYTES, 0, {0}, false, 0}, BOTH},
    [CRC] = {{"crc", STORE_U32, 0, 0, {0}, false, 0}, BOTH},
};

static const char *const schema_names[DATA_N_SCHEMAS] = {"data", "backgrounds"};

struct data_store {
    store_table *t;
    int64_t size;
    int at[N_COLUMNS]; /* column in the file, -1 when its schema has none */
    int map;           /* the column of 0 and 1 beside the image: MASKS or ALLOWED */
    char *path, *temp; /* set while it is being made */
    bool keep;         /* an unfinished file stays under its temporary name */
};

/* The columns of a schema; at[] says where each of the table went. */
static int pick_columns(data_schema schema, store_column *out, int at[N_COLUMNS])
{
    int n = 0;
    for (int i = 0; i < N_COLUMNS; i++) {
        at[i] = table[i].schemas & 1u << schema ? n : -1;
        if (at[i] >= 0)
            out[n++] = table[i].c;
    }
    return n;
}

static md_status open_as(const char *path, data_schema schema, store_mode mode, data_store **out)
{
    data_store *d = calloc(1, sizeof *d);
    if (!d)
        MD_FAIL(MD_NOMEM, "%s: out of memory", path);
    store_column c[N_COLUMNS];
    int n = pick_columns(schema, c, d->at);
    d->map = d->at[MASKS] >= 0 ? MASKS : ALLOWED;
    md_status status = store_open(path, schema_names[schema], c, n, mode, &d->t);
    if (status == MD_OK) {
        d->size = store_dim(d->t, d->at[IMAGES], 0);
        bool square = store_dim(d->t, d->at[IMAGES], 1) == d->size &&
                      store_dim(d->t, d->at[d->map], 0) == d->size &&
                      store_dim(d->t, d->at[d->map], 1) == d->size;
        if (!square)
            status = md_fail(MD_BAD_INPUT, __FILE__, __LINE__,
                             "%s: images and masks are not squares of one size", path);
    }
    if (status != MD_OK) {
        data_close(d);
        return md_frame(status, __FILE__, __LINE__);
    }
    *out = d;
    return MD_OK;
}

md_status data_open(const char *path, data_schema schema, data_store **out)
{
    MD_TRY(open_as(path, schema, STORE_READ, out));
    return MD_OK;
}

/* more: further columns of a packed file, or NULL. */
static md_status make(const char *temp, data_schema schema, int64_t rows, int64_t size,
                      const data_info *info, const store_column *more)
{
    int at[N_COLUMNS];
    store_column c[N_COLUMNS + 1];
    int n = pick_columns(schema, c, at);
    for (int i = IMAGES; i <= ALLOWED; i++)
        if (at[i] >= 0)
            c[at[i]].dim[0] = c[at[i]].dim[1] = size;
    store_attr attr[] = {
        store_text_attr("config", info->config),
        store_text_attr("code_version", info->code_version),
        store_text_attr("format", info->format),
        store_text_attr("licences", info->licences),
        store_text_attr("made_from", info->made_from),
        {"seed", STORE_ATTR_U64, 1, NULL, {.u = {info->seed}}},
    };
    const int n_attr = sizeof attr / sizeof *attr;
    if (!more)
        return store_make(temp, schema_names[schema], c, n, rows, attr, n_attr);
    c[n] = *more;
    return store_make_packed(temp, schema_names[schema], c, n + 1, rows, attr, n_attr);
}

/* The file under its temporary name, open for writing. */
static md_status open_temp(const char *path, const char *temp, data_schema schema, data_store **out)
{
    data_store *d = NULL;
    MD_TRY(open_as(temp, schema, STORE_WRITE, &d));
    d->path = strdup(path);
    d->temp = strdup(temp);
    if (!d->path || !d->temp) {
        data_close(d);
        MD_FAIL(MD_NOMEM, "%s: out of memory", path);
    }
    *out = d;
    return MD_OK;
}

md_status data_create(const char *path, data_schema schema, int64_t rows, int64_t size,
                      const data_info *info, data_store **out)
{
    char temp[4096];
    MD_TRY(store_temp_name(path, temp, sizeof temp));
    MD_TRY(make(temp, schema, rows, size, info, NULL));
    md_status status = open_temp(path, temp, schema, out);
    if (status != MD_OK)
        (void)remove(temp);
    return status == MD_OK ? MD_OK : md_frame(status, __FILE__, __LINE__);
}

void data_keep(data_store *d)
{
    d->keep = true;
}

md_status data_resume(const char *path, data_schema schema, data_store **out)
{
    char temp[4096];
    MD_TRY(store_temp_name(path, temp, sizeof temp));
    if (!md_file_exists(temp)) {
        *out = NULL;
        return MD_OK;
    }
    MD_TRY(open_temp(path, temp, schema, out));
    data_keep(*out);
    return MD_OK;
}

md_status data_sync(data_store *d)
{
    MD_TRY(store_sync(d->t));
    return MD_OK;
}

md_status data_finish(data_store *d)
{
    store_close(d->t);
    d->t = NULL;
    md_status status = md_file_publish(d->temp, d->path);
    if (status == MD_OK) {
        free(d->temp);
        d->temp = NULL;
    }
    data_close(d);
    return status == MD_OK ? MD_OK : md_frame(status, __FILE__, __LINE__);
}

void data_close(data_store *d)
{
    if (!d)
        return;
    store_close(d->t);
    if (d->temp && !d->keep)
        (void)remove(d->temp); /* never finished */
    free(d->temp);
    free(d->path);
    free(d);
}

int64_t data_rows(const data_store *d)
{
    return store_rows(d->t);
}

int64_t data_size(const data_store *d)
{
    return d->size;
}

/* ---- rows ---- */

/* CRC32C of image and map bytes, in this order. */
static uint32_t pixels_crc(const data_store *d, const uint8_t *image, const uint8_t *map)
{
    size_t n = (size_t)(d->size * d->size);
    return md_crc32c(md_crc32c(0, image, 3 * n), map, n);
}

md_status data_put_pixels(data_store *d, int64_t row, const uint8_t *image, const uint8_t *map,
                          uint32_t *crc)
{
    *crc = pixels_crc(d, image, map);
    MD_TRY(store_write(d->t, d->at[IMAGES], row, 1, image));
    MD_TRY(store_write(d->t, d->at[d->map], row, 1, map));
    return MD_OK;
}

md_status data_put_crc(data_store *d, int64_t row, uint32_t crc)
{
    MD_TRY(store_write(d->t, d->at[CRC], row, 1, &crc));
    return MD_OK;
}

md_status data_write_pixels(data_store *d, int64_t row, const uint8_t *image, const uint8_t *map)
{
    uint32_t crc;
    MD_TRY(data_put_pixels(d, row, image, map, &crc));
    return data_put_crc(d, row, crc);
}

static md_status put(data_store *d, int column, int64_t row, const void *value)
{
    if (d->at[column] >= 0)
        MD_TRY(store_write(d->t, d->at[column], row, 1, value));
    return MD_OK;
}

md_status data_write_row(data_store *d, int64_t row, const data_row *r)
{
    uint8_t kind = (uint8_t)r->kind, split = (uint8_t)r->split, used = r->used;
    MD_TRY(put(d, SPLIT, row, &split));
    MD_TRY(put(d, USED, row, &used));
    MD_TRY(put(d, GROUP, row, &r->group));
    MD_TRY(put(d, DATA_ID, row, &r->data_id));
    MD_TRY(put(d, SIZE, row, r->size));
    MD_TRY(put(d, VALID, row, r->valid));
    MD_TRY(put(d, SOURCE, row, r->source));
    MD_TRY(put(d, NAME, row, r->name));
    MD_TRY(put(d, SHA256, row, r->sha256));
    MD_TRY(put(d, LICENCE, row, r->licence));
    MD_TRY(put(d, KIND, row, &kind)); /* last: the rest is there then */
    return MD_OK;
}

static md_status get(data_store *d, int column, int64_t row, void *value)
{
    if (d->at[column] >= 0)
        MD_TRY(store_read(d->t, d->at[column], row, 1, value));
    return MD_OK;
}

md_status data_read_row(data_store *d, int64_t row, data_row *out)
{
    data_row r = {0};
    uint8_t kind = 0, split = 0, used = 1;
    r.data_id = (int32_t)row;
    MD_TRY(get(d, KIND, row, &kind));
    MD_TRY(get(d, SPLIT, row, &split));
    MD_TRY(get(d, USED, row, &used));
    MD_TRY(get(d, GROUP, row, &r.group));
    MD_TRY(get(d, DATA_ID, row, &r.data_id));
    MD_TRY(get(d, SIZE, row, r.size));
    MD_TRY(get(d, VALID, row, r.valid));
    MD_TRY(get(d, SOURCE, row, r.source));
    MD_TRY(get(d, NAME, row, r.name));
    MD_TRY(get(d, SHA256, row, r.sha256));
    MD_TRY(get(d, LICENCE, row, r.licence));
    r.name[sizeof r.name - 1] = r.licence[sizeof r.licence - 1] = 0;
    if (kind > DATA_REPAIRED || split >= DATA_N_SPLITS)
        MD_FAIL(MD_BAD_INPUT, "%s: row %lld has the unknown kind %d or split %d", store_path(d->t),
                (long long)row, kind, split);
    for (int i = 0; i < 2; i++)
        if (r.valid[i] < 0 || r.valid[i + 2] <= r.valid[i] || r.valid[i + 2] > d->size)
            MD_FAIL(MD_BAD_INPUT, "%s: row %lld: its valid rectangle leaves the picture",
                    store_path(d->t), (long long)row);
    r.kind = (data_kind)kind;
    r.split = (data_split)split;
    r.used = used != 0;
    *out = r;
    return MD_OK;
}

md_status data_read_pixels(data_store *d, int64_t row, uint8_t *image, uint8_t *map)
{
    if (image)
        MD_TRY(get(d, IMAGES, row, image));
    if (map)
        MD_TRY(get(d, d->map, row, map));
    return MD_OK;
}

md_status data_verify_row(data_store *d, int64_t row, bool *whole)
{
    size_t n = (size_t)(d->size * d->size);
    uint32_t crc = 0;
    uint8_t *px = malloc(4 * n);
    if (!px)
        MD_FAIL(MD_NOMEM, "%s: out of memory", store_path(d->t));
    md_status status = data_read_pixels(d, row, px, px + 3 * n);
    if (status == MD_OK)
        status = get(d, CRC, row, &crc);
    *whole = status == MD_OK && crc == pixels_crc(d, px, px + 3 * n);
    free(px);
    MD_TRY(status);
    return MD_OK;
}

md_status data_is_drawn(data_store *d, bool *drawn)
{
    bool all = true;
    for (int64_t i = 0; i < data_rows(d) && all; i++) {
        char licence[DATA_LICENCE_BYTES] = "";
        MD_TRY(get(d, LICENCE, i, licence));
        all = strncmp(licence, DATA_DRAWN_LICENCE, sizeof licence) == 0;
    }
    *drawn = all;
    return MD_OK;
}

md_status data_text(data_store *d, const char *attribute, char **out)
{
    MD_TRY(store_attr_text(d->t, attribute, out));
    return MD_OK;
}

/* ---- a compact copy ---- */

static const store_column data_id = {"data_id", STORE_I32, 0, 0, {0}, false, -1};

static md_status make_pack(data_store *d, int64_t rows, const char *path)
{
    static const char *const names[] = {"config", "code_version", "format", "licences",
                                        "made_from"};
    char *text[sizeof names / sizeof *names] = {NULL};
    data_info info = {0};
    md_status status = data_seed(d, &info.seed);
    for (size_t i = 0; i < sizeof names / sizeof *names && status == MD_OK; i++)
        status = data_text(d, names[i], &text[i]);
    info.config = text[0];
    info.code_version = text[1];
    info.format = text[2];
    info.licences = text[3];
    info.made_from = text[4];
    if (status == MD_OK)
        status = make(path, DATA_IMAGES, rows, d->size, &info, &data_id);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        free(text[i]);
    return status;
}

static md_status copy_row(data_store *from, int64_t row, data_store *to, int64_t at, uint8_t *px)
{
    data_row r;
    uint8_t *map = px + 3 * from->size * from->size;
    MD_TRY(data_read_row(from, row, &r));
    MD_TRY(data_read_pixels(from, row, px, map));
    MD_TRY(data_write_pixels(to, at, px, map));
    return data_write_row(to, at, &r);
}

static md_status write_ids(const char *path, const int64_t *ids, int64_t n)
{
    store_table *t = NULL;
    MD_TRY(store_open(path, schema_names[DATA_IMAGES], &data_id, 1, STORE_WRITE, &t));
    md_status status = MD_OK;
    for (int64_t i = 0; i < n && status == MD_OK; i++)
        status = store_write(t, 0, i, 1, &(int32_t){(int32_t)ids[i]});
    if (status == MD_OK)
        status = store_sync(t);
    store_close(t);
    return status;
}

md_status data_pack(data_store *d, const int64_t *ids, int64_t n, const char *path)
{
    data_store *to = NULL;
    MD_TRY(make_pack(d, n, path));
    MD_TRY(open_as(path, DATA_IMAGES, STORE_WRITE, &to));
    uint8_t *px = malloc((size_t)(4 * d->size * d->size));
    md_status status =
        px ? MD_OK : md_fail(MD_NOMEM, __FILE__, __LINE__, "%s: out of memory", path);
    for (int64_t i = 0; i < n && status == MD_OK; i++)
        status = copy_row(d, ids[i], to, i, px);
    if (status == MD_OK)
        status = store_flush(to->t);
    data_close(to);
    free(px);
    MD_TRY(status);
    return write_ids(path, ids, n);
}

md_status data_seed(data_store *d, uint64_t *seed)
{
    MD_TRY(store_attr_u64(d->t, "seed", 1, seed));
    return MD_OK;
}

md_status data_select(data_store *d, int kind, data_split split, bool used_only, int64_t **ids,
                      int64_t *n)
{
    int64_t rows = data_rows(d), found = 0;
    int64_t *list = malloc(((size_t)rows + 1) * sizeof *list);
    uint8_t *k = malloc((size_t)rows), *s = malloc((size_t)rows), *u = malloc((size_t)rows);
    md_status status = MD_OK;
    if (!list || !k || !s || !u) {
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "%s: out of memory", store_path(d->t));
        goto done;
    }
    memset(u, 1, (size_t)rows);
    MD_TRY_GOTO(store_read(d->t, d->at[KIND], 0, rows, k), done);
    MD_TRY_GOTO(store_read(d->t, d->at[SPLIT], 0, rows, s), done);
    if (used_only && d->at[USED] >= 0)
        MD_TRY_GOTO(store_read(d->t, d->at[USED], 0, rows, u), done);
    for (int64_t i = 0; i < rows; i++)
        if ((kind < 0 || k[i] == kind) && s[i] == (uint8_t)split && u[i])
            list[found++] = i;
    *ids = list;
    *n = found;
    list = NULL;
done:
    free(list);
    free(k);
    free(s);
    free(u);
    return status;
}

const char *data_split_name(data_split s)
{
    static const char *const names[] = {"train", "val", "test"};
    return (unsigned)s < DATA_N_SPLITS ? names[s] : "?";
}
