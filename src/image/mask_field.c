#include "image/mask_field.h"
#include <math.h>
#include <stdlib.h>

static const double PI = 3.14159265358979323846;

md_status image_mask_field(const image *mask, float *d)
{
    int64_t n = mask->h * mask->w, *in = malloc((size_t)(2 * n) * sizeof *in), *out = in + n;
    if (!in)
        MD_FAIL(MD_NOMEM, "no memory for the distances of %lld x %lld", (long long)mask->h,
                (long long)mask->w);
    md_status status = image_mask_distance2(mask, 1, in);
    if (status == MD_OK)
        status = image_mask_distance2(mask, 0, out);
    float far = (float)(mask->h + mask->w);
    for (int64_t i = 0; i < n && status == MD_OK; i++) {
        /* the edge lies half a pixel before the nearest centre of the other kind */
        int64_t to = mask->px[i] ? out[i] : in[i];
        float distance = to == INT64_MAX ? far : sqrtf((float)to) - 0.5F;
        d[i] = mask->px[i] ? distance : -distance;
    }
    free(in);
    return status;
}

static int64_t within(int64_t i, int64_t n)
{
    return i < 0 ? 0 : i >= n ? n - 1 : i;
}

/* Bilinear value at (y,x), pixel centres at whole numbers, the border repeating. */
static double linear_at(const float *f, int64_t n, double y, double x)
{
    double fy = floor(y), fx = floor(x), v = y - fy, u = x - fx;
    const float *top = f + within((int64_t)fy, n) * n, *low = f + within((int64_t)fy + 1, n) * n;
    int64_t x0 = within((int64_t)fx, n), x1 = within((int64_t)fx + 1, n);
    return (1 - v) * ((1 - u) * (double)top[x0] + u * (double)top[x1]) +
           v * ((1 - u) * (double)low[x0] + u * (double)low[x1]);
}

static void spline_weights(double t, double w[4])
{
    w[0] = ((-t + 2) * t - 1) * t / 2;
    w[1] = ((3 * t - 5) * t * t + 2) / 2;
    w[2] = ((-3 * t + 4) * t + 1) * t / 2;
    w[3] = (t - 1) * t * t / 2;
}

static double spline_at(const float *f, int64_t n, double y, double x)
{
    double wy[4], wx[4], sum = 0, fy = floor(y), fx = floor(x);
    spline_weights(y - fy, wy);
    spline_weights(x - fx, wx);
    for (int i = 0; i < 4; i++) {
        const float *row = f + within((int64_t)fy + i - 1, n) * n;
        double line = 0;
        for (int k = 0; k < 4; k++)
            line += wx[k] * (double)row[within((int64_t)fx + k - 1, n)];
        sum += wy[i] * line;
    }
    return sum;
}

/* Where the centre of output pixel (y,x) comes from, both in pixels of the mask's square. */
static void source_of(const image_affine *a, double half, double y, double x, double *sy,
                      double *sx)
{
    double oy = y - half, ox = x - half;
    *sx = a->m[0] * ox + a->m[1] * oy + a->m[2] + half;
    *sy = a->m[3] * ox + a->m[4] * oy + a->m[5] + half;
}

image_affine image_affine_jitter(md_rng *r, double strength, double edge)
{
    static const double DEGREES = 15, SCALE = 0.15, SHIFT = 0.05;
    int flip = md_rng_below(r, 2) && strength > 0;
    double turn = strength * md_rng_range(r, -DEGREES, DEGREES);
    double scale = exp(strength * log(1 + SCALE) * md_rng_range(r, -1, 1));
    double dx = strength * edge * md_rng_range(r, -SHIFT, SHIFT);
    double dy = strength * edge * md_rng_range(r, -SHIFT, SHIFT);
    return image_affine_make(flip, turn, scale, dx, dy);
}

/* A smooth random field of displacements: plane waves with normal coefficients. */
enum { WAVES = 6 };
typedef struct bend {
    int n; /* of waves */
    struct {
        double ky, kx, y[2], x[2]; /* displacements: of cosine and sine of ky y + kx x */
    } wave[WAVES];
} bend;

static double radius_of(const float *field, int64_t size)
{
    int64_t inside = 0;
    for (int64_t i = 0; i < size * size; i++)
        inside += field[i] > 0;
    return sqrt((double)inside / PI);
}

