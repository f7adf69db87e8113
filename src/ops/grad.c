/* md_grad: walks the nodes backwards, asks each op's gradient builder, adds up what meets. */
#include "ops/grad.h"
#include "ops/ops.h"
#include <stdlib.h>
#include <string.h>

/* The gradient builders that ops.def names; vjp_none is one too, so that the rows need no case. */
static void vjp_none(md_node *n, md_tensor *const *gy, const bool *want, md_tensor **gx)
{
    (void)gy;
    (void)want;
    (void)gx;
    md_graph_poison(n->in[0]->g, MD_UNSUPPORTED, "%s has no gradient", md_op_name(n->op));
}

typedef void vjp_builder(md_node *, md_tensor *const *, const bool *, md_tensor **);
extern vjp_builder vjp_add, vjp_sub, vjp_mul, vjp_affine, vjp_act, vjp_geglu, vjp_cast, vjp_sum_to,
    vjp_broadcast_to, vjp_linear, vjp_matmul, vjp_conv2d, vjp_group_norm, vjp_layer_norm,
    vjp_attention, vjp_concat, vjp_slice, vjp_pad_axis, vjp_upsample2x, vjp_downsum2x,
    vjp_embedding;

static const md_vjp_fn vjp_table[MD_OP_COUNT] = {
#define MD_OP(name, n_out, vjp) vjp,
#include "graph/ops.def"
#undef MD_OP
};

typedef struct walk {
    md_graph *g;
    int n_tensors, n_nodes; /* at the start: the forward graph */
    bool *needs;            /* per tensor: depends on a wrt */
    md_tensor **grad;       /* per tensor (never a view): what has arrived so far */
    md_tensor **clone;      /* per tensor: its recomputed twin, NULL outside recomputed blocks */
    int n_recompute;
} walk;

static md_tensor *base_of(md_tensor *t)
{
    return t->storage == MD_VIEW ? t->base : t;
}

static void mark_needs(walk *w, md_tensor *const *wrt, int n)
{
    for (int i = 0; i < n; i++)
        w->needs[base_of(wrt[i])->id] = true;
    for (int i = 0; i < w->n_nodes; i++) {
        md_node *node = md_graph_node(w->g, i);
        bool any = false;
        for (int k = 0; k < node->n_in; k++)
            any = any || (node->in[k] && w->needs[base_of(node->in[k])->id]);
        for (int k = 0; any && k < node->n_out; k++)
            w->needs[base_of(node->out[k])->id] = true;
    }
}

/* Adds g, the gradient of t, to what t's base has received. */
static void arrive(walk *w, md_tensor *t, md_tensor *g)
{
    md_tensor *base = base_of(t);
    if (md_is_poison(g))
        return;
    if (t != base) {
        if (md_numel(t) != md_numel(base)) /* part of it: zeros elsewhere */
            g = md_pad_axis(md_reshape(g, 1, MD_DIMS(-1)), 0, t->offset, md_numel(base));
        g = md_reshape(g, base->ndim, base->dim);
    }
    md_tensor **slot = &w->grad[base->id];
    *slot = *slot ? md_add(*slot, g) : g;
}

/* What backward nodes should read in place of t. */
static md_tensor *twin(walk *w, md_tensor *t)
{
    if (!t || t->id >= w->n_tensors)
        return t;
    if (w->clone[t->id])
        return w->clone[t->id];
    if (t->storage == MD_VIEW && w->clone[t->base->id])
        return w->clone[t->id] = md_view(w->clone[t->base->id], t->offset, t->ndim, t->dim);
    return t;
}

/* Builds block b once more, right before its backward pass. */
static void recompute(walk *w, int b, int last)
{
    int first = last;
    while (first > 0 && md_graph_node(w->g, first - 1)->block == b)
        first--;
    for (int i = first; i <= last; i++) {
        md_node *old = md_graph_node(w->g, i);
        md_tensor *in[MD_MAX_IN] = {0};
        for (int k = 0; k < old->n_in; k++)
            in[k] = twin(w, old->in[k]);
        md_node *copy = md_node_new(w->g, old->op, old->n_in, in, &old->attr);
        copy->flops = old->flops;
        copy->path = old->path;
        for (int k = 0; k < old->n_out; k++)
            w->clone[old->out[k]->id] =
                md_node_output(copy, old->out[k]->dtype, old->out[k]->ndim, old->out[k]->dim);
    }
}

/* Calls the op's gradient builder on the node, or on its recomputed twin. */
static void step_back(walk *w, md_node *node)
{
    md_tensor *gy[MD_MAX_OUT] = {0}, *gx[MD_MAX_IN] = {0};
    bool want[MD_MAX_IN] = {0}, any_gy = false, any_want = false;
    for (int k = 0; k < node->n_out; k++) {
        gy[k] = w->grad[base_of(node->out[k])->id];
        any_gy = any_gy || gy[k];
    }
    for (int k = 0; k < node->n_in; k++) {
        want[k] = node->in[k] && w->needs[base_of(node->in[k])->id];
        any_want = any_want || want[k];
    }
    if (!any_gy || !any_want)
        return;
    md_node *seen = node;
    if (w->clone[node->out[0]->id])
        seen = w->clone[node->out[0]->id]->node;
    const char *path = md_graph_set_path(w->g, node->path);
    vjp_table[node->op](seen, gy, want, gx);
    for (int k = 0; k < node->n_in; k++)
        if (want[k] && gx[k])
            arrive(w, node->in[k], gx[k]);
    md_graph_set_path(w->g, path);
}

static void walk_back(walk *w)
{
    int done_block = -1;
    for (int i = w->n_nodes - 1; i >= 0; i--) {
        md_node *node = md_graph_node(w->g, i);
        if (node->block >= 0 && node->block < w->n_recompute && node->block != done_block) {
            done_block = node->block;
            recompute(w, node->block, i);
        }
        step_back(w, node);
        if (md_graph_check(w->g) != MD_OK)
            return;
    }
}

md_status md_grad(md_tensor *loss, md_tensor *const *wrt, int n, int n_recompute, md_tensor **out)
{
    md_graph *g = loss->g;
    MD_TRY(md_graph_check(g));
    if (md_numel(loss) != 1)
        MD_FAIL(MD_SHAPE, "grad: the loss is %s, not one number", md_shape_text(loss));
    walk w = {.g = g, .n_nodes = md_graph_n_nodes(g), .n_recompute = n_recompute};
    /* the gradient of the loss itself: 0 loss + 1 */
    md_tensor *one = md_affine(loss, 0, 1);
    w.n_tensors = md_graph_n_tensors(g);
    w.needs = calloc((size_t)w.n_tensors, sizeof *w.needs);
    w.grad = calloc((size_t)w.n_tensors, sizeof *w.grad);
    w.clone = calloc((size_t)w.n_tensors, sizeof *w.clone);
    md_status status = MD_OK;
    if (!w.needs || !w.grad || !w.clone) {
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "grad: out of memory");
    } else {
        mark_needs(&w, wrt, n);
        arrive(&w, loss, one);
        walk_back(&w);
        status = md_graph_check(g);
        for (int i = 0; i < n && status == MD_OK; i++)
            out[i] = w.grad[base_of(wrt[i])->id];
    }
    free(w.needs);
    free(w.grad);
    free(w.clone);
    return status;
}
