/* Inside config/: the rows of keys.def as a table. */
#ifndef MD_CONFIG_KEYS_H
#define MD_CONFIG_KEYS_H

#include "config/config.h"

typedef enum config_type {
    CONFIG_INT,
    CONFIG_FLOAT,
    CONFIG_BOOL,
    CONFIG_STRING,
    CONFIG_CHOICE
} config_type;

typedef struct config_row {
    const char *section; /* "" for a key without */
    const char *path;
    config_type type;
    int64_t int_default, int_min, int_max, multiple; /* INT; int_default also BOOL */
    double float_default, float_min, float_max;
    const char *string_default, *choices; /* choices: "a|b|c" */
    bool shapes;
    const char *meaning;
} config_row;

extern const config_row config__rows[KEY_N];

const char *config__type_name(config_type t);
/* Place of word in "a|b|c", or -1. */
int config__choice_index(const char *choices, const char *word);
/* sections: "data model", NULL for all, "." for the keys without section; "-data.root" takes a key
   out. */
bool config__in_sections(const config_row *row, const char *sections);
/* Shortest of %.15g, %.17g that reads back equal. */
void config__float_text(char out[32], double x);

#endif
