/* group_norm with and without SiLU, layer_norm; large means and almost flat inputs. */
#include "ops_test.h"

#define FULL      GRAD | BF16 | ANY_THREADS
#define GROUPS(n) .attr.norm = {n, 1e-5, MD_ACT_NONE}
#define SILU(n)   .attr.norm = {n, 1e-6, MD_ACT_SILU}
#define LAYER     .attr.norm = {0, 1e-5, MD_ACT_NONE}

static const op_case rows[] = {
    {OP(group_norm), IN(2, 5, 3, 6), IN(6), IN(6), GROUPS(3), .flags = FULL,
     .golden = "group_norm"},
    {OP(group_norm), IN(2, 5, 3, 6), IN(6), IN(6), SILU(3), .flags = FULL,
     .golden = "group_norm_silu"},
    {OP(group_norm), IN(1, 2, 3, 5), IN(5), IN(5), GROUPS(1), .flags = FULL},
    {OP(group_norm), IN(1, 2, 3, 5), IN(5), IN(5), SILU(5), .flags = FULL},
    {OP(group_norm), IN(2, 7, 4), IN(4), IN(4), SILU(2), .flags = FULL},
    {OP(group_norm), IN(3, 12), IN(12), IN(12), GROUPS(3), .flags = FULL},
    {OP(group_norm), IN(2, 3, 3, 8), IN(8), IN(8), SILU(4), .offset = 5, .flags = FULL},
    {OP(group_norm), IN(1, 5, 5, 24), IN(24), IN(24), SILU(4), .flags = FULL | BIG},
    {OP(group_norm), IN(2, 16, 16, 32), IN(32), IN(32), SILU(32), .flags = FULL | BIG},
    {OP(group_norm), IN(2, 32, 32, 64), IN(64), IN(64), SILU(32), .flags = FULL | BIG},
    {OP(group_norm), IN(1, 64, 64, 32), IN(32), IN(32), GROUPS(8), .flags = FULL | BIG},
    {OP(group_norm), IN(2, 77, 40), IN(40), IN(40), GROUPS(8), .flags = FULL | BIG},
    /* groups larger than a block of a GPU holds */
    {OP(group_norm), IN(1, 96, 96, 32), IN(32), IN(32), SILU(8), .flags = FULL | BIG},
    {OP(group_norm), IN(2, 61, 57, 40), IN(40), IN(40), GROUPS(4), .offset = 30,
     .flags = GRAD | BIG},
    /* mean^2 - E[x^2] in f32 would lose what the tolerance allows */
    {OP(group_norm), IN(1, 32, 32, 32), IN(32), IN(32), GROUPS(4), .offset = 30,
     .flags = GRAD | BIG},
    /* almost flat: eps is most of the variance */
    {OP(group_norm), IN(2, 8, 8, 8), IN(8), IN(8), SILU(4), .offset = 0.125, .scale = 1e-4,
     .flags = FULL | BIG},
    {OP(layer_norm), IN(2, 5, 7), IN(7), IN(7), LAYER, .flags = FULL, .golden = "layer_norm"},
    {OP(layer_norm), IN(1, 1, 16), IN(16), IN(16), LAYER, .flags = FULL},
    {OP(layer_norm), IN(9), IN(9), IN(9), LAYER, .flags = FULL},
    {OP(layer_norm), IN(3, 40), IN(40), IN(40), LAYER, .offset = 3, .flags = FULL},
    {OP(layer_norm), IN(3, 33), IN(33), IN(33), LAYER, .offset = 0.125, .scale = 1e-4,
     .flags = FULL | BIG},
    {OP(layer_norm), IN(2, 77, 96), IN(96), IN(96), LAYER, .flags = FULL | BIG},
    {OP(layer_norm), IN(2, 256, 321), IN(321), IN(321), LAYER, .flags = FULL | BIG},
    {OP(layer_norm), IN(2, 77, 768), IN(768), IN(768), LAYER, .offset = 30, .flags = GRAD | BIG},
    {OP(layer_norm), IN(5, 1280), IN(1280), IN(1280), LAYER, .flags = FULL | BIG},
    {OP(layer_norm), IN(19, 1536), IN(1536), IN(1536), LAYER, .offset = 2, .flags = FULL | BIG},
    {OP(layer_norm), IN(2, 5, 2560), IN(2560), IN(2560), LAYER, .flags = FULL | BIG},
};

static md_tensor *build(const op_case *c, md_tensor *const *in)
{
    return c->op == MD_OP_group_norm ? md_group_norm(in[0], in[1], in[2], c->attr.norm.groups,
                                                     c->attr.norm.eps, c->attr.norm.act)
                                     : md_layer_norm(in[0], in[1], in[2], c->attr.norm.eps);
}

OPS_FAMILY(norm);
