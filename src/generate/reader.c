#include "generate/reader.h"
#include <stdlib.h>
#include <string.h>

md_status reader_open(reader *r, const pairs_job *j, assessor *a)
{
    int64_t h, w;
    *r = (reader){.j = j, .assess = a, .batch = (int)config_int(j->cfg, KEY_generate_batch)};
    double limits[PAIRS_BAND];
    MD_TRY(pairs_open_reader(j->store, &r->store));
    MD_TRY(pairs_band(r->store, limits));
    assessor_use_band(a, limits);
    MD_TRY(data_open(j->backgrounds, DATA_BACKGROUNDS, &r->backgrounds));
    h = pairs_height(r->store);
    w = pairs_width(r->store);
    r->rgb = calloc((size_t)r->batch, sizeof *r->rgb);
    r->guide = calloc((size_t)r->batch, sizeof *r->guide);
    r->mask = malloc((size_t)(h * w));
    if (!r->rgb || !r->guide || !r->mask)
        MD_FAIL(MD_NOMEM, "assess: out of memory");
    for (int i = 0; i < r->batch; i++) {
        MD_TRY(image_new(&r->rgb[i], h, w, 3));
        MD_TRY(image_new(&r->guide[i], h, w, 1));
    }
    return MD_OK;
}

void reader_close(reader *r)
{
    for (int i = 0; i < r->batch && r->rgb && r->guide; i++) {
        image_free(&r->rgb[i]);
        image_free(&r->guide[i]);
    }
    free(r->rgb);
    free(r->guide);
    free(r->mask);
    pairs_close(r->store);
    data_close(r->backgrounds);
}

static md_status read_pair(reader *r, int64_t slot, int i, assess_pair *pair, pairs_report *report)
{
    pairs_row row;
    data_row background;
    MD_TRY(pairs_read_row(r->store, slot, &row));
    MD_TRY(pairs_read_pixels(r->store, slot, r->rgb[i].px, r->mask, r->guide[i].px));
    MD_TRY(data_read_row(r->backgrounds, row.background_id, &background));
    *pair = (assess_pair){.rgb = r->rgb[i],
                          .guide = r->guide[i],
                          .group = background.group,
                          .alignment = row.alignment};
    *report =
        (pairs_report){.crc = row.crc, .background_id = row.background_id, .mask_id = row.mask_id};
    return MD_OK;
}

md_status reader_read(reader *r, const cluster_batch *b, assess_pair *pairs, pairs_report *reports)
{
    int n = cluster_batch_size(b);
    if (n > r->batch)
        MD_FAIL(MD_INTERNAL, "assess: a lease of %d slots", n);
    for (int i = 0; i < n; i++)
        MD_TRY(read_pair(r, cluster_batch_item(b, i).id, i, &pairs[i], &reports[i]));
    return MD_OK;
}