static bend bend_draw(md_rng *r, double warp, double radius)
{
    static const double LENGTH = 4, SPREAD = 0.35; /* in radii; log of the longest over that */
    bend b = {.n = warp > 0 && radius > 0 ? WAVES : 0};
    for (int i = 0; i < b.n; i++) {
        double k = 2 * PI / (LENGTH * radius * exp(md_rng_range(r, -SPREAD, SPREAD))),
               angle = md_rng_range(r, 0, 2 * PI), size = warp * radius / sqrt(WAVES);
        float z[4];
        md_rng_normal_fill(r, z, 4);
        b.wave[i].ky = k * sin(angle);
        b.wave[i].kx = k * cos(angle);
        for (int c = 0; c < 2; c++) {
            b.wave[i].y[c] = size * (double)z[c];
            b.wave[i].x[c] = size * (double)z[2 + c];
        }
    }
    return b;
}

/* A walk over it in even steps: the waves' cosines and sines, and those of a step. */
typedef struct walk {
    double c[WAVES], s[WAVES], step_c[WAVES], step_s[WAVES];
} walk;

static void walk_from(walk *w, const bend *b, double y, double x, double dy, double dx)
{
    for (int i = 0; i < b->n; i++) {
        double at = b->wave[i].ky * y + b->wave[i].kx * x,
               step = b->wave[i].ky * dy + b->wave[i].kx * dx;
        w->c[i] = cos(at);
        w->s[i] = sin(at);
        w->step_c[i] = cos(step);
        w->step_s[i] = sin(step);
    }
}

/* Moves (y,x) by the displacement there, then steps on. */
static void walk_on(walk *w, const bend *b, double *y, double *x)
{
    for (int i = 0; i < b->n; i++) {
        double c = w->c[i], s = w->s[i];
        *y += b->wave[i].y[0] * c + b->wave[i].y[1] * s;
        *x += b->wave[i].x[0] * c + b->wave[i].x[1] * s;
        w->c[i] = c * w->step_c[i] - s * w->step_s[i];
        w->s[i] = s * w->step_c[i] + c * w->step_s[i];
    }
}

static void see(const image_field_view *v, const float *field, const image_affine *a, const bend *b,
                float *picture)
{
    double f = (double)v->size / (double)v->edge, half = (double)v->size / 2, sy, sx;
    double scale = 1 / sqrt(fabs(a->m[0] * a->m[4] - a->m[1] * a->m[3]));
    walk w;
    for (int64_t y = 0; y < v->edge; y++) {
        source_of(a, half, ((double)y + 0.5) * f, 0.5 * f, &sy, &sx);
        walk_from(&w, b, sy, sx, a->m[3] * f, a->m[0] * f);
        for (int64_t x = 0; x < v->edge; x++) {
            source_of(a, half, ((double)y + 0.5) * f, ((double)x + 0.5) * f, &sy, &sx);
            walk_on(&w, b, &sy, &sx);
            /* far beyond the field every place is its border, and no whole number overflows */
            sy = fmin(fmax(sy, -half), 3 * half);
            sx = fmin(fmax(sx, -half), 3 * half);
            double d = scale * linear_at(field, v->size, sy - 0.5, sx - 0.5) / v->ramp_px;
            picture[y * v->edge + x] = (float)fmin(fmax(d, -1), 1);
        }
    }
}

void image_field_picture(const image_field_view *v, const float *field, const image_affine *a,
                         float *picture)
{
    const bend none = {.n = 0};
    see(v, field, a, &none, picture);
}

void image_field_augment(const image_field_view *v, const float *field, double move, double warp,
                         md_rng *r, float *picture)
{
    image_affine a = image_affine_jitter(r, move, (double)v->size);
    bend b = bend_draw(r, warp, warp > 0 ? radius_of(field, v->size) : 0);
    see(v, field, &a, &b, picture);
}

md_status image_picture_mask(const image_field_view *v, const float *picture, const image_affine *a,
                             double level, image *out)
{
    image im;
    double f = (double)v->edge / (double)v->size, half = (double)v->size / 2, sy, sx;
    MD_TRY(image_new(&im, v->size, v->size, 1));
    for (int64_t y = 0; y < v->size; y++)
        for (int64_t x = 0; x < v->size; x++) {
            source_of(a, half, (double)y + 0.5, (double)x + 0.5, &sy, &sx);
            sy = fmin(fmax(sy, -half), 3 * half) * f - 0.5;
            sx = fmin(fmax(sx, -half), 3 * half) * f - 0.5;
            im.px[y * v->size + x] = spline_at(picture, v->edge, sy, sx) > level;
        }
    *out = im;
    return MD_OK;
}
