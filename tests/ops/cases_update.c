/* write accumulate adamw ema, in place on persistent tensors. */
#include "ops_test.h"
#include <math.h>

#define ADAMW .attr.adamw = {0.9, 0.999, 1e-8, 1e-2}
#define STATE .persistent = 1 | 4 | 8 /* p, m, v */
#define P(n)  IN(n), IN(n), IN(n), IN(n), IN(1), IN(MD_HYPER_COUNT)
/* the forms of adamw: g, m and v, shadow */
#define SHADOW(n)     .g = IN(n)
#define BF16_G        .bf16 = 2 | 64
#define BF16_STATES   .bf16 = 4 | 8 | 64
#define BF16_G_STATES .bf16 = 2 | 4 | 8 | 64
#define SCALES(n)     .h = IN(((n) + 255) / 256), .i = IN(((n) + 255) / 256), .u8 = 4 | 8
#define ALL_STATE     .persistent = 1 | 4 | 8 | 64 | 128 | 256

static void squares(double *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = x[i] * x[i];
}

static void adamw_inputs(int input, double *x, int64_t n, double gnorm2, double clip)
{
    if (input == 3)
        squares(x, n);
    if (input == 7 || input == 8) /* scales; the second block's states are all zero */
        for (int64_t i = 0; i < n; i++)
            x[i] = i == 1 ? 0 : fabs(x[i]);
    if (input == 4)
        x[0] = gnorm2;
    if (input == 5) {
        x[MD_HYPER_LR] = 0.01;
        x[MD_HYPER_BC1] = 1 / (1 - pow(0.9, 3));
        x[MD_HYPER_BC2] = 1 / (1 - pow(0.999, 3));
        x[MD_HYPER_CLIP] = clip;
        x[MD_HYPER_SCALE] = 0.25;
        x[MD_HYPER_STEP] = 3;
    }
}

static void no_clip(const op_case *c, int input, double *x, int64_t n)
{
    (void)c;
    adamw_inputs(input, x, n, 4, 0);
}

static void clipped(const op_case *c, int input, double *x, int64_t n)
{
    (void)c;
    adamw_inputs(input, x, n, 400, 1);
}

static void below_clip(const op_case *c, int input, double *x, int64_t n)
{
    (void)c;
    adamw_inputs(input, x, n, 4, 1);
}

static void not_finite(const op_case *c, int input, double *x, int64_t n)
{
    (void)c;
    adamw_inputs(input, x, n, INFINITY, 1);
}

static void not_a_number(const op_case *c, int input, double *x, int64_t n)
{
    (void)c;
    adamw_inputs(input, x, n, NAN, 0);
}

/* Parameters that no gradient has reached yet, and some that hardly any did: eps counts. */
static void untouched(const op_case *c, int input, double *x, int64_t n)
{
    for (int64_t i = 0; i < n && input >= 1 && input <= 3; i++) {
        if (!(c->u8 >> input & 1))
            x[i] *= i % 3 ? 1e-8 : 0;
        else if (i % 3 == 0)
            x[i] = input == 2 ? 127 : 0; /* the codes of zero */
    }
    adamw_inputs(input, x, n, 4, 1);
}

/* Blocks of so many magnitudes, down to where squares (v) or the states themselves (m) are
   subnormal and up to where squares nearly overflow; every third gradient is zero. The second
   block: zeros. */
static void magnitudes(const op_case *c, int input, double *x, int64_t n)
{
    static const double of_m[] = {1, 0, 3e-19, 1e-39, 1e16, 1e-9, 1e-15},
                        of_v[] = {1, 0, 9e-38, 1e-37, 1e32, 1e-18, 1e-30};
    adamw_inputs(input, x, n, 4, 0);
    for (int64_t i = 0; i < n; i++) {
        if (input == 1)
            x[i] *= i % 3 ? of_m[i / 256 % 7] : 0;
        if (input == 7 || input == 8)
            x[i] = (0.5 + x[i]) * (input == 7 ? of_m : of_v)[i % 7];
        if ((c->u8 >> input & 1) && i / 256 % 7 == 1)
            x[i] = input == 2 ? 127 : 0; /* the codes of zero */
    }
}

static void decay(const op_case *c, int input, double *x, int64_t n)
{
    (void)c;
    (void)n;
    if (input == 2)
        x[0] = 0.9999;
}

static void no_decay(const op_case *c, int input, double *x, int64_t n)
{
    (void)c;
    (void)n;
    if (input == 2)
        x[0] = NAN;
}

