#include "image/tissue.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "image/mask.h"

enum {
    LEVELS = 256,
    CELLS = 128, /* the grid's least number of cells a side, and the unit of the radii */
    BLACK = 12,  /* what JPEG makes of a black margin is below */
    DIM = 14,    /* lit pixels are not below */
    BRIGHT = 80  /* no pixel above is dark, however bright the picture */
};
static const double THIN_DARK = 1.5, THIN_TISSUE = 5; /* radii in 1/128 of the side */
static const double LEAST_PART = 0.2;                 /* of the largest part's area */

typedef struct grid {
    int64_t n, cell;          /* cells a side, pixels a side of one */
    int64_t y0, x0, y1, x1;   /* cells wholly inside `valid` */
    image level, dark, reach; /* [n,n,1]: median; dark; dark and joined to the edge */
    int32_t *stack;           /* [n n] */
} grid;

static void grid_free(grid *g)
{
    image_free(&g->level);
    image_free(&g->dark);
    image_free(&g->reach);
    free(g->stack);
}

static md_status grid_new(int64_t size, const int32_t valid[4], grid *g)
{
    g->cell = 1;
    while (size / (2 * g->cell) >= CELLS)
        g->cell *= 2;
    g->n = size / g->cell;
    g->y0 = (valid[0] + g->cell - 1) / g->cell;
    g->x0 = (valid[1] + g->cell - 1) / g->cell;
    g->y1 = valid[2] / g->cell;
    g->x1 = valid[3] / g->cell;
    g->stack = malloc((size_t)(g->n * g->n) * sizeof *g->stack);
    if (!g->stack)
        MD_FAIL(MD_NOMEM, "tissue: out of memory");
    MD_TRY(image_new(&g->level, g->n, g->n, 1));
    MD_TRY(image_new(&g->dark, g->n, g->n, 1));
    return image_new(&g->reach, g->n, g->n, 1);
}

static bool shown(const grid *g, int64_t y, int64_t x)
{
    return y >= g->y0 && y < g->y1 && x >= g->x0 && x < g->x1;
}

/* The value at place `below` of the counted ones in ascending order. */
static int quantile(const int64_t count[LEVELS], int64_t below)
{
    int v = 0;
    for (int64_t sum = count[0]; v < LEVELS - 1 && sum <= below; sum += count[++v])
        ;
    return v;
}

/* The brightest channel's median over each cell and its eight neighbours: letters on black are
   mostly black, speckle is not. */
static void measure(grid *g, const image *rgb)
{
    for (int64_t y = 0; y < g->n; y++)
        for (int64_t x = 0; x < g->n; x++) {
            int64_t count[LEVELS] = {0}, n = 0;
            int64_t y0 = y ? y - 1 : 0, y1 = y + 2 < g->n ? y + 2 : g->n;
            int64_t x0 = x ? x - 1 : 0, x1 = x + 2 < g->n ? x + 2 : g->n;
            for (int64_t v = y0 * g->cell; v < y1 * g->cell; v++)
                for (int64_t u = x0 * g->cell; u < x1 * g->cell; u++) {
                    const uint8_t *p = rgb->px + 3 * (v * rgb->w + u);
                    uint8_t most = p[0] > p[1] ? p[0] : p[1];
                    count[most > p[2] ? most : p[2]]++;
                    n++;
                }
            g->level.px[y * g->n + x] = (uint8_t)quantile(count, n / 2);
        }
}

/* What lies outside `valid` is dark, too, so that a thin margin along it is not a thin line. */
static void find_dark(grid *g)
{
    int64_t count[LEVELS] = {0}, lit = 0;
    for (int64_t y = g->y0; y < g->y1; y++)
        for (int64_t x = g->x0; x < g->x1; x++)
            if (g->level.px[y * g->n + x] >= DIM) {
                count[g->level.px[y * g->n + x]]++;
                lit++;
            }
    int limit = lit ? quantile(count, lit / 4) / 2 : DIM;
    limit = limit < DIM ? DIM : limit > BRIGHT ? BRIGHT : limit;
    for (int64_t y = 0; y < g->n; y++)
        for (int64_t x = 0; x < g->n; x++)
            g->dark.px[y * g->n + x] = !shown(g, y, x) || g->level.px[y * g->n + x] < limit;
}

static md_status open_mask(const image *mask, double r, image *out)
{
    image core = {0};
    MD_TRY(image_mask_erode(mask, r, &core));
    md_status status = image_mask_dilate(&core, r, out);
    image_free(&core);
    return status;
}

