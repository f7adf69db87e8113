/* check_pairs RUN [PAIRS_H5]: RUN/pairs.h5 is what generate promises: every slot accepted, its
   checksum right; outside the guide the pixels of its background exactly, inside something else;
   the mask inside the guide, neither empty. With a second store: every column of every slot equals
   it.
   check_pairs --finished PAIRS_H5: a line "SLOT ATTEMPT CRC SIMILARITY" for each accepted slot,
   also beside a live run. */
#include "base/file.h"
#include "store/data.h"
#include "store/pairs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH = 1024, EDGE_MAX = 512 };

static uint8_t image[EDGE_MAX * EDGE_MAX * 3], mask[EDGE_MAX * EDGE_MAX],
    guide[EDGE_MAX * EDGE_MAX];
static uint8_t image2[sizeof image], mask2[sizeof mask], guide2[sizeof guide];

static md_status check_pixels(int64_t slot, int64_t pixels)
{
    int64_t n_guide = 0, n_mask = 0, painted = 0;
    for (int64_t i = 0; i < pixels; i++) {
        bool same = memcmp(image + 3 * i, image2 + 3 * i, 3) == 0;
        n_guide += guide[i];
        n_mask += mask[i];
        painted += guide[i] && !same;
        if (mask[i] && !guide[i])
            MD_FAIL(MD_BAD_INPUT, "slot %lld: the mask leaves the guide", (long long)slot);
        if (!guide[i] && !same)
            MD_FAIL(MD_BAD_INPUT, "slot %lld: pixel %lld outside the guide is not the background's",
                    (long long)slot, (long long)i);
    }
    if (!n_guide || !n_mask || 2 * painted < n_guide)
        MD_FAIL(MD_BAD_INPUT, "slot %lld: guide of %lld pixels, mask of %lld, %lld painted",
                (long long)slot, (long long)n_guide, (long long)n_mask, (long long)painted);
    return MD_OK;
}

static md_status check_slot(pairs_store *p, data_store *backgrounds, int64_t slot)
{
    pairs_row row;
    bool whole = false;
    MD_TRY(pairs_read_row(p, slot, &row));
    if (row.state != PAIRS_ACCEPTED)
        MD_FAIL(MD_BAD_INPUT, "slot %lld: state %d: %s", (long long)slot, (int)row.state,
                row.reason);
    MD_TRY(pairs_verify_slot(p, slot, &whole));
    if (!whole)
        MD_FAIL(MD_BAD_INPUT, "slot %lld: the checksum is wrong", (long long)slot);
    MD_TRY(pairs_read_pixels(p, slot, image, mask, guide));
    MD_TRY(data_read_pixels(backgrounds, row.background_id, image2, NULL));
    return check_pixels(slot, pairs_height(p) * pairs_width(p));
}

static md_status compare_slot(pairs_store *p, pairs_store *q, int64_t slot)
{
    pairs_row a, b;
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    size_t pixels = (size_t)(pairs_height(p) * pairs_width(p));
    MD_TRY(pairs_read_row(p, slot, &a));
    MD_TRY(pairs_read_row(q, slot, &b));
    MD_TRY(pairs_read_pixels(p, slot, image, mask, guide));
    MD_TRY(pairs_read_pixels(q, slot, image2, mask2, guide2));
    if (memcmp(image, image2, 3 * pixels) || memcmp(mask, mask2, pixels) ||
        memcmp(guide, guide2, pixels))
        MD_FAIL(MD_BAD_INPUT, "slot %lld: the pixels differ", (long long)slot);
    if (a.state != b.state || a.attempt != b.attempt || a.background_id != b.background_id ||
        a.mask_id != b.mask_id || a.nearest_id != b.nearest_id || a.crc != b.crc ||
        memcmp(&a.similarity, &b.similarity, sizeof a.similarity) ||
        memcmp(&a.similarity_lesion, &b.similarity_lesion, sizeof a.similarity) ||
        memcmp(&a.alignment, &b.alignment, sizeof a.alignment) || strcmp(a.reason, b.reason))
        MD_FAIL(MD_BAD_INPUT, "slot %lld: the small columns differ", (long long)slot);
    return MD_OK;
}

static md_status check(const char *run, const char *other)
{
    char path[PATH], backgrounds_path[PATH];
    pairs_store *p = NULL, *q = NULL;
    data_store *backgrounds = NULL;
    MD_TRY(md_path_join(path, sizeof path, run, "pairs.h5"));
    MD_TRY(md_path_join(backgrounds_path, sizeof backgrounds_path, run, "backgrounds.h5"));
    MD_TRY(pairs_open_reader(path, &p));
    MD_TRY(data_open(backgrounds_path, DATA_BACKGROUNDS, &backgrounds));
    int64_t rows = pairs_rows(p);
    if (pairs_height(p) > EDGE_MAX || pairs_width(p) > EDGE_MAX ||
        pairs_width(p) != data_size(backgrounds))
        MD_FAIL(MD_BAD_INPUT, "%s: pictures of another size", path);
    for (int64_t i = 0; i < rows; i++)
        MD_TRY(check_slot(p, backgrounds, i));
    if (other) {
        MD_TRY(pairs_open_reader(other, &q));
        if (pairs_rows(q) != rows || pairs_height(q) != pairs_height(p))
            MD_FAIL(MD_BAD_INPUT, "%s and %s differ in size", path, other);
        for (int64_t i = 0; i < rows; i++)
            MD_TRY(compare_slot(p, q, i));
    }
    pairs_close(q);
    pairs_close(p);
    data_close(backgrounds);
    return MD_OK;
}

static md_status list_finished(const char *path)
{
    pairs_store *p = NULL;
    pairs_row row;
    MD_TRY(pairs_open_reader(path, &p));
    for (int64_t i = 0; i < pairs_rows(p); i++) {
        MD_TRY(pairs_read_row(p, i, &row));
        if (row.state == PAIRS_ACCEPTED)
            (void)printf("%lld %d %08x %.9g\n", (long long)i, (int)row.attempt, (unsigned)row.crc,
                         (double)row.similarity);
    }
    pairs_close(p);
    return MD_OK;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        (void)fprintf(stderr, "check_pairs RUN [PAIRS_H5], check_pairs --finished PAIRS_H5\n");
        return 2;
    }
    const char *other = argc > 2 ? argv[2] : NULL;
    bool list = strcmp(argv[1], "--finished") == 0 && other;
    if ((list ? list_finished(other) : check(argv[1], other)) != MD_OK) {
        (void)fprintf(stderr, "check_pairs: %s\n", md_status_text());
        return 1;
    }
    return 0;
}
