/* The table made of keys.def, and what needs nothing else: names, suggestions, help. */
#include "config/keys.h"

#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INT(d, lo, hi)     .type = CONFIG_INT, .int_default = d, .int_min = lo, .int_max = hi
#define STEP(d, lo, hi, m) INT(d, lo, hi), .multiple = m
#define FLOAT(d, lo, hi)   .type = CONFIG_FLOAT, .float_default = d, .float_min = lo, .float_max = hi
#define BOOL(d)            .type = CONFIG_BOOL, .int_default = d
#define STRING(d)          .type = CONFIG_STRING, .string_default = d
#define CHOICE(d, words)   .type = CONFIG_CHOICE, .string_default = d, .choices = words
#define SHAPES             .shapes = true
#define FREE               .shapes = false

const config_row config__rows[KEY_N] = {
#define CONFIG_TOP(name, type_, flag, text)                                                        \
    [KEY_##name] = {.section = "", .path = #name, type_, flag, .meaning = text},
#define CONFIG_KEY(section_, name, type_, flag, text)                                              \
    [KEY_##section_##_##                                                                           \
        name] = {.section = #section_, .path = #section_ "." #name, type_, flag, .meaning = text},
#include "config/keys.def"
#undef CONFIG_TOP
#undef CONFIG_KEY
};

const char *config__type_name(config_type t)
{
    static const char *const names[] = {"an integer", "a number", "true or false", "a text",
                                        "a word"};
    return names[t];
}

int config__choice_index(const char *choices, const char *word)
{
    size_t n = strlen(word);
    int index = 0;
    for (const char *p = choices;; p++, index++) {
        size_t length = strcspn(p, "|");
        if (length == n && memcmp(p, word, n) == 0)
            return index;
        p += length;
        if (!*p)
            return -1;
    }
}

bool config__in_sections(const config_row *row, const char *sections)
{
    if (!sections)
        return true;
    const char *name = row->section[0] ? row->section : ".";
    size_t n = strlen(name), n_path = strlen(row->path);
    bool in = false;
    for (const char *p = sections; *p;) {
        size_t length = strcspn(p, " ");
        if (length == n && memcmp(p, name, n) == 0)
            in = true;
        if (*p == '-' && length == n_path + 1 && memcmp(p + 1, row->path, n_path) == 0)
            return false;
        p += length;
        p += strspn(p, " ");
    }
    return in;
}

void config__float_text(char out[32], double x)
{
    (void)snprintf(out, 32, "%.15g", x);
    if (strtod(out, NULL) != x)
        (void)snprintf(out, 32, "%.17g", x);
}

const char *config_path(config_key key)
{
    return config__rows[key].path;
}

const char *config_meaning(config_key key)
{
    return config__rows[key].meaning;
}

config_key config_find(const char *path)
{
    for (int k = 0; k < KEY_N; k++)
        if (!strcmp(config__rows[k].path, path))
            return (config_key)k;
    return KEY_N;
}

static const char *nearest(const char *path, int below)
{
    const char *best = NULL;
    for (int k = 0; k < KEY_N; k++) {
        int d = md_str_distance(path, config__rows[k].path);
        if (d < below) {
            below = d;
            best = config__rows[k].path;
        }
    }
    return best;
}

const char *config_suggest(const char *path)
{
    const char *slip = nearest(path, 3);
    if (slip)
        return slip;
    /* The right name in the wrong section, or without one. */
    const char *dot = strrchr(path, '.');
    const char *name = dot ? dot + 1 : path;
    for (int k = 0; k < KEY_N; k++) {
        dot = strrchr(config__rows[k].path, '.');
        if (!strcmp(dot ? dot + 1 : config__rows[k].path, name))
            return config__rows[k].path;
    }
    return nearest(path, (int)strlen(path) / 3 + 2); /* farther is no misspelling */
}

const char *config_type_word(config_key key)
{
    static const char *const types[] = {"int", "float", "bool", "string", "choice"};
    return types[config__rows[key].type];
}

const char *config_value_text(config_key key, char out[CONFIG_VALUE_TEXT])
{
    const config_row *row = &config__rows[key];
    char value[32], lo[32], hi[32];
    switch (row->type) {
    case CONFIG_INT:
        (void)snprintf(out, CONFIG_VALUE_TEXT, "%lld; %lld to %lld", (long long)row->int_default,
                       (long long)row->int_min, (long long)row->int_max);
        break;
    case CONFIG_FLOAT:
        config__float_text(value, row->float_default);
        config__float_text(lo, row->float_min);
        config__float_text(hi, row->float_max);
        (void)snprintf(out, CONFIG_VALUE_TEXT, "%s; %s to %s", value, lo, hi);
        break;
    case CONFIG_BOOL:
        (void)snprintf(out, CONFIG_VALUE_TEXT, "%s", row->int_default ? "true" : "false");
        break;
    case CONFIG_STRING:
        (void)snprintf(out, CONFIG_VALUE_TEXT, "\"%s\"", row->string_default);
        break;
    case CONFIG_CHOICE:
        (void)snprintf(out, CONFIG_VALUE_TEXT, "%s; one of %s", row->string_default, row->choices);
        break;
    }
    return out;
}

const char *config_choices(config_key key)
{
    const config_row *row = &config__rows[key];
    return row->type == CONFIG_CHOICE ? row->choices : row->type == CONFIG_BOOL ? "true|false" : "";
}

bool config_in(config_key key, const char *sections)
{
    return config__in_sections(&config__rows[key], sections);
}

static md_status help_row(md_text *t, config_key key)
{
    char value[CONFIG_VALUE_TEXT];
    return md_text_add(t, "  %-22s %-6s  %s\n%33sdefault %s\n", config_path(key),
                       config_type_word(key), config_meaning(key), "",
                       config_value_text(key, value));
}

md_status config_help(const char *sections, char **text)
{
    md_text t = {0};
    const char *section = "";
    md_status status = MD_OK;
    for (int k = 0; k < KEY_N && status == MD_OK; k++) {
        const config_row *row = &config__rows[k];
        if (!config__in_sections(row, sections))
            continue;
        if (strcmp(section, row->section) != 0 && t.n)
            status = md_text_add(&t, "\n");
        section = row->section;
        if (status == MD_OK)
            status = help_row(&t, (config_key)k);
    }
    if (status == MD_OK && !t.s)
        status = md_text_add(&t, "%s", "");
    if (status != MD_OK) {
        md_text_free(&t);
        return status;
    }
    *text = t.s;
    return MD_OK;
}
