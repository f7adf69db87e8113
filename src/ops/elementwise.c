/* add, sub, mul with broadcasting; affine; activations; GEGLU; cast. */
#include "ops/common.h"

md_tensor *ops__mismatch(md_op op, const md_tensor *a, const md_tensor *b, const char *what)
{
    return md_graph_poison(a->g, MD_SHAPE, "%s: %s and %s: %s", md_op_name(op), md_shape_text(a),
                           md_shape_text(b), what);
}

static bool broadcasts_to(const md_tensor *b, const md_tensor *a)
{
    if (b->ndim > a->ndim)
        return false;
    for (int i = 1; i <= b->ndim; i++) {
        int64_t d = b->dim[b->ndim - i];
        if (d != 1 && d != a->dim[a->ndim - i])
            return false;
    }
    return true;
}

static md_tensor *binary(md_op op, md_tensor *a, md_tensor *b)
{
    PASS_POISON(a);
    PASS_POISON(b);
    if (!ops__is_float(a) || a->dtype != b->dtype)
        return ops__mismatch(op, a, b, "both must have one float type");
    if (!broadcasts_to(b, a))
        return ops__mismatch(op, a, b, "the second does not broadcast to the first");
    return ops__like(op, 2, (md_tensor *[]){a, b}, NULL, a);
}

md_tensor *md_add(md_tensor *a, md_tensor *b)
{
    return binary(MD_OP_add, a, b);
}

md_tensor *md_sub(md_tensor *a, md_tensor *b)
{
    return binary(MD_OP_sub, a, b);
}

md_tensor *md_mul(md_tensor *a, md_tensor *b)
{
    return binary(MD_OP_mul, a, b);
}

/* The gradient of a broadcast input: summed back to its shape. */
static md_tensor *unbroadcast(md_tensor *g, const md_tensor *like)
{
    return md_same_shape(g, like) ? g : md_sum_to(g, like->ndim, like->dim);
}

VJP(add)
{
    if (want[0])
        gx[0] = gy[0];
    if (want[1])
        gx[1] = unbroadcast(gy[0], n->in[1]);
}

VJP(sub)
{
    if (want[0])
        gx[0] = gy[0];
    if (want[1])
        gx[1] = md_scale(unbroadcast(gy[0], n->in[1]), -1);
}

VJP(mul)
{
    if (want[0])
        gx[0] = md_mul(gy[0], n->in[1]);
    if (want[1])
        gx[1] = unbroadcast(md_mul(gy[0], n->in[0]), n->in[1]);
}

md_tensor *md_affine(md_tensor *x, double alpha, double beta)
{
    PASS_POISON(x);
    if (!ops__is_float(x))
        return md_graph_poison(x->g, MD_SHAPE, "affine: %s is not a float", md_shape_text(x));
    md_attr attr = {.affine = {alpha, beta}};
    return ops__like(MD_OP_affine, 1, &x, &attr, x);
}

VJP(affine)
{
    if (want[0])
        gx[0] = md_scale(gy[0], n->attr.affine.alpha);
}

static md_tensor *act(md_tensor *x, md_attr attr)
{
    PASS_POISON(x);
    if (!ops__is_float(x))
        return md_graph_poison(x->g, MD_SHAPE, "act: %s is not a float", md_shape_text(x));
    return attr.act.kind == MD_ACT_NONE ? x : ops__like(MD_OP_act, 1, &x, &attr, x);
}

md_tensor *md_activation(md_tensor *x, md_act kind)
{
    return act(x, (md_attr){.act = {.kind = kind}});
}

md_tensor *md_clamp(md_tensor *x, double lo, double hi)
{
    return act(x, (md_attr){.act = {MD_ACT_CLAMP, lo, hi}});
}

md_tensor *md_act_grad(md_tensor *dy, md_tensor *x, md_attr attr)
{
    PASS_POISON(dy);
    PASS_POISON(x);
    if (!md_same_shape(dy, x) || dy->dtype != x->dtype)
        return ops__mismatch(MD_OP_act_grad, dy, x, "must be alike");
    return ops__like(MD_OP_act_grad, 2, (md_tensor *[]){dy, x}, &attr, x);
}

VJP(act)
{
    if (!want[0])
        return;
    /* exp is its own derivative */
    gx[0] = n->attr.act.kind == MD_ACT_EXP ? md_mul(gy[0], n->out[0])
                                           : md_act_grad(gy[0], n->in[0], n->attr);
}

md_tensor *md_geglu(md_tensor *x)
{
    PASS_POISON(x);
    int64_t dim[MD_MAX_DIMS];
    for (int i = 0; i < x->ndim; i++)
        dim[i] = x->dim[i];
    if (!ops__is_float(x) || dim[x->ndim - 1] % 2)
        return md_graph_poison(x->g, MD_SHAPE, "geglu: %s needs a float type and an even width",
                               md_shape_text(x));
    dim[x->ndim - 1] /= 2;
    return ops__node(x->g, MD_OP_geglu, 1, &x, NULL, x->dtype, x->ndim, dim);
}

md_tensor *md_geglu_grad(md_tensor *dy, md_tensor *x)
{
    PASS_POISON(dy);
    PASS_POISON(x);
    if (2 * md_numel(dy) != md_numel(x) || dy->dtype != x->dtype)
        return ops__mismatch(MD_OP_geglu_grad, dy, x, "x must be twice as wide");
    return ops__like(MD_OP_geglu_grad, 2, (md_tensor *[]){dy, x}, NULL, x);
}

VJP(geglu)
{
    if (want[0])
        gx[0] = md_geglu_grad(gy[0], n->in[0]);
}

md_tensor *md_cast(md_tensor *x, md_dtype dtype)
{
    PASS_POISON(x);
    if (x->dtype == dtype)
        return x;
    if (!ops__is_float(x) || (dtype != MD_F32 && dtype != MD_BF16))
        return md_graph_poison(x->g, MD_SHAPE, "cast: %s to %s", md_shape_text(x),
                               md_dtype_name(dtype));
    return ops__node(x->g, MD_OP_cast, 1, &x, NULL, dtype, x->ndim, x->dim);
}

VJP(cast)
{
    if (want[0])
        gx[0] = md_cast(gy[0], n->in[0]->dtype);
}
