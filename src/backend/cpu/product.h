/* Convolutions and linear layers as one product: rows (pixels, tokens) times weights, which are
   read where they lie; the rows are packed, converted and transposed, a cache's worth at a time. */
#ifndef MD_BACKEND_CPU_PRODUCT_H
#define MD_BACKEND_CPU_PRODUCT_H

#include "backend/cpu/internal.h"

#define CPU_PRODUCT_ROWS 96 /* rows of a task */

/* out[r][o] = bias[o] + residual[r][o] + sum over taps t, k < k_len of in[r,t][k] w[o,t,k] */
typedef struct cpu_product {
    int64_t rows, outs, k_len;
    int taps;
    /* w[o,t,k] is element o * w_out + w_tap[t] + k * w_k; w_out or w_k is 1. */
    int64_t w_out, w_k;
    const int64_t *w_tap;
    /* Where the k_len floats of rows first..first+n begin for a tap, -1: zeros; for tap -1, where
       their outputs begin. */
    void (*locate)(const void *ctx, int64_t first, int64_t n, int tap, int64_t *at);
    const void *ctx;
    bool in_half, w_half, b_half, r_half, out_half; /* bf16 */
} cpu_product;

typedef struct cpu_product_args {
    const void *in, *w, *bias, *residual; /* the last two may be NULL */
    void *out;
} cpu_product_args;

/* Whether this node, conv2d, conv2d_dx, linear or matmul, is worth it: its weights are large. By
   one sample's shape. */
bool cpu__product_wanted(const md_node *node);

/* Scratch for any number of rows and outs. The sums depend on k_len and taps alone. */
size_t cpu__product_scratch(int threads);
void cpu__product_run(const cpu_product *p, const cpu_product_args *a, void *scratch, int threads);

/* A node's tensors; a residual that it has given up (cpu__prepare_residual) is left out. */
cpu_product_args cpu__product_args(const md_node *node, void *const *in, void *const *out);
/* Sets the types of a node's tensors. */
void cpu__product_types(cpu_product *p, const md_node *node);

#endif
