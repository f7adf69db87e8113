/* check_presets reference RUN: RUN/pairs.h5 obeys the rules of the released code, as
   configs/reference sets them: pair i has background i and training mask i, each from the start
   again after the last; the guide is that mask as it is, and is what is stored; nothing is pasted
   back; the noise is the same for all, so a pair of the same background and mask as an earlier one
   is that one. RUN must be long enough for this to happen.
   check_presets corroded RUN OTHER: the same pictures and guides; RUN's masks are the guides,
   OTHER's the guides eroded by a disc of radius 1.
   check_presets filtered RUN OTHER: the same pictures; OTHER's are each accepted or rejected at
   their first draw, and rejected ones say why. check_presets kept RUN: every pair is accepted with
   its guide for a mask, and its /reason tells.
 */
#include "base/file.h"
#include "image/mask.h"
#include "store/data.h"
#include "store/pairs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH = 1024, EDGE_MAX = 128, AREA_MAX = EDGE_MAX * EDGE_MAX };

typedef struct run {
    pairs_store *pairs;
    data_store *data, *backgrounds;
    int64_t *masks, n_masks, *scenes, n_scenes; /* rows that pairs are made from */
    int64_t pixels;
} run;

static uint8_t picture[3 * AREA_MAX], mask[AREA_MAX], guide[AREA_MAX];
static uint8_t other[3 * AREA_MAX], wanted[AREA_MAX];

static md_status open_run(const char *dir, run *r)
{
    char path[PATH];
    MD_TRY(md_path_join(path, sizeof path, dir, "pairs.h5"));
    MD_TRY(pairs_open_reader(path, &r->pairs));
    MD_TRY(md_path_join(path, sizeof path, dir, "data.h5"));
    MD_TRY(data_open(path, DATA_IMAGES, &r->data));
    MD_TRY(md_path_join(path, sizeof path, dir, "backgrounds.h5"));
    MD_TRY(data_open(path, DATA_BACKGROUNDS, &r->backgrounds));
    MD_TRY(data_select(r->data, DATA_LESION, DATA_TRAIN, true, &r->masks, &r->n_masks));
    MD_TRY(data_select(r->backgrounds, -1, DATA_TRAIN, false, &r->scenes, &r->n_scenes));
    r->pixels = pairs_height(r->pairs) * pairs_width(r->pairs);
    if (r->pixels > AREA_MAX)
        MD_FAIL(MD_BAD_INPUT, "%s: pictures are too large for this check", dir);
    return MD_OK;
}

static md_status check_slot(run *r, int64_t slot)
{
    pairs_row row;
    MD_TRY(pairs_read_row(r->pairs, slot, &row));
    MD_TRY(pairs_read_pixels(r->pairs, slot, picture, mask, guide));
    int64_t id = r->masks[slot % r->n_masks], scene = r->scenes[slot % r->n_scenes];
    if (row.state != PAIRS_ACCEPTED || row.mask_id != id || row.background_id != scene)
        MD_FAIL(MD_BAD_INPUT, "slot %lld: state %d, mask %d of %lld, background %d of %lld",
                (long long)slot, (int)row.state, row.mask_id, (long long)id, row.background_id,
                (long long)scene);
    MD_TRY(data_read_pixels(r->data, id, other, wanted));
    if (memcmp(guide, wanted, (size_t)r->pixels) || memcmp(mask, guide, (size_t)r->pixels))
        MD_FAIL(MD_BAD_INPUT, "slot %lld: guide or mask is not the training mask", (long long)slot);
    MD_TRY(data_read_pixels(r->backgrounds, scene, other, NULL));
    int64_t outside = 0, kept = 0;
    for (int64_t i = 0; i < r->pixels; i++) {
        outside += !guide[i];
        kept += !guide[i] && !memcmp(picture + 3 * i, other + 3 * i, 3);
    }
    if (!outside || 2 * kept > outside)
        MD_FAIL(MD_BAD_INPUT, "slot %lld: %lld of %lld pixels outside the guide are pasted back",
                (long long)slot, (long long)kept, (long long)outside);
    return MD_OK;
}

/* Equal pairs of background and mask give equal pictures, and only those. */
static md_status check_noise(run *r, int64_t *repeated)
{
    int64_t rows = pairs_rows(r->pairs);
    for (int64_t i = 0; i < rows; i++) {
        MD_TRY(pairs_read_pixels(r->pairs, i, picture, mask, guide));
        for (int64_t k = 0; k < i; k++) {
            MD_TRY(pairs_read_pixels(r->pairs, k, other, mask, guide));
            bool again = i % r->n_masks == k % r->n_masks && i % r->n_scenes == k % r->n_scenes;
            bool equal = memcmp(picture, other, (size_t)(3 * r->pixels)) == 0;
            if (again != equal)
                MD_FAIL(MD_BAD_INPUT, "slots %lld and %lld are %s", (long long)k, (long long)i,
                        equal ? "equal" : "made of the same, and differ");
            *repeated += again;
        }
    }
    return MD_OK;
}

static void close_run(run *r)
{
    pairs_close(r->pairs);
    data_close(r->data);
    data_close(r->backgrounds);
    free(r->masks);
    free(r->scenes);
}

