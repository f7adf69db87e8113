#include "generate/alignment.h"
#include "image/mask.h"
#include <stdlib.h>
#include <string.h>

static const double QUANTILE = 0.99;

static int64_t largest(const uint8_t *a, const uint8_t *b)
{
    int most = 0;
    for (int c = 0; c < 3; c++)
        most = abs(a[c] - b[c]) > most ? abs(a[c] - b[c]) : most;
    return most;
}

/* Averages of |a - b| into out [size,size]; whole numbers until the division. */
static md_status differences(const uint8_t *a, const uint8_t *b, int64_t size, float *out)
{
    int64_t r = size / 64 > 1 ? size / 64 : 1, row = size + 1;
    int64_t *sum = calloc((size_t)(row * row), sizeof *sum); /* over all pixels above and left */
    if (!sum)
        MD_FAIL(MD_NOMEM, "alignment: out of memory");
    for (int64_t y = 0; y < size; y++)
        for (int64_t x = 0; x < size; x++) {
            int64_t *s = sum + y * row + x, at = 3 * (y * size + x);
            s[row + 1] = largest(a + at, b + at) + s[row] + s[1] - s[0];
        }
    for (int64_t y = 0; y < size; y++)
        for (int64_t x = 0; x < size; x++) {
            int64_t y0 = y > r ? y - r : 0, y1 = y + r + 1 < size ? y + r + 1 : size;
            int64_t x0 = x > r ? x - r : 0, x1 = x + r + 1 < size ? x + r + 1 : size;
            int64_t all =
                sum[y1 * row + x1] - sum[y0 * row + x1] - sum[y1 * row + x0] + sum[y0 * row + x0];
            out[y * size + x] = (float)all / (float)((y1 - y0) * (x1 - x0));
        }
    free(sum);
    return MD_OK;
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

md_status alignment_noise(const uint8_t *background, const uint8_t *round_trip, int64_t size,
                          float *noise)
{
    int64_t n = size * size;
    float *d = malloc((size_t)n * sizeof *d);
    if (!d)
        MD_FAIL(MD_NOMEM, "alignment: out of memory");
    md_status status = differences(background, round_trip, size, d);
    if (status == MD_OK) {
        qsort(d, (size_t)n, sizeof *d, ascending);
        *noise = d[(int64_t)(QUANTILE * (double)(n - 1))];
    }
    free(d);
    return status;
}

md_status alignment_measure(const uint8_t *rgb, const uint8_t *background, float noise,
                            const image *mask, float *dice)
{
    image changed = {0};
    int64_t n = mask->h * mask->w;
    double overlap = 0;
    float *d = malloc((size_t)n * sizeof *d);
    if (!d)
        MD_FAIL(MD_NOMEM, "alignment: out of memory");
    md_status status = image_new(&changed, mask->h, mask->w, 1);
    if (status == MD_OK)
        status = differences(rgb, background, mask->h, d);
    for (int64_t i = 0; i < n && status == MD_OK; i++)
        changed.px[i] = d[i] > noise;
    if (status == MD_OK)
        status = image_mask_dice(mask, &changed, &overlap);
    *dice = (float)overlap;
    image_free(&changed);
    free(d);
    return status;
}
