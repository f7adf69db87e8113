/* The figures as one: checks, the Frechet distance, copies, JSON. The figures made of nearest
   neighbours stand in figures_near.c. */
#include "generate/figures.h"

#include "base/rng.h"
#include "generate/figures_internal.h"

#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

md_status figures__check(const char *name, int64_t d, figures_set s)
{
    if (d < 1 || s.n < 0 || s.n > INT32_MAX || d > INT32_MAX)
        MD_FAIL(MD_SHAPE, "figures: %s: %lld rows of %lld features", name, (long long)s.n,
                (long long)d);
    for (int64_t i = 0; i < s.n * d; i++)
        if (!isfinite(s.x[i]))
            MD_FAIL(MD_NONFINITE, "figures: %s: feature %lld of row %lld is not finite", name,
                    (long long)(i % d), (long long)(i / d));
    return MD_OK;
}

/* A set's mean [d], and `rank` rows r[rank,d] with r^T r = the covariance (divisor n - 1): the
   centred rows themselves or, where there are more than d of them, the d columns of L in the LQ
   factors of their transpose. */
typedef struct gaussian {
    double *mean, *r;
    int64_t rank;
} gaussian;

static void gaussian_free(gaussian *g)
{
    free(g->mean);
    free(g->r);
    *g = (gaussian){0};
}

static md_status shorten(gaussian *g, int64_t d, int64_t n)
{
    double *tau = malloc((size_t)d * sizeof *tau);
    /* r [n,d] by rows is its transpose [d,n] by columns */
    lapack_int bad = tau ? LAPACKE_dgelqf(LAPACK_COL_MAJOR, (lapack_int)d, (lapack_int)n, g->r,
                                          (lapack_int)d, tau)
                         : LAPACK_WORK_MEMORY_ERROR;
    free(tau);
    if (bad)
        MD_FAIL(bad == LAPACK_WORK_MEMORY_ERROR ? MD_NOMEM : MD_INTERNAL,
                "Frechet distance: LQ factors of %lld x %lld: code %d", (long long)d, (long long)n,
                (int)bad);
    for (int64_t j = 1; j < d; j++) /* above L's diagonal */
        memset(g->r + j * d, 0, (size_t)j * sizeof *g->r);
    g->rank = d;
    return MD_OK;
}

/* Of the rows `pick`[n], or of the first n when that is NULL. */
static md_status gaussian_fit(int64_t d, const float *x, const int64_t *pick, int64_t n,
                              gaussian *g)
{
    *g = (gaussian){.mean = calloc((size_t)d, sizeof *g->mean),
                    .r = malloc((size_t)(n * d) * sizeof *g->r),
                    .rank = n};
    if (!g->mean || !g->r)
        MD_FAIL(MD_NOMEM, "Frechet distance: out of memory for %lld x %lld", (long long)n,
                (long long)d);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < d; k++)
            g->mean[k] += (double)x[(pick ? pick[i] : i) * d + k] / (double)n;
    double scale = 1 / sqrt((double)(n - 1));
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < d; k++)
            g->r[i * d + k] = scale * ((double)x[(pick ? pick[i] : i) * d + k] - g->mean[k]);
    return n > d ? shorten(g, d, n) : MD_OK;
}

/* tr (A B)^(1/2) of the covariances A = a^T a, B = b^T b is the sum of the singular values of
   a b^T, which needs no square root of a singular matrix. */
static md_status root_trace(int64_t d, const gaussian *a, const gaussian *b, double *out)
{
    int64_t m = a->rank, n = b->rank, least = m < n ? m : n;
    double *product = malloc((size_t)(m * n) * sizeof *product);
    double *singular = malloc((size_t)least * sizeof *singular);
    lapack_int bad = LAPACK_WORK_MEMORY_ERROR;
    if (product && singular) {
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) {
                double sum = 0;
                for (int64_t k = 0; k < d; k++)
                    sum += a->r[i * d + k] * b->r[j * d + k];
                product[i * n + j] = sum;
            }
        bad = LAPACKE_dgesdd(LAPACK_COL_MAJOR, 'N', (lapack_int)n, (lapack_int)m, product,
                             (lapack_int)n, singular, NULL, 1, NULL, 1);
        double sum = 0;
        for (int64_t i = 0; i < least && !bad; i++)
            sum += singular[i];
        *out = sum;
    }
    free(product);
    free(singular);
    if (bad)
        MD_FAIL(bad == LAPACK_WORK_MEMORY_ERROR ? MD_NOMEM : MD_INTERNAL,
                "Frechet distance: singular values of %lld x %lld: code %d", (long long)m,
                (long long)n, (int)bad);
    return MD_OK;
}

