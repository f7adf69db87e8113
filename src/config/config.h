/* The configuration of a run: a libconfig file, overridden by path=value, checked against keys.def.
   Keys are enum values, so a misspelt key does not compile. Every function is local; what it
   returns lives as long as the config. Errors are MD_USAGE (exit code 2) and name file, line and
   key. */
#ifndef MD_CONFIG_CONFIG_H
#define MD_CONFIG_CONFIG_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum config_key {
#define CONFIG_TOP(name, type, flag, meaning)          KEY_##name,
#define CONFIG_KEY(section, name, type, flag, meaning) KEY_##section##_##name,
#include "config/keys.def"
#undef CONFIG_TOP
#undef CONFIG_KEY
    KEY_N
} config_key;

typedef struct config config;

/* Reads `path` (NULL: defaults only), then applies sets[n_sets], each "section.name=value".
   Relative paths in values stay relative to the working directory. The caller frees with
   config_free. */
MD_MUST md_status config_load(const char *path, const char *const *sets, size_t n_sets,
                              config **out);
/* The same from text; `name` stands for the file in messages. Reads what config_text wrote. */
MD_MUST md_status config_parse(const char *text, size_t n, const char *name, config **out);
void config_free(config *c);
/* The settings of another file over those that stand; keys that it does not name stay. After a
   failure c is fit for config_free only. */
MD_MUST md_status config_overlay(config *c, const char *path);
/* Every value that `given` was given, over those that stand. */
MD_MUST md_status config_lay_over(config *c, const config *given);
/* One more "section.name=value"; `from` says in messages who asked ("--set"). */
MD_MUST md_status config_set(config *c, const char *assignment, const char *from);

/* The value. The key must be of that type, else 0 or "" (a test reads every key as its type). */
int64_t config_int(const config *c, config_key key);
double config_float(const config *c, config_key key);
bool config_bool(const config *c, config_key key);
const char *config_string(const config *c, config_key key); /* STRING and CHOICE */
int config_choice(const config *c, config_key key);         /* CHOICE: 0 for the first word */
bool config_is_set(const config *c, config_key key);        /* given, not the default */

const char *config_name(const config *c); /* the file it came from */

/* MD_USAGE for a value that only a job can judge: "FILE:LINE: data.root: <fmt>". */
md_status config_fail(const config *c, config_key key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Every key with its value, in the file's own syntax; what the run directory and the stores keep.
 */
const char *config_text(config *c, md_status *status); /* NULL and *status when out of memory */
MD_MUST md_status config_save(config *c, const char *path);

/* The first key with the flag SHAPES whose values differ, of the sections listed ("data model";
   NULL: all; "." stands for the keys without section, "-data.root" takes a key out), or KEY_N. */
config_key config_diff(const config *a, const config *b, const char *sections);
/* config_diff as an error: "finetune.lr is 1e-05 here but 5e-06 in <name of b>". */
MD_MUST md_status config_same(const config *a, const config *b, const char *sections);
/* The same against what config_text wrote, as it is kept in `name`, a file made under it. */
MD_MUST md_status config_same_as(const config *now, const char *text, const char *name,
                                 const char *sections);

const char *config_path(config_key key); /* "finetune.lr" */
const char *config_meaning(config_key key);
/* "int", "float", "bool", "string" or "choice" */
const char *config_type_word(config_key key);
/* Its default and what is allowed: "4; 1 to 1024", "auto; one of auto|cpu|cuda". Returns out. */
enum { CONFIG_VALUE_TEXT = 256 };
const char *config_value_text(config_key key, char out[CONFIG_VALUE_TEXT]);
/* "a|b|c" of a CHOICE, "true|false" of a BOOL, else "". */
const char *config_choices(config_key key);
/* Whether it is in one of the sections, as config_diff takes them. */
bool config_in(config_key key, const char *sections);
/* The key of a path, or KEY_N. */
config_key config_find(const char *path);
/* The path nearest to a misspelt one, or NULL. */
const char *config_suggest(const char *path);
/* The help of the sections listed, as in config_diff: one key per line with type, default, range.
 */
MD_MUST md_status config_help(const char *sections, char **text); /* free() */

#ifdef __cplusplus
}
#endif
#endif
