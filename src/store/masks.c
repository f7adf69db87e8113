/* masks.h5 as a table of columns (layout: masks.h and the README of this room). */
#include "store/masks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "store/table.h"

enum { MASKS, STATE, ATTEMPT, NEAREST_ID, NEAREST_IOU, SHAPE, REASON, CRC, FAULTS, N_COLUMNS };

static const store_column columns[N_COLUMNS] = {
    [MASKS] = {"masks", STORE_U8, 0, 2, {STORE_ANY, STORE_ANY}, true, 0},
    [STATE] = {"state", STORE_U8, 0, 0, {0}, false, MASKS_EMPTY},
    [ATTEMPT] = {"attempt", STORE_I32, 0, 0, {0}, false, 0},
    [NEAREST_ID] = {"nearest_id", STORE_I32, 0, 0, {0}, false, -1},
    [NEAREST_IOU] = {"nearest_iou", STORE_F32, 0, 0, {0}, false, NAN},
    [SHAPE] = {"shape", STORE_F32, 0, 1, {MASKS_SHAPES}, false, NAN},
    [REASON] = {"reason", STORE_TEXT, MASKS_REASON_BYTES, 0, {0}, false, 0},
    [CRC] = {"crc", STORE_U32, 0, 0, {0}, false, 0},
    [FAULTS] = {"faults", STORE_U8, 0, 1, {STORE_ANY}, false, 0}, /* last: older files lack it */
};

struct masks_store {
    store_table *t;
    int64_t size;
    bool faults; /* there is such a column */
};

/* ---- making ---- */

static store_attr count_attr(const char *name, int64_t v)
{
    return (store_attr){name, STORE_ATTR_I64, 1, NULL, {{v}}};
}

static md_status make(const char *path, const void *spec)
{
    const masks_spec *s = spec;
    store_attr seed = {"seed", STORE_ATTR_U64, 1, NULL, {.u = {s->seed}}};
    store_attr area = {
        "limit_area", STORE_ATTR_F64, 2, NULL, {.f = {s->limits.area[0], s->limits.area[1]}}};
    store_attr copy = {"limit_copy", STORE_ATTR_F64, 1, NULL, {.f = {s->limits.copy}}};
    const store_attr attr[] = {
        store_text_attr("config", s->config),
        store_text_attr("code_version", s->code_version),
        store_text_attr("licences", s->licences),
        store_text_attr("sha256_data", s->sha256_data),
        store_text_attr("sha256_mask_model", s->sha256_model),
        store_text_attr("fault_codes", s->fault_codes),
        store_text_attr("shape_columns", "area perimeter eccentricity solidity centre_y centre_x"),
        seed,
        area,
        copy,
        count_attr("limit_components", s->limits.components),
        count_attr("limit_holes", s->limits.holes),
        count_attr("limit_border", s->limits.border),
    };
    store_column c[N_COLUMNS];
    memcpy(c, columns, sizeof c);
    c[MASKS].dim[0] = c[MASKS].dim[1] = s->size;
    c[FAULTS].dim[0] = s->attempts;
    MD_TRY(store_make(path, "masks", c, N_COLUMNS, s->rows, attr, sizeof attr / sizeof *attr));
    return MD_OK;
}

md_status masks_create(const char *path, const masks_spec *spec)
{
    if (spec->rows < 1 || spec->size < 1 || spec->attempts < 1)
        MD_FAIL(MD_USAGE, "%s: a store of %lld masks of %lld pixels, %lld attempts each", path,
                (long long)spec->rows, (long long)spec->size, (long long)spec->attempts);
    return store_replace(path, make, spec);
}

/* ---- opening ---- */

static md_status open_mode(const char *path, store_mode mode, masks_store **out)
{
    store_table *t = NULL;
    MD_TRY(store_open(path, "masks", columns, FAULTS, mode, &t));
    bool faults = store_has_attr(t, "fault_codes");
    if (faults) {
        store_close(t);
        MD_TRY(store_open(path, "masks", columns, N_COLUMNS, mode, &t));
    }
    int64_t size = store_dim(t, MASKS, 0);
    masks_store *m = calloc(1, sizeof *m);
    if (!m || store_dim(t, MASKS, 1) != size) {
        store_close(t);
        free(m);
        MD_FAIL(m ? MD_BAD_INPUT : MD_NOMEM, "%s: %s", path,
                m ? "the masks are not square" : "out of memory");
    }
    *m = (masks_store){t, size, faults};
    *out = m;
    return MD_OK;
}

