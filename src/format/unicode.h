/* Inside src/format only: UTF-8, and what Python knows of code points that a prompt's words depend
   on: character classes, lower case, NFC. */
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

bool format__is_letter(int32_t c); /* \p{L} */
bool format__is_number(int32_t c); /* \p{N} */
bool format__is_space(int32_t c);  /* as Python's str.isspace */
bool format__is_other(int32_t c);  /* \p{C}: control, format, private, unassigned */

/* Both write into out (another array) and return how many code points. A code point of k UTF-8
   bytes gives at most 3 k / 2. format__lower is Python's str.lower, the final sigma and U+0130
   included. */
int64_t format__lower(const int32_t *code, int64_t n, int32_t *out);
int64_t format__nfc(const int32_t *code, int64_t n, int32_t *out);

#endif
