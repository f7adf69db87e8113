/* Inside src/format only: jansson values under the checks of json.h. */
#ifndef MD_FORMAT_JSON_INTERNAL_H
#define MD_FORMAT_JSON_INTERNAL_H

#include "base/status.h"

#include <jansson.h>
#include <stddef.h>

/* flags: of jansson (JSON_REJECT_DUPLICATES is added). The caller owns *out (json_decref). */
MD_MUST md_status format__json_parse(const char *name, const void *bytes, size_t n, size_t flags,
                                     json_t **out);
const char *format__json_type(const json_t *v); /* NULL -> "nothing" */

#endif
