#include "generate/band.h"
#include "base/log.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const double DUPLICATE = 0.125;     /* of the median distance */
static const double LEAST_DISTANCE = 1e-6; /* what a feature in float tells from none */

static const config_key low_keys[N_PARTS] = {KEY_quality_low, KEY_quality_lesion_low};
static const config_key high_keys[N_PARTS] = {KEY_quality_high, KEY_quality_lesion_high};

void band_pack(const band *b, double out[PAIRS_BAND])
{
    for (int part = 0; part < N_PARTS; part++) {
        out[2 * part] = b->low[part];
        out[2 * part + 1] = b->high[part];
    }
}

band band_unpack(const double in[PAIRS_BAND])
{
    band b;
    for (int part = 0; part < N_PARTS; part++) {
        b.low[part] = in[2 * part];
        b.high[part] = in[2 * part + 1];
    }
    return b;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double band_quantile(double *v, int64_t n, double q)
{
    qsort(v, (size_t)n, sizeof *v, ascending);
    double at = q * (double)(n + 1) - 1;
    int64_t below = (int64_t)at;
    if (at <= 0 || below + 1 >= n)
        return v[at <= 0 ? 0 : n - 1];
    return v[below] + (at - (double)below) * (v[below + 1] - v[below]);
}

/* The z below which a share q of the standard normal distribution lies, 0 < q < 1: by halving. */
static double normal_quantile(double q)
{
    double low = -40, high = 40;
    for (int i = 0; i < 60; i++) {
        double z = (low + high) / 2;
        if (0.5 * erfc(-z / sqrt(2.0)) < q)
            low = z;
        else
            high = z;
    }
    return (low + high) / 2;
}

double band_limit(double *v, int64_t n, double q)
{
    double rank = q * (double)(n + 1), mean = 0, square = 0;
    if (n < 2 || q <= 0 || q >= 1 || (rank >= 1 && rank <= (double)n))
        return band_quantile(v, n, q);
    for (int64_t i = 0; i < n; i++) {
        double x = log(fmax(1 - v[i], LEAST_DISTANCE)), delta = x - mean;
        mean += delta / (double)(i + 1);
        square += delta * (x - mean);
    }
    double spread = sqrt(square / (double)(n - 1) * (1 + 1 / (double)n));
    return 1 - exp(mean - normal_quantile(q) * spread); /* far is little alike: the sign turns */
}

static const float *feature_of(const references *r, picture_part part, int64_t i)
{
    return r->view[part] + i * r->views * r->width;
}

/* Each image that is not skipped against those of other groups, into nearest[] and mean[]; returns
   how many there are. */
static int64_t compare_real(const references *r, picture_part part, const bool *skip,
                            double *nearest, double *mean)
{
    int64_t n = 0;
    for (int64_t i = 0; i < r->n; i++) {
        likeness l;
        if (skip[i])
            continue;
        references_compare(r, part, feature_of(r, part, i), r->group[i], skip, &l);
        if (l.id < 0)
            continue;
        nearest[n] = (double)l.nearest;
        mean[n++] = (double)l.mean;
    }
    return n;
}

/* Marks near duplicates in skip[n], which comes in all false; v[2n] is scratch. */
static void mark_duplicates(const references *r, bool *skip, double *v)
{
    int64_t n = compare_real(r, PART_WHOLE, skip, v, v + r->n);
    if (n == 0)
        return;
    double most = 1 - DUPLICATE * (1 - band_quantile(v, n, 0.5));
    for (int64_t i = 1; i < r->n; i++)
        for (int64_t j = 0; j < i && !skip[i]; j++)
            skip[i] = r->group[j] != r->group[i] &&
                      references_similarity(r, PART_WHOLE, feature_of(r, PART_WHOLE, i), j) > most;
}

static int64_t count_groups(const references *r, const bool *skip)
{
    int64_t groups = 0;
    for (int64_t i = 0; i < r->n; i++) {
        bool first = !skip[i];
        for (int64_t j = 0; j < i && first; j++)
            first = skip[j] || r->group[j] != r->group[i];
        groups += first;
    }
    return groups;
}

/* v [2n]: scratch */
static void find_part(const config *cfg, const references *r, picture_part part, const bool *skip,
                      double *v, band *out)
{
    double q = config_float(cfg, KEY_quality_quantile) / N_PARTS;
    int64_t n = compare_real(r, part, skip, v, v + r->n);
    out->low[part] = config_float(cfg, low_keys[part]);
    out->high[part] = config_float(cfg, high_keys[part]);
    if (out->low[part] == 0)
        out->low[part] = band_limit(v + r->n, n, q);
    if (out->high[part] == 0)
        out->high[part] = band_limit(v, n, 1 - q);
}

static bool is_open(const config *cfg)
{
    bool open = false;
    for (int part = 0; part < N_PARTS; part++)
        open = open || config_float(cfg, low_keys[part]) == 0 ||
               config_float(cfg, high_keys[part]) == 0;
    return open;
}

static md_status expect_groups(const config *cfg, int64_t images, int64_t groups)
{
    if (groups < 2 && is_open(cfg))
        MD_FAIL(
            MD_BAD_INPUT,
            "%lld real image%s of %lld group%s: limits of similarity need two groups at least; set "
            "quality.low, quality.high, quality.lesion_low and quality.lesion_high, or "
            "model.encoder = \"\"",
            (long long)images, images == 1 ? "" : "s", (long long)groups, groups == 1 ? "" : "s");
    return MD_OK;
}

md_status band_check(const config *cfg, const char *data_h5)
{
    references r = {0};
    MD_TRY(references_open(data_h5, 1, &r));
    bool *skip = calloc((size_t)r.n + 1, sizeof *skip);
    md_status status = skip ? expect_groups(cfg, r.n, count_groups(&r, skip))
                            : md_fail(MD_NOMEM, __FILE__, __LINE__, "real images: out of memory");
    free(skip);
    references_free(&r);
    return status;
}

static md_status find(const config *cfg, const references *r, bool *skip, double *v, band *out,
                      band_source *from)
{
    mark_duplicates(r, skip, v);
    *from = (band_source){.groups = count_groups(r, skip)};
    for (int64_t i = 0; i < r->n; i++)
        from->duplicates += skip[i];
    from->images = r->n - from->duplicates;
    MD_TRY(expect_groups(cfg, r->n, from->groups));
    for (int part = 0; part < N_PARTS; part++)
        find_part(cfg, r, (picture_part)part, skip, v, out);
    return MD_OK;
}

md_status band_find(const config *cfg, const references *r, band *out, band_source *from)
{
    bool *skip = calloc((size_t)r->n, sizeof *skip);
    double *v = malloc((size_t)(2 * r->n) * sizeof *v);
    md_status status = skip && v
                           ? find(cfg, r, skip, v, out, from)
                           : md_fail(MD_NOMEM, __FILE__, __LINE__, "real images: out of memory");
    free(skip);
    free(v);
    return status;
}

void band_tell(const band *b, const band_source *from)
{
    md_info("assess",
            "similarity to the nearest real image at most %.4f (lesion %.4f), to the nearest %d at "
            "least %.4f (lesion %.4f); from %lld real images of %lld groups, %lld near duplicates "
            "left out",
            b->high[PART_WHOLE], b->high[PART_LESION], REFERENCES_NEAREST, b->low[PART_WHOLE],
            b->low[PART_LESION], (long long)from->images, (long long)from->groups,
            (long long)from->duplicates);
    if (from->groups < BAND_FEW_GROUPS)
        md_warn("assess",
                "limits from %lld groups of real images say little: quantiles of so few are nearly "
                "their extremes; quality.low, quality.high and quality.lesion_* set them",
                (long long)from->groups);
}

md_status band_same_rules(const config *now, const config *then, const char *store)
{
    static const config_key keys[] = {KEY_quality_low,        KEY_quality_high,
                                      KEY_quality_lesion_low, KEY_quality_lesion_high,
                                      KEY_quality_quantile,   KEY_quality_alignment};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (config_float(now, keys[i]) != config_float(then, keys[i]))
            return config_fail(now, keys[i],
                               "%g, but %s was judged by %g: run \"meddiff assess\" with this "
                               "configuration, which judges all of it anew",
                               config_float(now, keys[i]), store, config_float(then, keys[i]));
    return MD_OK;
}

static const char *const verdict_names[N_VERDICTS] = {
    "good",
    "too similar",
    "lesion too similar",
    "too dissimilar",
    "lesion too dissimilar",
    "not aligned",
    "nothing to compare with",
};

const char *verdict_name(verdict v)
{
    return verdict_names[v];
}

verdict band_judge(const band *b, double alignment, const assessment *a)
{
    for (int part = 0; part < N_PARTS; part++)
        if (isnan(a->part[part].nearest) || isnan(a->part[part].mean))
            return VERDICT_ALONE;
    for (int part = 0; part < N_PARTS; part++)
        if (a->part[part].nearest > b->high[part])
            return part == PART_WHOLE ? VERDICT_COPY : VERDICT_COPY_LESION;
    for (int part = 0; part < N_PARTS; part++)
        if (a->part[part].mean < b->low[part])
            return part == PART_WHOLE ? VERDICT_FOREIGN : VERDICT_FOREIGN_LESION;
    return a->alignment < alignment ? VERDICT_UNALIGNED : VERDICT_GOOD;
}

void band_explain(const band *b, double alignment, const assessment *a, char *out, size_t size)
{
    verdict v = band_judge(b, alignment, a);
    picture_part part =
        v == VERDICT_COPY_LESION || v == VERDICT_FOREIGN_LESION ? PART_LESION : PART_WHOLE;
    const likeness *l = &a->part[part];
    if (v == VERDICT_COPY || v == VERDICT_COPY_LESION)
        (void)snprintf(out, size, "%s: %.4f to real image %d, limit %.4f", verdict_names[v],
                       (double)l->nearest, (int)l->id, b->high[part]);
    else if (v == VERDICT_FOREIGN || v == VERDICT_FOREIGN_LESION)
        (void)snprintf(out, size, "%s: %.4f to the nearest real images, limit %.4f",
                       verdict_names[v], (double)l->mean, b->low[part]);
    else if (v == VERDICT_UNALIGNED)
        (void)snprintf(out, size, "%s: Dice %.4f of mask and change, limit %.4f", verdict_names[v],
                       (double)a->alignment, alignment);
    else
        (void)snprintf(out, size, "%s", verdict_names[v]);
}
