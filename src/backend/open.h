/* The list of backends: one row each. */
#ifndef MD_BACKEND_OPEN_H
#define MD_BACKEND_OPEN_H

#include "graph/backend.h"

/* device "auto" (the best there is), "cpu" or "cuda". threads 0: the processors this process may
   use, shared by the `sharing` workers of its node. A device that this build or machine lacks is
   MD_USAGE and says so. Close with (*out)->ops->close. */
MD_MUST md_status backend_open(const char *device, int threads, int sharing, md_backend **out);

#endif
