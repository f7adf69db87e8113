/* Shared by attention.c, attention_grad.c and attention_products.c. */
#ifndef MD_BACKEND_CUDA_ATTENTION_H
#define MD_BACKEND_CUDA_ATTENTION_H

#include "backend/cuda/dnn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The factor of the logits. */
double cuda__attention_scale(const md_node *n, const md_tensor *q);
/* Describes attention_grad without a mask as products, sums and exponentials. */
MD_MUST md_status cuda__attention_grad_graph(dnn *g, const md_node *n);
/* Prepares attention, in {q, k, v} -> {out, lse}, by products of cuBLASLt, or as cuda__flash where
   they do not serve: f32, a mask, small heads, options.workspace_bytes or alignment too small. */
MD_MUST md_status cuda__attention_products(md_backend *be, const md_node *node, md_kernel *k);

#ifdef __cplusplus
}
#endif
#endif
