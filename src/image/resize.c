/* Separable resampling after Pillow's libImaging/Resample.c (precompute_coeffs, 22-bit fixed point,
   horizontal pass first, u8 between the passes), written anew; the plane version keeps floats. */
#include "image/resize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* For output i: source pixels first[i] .. first[i]+n[i]-1 with weights k[i*size ..]. */
typedef struct taps {
    int64_t size;
    int64_t *first, *n;
    double *k;
} taps;

static double sinc(double x)
{
    if (x == 0)
        return 1;
    x *= 3.14159265358979323846;
    return sin(x) / x;
}

static double weight(image_filter f, double x)
{
    if (f == IMAGE_BOX)
        return x > -0.5 && x <= 0.5 ? 1 : 0;
    if (f == IMAGE_LANCZOS)
        return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
    x = fabs(x);
    if (f == IMAGE_BILINEAR)
        return x < 1 ? 1 - x : 0;
    /* bicubic, a = -0.5 */
    if (x < 1)
        return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? ((x - 5) * x + 8) * x * -0.5 + 2 : 0;
}

static double support_of(image_filter f)
{
    return f == IMAGE_BOX ? 0.5 : f == IMAGE_BILINEAR ? 1 : f == IMAGE_BICUBIC ? 2 : 3;
}

static void taps_free(taps *t)
{
    free(t->first);
    free(t->n);
    free(t->k);
}