static md_status check_reference(const char *dir)
{
    run r = {0};
    int64_t repeated = 0;
    MD_TRY(open_run(dir, &r));
    for (int64_t i = 0; i < pairs_rows(r.pairs); i++)
        MD_TRY(check_slot(&r, i));
    MD_TRY(check_noise(&r, &repeated));
    if (!repeated)
        MD_FAIL(MD_BAD_INPUT, "%s: %lld masks, %lld backgrounds, and no pair comes again", dir,
                (long long)r.n_masks, (long long)r.n_scenes);
    close_run(&r);
    return MD_OK;
}

static md_status check_eroded(const run *b, int64_t slot)
{
    image whole = {pairs_height(b->pairs), pairs_width(b->pairs), 1, guide}, eroded;
    image_mask_stats left;
    MD_TRY(pairs_read_pixels(b->pairs, slot, other, wanted, guide));
    MD_TRY(image_mask_erode(&whole, 1, &eroded));
    MD_TRY(image_mask_measure(&eroded, &left));
    bool same = memcmp(eroded.px, wanted, (size_t)b->pixels) == 0;
    image_free(&eroded);
    if (!same || !left.area)
        MD_FAIL(MD_BAD_INPUT, "slot %lld: %s", (long long)slot,
                same ? "nothing is left of the guide" : "the mask is not the eroded guide");
    return MD_OK;
}

static md_status check_corroded(const char *plain, const char *corroded)
{
    run a = {0}, b = {0};
    MD_TRY(open_run(plain, &a));
    MD_TRY(open_run(corroded, &b));
    if (pairs_rows(a.pairs) != pairs_rows(b.pairs) || a.pixels != b.pixels)
        MD_FAIL(MD_BAD_INPUT, "%s and %s differ in size", plain, corroded);
    for (int64_t i = 0; i < pairs_rows(a.pairs); i++) {
        MD_TRY(pairs_read_pixels(a.pairs, i, picture, mask, guide));
        MD_TRY(pairs_read_pixels(b.pairs, i, other, wanted, wanted));
        if (memcmp(mask, guide, (size_t)a.pixels) || memcmp(guide, wanted, (size_t)a.pixels) ||
            memcmp(picture, other, (size_t)(3 * a.pixels)))
            MD_FAIL(MD_BAD_INPUT, "slot %lld: another picture or guide, or a mask that is not it",
                    (long long)i);
        MD_TRY(check_eroded(&b, i));
    }
    close_run(&a);
    close_run(&b);
    return MD_OK;
}

static md_status check_filtered(const char *plain, const char *filtered)
{
    run a = {0}, b = {0};
    pairs_row row;
    MD_TRY(open_run(plain, &a));
    MD_TRY(open_run(filtered, &b));
    if (pairs_rows(a.pairs) != pairs_rows(b.pairs) || a.pixels != b.pixels)
        MD_FAIL(MD_BAD_INPUT, "%s and %s differ in size", plain, filtered);
    for (int64_t i = 0; i < pairs_rows(a.pairs); i++) {
        MD_TRY(pairs_read_row(b.pairs, i, &row));
        MD_TRY(pairs_read_pixels(a.pairs, i, picture, mask, guide));
        MD_TRY(pairs_read_pixels(b.pairs, i, other, wanted, wanted));
        bool judged = row.state == PAIRS_ACCEPTED || (row.state == PAIRS_REJECTED && *row.reason);
        if (!judged || row.attempt != 0 || !(row.similarity >= -1 && row.similarity <= 1) ||
            memcmp(picture, other, (size_t)(3 * a.pixels)) != 0)
            MD_FAIL(MD_BAD_INPUT, "slot %lld: state %d, attempt %d, similarity %g, \"%s\"",
                    (long long)i, (int)row.state, row.attempt, (double)row.similarity, row.reason);
    }
    close_run(&a);
    close_run(&b);
    return MD_OK;
}

static md_status check_kept(const char *dir)
{
    run r = {0};
    pairs_row row;
    MD_TRY(open_run(dir, &r));
    for (int64_t i = 0; i < pairs_rows(r.pairs); i++) {
        MD_TRY(pairs_read_row(r.pairs, i, &row));
        MD_TRY(pairs_read_pixels(r.pairs, i, picture, mask, guide));
        if (row.state != PAIRS_ACCEPTED || strncmp(row.reason, "not eroded: ", 12) != 0 ||
            memcmp(mask, guide, (size_t)r.pixels) != 0)
            MD_FAIL(MD_BAD_INPUT, "slot %lld: state %d, \"%s\"", (long long)i, (int)row.state,
                    row.reason);
    }
    close_run(&r);
    return MD_OK;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    md_status status;
    if (argc == 3 && strcmp(what, "reference") == 0) {
        status = check_reference(argv[2]);
    } else if (argc == 4 && strcmp(what, "corroded") == 0) {
        status = check_corroded(argv[2], argv[3]);
    } else if (argc == 4 && strcmp(what, "filtered") == 0) {
        status = check_filtered(argv[2], argv[3]);
    } else if (argc == 3 && strcmp(what, "kept") == 0) {
        status = check_kept(argv[2]);
    } else {
        (void)fprintf(stderr, "check_presets reference|kept RUN\n"
                              "check_presets corroded|filtered RUN OTHER\n");
        return 2;
    }
    if (status != MD_OK) {
        (void)fprintf(stderr, "check_presets: %s\n", md_status_text());
        return 1;
    }
    return 0;
}