md_status masks_open_writer(const char *path, masks_store **out)
{
    return open_mode(path, STORE_WRITE, out);
}

md_status masks_open_reader(const char *path, masks_store **out)
{
    return open_mode(path, STORE_READ, out);
}

void masks_close(masks_store *m)
{
    if (!m)
        return;
    store_close(m->t);
    free(m);
}

int64_t masks_rows(const masks_store *m)
{
    return store_rows(m->t);
}

int64_t masks_size(const masks_store *m)
{
    return m->size;
}

/* ---- rows ---- */

md_status masks_write_pixels(masks_store *m, int64_t slot, const uint8_t *mask, uint32_t *crc)
{
    int64_t n = m->size * m->size;
    for (int64_t i = 0; i < n; i++)
        if (mask[i] > 1)
            MD_FAIL(MD_INTERNAL, "%s: slot %lld holds the value %d, wanted 0 or 1",
                    store_path(m->t), (long long)slot, mask[i]);
    MD_TRY(store_write(m->t, MASKS, slot, 1, mask));
    *crc = md_crc32c(0, mask, (size_t)n);
    return MD_OK;
}

md_status masks_read_pixels(masks_store *m, int64_t slot, uint8_t *mask)
{
    return store_read(m->t, MASKS, slot, 1, mask);
}

md_status masks_sync(masks_store *m)
{
    return store_sync(m->t);
}

md_status masks_write_row(masks_store *m, int64_t slot, const masks_row *row)
{
    uint8_t state = (uint8_t)row->state;
    MD_TRY(store_write(m->t, ATTEMPT, slot, 1, &row->attempt));
    MD_TRY(store_write(m->t, NEAREST_ID, slot, 1, &row->nearest_id));
    MD_TRY(store_write(m->t, NEAREST_IOU, slot, 1, &row->nearest_iou));
    MD_TRY(store_write(m->t, SHAPE, slot, 1, row->shape));
    MD_TRY(store_write(m->t, REASON, slot, 1, row->reason));
    MD_TRY(store_write(m->t, CRC, slot, 1, &row->crc));
    return store_write(m->t, STATE, slot, 1, &state); /* last: it vouches for the others */
}

md_status masks_read_row(masks_store *m, int64_t slot, masks_row *row)
{
    masks_row r = {0};
    uint8_t state = 0;
    MD_TRY(store_read(m->t, STATE, slot, 1, &state)); /* first */
    MD_TRY(store_read(m->t, ATTEMPT, slot, 1, &r.attempt));
    MD_TRY(store_read(m->t, NEAREST_ID, slot, 1, &r.nearest_id));
    MD_TRY(store_read(m->t, NEAREST_IOU, slot, 1, &r.nearest_iou));
    MD_TRY(store_read(m->t, SHAPE, slot, 1, r.shape));
    MD_TRY(store_read(m->t, REASON, slot, 1, r.reason));
    MD_TRY(store_read(m->t, CRC, slot, 1, &r.crc));
    r.reason[sizeof r.reason - 1] = 0;
    if (state >= MASKS_N_STATES)
        MD_FAIL(MD_BAD_INPUT, "%s: slot %lld has the unknown state %d", store_path(m->t),
                (long long)slot, state);
    r.state = (masks_state)state;
    *row = r;
    return MD_OK;
}

md_status masks_reset(masks_store *m, int64_t slot, int32_t attempt)
{
    uint8_t state = MASKS_EMPTY;
    MD_TRY(store_write(m->t, ATTEMPT, slot, 1, &attempt));
    return store_write(m->t, STATE, slot, 1, &state);
}

static md_status read_faults(masks_store *m, int64_t slot, uint8_t **codes)
{
    *codes = malloc((size_t)store_dim(m->t, FAULTS, 0));
    if (!*codes)
        MD_FAIL(MD_NOMEM, "%s: out of memory", store_path(m->t));
    md_status status = store_read(m->t, FAULTS, slot, 1, *codes);
    if (status != MD_OK)
        free(*codes);
    return status;
}