static int64_t clamp(int64_t v, int64_t lo, int64_t hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

/* One output position. Returns the sum of the weights. */
static double fill_taps(image_filter f, int64_t in, double start, double scale, int64_t i,
                        int64_t *first, int64_t *n, double *k)
{
    const double fs = scale < 1 ? 1 : scale, a = start + (double)i * scale, b = a + scale;
    double sum = 0;
    if (f == IMAGE_NEAREST) {
        *first = clamp((int64_t)floor(start + ((double)i + 0.5) * scale), 0, in - 1);
        *n = 1;
        return k[0] = 1;
    }
    if (f == IMAGE_AREA) {
        const int64_t lo = clamp((int64_t)floor(a), 0, in - 1);
        const int64_t hi = clamp((int64_t)ceil(b), lo + 1, in);
        for (int64_t s = lo; s < hi; s++) {
            const double part = fmin(b, (double)(s + 1)) - fmax(a, (double)s);
            sum += k[s - lo] = part > 0 ? part : 0;
        }
        *first = lo;
        *n = hi - lo;
        if (sum <= 0)
            sum = k[0] = 1;
        return sum;
    }
    const double center = start + ((double)i + 0.5) * scale, support = support_of(f) * fs;
    const int64_t lo = clamp((int64_t)(center - support + 0.5), 0, in);
    const int64_t hi = clamp((int64_t)(center + support + 0.5), lo, in);
    for (int64_t s = lo; s < hi; s++)
        sum += k[s - lo] = weight(f, ((double)s - center + 0.5) * (1 / fs));
    *first = lo;
    *n = hi - lo;
    return sum;
}

static md_status taps_make(image_filter f, int64_t in, double start, double end, int64_t out,
                           taps *t)
{
    const double scale = (end - start) / (double)out, fs = scale < 1 ? 1 : scale;
    if (f == IMAGE_NEAREST)
        t->size = 1;
    else if (f == IMAGE_AREA)
        t->size = (int64_t)ceil(scale) + 2;
    else
        t->size = (int64_t)ceil(support_of(f) * fs) * 2 + 1;
    t->first = calloc((size_t)out, sizeof *t->first);
    t->n = calloc((size_t)out, sizeof *t->n);
    t->k = calloc((size_t)(out * t->size), sizeof *t->k);
    if (!t->first || !t->n || !t->k) {
        taps_free(t);
        MD_FAIL(MD_NOMEM, "no memory for the weights of a resize from %lld to %lld", (long long)in,
                (long long)out);
    }
    for (int64_t i = 0; i < out; i++) {
        double *k = t->k + i * t->size;
        const double sum = fill_taps(f, in, start, scale, i, &t->first[i], &t->n[i], k);
        for (int64_t s = 0; s < t->n[i] && sum != 0; s++)
            k[s] /= sum;
    }
    return MD_OK;
}

enum { BITS = 22 };

static uint8_t clip8(int64_t v)
{
    v >>= BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static int64_t *fixed_point(const taps *t, int64_t out)
{
    int64_t *k = malloc((size_t)(out * t->size) * sizeof *k);
    for (int64_t i = 0; k && i < out * t->size; i++)
        k[i] = (int64_t)(t->k[i] * (1 << BITS) + (t->k[i] < 0 ? -0.5 : 0.5));
    return k;
}

/* rows [n,sw,c] -> [n,w,c] */
static void pass_x(const uint8_t *src, int64_t n, int64_t sw, int c, const taps *t,
                   const int64_t *k, uint8_t *dst, int64_t w)
{
    for (int64_t y = 0; y < n; y++)
        for (int64_t x = 0; x < w; x++) {
            const uint8_t *p = src + (y * sw + t->first[x]) * c;
            const int64_t *kx = k + x * t->size;
            for (int ch = 0; ch < c; ch++) {
                int64_t sum = 1 << (BITS - 1);
                for (int64_t s = 0; s < t->n[x]; s++)
                    sum += p[s * c + ch] * kx[s];
                dst[(y * w + x) * c + ch] = clip8(sum);
            }
        }
}

/* [sh,row] -> [h,row], row = w*c values */
static void pass_y(const uint8_t *src, int64_t row, const taps *t, const int64_t *k, uint8_t *dst,
                   int64_t h)
{
    for (int64_t y = 0; y < h; y++)
        for (int64_t i = 0; i < row; i++) {
            const uint8_t *p = src + t->first[y] * row + i;
            const int64_t *ky = k + y * t->size;
            int64_t sum = 1 << (BITS - 1);
            for (int64_t s = 0; s < t->n[y]; s++)
                sum += p[s * row] * ky[s];
            dst[y * row + i] = clip8(sum);
        }
}

static md_status check_box(int64_t h, int64_t w, image_box box)
{
    if (!(box.y0 >= 0 && box.x0 >= 0 && box.y1 <= (double)h && box.x1 <= (double)w &&
          box.y0 < box.y1 && box.x0 < box.x1))
        MD_FAIL(MD_INTERNAL, "box (%g, %g)-(%g, %g) of an image of %lld x %lld", box.y0, box.x0,
                box.y1, box.x1, (long long)h, (long long)w);
    return MD_OK;
}

md_status image_resize_box(const image *src, image_box box, int64_t h, int64_t w,
                           image_filter filter, image *out)
{
    MD_TRY(check_box(src->h, src->w, box));
    md_status status;
    image im = {0}, mid = {0};
    taps tx = {0}, ty = {0};
    int64_t *kx = NULL, *ky = NULL;
    MD_TRY_GOTO(image_new(&im, h, w, src->c), fail);
    MD_TRY_GOTO(taps_make(filter, src->w, box.x0, box.x1, w, &tx), fail_im);
    MD_TRY_GOTO(taps_make(filter, src->h, box.y0, box.y1, h, &ty), fail_tx);
    kx = fixed_point(&tx, w);
    ky = fixed_point(&ty, h);
    if (!kx || !ky) {
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "no memory for the weights of a resize");
        goto done;
    }
    /* As PIL: a direction that keeps its pixels is not filtered; only the rows in use are. */
    const int keep_x = w == src->w && box.x0 == 0 && box.x1 == (double)src->w;
    const int keep_y = h == src->h && box.y0 == 0 && box.y1 == (double)src->h;
    const uint8_t *px = src->px;
    if (!keep_x && !keep_y) {
        const int64_t top = ty.first[0], rows = ty.first[h - 1] + ty.n[h - 1] - top;
        MD_TRY_GOTO(image_new(&mid, rows, w, src->c), done);
        pass_x(px + top * src->w * src->c, rows, src->w, src->c, &tx, kx, mid.px, w);
        for (int64_t y = 0; y < h; y++)
            ty.first[y] -= top;
        pass_y(mid.px, w * src->c, &ty, ky, im.px, h);
    } else if (!keep_x) {
        pass_x(px, h, src->w, src->c, &tx, kx, im.px, w);
    } else if (!keep_y) {
        pass_y(px, w * src->c, &ty, ky, im.px, h);
    } else {
        memcpy(im.px, px, (size_t)(h * w) * (size_t)src->c);
    }
    *out = im;
    im = (image){0};
    status = MD_OK;
done:
    free(kx);
    free(ky);
    image_free(&mid);
    taps_free(&ty);
fail_tx:
    taps_free(&tx);
fail_im:
    image_free(&im);
fail:
    return status;
}

md_status image_resize(const image *src, int64_t h, int64_t w, image_filter filter, image *out)
{
    return image_resize_box(src, (image_box){0, 0, (double)src->h, (double)src->w}, h, w, filter,
                            out);
}

static md_status check_plane(int64_t sh, int64_t sw, int64_t h, int64_t w)
{
    if (sh < 1 || sw < 1 || h < 1 || w < 1)
        MD_FAIL(MD_INTERNAL, "resize of a plane from %lld x %lld to %lld x %lld", (long long)sh,
                (long long)sw, (long long)h, (long long)w);
    return MD_OK;
}

md_status image_resize_plane_box(const float *src, int64_t sh, int64_t sw, image_box box,
                                 float *dst, int64_t h, int64_t w, image_filter filter)
{
    MD_TRY(check_plane(sh, sw, h, w));
    MD_TRY(check_box(sh, sw, box));
    md_status status;
    taps tx = {0}, ty = {0};
    MD_TRY(taps_make(filter, sw, box.x0, box.x1, w, &tx));
    MD_TRY_GOTO(taps_make(filter, sh, box.y0, box.y1, h, &ty), fail_tx);
    double *mid = malloc((size_t)(sh * w) * sizeof *mid); /* [sh,w] */
    if (!mid) {
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "no memory for a resize");
        goto fail_ty;
    }
    for (int64_t y = 0; y < sh; y++)
        for (int64_t x = 0; x < w; x++) {
            double sum = 0;
            for (int64_t s = 0; s < tx.n[x]; s++)
                sum += (double)src[y * sw + tx.first[x] + s] * tx.k[x * tx.size + s];
            mid[y * w + x] = sum;
        }
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++) {
            double sum = 0;
            for (int64_t s = 0; s < ty.n[y]; s++)
                sum += mid[(ty.first[y] + s) * w + x] * ty.k[y * ty.size + s];
            dst[y * w + x] = (float)sum;
        }
    free(mid);
    status = MD_OK;