static const op_case rows[] = {
    {OP(write), IN(2, 7), IN(2, 7), .persistent = 1, .flags = BF16 | EXACT | ANY_THREADS},
    {OP(write), IN(14), IN(2, 7), .persistent = 1, .flags = BF16 | EXACT | ANY_THREADS},
    {OP(write), IN(5), IN(5), .persistent = 1, .i32 = 3, .flags = EXACT | ANY_THREADS},
    {OP(write), IN(1029), IN(1029), .persistent = 1, .u8 = 3, .flags = EXACT | ANY_THREADS},
    {OP(write), IN(100003), IN(100003), .persistent = 1, .flags = BF16 | EXACT | BIG | ANY_THREADS},
    {OP(accumulate), IN(2, 7), IN(2, 7), .persistent = 1, .flags = BF16 | ANY_THREADS},
    {OP(accumulate), IN(1), IN(1), .persistent = 1, .flags = BF16 | ANY_THREADS},
    {OP(accumulate), IN(100003), IN(100003), .persistent = 1, .flags = BF16 | BIG | ANY_THREADS},
    {OP(adamw), P(7), ADAMW, STATE, .fill = no_clip, .flags = ANY_THREADS},
    {OP(adamw), P(1), ADAMW, STATE, .fill = clipped, .flags = ANY_THREADS},
    {OP(adamw), P(1021), ADAMW, STATE, .fill = clipped, .flags = ANY_THREADS},
    {OP(adamw), P(33), ADAMW, STATE, .fill = below_clip, .flags = ANY_THREADS},
    {OP(adamw), P(33), ADAMW, STATE, .fill = untouched, .flags = ANY_THREADS},
    {OP(adamw), P(33), ADAMW, STATE, .fill = not_finite, .flags = EXACT | ANY_THREADS},
    {OP(adamw), P(33), ADAMW, STATE, .fill = not_a_number, .flags = EXACT | ANY_THREADS},
    {OP(adamw), P(200003), ADAMW, STATE, .fill = clipped, .flags = BIG | ANY_THREADS},
    {OP(adamw), P(33), ADAMW, .g = IN(33), BF16_G, ALL_STATE, .fill = clipped,
     .flags = ANY_THREADS},
    {OP(adamw), P(1027), ADAMW, .bf16 = 2, STATE, .fill = clipped, .flags = ANY_THREADS},
    {OP(adamw), P(1027), ADAMW, SHADOW(1027), .bf16 = 64, ALL_STATE, .fill = no_clip,
     .flags = ANY_THREADS},
    {OP(adamw), P(1), ADAMW, SHADOW(1), BF16_STATES, ALL_STATE, .fill = clipped,
     .flags = ANY_THREADS},
    {OP(adamw), P(1027), ADAMW, .bf16 = 4 | 8, ALL_STATE, .fill = clipped, .flags = ANY_THREADS},
    {OP(adamw), P(1000), ADAMW, SHADOW(1000), BF16_G_STATES, ALL_STATE, .fill = below_clip,
     .flags = ANY_THREADS},
    {OP(adamw), P(33), ADAMW, SHADOW(33), BF16_G_STATES, ALL_STATE, .fill = not_finite,
     .flags = EXACT | ANY_THREADS},
    {OP(adamw), P(100003), ADAMW, SHADOW(100003), BF16_G_STATES, ALL_STATE, .fill = clipped,
     .flags = BIG | ANY_THREADS},
    {OP(adamw), P(1), ADAMW, SCALES(1), ALL_STATE, .fill = clipped, .flags = ANY_THREADS},
    {OP(adamw), P(256), ADAMW, SCALES(256), SHADOW(256), BF16_G, ALL_STATE, .fill = no_clip,
     .flags = ANY_THREADS},
    {OP(adamw), P(257), ADAMW, SCALES(257), ALL_STATE, .fill = clipped, .flags = ANY_THREADS},
    {OP(adamw), P(1023), ADAMW, SCALES(1023), SHADOW(1023), BF16_G, ALL_STATE, .fill = clipped,
     .flags = ANY_THREADS},
    {OP(adamw), P(600), ADAMW, SCALES(600), ALL_STATE, .fill = untouched, .flags = ANY_THREADS},
    {OP(adamw), P(1709), ADAMW, SCALES(1709), ALL_STATE, .fill = magnitudes, .flags = ANY_THREADS},
    {OP(adamw), P(1792), ADAMW, SCALES(1792), SHADOW(1792), .bf16 = 64, ALL_STATE,
     .fill = magnitudes, .flags = ANY_THREADS},
    {OP(adamw), P(600), ADAMW, SCALES(600), SHADOW(600), BF16_G, ALL_STATE, .fill = not_a_number,
     .flags = EXACT | ANY_THREADS},
    {OP(adamw), P(100003), ADAMW, SCALES(100003), SHADOW(100003), BF16_G, ALL_STATE,
     .fill = clipped, .flags = BIG | ANY_THREADS},
    {OP(ema), IN(3, 5), IN(3, 5), IN(1), .persistent = 1, .fill = decay, .flags = ANY_THREADS},
    {OP(ema), IN(33), IN(33), IN(1), .persistent = 1, .fill = no_decay,
     .flags = EXACT | ANY_THREADS},
    {OP(ema), IN(100003), IN(100003), IN(1), .persistent = 1, .fill = decay,
     .flags = BIG | ANY_THREADS},
};

static md_tensor *build(const op_case *c, md_tensor *const *in)
{
    switch (c->op) {
    case MD_OP_write:
        return md_write(in[0], in[1]);
    case MD_OP_accumulate:
        return md_accumulate(in[0], in[1]);
    case MD_OP_adamw:
        return md_adamw(&(md_adamw_tensors){.p = in[0],
                                            .g = in[1],
                                            .m = in[2],
                                            .v = in[3],
                                            .shadow = in[6],
                                            .m_scale = in[7],
                                            .v_scale = in[8]},
                        in[4], in[5], c->attr.adamw.beta1, c->attr.adamw.beta2, c->attr.adamw.eps,
                        c->attr.adamw.weight_decay);
    default:
        return md_ema(in[0], in[1], in[2]);
    }
}

OPS_FAMILY(update);
