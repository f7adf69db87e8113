/* verify: data.h5 and backgrounds.h5, which are written once. */
#include "verify.h"

#include <stdlib.h>
#include <string.h>

static bool is_sha256(const char *hex)
{
    return strlen(hex) == DATA_SHA256_BYTES && strspn(hex, "0123456789abcdef") == DATA_SHA256_BYTES;
}

config *verify_own_config(verify *v, const char *path, const char *text)
{
    config *cfg = NULL;
    if (config_parse(text, strlen(text), path, &cfg) == MD_OK)
        return cfg;
    verify_failed(v);
    return NULL;
}

static config *check_data_head(verify *v, const char *path, data_store *d)
{
    static const char *const names[] = {"code_version", "format", "licences", "config"};
    char *text = NULL;
    uint64_t seed = 0;
    config *cfg = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        free(text);
        text = NULL;
        if (data_text(d, names[i], &text) != MD_OK)
            verify_failed(v);
    }
    if (text) /* config is the last */
        cfg = verify_own_config(v, path, text);
    free(text);
    if (data_seed(d, &seed) != MD_OK)
        verify_failed(v);
    else if (cfg && seed != (uint64_t)config_int(cfg, KEY_seed))
        verify_problem(v, "%s: its seed is %llu, that of its configuration %lld", path,
                       (unsigned long long)seed, (long long)config_int(cfg, KEY_seed));
    if (cfg && data_size(d) != config_int(cfg, KEY_data_size))
        verify_problem(v, "%s: pictures of %lld pixels, its configuration says %lld", path,
                       (long long)data_size(d), (long long)config_int(cfg, KEY_data_size));
    if (data_rows(d) < 1)
        verify_problem(v, "%s: holds no row", path);
    return cfg;
}

/* What is wrong with a mask [size,size], or NULL. */
static const char *mask_fault(const uint8_t *mask, int64_t size, const data_row *r)
{
    bool any = false;
    for (int64_t y = 0; y < size; y++)
        for (int64_t x = 0; x < size; x++) {
            uint8_t m = mask[y * size + x];
            if (m > 1)
                return "its mask holds another value than 0 and 1";
            if (m && (y < r->valid[0] || y >= r->valid[2] || x < r->valid[1] || x >= r->valid[3]))
                return "its mask marks the border around the picture";
            any = any || m;
        }
    if (any != (r->kind == DATA_LESION))
        return any ? "a lesion-free picture has a mask" : "the mask of a lesion picture is empty";
    return NULL;
}

/* What is wrong between a row of backgrounds.h5 and the row of data.h5 it comes from, or NULL. */
static const char *origin_fault(verify *v, const data_row *r)
{
    data_row from;
    if (!v->data)
        return NULL;
    if (r->data_id < 0 || r->data_id >= data_rows(v->data))
        return "data_id is no row of data.h5";
    if (data_read_row(v->data, r->data_id, &from) != MD_OK)
        return NULL; /* said where data.h5 is looked at */
    if (from.split != DATA_TRAIN)
        return "it comes from a picture that is not of the train split";
    if (strcmp(from.sha256, r->sha256) != 0 || from.group != r->group)
        return "group and SHA-256 are not those of the row of data.h5 it comes from";
    if ((from.kind == DATA_LESION) != (r->kind != DATA_HEALTHY))
        return "its kind does not fit the row of data.h5 it comes from";
    return NULL;
}

static const char *row_fault(verify *v, data_schema schema, const data_row *r)
{
    bool images = schema == DATA_IMAGES;
    if (!is_sha256(r->sha256))
        return "sha256 is no SHA-256";
    if (!r->name[0])
        return "it has no name";
    if (r->group < 0)
        return "it belongs to no group";
    if (images ? r->kind != DATA_LESION && r->kind != DATA_HEALTHY : r->kind == DATA_LESION)
        return "a picture of this kind does not belong here";
    if (!images && r->split != DATA_TRAIN)
        return "it is not of the train split";
    if (r->used && r->split != DATA_TRAIN)
        return "it is used, but not of the train split";
    return images ? NULL : origin_fault(v, r);
}