fail_ty:
    taps_free(&ty);
fail_tx:
    taps_free(&tx);
    return status;
}

/* Covered shares by exact areas, in floats: with 8 bits between the passes a quarter of a pixel
   could round to a half, and that to one. */
static md_status mask_by_area(const image *src, image_box box, image *out)
{
    float *wide = malloc((size_t)(src->h * src->w) * sizeof *wide);
    float *cover = malloc((size_t)(out->h * out->w) * sizeof *cover);
    md_status status =
        wide && cover ? MD_OK : md_fail(MD_NOMEM, __FILE__, __LINE__, "no memory to resize a mask");
    for (int64_t i = 0; i < src->h * src->w && status == MD_OK; i++)
        wide[i] = src->px[i] ? 1 : 0;
    if (status == MD_OK)
        status =
            image_resize_plane_box(wide, src->h, src->w, box, cover, out->h, out->w, IMAGE_AREA);
    for (int64_t i = 0; i < out->h * out->w && status == MD_OK; i++)
        out->px[i] = cover[i] >= 0.5f - 1e-6f; /* half, rounding of the sum included */
    free(cover);
    free(wide);
    return status;
}

static md_status mask_by_filter(const image *src, image_box box, image_filter filter, image *out)
{
    image full = {0}, part = {0};
    MD_TRY(image_copy(src, &full));
    for (int64_t i = 0; i < full.h * full.w; i++)
        full.px[i] = full.px[i] ? 255 : 0;
    md_status status = image_resize_box(&full, box, out->h, out->w, filter, &part);
    for (int64_t i = 0; i < out->h * out->w && status == MD_OK; i++)
        out->px[i] = part.px[i] >= 128;
    image_free(&part);
    image_free(&full);
    return status;
}

md_status image_resize_mask_box(const image *src, image_box box, int64_t h, int64_t w,
                                image_filter filter, image *out)
{
    image im = {0};
    if (src->c != 1)
        MD_FAIL(MD_INTERNAL, "a mask has one channel, not %d", src->c);
    MD_TRY(image_new(&im, h, w, 1));
    const md_status status =
        filter == IMAGE_AREA ? mask_by_area(src, box, &im) : mask_by_filter(src, box, filter, &im);
    if (status == MD_OK)
        *out = im;
    else
        image_free(&im);
    return status;
}

md_status image_resize_plane(const float *src, int64_t sh, int64_t sw, float *dst, int64_t h,
                             int64_t w, image_filter filter)
{
    return image_resize_plane_box(src, sh, sw, (image_box){0, 0, (double)sh, (double)sw}, dst, h, w,
                                  filter);
}

md_status image_max_pool_plane(const float *src, int64_t sh, int64_t sw, float *dst, int64_t h,
                               int64_t w)
{
    MD_TRY(check_plane(sh, sw, h, w));
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++) {
            /* integer edges: floor(y*sh/h) .. ceil((y+1)*sh/h), so nothing is lost to rounding */
            const int64_t y0 = y * sh / h, y1 = ((y + 1) * sh + h - 1) / h;
            const int64_t x0 = x * sw / w, x1 = ((x + 1) * sw + w - 1) / w;
            float best = src[y0 * sw + x0];
            for (int64_t sy = y0; sy < y1; sy++)
                for (int64_t sx = x0; sx < x1; sx++)
                    if (src[sy * sw + sx] > best)
                        best = src[sy * sw + sx];
            dst[y * w + x] = best;
        }
    return MD_OK;
}
