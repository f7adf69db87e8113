/* What samples come from, as SHA-256: of the foundation's parts and its noise schedule. */
#ifndef MD_GENERATE_ORIGIN_H
#define MD_GENERATE_ORIGIN_H

#include "model/foundation.h"
#include "store/data.h"

typedef enum origin_part {
    ORIGIN_UNET,
    ORIGIN_VAE,
    ORIGIN_TEXT_ENCODER,
    ORIGIN_SCHEDULER,
    ORIGIN_LORA, /* only where there are adapters */
    ORIGIN_N_PARTS
} origin_part;

extern const char *const origin_names[ORIGIN_N_PARTS];

/* Returns how many there are: with adapters all of them. Reads the files. */
MD_MUST md_status origin_of(const foundation *f, char hex[ORIGIN_N_PARTS][MD_SHA256_HEX], int *n);
/* The terms that reach them: data.h5's and those of the weights. free() */
MD_MUST md_status origin_licences(const foundation *f, data_store *data, char **out);
/* One "name hash" a line, with data.h5's first. free() */
MD_MUST md_status origin_text(const foundation *f, const char *data, char **text);

#endif
