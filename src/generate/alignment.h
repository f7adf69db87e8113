/* Whether a painting shows where its mask says: Dice of the mask with the pixels that differ from
   the background by more than the background's own way through the VAE and back. Differences are
   the largest of the channels, averaged over a square of a 64th of the picture to each side. */
#ifndef MD_GENERATE_ALIGNMENT_H
#define MD_GENERATE_ALIGNMENT_H

#include "image/image.h"

/* What 99 % of the background's pixels differ at most after the round trip; both [S,S,3]. */
MD_MUST md_status alignment_noise(const uint8_t *background, const uint8_t *round_trip,
                                  int64_t size, float *noise);
/* rgb and background [S,S,3], mask [S,S,1]. */
MD_MUST md_status alignment_measure(const uint8_t *rgb, const uint8_t *background, float noise,
                                    const image *mask, float *dice);

#endif
