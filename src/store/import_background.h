/* Inside the import and the repair: what backgrounds.h5 is made of. */
#ifndef MD_STORE_IMPORT_BACKGROUND_H
#define MD_STORE_IMPORT_BACKGROUND_H

#include "store/import.h"

/* chosen[count]: `count` of 0..n-1, ascending, drawn by the seed so that fewer are part of more. */
MD_MUST md_status import_choose(uint64_t seed, int64_t n, int64_t count, int64_t *chosen);

#endif
