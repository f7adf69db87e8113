/* Ready-to-run halves of a foundation, for those who want numbers rather than graphs: pictures to
   latents and back, token ids to embeddings. */
#ifndef MD_MODEL_CODEC_H
#define MD_MODEL_CODEC_H

#include "graph/plan.h"
#include "model/clip_text.h"
#include "model/vae.h"

typedef struct codec codec;

/* For pictures of size x size, so many at a time (a result does not depend on it; 0: this direction
   is not needed). Takes no device memory. The parameters must outlive the codec. */
MD_MUST md_status codec_new(md_backend *be, const vae_config *c, nn_params *params, md_dtype dtype,
                            int size, int encode_batch, int decode_batch, codec **out);
void codec_free(codec *c);
/* Takes all memory that coding needs. The parameters must be loaded. */
MD_MUST md_status codec_load(codec *c);
/* For memory, FLOP and profile; NULL for a direction that is not needed. */
md_plan *codec_encode_plan(const codec *c);
md_plan *codec_decode_plan(const codec *c);
int64_t codec_edge(const codec *c); /* of the latent */
/* rgb [n,size,size,3] -> moments [n,edge,edge,2C]: mean and log variance, unscaled */
MD_MUST md_status codec_encode(codec *c, const uint8_t *rgb, int64_t n, float *moments);
/* The same of pictures with mid-gray, exactly the network's 0, where hole [n,size,size] is not 0:
   what inpainting UNets see of a picture (released code: image x (mask < 0.5)). */
MD_MUST md_status codec_encode_holed(codec *c, const uint8_t *rgb, const uint8_t *hole, int64_t n,
                                     float *moments);
/* z [n,edge,edge,C] unscaled -> rgb [n,size,size,3]. A latent or pixel that is not finite is
   MD_NONFINITE and names the picture. */
MD_MUST md_status codec_decode(codec *c, const float *z, int64_t n, uint8_t *rgb);

/* ids [n,tokens] -> context [n,tokens,hidden_size] */
MD_MUST md_status codec_text(md_backend *be, const clip_text_config *c, nn_params *params,
                             md_dtype dtype, const int32_t *ids, int64_t n, int64_t tokens,
                             float *context);

#endif
