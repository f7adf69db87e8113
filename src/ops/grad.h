/* Reverse-mode differentiation as a graph transformation. */
#ifndef MD_OPS_GRAD_H
#define MD_OPS_GRAD_H

#include "graph/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Appends d loss / d wrt[i] for each i, in the order in which the backward pass makes them ready;
   out[i] is NULL where loss does not depend on wrt[i]. loss: [1]. wrt: leaves (md_extern,
   md_input). The first `n_recompute` blocks marked by md_block_begin are recomputed in the backward
   pass instead of being kept (Chen et al. 2016, arXiv:1604.06174). */
MD_MUST md_status md_grad(md_tensor *loss, md_tensor *const *wrt, int n, int n_recompute,
                          md_tensor **out);

#ifdef __cplusplus
}
#endif
#endif
