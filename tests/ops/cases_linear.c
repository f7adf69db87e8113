/* linear and the four transpositions of matmul; few rows, few columns, one of either. */
#include "ops_test.h"

#define FULL     GRAD | BF16 | ANY_THREADS
#define T_(a, b) .attr.matmul = {a, b}

static const op_case rows[] = {
    {OP(linear), IN(2, 5, 7), IN(11, 7), IN(11), .flags = FULL, .golden = "linear"},
    {OP(linear), IN(2, 5, 7), IN(11, 7), .flags = FULL, .golden = "linear_no_bias"},
    {OP(linear), IN(1, 1), IN(1, 1), IN(1), .flags = FULL},
    {OP(linear), IN(3, 17), IN(1, 17), IN(1), .flags = FULL},
    {OP(linear), IN(7), IN(5, 7), IN(5), .flags = FULL},
    {OP(linear), IN(1, 3, 3, 9), IN(4, 9), IN(4), .flags = FULL},
    {OP(linear), IN(2, 5, 7), IN(11, 7), IN(11), IN(2, 5, 11), .flags = FULL},
    {OP(linear), IN(2, 5, 7), IN(11, 7), .d = IN(2, 5, 11), .flags = FULL},
    {OP(linear), IN(2, 256, 160), IN(160, 160), IN(160), IN(2, 256, 160), .flags = FULL | BIG},
    {OP(linear), IN(4, 19), IN(8, 19), IN(8), .flags = FULL | BIG},
    {OP(linear), IN(5, 70), IN(13, 70), IN(13), .flags = FULL | BIG},
    {OP(linear), IN(6, 1), IN(16, 1), IN(16), .flags = FULL | BIG},
    {OP(linear), IN(11, 300), IN(24, 300), IN(24), .flags = FULL | BIG},
    {OP(linear), IN(2, 97, 33), IN(71, 33), .flags = FULL | BIG},
    {OP(linear), IN(1, 1280 / 4), IN(64, 1280 / 4), IN(64), .flags = FULL | BIG},
    {OP(linear), IN(2, 77, 96), IN(129, 96), IN(129), .flags = FULL | BIG},
    {OP(linear), IN(3, 701), IN(355, 701), IN(355), .flags = FULL | BIG},
    {OP(linear), IN(2, 67, 333), IN(107, 333), IN(107), IN(2, 67, 107), .flags = FULL | BIG},
    {OP(linear), IN(2, 8, 8, 64), IN(192, 64), IN(192), .flags = FULL | BIG},
    {OP(linear), IN(2, 256, 160), IN(160, 160), IN(160), .flags = FULL | BIG},
    {OP(linear), IN(2, 64, 64), IN(2 * 256, 64), IN(2 * 256), .flags = FULL | BIG},
    {OP(matmul), IN(5, 7), IN(7, 3), T_(false, false), .flags = FULL, .golden = "matmul"},
    {OP(matmul), IN(7, 5), IN(7, 3), T_(true, false), .flags = FULL, .golden = "matmul_ta"},
    {OP(matmul), IN(5, 7), IN(3, 7), T_(false, true), .flags = FULL, .golden = "matmul_tb"},
    {OP(matmul), IN(7, 5), IN(3, 7), T_(true, true), .flags = FULL, .golden = "matmul_tatb"},
    {OP(matmul), IN(1, 1), IN(1, 1), T_(false, false), .flags = FULL},
    {OP(matmul), IN(2, 3, 7), IN(7, 5), T_(false, false), .flags = FULL},
    {OP(matmul), IN(2, 3, 7), IN(3, 2, 5), T_(true, false), .flags = FULL},
    {OP(matmul), IN(2, 3, 7), IN(2, 2, 7), T_(false, true), .flags = FULL},
    {OP(matmul), IN(600, 13), IN(600, 40), T_(true, false), .flags = FULL | BIG},
    {OP(matmul), IN(300, 1), IN(300, 12), T_(true, false), .flags = FULL | BIG},
    {OP(matmul), IN(50, 300), IN(300, 350), T_(false, false), .flags = FULL | BIG},
    {OP(matmul), IN(50, 300), IN(350, 300), T_(false, true), .flags = FULL | BIG},
    {OP(matmul), IN(129, 97), IN(97, 65), T_(false, false), .flags = FULL | BIG},
    {OP(matmul), IN(129, 97), IN(129, 65), T_(true, false), .flags = FULL | BIG},
    {OP(matmul), IN(129, 97), IN(65, 97), T_(false, true), .flags = FULL | BIG},
    {OP(matmul), IN(97, 129), IN(65, 97), T_(true, true), .flags = FULL | BIG},
};

static md_tensor *build(const op_case *c, md_tensor *const *in)
{
    return c->op == MD_OP_linear ? md_linear_residual(in[0], in[1], in[2], in[3])
                                 : md_matmul(in[0], in[1], c->attr.matmul.ta, c->attr.matmul.tb);
}

OPS_FAMILY(linear);
