/* chain: programs that the plan would write, and some that it would not. The result has attr's
   program, shape `to`, and the type of input 0 unless `len` names another. */
#include "graph/chain.h"
#include "ops_test.h"

enum { TO_F32 = 1, TO_BF16 };

#define ROW                     BF16 | ANY_THREADS
#define RUN(program)            .attr = {.chain = &(program)}
#define STEP(name, a_, b_, to_) .op = MD_OP_##name, .a = a_, .b = b_, .to = to_
#define ACT(kind_)              .attr.act = {.kind = MD_ACT_##kind_}

/* seven additions of eight inputs */
static const md_chain sum8 = {7,
                              {{STEP(add, 0, 1, 0)},
                               {STEP(add, 0, 2, 0)},
                               {STEP(add, 0, 3, 1)},
                               {STEP(add, 1, 4, 4)},
                               {STEP(add, 4, 5, 2)},
                               {STEP(add, 6, 2, 2)},
                               {STEP(add, 2, 7, 7)}}};
/* silu(2 (x + t) - 0.5) */
static const md_chain time_step = {3,
                                   {{STEP(add, 0, 1, 1)},
                                    {STEP(affine, 1, -1, 0), .attr.affine = {2, -0.5}},
                                    {STEP(act, 0, -1, 0), ACT(SILU)}}};
/* m a + (1 - m) b - c */
static const md_chain blend = {5,
                               {{STEP(mul, 1, 0, 1)},
                                {STEP(affine, 0, -1, 0), .attr.affine = {-1, 1}},
                                {STEP(mul, 2, 0, 2)},
                                {STEP(add, 1, 2, 1)},
                                {STEP(sub, 1, 3, 0)}}};
/* w (x - y)^2: one value twice */
static const md_chain squares = {
    3, {{STEP(sub, 0, 1, 3)}, {STEP(mul, 3, 3, 1)}, {STEP(mul, 1, 2, 1)}}};
static const md_chain acts = {8,
                              {{STEP(act, 0, -1, 0), .attr.act = {MD_ACT_CLAMP, -0.6, 0.9}},
                               {STEP(act, 0, -1, 1), ACT(EXP)},
                               {STEP(affine, 1, -1, 1), .attr.affine = {1, 0.25}},
                               {STEP(act, 1, -1, 2), ACT(LOG)},
                               {STEP(act, 2, -1, 2), ACT(SILU)},
                               {STEP(affine, 2, -1, 3), .attr.affine = {3, -0.5}},
                               {STEP(act, 3, -1, 3), ACT(GELU)},
                               {STEP(act, 3, -1, 7), ACT(QUICK_GELU)}}};
static const md_chain act_grads = {6,
                                   {{STEP(act_grad, 0, 1, 0), ACT(SILU)},
                                    {STEP(act_grad, 0, 1, 0), ACT(GELU)},
                                    {STEP(act_grad, 0, 1, 2), ACT(QUICK_GELU)},
                                    {STEP(act_grad, 2, 1, 2), ACT(EXP)},
                                    {STEP(act_grad, 2, 1, 0), .attr.act = {MD_ACT_CLAMP, -0.7, 1}},
                                    {STEP(act_grad, 1, 0, 0), ACT(SILU)}}};
static const md_chain log_grad = {
    2, {{STEP(affine, 0, -1, 0), .attr.affine = {0.5, 0}}, {STEP(act_grad, 0, 1, 0), ACT(LOG)}}};
/* as many steps as there may be; values that later steps read, a result as the second operand */
static const md_chain longest = {12,
                                 {{STEP(mul, 0, 1, 3)},
                                  {STEP(sub, 2, 3, 4)},
                                  {STEP(mul, 4, 3, 5)},
                                  {STEP(add, 5, 3, 3)},
                                  {STEP(sub, 0, 3, 0)},
                                  {STEP(mul, 4, 0, 4)},
                                  {STEP(cast, 4, -1, 6)},
                                  {STEP(add, 6, 0, 7)},
                                  {STEP(sub, 5, 7, 7)},
                                  {STEP(affine, 7, -1, 7), .attr.affine = {0.125, 1}},
                                  {STEP(mul, 7, 1, 7)},
                                  {STEP(add, 2, 7, 0)}}};
/* a result that only the step after the next one reads */
static const md_chain across = {3,
                                {{STEP(mul, 0, 1, 2)}, {STEP(sub, 0, 1, 3)}, {STEP(add, 2, 3, 0)}}};
static const md_chain copy = {1, {{STEP(cast, 0, -1, 0)}}};

