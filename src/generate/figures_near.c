/* The figures made of nearest neighbours: precision, recall, density, coverage, memorisation, the
   list of copies. Squared Euclidean distances in double, each computed directly, so that equal rows
   are at 0 and d(a,b) = d(b,a). */
#include "generate/figures_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double distance2(const float *a, const float *b, int64_t d)
{
    double sum = 0;
    for (int64_t k = 0; k < d; k++) {
        double e = (double)a[k] - (double)b[k];
        sum += e * e;
    }
    return sum;
}

/* out[n]: squared distance of each row to its k-th nearest other one; n > k. */
static void radii(int64_t d, figures_set s, int k, double *out)
{
    for (int64_t i = 0; i < s.n; i++) {
        double near[FIGURES_K_MAX]; /* the k least so far, in order */
        int found = 0;
        for (int64_t j = 0; j < s.n; j++) {
            double r = i == j ? INFINITY : distance2(s.x + i * d, s.x + j * d, d);
            if (i == j || (found == k && r >= near[k - 1]))
                continue;
            int at = found < k ? found++ : k - 1;
            for (; at > 0 && near[at - 1] > r; at--)
                near[at] = near[at - 1];
            near[at] = r;
        }
        out[i] = near[k - 1];
    }
}

md_status figures_neighbours(int64_t d, figures_set real, figures_set generated, int k,
                             figures *out)
{
    MD_TRY(figures__check("real rows", d, real));
    MD_TRY(figures__check("generated rows", d, generated));
    if (k < 1 || k > FIGURES_K_MAX)
        MD_FAIL(MD_USAGE, "figures: %d neighbours; 1 to %d can be", k, FIGURES_K_MAX);
    out->precision = out->recall = out->density = out->coverage = out->coverage_alike = NAN;
    if (real.n <= k || generated.n <= k)
        return MD_OK;
    double *r_real = malloc((size_t)real.n * sizeof *r_real);
    double *r_generated = malloc((size_t)generated.n * sizeof *r_generated);
    bool *reached = calloc((size_t)real.n, sizeof *reached);
    bool *covered = calloc((size_t)real.n, sizeof *covered);
    int64_t inside = 0, balls = 0, n_reached = 0, n_covered = 0;
    if (!r_real || !r_generated || !reached || !covered) {
        free(r_real);
        free(r_generated);
        free(reached);
        free(covered);
        MD_FAIL(MD_NOMEM, "figures: out of memory for %lld rows", (long long)generated.n);
    }
    radii(d, real, k, r_real);
    radii(d, generated, k, r_generated);
    for (int64_t j = 0; j < generated.n; j++) {
        int64_t in = 0; /* real balls that hold this one */
        for (int64_t i = 0; i < real.n; i++) {
            double r = distance2(real.x + i * d, generated.x + j * d, d);
            in += r <= r_real[i];
            covered[i] |= r <= r_real[i];
            reached[i] |= r <= r_generated[j];
        }
        inside += in > 0;
        balls += in;
    }
    for (int64_t i = 0; i < real.n; i++) {
        n_reached += reached[i];
        n_covered += covered[i];
    }
    out->precision = (double)inside / (double)generated.n;
    out->recall = (double)n_reached / (double)real.n;
    out->density = (double)balls / (double)k / (double)generated.n;
    out->coverage = (double)n_covered / (double)real.n;
    double none = 1; /* the k nearest of a real row are all real */
    for (int i = 1; i <= k; i++)
        none *= (double)(real.n - i) / (double)(real.n + generated.n - i);
    out->coverage_alike = 1 - none;
    free(r_real);
    free(r_generated);
    free(reached);
    free(covered);
    return MD_OK;
}

/* ---- memorisation */

