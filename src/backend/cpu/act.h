/* Activations and their slopes, eight at a time. `kind` is a constant where these are inlined
   (ACT_CASES), so that no lane decides anything. */
#ifndef MD_BACKEND_CPU_ACT_H
#define MD_BACKEND_CPU_ACT_H

#include "backend/cpu/simd.h"
#include "graph/graph.h"

/* Phi(x) of the normal distribution. */
static inline vf v_phi(vf x)
{
    return v_set(0.5f) + v_set(0.5f) * v_erf(x * v_set(0.70710678118654752f));
}

/* One number per sample takes it, in the autoencoder's loss: lane by lane will do. */
static inline vf v_log(vf x)
{
    for (int i = 0; i < VL; i++)
        x[i] = logf(x[i]);
    return x;
}

static inline vf act_value(md_act kind, vf x, vf lo, vf hi)
{
    switch (kind) {
    case MD_ACT_SILU:
        return x * v_sigmoid(x);
    case MD_ACT_GELU:
        return x * v_phi(x);
    case MD_ACT_QUICK_GELU:
        return x * v_sigmoid(v_set(1.702f) * x);
    case MD_ACT_EXP:
        return v_exp(x);
    case MD_ACT_LOG:
        return v_log(x);
    case MD_ACT_CLAMP:
        return v_max(lo, v_min(hi, x));
    default:
        return x;
    }
}

static inline vf act_slope(md_act kind, vf x, vf lo, vf hi)
{
    const vf one = v_set(1.0f);
    switch (kind) {
    case MD_ACT_SILU: {
        vf s = v_sigmoid(x);
        return s * v_fma(x, one - s, one);
    }
    case MD_ACT_GELU: { /* Phi + x phi */
        vf density = v_set(0.3989422804014327f) * v_exp(v_set(-0.5f) * x * x);
        return v_fma(x, density, v_phi(x));
    }
    case MD_ACT_QUICK_GELU: {
        vf z = v_set(1.702f) * x, s = v_sigmoid(z);
        return s * v_fma(z, one - s, one);
    }
    case MD_ACT_EXP:
        return v_exp(x);
    case MD_ACT_LOG:
        return one / x;
    case MD_ACT_CLAMP: /* outside: 0; NaN: NaN */
        return v_select((x < lo) | (x > hi), v_zero(), v_fma(x, v_zero(), one));
    default:
        return one;
    }
}

/* call(kind) with a constant */
#define ACT_CASES(kind, call)                                                                      \
    switch (kind) {                                                                                \
    case MD_ACT_SILU:                                                                              \
        call(MD_ACT_SILU);                                                                         \
        break;                                                                                     \
    case MD_ACT_GELU:                                                                              \
        call(MD_ACT_GELU);                                                                         \
        break;                                                                                     \
    case MD_ACT_QUICK_GELU:                                                                        \
        call(MD_ACT_QUICK_GELU);                                                                   \
        break;                                                                                     \
    case MD_ACT_EXP:                                                                               \
        call(MD_ACT_EXP);                                                                          \
        break;                                                                                     \
    case MD_ACT_LOG:                                                                               \
        call(MD_ACT_LOG);                                                                          \
        break;                                                                                     \
    case MD_ACT_CLAMP:                                                                             \
        call(MD_ACT_CLAMP);                                                                        \
        break;                                                                                     \
    default:                                                                                       \
        call(MD_ACT_NONE);                                                                         \
    }

#endif