/* |mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)), Dowson & Landau 1982. */
static md_status distance(int64_t d, const gaussian *a, const gaussian *b, double *out)
{
    double root, sum = 0;
    MD_TRY(root_trace(d, a, b, &root));
    for (int64_t k = 0; k < d; k++)
        sum += (a->mean[k] - b->mean[k]) * (a->mean[k] - b->mean[k]);
    for (int64_t i = 0; i < a->rank * d; i++)
        sum += a->r[i] * a->r[i];
    for (int64_t i = 0; i < b->rank * d; i++)
        sum += b->r[i] * b->r[i];
    *out = fmax(0, sum - 2 * root);
    return MD_OK;
}

/* Of parts of two sets; a pick of NULL takes the first rows. */
static md_status frechet_parts(int64_t d, const float *a, const int64_t *pick_a, int64_t n_a,
                               const float *b, const int64_t *pick_b, int64_t n_b, double *out)
{
    gaussian ga = {0}, gb = {0};
    md_status status = gaussian_fit(d, a, pick_a, n_a, &ga);
    if (status == MD_OK)
        status = gaussian_fit(d, b, pick_b, n_b, &gb);
    if (status == MD_OK)
        status = distance(d, &ga, &gb, out);
    gaussian_free(&ga);
    gaussian_free(&gb);
    return status;
}

md_status figures_frechet(int64_t d, figures_set a, figures_set b, double *out)
{
    MD_TRY(figures__check("the first set", d, a));
    MD_TRY(figures__check("the second set", d, b));
    *out = NAN;
    return a.n < 2 || b.n < 2 ? MD_OK : frechet_parts(d, a.x, NULL, a.n, b.x, NULL, b.n, out);
}

/* m of n rows, all equally likely: the first m of `rows` [n], a permutation that goes on from call
   to call. */
static void draw_rows(md_rng *r, int64_t *rows, int64_t n, int64_t m)
{
    for (int64_t i = 0; i < m; i++) {
        int64_t j = i + md_rng_below(r, n - i), other = rows[j];
        rows[j] = rows[i];
        rows[i] = other;
    }
}

static md_status rows_new(int64_t n, int64_t **out)
{
    int64_t *rows = malloc((size_t)(n > 0 ? n : 1) * sizeof *rows);
    if (!rows)
        MD_FAIL(MD_NOMEM, "figures: out of memory for %lld rows", (long long)n);
    for (int64_t i = 0; i < n; i++)
        rows[i] = i;
    *out = rows;
    return MD_OK;
}

md_status figures_frechet_limit(int64_t d, figures_set a, figures_set b, uint64_t seed, double *out)
{
    enum { PARTS = 5, DRAWS = 4 }; /* 1/2, 5/8, 3/4, 7/8 and all of both sets */
    int64_t *pick_a = NULL, *pick_b = NULL;
    double n = 0, sx = 0, sy = 0, sxx = 0, sxy = 0;
    *out = NAN;
    MD_TRY(figures__check("the first set", d, a));
    MD_TRY(figures__check("the second set", d, b));
    if ((a.n < b.n ? a.n : b.n) / 2 <= d) /* below, the bias is no line in 1/n */
        return MD_OK;
    md_status status = rows_new(a.n, &pick_a);
    if (status == MD_OK)
        status = rows_new(b.n, &pick_b);
    for (int part = 0; part < PARTS; part++)
        for (int draw = 0; draw < (part == PARTS - 1 ? 1 : DRAWS) && status == MD_OK; draw++) {
            md_rng r = md_rng_at(seed, MD_RNG_FIGURES, (uint64_t)part, (uint32_t)draw);
            int64_t n_a = a.n * (4 + part) / 8, n_b = b.n * (4 + part) / 8;
            double x = 8.0 / (4 + part), y = 0, weight = part == PARTS - 1 ? DRAWS : 1;
            draw_rows(&r, pick_a, a.n, n_a);
            draw_rows(&r, pick_b, b.n, n_b);
            status = frechet_parts(d, a.x, pick_a, n_a, b.x, pick_b, n_b, &y);
            n += weight;
            sx += weight * x;
            sy += weight * y;
            sxx += weight * x * x;
            sxy += weight * x * y;
        }
    free(pick_a);
    free(pick_b);
    if (status == MD_OK) { /* the line's value at 1/n = 0; noise may take it below */
        double slope = (n * sxy - sx * sy) / (n * sxx - sx * sx);
        *out = (sy - slope * sx) / n;
    }
    return status;
}

