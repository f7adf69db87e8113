/* Figures of a whole set, from features of images (rows of floats, e.g. DINOv2 class tokens): how
   far the generated ones lie from the real ones, how many of them are plausible, how much of the
   real ones they cover, and whether they repeat what was trained on. Pure functions of arrays:
   no files, no models. All local. */
#ifndef MD_GENERATE_FIGURES_H
#define MD_GENERATE_FIGURES_H

#include "base/status.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    FIGURES_K = 5, /* neighbours that make a radius (Naeem et al. 2020 take 5) */
    FIGURES_K_MAX = 64,
    FIGURES_DRAWS = 20,  /* random parts that are averaged where sizes are made equal */
    FIGURES_BLOCKS = 50, /* most parts that a jackknife leaves out, one at a time */
    FIGURES_GROUPS = 5,  /* fewest groups of a set that allow an interval */
};

/* x: [n,d] f32, borrowed. group: [n], rows of one patient (or one background, guide, ...) share a
   number; NULL: each row is a group of its own. without: [n], of generated rows: the group of real
   rows that this one is not compared with in the memorisation test, since it was made from one of
   them (a repaired background); a number that no real row has (-1), or NULL: none. */
typedef struct figures_set {
    const float *x;
    int64_t n;
    const int32_t *group;
    const int32_t *without;
} figures_set;

/* What cannot be computed (too few rows) is NAN, and null in the JSON. */
typedef struct figures {
    int64_t d, n_train, n_holdout, n_generated;

    /* Frechet distance (Heusel et al. 2017, there on Inception features) of train and generated,
       all rows. It is biased upward, by about c/n, and huge where n <= d: compare it with nothing
       but sets of the same sizes on the same encoder. */
    double frechet;
    /* The same extrapolated to infinitely many rows (Chong & Forsyth 2020, a line in 1/n through
       parts of both sets). NAN unless half of the smaller set has more rows than d. */
    double frechet_limit;
    /* At the size m = the smallest of the three sets, the mean of FIGURES_DRAWS random parts:
       generated against train, and real against real (holdout against train), which carries the
       same bias. The first is good when it is near the second. NAN when m < 2. */
    int64_t frechet_rows;
    double frechet_matched, frechet_real;

    /* Kynkaanniemi et al. 2019, Naeem et al. 2020, k = FIGURES_K neighbours, balls closed: a set
       compared with itself has 1, 1, (k+1)/k, 1. NAN when a set has k rows or fewer. All four go by
       the numbers of both sets: balls of few real rows are wide, balls of many generated rows
       narrow, and coverage can only rise with generated rows. So compare them among runs of the
       same numbers. */
    double precision, recall, density, coverage;
    /* What two sets of these sizes from one distribution have on average (Naeem et al., Lemma 2):
       1 - C(real - 1, k) / C(real + generated - 1, k). With 30 real and thousands generated 1. */
    double coverage_alike;

    /* Memorisation: share of generated rows that are nearer to a train row than to any holdout row
       (a tie counts half), real rows of the group it is to be compared `without` left out of both,
       the larger of the two cut to the other's `memory_rows` rows at random, of which this is the
       expected value: 0.5 when nothing was memorised. Generated rows that this leaves without real
       ones on a side do not count. 95 % interval by a jackknife over groups of all three sets, so
       that a few holdout patients give a wide one; NAN when a set has too few groups. flagged: its
       lower end is above one half. */
    int64_t memory_rows;
    double memory, memory_low, memory_high;
    bool memory_flagged;
} figures;

/* train: real rows that were trained on; holdout: real rows that were not (val, test), a yardstick
   only, may be empty; generated. All d wide. Deterministic in (rows, seed). MD_NONFINITE names a
   row that holds a NaN. */
MD_MUST md_status figures_compute(int64_t d, figures_set train, figures_set holdout,
                                  figures_set generated, uint64_t seed, figures *out);
/* Adds {"dimension": ..., ...}, one object, with a sentence on the bias of the Frechet distances,
   of the four figures of neighbours, and of the memorisation test. */
MD_MUST md_status figures_json(const figures *f, md_text *t);

/* The parts. b holds the rows that are judged. */
MD_MUST md_status figures_frechet(int64_t d, figures_set a, figures_set b, double *out);
MD_MUST md_status figures_frechet_limit(int64_t d, figures_set a, figures_set b, uint64_t seed,
                                        double *out);
/* Fills precision, recall, density, coverage and coverage_alike. */
MD_MUST md_status figures_neighbours(int64_t d, figures_set real, figures_set generated, int k,
                                     figures *out);
/* Fills memory_*. */
MD_MUST md_status figures_memory(int64_t d, figures_set train, figures_set holdout,
                                 figures_set generated, figures *out);

/* One generated row and the real row that is nearest by cosine. */
typedef struct figures_copy {
    int64_t generated, real;
    double similarity;
} figures_copy;
/* The `most` most similar pairs, best first, one per generated row; *n of them into out[most]. A
   row of zeros has similarity 0. */
MD_MUST md_status figures_copies(int64_t d, figures_set real, figures_set generated, int64_t most,
                                 figures_copy *out, int64_t *n);

#ifdef __cplusplus
}
#endif
#endif
