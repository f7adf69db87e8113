/* Pictures of the lesions' class, for prior preservation (DreamBooth, Ruiz et al. 2023,
   arXiv:2208.12242): learned beside the lesions under their own prompt, so that the model does not
   forget what the class looks like. A folder holds them; the finetune job has the foundation draw
   those that are missing. Local. */
#ifndef MD_TRAIN_PRIOR_H
#define MD_TRAIN_PRIOR_H

#include "base/status.h"
#include <stdint.h>

typedef struct prior_pictures {
    char **names; /* png, jpg, jpeg and bmp files, sorted; one allocation */
    int64_t n;
} prior_pictures;

/* The first `most` pictures of a folder; none is MD_BAD_INPUT. */
MD_MUST md_status prior_list(const char *folder, int64_t most, prior_pictures *out);
void prior_free(prior_pictures *p);
/* One of them as rgb [size,size,3], its largest centred square. */
MD_MUST md_status prior_read(const char *folder, const char *name, int64_t size, uint8_t *rgb);

#endif
