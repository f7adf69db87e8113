/* Self, cross and causal attention; 1 to 8 heads of 1 to 512 columns; T other than S. */
#include "ops_test.h"

#define FULL            GRAD | BF16 | ANY_THREADS
#define QKV(n, t, s, d) IN(n, t, d), IN(n, s, d), IN(n, s, d)
#define HEADS(n)        .attr.attn = {.heads = n}
#define CAUSAL(n)       .attr.attn = {.heads = n, .causal = true}

static const op_case rows[] = {
    {OP(attention), QKV(2, 5, 7, 12), HEADS(3), .flags = FULL, .golden = "cross"},
    {OP(attention), QKV(2, 6, 6, 8), HEADS(2), .flags = FULL, .golden = "self"},
    {OP(attention), QKV(2, 6, 6, 8), CAUSAL(2), .flags = FULL, .golden = "causal"},
    {OP(attention), QKV(1, 4, 3, 8), .attr.attn = {1, 0.3, false}, .flags = FULL,
     .golden = "scaled"},
    {OP(attention), QKV(1, 1, 1, 8), HEADS(1), .flags = FULL},
    {OP(attention), QKV(1, 1, 1, 8), CAUSAL(8), .flags = FULL},
    {OP(attention), QKV(3, 1, 5, 6), HEADS(2), .flags = FULL},
    {OP(attention), QKV(1, 5, 1, 6), HEADS(2), .flags = FULL},
    {OP(attention), QKV(1, 9, 9, 5), CAUSAL(5), .flags = FULL},
    {OP(attention), QKV(1, 17, 17, 40), CAUSAL(1), .flags = FULL | BIG},
    {OP(attention), QKV(2, 77, 77, 64), CAUSAL(8), .flags = FULL | BIG},
    {OP(attention), QKV(2, 77, 77, 2 * 40), CAUSAL(2), .flags = FULL | BIG},
    {OP(attention), QKV(2, 64, 77, 8 * 40), HEADS(8), .flags = FULL | BIG},
    {OP(attention), QKV(1, 64, 77, 4 * 160), HEADS(4), .flags = FULL | BIG},
    {OP(attention), QKV(1, 256, 256, 3 * 16), HEADS(3), .flags = FULL | BIG},
    {OP(attention), QKV(1, 257, 77, 5 * 24), HEADS(5), .flags = FULL | BIG},
    {OP(attention), QKV(2, 64, 64, 6 * 80), HEADS(6), .flags = FULL | BIG},
    {OP(attention), QKV(1, 130, 67, 7 * 33), HEADS(7), .flags = FULL | BIG},
    {OP(attention), QKV(1, 512, 512, 32), HEADS(1), .flags = FULL | BIG},
    {OP(attention), QKV(1, 530, 530, 2 * 11), CAUSAL(2), .flags = FULL | BIG},
    {OP(attention), QKV(1, 145, 600, 13), HEADS(1), .flags = FULL | BIG},
    {OP(attention), QKV(1, 70, 70, 512), HEADS(1), .flags = FULL | BIG},
    {OP(attention), QKV(2, 100, 37, 2 * 264), HEADS(2), .flags = BF16 | ANY_THREADS | BIG},
    {OP(attention), QKV(1, 37, 37, 2 * 259), CAUSAL(2), .flags = FULL | BIG},
    /* logits of several hundred: exp would overflow. Forward only: f32 holds such an lse to 3e-5,
       and so the probabilities that the gradient takes from it */
    {OP(attention), QKV(1, 33, 40, 32), HEADS(2), .scale = 12, .flags = BF16 | ANY_THREADS | BIG},
    {OP(attention), QKV(1, 33, 40, 32), HEADS(2), .scale = 4, .flags = FULL | BIG},
};

static md_tensor *build(const op_case *c, md_tensor *const *in)
{
    return md_attention(in[0], in[1], in[2], c->attr.attn.heads, c->attr.attn.scale,
                        c->attr.attn.causal);
}

OPS_FAMILY(attention);
