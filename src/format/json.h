/* JSON documents (over jansson, which is named in this room only): parsed once with checks, then
   asked for values by path. A path is keys and indices from the root: "a.b[2].c", "" is the root
   itself; keys that hold a dot or bracket cannot be reached this way. Messages name the file and
   the path, or the line and column of a syntax error; all are MD_BAD_INPUT. */
#ifndef MD_FORMAT_JSON_H
#define MD_FORMAT_JSON_H

#include "base/status.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FORMAT_JSON_DEPTH_MAX 64
#define FORMAT_JSON_BYTES_MAX ((size_t)16 << 20) /* a parsed value takes some 50 times its text */

typedef struct format_json
    format_json; /* freed by format_json_free; borrowed strings die with it */

/* Refused: syntax errors, duplicate keys, nesting deeper than FORMAT_JSON_DEPTH_MAX, a root that is
   neither object nor array, more than FORMAT_JSON_BYTES_MAX. Python's Infinity and -Infinity are
   read as +-1.7e308. */
MD_MUST md_status format_json_load(const char *path, format_json **out);
MD_MUST md_status format_json_parse(const char *name, const void *bytes, size_t n,
                                    format_json **out);
void format_json_free(format_json *doc); /* NULL is fine */
const char *format_json_name(const format_json *doc);

/* True when the path exists and is not null. */
bool format_json_has(const format_json *doc, const char *path);
/* What stands at the path: "object" "array" "string" "integer" "real" "true" "false" "null", or
   "nothing". */
const char *format_json_type(const format_json *doc, const char *path);

/* Missing, of another type or out of lo..hi: an error. An integer is a fine float. */
MD_MUST md_status format_json_int(const format_json *doc, const char *path, int64_t lo, int64_t hi,
                                  int64_t *out);
MD_MUST md_status format_json_float(const format_json *doc, const char *path, double *out);
MD_MUST md_status format_json_bool(const format_json *doc, const char *path, bool *out);
MD_MUST md_status format_json_string(const format_json *doc, const char *path, const char **out);
/* Elements of an array or members of an object. */
MD_MUST md_status format_json_count(const format_json *doc, const char *path, int64_t *out);
/* Name of member i of an object, in the file's order. */
MD_MUST md_status format_json_key(const format_json *doc, const char *path, int64_t i,
                                  const char **out);
/* An array of integers into out[max]; *n its length, longer ones are an error. */
MD_MUST md_status format_json_ints(const format_json *doc, const char *path, int64_t lo, int64_t hi,
                                   int64_t *out, int64_t max, int64_t *n);

/* The same with a default for what is missing or null; a wrong type is still an error. */
MD_MUST md_status format_json_int_or(const format_json *doc, const char *path, int64_t lo,
                                     int64_t hi, int64_t other, int64_t *out);
MD_MUST md_status format_json_float_or(const format_json *doc, const char *path, double other,
                                       double *out);
MD_MUST md_status format_json_bool_or(const format_json *doc, const char *path, bool other,
                                      bool *out);
MD_MUST md_status format_json_string_or(const format_json *doc, const char *path, const char *other,
                                        const char **out);

/* Adds s as a JSON string with its quotes. */
MD_MUST md_status format_json_quote(md_text *t, const char *s);

#ifdef __cplusplus
}
#endif
#endif
