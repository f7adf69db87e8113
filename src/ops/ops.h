/* The op builders. Each checks shapes, appends a node and returns its first output; on an error it
   returns the graph's poison tensor. All inputs of a node have one float type unless said
   otherwise; sums are accumulated in f32 (f64 in `ref`). Images [N,H,W,C], tokens [N,T,D]. Kernels
   see the node's inputs and outputs in the order given here. */
#ifndef MD_OPS_OPS_H
#define MD_OPS_OPS_H

#include "graph/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- elementwise. Result has a's shape; b broadcasts to it: right-aligned, each dim equal or 1.
 */
md_tensor *md_add(md_tensor *a, md_tensor *b);
md_tensor *md_sub(md_tensor *a, md_tensor *b);
md_tensor *md_mul(md_tensor *a, md_tensor *b);
md_tensor *md_affine(md_tensor *x, double alpha, double beta); /* alpha x + beta */
static inline md_tensor *md_scale(md_tensor *x, double alpha)
{
    return md_affine(x, alpha, 0);
}

/* silu x s(x); gelu exact (erf); quick_gelu x s(1.702 x); exp; log (natural) */
md_tensor *md_activation(md_tensor *x, md_act kind);
static inline md_tensor *md_silu(md_tensor *x)
{
    return md_activation(x, MD_ACT_SILU);
}
md_tensor *md_clamp(md_tensor *x, double lo, double hi); /* an act with kind CLAMP */
/* act_grad: in {dy, x} -> dx = dy act'(x); clamp passes where lo <= x <= hi. attr.act as in act */
/* geglu: in {x[...,2D]} -> x[...,:D] * gelu(x[...,D:]), [...,D] (diffusers' GEGLU: value, gate) */
md_tensor *md_geglu(md_tensor *x);
/* geglu_grad: in {dy[...,D], x[...,2D]} -> dx[...,2D] */
md_tensor *md_cast(md_tensor *x, md_dtype dtype); /* F32 <-> BF16; same type: x itself */

/* ---- reduce */
/* Sums x over the dims where the target (right-aligned to x) is 1 or missing. The adjoint of
   broadcasting. in {x} -> out with the target's dims. */
md_tensor *md_sum_to(md_tensor *x, int ndim, const int64_t *dim);
/* Repeats x along the dims where it is 1 or missing (right-aligned). The adjoint of sum_to. */
md_tensor *md_broadcast_to(md_tensor *x, int ndim, const int64_t *dim);
md_tensor *md_sum(md_tensor *x);   /* [1] */
md_tensor *md_mean(md_tensor *x);  /* [1] */
md_tensor *md_sumsq(md_tensor *x); /* [1] f32, any float x */

/* ---- linear. in {x[...,K], w[O,K], b[O] or NULL, r[...,O] or NULL} -> x w^T + b + r, [...,O].
   Models add a residual with md_add; the plan makes it an input where a backend can fuse it. */
md_tensor *md_linear(md_tensor *x, md_tensor *w, md_tensor *b);
md_tensor *md_linear_residual(md_tensor *x, md_tensor *w, md_tensor *b, md_tensor *r);
/* matmul: in {a, b}: 2-D after folding all leading dims into one: a is [M,K] ([K,M] if ta), b is
   [K,N] ([N,K] if tb) -> [M,N]. attr.matmul. A leading-dims result is restored with md_reshape. */
md_tensor *md_matmul(md_tensor *a, md_tensor *b, bool ta, bool tb);

/* ---- conv. Weights O,kh,kw,I. Cross-correlation as in PyTorch, zero padding, no dilation.
   in {x[N,H,W,I], w[O,kh,kw,I], b[O] or NULL, r or NULL} -> y [N,(H+pt+pb-kh)/s+1,
   (W+pl+pr-kw)/s+1,O] + r; r has y's shape, as in linear */
md_tensor *md_conv2d(md_tensor *x, md_tensor *w, md_tensor *b, int stride, int pad_t, int pad_l,
                     int pad_b, int pad_r);
md_tensor *md_conv2d_residual(md_tensor *x, md_tensor *w, md_tensor *b, md_tensor *r, int stride,
                              int pad_t, int pad_l, int pad_b, int pad_r);
/* conv2d_dx: in {dy, w} -> dx (shape of x).  conv2d_dw: in {dy, x} -> dw (shape of w). */

/* ---- norm. x [N,...,C]; statistics per sample and group over all spatial dims, biased variance.
   rstd = 1 / sqrt(var + eps).
   in {x, gamma[C], beta[C]} -> {act(gamma xhat + beta), mean[N,G] f32, rstd[N,G] f32}; act NONE or
   SILU */
md_tensor *md_group_norm(md_tensor *x, md_tensor *gamma, md_tensor *beta, int groups, double eps,
                         md_act act);
/* group_norm_grad: in {dy, x, gamma, beta, mean, rstd} -> {dx, dgamma[C], dbeta[C]} */
/* layer_norm: over the last dim. in {x[...,D], gamma[D], beta[D]} -> {y, mean[rows], rstd[rows]} */
md_tensor *md_layer_norm(md_tensor *x, md_tensor *gamma, md_tensor *beta, double eps);
/* layer_norm_grad: in {dy, x, gamma, mean, rstd} -> {dx, dgamma, dbeta} */

/* ---- attention. Heads are split by stride: head h owns columns [h D/heads, (h+1) D/heads).
   in {q[N,T,D], k[N,S,D], v[N,S,D]} -> {softmax(scale q k^T) v [N,T,D], lse[N,heads,T] f32}
   lse = log sum exp of the scaled logits.
   causal: query t sees keys s <= t (T == S). scale 0 means 1/sqrt(D/heads). */