static md_status check_row(verify *v, data_store *d, data_schema schema, int64_t i, data_row *r,
                           uint8_t *mask, const char **fault)
{
    bool whole = false;
    MD_TRY(data_read_row(d, i, r));
    MD_TRY(data_verify_row(d, i, &whole));
    *fault = whole ? row_fault(v, schema, r) : "its pixels do not give the checksum";
    if (*fault || schema != DATA_IMAGES)
        return MD_OK;
    MD_TRY(data_read_pixels(d, i, NULL, mask));
    *fault = mask_fault(mask, data_size(d), r);
    return MD_OK;
}

/* What holds for all rows of data.h5 together. split: of each group, 255: none yet. */
typedef struct tally {
    uint8_t *split;
    int64_t train, used; /* lesion pictures */
    bool complete;       /* every row could be read */
} tally;

static void count_row(verify *v, const char *path, const config *cfg, int64_t i, int64_t rows,
                      const data_row *r, tally *t)
{
    bool lesion = r->kind == DATA_LESION;
    t->train += lesion && r->split == DATA_TRAIN;
    t->used += lesion && r->used;
    if (r->group < 0 || r->group >= rows || config_choice(cfg, KEY_data_near_duplicates) == 1)
        return; /* said before; allowed */
    if (t->split[r->group] == UINT8_MAX)
        t->split[r->group] = (uint8_t)r->split;
    else if (t->split[r->group] != (uint8_t)r->split)
        verify_problem(v, "%s: row %lld: group %d is in two splits, %s and %s", path, (long long)i,
                       (int)r->group, data_split_name((data_split)t->split[r->group]),
                       data_split_name(r->split));
}

static void check_tally(verify *v, const char *path, const config *cfg, const tally *t)
{
    int64_t most = config_int(cfg, KEY_data_pairs);
    int64_t want = most == 0 || most > t->train ? t->train : most;
    if (t->used != want)
        verify_problem(v, "%s: %lld training pairs are used, data.pairs means %lld", path,
                       (long long)t->used, (long long)want);
}

static md_status check_rows(verify *v, const char *path, data_store *d, data_schema schema,
                            const config *cfg)
{
    size_t n = (size_t)(data_size(d) * data_size(d)), rows = (size_t)data_rows(d);
    uint8_t *mask = malloc(n);
    tally t = {.split = malloc(rows), .complete = true};
    if (!mask || !t.split) {
        free(mask);
        free(t.split);
        MD_FAIL(MD_NOMEM, "%s: out of memory", path);
    }
    memset(t.split, UINT8_MAX, rows);
    for (int64_t i = 0; i < (int64_t)rows; i++) {
        data_row r;
        const char *fault = NULL;
        v->rows++;
        if (check_row(v, d, schema, i, &r, mask, &fault) != MD_OK) {
            verify_failed(v);
            t.complete = false;
            continue;
        }
        if (fault)
            verify_problem(v, "%s: row %lld: %s", path, (long long)i, fault);
        if (cfg && schema == DATA_IMAGES)
            count_row(v, path, cfg, i, (int64_t)rows, &r, &t);
    }
    if (cfg && schema == DATA_IMAGES && t.complete)
        check_tally(v, path, cfg, &t);
    free(mask);
    free(t.split);
    return MD_OK;
}

static md_status check_data_store(verify *v, const char *path, data_schema schema, data_store **d)
{
    MD_TRY(data_open(path, schema, d));
    config *cfg = check_data_head(v, path, *d);
    md_status status = check_rows(v, path, *d, schema, cfg);
    config_free(cfg);
    return status;
}

md_status verify_data(verify *v, const char *path)
{
    return check_data_store(v, path, DATA_IMAGES, &v->data);
}

md_status verify_backgrounds(verify *v, const char *path)
{
    return check_data_store(v, path, DATA_BACKGROUNDS, &v->backgrounds);
}
