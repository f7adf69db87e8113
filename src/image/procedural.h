/* Captioned pictures drawn from nothing, for pretraining the tiny foundation: dead leaves, noise
   spectra and textures, a third of them gray. No medical content: no lesion, no trigger word, and
   none of the texture families of phantom.h (layered speckle with shadows, pigmented skin). */
#ifndef MD_IMAGE_PROCEDURAL_H
#define MD_IMAGE_PROCEDURAL_H

#include <stdint.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { PROCEDURAL_CAPTION = 128, PROCEDURAL_MAX_SIZE = 128 };

/* rgb: [size,size,3], size 8..PROCEDURAL_MAX_SIZE, scale-relative (the same item at another size is
   a similar, not a resized picture). caption: lower case English from procedural_words(), what is
   seen: "small red and blue discs, high contrast, thin lines". A pure function of its arguments;
   any number of threads. About 1 to 2 ms per picture of 128 x 128. */
void procedural_draw(uint64_t seed, uint64_t item, int size, uint8_t *rgb,
                     char caption[PROCEDURAL_CAPTION]);

/* The closed list of words a caption is made of; *count of them, static storage. */
const char *const *procedural_words(int *count);

/* vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json of a CLIP-style BPE
   tokenizer (Radford et al. 2021) into the existing folder `dir`: 256 bytes, 256 bytes that end a
   word, merges that make each word of procedural_words() and of common prompts one token, and the
   two special tokens last. It encodes any text, bytewise where it knows no word. */
MD_MUST md_status procedural_write_tokenizer(const char *dir);

#ifdef __cplusplus
}
#endif
#endif
