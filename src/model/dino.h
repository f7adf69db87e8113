/* DINOv2's vision transformer (Oquab et al. 2023, arXiv:2304.07193), sizes S, B and L, named and
   shaped as transformers' Dinov2Model. Images are RGB in [0,1] less ImageNet's mean, by its
   deviation, NHWC. */
#ifndef MD_MODEL_DINO_H
#define MD_MODEL_DINO_H

#include "nn/nn.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { DINO_MAX_GRID = 1024 }; /* patches along an edge of image_size */

typedef struct dino_config {
    int num_channels;
    int image_size; /* edge that the position embeddings stand for: 518 */
    int patch_size; /* 14 */
    int hidden_size, num_hidden_layers, num_attention_heads, mlp_ratio;
    bool qkv_bias;
    double layer_norm_eps;
} dino_config;

/* Position embeddings of the config's image, one per patch: (image_size / patch_size)^2. */
int64_t dino_positions(const dino_config *c);
/* Whether an image of h x w pixels needs its position embeddings interpolated. */
bool dino_interpolates(const dino_config *c, int64_t h, int64_t w);
/* The matrix that takes the embeddings to an image of h x w pixels: out[h w / patch^2,
   dino_positions]. Bicubic without antialiasing, with the offset of 0.1 patches that the original
   adds to the target (dinov2/models/vision_transformer.py, interpolate_pos_encoding). */
void dino_position_matrix(const dino_config *c, int64_t h, int64_t w, float *out);

/* image [N,H,W,num_channels], H and W multiples of patch_size; positions [HW/patch^2,
   dino_positions] f32 from dino_position_matrix, NULL where nothing is interpolated -> tokens after
   the final norm [N,1 + HW/patch^2,hidden_size], the class token first. */
md_tensor *dino(nn m, const dino_config *c, md_tensor *image, md_tensor *positions);
/* The class token of each image: [N,hidden_size]. */
md_tensor *dino_class(md_tensor *tokens);
/* Declares every parameter by building the model in a throwaway graph; closes the store. */
MD_MUST md_status dino_declare(nn_params *p, const dino_config *c);

#ifdef __cplusplus
}
#endif
#endif
