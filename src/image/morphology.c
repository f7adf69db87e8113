/* Distances, erosion, dilation, feathering. */
#include "image/mask.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* g[y,x]: rows to the nearest target in the column, or -1. */
static void columns(const image *m, int target, int64_t *g)
{
    for (int64_t x = 0; x < m->w; x++) {
        int64_t last = -1;
        for (int64_t y = 0; y < m->h; y++) {
            if ((m->px[y * m->w + x] != 0) == target)
                last = y;
            g[y * m->w + x] = last < 0 ? -1 : y - last;
        }
        last = -1;
        for (int64_t y = m->h - 1; y >= 0; y--) {
            int64_t *v = &g[y * m->w + x];
            if (*v == 0)
                last = y;
            if (last >= 0 && (*v < 0 || last - y < *v))
                *v = last - y;
        }
    }
}

/* One row of the second phase: the lower envelope of the parabolas (x-i)^2 + g[i]^2 over columns i
   that have a target; s: their columns, t: where each begins to be the lowest. Exact in integers.
 */
static void row(const int64_t *g, int64_t w, int64_t *s, int64_t *t, int64_t *out)
{
    int64_t q = -1;
    for (int64_t u = 0; u < w; u++) {
        if (g[u] < 0)
            continue;
        int64_t start = 0;
        while (q >= 0) {
            const int64_t i = s[q], x = t[q];
            if ((x - i) * (x - i) + g[i] * g[i] <= (x - u) * (x - u) + g[u] * g[u]) {
                /* first x at which u is strictly lower than i: floor of the crossing, plus 1 */
                const int64_t num = u * u - i * i + g[u] * g[u] - g[i] * g[i], den = 2 * (u - i);
                start = (num >= 0 ? num / den : -((-num + den - 1) / den)) + 1;
                break;
            }
            q--;
        }
        if (q < 0)
            start = 0;
        if (start < w) {
            q++;
            s[q] = u;
            t[q] = start;
        }
    }
    for (int64_t x = w - 1; x >= 0; x--) {
        if (q < 0) {
            out[x] = INT64_MAX;
            continue;
        }
        while (x < t[q])
            q--;
        out[x] = (x - s[q]) * (x - s[q]) + g[s[q]] * g[s[q]];
    }
}

static md_status check(const image *m)
{
    if (m->c != 1)
        MD_FAIL(MD_INTERNAL, "a mask has one channel, not %d", m->c);
    return MD_OK;
}

md_status image_mask_distance2(const image *mask, int target, int64_t *d2)
{
    MD_TRY(check(mask));
    int64_t *g = malloc((size_t)(mask->h * mask->w + 2 * mask->w) * sizeof *g);
    if (!g)
        MD_FAIL(MD_NOMEM, "no memory for the distances of %lld x %lld", (long long)mask->h,
                (long long)mask->w);
    int64_t *s = g + mask->h * mask->w, *t = s + mask->w;
    columns(mask, target != 0, g);
    for (int64_t y = 0; y < mask->h; y++)
        row(g + y * mask->w, mask->w, s, t, d2 + y * mask->w);
    free(g);
    return MD_OK;
}

/* grow: out = distance to the mask <= r; else out = distance to the background > r. */
static md_status morph(const image *mask, double r, int grow, image *out)
{
    image im;
    MD_TRY(check(mask));
    if (!(r >= 0))
        MD_FAIL(MD_INTERNAL, "a disc of radius %g", r);
    const int64_t n = mask->h * mask->w;
    int64_t *d2 = malloc((size_t)n * sizeof *d2);
    if (!d2)
        MD_FAIL(MD_NOMEM, "no memory for the distances of %lld x %lld", (long long)mask->h,
                (long long)mask->w);
    md_status status = image_mask_distance2(mask, grow, d2);
    if (status == MD_OK)
        status = image_new(&im, mask->h, mask->w, 1);
    if (status == MD_OK) {
        for (int64_t i = 0; i < n; i++)
            im.px[i] = (uint8_t)(grow ? (double)d2[i] <= r * r : (double)d2[i] > r * r);
        *out = im;
    }
    free(d2);
    return status;
}

md_status image_mask_erode(const image *mask, double r, image *out)
{
    return morph(mask, r, 0, out);
}

md_status image_mask_dilate(const image *mask, double r, image *out)
{
    return morph(mask, r, 1, out);
}

md_status image_mask_feather(const image *mask, double px, float *alpha)
{
    MD_TRY(check(mask));
    const int64_t n = mask->h * mask->w;
    int64_t *d2 = malloc((size_t)n * sizeof *d2);
    if (!d2)
        MD_FAIL(MD_NOMEM, "no memory for the distances of %lld x %lld", (long long)mask->h,
                (long long)mask->w);
    const md_status status = image_mask_distance2(mask, 0, d2);
    for (int64_t i = 0; status == MD_OK && i < n; i++) {
        const double a = px > 0 ? (sqrt((double)d2[i]) - 0.5) / px : 1;
        alpha[i] = mask->px[i] ? (float)(a < 0 ? 0 : a > 1 ? 1 : a) : 0;
    }
    free(d2);
    return status;
}
