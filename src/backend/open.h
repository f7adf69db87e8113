/* The list of backends: one row each. */
#ifndef MD_BACKEND_OPEN_H
#define MD_BACKEND_OPEN_H

#include "graph/backend.h"

typedef struct backend_options {
    const char *device; /* "auto", "cpu", "cuda" or "ref" */
    int threads;        /* 0: the processors this process may use, shared by the node's workers */
    int sharing;        /* workers on this node, at least 1 */
    int index;          /* this worker's place among them */
    int64_t workspace_mib; /* most that one call of a GPU's library may take */
    const char *cache;     /* folder for what was timed; NULL: not kept. Must outlive the backend */
    bool deterministic;    /* only sums of a fixed order */
} backend_options;

/* auto: a GPU where there is one that can be used, else the processor; worker 0 of a node says
   which and why. A device that this build or machine lacks is MD_USAGE and says so. Close with
   (*out)->ops->close. */
MD_MUST md_status backend_open(const backend_options *o, md_backend **out);
/* What tells the GPUs of one machine apart, for comm_device_new; "" for what is no GPU. Owned by
   the backend. */
const char *backend_identity(const md_backend *be);

#endif
