/* oneDNN behind two functions, for both of its C interfaces (2.x: op descriptors; 3.x: direct
   creation). Used where it is faster than our kernels: see cpu__dnnl_wanted. */
#ifndef MD_BACKEND_CPU_DNNL_H
#define MD_BACKEND_CPU_DNNL_H

#include "backend/cpu/internal.h"

/* Whether kernels try oneDNN first: AUTO by the processor; the others are for tests and timing. */
typedef enum cpu_dnnl_policy { CPU_DNNL_AUTO, CPU_DNNL_NEVER, CPU_DNNL_ALWAYS } cpu_dnnl_policy;
void cpu__dnnl_set_policy(cpu_dnnl_policy p);
/* Whether to try oneDNN for this node. All products where the processor has more than AVX2 (AVX-512
   for f32, its bf16 instructions for bf16); with AVX2 only convolutions over few channels. */
bool cpu__dnnl_wanted(const md_node *node, md_dtype dtype);

/* Prepares conv2d, conv2d_dx, conv2d_dw, linear or matmul in the node's own type. *taken is false,
   and k untouched, where oneDNN has only a reference implementation; then the caller uses its own.
 */
md_status cpu__dnnl_prepare(md_backend *be, const md_node *node, md_kernel *k, bool *taken);

#endif
