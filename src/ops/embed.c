/* Table look-up and the sinusoidal timestep embedding. */
#include "ops/common.h"
#include <string.h>

md_tensor *md_embedding(md_tensor *ids, md_tensor *table)
{
    PASS_POISON(ids);
    PASS_POISON(table);
    if (ids->dtype != MD_I32 || table->ndim != 2 || !ops__is_float(table) ||
        ids->ndim >= MD_MAX_DIMS)
        return ops__mismatch(MD_OP_embedding, ids, table, "want i32 ids and a table [V,D]");
    int64_t dim[MD_MAX_DIMS];
    memcpy(dim, ids->dim, sizeof dim);
    dim[ids->ndim] = table->dim[1];
    return ops__node(ids->g, MD_OP_embedding, 2, (md_tensor *[]){ids, table}, NULL, table->dtype,
                     ids->ndim + 1, dim);
}

md_tensor *md_embedding_grad(md_tensor *dy, md_tensor *ids, int64_t vocab)
{
    PASS_POISON(dy);
    PASS_POISON(ids);
    if (ids->dtype != MD_I32 || ops__rows(dy) != md_numel(ids))
        return ops__mismatch(MD_OP_embedding_grad, dy, ids, "one row of dy for each id");
    return ops__node(dy->g, MD_OP_embedding_grad, 2, (md_tensor *[]){dy, ids}, NULL, dy->dtype, 2,
                     MD_DIMS(vocab, dy->dim[dy->ndim - 1]));
}

VJP(embedding)
{
    if (want[1])
        gx[1] = md_embedding_grad(gy[0], n->in[0], n->in[1]->dim[0]);
}

md_tensor *md_timestep_embedding(md_tensor *t, int64_t dim, bool flip, double shift,
                                 double max_period)
{
    PASS_POISON(t);
    if (t->dtype != MD_F32 || t->ndim != 1 || dim < 2 || dim % 2)
        return md_graph_poison(t->g, MD_SHAPE, "timestep_embedding: %s to width %lld (even)",
                               md_shape_text(t), (long long)dim);
    md_attr attr = {.temb = {max_period, shift, flip}};
    return ops__node(t->g, MD_OP_timestep_embedding, 1, &t, &attr, MD_F32, 2,
                     MD_DIMS(t->dim[0], dim));
}
