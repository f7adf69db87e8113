/* Convolutions of 3 x 3 with stride 1 by Winograd's minimal filtering, where it pays. */
#ifndef MD_BACKEND_CPU_WINOGRAD_H
#define MD_BACKEND_CPU_WINOGRAD_H

#include "backend/cpu/internal.h"

/* Whether this node, conv2d or conv2d_dx, is worth it. By one image's shape: a batch changes
   nothing. */
bool cpu__winograd_wanted(const md_node *node);

/* Takes f32 and bf16, bias and residual. */
md_status cpu__winograd_prepare(const md_node *node, md_kernel *k);

#endif
