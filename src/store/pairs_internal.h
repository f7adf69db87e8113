/* What pairs.c shares with pairs_pack.c. */
#ifndef MD_STORE_PAIRS_INTERNAL_H
#define MD_STORE_PAIRS_INTERNAL_H

#include "store/pairs.h"
#include "store/table.h"

enum { PAIRS_TEXTS = 5 };

/* What a store says about itself, with the texts that it borrows. */
typedef struct pairs_spec_copy {
    pairs_spec spec;
    char *text[PAIRS_TEXTS];
    char *hex[PAIRS_MAX_INPUTS];
} pairs_spec_copy;

/* Into c, which starts as {0}; pairs__free_spec whatever it says. */
MD_MUST md_status pairs__read_spec(pairs_store *p, pairs_spec_copy *c);
void pairs__free_spec(pairs_spec_copy *c);
/* The file `path` itself, with further columns; packed where there are any. */
MD_MUST md_status pairs__make(const char *path, const pairs_spec *s, const store_column *more,
                              int n_more);
MD_MUST md_status pairs__flush(pairs_store *p);

#endif
