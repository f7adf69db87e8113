#include "image/mask_sketch.h"
#include "image/shape.h"
#include <math.h>
#include <stdlib.h>

static const double PI = 3.14159265358979323846;
static const double BLUR = 0.1, MOST = 3; /* deviations */

static const image_sketch nothing = {
    .y = 0.5, .x = 0.5, .value = {[IMAGE_SKETCH_SOLIDITY] = 1, [IMAGE_SKETCH_RIM] = 1}};

/* Area, centroid and second moments, each pixel a square that the mask covers as its distance from
   the edge says: at a small picture's edge half pixels count. */
static void see_ellipse(const image_field_view *v, const float *picture, image_sketch *s)
{
    double e = (double)v->edge, slope = v->ramp_px * e / (double)v->size;
    double n = 0, y = 0, x = 0, yy = 0, xx = 0, yx = 0;
    for (int64_t i = 0; i < v->edge * v->edge; i++) {
        double w = fmin(fmax(0.5 + slope * (double)picture[i], 0), 1);
        double py = ((double)(i / v->edge) + 0.5) / e, px = ((double)(i % v->edge) + 0.5) / e;
        n += w;
        y += w * py;
        x += w * px;
        yy += w * py * py;
        xx += w * px * px;
        yx += w * py * px;
    }
    s->area = n / (e * e);
    s->y = y / n;
    s->x = x / n;
    yy = yy / n - s->y * s->y;
    xx = xx / n - s->x * s->x;
    yx = yx / n - s->y * s->x;
    double middle = (yy + xx) / 2 + 1 / (12 * e * e), apart = hypot((xx - yy) / 2, yx);
    s->angle = atan2(2 * yx, xx - yy) / 2;
    s->value[IMAGE_SKETCH_RATIO] = log((middle + apart) / (middle - apart)) / 2;
}

md_status image_sketch_measure(const image_field_view *v, const float *picture, image_sketch *out)
{
    image m = {0};
    image_shape shape;
    image_sketch s = nothing;
    MD_TRY(image_new(&m, v->edge, v->edge, 1));
    for (int64_t i = 0; i < v->edge * v->edge; i++)
        m.px[i] = picture[i] > 0;
    md_status status = image_shape_measure(&m, &shape);
    if (status == MD_OK && shape.value[IMAGE_SHAPE_AREA] > 0) {
        see_ellipse(v, picture, &s);
        s.value[IMAGE_SKETCH_SOLIDITY] = shape.value[IMAGE_SHAPE_SOLIDITY];
        s.value[IMAGE_SKETCH_RIM] =
            shape.value[IMAGE_SHAPE_PERIMETER] / (2 * sqrt(PI * shape.value[IMAGE_SHAPE_AREA]));
    }
    image_free(&m);
    *out = s;
    return status;
}

md_status image_sketch_spread_of(const image_field_view *v, const float *fields, int64_t n,
                                 image_sketch_spread *out)
{
    const image_affine still = image_affine_make(0, 0, 1, 0, 0);
    double squares[IMAGE_SKETCH_N] = {0};
    image_sketch_spread of = {0};
    image_sketch s;
    md_status status = MD_OK;
    float *picture = malloc((size_t)(v->edge * v->edge) * sizeof *picture);
    if (!picture)
        MD_FAIL(MD_NOMEM, "masks: out of memory");
    for (int64_t i = 0; i < n && status == MD_OK; i++) {
        image_field_picture(v, fields + i * v->size * v->size, &still, picture);
        status = image_sketch_measure(v, picture, &s);
        for (int k = 0; k < IMAGE_SKETCH_N && status == MD_OK; k++) {
            of.mean[k] += s.value[k] / (double)n;
            squares[k] += s.value[k] * s.value[k] / (double)n;
        }
    }
    free(picture);
    for (int k = 0; k < IMAGE_SKETCH_N; k++)
        of.deviation[k] = sqrt(fmax(squares[k] - of.mean[k] * of.mean[k], 0));
    *out = of;
    return status;
}

void image_sketch_blur(image_sketch *s, const image_sketch_spread *of, md_rng *r)
{
    float z[IMAGE_SKETCH_N];
    md_rng_normal_fill(r, z, IMAGE_SKETCH_N);
    for (int k = 0; k < IMAGE_SKETCH_N; k++)
        s->value[k] += BLUR * of->deviation[k] * (double)z[k];
}

/* The ellipse in its own axes, what every pixel asks of it. */
typedef struct ellipse {
    double cosine, sine, long2, short2; /* axes squared */
} ellipse;

