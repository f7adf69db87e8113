/* Stand-ins for cuDNN's graph interface, cuBLASLt and the few runtime calls that conv.c,
   attention.c, linear.c and tune.c make, for machines without a GPU. They check what they are told
   and compute on host memory from nothing but the descriptors, with plain loops. */
#ifndef MD_TESTS_CUDA_FAKE_VENDOR_H
#define MD_TESTS_CUDA_FAKE_VENDOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FAKE_MAX_OFFERS = 12 };

/* One engine or algorithm that the heuristics offer. */
typedef struct fake_offer {
    unsigned notes; /* bit per cudnnBackendNumericalNote_t; cuBLASLt has none */
    size_t workspace;
    bool fallback; /* in the heuristics' fallback list only */
    bool broken;   /* cannot be built (cuDNN), state is not success (cuBLASLt) */
    bool crashes;  /* fails when run */
    double ms;
} fake_offer;

typedef struct fake_vendor {
    long calls, fail_at; /* the fail_at-th call from a reset fails; 0: none */
    const char *failed;  /* the name of the call that did */
    long live;           /* descriptors, events and memory that nobody freed */
    long violations;     /* calls that the library would have refused; the first one: */
    char violation[240];
    long executions, built, asked, packs;
    int last;           /* offer of the last execution */
    int most_ops;       /* of any graph executed */
    const void *stream; /* where products and own kernels belong */
    char order[32];     /* the first of them: 'p' a product, 'k' a kernel */
    double clock_ms;
    int n_offers;
    fake_offer offers[FAKE_MAX_OFFERS];
    bool refuse_fused;     /* no engine for several operations, no algorithm for an epilogue */
    bool refuse_attention; /* every graph of an attention is a bad parameter */
    bool refuse_unified;   /* of its gradient as one operation, as in cuDNN 9.19 */
    bool no_memory;        /* cudaMalloc */
} fake_vendor;

extern fake_vendor fake;

/* Three offers without notes, the second the fastest; every counter 0 but `live`. */
void fake_reset(void);
/* Counts the call; true when it is the one to fail. */
bool fake_fails(const char *call);
/* Notes it in `order`. */
void fake_put(char what, const void *stream);
void fake_violation(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* f32 or bf16, by element. */
double fake_load(const void *p, bool bf16, int64_t i);
void fake_store(void *p, bool bf16, int64_t i, double v);

#endif
