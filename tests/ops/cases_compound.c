/* Small graphs of several ops: what one op alone cannot show about md_grad. `op` names the last. */
#include "ops_test.h"

#define FULL GRAD | BF16 | ANY_THREADS

static md_tensor *fan_out(const op_case *c, md_tensor *const *in) /* x^2 y + silu(x) y */
{
    (void)c;
    md_tensor *xy = md_mul(in[0], in[1]);
    return md_add(md_mul(xy, in[0]), md_mul(md_silu(in[0]), in[1]));
}

static md_tensor *views(const op_case *c, md_tensor *const *in)
{
    (void)c;
    md_tensor *part = md_view(in[0], 4, 2, MD_DIMS(2, 3));        /* elements 4..9 of [2,7] */
    md_tensor *all = md_reshape(in[0], 1, MD_DIMS(-1));           /* [14] */
    md_tensor *sum = md_affine(md_sum(md_mul(all, all)), 0.5, 0); /* [1] */
    return md_mul(md_silu(part), sum);
}

static md_tensor *mean(const op_case *c, md_tensor *const *in)
{
    (void)c;
    return md_mean(md_mul(in[0], in[0]));
}

/* q, k and v from one tensor. */
static md_tensor *self_attention(const op_case *c, md_tensor *const *in)
{
    (void)c;
    return md_attention(in[0], in[0], in[0], 2, 0, false);
}

/* A masked loss as training writes it: sum(m (a - b)^2) / max(sum(m), 1) by exp(-log) is not
   needed; the count is a constant. */
static md_tensor *masked_loss(const op_case *c, md_tensor *const *in)
{
    (void)c;
    md_tensor *d = md_sub(in[0], in[1]);
    return md_sum_to(md_mul(md_mul(d, d), in[2]), 4, MD_DIMS(2, 1, 1, 1));
}

static md_tensor *resnet(const op_case *c, md_tensor *const *in)
{
    (void)c;
    md_tensor *h = md_group_norm(in[0], in[1], in[2], 2, 1e-5, MD_ACT_SILU);
    h = md_conv2d(h, in[3], in[4], 1, 1, 1, 1, 1);
    h = md_add(h, md_reshape(md_linear(md_silu(in[5]), in[6], NULL), 4, MD_DIMS(2, 1, 1, 4)));
    return md_add(in[0], h);
}

static const op_case rows[] = {
    {OP(add), IN(3, 5), IN(3, 5), .build = fan_out, .flags = FULL},
    {OP(mul), IN(2, 7), .build = views, .flags = FULL},
    {OP(mul), IN(2, 7), .build = views, .persistent = 1, .flags = FULL},
    {OP(affine), IN(2, 7), .build = mean, .flags = FULL},
    {OP(attention), IN(2, 5, 6), .build = self_attention, .flags = FULL},
    {OP(sum_to), IN(2, 3, 3, 4), IN(2, 3, 3, 4), IN(2, 3, 3, 1), .build = masked_loss,
     .flags = FULL},
    {OP(add), IN(2, 3, 3, 4), IN(4), IN(4), IN(4, 3, 3, 4), IN(4), IN(2, 5), IN(4, 5),
     .persistent = 2 | 4 | 8 | 16 | 64, .build = resnet, .flags = FULL},
};

static md_tensor *build(const op_case *c, md_tensor *const *in)
{
    return c->build(c, in);
}

OPS_FAMILY(compound);
