/* Inside src/format only: byte strings -> int32, open addressing, FNV-1a. Keys live in an arena. */
#ifndef MD_FORMAT_STRMAP_H
#define MD_FORMAT_STRMAP_H

#include "base/arena.h"
#include "base/status.h"

#include <stdint.h>

typedef struct strmap_slot {
    const char *key; /* NULL: free */
    uint32_t n, hash;
    int32_t value;
} strmap_slot;

typedef struct strmap {
    strmap_slot *slots;  /* in the arena */
    uint32_t mask, used; /* slots - 1, a power of two less one */
} strmap;

/* Room for n keys, fixed. */
MD_MUST md_status format__strmap_new(md_arena *a, int64_t n, strmap *out);
/* Sets key to value; a new key is copied into the arena. */
MD_MUST md_status format__strmap_put(strmap *m, md_arena *a, const char *key, size_t n,
                                     int32_t value);
/* value, or -1 when absent. */
int32_t format__strmap_get(const strmap *m, const char *key, size_t n);

#endif