/* frechet_matched and frechet_real: the same part of train against both. */
static md_status frechet_matched(int64_t d, figures_set train, figures_set holdout,
                                 figures_set generated, uint64_t seed, figures *f)
{
    const figures_set set[3] = {train, holdout, generated};
    int64_t *pick[3] = {NULL}, m = INT64_MAX;
    md_status status = MD_OK;
    for (int i = 0; i < 3; i++)
        m = set[i].n < m ? set[i].n : m;
    f->frechet_rows = m;
    f->frechet_matched = f->frechet_real = NAN;
    if (m < 2)
        return MD_OK;
    for (int i = 0; i < 3 && status == MD_OK; i++)
        status = rows_new(set[i].n, &pick[i]);
    double generated_sum = 0, real_sum = 0;
    for (uint32_t draw = 0; draw < FIGURES_DRAWS && status == MD_OK; draw++) {
        double with_generated = 0, with_real = 0;
        for (int i = 0; i < 3; i++) {
            md_rng r = md_rng_at(seed, MD_RNG_FIGURES, 1000 + (uint64_t)i, draw);
            draw_rows(&r, pick[i], set[i].n, m);
        }
        status = frechet_parts(d, train.x, pick[0], m, generated.x, pick[2], m, &with_generated);
        if (status == MD_OK)
            status = frechet_parts(d, train.x, pick[0], m, holdout.x, pick[1], m, &with_real);
        generated_sum += with_generated;
        real_sum += with_real;
    }
    for (int i = 0; i < 3; i++)
        free(pick[i]);
    f->frechet_matched = generated_sum / FIGURES_DRAWS;
    f->frechet_real = real_sum / FIGURES_DRAWS;
    return status;
}

md_status figures_compute(int64_t d, figures_set train, figures_set holdout, figures_set generated,
                          uint64_t seed, figures *out)
{
    figures f = {.d = d, .n_train = train.n, .n_holdout = holdout.n, .n_generated = generated.n};
    MD_TRY(figures__check("real training rows", d, train));
    MD_TRY(figures__check("real rows held out", d, holdout));
    MD_TRY(figures__check("generated rows", d, generated));
    MD_TRY(figures_frechet(d, train, generated, &f.frechet));
    MD_TRY(figures_frechet_limit(d, train, generated, seed, &f.frechet_limit));
    MD_TRY(frechet_matched(d, train, holdout, generated, seed, &f));
    MD_TRY(figures_neighbours(d, train, generated, FIGURES_K, &f));
    MD_TRY(figures_memory(d, train, holdout, generated, &f));
    *out = f;
    return MD_OK;
}

static md_status add(md_text *t, const char *name, double value)
{
    return isfinite(value) ? md_text_add(t, ", \"%s\": %.6g", name, value)
                           : md_text_add(t, ", \"%s\": null", name);
}

md_status figures_json(const figures *f, md_text *t)
{
    MD_TRY(md_text_add(t,
                       "{\"dimension\": %lld, \"train\": %lld, \"holdout\": %lld, "
                       "\"generated\": %lld",
                       (long long)f->d, (long long)f->n_train, (long long)f->n_holdout,
                       (long long)f->n_generated));
    MD_TRY(add(t, "frechet", f->frechet));
    MD_TRY(add(t, "frechet_extrapolated", f->frechet_limit));
    MD_TRY(md_text_add(t, ", \"frechet_rows\": %lld", (long long)f->frechet_rows));
    MD_TRY(add(t, "frechet_generated_at_rows", f->frechet_matched));
    MD_TRY(add(t, "frechet_real_at_rows", f->frechet_real));
    MD_TRY(md_text_add(
        t, ", \"frechet_note\": \"biased upward by about c/n, more so where rows do not exceed the "
           "dimension; only frechet_generated_at_rows against frechet_real_at_rows (train against "
           "holdout, as many rows) carries the same bias on both sides\""));
    MD_TRY(md_text_add(t, ", \"neighbours\": %d", FIGURES_K));
    MD_TRY(add(t, "precision", f->precision));
    MD_TRY(add(t, "recall", f->recall));
    MD_TRY(add(t, "density", f->density));
    MD_TRY(add(t, "coverage", f->coverage));
    MD_TRY(add(t, "coverage_alike", f->coverage_alike));
    MD_TRY(md_text_add(
        t,
        ", \"neighbours_note\": \"all four depend on the numbers of rows: balls of few real rows "
        "are wide, which raises precision and coverage; balls of many generated rows are narrow, "
        "which changes recall; coverage can only rise with generated rows (coverage_alike: what "
        "as many rows of one distribution have); compare runs of the same numbers only\""));
    MD_TRY(md_text_add(t, ", \"memorisation_rows\": %lld", (long long)f->memory_rows));
    MD_TRY(add(t, "memorisation", f->memory));
    MD_TRY(add(t, "memorisation_low", f->memory_low));
    MD_TRY(add(t, "memorisation_high", f->memory_high));
    MD_TRY(md_text_add(
        t, ", \"memorisation_note\": \"0.5: nothing was memorised; real images of the group that a "
           "pair's own background is of are left out on both sides, since the pair shows that "
           "background; few patients that were held out make the interval wide, however many pairs "
           "there are\""));
    return md_text_add(t, ", \"memorisation_flagged\": %s}", f->memory_flagged ? "true" : "false");
}
