/* Shared inside ops/: shape checks and short cuts for builders. */
#ifndef MD_OPS_COMMON_H
#define MD_OPS_COMMON_H

#include "ops/ops.h"

/* Returns poison from the calling builder when x is poison already. */
#define PASS_POISON(x)                                                                             \
    do {                                                                                           \
        if (md_is_poison(x))                                                                       \
            return (x);                                                                            \
    } while (0)

/* One output of dtype and shape from these inputs. */
static inline md_tensor *ops__node(md_graph *g, md_op op, int n_in, md_tensor *const *in,
                                   const md_attr *attr, md_dtype dtype, int ndim,
                                   const int64_t *dim)
{
    return md_node_output(md_node_new(g, op, n_in, in, attr), dtype, ndim, dim);
}

static inline md_tensor *ops__like(md_op op, int n_in, md_tensor *const *in, const md_attr *attr,
                                   const md_tensor *like)
{
    return ops__node(like->g, op, n_in, in, attr, like->dtype, like->ndim, like->dim);
}

/* Poison with "<op>: <shape of a> and <shape of b>: <what>". */
md_tensor *ops__mismatch(md_op op, const md_tensor *a, const md_tensor *b, const char *what);

/* True for F32 and BF16. */
static inline bool ops__is_float(const md_tensor *t)
{
    return t->dtype == MD_F32 || t->dtype == MD_BF16;
}

static inline bool ops__has_shape(const md_tensor *t, md_dtype dtype, int ndim, const int64_t *dim)
{
    bool same = t->dtype == dtype && t->ndim == ndim;
    for (int i = 0; same && i < ndim; i++)
        same = t->dim[i] == dim[i];
    return same;
}

/* Rows of a tensor seen as [rows, last]. */
static inline int64_t ops__rows(const md_tensor *t)
{
    return md_numel(t) / t->dim[t->ndim - 1];
}

#define VJP(name)                                                                                  \
    void vjp_##name(md_node *n, md_tensor *const *gy, const bool *want, md_tensor **gx)

#endif
