/* Building blocks that several models share; keys as in diffusers. Internal to model/. */
#ifndef MD_MODEL_BLOCKS_H
#define MD_MODEL_BLOCKS_H

#include "nn/nn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* diffusers resnet.py, ResnetBlock2D. x [N,H,W,Cin], temb [N,T] already through SiLU or NULL ->
   [N,H,W,cout]. One recompute block. */
md_tensor *model__resnet(nn m, md_tensor *x, md_tensor *temb, int64_t cout, int groups, double eps);

/* Nearest neighbour, then 3x3: [N,H,W,C] -> [N,2H,2W,C]. Key: conv. */
md_tensor *model__upsample(nn m, md_tensor *x);

/* softmax(q k^T / sqrt(D/heads)) v, then the output layer. x [N,T,D], context [N,S,Dc] ->
   [N,T,D]. Keys: to_q to_k to_v to_out.0; qkv_bias: whether the first three have one. */
md_tensor *model__attention(nn m, md_tensor *x, md_tensor *context, int heads, bool qkv_bias);

/* diffusers attention_processor.py, Attention with a group norm and a residual: every position of
   x [N,H,W,C] attends to every other -> same. One recompute block. Keys: group_norm to_q to_k to_v
   to_out.0 */
md_tensor *model__image_attention(nn m, md_tensor *x, int heads, int groups, double eps);

/* [N,H,W,C] <-> [N,HW,C]: the same bytes. */
md_tensor *model__tokens(md_tensor *x);
md_tensor *model__image(md_tensor *x, int64_t h, int64_t w);

#ifdef __cplusplus
}
#endif
#endif
