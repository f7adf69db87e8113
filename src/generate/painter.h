/* Paints lesions into backgrounds: guided sampling of a latent diffusion model on one worker. One
   plan holds a whole sampling step; text embeddings and inputs that stay are written once. */
#ifndef MD_GENERATE_PAINTER_H
#define MD_GENERATE_PAINTER_H

#include "diffusion/blend.h"
#include "diffusion/guidance.h"
#include "image/mask.h"
#include "model/codec.h"
#include "model/foundation.h"

typedef struct painter_options {
    int size, batch; /* pixels; pictures painted together */
    const char *prompt;
    double guidance;                  /* classifier-free guidance scale */
    const diffusion_sampler *sampler; /* NULL: the foundation's own */
    int steps;
    double eta;
    double strength; /* share of the steps that are gone: less than 1 starts at the picture's latent
                        under the noise where they begin; 0 counts as 1, from noise alone */
    const diffusion_blend *blend;
    image_mask_pooling pool; /* guide to latent size */
    int grow;                /* latent pixels; 0: none */
    double feather;          /* latent pixels; 0: none */
    blend_motion motion;     /* of the feathered guide over the steps */
    double settled;          /* share of the timesteps, the last ones, at which it stands whole */
    bool same_noise;         /* the same draws for every picture, as the released code has it */
    bool sample_posterior;   /* latents of pictures are drawn; else the posterior's mean */
    uint64_t seed;
    md_dtype dtype;
} painter_options;

typedef struct painter_item {
    int64_t slot;
    uint32_t attempt;
    const image *guide;        /* [S,S,1] */
    const uint8_t *background; /* [S,S,3] */
    const float *moments;      /* its posterior from painter_encode */
} painter_item;

typedef struct painter painter;

/* What sampler, schedule, blend and UNet cannot do together is MD_USAGE, naming the keys; before
   any work. Puts the foundation's own sampler where o names none. */
MD_MUST md_status painter_check(const foundation *f, painter_options *o);
/* Plans the painting and takes no device memory. f and be must outlive the painter. Begins
   with painter_check. */
MD_MUST md_status painter_new(const foundation *f, md_backend *be, const painter_options *o,
                              painter **out);
void painter_free(painter *p);
/* Takes all memory that painting needs. All parts of f must be loaded on be. */
MD_MUST md_status painter_load(painter *p);
int64_t painter_moments(const painter *p); /* floats of one posterior */
const codec *painter_codec(const painter *p);
const diffusion_sampler *painter_sampler(const painter *p);
md_plan *painter_step_plan(const painter *p); /* one sampling step of a batch */
int painter_evaluations(const painter *p);    /* runs of that plan for a batch */
/* Bytes on the device while painting, exactly: with the weights of all parts. */
size_t painter_bytes(const painter *p);
/* MD_NOMEM, and what would help, when they exceed the budget; 0: no limit. */
MD_MUST md_status painter_fits(const painter *p, size_t budget);
/* rgb [S,S,3] -> moments [painter_moments], as codec_encode. */
MD_MUST md_status painter_encode(painter *p, const uint8_t *rgb, float *moments);
/* Back from the posterior's mean: rgb [S,S,3], what the VAE alone leaves of a picture. */
MD_MUST md_status painter_decode(painter *p, const float *moments, uint8_t *rgb);
/* The latents as they stand, between steps too: [batch, painter_latent], sqrt(a) x_0 + sqrt(1 - a)
 * e. */
MD_MUST md_status painter_latents(painter *p, float *out);
/* n <= batch pictures into rgb [n,S,S,3]. The result of an item depends on nothing but the item.
   finite[i] is false, and its picture undefined, where the latent stopped being finite. `beat` is
   called between steps and may end the painting. */
MD_MUST md_status painter_paint(painter *p, const painter_item *items, int n,
                                md_status (*beat)(void *user), void *user, uint8_t *rgb,
                                bool *finite);

#endif