static ellipse ellipse_of(const image_sketch *s)
{
    double stretch = exp(s->value[IMAGE_SKETCH_RATIO]);
    return (ellipse){.cosine = cos(s->angle),
                     .sine = sin(s->angle),
                     .long2 = s->area / PI * stretch,
                     .short2 = s->area / PI / stretch};
}

/* Signed distance to its edge to first order from (dy,dx) off its centre, in edges of the square.
 */
static double distance(const ellipse *o, double dy, double dx)
{
    double along = o->cosine * dx + o->sine * dy, across = o->cosine * dy - o->sine * dx,
           slope = 2 * hypot(along / o->long2, across / o->short2);
    return (1 - along * along / o->long2 - across * across / o->short2) / fmax(slope, 1e-9);
}

void image_sketch_draw(const image_sketch *s, const image_sketch_spread *of,
                       const image_field_view *v, float *planes)
{
    double ramp = v->ramp_px / (double)v->size, e = (double)v->edge, z[IMAGE_SKETCH_N];
    ellipse o = ellipse_of(s);
    for (int k = 0; k < IMAGE_SKETCH_N; k++) /* all training masks may be discs */
        z[k] = fmin(fmax((s->value[k] - of->mean[k]) / fmax(of->deviation[k], 1e-6), -MOST), MOST);
    for (int64_t i = 0; i < v->edge * v->edge; i++) {
        double y = ((double)(i / v->edge) + 0.5) / e, x = ((double)(i % v->edge) + 0.5) / e,
               d = s->area > 0 ? distance(&o, y - s->y, x - s->x) : -1;
        planes[IMAGE_SKETCH_PLANES * i] = (float)fmin(fmax(d / ramp, -1), 1);
        planes[IMAGE_SKETCH_PLANES * i + 1] = (float)z[IMAGE_SKETCH_SOLIDITY];
        planes[IMAGE_SKETCH_PLANES * i + 2] = (float)z[IMAGE_SKETCH_RIM];
    }
}

static double within(double x, double least, double most)
{
    return fmin(fmax(x, least), most);
}

/* Sums over draws of a value as it was told (t) and drawn (d), in deviations, over their number. */
typedef struct moments {
    double t, d, tt, dd, td;
} moments;

static moments moments_of(const image_sketch_spread *of, int k, const image_sketch *told,
                          const image_sketch *drawn, int n)
{
    double unit = fmax(of->deviation[k], 1e-6);
    moments m = {0};
    for (int i = 0; i < n; i++) {
        double t = (told[i].value[k] - of->mean[k]) / unit,
               d = (drawn[i].value[k] - of->mean[k]) / unit;
        m.t += t / n;
        m.d += d / n;
        m.tt += t * t / n;
        m.dd += d * d / n;
        m.td += t * d / n;
    }
    return m;
}

/* d = offset + slope t + noise. Told t / s, the draws are spread as t where slope^2 / s^2 var(t) +
   var(noise) = var(t); for noise room is made up to three quarters of that. */
static double told_slope(const moments *m)
{
    double t = m->tt - m->t * m->t, d = m->dd - m->d * m->d;
    if (t < 1e-3) /* all were told the same: no slope is seen */
        return 1;
    double slope = (m->td - m->t * m->d) / t, noise = d / t - slope * slope;
    return slope / sqrt(fmax(1 - noise, 0.25));
}

void image_sketch_spread_adjust(const image_sketch_spread *trained, const image_sketch *told,
                                const image_sketch *drawn, int n, image_sketch_spread *of)
{
    for (int k = IMAGE_SKETCH_SOLIDITY; k < IMAGE_SKETCH_N && n; k++) {
        moments m = moments_of(of, k, told, drawn, n);
        double was = of->deviation[k], most = trained->deviation[k];
        of->deviation[k] = within(was * told_slope(&m), most / 2, most);
        double slope = was > 0 ? of->deviation[k] / was : 1;
        of->mean[k] = within(of->mean[k] + was * (m.d - slope * m.t), trained->mean[k] - most,
                             trained->mean[k] + most);
    }
}

md_status image_sketch_planes(const image_field_view *v, const float *picture,
                              const image_sketch_spread *of, md_rng *r, float *planes)
{
    image_sketch s;
    MD_TRY(image_sketch_measure(v, picture, &s));
    image_sketch_blur(&s, of, r);
    image_sketch_draw(&s, of, v, planes);
    return MD_OK;
}