static const op_case rows[] = {
    {OP(chain), IN(2, 3, 5, 7), IN(2, 1, 1, 7), .to = IN(2, 3, 5, 7), RUN(time_step), .flags = ROW},
    {OP(chain), IN(2, 3, 5, 7), IN(7), .to = IN(2, 3, 5, 7), RUN(time_step), .flags = ROW},
    {OP(chain), IN(2, 3, 5, 7), IN(1), .to = IN(2, 3, 5, 7), RUN(time_step), .flags = ROW},
    {OP(chain), IN(2, 3, 5, 7), IN(2, 1, 5, 1), .to = IN(2, 3, 5, 7), RUN(time_step), .flags = ROW},
    {OP(chain), IN(1, 3, 1, 7), IN(2, 1, 5, 1), .to = IN(2, 3, 5, 7), RUN(time_step), .flags = ROW},
    {OP(chain), IN(2, 3, 1, 1), IN(5, 7), .to = IN(2, 3, 5, 7), RUN(time_step), .flags = ROW},
    {OP(chain), IN(6, 35), IN(3, 1, 7), .to = IN(2, 3, 5, 7), RUN(time_step), .flags = ROW},
    {OP(chain), IN(2, 3, 4, 16), IN(2, 1, 1, 16), .to = IN(2, 3, 4, 16), RUN(time_step),
     .flags = ROW},
    {OP(chain), IN(2, 3, 4, 16), IN(2, 1, 4, 1), .to = IN(2, 3, 4, 16), RUN(time_step),
     .flags = ROW},
    {OP(chain), IN(1), IN(1), .to = IN(1), RUN(time_step), .flags = ROW},
    {OP(chain), IN(1, 1, 7), IN(1, 1, 7), .to = IN(1, 1, 7), RUN(time_step), .flags = ROW},
    {OP(chain), IN(2, 32, 32, 64), IN(2, 1, 1, 64), .to = IN(2, 32, 32, 64), RUN(time_step),
     .flags = ROW | BIG},
    {OP(chain), IN(2, 3, 5, 4), IN(2, 3, 5, 4), IN(2, 3, 5, 4), IN(1), .to = IN(2, 3, 5, 4),
     RUN(blend), .flags = ROW},
    {OP(chain), IN(2, 3, 5, 1), IN(2, 3, 5, 4), IN(1, 4), IN(2, 1, 1, 1), .to = IN(2, 3, 5, 4),
     RUN(blend), .flags = ROW},
    {OP(chain), IN(2, 33, 31, 1), IN(2, 33, 31, 4), IN(2, 33, 31, 4), IN(1), .to = IN(2, 33, 31, 4),
     RUN(blend), .flags = ROW | BIG},
    {OP(chain), IN(3, 20001), IN(20001), IN(3, 1), IN(1), .to = IN(3, 20001), RUN(blend),
     .flags = ROW | BIG},
    {OP(chain), IN(3, 7), IN(3, 7), IN(3, 1), .to = IN(3, 7), RUN(squares), .flags = ROW},
    {OP(chain), IN(4097), IN(4097), IN(4097), .to = IN(4097), RUN(squares), .flags = ROW | BIG},
    {OP(chain), IN(3, 17), .to = IN(3, 17), RUN(acts), .flags = ROW},
    {OP(chain), IN(1021), .to = IN(1021), RUN(acts), .scale = 40, .flags = ROW | BIG},
    {OP(chain), IN(3, 17), IN(3, 17), .to = IN(3, 17), RUN(act_grads), .flags = ROW},
    {OP(chain), IN(3, 17), IN(17), .to = IN(3, 17), RUN(log_grad), .scale = 0.3, .offset = 2,
     .flags = ROW},
    {OP(chain), IN(3, 17), IN(17), IN(3, 1), .to = IN(3, 17), RUN(longest), .flags = ROW},
    {OP(chain), IN(3, 20), IN(3, 20), IN(20), .to = IN(3, 20), RUN(longest), .flags = ROW},
    {OP(chain), IN(513), IN(513), IN(1), .to = IN(513), RUN(longest), .flags = ROW},
    {OP(chain), IN(2, 64, 40), IN(2, 64, 40), IN(2, 64, 40), IN(2, 64, 40), IN(2, 64, 40), IN(40),
     IN(1), IN(2, 1, 1), .to = IN(2, 64, 40), RUN(sum8), .flags = ROW},
    {OP(chain), IN(5, 3), IN(3), IN(1), IN(5, 1), IN(5, 3), IN(15), IN(1, 3), IN(1, 1),
     .to = IN(5, 3), RUN(sum8), .flags = ROW},
    {OP(chain), IN(3, 7), IN(7), .to = IN(3, 7), RUN(across), .flags = ROW},
    /* types mixed */
    {OP(chain), IN(2, 3, 5, 7), IN(2, 1, 1, 7), .to = IN(2, 3, 5, 7), RUN(time_step), .bf16 = 1,
     .f32 = 2, .flags = ANY_THREADS},
    {OP(chain), IN(2, 3, 4, 16), IN(2, 1, 1, 16), .to = IN(2, 3, 4, 16), RUN(time_step), .bf16 = 2,
     .f32 = 1, .flags = ANY_THREADS},
    {OP(chain), IN(2, 3, 4, 16), IN(2, 1, 1, 16), .to = IN(2, 3, 4, 16), RUN(time_step), .f32 = 3,
     .len = TO_BF16, .flags = ANY_THREADS},
    {OP(chain), IN(2, 3, 4, 16), IN(2, 3, 4, 16), IN(1), .to = IN(2, 3, 4, 16), RUN(longest),
     .bf16 = 5, .f32 = 2, .len = TO_F32, .flags = ANY_THREADS},
    {OP(chain), IN(3, 1000), IN(3, 1), IN(3, 1000), IN(1000), .to = IN(3, 1000), RUN(blend),
     .bf16 = 6, .f32 = 9, .len = TO_BF16, .flags = ANY_THREADS},
    {OP(chain), IN(3, 7), .to = IN(3, 7), RUN(copy), .flags = ROW | EXACT},
    {OP(chain), IN(3, 8), .to = IN(3, 8), RUN(copy), .f32 = 1, .len = TO_BF16, .flags = EXACT},
    {OP(chain), IN(1030), .to = IN(1030), RUN(copy), .bf16 = 1, .len = TO_F32, .flags = EXACT},
};

static md_tensor *build(const op_case *c, md_tensor *const *in)
{
    int n = 0;
    while (n < OPS_MAX_IN && in[n])
        n++;
    md_dtype type = c->len == TO_F32 ? MD_F32 : c->len == TO_BF16 ? MD_BF16 : in[0]->dtype;
    return md_node_output(md_node_new(in[0]->g, MD_OP_chain, n, in, &c->attr), type, c->to.ndim,
                          c->to.dim);
}

OPS_FAMILY(chain);