md_tensor *md_attention(md_tensor *q, md_tensor *k, md_tensor *v, int heads, double scale,
                        bool causal);
/* attention_grad: in {dout, q, k, v, out, lse} -> {dq, dk, dv} */

/* ---- shape; float types only */
md_tensor *md_concat(md_tensor *const *x, int n, int axis); /* 1..8 tensors */
md_tensor *md_slice(md_tensor *x, int axis, int64_t start, int64_t len);
/* pad_axis: zeros around x along axis so that the result has `len` there, x at `start` */
md_tensor *md_pad_axis(md_tensor *x, int axis, int64_t start, int64_t len);
md_tensor *md_upsample2x(md_tensor *x); /* nearest, [N,H,W,C] -> [N,2H,2W,C] */
md_tensor *md_downsum2x(md_tensor *x);  /* 2x2 sums, the adjoint */

/* ---- embed. in {ids[...] i32, table[V,D]} -> [...,D]. An id outside 0..V-1 fails at run
   time with MD_BAD_INPUT; so it does in embedding_grad. */
md_tensor *md_embedding(md_tensor *ids, md_tensor *table);
/* embedding_grad: in {dy[...,D], ids} -> dtable[V,D] */
/* in {t[N] f32} -> [N,dim] f32. diffusers get_timestep_embedding: half = dim/2,
   f_i = exp(-ln(max_period) i / (half - shift)), [sin | cos], flip -> [cos | sin]. dim even. */
md_tensor *md_timestep_embedding(md_tensor *t, int64_t dim, bool flip, double shift,
                                 double max_period);

/* ---- update: change a persistent tensor (or a view of one) in place and return it. Listing the
   result among the plan's outputs makes the update happen. */
md_tensor *md_write(md_tensor *dst, md_tensor *src);      /* dst = src; in {dst, src}; any type */
md_tensor *md_accumulate(md_tensor *dst, md_tensor *src); /* dst += src */

/* AdamW with decoupled decay (Loshchilov & Hutter 2019; torch.optim.AdamW) after clipping by the
   global norm (torch.nn.utils.clip_grad_norm_), in one pass over the state:
     s = hyper[SCALE] min(1, hyper[CLIP] / (hyper[SCALE] sqrt(gnorm2) + 1e-6)), no clip if CLIP is 0
     g' = s g; m = b1 m + (1-b1) g'; v = b2 v + (1-b2) g'^2
     p -= lr wd p;  p -= lr (m BC1) / (sqrt(v BC2) + eps);  shadow = p rounded to nearest
   A gnorm2 that is not finite leaves everything unchanged. p, gnorm2, hyper are f32, g is f32 or
   bf16. m and v have one of three forms; the update uses their values before they are rounded:
     f32;  bf16, rounded stochastically with the bits of ops/state.h;
     u8 in blocks of MD_STATE_BLOCK with one f32 scale each, ops/state.h.
   in {p[P], g[P], m[P], v[P], gnorm2[1], hyper[6], shadow[P] bf16 or NULL, m_scale[ceil(P/block)],
   v_scale or NULL} -> p; m, v, shadow and scales change too; all but g, gnorm2 and hyper are
   persistent. */
enum {
    MD_HYPER_LR,
    MD_HYPER_BC1,
    MD_HYPER_BC2,
    MD_HYPER_CLIP,
    MD_HYPER_SCALE,
    MD_HYPER_STEP, /* whole, below 2^24: the seed of stochastic rounding */
    MD_HYPER_COUNT
};
typedef struct md_adamw_tensors {
    md_tensor *p, *g, *m, *v;
    md_tensor *shadow;            /* NULL: none */
    md_tensor *m_scale, *v_scale; /* given exactly when m and v are u8 */
} md_adamw_tensors;
md_tensor *md_adamw(const md_adamw_tensors *t, md_tensor *gnorm2, md_tensor *hyper, double beta1,
                    double beta2, double eps, double weight_decay);
/* e = d e + (1-d) p, decay[1] = d; a d that is not finite leaves e unchanged.  in {e, p, decay} ->
   e */
md_tensor *md_ema(md_tensor *e, md_tensor *p, md_tensor *decay);

/* Gradient builders, named in ops.def: given the node and the gradients of its outputs (NULL where
   none flows), set gx[i] for inputs that want one. `want[i]` is false where nobody asks. */
typedef void (*md_vjp_fn)(md_node *n, md_tensor *const *gy, const bool *want, md_tensor **gx);

/* For gradient nodes without a public builder, shared inside ops/ and by tests. `dim` is the
   shape of the result. */
md_tensor *md_act_grad(md_tensor *dy, md_tensor *x, md_attr attr);
md_tensor *md_geglu_grad(md_tensor *dy, md_tensor *x);
md_tensor *md_conv2d_dx(md_tensor *dy, md_tensor *w, const int64_t x_dim[4], md_attr attr);
md_tensor *md_conv2d_dw(md_tensor *dy, md_tensor *x, const int64_t w_dim[4], md_attr attr);
md_node *md_group_norm_grad(md_tensor *dy, md_node *norm);
md_node *md_layer_norm_grad(md_tensor *dy, md_node *norm);
md_node *md_attention_grad(md_tensor *dout, md_node *attention);
md_tensor *md_embedding_grad(md_tensor *dy, md_tensor *ids, int64_t vocab);

#ifdef __cplusplus
}
#endif
#endif
