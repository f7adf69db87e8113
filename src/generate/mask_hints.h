/* What the training masks give the mask generator while it draws: the mean of their pictures, and
   sketches (image/mask_sketch.h). */
#ifndef MD_GENERATE_MASK_HINTS_H
#define MD_GENERATE_MASK_HINTS_H

#include "config/config.h"
#include "generate/guide.h"
#include "image/mask_sketch.h"

typedef struct mask_place {
    int64_t slot;
    uint32_t attempt;
} mask_place;

typedef struct mask_hints {
    image_field_view view;
    int64_t n;
    float *fields;  /* [n,size,size] of the training masks */
    double mean;    /* of their pictures */
    int64_t *order; /* [n]: a permutation, whose sketch each slot in turn has first */
    image_sketch_spread spread;
    double augment, warp; /* how far a sketched mask is moved: as in training */
    uint64_t seed;
} mask_hints;

/* real: not needed afterwards. Local. */
MD_MUST md_status mask_hints_open(const config *cfg, const guide_bank *real,
                                  const image_field_view *v, mask_hints *out);
void mask_hints_close(mask_hints *h);
/* What is turned down is drawn again: by the same sketch, then by that of the same mask moved anew.
   With another mask at once fewer would be left of what is turned down most often: smooth round
   ones as copies, large ragged ones at the border. */
enum { MASK_HINTS_DRAWS = 4, MASK_HINTS_MOVES = 4 };
/* planes [edge,edge,IMAGE_SKETCH_PLANES] of a training mask's sketch, by the place alone, told
   against `spread`: slots take the masks in turn, so that their shapes are spread as the masks' are
   and not as those of so many draws; every MASK_HINTS_DRAWS attempts the mask is moved anew, and
   after MASK_HINTS_MOVES moves it is a mask drawn. */
MD_MUST md_status mask_hints_sketch(const mask_hints *h, mask_place place,
                                    const image_sketch_spread *spread, float *planes);

#endif
