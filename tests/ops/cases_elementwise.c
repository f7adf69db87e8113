/* add sub mul affine act geglu cast; broadcasting of the second operand. */
#include "ops_test.h"

#define FULL  GRAD | BF16 | ANY_THREADS
#define SILU  .attr.act = {.kind = MD_ACT_SILU}
#define GELU  .attr.act = {.kind = MD_ACT_GELU}
#define QUICK .attr.act = {.kind = MD_ACT_QUICK_GELU}
#define EXP   .attr.act = {.kind = MD_ACT_EXP}
#define LOG   .attr.act = {.kind = MD_ACT_LOG}
#define CLAMP .attr.act = {MD_ACT_CLAMP, -0.5, 0.7}

static const op_case rows[] = {
    {OP(add), IN(2, 3, 5, 7), IN(2, 3, 5, 7), .flags = FULL, .golden = "add"},
    {OP(add), IN(2, 3, 5, 7), IN(7), .flags = FULL},
    {OP(add), IN(2, 3, 5, 7), IN(2, 1, 1, 7), .flags = FULL, .golden = "add_time"},
    {OP(add), IN(2, 3, 5, 7), IN(2, 1, 1, 1), .flags = FULL},
    {OP(add), IN(2, 3, 5, 7), IN(1), .flags = FULL},
    {OP(add), IN(2, 3, 5, 7), IN(2, 3, 5, 1), .flags = FULL},
    {OP(add), IN(2, 3, 5, 7), IN(3, 1, 7), .flags = FULL},
    {OP(add), IN(2, 3, 5, 7), IN(1, 3, 1, 7), .flags = FULL},
    {OP(add), IN(2, 3, 5, 7), IN(2, 1, 5, 1), .flags = FULL},
    {OP(add), IN(2, 3, 5, 7), IN(2, 3, 1, 7), .flags = FULL},
    {OP(add), IN(2, 3, 5, 7), IN(1, 1, 5, 7), .flags = FULL},
    {OP(add), IN(2, 1, 5, 1), IN(5, 1), .flags = FULL},
    {OP(add), IN(1), IN(1), .flags = FULL},
    {OP(add), IN(2, 3, 4, 16), IN(16), .flags = FULL},
    {OP(add), IN(2, 3, 4, 16), IN(1, 3, 1, 16), .flags = FULL},
    {OP(add), IN(2, 3, 4, 16), IN(2, 1, 4, 1), .flags = FULL},
    {OP(add), IN(2, 77, 40), IN(77, 40), .flags = FULL | BIG},
    {OP(add), IN(2, 32, 32, 64), IN(64), .flags = FULL | BIG},
    {OP(add), IN(2, 32, 32, 64), IN(2, 32, 32, 64), .flags = FULL | BIG},
    {OP(add), IN(2, 32, 32, 64), IN(2, 1, 1, 64), .flags = FULL | BIG},
    {OP(add), IN(3, 20001), IN(3, 1), .flags = FULL | BIG},
    {OP(add), IN(3, 20001), IN(20001), .flags = FULL | BIG},
    {OP(sub), IN(2, 3, 5, 7), IN(2, 3, 5, 7), .flags = FULL},
    {OP(sub), IN(2, 3, 5, 7), IN(7), .flags = FULL, .golden = "sub"},
    {OP(sub), IN(2, 3, 5, 7), IN(2, 1, 1, 7), .flags = FULL},
    {OP(sub), IN(2, 3, 5, 7), IN(2, 1, 1, 1), .flags = FULL},
    {OP(sub), IN(2, 3, 5, 7), IN(1), .flags = FULL},
    {OP(sub), IN(2, 3, 5, 7), IN(2, 3, 5, 1), .flags = FULL},
    {OP(sub), IN(2, 3, 4, 16), IN(16), .flags = FULL},
    {OP(sub), IN(2, 3, 4, 16), IN(2, 1, 1, 16), .flags = FULL},
    {OP(sub), IN(2, 3, 4, 16), IN(3, 1, 1), .flags = FULL},
    {OP(sub), IN(1, 31, 33, 4), IN(1, 31, 33, 4), .flags = FULL | BIG},
    {OP(mul), IN(2, 3, 5, 7), IN(2, 3, 5, 7), .flags = FULL},
    {OP(mul), IN(2, 3, 5, 7), IN(7), .flags = FULL},
    {OP(mul), IN(2, 3, 5, 7), IN(2, 1, 1, 7), .flags = FULL},
    {OP(mul), IN(2, 3, 5, 7), IN(2, 1, 1, 1), .flags = FULL},
    {OP(mul), IN(2, 3, 5, 7), IN(1), .flags = FULL},
    {OP(mul), IN(2, 3, 5, 7), IN(2, 3, 5, 1), .flags = FULL, .golden = "mul_mask"},
    {OP(mul), IN(2, 3, 4, 16), IN(16), .flags = FULL},
    {OP(mul), IN(2, 3, 4, 16), IN(2, 1, 1, 16), .flags = FULL},
    {OP(mul), IN(2, 3, 4, 16), IN(2, 3, 4, 1), .flags = FULL},
    {OP(mul), IN(2, 3, 4, 16), IN(3, 1, 1), .flags = FULL},
    {OP(mul), IN(3, 5), IN(3, 1), .flags = FULL},
    {OP(mul), IN(2, 32, 32, 4), IN(2, 32, 32, 1), .flags = FULL | BIG},
    {OP(affine), IN(3, 7), .attr.affine = {-2.5, 0.3}, .flags = FULL, .golden = "affine"},
    {OP(affine), IN(1), .attr.affine = {0, 1.5}, .flags = FULL},
    {OP(affine), IN(1021), .attr.affine = {0.18215, 0}, .flags = FULL},
    {OP(affine), IN(2, 64, 64, 3), .attr.affine = {2, -1}, .flags = FULL | BIG},
    {OP(act), IN(3, 17), SILU, .flags = FULL, .golden = "silu"},
    {OP(act), IN(3, 17), GELU, .flags = FULL, .golden = "gelu"},
    {OP(act), IN(3, 17), QUICK, .flags = FULL, .golden = "quick_gelu"},
    {OP(act), IN(3, 17), EXP, .flags = FULL, .golden = "exp"},
    {OP(act), IN(3, 17), CLAMP, .flags = FULL, .golden = "clamp"},
    {OP(act), IN(3, 17), LOG, .scale = 0.3, .offset = 2, .flags = FULL},
    {OP(act), IN(1), SILU, .flags = FULL},
    {OP(act), IN(1), GELU, .flags = FULL},
    {OP(act), IN(1021), SILU, .scale = 40, .flags = FULL | BIG}, /* saturated */
    {OP(act), IN(1021), GELU, .scale = 40, .flags = FULL | BIG},
    {OP(act), IN(1021), QUICK, .scale = 40, .flags = FULL | BIG},
    {OP(act), IN(1021), EXP, .scale = 20, .offset = -40, .flags = FULL | BIG},
    {OP(act), IN(2, 32, 32, 64), SILU, .flags = FULL | BIG},
    {OP(act), IN(2, 77, 3072 / 8), QUICK, .flags = FULL | BIG},
    {OP(act_grad), IN(5, 13), IN(5, 13), EXP, .flags = BF16 | ANY_THREADS},
    {OP(act_grad), IN(5, 13), IN(5, 13), CLAMP, .flags = BF16 | ANY_THREADS},
    {OP(geglu), IN(2, 5, 14), .flags = FULL, .golden = "geglu"},
    {OP(geglu), IN(1, 2), .flags = FULL},
    {OP(geglu), IN(3, 32), .flags = FULL},
    {OP(geglu), IN(3, 34), .scale = 6, .flags = FULL},
    {OP(geglu), IN(2, 64, 2 * 1280), .flags = FULL | BIG},
    {OP(cast), IN(3, 7), .flags = FULL | EXACT},
    {OP(cast), IN(1), .flags = FULL | EXACT},
    {OP(cast), IN(100003), .flags = FULL | BIG | EXACT},
    {OP(cast), IN(4099), .scale = 1e30, .flags = FULL | BIG | EXACT},
    {OP(cast), IN(4099), .scale = 1e-30, .flags = FULL | BIG | EXACT},
};

static md_tensor *build(const op_case *c, md_tensor *const *in)
{
    switch (c->op) {
    case MD_OP_add:
        return md_add(in[0], in[1]);
    case MD_OP_sub:
        return md_sub(in[0], in[1]);
    case MD_OP_mul:
        return md_mul(in[0], in[1]);
    case MD_OP_affine:
        return md_affine(in[0], c->attr.affine.alpha, c->attr.affine.beta);
    case MD_OP_act:
        return c->attr.act.kind == MD_ACT_CLAMP ? md_clamp(in[0], c->attr.act.lo, c->attr.act.hi)
                                                : md_activation(in[0], c->attr.act.kind);
    case MD_OP_act_grad:
        return md_act_grad(in[0], in[1], c->attr);
    case MD_OP_geglu:
        return md_geglu(in[0]);
    default:
        return md_cast(in[0], in[0]->dtype == MD_F32 ? MD_BF16 : MD_F32);
    }
}

OPS_FAMILY(elementwise);
