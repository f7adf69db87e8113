/* Compressed copies of the stores, which read as these do: pairs.h5 with the accepted pairs, and
   data.h5 with the data set's own that are exported. */
#include <stdlib.h>

#include "base/file.h"
#include "store/export_internal.h"

static void tell(void *bar, int64_t done)
{
    md_progress_at(bar, done);
}

static md_status copy(export_set *s, const char *folder, const int64_t *row)
{
    char path[EXPORT_PATH];
    const int64_t n = s->report->count[EXPORT_PAIR][DATA_TRAIN]; /* first of the items */
    pairs_pack_job j = {.from = s->pairs,
                        .slot = row,
                        .n = n,
                        .backgrounds = s->backgrounds,
                        .shared = s->shared,
                        .at = tell,
                        .progress = &s->bar};
    MD_TRY(md_path_join(path, sizeof path, folder, "pairs.h5"));
    md_status status = pairs_pack(&j, path);
    if (status != MD_OK)
        return md_context(status, "copying %s/pairs.h5", s->run);
    if (n == s->n)
        return MD_OK;
    for (int64_t i = n; i < s->n; i++)
        MD_TRY(export__load(s, i)); /* for its checksum */
    MD_TRY(md_path_join(path, sizeof path, folder, "data.h5"));
    return data_pack(s->data, row + n, s->n - n, path);
}

md_status export__hdf5(export_set *s, const char *folder)
{
    int64_t *row = malloc((size_t)s->n * sizeof *row);
    if (!row)
        MD_FAIL(MD_NOMEM, "%s: no memory to list what is exported", s->run);
    for (int64_t i = 0; i < s->n; i++)
        row[i] = s->item[i].row;
    md_status status = copy(s, folder, row);
    free(row);
    return status;
}
