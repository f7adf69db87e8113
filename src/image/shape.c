#include "image/shape.h"
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

const char *image_shape_name(int value)
{
    static const char *const names[IMAGE_SHAPE_N] = {"area",     "perimeter", "eccentricity",
                                                     "solidity", "centre_y",  "centre_x"};
    return names[value];
}

static int at(const image *m, int64_t y, int64_t x)
{
    return y >= 0 && x >= 0 && y < m->h && x < m->w && m->px[y * m->w + x];
}

/* Cauchy-Crofton: pi/2 times the mean over directions of crossings times the distance of lines,
   which is 1 along rows and columns and 1/sqrt(2) along diagonals. Beyond the image is background.
 */
static double perimeter(const image *m)
{
    int64_t straight = 0, diagonal = 0;
    for (int64_t y = -1; y < m->h; y++)
        for (int64_t x = -1; x < m->w; x++) {
            int a = at(m, y, x), b = at(m, y, x + 1), c = at(m, y + 1, x), d = at(m, y + 1, x + 1);
            straight += (a != b) + (a != c);
            diagonal += (a != d) + (b != c);
        }
    return acos(-1.0) / 8 * ((double)straight + (double)diagonal / sqrt(2));
}

/* From the second moments of unit squares. */
static double eccentricity(const image *m, const image_mask_stats *s)
{
    double yy = 0, xx = 0, xy = 0, n = (double)s->area;
    for (int64_t y = s->y0; y < s->y1; y++)
        for (int64_t x = s->x0; x < s->x1; x++) {
            double v = (double)y - s->cy, u = (double)x - s->cx, on = m->px[y * m->w + x] != 0;
            yy += on * v * v;
            xx += on * u * u;
            xy += on * u * v;
        }
    yy = yy / n + 1.0 / 12;
    xx = xx / n + 1.0 / 12;
    xy /= n;
    double mid = (yy + xx) / 2, off = hypot((yy - xx) / 2, xy);
    return sqrt(fmax(2 * off / (mid + off), 0)); /* 1 - least / largest axis squared */
}

typedef struct point {
    int64_t y, x;
} point;

static int64_t turn(point a, point b, point c)
{
    return (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x);
}

/* Adds a point to a chain that only turns one way. */
static int64_t chain(point *p, int64_t n, point next)
{
    while (n > 1 && turn(p[n - 2], p[n - 1], next) <= 0)
        n--;
    p[n++] = next;
    return n;
}

/* Area of the convex hull of the pixels' squares: both halves of Andrew's chain over the rows'
   first and last corners. */
static md_status hull_area(const image *m, const image_mask_stats *s, double *area)
{
    int64_t rows = s->y1 - s->y0;
    point *left = malloc((size_t)(4 * rows + 8) * sizeof *left), *right = left + 2 * rows + 4;
    if (!left)
        MD_FAIL(MD_NOMEM, "no memory for a convex hull");
    int64_t n = 0, k = 0;
    double twice = 0;
    for (int64_t y = s->y0; y < s->y1; y++) {
        int64_t first = -1, last = -1;
        for (int64_t x = s->x0; x < s->x1; x++)
            if (m->px[y * m->w + x]) {
                first = first < 0 ? x : first;
                last = x;
            }
        /* mirrored, the left side turns as the right one does */
        for (int64_t corner = y; first >= 0 && corner <= y + 1; corner++) {
            n = chain(left, n, (point){corner, -first});
            k = chain(right, k, (point){corner, last + 1});
        }
    }
    for (int64_t i = 0; i + 1 < n; i++)
        twice += (double)((left[i + 1].y - left[i].y) * (left[i + 1].x + left[i].x));
    for (int64_t i = 0; i + 1 < k; i++)
        twice += (double)((right[i + 1].y - right[i].y) * (right[i + 1].x + right[i].x));
    free(left);
    *area = twice / 2;
    return MD_OK;
}

