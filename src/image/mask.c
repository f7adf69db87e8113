/* Components, holes, measures, warps of masks. */
#include "image/mask.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static md_status check(const image *m)
{
    if (m->c != 1)
        MD_FAIL(MD_INTERNAL, "a mask has one channel, not %d", m->c);
    return MD_OK;
}

/* Marks everything reachable from `from` over pixels of in[] equal to `value` that are still
   unmarked; returns the area. stack: room for h*w positions (each is pushed once). */
static int64_t flood(const image *m, int value, int64_t from, int neighbours, int32_t label,
                     int32_t *labels, int64_t *stack)
{
    static const int dy[8] = {-1, 1, 0, 0, -1, -1, 1, 1}, dx[8] = {0, 0, -1, 1, -1, 1, -1, 1};
    int64_t n = 0, area = 0;
    labels[from] = label;
    stack[n++] = from;
    while (n > 0) {
        const int64_t at = stack[--n], y = at / m->w, x = at % m->w;
        area++;
        for (int k = 0; k < neighbours; k++) {
            const int64_t ny = y + dy[k], nx = x + dx[k];
            if (ny < 0 || nx < 0 || ny >= m->h || nx >= m->w)
                continue;
            const int64_t next = ny * m->w + nx;
            if (labels[next] == 0 && (m->px[next] != 0) == value) {
                labels[next] = label;
                stack[n++] = next;
            }
        }
    }
    return area;
}

md_status image_mask_components(const image *mask, int64_t *n, int32_t *labels, int64_t **areas)
{
    MD_TRY(check(mask));
    const int64_t size = mask->h * mask->w;
    md_status status = MD_OK;
    int32_t *own = labels ? labels : malloc((size_t)size * sizeof *own);
    int64_t *stack = malloc((size_t)size * sizeof *stack);
    int64_t *list = NULL, count = 0, room = 0;
    if (!own || !stack) {
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "no memory for components");
        goto done;
    }
    memset(own, 0, (size_t)size * sizeof *own);
    for (int64_t i = 0; i < size; i++) {
        if (!mask->px[i] || own[i])
            continue;
        const int64_t area = flood(mask, 1, i, 8, (int32_t)(count + 1), own, stack);
        if (areas && count == room) {
            room = room ? 2 * room : 16;
            int64_t *more = realloc(list, (size_t)room * sizeof *list);
            if (!more) {
                status = md_fail(MD_NOMEM, __FILE__, __LINE__, "no memory for components");
                goto done;
            }
            list = more;
        }
        if (areas)
            list[count] = area;
        count++;
    }
    *n = count;
    if (areas)
        *areas = list;
    list = NULL;
done:
    free(list);
    free(stack);
    if (own != labels)
        free(own);
    return status;
}

md_status image_mask_fill_holes(const image *mask, image *out)
{
    MD_TRY(check(mask));
    const int64_t h = mask->h, w = mask->w;
    md_status status = MD_OK;
    image im = {0};
    int32_t *reached = calloc((size_t)(h * w), sizeof *reached);
    int64_t *stack = malloc((size_t)(h * w) * sizeof *stack);
    if (!reached || !stack) {
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "no memory to fill holes");
        goto done;
    }
    MD_TRY_GOTO(image_new(&im, h, w, 1), done);
    for (int64_t i = 0; i < h * w; i++) {
        const int64_t y = i / w, x = i % w;
        const int border = y == 0 || x == 0 || y == h - 1 || x == w - 1;
        if (border && !mask->px[i] && !reached[i])
            (void)flood(mask, 0, i, 4, 1, reached, stack);
    }
    for (int64_t i = 0; i < h * w; i++)
        im.px[i] = !reached[i];
    *out = im;
done:
    free(stack);
    free(reached);
    return status;
}

md_status image_mask_measure(const image *mask, image_mask_stats *out)
{
    image_mask_stats s = {.y0 = mask->h, .x0 = mask->w};
    double sy = 0, sx = 0;
    MD_TRY(image_mask_components(mask, &s.n_components, NULL, NULL));
    for (int64_t y = 0; y < mask->h; y++)
        for (int64_t x = 0; x < mask->w; x++) {
            if (!mask->px[y * mask->w + x])
                continue;
            s.area++;
            s.border += y == 0 || x == 0 || y == mask->h - 1 || x == mask->w - 1;
            sy += (double)y;
            sx += (double)x;
            s.y0 = y < s.y0 ? y : s.y0;
            s.x0 = x < s.x0 ? x : s.x0;
            s.y1 = y + 1;
            s.x1 = x + 1 > s.x1 ? x + 1 : s.x1;
        }
    if (s.area == 0) {
        s.y0 = s.x0 = 0;
    } else {
        s.cy = sy / (double)s.area;
        s.cx = sx / (double)s.area;
    }
    *out = s;
    return MD_OK;
}

