#include "image/fill.h"

#include <stdlib.h>
#include <string.h>

enum { LEVELS = 17, CHANNELS = 3 }; /* IMAGE_SIDE_MAX is 2^15 */

/* One size: colours times weight, and the weight, 1 where all is known. */
typedef struct level {
    int64_t h, w;
    float *v; /* [h,w,CHANNELS + 1] */
} level;

enum { WIDTH = CHANNELS + 1 };

static md_status level_new(level *l, int64_t h, int64_t w)
{
    *l = (level){h, w, calloc((size_t)(h * w * WIDTH), sizeof *l->v)};
    if (!l->v)
        MD_FAIL(MD_NOMEM, "fill: out of memory");
    return MD_OK;
}

/* Sums of 2 x 2; weights saturate at 1, so that far colours do not outvote near ones. */
static void pull(const level *from, level *to)
{
    for (int64_t y = 0; y < from->h; y++)
        for (int64_t x = 0; x < from->w; x++)
            for (int k = 0; k < WIDTH; k++)
                to->v[(y / 2 * to->w + x / 2) * WIDTH + k] +=
                    from->v[(y * from->w + x) * WIDTH + k];
    for (int64_t i = 0; i < to->h * to->w; i++) {
        float *p = to->v + i * WIDTH, weight = p[CHANNELS];
        for (int k = 0; k < WIDTH && weight > 1; k++)
            p[k] /= weight;
    }
}

/* The coarse colours, interpolated, fill up what weight is missing. */
static void push(const level *coarse, level *fine)
{
    for (int64_t y = 0; y < fine->h; y++)
        for (int64_t x = 0; x < fine->w; x++) {
            float *p = fine->v + (y * fine->w + x) * WIDTH, missing = 1 - p[CHANNELS];
            if (missing <= 0)
                continue;
            int64_t near[2] = {y / 2, x / 2},
                    far[2] = {near[0] + (y % 2 ? 1 : -1), near[1] + (x % 2 ? 1 : -1)};
            far[0] = far[0] < 0 || far[0] >= coarse->h ? near[0] : far[0];
            far[1] = far[1] < 0 || far[1] >= coarse->w ? near[1] : far[1];
            for (int k = 0; k < CHANNELS; k++) {
                float a = coarse->v[(near[0] * coarse->w + near[1]) * WIDTH + k],
                      b = coarse->v[(near[0] * coarse->w + far[1]) * WIDTH + k],
                      c = coarse->v[(far[0] * coarse->w + near[1]) * WIDTH + k],
                      d = coarse->v[(far[0] * coarse->w + far[1]) * WIDTH + k];
                p[k] += missing * (0.5625f * a + 0.1875f * (b + c) + 0.0625f * d);
            }
            p[CHANNELS] = 1;
        }
}

static md_status pull_push(level *l, int *n)
{
    for (*n = 1; l[*n - 1].h > 1 || l[*n - 1].w > 1; ++*n) {
        const level *fine = &l[*n - 1];
        MD_TRY(level_new(&l[*n], (fine->h + 1) / 2, (fine->w + 1) / 2));
        pull(fine, &l[*n]);
    }
    float *top = l[*n - 1].v, weight = top[CHANNELS];
    for (int k = 0; k < CHANNELS; k++)
        top[k] = weight > 0 ? top[k] / weight : 127.5f;
    top[CHANNELS] = 1;
    for (int i = *n - 1; i > 0; i--)
        push(&l[i], &l[i - 1]);
    return MD_OK;
}

md_status image_fill(image *im, const image *hole, const image *known)
{
    level l[LEVELS] = {{0}};
    int n = 0;
    if (hole->h != im->h || hole->w != im->w || (known && (known->h != im->h || known->w != im->w)))
        MD_FAIL(MD_SHAPE, "fill: masks of another size than the picture");
    md_status status = level_new(&l[0], im->h, im->w);
    for (int64_t i = 0; i < im->h * im->w && status == MD_OK; i++) {
        if (hole->px[i] || (known && !known->px[i]))
            continue;
        for (int k = 0; k < im->c; k++)
            l[0].v[i * WIDTH + k] = im->px[i * im->c + k];
        l[0].v[i * WIDTH + CHANNELS] = 1;
    }
    if (status == MD_OK)
        status = pull_push(l, &n);
    for (int64_t i = 0; i < im->h * im->w && status == MD_OK; i++)
        for (int k = 0; k < im->c && hole->px[i]; k++)
            im->px[i * im->c + k] = (uint8_t)(l[0].v[i * WIDTH + k] + 0.5f);
    for (int i = 0; i < LEVELS; i++)
        free(l[i].v);
    return status;
}
