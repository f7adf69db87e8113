/* verify: masks.h5. As with pairs.h5, a slot that does not fit is read once more beside a live run.
 */
#include "base/crc32c.h"
#include "store/masks.h"
#include "verify.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void check_head(verify *v, const char *path, masks_store *m)
{
    static const char *const names[] = {"code_version", "licences", "sha256_data", "config"};
    char *text = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        free(text);
        text = NULL;
        if (masks_text(m, names[i], &text) != MD_OK)
            verify_failed(v);
    }
    if (text) /* config is the last */
        config_free(verify_own_config(v, path, text));
    free(text);
    if (v->data && masks_size(m) != data_size(v->data))
        verify_problem(v, "%s: masks of %lld pixels, pictures of %lld", path,
                       (long long)masks_size(m), (long long)data_size(v->data));
}

static const char *mask_fault(const uint8_t *mask, int64_t n)
{
    bool any = false;
    for (int64_t i = 0; i < n; i++) {
        if (mask[i] > 1)
            return "it holds another value than 0 and 1";
        any = any || mask[i];
    }
    return any ? NULL : "it is empty";
}

static md_status check_slot(verify *v, masks_store *m, int64_t slot, uint8_t *mask, masks_row *r,
                            const char **fault)
{
    int64_t n = masks_size(m) * masks_size(m);
    *fault = NULL;
    MD_TRY(masks_read_row(m, slot, r));
    if (r->attempt < 0)
        *fault = "a negative attempt";
    else if ((r->state == MASKS_REJECTED || r->state == MASKS_FAILED) && !r->reason[0])
        *fault = "rejected or failed without a reason";
    else if (r->nearest_id < -1 || (v->data && r->nearest_id >= data_rows(v->data)))
        *fault = "nearest_id is no row of data.h5";
    if (*fault || (r->state != MASKS_WRITTEN && r->state != MASKS_ACCEPTED))
        return MD_OK;
    MD_TRY(masks_read_pixels(m, slot, mask));
    *fault = md_crc32c(0, mask, (size_t)n) == r->crc ? mask_fault(mask, n)
                                                     : "its pixels do not give the checksum";
    return MD_OK;
}

md_status verify_masks(verify *v, const char *path)
{
    masks_store *m = NULL;
    MD_TRY(masks_open_reader(path, &m));
    uint8_t *mask = malloc((size_t)(masks_size(m) * masks_size(m)));
    if (!mask) {
        masks_close(m);
        MD_FAIL(MD_NOMEM, "%s: out of memory", path);
    }
    check_head(v, path, m);
    for (int64_t slot = 0; slot < masks_rows(m); slot++) {
        masks_row r;
        const char *fault;
        v->rows++;
        md_status status = check_slot(v, m, slot, mask, &r, &fault);
        if ((status != MD_OK || fault) && v->live)
            status = check_slot(v, m, slot, mask, &r, &fault);
        if (status != MD_OK)
            verify_failed(v);
        else if (fault)
            verify_problem(v, "%s: mask %lld: %s", path, (long long)slot, fault);
    }
    free(mask);
    masks_close(m);
    return MD_OK;
}
