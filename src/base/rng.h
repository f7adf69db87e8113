/* Randomness without state that travels: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel
   Random Numbers: As Easy as 1, 2, 3", SC 2011), keyed by (run seed, purpose, item, attempt). The
   same key gives the same numbers on every machine and rank. Item: the slot for generation, the
   step (or step x batch + position) for training. Two purposes never share numbers; attempts below
   2^24. */
#ifndef MD_BASE_RNG_H
#define MD_BASE_RNG_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* MD_RNG_INIT and so on. Append only: the number of a purpose is part of every stored result. */
#define MD_PURPOSES(X)                                                                             \
    X(INIT)                                                                                        \
    X(TRAIN_ORDER)                                                                                 \
    X(TRAIN_NOISE)                                                                                 \
    X(TRAIN_TIMESTEP)                                                                              \
    X(TRAIN_AUGMENT)                                                                               \
    X(POSTERIOR)                                                                                   \
    X(BACKGROUND)                                                                                  \
    X(GUIDE)                                                                                       \
    X(SAMPLE_NOISE)                                                                                \
    X(STEP_NOISE)                                                                                  \
    X(MASK)                                                                                        \
    X(SPLIT)                                                                                       \
    X(PHANTOM)                                                                                     \
    X(PROCEDURAL)                                                                                  \
    X(TEST)                                                                                        \
    X(SAMPLE_POSTERIOR)                                                                            \
    X(MASKED_POSTERIOR)                                                                            \
    X(MASK_NOISE)                                                                                  \
    X(MASK_STEP_NOISE)                                                                             \
    X(MASK_FORM)                                                                                   \
    X(FIGURES)                                                                                     \
    X(MASK_SKETCH)                                                                                 \
    X(MASK_ORDER)

typedef enum md_purpose {
#define X(name) MD_RNG_##name,
    MD_PURPOSES(X)
#undef X
        MD_RNG_N_PURPOSES
} md_purpose;

/* A position in one stream of at most 2^34 words; a plain value, copied to fork. */
typedef struct md_rng {
    uint32_t key[2], counter[4]; /* counter: block, item low, item high, attempt and purpose */
    uint32_t word[4];            /* the current block */
    uint32_t n_left;             /* words of it not yet handed out */
} md_rng;

/* The bare function, for the published test vectors. */
void md_philox4x32_10(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

md_rng md_rng_at(uint64_t seed, md_purpose purpose, uint64_t item, uint32_t attempt);
uint32_t md_rng_u32(md_rng *r);
double md_rng_uniform(md_rng *r);                     /* [0,1), 53 bits, two words */
int64_t md_rng_below(md_rng *r, int64_t n);           /* 0..n-1 without bias; 0 for n <= 1 */
double md_rng_range(md_rng *r, double lo, double hi); /* [lo,hi) */
/* N(0,1) by Box-Muller. sqrt is exact by IEEE 754, logarithm and sine are our own polynomials in
   double, so the bits do not depend on the C library (compile without contraction or fast-math).
   The single form takes four words; the fill takes one block (four words) for four floats and
   reaches 6.76 sigma. */
double md_rng_normal(md_rng *r);
void md_rng_normal_fill(md_rng *r, float *out, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
