/* Guides: where a lesion will be painted. A guide is a mask of masks.h5 or a training mask,
   flipped, turned, scaled and moved to where the background allows a lesion. */
#ifndef MD_GENERATE_GUIDE_H
#define MD_GENERATE_GUIDE_H

#include "base/rng.h"
#include "image/mask.h"
#include "store/data.h"

/* Masks, read once. `whole`: those that do not reach the edge of what their picture shows (`valid`
   in data.h5, the square in masks.h5), which would have cut them. */
typedef struct guide_bank {
    image *mask; /* [n] of [S,S,1] */
    int64_t n, size;
    int32_t *id;             /* [n] rows of the file */
    int64_t least;           /* area of the smallest, in pixels */
    int64_t *whole, n_whole; /* [n_whole] of 0..n-1 */
} guide_bank;

/* The training masks that data.pairs chose. */
MD_MUST md_status guide_bank_open(const char *data_h5, guide_bank *out);
/* The accepted masks of masks.h5. */
MD_MUST md_status guide_bank_open_masks(const char *masks_h5, guide_bank *out);
void guide_bank_free(guide_bank *b);

/* False where the map [S,S,1] is empty or so small that no guide fits, however often it is drawn.
 */
bool guide_has_room(const guide_bank *b, const image *allowed);

/* The guide of a stream, MD_RNG_GUIDE of (slot, attempt): a pure function. allowed [S,S,1]: where a
   lesion may lie in the background (backgrounds.h5); at least 99 % of the guide does. out is new
   [S,S,1]; *id the mask it was made from: a whole one where there are any, since a lesion that was
   cut by its picture's edge would show the cut as a straight side elsewhere. MD_BAD_INPUT when no
   mask can be made to fit; the stream goes on from there in another background. */
MD_MUST md_status guide_draw(const guide_bank *b, md_rng *r, const image *allowed, image *out,
                             int32_t *id);

/* The training masks in turn, each as it is: slot's. out and id as above. */
MD_MUST md_status guide_take(const guide_bank *b, int64_t slot, image *out, int32_t *id);

/* alpha [S,S]: how much of the painted image shows; 0 from the guide's edge outward, 1 at
   feather_px inside. rgb = alpha rgb + (1 - alpha) background, in place; where alpha is 0 the
   background's pixels stand exactly. */
MD_MUST md_status guide_paste(const image *guide, double feather_px, const uint8_t *background,
                              uint8_t *rgb);

/* The stored mask: the guide eroded by a disc, in pixels of the stored size. Where nothing would be
   left of it, it is the guide itself, and *kept says so; of an empty guide nothing is kept. */
MD_MUST md_status guide_corrode(const image *guide, int radius_px, image *mask, bool *kept);

/* guide -> [edge,edge] at the latent's size, pooled, then grown by `grow` latent pixels (maximum
   over a disc); 0: not grown. */
MD_MUST md_status guide_pool(const image *guide, int64_t edge, image_mask_pooling how, int grow,
                             float *out);

/* mask [edge,edge] from guide_pool -> feather [edge,edge]: 0 outside; in each of its parts from 0
   at the edge to 1 at `width` latent pixels inside, or at the part's depth where that is less, so
   that every part has a core. width 0: 1 all over the mask. */
MD_MUST md_status guide_feather(const float *mask, int64_t edge, double width, float *feather);

#endif
