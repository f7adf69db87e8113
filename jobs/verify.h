/* What the parts of `meddiff verify` share: verify.c looks at the run directory and lists its
   stores (a new store is a row there), verify_data.c and verify_pairs.c look at these,
   verify_inputs.c at what pairs.h5 was made from. */
#ifndef MD_JOBS_VERIFY_H
#define MD_JOBS_VERIFY_H

#include "base/status.h"
#include "config/config.h"
#include "store/data.h"
#include "store/pairs.h"

#include <stdbool.h>
#include <stdint.h>

enum { VERIFY_PATH = 4096, VERIFY_TEXT = 1 << 20 };

typedef struct verify {
    const char *run;
    bool live;               /* a job works in this run directory */
    int64_t problems, notes; /* lines printed of each */
    int64_t rows, files;     /* looked at */
    int64_t unfinished;      /* slots of pairs.h5 that are still to be made */
    data_store *data;        /* once it was opened, for what refers to its rows */
    data_store *backgrounds;
} verify;

/* One line each: what is wrong; what is right but could not be judged, or is not finished. A file's
   name, or a status text with one, comes first. */
void verify_problem(verify *v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void verify_note(verify *v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The chain of a failed call, as a problem. */
void verify_failed(verify *v);

/* RUN/<name> into path; whether it is there. */
bool verify_path(const verify *v, const char *name, char path[VERIFY_PATH]);

/* One store; they say what is wrong in it, and fail where it cannot be read. */
md_status verify_data(verify *v, const char *path);
md_status verify_backgrounds(verify *v, const char *path);
md_status verify_masks(verify *v, const char *path);
md_status verify_pairs(verify *v, const char *path);
/* The configuration in a store; NULL after saying why there is none. */
config *verify_own_config(verify *v, const char *path, const char *text);
/* The hashes that pairs.h5 (open as p, made under cfg) holds against the files that are there. */
void verify_inputs(verify *v, pairs_store *p, const config *cfg);
/* Opens every file of a known kind below. */
void verify_files(verify *v, const char *folder);
void verify_models(verify *v);
void verify_checkpoints(verify *v);

#endif