md_status masks_write_fault(masks_store *m, int64_t slot, int32_t attempt, int code,
                            const char *reason)
{
    uint8_t *codes;
    char text[MASKS_REASON_BYTES] = {0};
    if (reason) {
        (void)snprintf(text, sizeof text, "%s", reason);
        MD_TRY(store_write(m->t, REASON, slot, 1, text));
    }
    if (!m->faults || attempt < 0 || attempt >= store_dim(m->t, FAULTS, 0))
        return MD_OK;
    MD_TRY(read_faults(m, slot, &codes));
    codes[attempt] = (uint8_t)code;
    md_status status = store_write(m->t, FAULTS, slot, 1, codes);
    free(codes);
    return status;
}

md_status masks_count_faults(masks_store *m, int64_t *count, int n, bool *known)
{
    memset(count, 0, (size_t)n * sizeof *count);
    *known = m->faults;
    for (int64_t slot = 0; slot < masks_rows(m) && m->faults; slot++) {
        uint8_t *codes;
        MD_TRY(read_faults(m, slot, &codes));
        for (int64_t i = 0; i < store_dim(m->t, FAULTS, 0); i++)
            if (codes[i] > 0 && codes[i] < n)
                count[codes[i]]++;
        free(codes);
    }
    return MD_OK;
}

md_status masks_read_states(masks_store *m, uint8_t *state, int32_t *attempt)
{
    MD_TRY(store_read(m->t, ATTEMPT, 0, masks_rows(m), attempt));
    return store_read(m->t, STATE, 0, masks_rows(m), state);
}

md_status masks_settle(masks_store *m, const uint8_t *state, const int32_t *attempt)
{
    MD_TRY(store_write(m->t, STATE, 0, masks_rows(m), state));
    return store_write(m->t, ATTEMPT, 0, masks_rows(m), attempt);
}

static md_status is_whole(masks_store *m, int64_t slot, uint8_t *scratch, bool *whole)
{
    uint32_t crc = 0;
    MD_TRY(store_read(m->t, MASKS, slot, 1, scratch));
    MD_TRY(store_read(m->t, CRC, slot, 1, &crc));
    *whole = crc == md_crc32c(0, scratch, (size_t)(m->size * m->size));
    return MD_OK;
}

md_status masks_repair(masks_store *m, int64_t *torn)
{
    uint8_t *scratch = malloc((size_t)(m->size * m->size));
    md_status status = MD_OK;
    if (!scratch)
        MD_FAIL(MD_NOMEM, "%s: out of memory", store_path(m->t));
    *torn = 0;
    for (int64_t i = 0; i < masks_rows(m) && status == MD_OK; i++) {
        uint8_t state = 0, empty = MASKS_EMPTY;
        bool whole = true;
        status = store_read(m->t, STATE, i, 1, &state);
        if (status == MD_OK && (state == MASKS_WRITTEN || state == MASKS_ACCEPTED))
            status = is_whole(m, i, scratch, &whole);
        if (status != MD_OK || (whole && state < MASKS_N_STATES))
            continue;
        status = store_write(m->t, STATE, i, 1, &empty);
        ++*torn;
    }
    free(scratch);
    return status;
}

/* ---- attributes ---- */

md_status masks_text(masks_store *m, const char *attribute, char **out)
{
    return store_attr_text(m->t, attribute, out);
}

static md_status check_input(masks_store *m, const char *attribute, const char *what,
                             const char *hex)
{
    char *was = NULL;
    MD_TRY(masks_text(m, attribute, &was));
    md_status status = MD_OK;
    if (strcmp(was, hex) != 0)
        status = md_fail(MD_USAGE, __FILE__, __LINE__,
                         "%s was begun with another %s (SHA-256 %.12s..., now %.12s...); remove it "
                         "to sample again",
                         store_path(m->t), what, was, hex);
    free(was);
    return status;
}

md_status masks_check(masks_store *m, const config *now, const char *sections,
                      const char *sha256_data, const char *sha256_model)
{
    char *text = NULL;
    MD_TRY(masks_text(m, "config", &text));
    md_status status = config_same_as(now, text, store_path(m->t), sections);
    free(text);
    MD_TRY(status);
    MD_TRY(check_input(m, "sha256_data", "data.h5", sha256_data));
    return check_input(m, "sha256_mask_model", "models/masks", sha256_model);
}
