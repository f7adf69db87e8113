/* Filling holes in pictures smoothly: what stands there instead is neither guessed nor kept. */
#ifndef MD_IMAGE_FILL_H
#define MD_IMAGE_FILL_H

#include "image/image.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Pixels of im [h,w,c], in place, where hole [h,w,1] is not 0 become smooth averages of those
   around it where known [h,w,1] is not 0 (NULL: everywhere else), nearer ones counting more:
   pull-push over halved sizes (Gortler et al., "The Lumigraph", 1996). Nothing known: mid-gray. */
MD_MUST md_status image_fill(image *im, const image *hole, const image *known);

#ifdef __cplusplus
}
#endif
#endif
