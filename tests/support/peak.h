/* A backend that remembers the most bytes it ever held. */
#ifndef MD_TESTS_PEAK_H
#define MD_TESTS_PEAK_H

#include "graph/backend.h"

static md_backend_ops peak_ops;
static md_status (*peak_alloc_below)(md_backend *be, size_t bytes, void **out);
static size_t peak_bytes;

static inline md_status peak_alloc(md_backend *be, size_t bytes, void **out)
{
    MD_TRY(peak_alloc_below(be, bytes, out));
    if (be->allocated_bytes > peak_bytes)
        peak_bytes = be->allocated_bytes;
    return MD_OK;
}

/* From now on peak_bytes follows this backend (one at a time). */
static inline void peak_watch(md_backend *be)
{
    peak_ops = *be->ops;
    peak_alloc_below = be->ops->alloc;
    peak_ops.alloc = peak_alloc;
    be->ops = &peak_ops;
    peak_bytes = be->allocated_bytes;
}

#endif
