/* chain: the plan's elementwise nodes in one kernel. */
#include "backend/cuda/chain.h"
#include <string.h>

static md_status run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    return cuda__launched(k, cuda__chain(cuda__device(k->backend), k->state, in, out[0]));
}

/* Whether what step s left in its register is read later than by the next step. */
static bool read_later(const md_chain *c, int s)
{
    int r = c->step[s].to;
    for (int i = s + 1; i < c->n; i++) {
        if (i > s + 1 && (c->step[i].a == r || c->step[i].b == r))
            return true;
        if (c->step[i].to == r)
            return false;
    }
    return false;
}

static int8_t operand(const md_chain *c, int s, int r)
{
    return (int8_t)(s > 0 && c->step[s - 1].to == r ? CUDA_CHAIN_LAST : r);
}

static cuda_chain_step step_of(const md_chain *c, int i)
{
    const md_chain_step *s = &c->step[i];
    cuda_chain_step t = {.op = (int8_t)s->op,
                         .a = operand(c, i, s->a),
                         .b = operand(c, i, s->b < 0 ? s->a : s->b),
                         .to = (int8_t)(read_later(c, i) ? s->to : CUDA_CHAIN_LAST)};
    if (s->op == MD_OP_affine) {
        t.p = (float)s->attr.affine.alpha;
        t.q = (float)s->attr.affine.beta;
    } else if (s->op == MD_OP_act || s->op == MD_OP_act_grad) {
        t.act = (int8_t)s->attr.act.kind;
        t.p = (float)s->attr.act.lo;
        t.q = (float)s->attr.act.hi;
    }
    return t;
}

md_status cuda_chain(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    void *state;
    MD_TRY(md_kernel_state(k, sizeof(cuda_chain_program), &state));
    cuda_chain_program *c = state;
    md_chain_shape shape;
    md_chain_fold(node, &shape);
    memcpy(c->dim, shape.dim, sizeof c->dim);
    memcpy(c->stride, shape.stride, sizeof c->stride);
    c->n_dims = shape.n;
    c->n_in = node->n_in;
    c->n = node->attr.chain->n;
    for (int i = 0; i < c->n_in; i++)
        c->in_bf16[i] = node->in[i]->dtype == MD_BF16;
    c->out_bf16 = node->out[0]->dtype == MD_BF16;
    for (int i = 0; i < c->n; i++)
        c->step[i] = step_of(node->attr.chain, i);
    k->run = run;
    return MD_OK;
}
