/* How like real images a pair may be: not nearer to one than real ones are to each other (a copy),
   not further from all (no lesion of this kind). */
#ifndef MD_GENERATE_BAND_H
#define MD_GENERATE_BAND_H

#include "config/config.h"
#include "generate/references.h"
#include "store/pairs.h"

enum { BAND_FEW_GROUPS = 10 };

typedef struct band {
    double low[N_PARTS];  /* of the mean of the nearest five */
    double high[N_PARTS]; /* of the nearest */
} band;

/* As pairs.h5 holds it. */
void band_pack(const band *b, double out[PAIRS_BAND]);
band band_unpack(const double in[PAIRS_BAND]);

/* What the limits come from. */
typedef struct band_source {
    int64_t images, groups; /* compared with each other */
    int64_t duplicates;     /* left out before */
} band_source;

/* The limits that cfg asks for. Those that it leaves open come from the real images, each against
   those of other groups: quality.quantile of further real images are expected below the low ones,
   as many above the high ones, the whole image and the lesion's box taken together. Near duplicates
   across groups are left out first: of two images whose distance (1 - similarity) is below an
   eighth of the median distance to the nearest, the later. MD_BAD_INPUT where fewer than two groups
   are left and a limit is open. */
MD_MUST md_status band_find(const config *cfg, const references *r, band *out, band_source *from);
/* MD_BAD_INPUT where a limit is open and the images of data.h5 are too few for band_find; before
   any feature is known. */
MD_MUST md_status band_check(const config *cfg, const char *data_h5);
/* Logs the limits and what they come from; warns when that is little. */
void band_tell(const band *b, const band_source *from);
/* MD_USAGE, naming the key, when `then` (by the name of `store`) was judged by other rules. */
MD_MUST md_status band_same_rules(const config *now, const config *then, const char *store);

/* The order statistic of rank q (n + 1), between two of them linear, at the ends the extreme
   (Weibull; numpy's "weibull"): a further draw falls below it with probability q. The usual
   quantile, numpy's default, lets 8 % fall below the 5 % one of 30. Sorts v. */
double band_quantile(double *v, int64_t n, double q);

/* The similarity below which a further draw falls with probability q. Where that rank lies within
   the n: band_quantile. Where it lies beyond their extremes, as the 2.5 % of 30 does: of a normal
   distribution with the mean and spread of the logarithms of the distances (1 - similarity), since
   extremes of few hang on one or two odd images. q = 0 and 1: the extremes. Sorts v.
   Measured in tests/quality/phantoms.md. */
double band_limit(double *v, int64_t n, double q);

typedef enum verdict {
    VERDICT_GOOD,
    VERDICT_COPY, /* too similar */
    VERDICT_COPY_LESION,
    VERDICT_FOREIGN, /* too dissimilar */
    VERDICT_FOREIGN_LESION,
    VERDICT_UNALIGNED,
    VERDICT_ALONE, /* no real image of another group to compare with */
    N_VERDICTS
} verdict;

const char *verdict_name(verdict v);

/* A pair as it was measured; travels as it is between ranks of one machine type. */
typedef struct assessment {
    likeness part[N_PARTS]; /* NaN: not compared */
    float alignment;        /* NaN: not known, and no reason to reject */
} assessment;

/* The first reason to reject, in the order above. */
verdict band_judge(const band *b, double alignment, const assessment *a);
/* That reason with its numbers, into out[size]. */
void band_explain(const band *b, double alignment, const assessment *a, char *out, size_t size);

#endif
