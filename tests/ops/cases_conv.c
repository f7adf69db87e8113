/* The convolutions of VAE and UNet, odd sizes, strides whose last columns no output sees. */
#include "ops_test.h"

#define FULL    GRAD | BF16 | ANY_THREADS
#define S1P1    .attr.conv = {1, 1, 1, 1, 1}
#define S2_ASYM .attr.conv = {2, 0, 0, 1, 1} /* the VAE encoder's downsampling */
#define S2P1    .attr.conv = {2, 1, 1, 1, 1} /* the UNet's */
#define S1P0    .attr.conv = {1, 0, 0, 0, 0}

static const op_case rows[] = {
    {OP(conv2d), IN(2, 5, 6, 3), IN(4, 3, 3, 3), IN(4), S1P1, .flags = FULL, .golden = "conv3x3"},
    {OP(conv2d), IN(2, 5, 6, 3), IN(4, 3, 3, 3), S1P1, .flags = FULL},
    {OP(conv2d), IN(1, 6, 8, 3), IN(5, 3, 3, 3), IN(5), S2_ASYM, .flags = FULL,
     .golden = "conv_down_vae"},
    {OP(conv2d), IN(1, 7, 5, 3), IN(2, 3, 3, 3), IN(2), S2_ASYM, .flags = FULL},
    {OP(conv2d), IN(2, 6, 6, 3), IN(2, 3, 3, 3), IN(2), S2P1, .flags = FULL,
     .golden = "conv_down_unet"},
    {OP(conv2d), IN(1, 7, 5, 2), IN(3, 3, 3, 2), IN(3), S2P1, .flags = FULL},
    {OP(conv2d), IN(2, 3, 5, 7), IN(9, 1, 1, 7), IN(9), S1P0, .flags = FULL, .golden = "conv1x1"},
    {OP(conv2d), IN(1, 1, 1, 1), IN(1, 1, 1, 1), IN(1), S1P0, .flags = FULL},
    {OP(conv2d), IN(1, 1, 1, 2), IN(3, 3, 3, 2), IN(3), S1P1, .flags = FULL},
    {OP(conv2d), IN(1, 4, 5, 2), IN(3, 2, 3, 2), IN(3), .attr.conv = {1, 0, 1, 2, 0}, .flags = FULL,
     .golden = "conv_odd_pads"},
    {OP(conv2d), IN(2, 5, 5, 2), IN(3, 1, 1, 2), IN(3), .attr.conv = {2, 0, 0, 0, 0},
     .flags = FULL},
    {OP(conv2d), IN(1, 7, 8, 1), IN(2, 3, 3, 1), IN(2), .attr.conv = {3, 0, 0, 0, 0},
     .flags = FULL}, /* columns that no output sees */
    {OP(conv2d), IN(1, 8, 8, 3), IN(6, 4, 4, 3), .attr.conv = {4, 0, 0, 0, 0}, .flags = FULL,
     .golden = "patches"},
    {OP(conv2d), IN(2, 5, 6, 3), IN(4, 3, 3, 3), IN(4), IN(2, 5, 6, 4), S1P1, .flags = FULL},
    {OP(conv2d), IN(2, 6, 6, 3), IN(2, 3, 3, 3), .d = IN(2, 3, 3, 2), S2P1, .flags = FULL},
    {OP(conv2d), IN(1, 33, 31, 3), IN(32, 3, 3, 3), IN(32), S1P1, .flags = FULL | BIG},
    {OP(conv2d), IN(1, 33, 31, 32), IN(3, 3, 3, 32), IN(3), S1P1, .flags = FULL | BIG},
    {OP(conv2d), IN(2, 32, 32, 4), IN(48, 3, 3, 4), IN(48), S1P1, .flags = FULL | BIG},
    {OP(conv2d), IN(1, 3, 4, 66), IN(333, 3, 3, 66), IN(333), S1P1, .flags = FULL | BIG},
    {OP(conv2d), IN(1, 4, 3, 333), IN(66, 3, 3, 333), IN(66), IN(1, 4, 3, 66), S1P1,
     .flags = FULL | BIG},
    {OP(conv2d), IN(2, 9, 11, 70), IN(483, 1, 1, 70), IN(483), S1P0, .flags = FULL | BIG},
    {OP(conv2d), IN(2, 9, 8, 101), IN(107, 3, 3, 101), S2P1, .flags = FULL | BIG},
    {OP(conv2d), IN(1, 7, 8, 68), IN(70, 3, 3, 68), IN(70), S2_ASYM, .flags = FULL | BIG},
    {OP(conv2d), IN(2, 11, 13, 19), IN(29, 3, 3, 19), IN(29), S1P1, .flags = FULL | BIG},
    {OP(conv2d), IN(1, 10, 9, 70), IN(34, 3, 3, 70), IN(34), IN(1, 10, 9, 34), S1P1,
     .flags = FULL | BIG},
    {OP(conv2d), IN(3, 12, 13, 16), IN(33, 3, 3, 16), S1P0, .flags = FULL | BIG},
    {OP(conv2d), IN(1, 9, 17, 24), IN(27, 3, 3, 24), IN(27), .attr.conv = {1, 0, 2, 1, 0},
     .flags = FULL | BIG},
    {OP(conv2d), IN(1, 7, 8, 20), IN(31, 3, 3, 20), IN(31), .attr.conv = {1, 2, 2, 2, 2},
     .flags = FULL | BIG},
    {OP(conv2d), IN(1, 44, 40, 18), IN(50, 3, 3, 18), IN(50), S1P1, .flags = FULL | BIG},
    {OP(conv2d), IN(1, 16, 16, 9), IN(48, 3, 3, 9), IN(48), S1P1, .flags = FULL | BIG},
    {OP(conv2d), IN(2, 16, 16, 48), IN(4, 3, 3, 48), IN(4), S1P1, .flags = FULL | BIG},
    {OP(conv2d), IN(1, 32, 32, 48), IN(48, 3, 3, 48), IN(48), S1P1, .flags = FULL | BIG},
    {OP(conv2d), IN(2, 16, 16, 40), IN(72, 3, 3, 40), IN(72), S1P1, .flags = FULL | BIG},
    {OP(conv2d), IN(3, 17, 15, 33), IN(34, 3, 3, 33), IN(34), S2P1, .flags = FULL | BIG},
    {OP(conv2d), IN(3, 15, 18, 17), IN(23, 3, 3, 17), IN(23), S2_ASYM, .flags = FULL | BIG},
    {OP(conv2d), IN(1, 1, 40, 20), IN(12, 3, 3, 20), IN(12), S1P1, .flags = FULL | BIG},
    {OP(conv2d), IN(1, 19, 23, 5), IN(7, 5, 5, 5), IN(7), .attr.conv = {1, 2, 2, 2, 2},
     .flags = FULL | BIG},
    {OP(conv2d), IN(1, 64, 64, 16), IN(16, 3, 3, 16), IN(16), S1P1, .flags = FULL | BIG},
    {OP(conv2d), IN(2, 32, 32, 32), IN(32, 3, 3, 32), IN(32), S2_ASYM, .flags = FULL | BIG},
    {OP(conv2d), IN(2, 16, 16, 32), IN(64, 3, 3, 32), IN(64), S2P1, .flags = FULL | BIG},
    {OP(conv2d), IN(2, 16, 16, 96), IN(64, 1, 1, 96), IN(64), S1P0, .flags = FULL | BIG},
    {OP(conv2d), IN(2, 16, 16, 8), IN(8, 1, 1, 8), IN(8), S1P0, .flags = FULL | BIG},
};

static md_tensor *build(const op_case *c, md_tensor *const *in)
{
    return md_conv2d_residual(in[0], in[1], in[2], in[3], c->attr.conv.stride, c->attr.conv.pad_t,
                              c->attr.conv.pad_l, c->attr.conv.pad_b, c->attr.conv.pad_r);
}

OPS_FAMILY(conv);