/* Pixels set in the f x f square at (y,x). */
static int64_t count_in(const image *m, int64_t y, int64_t x, int64_t f)
{
    int64_t n = 0;
    for (int64_t dy = 0; dy < f; dy++)
        for (int64_t dx = 0; dx < f; dx++)
            n += m->px[(y + dy) * m->w + x + dx] != 0;
    return n;
}

md_status image_mask_pool(const image *mask, int64_t edge, image_mask_pooling how, float *out)
{
    MD_TRY(check(mask));
    if (edge < 1 || mask->h != mask->w || mask->h % edge)
        MD_FAIL(MD_SHAPE, "a mask of %lld x %lld does not pool to %lld x %lld", (long long)mask->w,
                (long long)mask->h, (long long)edge, (long long)edge);
    const int64_t f = mask->h / edge;
    for (int64_t y = 0; y < edge; y++)
        for (int64_t x = 0; x < edge; x++) {
            const int64_t n = count_in(mask, y * f, x * f, how == IMAGE_POOL_NEAREST ? 1 : f);
            out[y * edge + x] = how == IMAGE_POOL_AREA ? (float)n / (float)(f * f) : (float)(n > 0);
        }
    return MD_OK;
}

static md_status same_size(const image *a, const image *b)
{
    MD_TRY(check(a));
    MD_TRY(check(b));
    if (a->h != b->h || a->w != b->w)
        MD_FAIL(MD_SHAPE, "a mask of %lld x %lld and one of %lld x %lld", (long long)a->w,
                (long long)a->h, (long long)b->w, (long long)b->h);
    return MD_OK;
}

md_status image_mask_union(image *a, const image *b)
{
    MD_TRY(same_size(a, b));
    for (int64_t i = 0; i < a->h * a->w; i++)
        a->px[i] = a->px[i] || b->px[i];
    return MD_OK;
}

md_status image_mask_dice(const image *a, const image *b, double *dice)
{
    int64_t both = 0, sum = 0;
    MD_TRY(same_size(a, b));
    for (int64_t i = 0; i < a->h * a->w; i++) {
        both += a->px[i] && b->px[i];
        sum += (a->px[i] != 0) + (b->px[i] != 0);
    }
    *dice = sum ? 2.0 * (double)both / (double)sum : 1;
    return MD_OK;
}

image_affine image_affine_make(int flip, double degrees, double scale, double dx, double dy)
{
    /* output = R(degrees) * scale * F * source + d; inverted here: F * R^-1 * (output - d) / scale
     */
    const double a = degrees * (3.14159265358979323846 / 180), f = flip ? -1 : 1;
    const double c = cos(a) / scale, s = sin(a) / scale;
    image_affine m = {{f * c, f * s, 0, -s, c, 0}};
    m.m[2] = -(m.m[0] * dx + m.m[1] * dy);
    m.m[5] = -(m.m[3] * dx + m.m[4] * dy);
    return m;
}

/* Samples a side of each output pixel: 4 when the map keeps or enlarges, more when it shrinks. */
static int density(const image_affine *a)
{
    const double x = hypot(a->m[0], a->m[3]), y = hypot(a->m[1], a->m[4]);
    const double s = ceil(4 * (x > y ? x : y));
    return s < 4 ? 4 : s > 16 ? 16 : (int)s;
}

/* Source position, pixel centres at +0.5, of sample (i,j) of n x n in output pixel (y,x). */
static void source_of(const image *m, const image_affine *a, int64_t y, int64_t x, int i, int j,
                      int n, double *sy, double *sx)
{
    const double cy = (double)m->h / 2, cx = (double)m->w / 2;
    const double oy = (double)y + (i + 0.5) / n - cy, ox = (double)x + (j + 0.5) / n - cx;
    *sx = a->m[0] * ox + a->m[1] * oy + a->m[2] + cx;
    *sy = a->m[3] * ox + a->m[4] * oy + a->m[5] + cy;
}

