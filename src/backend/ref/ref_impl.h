/* Shared inside backend/ref: the kernel prototypes and what more than one family needs. */
#ifndef MD_BACKEND_REF_REF_IMPL_H
#define MD_BACKEND_REF_REF_IMPL_H

#include "graph/backend.h"

#define MD_OP(name, n_out, vjp)                                                                    \
    md_status ref_##name(md_backend *be, const md_node *node, md_kernel *k);
#include "graph/ops.def"
#undef MD_OP

/* Defines ref_<op> around the static function run_<op>. */
#define REF_KERNEL(op)                                                                             \
    md_status ref_##op(md_backend *be, const md_node *node, md_kernel *k)                          \
    {                                                                                              \
        (void)be;                                                                                  \
        (void)node;                                                                                \
        k->run = run_##op;                                                                         \
        return MD_OK;                                                                              \
    }

/* Signature of every run_<op>. */
#define REF_RUN(op)                                                                                \
    static md_status run_##op(const md_kernel *k, void *const *in, void *const *out, void *scratch)

/* Offset in `b` of element i of `a`: b is right-aligned to a, its dims equal or 1. */
int64_t ref__broadcast(const md_tensor *a, const md_tensor *b, int64_t i);

/* f(x) and f'(x) */
double ref__act(md_act kind, double lo, double hi, double x);
double ref__act_slope(md_act kind, double lo, double hi, double x);

/* Product of dims [from, to). */
int64_t ref__dims(const md_tensor *t, int from, int to);

#endif
