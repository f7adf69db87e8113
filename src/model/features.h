/* Features of pictures, ready to run: what an encoder (DINOv2, a folder as transformers writes it)
   says of a picture, its class token of length one. The dot product of two is their similarity. */
#ifndef MD_MODEL_FEATURES_H
#define MD_MODEL_FEATURES_H

#include "graph/plan.h"
#include "model/preprocess.h"
#include "model/standalone.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct features features;

/* Opens and checks; takes no device memory. */
MD_MUST md_status features_open(const char *folder, features **out);
/* Without weights, for a plan: config.json and preprocessing alone. */
MD_MUST md_status features_open_config(const char *folder, features **out);
/* For an encoder that is in memory already, loaded on be: borrowed. */
MD_MUST md_status features_wrap(standalone *encoder, const preprocess *p, features **out);
void features_free(features *f);           /* NULL is fine; before its backend is closed */
int64_t features_width(const features *f); /* numbers of one picture: D */
/* SHA-256 of what shapes features: config, preprocessing, weights. */
MD_MUST md_status features_hash(const features *f, char hex[MD_SHA256_HEX]);

/* Plans for `batch` pictures at a time (a result does not depend on it). */
MD_MUST md_status features_plan(features *f, md_backend *be, md_dtype dtype, int batch);
/* The plan, for memory and FLOP; and all bytes that features_load takes. */
const md_plan *features_step(const features *f);
size_t features_bytes(const features *f);
/* Reads the weights and takes all memory. */
MD_MUST md_status features_load(features *f);
/* n pictures [h,w,3] of any sizes -> out [n,D], each of length one. MD_NONFINITE names the picture
   whose features are not finite. */
MD_MUST md_status features_encode(features *f, const image *rgb, int64_t n, float *out);

#ifdef __cplusplus
}
#endif
#endif
