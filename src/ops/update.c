/* Ops that change persistent tensors in place. */
#include "ops/common.h"

static bool is_persistent(const md_tensor *t)
{
    return (t->storage == MD_VIEW ? t->base : t)->storage == MD_EXTERN;
}

static md_tensor *update(md_op op, md_tensor *dst, md_tensor *src)
{
    PASS_POISON(dst);
    PASS_POISON(src);
    if (!is_persistent(dst))
        return ops__mismatch(op, dst, src, "the first must be persistent (md_extern)");
    if (md_numel(dst) != md_numel(src) || dst->dtype != src->dtype)
        return ops__mismatch(op, dst, src, "must have the same type and size");
    return md_node_output_inplace(md_node_new(dst->g, op, 2, (md_tensor *[]){dst, src}, NULL), dst);
}

md_tensor *md_write(md_tensor *dst, md_tensor *src)
{
    return update(MD_OP_write, dst, src);
}

md_tensor *md_accumulate(md_tensor *dst, md_tensor *src)
{
    return update(MD_OP_accumulate, dst, src);
}

md_tensor *md_adamw(md_tensor *p, md_tensor *g, md_tensor *m, md_tensor *v, md_tensor *gnorm2,
                    md_tensor *hyper, double beta1, double beta2, double eps, double weight_decay)
{
    md_tensor *in[] = {p, g, m, v, gnorm2, hyper};
    for (int i = 0; i < 6; i++) {
        PASS_POISON(in[i]);
        if (in[i]->dtype != MD_F32)
            return ops__mismatch(MD_OP_adamw, p, in[i], "all inputs are f32");
    }
    for (int i = 1; i < 4; i++)
        if (md_numel(in[i]) != md_numel(p))
            return ops__mismatch(MD_OP_adamw, p, in[i], "p, g, m and v have one size");
    if (!is_persistent(p) || !is_persistent(m) || !is_persistent(v))
        return ops__mismatch(MD_OP_adamw, p, m, "p, m and v must be persistent");
    if (md_numel(gnorm2) != 1 || md_numel(hyper) != MD_HYPER_COUNT)
        return ops__mismatch(MD_OP_adamw, gnorm2, hyper, "want gnorm2 [1] and hyper [5]");
    md_attr attr = {.adamw = {beta1, beta2, eps, weight_decay}};
    return md_node_output_inplace(md_node_new(p->g, MD_OP_adamw, 6, in, &attr), p);
}

md_tensor *md_ema(md_tensor *e, md_tensor *p, md_tensor *decay)
{
    PASS_POISON(e);
    PASS_POISON(p);
    PASS_POISON(decay);
    if (!is_persistent(e) || md_numel(e) != md_numel(p) || e->dtype != MD_F32 ||
        p->dtype != MD_F32 || decay->dtype != MD_F32 || md_numel(decay) != 1)
        return ops__mismatch(MD_OP_ema, e, p, "both f32 of one size, the first persistent");
    return md_node_output_inplace(
        md_node_new(e->g, MD_OP_ema, 3, (md_tensor *[]){e, p, decay}, NULL), e);
}
