/* Ops that change persistent tensors in place. */
#include "ops/common.h"
#include "ops/state.h"

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

static bool adamw_states_fit(const md_adamw_tensors *t)
{
    int64_t n = md_numel(t->p), blocks = (n + MD_STATE_BLOCK - 1) / MD_STATE_BLOCK;
    bool u8 = t->m->dtype == MD_U8, scales = t->m_scale && t->v_scale;
    if (t->m->dtype != t->v->dtype || t->m->dtype == MD_I32 || u8 != scales)
        return false;
    return !scales || (t->m_scale->dtype == MD_F32 && t->v_scale->dtype == MD_F32 &&
                       md_numel(t->m_scale) == blocks && md_numel(t->v_scale) == blocks);
}

md_tensor *md_adamw(const md_adamw_tensors *t, md_tensor *gnorm2, md_tensor *hyper, double beta1,
                    double beta2, double eps, double weight_decay)
{
    md_tensor *p = t->p;
    md_tensor *in[] = {p, t->g, t->m, t->v, gnorm2, hyper, t->shadow, t->m_scale, t->v_scale};
    const bool kept[] = {true, false, true, true, false, false, true, true, true};
    for (int i = 0; i < 9; i++) {
        if (!in[i])
            continue;
        PASS_POISON(in[i]);
        if (kept[i] && !is_persistent(in[i]))
            return ops__mismatch(MD_OP_adamw, p, in[i], "must be persistent");
        if ((i < 4 || i == 6) && md_numel(in[i]) != md_numel(p))
            return ops__mismatch(MD_OP_adamw, p, in[i], "p, g, m, v and shadow have one size");
    }
    if (p->dtype != MD_F32 || !ops__is_float(t->g))
        return ops__mismatch(MD_OP_adamw, p, t->g, "p is f32, g a float type");
    if (t->shadow && t->shadow->dtype != MD_BF16)
        return ops__mismatch(MD_OP_adamw, p, t->shadow, "the shadow is bf16");
    if (!adamw_states_fit(t))
        return ops__mismatch(MD_OP_adamw, t->m, t->v,
                             "m and v are f32, bf16, or u8 with a scale per block");
    if (gnorm2->dtype != MD_F32 || hyper->dtype != MD_F32 || md_numel(gnorm2) != 1 ||
        md_numel(hyper) != MD_HYPER_COUNT)
        return ops__mismatch(MD_OP_adamw, gnorm2, hyper, "want gnorm2 [1] and hyper [6], f32");
    md_attr attr = {.adamw = {beta1, beta2, eps, weight_decay}};
    return md_node_output_inplace(md_node_new(p->g, MD_OP_adamw, 9, in, &attr), p);
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
