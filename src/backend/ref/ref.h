/* The oracle: every op as naive loops in double. Slow on purpose; tests compare the other backends
   and finite differences with it. Every float type, BF16 too, is stored as an unrounded double, so
   a cast is a copy; MD_I32 is int32_t. */
#ifndef MD_BACKEND_REF_REF_H
#define MD_BACKEND_REF_REF_H

#include "graph/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Close with (*out)->ops->close. Memory is host memory. */
MD_MUST md_status ref_backend_open(md_backend **out);

#ifdef __cplusplus
}
#endif
#endif
