/* verify: pairs.h5. A job may write while it is read, so a slot that does not fit is read once more
   before it counts as wrong. */
#include "base/str.h"
#include "verify.h"

#include <math.h>
#include <stdlib.h>

static void check_band(verify *v, const char *path, const double band[PAIRS_BAND])
{
    static const char *const parts[] = {"whole image", "lesion's box"};
    for (int i = 0; i < PAIRS_BAND; i += 2)
        if (isnan(band[i]) != isnan(band[i + 1]) || band[i] > band[i + 1])
            verify_problem(v, "%s: the band of the %s, %g to %g, is none", path, parts[i / 2],
                           band[i], band[i + 1]);
}

static config *check_pairs_head(verify *v, const char *path, pairs_store *p)
{
    static const char *const names[] = {"prompt", "foundation", "code_version", "licences",
                                        "config"};
    char *text = NULL;
    config *cfg = NULL;
    uint64_t seed = 0;
    double band[PAIRS_BAND];
    bool real;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        free(text);
        text = NULL;
        if (pairs_text(p, names[i], &text) != MD_OK)
            verify_failed(v);
    }
    if (text) /* config is the last */
        cfg = verify_own_config(v, path, text);
    free(text);
    if (pairs_band(p, band) != MD_OK)
        verify_failed(v);
    else
        check_band(v, path, band);
    if (pairs_contains_real_pixels(p, &real) != MD_OK)
        verify_failed(v);
    if (pairs_seed(p, &seed) != MD_OK)
        verify_failed(v);
    else if (cfg && seed != (uint64_t)config_int(cfg, KEY_seed))
        verify_problem(v, "%s: its seed is %llu, that of its configuration %lld", path,
                       (unsigned long long)seed, (long long)config_int(cfg, KEY_seed));
    if (cfg && pairs_rows(p) != config_int(cfg, KEY_generate_pairs))
        verify_problem(v, "%s: %lld slots, generate.pairs of its configuration is %lld", path,
                       (long long)pairs_rows(p), (long long)config_int(cfg, KEY_generate_pairs));
    int64_t size = v->data ? data_size(v->data)
                   : cfg   ? config_int(cfg, KEY_data_size)
                           : pairs_width(p);
    if (pairs_height(p) != size || pairs_width(p) != size)
        verify_problem(v, "%s: pairs of %lldx%lld pixels from pictures of %lldx%lld", path,
                       (long long)pairs_width(p), (long long)pairs_height(p), (long long)size,
                       (long long)size);
    return cfg;
}

static bool in_range(float x, float low, float high)
{
    return isnan(x) || (x >= low && x <= high);
}

/* guides: rows of the store that the guides come from; -1: not known. */
static const char *columns_fault(const verify *v, int64_t guides, const pairs_row *r)
{
    static const float UNIT = 1.0001F; /* rounding of a cosine */
    if (r->attempt < 0)
        return "a negative attempt";
    if (r->state == PAIRS_EMPTY)
        return NULL; /* what an earlier attempt left */
    if ((r->state == PAIRS_REJECTED || r->state == PAIRS_FAILED) && !r->reason[0])
        return "rejected or failed without a reason";
    if (r->state == PAIRS_FAILED)
        return NULL;
    if (r->background_id < 0 || (v->backgrounds && r->background_id >= data_rows(v->backgrounds)))
        return "background_id is no row of backgrounds.h5";
    if (r->mask_id < 0 || (guides >= 0 && r->mask_id >= guides))
        return "mask_id is no row of the store that the guides come from";
    if (r->nearest_id < -1 || (v->data && r->nearest_id >= data_rows(v->data)))
        return "nearest_id is no row of data.h5";
    if (!in_range(r->similarity, -UNIT, UNIT) || !in_range(r->similarity_lesion, -UNIT, UNIT) ||
        !in_range(r->alignment, 0, UNIT))
        return "a similarity or alignment out of range";
    return NULL;
}

/* Mask and guide [n]. */
static const char *pair_fault(const uint8_t *mask, const uint8_t *guide, int64_t n)
{
    bool any = false;
    for (int64_t i = 0; i < n; i++) {
        if (mask[i] > 1 || guide[i] > 1)
            return "mask or guide holds another value than 0 and 1";
        if (mask[i] && !guide[i])
            return "the mask leaves the guide";
        any = any || mask[i];
    }
    return any ? NULL : "the mask is empty";
}

static md_status check_slot(verify *v, pairs_store *p, int64_t guides, int64_t slot, uint8_t *px,
                            pairs_row *r, const char **fault)
{
    int64_t n = pairs_height(p) * pairs_width(p);
    bool whole = false;
    *fault = NULL;
    MD_TRY(pairs_read_row(p, slot, r));
    *fault = columns_fault(v, guides, r);
    if (*fault || r->state == PAIRS_EMPTY || r->state == PAIRS_FAILED)
        return MD_OK;
    MD_TRY(pairs_verify_slot(p, slot, &whole));
    if (!whole) {
        *fault = "its pixels do not give the checksum";
        return MD_OK;
    }
    MD_TRY(pairs_read_pixels(p, slot, NULL, px, px + n));
    *fault = pair_fault(px, px + n, n);
    return MD_OK;
}

static md_status check_slots(verify *v, const char *path, pairs_store *p)
{
    uint8_t *px = malloc((size_t)(2 * pairs_height(p) * pairs_width(p)));
    if (!px)
        MD_FAIL(MD_NOMEM, "%s: out of memory", path);
    int64_t guides = v->data && !pairs_has_input(p, "masks") ? data_rows(v->data) : -1;
    for (int64_t slot = 0; slot < pairs_rows(p); slot++) {
        pairs_row r;
        const char *fault;
        v->rows++;
        md_status status = check_slot(v, p, guides, slot, px, &r, &fault);
        if ((status != MD_OK || fault) && v->live) /* it may have been in the middle of a redraw */
            status = check_slot(v, p, guides, slot, px, &r, &fault);
        if (status != MD_OK)
            verify_failed(v);
        else if (fault)
            verify_problem(v, "%s: slot %lld: %s", path, (long long)slot, fault);
        else
            v->unfinished += r.state == PAIRS_EMPTY || r.state == PAIRS_WRITTEN;
    }
    free(px);
    return MD_OK;
}

md_status verify_pairs(verify *v, const char *path)
{
    pairs_store *p = NULL;
    MD_TRY(pairs_open_reader(path, &p));
    config *cfg = check_pairs_head(v, path, p);
    md_status status = check_slots(v, path, p);
    if (cfg)
        verify_inputs(v, p, cfg);
    config_free(cfg);
    pairs_close(p);
    return status;
}
