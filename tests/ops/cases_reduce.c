/* sum_to and broadcast_to with every kind of shape; sumsq. */
#include "ops_test.h"

#define FULL GRAD | BF16 | ANY_THREADS

static const op_case rows[] = {
    {OP(sum_to), IN(2, 3, 5, 7), .to = IN(7), .flags = FULL, .golden = "sum_to_c"},
    {OP(sum_to), IN(2, 3, 5, 7), .to = IN(1), .flags = FULL, .golden = "sum"},
    {OP(sum_to), IN(2, 3, 5, 7), .to = IN(2, 1, 1, 7), .flags = FULL, .golden = "sum_to_nc"},
    {OP(sum_to), IN(2, 3, 5, 7), .to = IN(2, 1, 1, 1), .flags = FULL},
    {OP(sum_to), IN(2, 3, 5, 7), .to = IN(2, 3, 5, 1), .flags = FULL},
    {OP(sum_to), IN(2, 3, 5, 7), .to = IN(3, 1, 7), .flags = FULL},
    {OP(sum_to), IN(2, 3, 5, 7), .to = IN(1, 1, 5, 1), .flags = FULL},
    {OP(sum_to), IN(2, 3, 5, 7), .to = IN(2, 3, 5, 7), .flags = FULL},
    {OP(sum_to), IN(2, 3, 5, 7), .to = IN(1, 3, 1, 7), .flags = FULL},
    {OP(sum_to), IN(2, 3, 5, 7), .to = IN(2, 1, 5, 1), .flags = FULL},
    {OP(sum_to), IN(2, 3, 5, 7), .to = IN(1, 3, 5, 1), .flags = FULL},
    {OP(sum_to), IN(2, 1, 5, 1), .to = IN(1, 1, 5, 1), .flags = FULL},
    {OP(sum_to), IN(1), .to = IN(1), .flags = FULL},
    {OP(sum_to), IN(3, 17), .to = IN(3, 1), .flags = FULL},
    {OP(sum_to), IN(2, 3, 4, 16), .to = IN(16), .flags = FULL},
    {OP(sum_to), IN(2, 3, 4, 16), .to = IN(2, 1, 1, 16), .flags = FULL},
    {OP(sum_to), IN(2, 3, 4, 16), .to = IN(1, 3, 1, 16), .flags = FULL},
    {OP(sum_to), IN(2, 3, 4, 16), .to = IN(2, 3, 4, 1), .flags = FULL},
    {OP(sum_to), IN(2, 12, 3, 16), .to = IN(2, 1, 3, 1), .flags = FULL},
    {OP(sum_to), IN(2, 32, 32, 64), .to = IN(64), .flags = FULL | BIG},
    {OP(sum_to), IN(2, 32, 32, 64), .to = IN(2, 1, 1, 64), .flags = FULL | BIG},
    {OP(sum_to), IN(2, 32, 32, 4), .to = IN(2, 1, 1, 1), .offset = 0.5, .flags = FULL | BIG},
    {OP(sum_to), IN(2, 32, 32, 64), .to = IN(1), .offset = 0.5, .flags = FULL | BIG},
    {OP(sum_to), IN(5, 3, 40, 37), .to = IN(1, 3, 1, 37), .flags = FULL | BIG},
    {OP(sum_to), IN(3, 2, 700, 5), .to = IN(2, 1, 1), .flags = FULL | BIG},
    {OP(sum_to), IN(3, 100001), .to = IN(3, 1), .flags = FULL | BIG},
    {OP(sum_to), IN(2, 77, 321), .to = IN(321), .flags = FULL | BIG},
    {OP(sum_to), IN(5, 3, 40, 40), .to = IN(1, 3, 1, 40), .flags = FULL | BIG},
    {OP(sum_to), IN(30, 301), .to = IN(30, 1), .flags = FULL | BIG},
    {OP(sum_to), IN(30, 4096), .to = IN(30, 1), .flags = FULL | BIG},
    {OP(sum_to), IN(3, 20000), .to = IN(3, 1), .flags = FULL | BIG},
    /* long sums, in one go or in parts, also off the alignment */
    {OP(sum_to), IN(40001), .to = IN(1), .offset = 0.5, .flags = BF16 | ANY_THREADS},
    {OP(sum_to), IN(601, 257), .to = IN(257), .offset = 0.5, .flags = BF16 | ANY_THREADS},
    {OP(sum_to), IN(600, 2056), .to = IN(2056), .offset = 0.5, .flags = BF16 | ANY_THREADS | BIG},
    {OP(broadcast_to), IN(7), .to = IN(2, 3, 5, 7), .flags = FULL | EXACT},
    {OP(broadcast_to), IN(1), .to = IN(2, 3, 5, 7), .flags = FULL | EXACT},
    {OP(broadcast_to), IN(2, 1, 1, 7), .to = IN(2, 3, 5, 7), .flags = FULL | EXACT},
    {OP(broadcast_to), IN(2, 1, 1, 1), .to = IN(2, 3, 5, 7), .flags = FULL | EXACT},
    {OP(broadcast_to), IN(3, 1, 7), .to = IN(2, 3, 5, 7), .flags = FULL | EXACT},
    {OP(broadcast_to), IN(1, 3, 1, 7), .to = IN(2, 3, 5, 7), .flags = FULL | EXACT},
    {OP(broadcast_to), IN(2, 1, 5, 1), .to = IN(2, 3, 5, 7), .flags = FULL | EXACT},
    {OP(broadcast_to), IN(1, 3, 5, 1), .to = IN(2, 3, 5, 7), .flags = FULL | EXACT},
    {OP(broadcast_to), IN(2, 3, 5, 7), .to = IN(2, 3, 5, 7), .flags = FULL | EXACT},
    {OP(broadcast_to), IN(1), .to = IN(1), .flags = FULL | EXACT},
    {OP(broadcast_to), IN(2, 1, 1, 1), .to = IN(2, 32, 32, 4), .flags = FULL | EXACT | BIG},
    {OP(broadcast_to), IN(2, 1, 1, 64), .to = IN(2, 32, 32, 64), .flags = FULL | EXACT | BIG},
    {OP(broadcast_to), IN(3, 1), .to = IN(3, 100001), .flags = FULL | EXACT | BIG},
    {OP(sumsq), IN(1), .flags = BF16 | ANY_THREADS},
    {OP(sumsq), IN(2, 33, 17), .flags = BF16 | ANY_THREADS, .golden = "sumsq"},
    {OP(sumsq), IN(40001), .flags = BF16 | ANY_THREADS},
    {OP(sumsq), IN(3200003), .flags = BF16 | ANY_THREADS | BIG},
    {OP(sumsq), IN(1000003), .flags = BF16 | ANY_THREADS | BIG},
};

static md_tensor *build(const op_case *c, md_tensor *const *in)
{
    if (c->op == MD_OP_sumsq)
        return md_sumsq(in[0]);
    return (c->op == MD_OP_sum_to ? md_sum_to : md_broadcast_to)(in[0], c->to.ndim, c->to.dim);
}

OPS_FAMILY(reduce);
