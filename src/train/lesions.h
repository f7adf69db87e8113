/* The fine-tune's source: the training pairs of data.h5, encoded once (both mirror images), with
   their masks at the latent's size and the prompt's embedding. */
#ifndef MD_TRAIN_LESIONS_H
#define MD_TRAIN_LESIONS_H

#include "image/mask.h"
#include "model/foundation.h"
#include "train/denoise.h"

enum { LESIONS_VARIANTS = 2 }; /* of each picture: itself and its mirror image; encoded together */

typedef enum lesions_region { LESIONS_INSIDE, LESIONS_OUTSIDE } lesions_region;

typedef struct lesions_options {
    const char *data; /* data.h5 */
    const char *prompt;
    lesions_region region;   /* where the loss counts: the mask, or the valid area around it */
    double grow_px;          /* by which the mask grows before its outside is taken */
    bool outside;            /* the loss counts elsewhere too, if less: empty regions are no news */
    bool mask_out;           /* paint what is not trained on white first (figure 1a) */
    image_mask_pooling pool; /* of the region to the latent's size */
    bool longest;    /* texts are padded to the longest of them, not to the encoder's length */
    bool train_text; /* keep token ids instead of embeddings */
    const char *prior_folder; /* pictures of the class (train/prior.h); NULL: none */
    const char *prior_prompt; /* their text */
    int64_t prior_images;     /* how many of them, at most */
    md_dtype dtype;
} lesions_options;

typedef struct lesions {
    denoise_source source;
    float *moments, *mask, *masked, *context; /* owned; see denoise_source */
    int32_t *ids, *texts;                     /* texts [DENOISE_N_TEXTS, the tokenizer's length] */
} lesions;

/* The foundation's VAE must be loaded on `be`, and its text encoder unless train_text. Only rows of
   the train split that data.pairs chose are read. The first worker warns of samples whose region is
   empty at the latent's size, which are skipped; MD_BAD_INPUT where all are. Local. */
MD_MUST md_status lesions_load(const foundation *f, md_backend *be, const lesions_options *o,
                               lesions *out);
void lesions_free(lesions *l);
/* Tokens that training sees of each text: the tokenizer's length, or (longest) that of the longest.
 */
MD_MUST md_status lesions_tokens(const foundation *f, const lesions_options *o, int64_t *tokens);

#endif
