/* The assessment's machine: encoder, real images and limits, and what a worker does with a few
   pairs. Deciding is band.h; who asks is pairs.c (inline) and reassess.c (a store that is there).
 */
#ifndef MD_GENERATE_ASSESS_H
#define MD_GENERATE_ASSESS_H

#include "generate/band.h"

typedef struct assessor assessor;

/* Opens model.encoder on every rank; *out is NULL where there is none. On workers (be) it plans for
   `batch` pairs at a time; no device memory yet. data_h5 is borrowed. Local. */
MD_MUST md_status assessor_open(const config *cfg, const char *data_h5, md_backend *be, int batch,
                                assessor **out);
void assessor_free(assessor *a);              /* NULL is fine; before the backend is closed */
size_t assessor_bytes(const assessor *a);     /* on the device; 0 for NULL */
const char *assessor_hash(const assessor *a); /* SHA-256 of the encoder */
/* Loads the encoder on workers and gives every rank the features of the real images: from the file
   `cache` where it holds them, else computed and kept there. Collective(world). */
MD_MUST md_status assessor_prepare(assessor *a, const char *cache);
/* The features of the lesion images outside the train split, one view each; *out is the caller's.
   Collective(world). */
MD_MUST md_status assessor_holdout(assessor *a, references *out);
const references *assessor_real(const assessor *a); /* after assessor_prepare */
/* The limits that cfg asks for, logged. Local. */
MD_MUST md_status assessor_find_band(const assessor *a, double limits[PAIRS_BAND]);
/* What pairs are judged by from now on: as a store holds it. */
void assessor_use_band(assessor *a, const double limits[PAIRS_BAND]);

/* A pair to assess. */
typedef struct assess_pair {
    image rgb, guide; /* [S,S,3], [S,S,1]; borrowed */
    int32_t group;    /* of its background: real images of this group do not count */
    float alignment;  /* NaN: not known */
} assess_pair;

/* n <= batch pairs -> out [n]. A pair's result depends on nothing but the pair. */
MD_MUST md_status assessor_measure(assessor *a, const assess_pair *pairs, int n, assessment *out);
/* Their features: out [n,N_PARTS,D]. */
MD_MUST md_status assessor_encode(assessor *a, const assess_pair *pairs, int n, float *out);
verdict assessor_judge(const assessor *a, const assessment *m);
/* Where the pair is rejected: leaves folder/SLOT-ATTEMPT.png, the pair with its guide's outline
   beside the nearest real image; of the first ASSESS_PICTURES slots alone; an accepted one leaves
   none. That it cannot be written is a warning. */
enum { ASSESS_PICTURES = 256 };
void assessor_show(const assessor *a, const assess_pair *pair, const assessment *m, int64_t slot,
                   uint32_t attempt, const char *folder);
/* Why it is rejected, into out[size]. */
void assessor_explain(const assessor *a, const assessment *m, char *out, size_t size);

#endif
