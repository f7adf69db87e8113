/* A compact copy of pairs.h5 for archives and for others: pairs_pack. */
#include "store/data.h"
#include "store/pairs_internal.h"

#include <stdlib.h>

enum { SLOT, DATA_ID, GROUP, NAME, SHA256, LICENCE, N_MORE, N_MORE_SHARED = 1 };

/* Columns that pairs.h5 itself has not, since it lies beside its backgrounds.h5. */
static const store_column more[N_MORE] = {
    [SLOT] = {"slot", STORE_I32, 0, 0, {0}, false, -1},
    [DATA_ID] = {"background_data_id", STORE_I32, 0, 0, {0}, false, -1},
    [GROUP] = {"background_group", STORE_I32, 0, 0, {0}, false, -1},
    [NAME] = {"background_name", STORE_TEXT, DATA_NAME_BYTES, 0, {0}, false, 0},
    [SHA256] = {"background_sha256", STORE_TEXT, DATA_SHA256_BYTES, 0, {0}, false, 0},
    [LICENCE] = {"background_licence", STORE_TEXT, DATA_LICENCE_BYTES, 0, {0}, false, 0},
};

static int n_more(const pairs_pack_job *j)
{
    return j->shared || !j->backgrounds ? N_MORE_SHARED : N_MORE;
}

static void strip_row(pairs_row *r)
{
    r->background_id = r->mask_id = r->nearest_id = -1;
    r->reason[0] = 0;
}

static md_status make(const pairs_pack_job *j, const char *path)
{
    pairs_spec_copy c = {0};
    md_status status = pairs__read_spec(j->from, &c);
    c.spec.rows = j->n;
    if (j->shared) {
        c.spec.config = c.spec.foundation = "";
        c.spec.n_inputs = 0;
    }
    if (status == MD_OK)
        status = pairs__make(path, &c.spec, more, n_more(j));
    pairs__free_spec(&c);
    return status;
}

static md_status copy_pairs(const pairs_pack_job *j, pairs_store *to, uint8_t *px)
{
    const int64_t area = pairs_height(j->from) * pairs_width(j->from);
    uint8_t *mask = px + 3 * area, *guide = px + 4 * area;
    for (int64_t i = 0; i < j->n; i++) {
        pairs_row r;
        MD_TRY(pairs_read_row(j->from, j->slot[i], &r));
        MD_TRY(pairs_read_pixels(j->from, j->slot[i], px, mask, guide));
        uint32_t crc = 0;
        MD_TRY(pairs_write_pixels(to, i, px, mask, guide, &crc));
        if (crc != r.crc)
            MD_FAIL(MD_BAD_INPUT,
                    "slot %lld: its pixels do not give the checksum that was stored with them",
                    (long long)j->slot[i]);
        if (j->shared)
            strip_row(&r);
        MD_TRY(pairs_write_row(to, i, &r));
        if (j->at)
            j->at(j->progress, i + 1);
    }
    return pairs__flush(to);
}

static md_status copy_origin(const pairs_pack_job *j, store_table *t, int64_t i)
{
    pairs_row r;
    data_row b;
    MD_TRY(pairs_read_row(j->from, j->slot[i], &r));
    if (r.background_id < 0 || r.background_id >= data_rows(j->backgrounds))
        return MD_OK;
    MD_TRY(data_read_row(j->backgrounds, r.background_id, &b));
    MD_TRY(store_write(t, DATA_ID, i, 1, &b.data_id));
    MD_TRY(store_write(t, GROUP, i, 1, &b.group));
    MD_TRY(store_write(t, NAME, i, 1, b.name));
    MD_TRY(store_write(t, SHA256, i, 1, b.sha256));
    MD_TRY(store_write(t, LICENCE, i, 1, b.licence));
    return MD_OK;
}

static md_status copy_more(const pairs_pack_job *j, const char *path)
{
    store_table *t = NULL;
    MD_TRY(store_open(path, "pairs", more, n_more(j), STORE_WRITE, &t));
    md_status status = MD_OK;
    for (int64_t i = 0; i < j->n && status == MD_OK; i++) {
        status = store_write(t, SLOT, i, 1, &(int32_t){(int32_t)j->slot[i]});
        if (status == MD_OK && n_more(j) == N_MORE)
            status = copy_origin(j, t, i);
    }
    if (status == MD_OK)
        status = store_sync(t);
    store_close(t);
    return status;
}

md_status pairs_pack(const pairs_pack_job *j, const char *path)
{
    pairs_store *to = NULL;
    MD_TRY(make(j, path));
    MD_TRY(pairs_open_writer(path, &to));
    uint8_t *px = malloc((size_t)(5 * pairs_height(to) * pairs_width(to)));
    md_status status = px ? copy_pairs(j, to, px)
                          : md_fail(MD_NOMEM, __FILE__, __LINE__, "%s: out of memory", path);
    pairs_close(to);
    free(px);
    MD_TRY(status);
    MD_TRY(copy_more(j, path));
    return MD_OK;
}
