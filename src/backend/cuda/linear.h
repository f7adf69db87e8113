/* Products of matrices on cuBLASLt (linear.c), for the ops that are one or are made of some. */
#ifndef MD_BACKEND_CUDA_LINEAR_H
#define MD_BACKEND_CUDA_LINEAR_H

#include "backend/cuda/choose.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { CUDA_PRODUCT_ALGORITHMS = 8 };

/* c[m,n] = alpha a[m,k] b[k,n] + bias[n] + residual[m,n], summed in f32; all row-major, bias and
   residual in the type of c. With ta a lies as [k,m], with tb b as [n,k]. */
typedef struct cuda_product {
    cuda_impl *d;
    int64_t m, n, k;
    bool ta, tb, bias, residual;
    md_dtype dtype, out_dtype; /* of a and b; of c: the same, or F32 */
    float alpha;
    int64_t lda, ldb, ldc; /* elements from row to row as they lie; the residual's is ldc */
    int64_t alignment[5];  /* bytes, divides every address of a, b, bias, residual, c */
    size_t limit;          /* most bytes of scratch that an algorithm may take */
    /* cuda__product_prepare's: */
    int n_found; /* algorithms; the first is the one to run */
    cublasLtMatmulHeuristicResult_t found[CUDA_PRODUCT_ALGORITHMS];
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t left, right, out; /* left: our second operand */
    const void *bias_at;                     /* what the descriptor holds */
} cuda_product;

/* Chooses an algorithm for what the upper fields describe; MD_OK with n_found = 0 where there is
   none. cuda__product_close undoes it, after an error too, and takes a struct of zeros. */
MD_MUST md_status cuda__product_prepare(cuda_product *p);
void cuda__product_close(cuda_product *p);
/* Bytes of scratch that the chosen algorithm takes. */
size_t cuda__product_scratch(const cuda_product *p);
/* in {a, b, bias, residual}, the last two read only where there are some. MD_INTERNAL for an
   address off its alignment. */
MD_MUST md_status cuda__product_run(cuda_product *p, const void *const in[4], void *out,
                                    void *scratch);

#ifdef __cplusplus
}
#endif
#endif
