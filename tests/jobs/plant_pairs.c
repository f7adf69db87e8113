/* plant_pairs RUN: makes RUN/pairs.h5, not judged, of what an assessment must tell apart, from
   RUN's data.h5: for each used training image, in turn, the image itself, its mirror image, the
   lesion in another image's place, noise. The guide is the mask; the background comes from another
   group. Prints the number of each kind. */
#include "base/file.h"
#include "base/rng.h"
#include "base/sha256.h"
#include "store/data.h"
#include "store/pairs.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH = 1024, KINDS = 4, SEED = 5 };

typedef struct planter {
    data_store *data, *backgrounds;
    pairs_store *pairs;
    int64_t *ids, n, size;
    uint8_t *rgb, *mask, *other; /* [S,S,3], [S,S], [S,S,3] */
} planter;

static md_status load(planter *p, const char *run, char store[PATH])
{
    char data[PATH], backgrounds[PATH];
    MD_TRY(md_path_join(data, sizeof data, run, "data.h5"));
    MD_TRY(md_path_join(backgrounds, sizeof backgrounds, run, "backgrounds.h5"));
    MD_TRY(md_path_join(store, PATH, run, "pairs.h5"));
    MD_TRY(data_open(data, DATA_IMAGES, &p->data));
    MD_TRY(data_open(backgrounds, DATA_BACKGROUNDS, &p->backgrounds));
    MD_TRY(data_select(p->data, DATA_LESION, DATA_TRAIN, true, &p->ids, &p->n));
    p->size = data_size(p->data);
    p->rgb = malloc((size_t)(3 * p->size * p->size));
    p->mask = malloc((size_t)(p->size * p->size));
    p->other = malloc((size_t)(3 * p->size * p->size));
    if (!p->rgb || !p->mask || !p->other)
        MD_FAIL(MD_NOMEM, "out of memory");
    return MD_OK;
}

static void mirror(uint8_t *v, int64_t rows, int64_t size, int64_t bytes)
{
    uint8_t keep[8];
    for (int64_t y = 0; y < rows; y++)
        for (int64_t x = 0; x < size / 2; x++) {
            uint8_t *a = v + (y * size + x) * bytes, *b = v + (y * size + size - 1 - x) * bytes;
            memcpy(keep, a, (size_t)bytes);
            memcpy(a, b, (size_t)bytes);
            memcpy(b, keep, (size_t)bytes);
        }
}

static md_status draw(planter *p, int64_t slot)
{
    int64_t pixels = p->size * p->size;
    MD_TRY(data_read_pixels(p->data, p->ids[slot], p->rgb, p->mask));
    md_rng r = md_rng_at(SEED, MD_RNG_TEST, (uint64_t)slot, 0);
    switch (slot % KINDS) {
    case 1:
        mirror(p->rgb, p->size, p->size, 3);
        mirror(p->mask, p->size, p->size, 1);
        break;
    case 2:
        MD_TRY(data_read_pixels(p->data, p->ids[(slot + 1) % p->n], p->other, NULL));
        for (int64_t i = 0; i < pixels; i++)
            if (!p->mask[i])
                memcpy(p->rgb + 3 * i, p->other + 3 * i, 3);
        break;
    case 3:
        for (int64_t i = 0; i < 3 * pixels; i++)
            p->rgb[i] = (uint8_t)md_rng_below(&r, 256);
        break;
    default:
        break;
    }
    return MD_OK;
}

static md_status plant(planter *p, int64_t slot)
{
    pairs_row row = pairs_row_empty();
    data_row real, background;
    MD_TRY(draw(p, slot));
    MD_TRY(data_read_row(p->data, p->ids[slot], &real));
    row.background_id = 0;
    MD_TRY(data_read_row(p->backgrounds, 0, &background));
    for (; background.group == real.group && row.background_id + 1 < data_rows(p->backgrounds);)
        MD_TRY(data_read_row(p->backgrounds, ++row.background_id, &background));
    row.state = PAIRS_ACCEPTED;
    row.mask_id = (int32_t)p->ids[slot];
    MD_TRY(pairs_write_pixels(p->pairs, slot, p->rgb, p->mask, p->mask, &row.crc));
    return pairs_write_row(p->pairs, slot, &row);
}

static md_status work(planter *p, const char *run)
{
    char store[PATH], cfg[PATH], *text;
    void *bytes = NULL;
    size_t n = 0;
    char hex[2][65], path[PATH];
    MD_TRY(load(p, run, store));
    MD_TRY(md_path_join(cfg, sizeof cfg, run, "config.cfg"));
    MD_TRY(md_file_read(cfg, 1 << 20, &bytes, &n));
    text = bytes;
    MD_TRY(md_path_join(path, sizeof path, run, "data.h5"));
    MD_TRY(md_sha256_file(path, hex[0]));
    MD_TRY(md_path_join(path, sizeof path, run, "backgrounds.h5"));
    MD_TRY(md_sha256_file(path, hex[1]));
    pairs_spec spec = {.rows = p->n,
                       .height = p->size,
                       .width = p->size,
                       .config = text,
                       .band = {NAN, NAN, NAN, NAN},
                       .input = {{"data", hex[0]}, {"backgrounds", hex[1]}},
                       .n_inputs = 2};
    MD_TRY(pairs_create(store, &spec));
    free(bytes);
    MD_TRY(pairs_open_writer(store, &p->pairs));
    for (int64_t slot = 0; slot < p->n; slot++)
        MD_TRY(plant(p, slot));
    return pairs_sync(p->pairs);
}

int main(int argc, char **argv)
{
    planter p = {0};
    if (argc != 2) {
        (void)fprintf(stderr, "plant_pairs RUN\n");
        return 2;
    }
    md_status status = work(&p, argv[1]);
    if (status != MD_OK)
        (void)fprintf(stderr, "plant_pairs: %s\n", md_status_text());
    for (int k = 0; k < KINDS && status == MD_OK; k++)
        (void)printf("%lld ", (long long)((p.n + KINDS - 1 - k) / KINDS));
    pairs_close(p.pairs);
    data_close(p.data);
    data_close(p.backgrounds);
    free(p.ids);
    free(p.rgb);
    free(p.mask);
    free(p.other);
    return status != MD_OK;
}
