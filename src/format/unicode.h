/* Inside src/format only: UTF-8, the three character classes of CLIP's word pattern, lower case. */
#ifndef MD_FORMAT_UNICODE_H
#define MD_FORMAT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The code point at s (n bytes left) and its length in *len; -1 when the bytes are no UTF-8
   (overlong forms and surrogates included). */
int32_t format__utf8_get(const char *s, size_t n, int *len);
/* Writes 1..4 bytes; returns how many. */
int format__utf8_put(int32_t c, char *out);

bool format__is_letter(int32_t c);   /* \p{L} */
bool format__is_number(int32_t c);   /* \p{N} */
bool format__is_space(int32_t c);    /* as Python's str.isspace */
int32_t format__to_lower(int32_t c); /* one to one; special cases of context are left alone */

#endif
