/* concat slice pad_axis along every axis; 2x up and down. */
#include "ops_test.h"

#define FULL            GRAD | BF16 | EXACT | ANY_THREADS
#define AXIS(a)         .attr.axis = {.axis = a}
#define PART(a, at, to) .attr.axis = {a, at}, .len = to

static const op_case rows[] = {
    {OP(concat), IN(2, 3, 5, 7), IN(2, 3, 5, 4), AXIS(3), .flags = FULL, .golden = "concat"},
    {OP(concat), IN(2, 3), AXIS(1), .flags = FULL},
    {OP(concat), IN(2, 3, 2, 2), IN(1, 3, 2, 2), IN(3, 3, 2, 2), AXIS(0), .flags = FULL},
    {OP(concat), IN(2, 3, 2, 2), IN(2, 1, 2, 2), AXIS(1), .flags = FULL},
    {OP(concat), IN(2, 3, 2, 2), IN(2, 3, 5, 2), AXIS(2), .flags = FULL},
    {OP(concat), IN(2, 1), IN(2, 2), IN(2, 3), IN(2, 4), IN(2, 5), IN(2, 6), IN(2, 7), IN(2, 8),
     AXIS(1), .flags = FULL},
    {OP(concat), IN(5), IN(2), AXIS(0), .flags = FULL},
    {OP(concat), IN(2, 3, 16), IN(2, 1, 16), IN(2, 2, 16), AXIS(1), .flags = FULL},
    {OP(concat), IN(2, 3, 16), IN(2, 3, 4), IN(2, 3, 2), AXIS(2), .flags = FULL},
    {OP(concat), IN(2, 16, 16, 64), IN(2, 16, 16, 32), AXIS(3), .flags = FULL | BIG},
    {OP(concat), IN(1, 16, 16, 4), IN(1, 16, 16, 1), IN(1, 16, 16, 4), AXIS(3),
     .flags = FULL | BIG},
    {OP(slice), IN(2, 3, 5, 7), PART(3, 2, 4), .flags = FULL, .golden = "slice"},
    {OP(slice), IN(2, 3, 5, 7), PART(0, 1, 1), .flags = FULL},
    {OP(slice), IN(2, 3, 5, 7), PART(1, 0, 3), .flags = FULL},
    {OP(slice), IN(2, 3, 5, 7), PART(2, 4, 1), .flags = FULL},
    {OP(slice), IN(9), PART(0, 3, 5), .flags = FULL},
    {OP(slice), IN(2, 9, 64), PART(2, 16, 32), .flags = FULL},
    {OP(slice), IN(2, 77, 96), PART(2, 33, 31), .flags = FULL | BIG},
    {OP(pad_axis), IN(2, 3, 5, 7), PART(3, 1, 10), .flags = FULL, .golden = "pad_axis"},
    {OP(pad_axis), IN(2, 3, 5, 7), PART(0, 2, 4), .flags = FULL},
    {OP(pad_axis), IN(2, 3, 5, 7), PART(1, 0, 4), .flags = FULL},
    {OP(pad_axis), IN(2, 3, 5, 7), PART(2, 3, 9), .flags = FULL},
    {OP(pad_axis), IN(3), PART(0, 0, 3), .flags = FULL},
    {OP(pad_axis), IN(2, 3, 5, 16), PART(3, 8, 32), .flags = FULL},
    {OP(pad_axis), IN(2, 16, 16, 31), PART(3, 33, 64), .flags = FULL | BIG},
    {OP(upsample2x), IN(2, 3, 5, 7), .flags = FULL, .golden = "upsample2x"},
    {OP(upsample2x), IN(1, 1, 1, 1), .flags = FULL},
    {OP(upsample2x), IN(2, 16, 16, 64), .flags = FULL | BIG},
    {OP(downsum2x), IN(2, 2, 6, 7), .flags = GRAD | BF16 | ANY_THREADS, .golden = "downsum2x"},
    {OP(downsum2x), IN(1, 2, 2, 1), .flags = GRAD | BF16 | ANY_THREADS},
    {OP(downsum2x), IN(2, 4, 6, 16), .flags = GRAD | BF16 | ANY_THREADS},
    {OP(downsum2x), IN(2, 32, 32, 33), .flags = GRAD | BF16 | BIG | ANY_THREADS},
};

static md_tensor *build(const op_case *c, md_tensor *const *in)
{
    int n = 0;
    while (n < OPS_MAX_IN && in[n])
        n++;
    switch (c->op) {
    case MD_OP_concat:
        return md_concat(in, n, c->attr.axis.axis);
    case MD_OP_slice:
        return md_slice(in[0], c->attr.axis.axis, c->attr.axis.start, c->len);
    case MD_OP_pad_axis:
        return md_pad_axis(in[0], c->attr.axis.axis, c->attr.axis.start, c->len);
    case MD_OP_upsample2x:
        return md_upsample2x(in[0]);
    default:
        return md_downsum2x(in[0]);
    }
}

OPS_FAMILY(shape);
