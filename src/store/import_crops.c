/* Largest free squares by dynamic programming on a grid of at most 512 cells a side. */
#include "store/import_crops.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "image/mask.h"
#include "image/resize.h"

enum {
    GRID = 512,
    DARK = 48 /* of 255: darker is outside the optics, when reached from a corner */
};

typedef struct grid {
    int64_t h, w, cell; /* cells; source pixels per cell */
    uint8_t *blocked;   /* [h,w] */
    int32_t *work;      /* [(h+1),(w+1)] */
} grid;

static void block_mask(grid *g, const image *mask)
{
    for (int64_t y = 0; y < g->h * g->cell; y++)
        for (int64_t x = 0; x < g->w * g->cell; x++)
            g->blocked[y / g->cell * g->w + x / g->cell] |= mask->px[y * mask->w + x] != 0;
}

/* Every cell within `by` cells (a square neighbourhood) of a blocked one becomes blocked. */
static void grow(grid *g, int64_t by)
{
    int64_t pitch = g->w + 1;
    int32_t *sum = g->work; /* sum[y][x] = blocked cells above and left of (y, x) */
    memset(sum, 0, (size_t)((g->h + 1) * pitch) * sizeof *sum);
    for (int64_t y = 0; y < g->h; y++)
        for (int64_t x = 0; x < g->w; x++)
            sum[(y + 1) * pitch + x + 1] = sum[y * pitch + x + 1] + sum[(y + 1) * pitch + x] -
                                           sum[y * pitch + x] + (g->blocked[y * g->w + x] != 0);
    for (int64_t y = 0; y < g->h; y++)
        for (int64_t x = 0; x < g->w; x++) {
            int64_t y0 = y < by ? 0 : y - by, y1 = y + by + 1 > g->h ? g->h : y + by + 1;
            int64_t x0 = x < by ? 0 : x - by, x1 = x + by + 1 > g->w ? g->w : x + by + 1;
            g->blocked[y * g->w + x] = sum[y1 * pitch + x1] - sum[y0 * pitch + x1] -
                                           sum[y1 * pitch + x0] + sum[y0 * pitch + x0] >
                                       0;
        }
}

/* Floods the dark region of each corner into `blocked`; `gray` is [h,w] on the grid. */
static void block_corners(grid *g, const uint8_t *gray)
{
    int32_t *stack = g->work; /* at most one entry per cell */
    int64_t n = 0, cells = g->h * g->w;
    const int64_t corners[4] = {0, g->w - 1, cells - g->w, cells - 1};
    for (int i = 0; i < 4; i++)
        if (gray[corners[i]] < DARK && !g->blocked[corners[i]]) {
            g->blocked[corners[i]] = 2;
            stack[n++] = (int32_t)corners[i];
        }
    while (n) {
        int64_t at = stack[--n], y = at / g->w, x = at % g->w;
        const int64_t next[4] = {y ? at - g->w : -1, y + 1 < g->h ? at + g->w : -1, x ? at - 1 : -1,
                                 x + 1 < g->w ? at + 1 : -1};
        for (int i = 0; i < 4; i++)
            if (next[i] >= 0 && !g->blocked[next[i]] && gray[next[i]] < DARK) {
                g->blocked[next[i]] = 2;
                stack[n++] = (int32_t)next[i];
            }
    }
}

/* The largest free square, the first one from the top left among equals; side 0 when all is
 * blocked. */
static import_square largest(grid *g)
{
    import_square best = {0, 0, 0};
    int64_t pitch = g->w + 1;
    int32_t *side = g->work; /* of the largest free square that ends at (y-1, x-1) */
    memset(side, 0, (size_t)((g->h + 1) * pitch) * sizeof *side);
    for (int64_t y = 1; y <= g->h; y++)
        for (int64_t x = 1; x <= g->w; x++) {
            if (g->blocked[(y - 1) * g->w + x - 1])
                continue;
            int32_t a = side[(y - 1) * pitch + x], b = side[y * pitch + x - 1];
            int32_t c = side[(y - 1) * pitch + x - 1];
            int32_t s = 1 + (a < b ? (a < c ? a : c) : (b < c ? b : c));
            side[y * pitch + x] = s;
            if (s > best.side)
                best = (import_square){y - s, x - s, s};
        }
    return best;
}

static void find(grid *g, int64_t min_side, int max_n, import_square *out, int *n)
{
    for (*n = 0; *n < max_n; ++*n) {
        import_square s = largest(g);
        if (s.side == 0 || s.side * g->cell < min_side)
            return;
        for (int64_t y = s.y; y < s.y + s.side; y++)
            memset(g->blocked + y * g->w + s.x, 1, (size_t)s.side);
        out[*n] = (import_square){s.y * g->cell, s.x * g->cell, s.side * g->cell};
    }
}

md_status import__squares(const image *im, const image *mask, int64_t min_side, int max_n,
                          import_square *out, int *n)
{
    if (mask->h != im->h || mask->w != im->w || mask->c != 1)
        MD_FAIL(MD_SHAPE, "mask of %lldx%lld for an image of %lldx%lld", (long long)mask->w,
                (long long)mask->h, (long long)im->w, (long long)im->h);
    *n = 0;
    int64_t shorter = im->h < im->w ? im->h : im->w, longer = im->h + im->w - shorter;
    grid g = {.cell = (longer + GRID - 1) / GRID};
    g.h = im->h / g.cell; /* an incomplete last cell is left out */
    g.w = im->w / g.cell;
    if (g.h < 1 || g.w < 1)
        return MD_OK;
    image gray = {0}, small = {0}, filled = {0};
    g.blocked = calloc((size_t)(g.h * g.w), 1);
    g.work = malloc((size_t)((g.h + 1) * (g.w + 1)) * sizeof *g.work);
    md_status status = MD_OK;
    if (!g.blocked || !g.work) {
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "out of memory");
        goto done;
    }
    MD_TRY_GOTO(image_to_gray(im, &gray), done);
    MD_TRY_GOTO(image_resize(&gray, g.h, g.w, IMAGE_AREA, &small), done);
    block_corners(&g, small.px);
    /* What the mask encloses is not healthy either: an annotator may have drawn only a lesion's
     * rim. */
    MD_TRY_GOTO(image_mask_fill_holes(mask, &filled), done);
    block_mask(&g, &filled);
    grow(&g, (shorter / 20 + g.cell - 1) / g.cell);
    find(&g, min_side > shorter / 4 ? min_side : shorter / 4, max_n, out, n);
done:
    free(g.blocked);
    free(g.work);
    image_free(&gray);
    image_free(&small);
    image_free(&filled);
    return status;
}
