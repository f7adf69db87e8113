/* chain: the plan's elementwise nodes in one. */
#include "graph/chain.h"
#include "backend/ref/ref_impl.h"

static double step_value(const md_chain_step *s, const double *r)
{
    const md_attr *t = &s->attr;
    double a = r[s->a], b = s->b < 0 ? 0 : r[s->b];
    switch (s->op) {
    case MD_OP_add:
        return a + b;
    case MD_OP_sub:
        return a - b;
    case MD_OP_mul:
        return a * b;
    case MD_OP_affine:
        return t->affine.alpha * a + t->affine.beta;
    case MD_OP_act:
        return ref__act(t->act.kind, t->act.lo, t->act.hi, a);
    case MD_OP_act_grad:
        return a * ref__act_slope(t->act.kind, t->act.lo, t->act.hi, b);
    default: /* cast */
        return a;
    }
}

REF_RUN(chain)
{
    (void)scratch;
    const md_node *n = k->node;
    const md_chain *c = n->attr.chain;
    const md_tensor *y = n->out[0];
    for (int64_t i = 0; i < md_numel(y); i++) {
        double r[MD_CHAIN_REGS] = {0};
        for (int j = 0; j < n->n_in; j++) {
            const md_tensor *x = n->in[j];
            bool all = md_numel(x) == md_numel(y); /* lies like y even where its dims differ */
            r[j] = ((const double *)in[j])[all ? i : ref__broadcast(y, x, i)];
        }
        for (int s = 0; s < c->n; s++)
            r[c->step[s].to] = step_value(&c->step[s], r);
        ((double *)out[0])[i] = r[c->step[c->n - 1].to];
    }
    return MD_OK;
}
REF_KERNEL(chain)