static int compare_groups(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* A set's rows in parts that a jackknife leaves out: one group each, or several where there are
   more than FIGURES_BLOCKS. */
typedef struct parts {
    int32_t *block; /* [n] */
    int n;
} parts;

static md_status parts_make(figures_set s, parts *p)
{
    *p = (parts){.block = malloc((size_t)(s.n + 1) * sizeof *p->block)};
    int32_t *known = malloc((size_t)(s.n + 1) * sizeof *known);
    if (!known || !p->block) {
        free(known);
        MD_FAIL(MD_NOMEM, "figures: out of memory for %lld rows", (long long)s.n);
    }
    int64_t n = 0; /* distinct groups */
    for (int64_t i = 0; i < s.n; i++)
        known[i] = s.group ? s.group[i] : (int32_t)i;
    qsort(known, (size_t)s.n, sizeof *known, compare_groups);
    for (int64_t i = 0; i < s.n; i++)
        if (i == 0 || known[i] != known[n - 1])
            known[n++] = known[i];
    p->n = n < FIGURES_BLOCKS ? (int)n : FIGURES_BLOCKS;
    for (int64_t i = 0; i < s.n; i++) {
        int32_t group = s.group ? s.group[i] : (int32_t)i;
        const int32_t *at = bsearch(&group, known, (size_t)n, sizeof *known, compare_groups);
        p->block[i] = (int32_t)((at - known) % p->n);
    }
    free(known);
    return MD_OK;
}

/* Distances of one generated row to a set's rows, those of one block and of one group left out. */
typedef struct side {
    const double *r; /* [n] */
    int64_t n;
    const parts *p;
    int skip;             /* -1: none */
    const int32_t *group; /* NULL: no group is left out */
    int32_t without;
} side;

static bool side_has(const side *s, int64_t i)
{
    return s->p->block[i] != s->skip && (!s->group || s->group[i] != s->without);
}

static int64_t side_rows(const side *s)
{
    int64_t n = 0;
    for (int64_t i = 0; i < s->n; i++)
        n += side_has(s, i);
    return n;
}

static double side_nearest(const side *s)
{
    double least = INFINITY;
    for (int64_t i = 0; i < s->n; i++)
        if (side_has(s, i) && s->r[i] < least)
            least = s->r[i];
    return least;
}

/* The chance that the nearest of m random ones of s's rows is nearer than r: one minus that of
   drawing m that are not, C(n - t, m) / C(n, m), t of n being nearer. A tie counts half.
   log_factorial: of 0..n. */
static double side_beats(const side *s, int64_t m, double r, const double *log_factorial)
{
    int64_t n = side_rows(s), nearer = 0, tied = 0;
    double chance = 0;
    for (int64_t i = 0; i < s->n; i++)
        if (side_has(s, i)) {
            nearer += s->r[i] < r;
            tied += s->r[i] == r;
        }
    for (int i = 0; i < 2; i++) {
        int64_t t = i == 0 ? nearer : nearer + tied;
        chance += 0.5 * (n - t < m ? 1
                                   : 1 - exp(log_factorial[n - t] + log_factorial[n - m] -
                                             log_factorial[n - t - m] - log_factorial[n]));
    }
    return chance;
}

/* The chance that a generated row's nearest is of train, when the larger set is cut at random; NAN
   where a side is empty. */
static double nearer_to_train(const side *train, const side *holdout, const double *log_factorial)
{
    int64_t n = side_rows(train), m = side_rows(holdout);
    if (n == 0 || m == 0)
        return NAN;
    return n >= m ? side_beats(train, m, side_nearest(holdout), log_factorial)
                  : 1 - side_beats(holdout, n, side_nearest(train), log_factorial);
}

/* Student's t at 0.975, by the expansion of Abramowitz & Stegun 26.7.5 (3 % off at 2 degrees of
   freedom, 0.1 % at 5). */
static double student(double freedom)
{
    double z = 1.959963985, z2 = z * z;
    return z + z * (z2 + 1) / (4 * freedom) +
           z * ((5 * z2 + 16) * z2 + 3) / (96 * freedom * freedom) +
           z * (((3 * z2 + 19) * z2 + 17) * z2 - 15) / (384 * pow(freedom, 3));
}

typedef struct memory_test {
    int64_t n_train, n_holdout, n_generated;
    const int32_t *group[2], *without; /* of train and holdout; of generated, NULL: none */
    parts p[3];                        /* train, holdout, generated */
    double *r;                         /* [n_generated, n_train + n_holdout] squared distances */
    double *log_factorial;             /* of 0..max(n_train, n_holdout) */
} memory_test;

/* The share with one block of one set left out; which = -1: none. */
static double share(const memory_test *t, int which, int block)
{
    double sum = 0, n = 0;
    for (int64_t i = 0; i < t->n_generated; i++) {
        const double *r = t->r + i * (t->n_train + t->n_holdout);
        if (which == 2 && t->p[2].block[i] == block)
            continue;
        side train = {.r = r, .n = t->n_train, .p = &t->p[0], .skip = which == 0 ? block : -1};
        side holdout = {
            .r = r + t->n_train, .n = t->n_holdout, .p = &t->p[1], .skip = which == 1 ? block : -1};
        if (t->without) {
            train.group = t->group[0];
            holdout.group = t->group[1];
            train.without = holdout.without = t->without[i];
        }
        double nearer = nearer_to_train(&train, &holdout, t->log_factorial);
        if (isnan(nearer))
            continue;
        sum += nearer;
        n++;
    }
    return sum / n; /* NAN of no row */
}

/* Delete-one-block jackknife (Efron & Stein 1981) over the three independent sets; degrees of
   freedom as Welch and Satterthwaite combine them. */
static void memory_interval(const memory_test *t, figures *out)
{
    double variance = 0, quarter = 0;
    for (int which = 0; which < 3; which++)
        if (t->p[which].n < FIGURES_GROUPS) /* with 2 or 3, a tenth of innocent sets was flagged */
            return;
    for (int which = 0; which < 3; which++) {
        int n = t->p[which].n;
        double value[FIGURES_BLOCKS], mean = 0, v = 0;
        for (int b = 0; b < n; b++) {
            value[b] = share(t, which, b);
            mean += value[b] / n;
        }
        for (int b = 0; b < n; b++)
            v += (value[b] - mean) * (value[b] - mean) * (n - 1) / n;
        variance += v;
        quarter += v * v / (n - 1);
    }
    double half = quarter > 0 ? sqrt(variance) * student(variance * variance / quarter) : 0;
    if (isnan(half) || isnan(out->memory)) /* a part of the rows stands for too much of them */
        return;
    out->memory_low = fmax(0, out->memory - half);
    out->memory_high = fmin(1, out->memory + half);
    out->memory_flagged = out->memory_low > 0.5;
}

static md_status memory_measure(memory_test *t, int64_t d, figures_set train, figures_set holdout,
                                figures_set generated)
{
    int64_t n = train.n + holdout.n;
    t->r = malloc((size_t)(generated.n * n) * sizeof *t->r);
    t->log_factorial = malloc((size_t)(n + 1) * sizeof *t->log_factorial);
    if (!t->r || !t->log_factorial)
        MD_FAIL(MD_NOMEM, "figures: out of memory for %lld x %lld distances",
                (long long)generated.n, (long long)n);
    MD_TRY(parts_make(train, &t->p[0]));
    MD_TRY(parts_make(holdout, &t->p[1]));
    MD_TRY(parts_make(generated, &t->p[2]));
    t->log_factorial[0] = 0;
    for (int64_t i = 1; i <= n; i++)
        t->log_factorial[i] = t->log_factorial[i - 1] + log((double)i);
    for (int64_t i = 0; i < generated.n; i++)
        for (int64_t j = 0; j < n; j++) {
            const float *real = j < train.n ? train.x + j * d : holdout.x + (j - train.n) * d;
            t->r[i * n + j] = distance2(generated.x + i * d, real, d);
        }
    return MD_OK;
}

md_status figures_memory(int64_t d, figures_set train, figures_set holdout, figures_set generated,
                         figures *out)
{
    memory_test t = {.n_train = train.n,
                     .n_holdout = holdout.n,
                     .n_generated = generated.n,
                     .group = {train.group, holdout.group},
                     .without = generated.without};
    MD_TRY(figures__check("real training rows", d, train));
    MD_TRY(figures__check("real rows held out", d, holdout));
    MD_TRY(figures__check("generated rows", d, generated));
    out->memory_rows = train.n < holdout.n ? train.n : holdout.n;
    out->memory = out->memory_low = out->memory_high = NAN;
    out->memory_flagged = false;
    if (out->memory_rows < 1 || generated.n < 1)
        return MD_OK;
    md_status status = memory_measure(&t, d, train, holdout, generated);
    if (status == MD_OK) {
        out->memory = share(&t, -1, -1);
        memory_interval(&t, out);
    }
    for (int i = 0; i < 3; i++)
        free(t.p[i].block);
    free(t.r);
    free(t.log_factorial);
    return status;
}

/* ---- copies */

static double cosine(const float *a, const float *b, int64_t d)
{
    double ab = 0, aa = 0, bb = 0;
    for (int64_t k = 0; k < d; k++) {
        ab += (double)a[k] * (double)b[k];
        aa += (double)a[k] * (double)a[k];
        bb += (double)b[k] * (double)b[k];
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa) / sqrt(bb) : 0;
}

md_status figures_copies(int64_t d, figures_set real, figures_set generated, int64_t most,
                         figures_copy *out, int64_t *n)
{
    MD_TRY(figures__check("real rows", d, real));
    MD_TRY(figures__check("generated rows", d, generated));
    *n = 0;
    for (int64_t i = 0; i < generated.n && real.n > 0 && most > 0; i++) {
        figures_copy c = {.generated = i, .similarity = -INFINITY};
        for (int64_t j = 0; j < real.n; j++) {
            double s = cosine(generated.x + i * d, real.x + j * d, d);
            if (s > c.similarity) {
                c.similarity = s;
                c.real = j;
            }
        }
        if (*n == most && c.similarity <= out[most - 1].similarity)
            continue;
        int64_t at = *n < most ? (*n)++ : most - 1;
        for (; at > 0 && out[at - 1].similarity < c.similarity; at--)
            out[at] = out[at - 1];
        out[at] = c;
    }
    return MD_OK;
}