static md_status count_holes(const image *mask, int64_t *n)
{
    image filled;
    MD_TRY(image_mask_fill_holes(mask, &filled));
    for (int64_t i = 0; i < mask->h * mask->w; i++)
        filled.px[i] = filled.px[i] && !mask->px[i];
    md_status status = image_mask_components(&filled, n, NULL, NULL);
    image_free(&filled);
    return status;
}

md_status image_shape_measure(const image *mask, image_shape *out)
{
    image_shape r = {{0}, 0, 0, 0};
    image_mask_stats s;
    double hull = 0, edge = (double)mask->h;
    MD_TRY(image_mask_measure(mask, &s));
    if (s.area == 0) {
        *out = r;
        return MD_OK;
    }
    MD_TRY(hull_area(mask, &s, &hull));
    MD_TRY(count_holes(mask, &r.holes));
    r.components = s.n_components;
    r.border = s.border;
    r.value[IMAGE_SHAPE_AREA] = (double)s.area / (edge * (double)mask->w);
    r.value[IMAGE_SHAPE_PERIMETER] = perimeter(mask) / edge;
    r.value[IMAGE_SHAPE_ECCENTRICITY] = eccentricity(mask, &s);
    r.value[IMAGE_SHAPE_SOLIDITY] = (double)s.area / hull;
    r.value[IMAGE_SHAPE_Y] = (s.cy + 0.5) / edge;
    r.value[IMAGE_SHAPE_X] = (s.cx + 0.5) / (double)mask->w;
    *out = r;
    return MD_OK;
}

/* ---- forms */

static const double FORM_SHARE = 0.15; /* of the grid: an ellipse of 5 to 1 still fits */

/* The mask's square pixel at a point whose pixel centres are whole numbers. */
static uint64_t hit(const image *m, double y, double x)
{
    double v = floor(y + 0.5), u = floor(x + 0.5);
    return v >= 0 && u >= 0 && v < (double)m->h && u < (double)m->w &&
           m->px[(int64_t)v * m->w + (int64_t)u];
}

static void draw_form(const image *m, const image_mask_stats *s, double turned, bool mirrored,
                      image_form *out)
{
    const double half = IMAGE_FORM_EDGE / 2.0;
    double step = sqrt((double)s->area / FORM_SHARE) / IMAGE_FORM_EDGE;
    double c = cos(turned) * step, d = sin(turned) * step;
    *out = (image_form){0};
    for (int i = 0; i < IMAGE_FORM_EDGE; i++)
        for (int k = 0; k < IMAGE_FORM_EDGE; k++) {
            double y = i + 0.5 - half, x = mirrored ? half - k - 0.5 : k + 0.5 - half;
            uint64_t on = hit(m, s->cy + c * y + d * x, s->cx + c * x - d * y);
            out->row[i] |= on << k;
            out->area += (int64_t)on;
        }
}

md_status image_form_make(const image *mask, image_form *out)
{
    image_mask_stats s;
    MD_TRY(image_mask_measure(mask, &s));
    draw_form(mask, &s, 0, false, out);
    return MD_OK;
}

md_status image_form_turned(const image *mask, image_form *all)
{
    image_mask_stats s;
    MD_TRY(image_mask_measure(mask, &s));
    for (int i = 0; i < 2 * IMAGE_FORM_TURNS; i++)
        draw_form(mask, &s, 2 * acos(-1.0) * (i % IMAGE_FORM_TURNS) / IMAGE_FORM_TURNS,
                  i >= IMAGE_FORM_TURNS, &all[i]);
    return MD_OK;
}

static int64_t bits(uint64_t v)
{
    return __builtin_popcountll(v);
}

double image_form_iou(const image_form *a, const image_form *turned)
{
    double best = 0;
    for (const image_form *b = turned; b < turned + (size_t)2 * IMAGE_FORM_TURNS; b++) {
        int64_t both = 0;
        for (int i = 0; i < IMAGE_FORM_EDGE; i++)
            both += bits(a->row[i] & b->row[i]);
        int64_t either = a->area + b->area - both;
        double iou = either ? (double)both / (double)either : 1;
        best = iou > best ? iou : best;
    }
    return best;
}
