/* Checked strings: a text that does not fit is an error, never a silent cut. */
#ifndef MD_BASE_STR_H
#define MD_BASE_STR_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Copies s with its NUL into buf of `size` bytes. MD_USAGE when it does not fit (buf is then "").
 */
MD_MUST md_status md_str_copy(char *buf, size_t size, const char *s);
/* snprintf with truncation as MD_USAGE (buf is then ""). */
MD_MUST md_status md_str_printf(char *buf, size_t size, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
bool md_str_starts(const char *s, const char *prefix);
bool md_str_ends(const char *s, const char *suffix);
/* Edit distance (Levenshtein), for "did you mean"; strings longer than 63 bytes are far from all.
 */
int md_str_distance(const char *a, const char *b);

/* A growing text. Start from {0}; the caller frees with md_text_free. `s` is NUL-terminated,
   NULL while nothing has been added. On MD_NOMEM the text so far is unchanged. */
typedef struct md_text {
    char *s;
    size_t n, cap;
} md_text;

MD_MUST md_status md_text_add(md_text *t, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Adds s as a field of CSV, quoted where it has to be. */
MD_MUST md_status md_text_add_csv(md_text *t, const char *s);
void md_text_free(md_text *t);

#ifdef __cplusplus
}
#endif
#endif
