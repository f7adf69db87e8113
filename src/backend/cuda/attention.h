/* Shared by attention.c and attention_grad.c: what cuDNN's graphs of attention have in common. */
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

#ifdef __cplusplus
}
#endif
#endif