md_status image_mask_warp(const image *mask, const image_affine *a, image *out)
{
    image im;
    MD_TRY(check(mask));
    MD_TRY(image_new(&im, mask->h, mask->w, 1));
    const int n = density(a);
    for (int64_t y = 0; y < im.h; y++)
        for (int64_t x = 0; x < im.w; x++) {
            int hits = 0;
            for (int k = 0; k < n * n; k++) {
                double sy, sx;
                source_of(mask, a, y, x, k / n, k % n, n, &sy, &sx);
                /* written so that a NaN is outside */
                if (sy >= 0 && sx >= 0 && sy < (double)mask->h && sx < (double)mask->w)
                    hits += mask->px[(int64_t)sy * mask->w + (int64_t)sx] != 0;
            }
            im.px[y * im.w + x] = 2 * hits >= n * n;
        }
    *out = im;
    return MD_OK;
}

/* Bilinear value of channel ch at (sy,sx), the border repeating. */
static double sample(const image *m, double sy, double sx, int ch)
{
    const double y = fmin(fmax(sy - 0.5, 0), (double)(m->h - 1));
    const double x = fmin(fmax(sx - 0.5, 0), (double)(m->w - 1));
    const int64_t y0 = (int64_t)y, x0 = (int64_t)x;
    const int64_t y1 = y0 + 1 < m->h ? y0 + 1 : y0, x1 = x0 + 1 < m->w ? x0 + 1 : x0;
    const double fy = y - (double)y0, fx = x - (double)x0;
    const uint8_t *p = m->px + ch;
    const double top = p[(y0 * m->w + x0) * m->c] * (1 - fx) + p[(y0 * m->w + x1) * m->c] * fx;
    const double low = p[(y1 * m->w + x0) * m->c] * (1 - fx) + p[(y1 * m->w + x1) * m->c] * fx;
    return top * (1 - fy) + low * fy;
}

md_status image_warp(const image *src, const image_affine *a, image *out)
{
    image im;
    MD_TRY(image_new(&im, src->h, src->w, src->c));
    const int dense = density(a),
              n = dense > 4 ? dense / 2 : 1; /* bilinear needs less than nearest */
    for (int64_t y = 0; y < im.h; y++)
        for (int64_t x = 0; x < im.w; x++) {
            double sum[3] = {0};
            for (int k = 0; k < n * n; k++) {
                double sy, sx;
                source_of(src, a, y, x, k / n, k % n, n, &sy, &sx);
                for (int ch = 0; ch < im.c; ch++)
                    sum[ch] += sample(src, sy, sx, ch);
            }
            for (int ch = 0; ch < im.c; ch++)
                im.px[(y * im.w + x) * im.c + ch] = (uint8_t)(sum[ch] / (n * n) + 0.5);
        }
    *out = im;
    return MD_OK;
}

/* ---- polygons */

typedef struct crossing {
    double x;
    int winding;
} crossing;

static int by_x(const void *a, const void *b)
{
    double x = ((const crossing *)a)->x, y = ((const crossing *)b)->x;
    return (x > y) - (x < y);
}

/* Where the row through y meets the polygon's edges, from left to right. */
static int64_t row_crossings(const double *xy, int64_t n, double y, crossing *out)
{
    int64_t count = 0;
    for (int64_t i = 0, j = n - 1; i < n; j = i++) {
        const double x0 = xy[2 * j], y0 = xy[2 * j + 1], x1 = xy[2 * i], y1 = xy[2 * i + 1];
        if ((y0 <= y) != (y1 <= y))
            out[count++] = (crossing){x0 + (y - y0) / (y1 - y0) * (x1 - x0), y0 < y1 ? 1 : -1};
    }
    qsort(out, (size_t)count, sizeof *out, by_x);
    return count;
}

md_status image_mask_fill_polygon(image *mask, const double *xy, int64_t n)
{
    MD_TRY(check(mask));
    crossing *at = malloc((size_t)(n > 0 ? n : 1) * sizeof *at);
    if (!at)
        MD_FAIL(MD_NOMEM, "no memory for a polygon of %lld points", (long long)n);
    for (int64_t y = 0; y < mask->h; y++) {
        int64_t count = row_crossings(xy, n, (double)y, at);
        int winding = 0;
        for (int64_t i = 0; i + 1 < count; i++) {
            winding += at[i].winding;
            if (winding == 0)
                continue;
            const double from = fmax(ceil(at[i].x), 0);
            const double to = fmin(floor(at[i + 1].x), (double)mask->w - 1);
            for (double x = from; x <= to; x++)
                mask->px[y * mask->w + (int64_t)x] = 1;
        }
    }
    free(at);
    return MD_OK;
}
