/* What is in a run directory and which job made it: the table outputs.def, and the removal of what
   --fresh asks for. What stands in no row is never touched. Rank 0 alone; all local. */
#ifndef MD_JOBS_OUTPUTS_H
#define MD_JOBS_OUTPUTS_H

#include "base/status.h"

#include <stdbool.h>

#define PRODUCT(name, job, word, marker) PRODUCT_##name,
#define OUTPUT(product, folder, names)
#define METRICS(product, stage)
#define RUN_FILES(names)
typedef enum product {
#include "outputs.def"
    N_PRODUCTS
} product;
#undef PRODUCT
#undef OUTPUT
#undef METRICS
#undef RUN_FILES

typedef unsigned product_set; /* bit p: product p */

typedef struct product_row {
    const char *job, *word, *marker;
} product_row;

const product_row *product_find(product p);

/* Removes the products of `set` from the run directory, those made from others first, a line for
   each thing before it goes; names what no job made, which stays. repaired: backgrounds.h5 is the
   backgrounds job's and not the import's. Links are removed, never followed: MD_USAGE, before
   anything is removed, where something to be removed lies behind one. *any: something is gone. */
MD_MUST md_status outputs_remove(const char *run, product_set set, bool repaired, bool *any);

#endif