/* Thin lines leave `dark` unless they are black. */
static md_status drop_lines(grid *g)
{
    image wide = {0};
    MD_TRY(open_mask(&g->dark, THIN_DARK * (double)g->n / CELLS, &wide));
    for (int64_t i = 0; i < g->n * g->n; i++)
        g->dark.px[i] = g->dark.px[i] && (wide.px[i] || g->level.px[i] < BLACK);
    image_free(&wide);
    return MD_OK;
}

static void reach(grid *g, int64_t *n, int64_t y, int64_t x)
{
    int64_t at = y * g->n + x;
    if (!shown(g, y, x) || !g->dark.px[at] || g->reach.px[at])
        return;
    g->reach.px[at] = 1;
    g->stack[(*n)++] = (int32_t)at;
}

/* Over dark cells that share a side, from the edge of `valid`. */
static void flood(grid *g)
{
    int64_t n = 0;
    for (int64_t y = g->y0; y < g->y1; y++) {
        reach(g, &n, y, g->x0);
        reach(g, &n, y, g->x1 - 1);
    }
    for (int64_t x = g->x0; x < g->x1; x++) {
        reach(g, &n, g->y0, x);
        reach(g, &n, g->y1 - 1, x);
    }
    while (n > 0) {
        int64_t at = g->stack[--n], y = at / g->n, x = at % g->n;
        reach(g, &n, y - 1, x);
        reach(g, &n, y + 1, x);
        reach(g, &n, y, x - 1);
        reach(g, &n, y, x + 1);
    }
}

/* Small parts go: in place. */
static md_status keep_large(image *mask)
{
    int64_t n = 0, most = 0, *area = NULL;
    int32_t *label = malloc((size_t)(mask->h * mask->w) * sizeof *label);
    if (!label)
        MD_FAIL(MD_NOMEM, "tissue: out of memory");
    md_status status = image_mask_components(mask, &n, label, &area);
    for (int64_t i = 0; i < n && status == MD_OK; i++)
        most = area[i] > most ? area[i] : most;
    for (int64_t i = 0; i < mask->h * mask->w && status == MD_OK; i++)
        mask->px[i] = label[i] && (double)area[label[i] - 1] > LEAST_PART * (double)most;
    free(label);
    free(area);
    return status;
}

static md_status find(grid *g, const image *rgb, image *out)
{
    image lit = {0}, wide = {0};
    measure(g, rgb);
    find_dark(g);
    MD_TRY(drop_lines(g));
    flood(g);
    MD_TRY(image_new(&lit, g->n, g->n, 1));
    for (int64_t y = g->y0; y < g->y1; y++)
        for (int64_t x = g->x0; x < g->x1; x++)
            lit.px[y * g->n + x] = !g->reach.px[y * g->n + x];
    md_status status = open_mask(&lit, THIN_TISSUE * (double)g->n / CELLS, &wide);
    for (int64_t i = 0; i < g->n * g->n && status == MD_OK; i++)
        lit.px[i] = lit.px[i] && wide.px[i];
    if (status == MD_OK)
        status = keep_large(&lit);
    if (status == MD_OK)
        status = image_new(out, rgb->h, rgb->w, 1);
    for (int64_t i = 0; i < rgb->h * rgb->w && status == MD_OK; i++)
        out->px[i] = lit.px[i / rgb->w / g->cell * g->n + i % rgb->w / g->cell];
    image_free(&lit);
    image_free(&wide);
    return status;
}

md_status image_tissue(const image *rgb, const int32_t valid[4], image *out)
{
    if (rgb->h != rgb->w || rgb->c != 3 || rgb->h % 64)
        MD_FAIL(MD_SHAPE, "tissue: a picture of %lld x %lld and %d channels", (long long)rgb->h,
                (long long)rgb->w, rgb->c);
    for (int i = 0; i < 2; i++)
        if (valid[i] < 0 || valid[i] > valid[i + 2] || valid[i + 2] > rgb->h)
            MD_FAIL(MD_SHAPE, "tissue: the valid rectangle leaves the picture");
    grid g = {0};
    image found = {0};
    md_status status = grid_new(rgb->h, valid, &g);
    if (status == MD_OK)
        status = find(&g, rgb, &found);
    grid_free(&g);
    if (status != MD_OK)
        return md_frame(status, __FILE__, __LINE__);
    *out = found;
    return MD_OK;
}
