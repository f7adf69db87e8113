/* Reading, overriding, checking and writing a configuration. libconfig is named here only. */
#include "config/config.h"

#include "base/arena.h"
#include "base/file.h"
#include "base/str.h"
#include "config/keys.h"

#include <errno.h>
#include <libconfig.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE_BYTES = 1 << 20, WHERE_BYTES = 320 };

typedef struct value {
    int64_t i; /* INT, BOOL; index of a CHOICE */
    double f;
    const char *s;     /* STRING, CHOICE; in the arena */
    const char *where; /* "file:12", "--set"; NULL for the default */
} value;

struct config {
    md_arena *arena;
    const char *name; /* of the file */
    value values[KEY_N];
    char *text; /* made on demand, dropped by config_set */
};

static md_status no_memory(void)
{
    MD_FAIL(MD_NOMEM, "no memory for the configuration");
}

static md_status config_new(const char *name, config **out)
{
    md_arena *arena = md_arena_new();
    if (!arena)
        return no_memory();
    config *c = md_arena_alloc(arena, sizeof *c);
    char *kept = md_arena_strdup(arena, name ? name : "defaults");
    if (!c || !kept) {
        md_arena_free(arena);
        return no_memory();
    }
    c->arena = arena;
    c->name = kept;
    for (int k = 0; k < KEY_N; k++) {
        const config_row *row = &config__rows[k];
        value *v = &c->values[k];
        v->f = row->float_default;
        v->s = row->string_default ? row->string_default : "";
        v->i = row->type == CONFIG_CHOICE ? config__choice_index(row->choices, row->string_default)
                                          : row->int_default;
    }
    *out = c;
    return MD_OK;
}

void config_free(config *c)
{
    if (!c)
        return;
    free(c->text);
    md_arena_free(c->arena);
}

/* ---- one value, checked; `where` is in the arena */

static md_status take_int(config *c, config_key key, int64_t x, const char *where)
{
    const config_row *row = &config__rows[key];
    if (x < row->int_min || x > row->int_max)
        MD_FAIL(MD_USAGE, "%s: %s is %lld, allowed is %lld to %lld", where, row->path, (long long)x,
                (long long)row->int_min, (long long)row->int_max);
    if (row->multiple && x % row->multiple != 0)
        MD_FAIL(MD_USAGE, "%s: %s is %lld, which is not a multiple of %lld", where, row->path,
                (long long)x, (long long)row->multiple);
    c->values[key].i = x;
    c->values[key].where = where;
    return MD_OK;
}

static md_status take_float(config *c, config_key key, double x, const char *where)
{
    const config_row *row = &config__rows[key];
    if (!(x >= row->float_min && x <= row->float_max)) /* so that NaN fails too */
        MD_FAIL(MD_USAGE, "%s: %s is %g, allowed is %g to %g", where, row->path, x, row->float_min,
                row->float_max);
    c->values[key].f = x;
    c->values[key].where = where;
    return MD_OK;
}

static md_status take_string(config *c, config_key key, const char *s, const char *where)
{
    const config_row *row = &config__rows[key];
    int64_t index = 0;
    if (row->type == CONFIG_CHOICE) {
        index = config__choice_index(row->choices, s);
        if (index < 0)
            MD_FAIL(MD_USAGE, "%s: %s is \"%.60s\", allowed is one of %s", where, row->path, s,
                    row->choices);
    }
    /* What config_text cannot write back so that it reads the same. */
    for (const char *p = s; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 127)
            MD_FAIL(MD_USAGE, "%s: %s contains a control character (byte %d)", where, row->path,
                    (unsigned char)*p);
    char *kept = md_arena_strdup(c->arena, s);
    if (!kept)
        return no_memory();
    c->values[key].s = kept;
    c->values[key].i = index;
    c->values[key].where = where;
    return MD_OK;
}

static md_status unknown_key(const char *where, const char *path)
{
    const char *near = config_suggest(path);
    if (near)
        MD_FAIL(MD_USAGE, "%s: unknown key \"%.80s\"; did you mean \"%s\"?", where, path, near);
    MD_FAIL(MD_USAGE, "%s: unknown key \"%.80s\"; \"meddiff JOB --help\" lists the keys", where,
            path);
}

static md_status wrong_type(const char *where, config_key key, const char *got)
{
    const config_row *row = &config__rows[key];
    if (row->type == CONFIG_CHOICE)
        MD_FAIL(MD_USAGE, "%s: %s is %s, wanted is one of %s in quotes", where, row->path, got,
                row->choices);
    MD_FAIL(MD_USAGE, "%s: %s is %s, wanted is %s%s", where, row->path, got,
            config__type_name(row->type), row->type == CONFIG_STRING ? " in quotes" : "");
}

/* ---- from a file */

static const char *setting_type(const config_setting_t *s)
{
    switch (config_setting_type(s)) {
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_INT64:
        return "an integer";
    case CONFIG_TYPE_FLOAT:
        return "a number with a decimal point";
    case CONFIG_TYPE_STRING:
        return "a text in quotes";
    case CONFIG_TYPE_BOOL:
        return "true or false";
    case CONFIG_TYPE_GROUP:
        return "a group";
    default:
        return "a list";
    }
}

static md_status take_setting(config *c, const config_setting_t *s, const char *path,
                              const char *file)
{
    const char *where =
        md_arena_printf(c->arena, "%s:%u", file, (unsigned)config_setting_source_line(s));
    if (!where)
        return no_memory();
    config_key key = config_find(path);
    if (key == KEY_N)
        return unknown_key(where, path);
    int type = config_setting_type(s);
    bool whole = type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64;
    switch (config__rows[key].type) {
    case CONFIG_INT:
        if (whole)
            return take_int(c, key, config_setting_get_int64(s), where);
        break;
    case CONFIG_FLOAT:
        if (whole)
            return take_float(c, key, (double)config_setting_get_int64(s), where);
        if (type == CONFIG_TYPE_FLOAT)
            return take_float(c, key, config_setting_get_float(s), where);
        break;
    case CONFIG_BOOL:
        if (type == CONFIG_TYPE_BOOL) {
            c->values[key].i = config_setting_get_bool(s);
            c->values[key].where = where;
            return MD_OK;
        }
        break;
    case CONFIG_STRING:
    case CONFIG_CHOICE:
        if (type == CONFIG_TYPE_STRING) {
            const char *text = config_setting_get_string(s);
            return take_string(c, key, text ? text : "", where);
        }
        break;
    }
    return wrong_type(where, key, setting_type(s));
}

static bool is_section(const char *name)
{
    for (int k = 0; k < KEY_N; k++)
        if (name[0] && !strcmp(config__rows[k].section, name))
            return true;
    return false;
}

static md_status take_section(config *c, const config_setting_t *group, const char *file)
{
    const char *section = config_setting_name(group);
    for (int i = 0; i < config_setting_length(group); i++) {
        const config_setting_t *s = config_setting_get_elem(group, (unsigned)i);
        char path[160];
        (void)snprintf(path, sizeof path, "%.70s.%.80s", section, config_setting_name(s));
        MD_TRY(take_setting(c, s, path, file));
    }
    return MD_OK;
}

static md_status take_settings(config *c, const config_t *parsed, const char *file)
{
    const config_setting_t *root = config_root_setting(parsed);
    for (int i = 0; i < config_setting_length(root); i++) {
        const config_setting_t *s = config_setting_get_elem(root, (unsigned)i);
        const char *name = config_setting_name(s);
        if (is_section(name) && !config_setting_is_group(s))
            MD_FAIL(MD_USAGE, "%s:%u: %s is %s, wanted is a group { ... }", file,
                    (unsigned)config_setting_source_line(s), name, setting_type(s));
        if (is_section(name))
            MD_TRY(take_section(c, s, file));
        else
            MD_TRY(take_setting(c, s, name, file));
    }
    return MD_OK;
}

/* libconfig would follow @include: files that the command does not name, by rules of its own. */
static md_status refuse_include(const char *text, const char *file)
{
    int line = 1;
    for (const char *p = text; *p; line++) {
        p += strspn(p, " \t");
        if (md_str_starts(p, "@include"))
            MD_FAIL(MD_USAGE, "%s:%d: @include is not supported", file, line);
        p += strcspn(p, "\n");
        p += *p == '\n';
    }
    return MD_OK;
}

static md_status take_text(config *c, const char *text, size_t n, const char *file)
{
    if (strlen(text) != n)
        MD_FAIL(MD_USAGE, "%s: a NUL byte at offset %zu; is this a text file?", file, strlen(text));
    MD_TRY(refuse_include(text, file));
    config_t parsed;
    config_init(&parsed);
    md_status status;
    if (config_read_string(&parsed, text) == CONFIG_TRUE)
        status = take_settings(c, &parsed, file);
    else
        status = md_fail(MD_USAGE, __FILE__, __LINE__,
                         "%s:%d: %s; a ; } or \" may be missing here or before it", file,
                         config_error_line(&parsed),
                         config_error_text(&parsed) ? config_error_text(&parsed) : "syntax error");
    config_destroy(&parsed);
    return status;
}

md_status config_parse(const char *text, size_t n, const char *name, config **out)
{
    config *c;
    MD_TRY(config_new(name, &c));
    md_status status = take_text(c, text, n, name);
    if (status != MD_OK) {
        config_free(c);
        return status;
    }
    *out = c;
    return MD_OK;
}

md_status config_overlay(config *c, const char *path)
{
    void *text = NULL;
    size_t n = 0;
    free(c->text);
    c->text = NULL;
    if (!md_file_exists(path))
        MD_FAIL(MD_BAD_INPUT, "%s: cannot open: there is no such file; configs/ holds samples",
                path);
    MD_TRY(md_file_read(path, MAX_FILE_BYTES, &text, &n));
    md_status status = take_text(c, text, n, path);
    free(text);
    return status;
}

md_status config_lay_over(config *c, const config *given)
{
    free(c->text);
    c->text = NULL;
    for (int k = 0; k < KEY_N; k++) {
        value v = given->values[k];
        if (!v.where)
            continue;
        v.where = md_arena_strdup(c->arena, v.where);
        v.s = v.s ? md_arena_strdup(c->arena, v.s) : NULL;
        if (!v.where || (given->values[k].s && !v.s))
            return no_memory();
        c->values[k] = v;
    }
    return MD_OK;
}

md_status config_load(const char *path, const char *const *sets, size_t n_sets, config **out)
{
    config *c;
    MD_TRY(config_new(path, &c));
    md_status status = path ? config_overlay(c, path) : MD_OK;
    for (size_t i = 0; i < n_sets && status == MD_OK; i++)
        status = config_set(c, sets[i], "--set");
    if (status != MD_OK) {
        config_free(c);
        return status;
    }
    *out = c;
    return MD_OK;
}

/* ---- from the command line */

static md_status set_number(config *c, config_key key, const char *word, const char *where)
{
    char *end;
    errno = 0;
    if (config__rows[key].type == CONFIG_INT) {
        long long x = strtoll(word, &end, 10);
        if (end == word || *end || errno)
            return wrong_type(where, key, "no integer");
        return take_int(c, key, x, where);
    }
    /* strtod would also read "nan", "inf" and hexadecimal, which a file cannot say. */
    bool plain = word[strspn(word, "+-.0123456789eE")] == '\0';
    double x = strtod(word, &end);
    if (!plain || end == word || *end || !isfinite(x))
        return wrong_type(where, key, "no number");
    return take_float(c, key, x, where);
}

md_status config_set(config *c, const char *assignment, const char *from)
{
    const char *equals = strchr(assignment, '=');
    if (!equals)
        MD_FAIL(MD_USAGE, "%s \"%.80s\": wanted is section.name=value", from, assignment);
    char path[160];
    (void)snprintf(path, sizeof path, "%.*s",
                   (int)(equals - assignment < 150 ? equals - assignment : 150), assignment);
    const char *where = md_arena_printf(c->arena, "%s %s", from, assignment);
    if (!where)
        return no_memory();
    free(c->text);
    c->text = NULL;
    config_key key = config_find(path);
    if (key == KEY_N)
        return unknown_key(from, path);
    const char *word = equals + 1;
    switch (config__rows[key].type) {
    case CONFIG_INT:
    case CONFIG_FLOAT:
        return set_number(c, key, word, where);
    case CONFIG_BOOL:
        if (strcmp(word, "true") != 0 && strcmp(word, "false") != 0)
            return wrong_type(where, key, "neither");
        c->values[key].i = !strcmp(word, "true");
        c->values[key].where = where;
        return MD_OK;
    case CONFIG_STRING:
    case CONFIG_CHOICE:
        break;
    }
    return take_string(c, key, word, where);
}

/* ---- reading */

static bool is_type(config_key key, config_type type)
{
    return (unsigned)key < KEY_N && config__rows[key].type == type;
}

int64_t config_int(const config *c, config_key key)
{
    return is_type(key, CONFIG_INT) ? c->values[key].i : 0;
}

double config_float(const config *c, config_key key)
{
    return is_type(key, CONFIG_FLOAT) ? c->values[key].f : 0;
}

bool config_bool(const config *c, config_key key)
{
    return is_type(key, CONFIG_BOOL) && c->values[key].i != 0;
}

const char *config_string(const config *c, config_key key)
{
    return is_type(key, CONFIG_STRING) || is_type(key, CONFIG_CHOICE) ? c->values[key].s : "";
}

int config_choice(const config *c, config_key key)
{
    return is_type(key, CONFIG_CHOICE) ? (int)c->values[key].i : 0;
}

bool config_is_set(const config *c, config_key key)
{
    return c->values[key].where != NULL;
}

md_status config_fail(const config *c, config_key key, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    const char *where = c->values[key].where;
    if (where)
        MD_FAIL(MD_USAGE, "%s: %s: %s", where, config_path(key), text);
    MD_FAIL(MD_USAGE, "%s: %s, which it does not set: %s", c->name, config_path(key), text);
}

/* ---- writing and comparing */

static md_status add_quoted(md_text *t, const char *s)
{
    MD_TRY(md_text_add(t, "\""));
    for (; *s; s++)
        MD_TRY(md_text_add(t, *s == '"' || *s == '\\' ? "\\%c" : "%c", *s));
    return md_text_add(t, "\"");
}

static md_status add_value(md_text *t, const value *v, const config_row *row)
{
    char number[32];
    switch (row->type) {
    case CONFIG_INT:
        return md_text_add(t, "%lld%s", (long long)v->i,
                           v->i > INT32_MAX || v->i < INT32_MIN ? "L" : "");
    case CONFIG_FLOAT:
        config__float_text(number, v->f);
        /* An integer in the file must stay within 32 bits; a number with a point need not. */
        return md_text_add(t, "%s%s", number, strpbrk(number, ".e") ? "" : ".0");
    case CONFIG_BOOL:
        return md_text_add(t, "%s", v->i ? "true" : "false");
    case CONFIG_STRING:
    case CONFIG_CHOICE:
        break;
    }
    return add_quoted(t, v->s);
}

static md_status make_text(const config *c, md_text *t)
{
    const char *section = "";
    MD_TRY(md_text_add(t, "# meddiff " MEDDIFF_VERSION ", every key resolved\n"));
    for (int k = 0; k < KEY_N; k++) {
        const config_row *row = &config__rows[k];
        if (strcmp(section, row->section) != 0) {
            MD_TRY(md_text_add(t, "%s%s = {\n", section[0] ? "};\n" : "", row->section));
            section = row->section;
        }
        const char *name = row->path + strlen(row->section) + (row->section[0] != '\0');
        MD_TRY(md_text_add(t, "%s%s = ", section[0] ? "    " : "", name));
        MD_TRY(add_value(t, &c->values[k], row));
        MD_TRY(md_text_add(t, ";\n"));
    }
    return md_text_add(t, "%s", section[0] ? "};\n" : "");
}

const char *config_text(config *c, md_status *status)
{
    *status = MD_OK;
    if (!c->text) {
        md_text t = {0};
        *status = make_text(c, &t);
        if (*status != MD_OK) {
            md_text_free(&t);
            return NULL;
        }
        c->text = t.s;
    }
    return c->text;
}

md_status config_save(config *c, const char *path)
{
    md_status status;
    const char *text = config_text(c, &status);
    MD_TRY(status);
    return md_file_write_atomic(path, text, strlen(text));
}

static bool same_value(const value *a, const value *b, config_type type)
{
    switch (type) {
    case CONFIG_INT:
    case CONFIG_BOOL:
        return a->i == b->i;
    case CONFIG_FLOAT:
        return a->f == b->f;
    case CONFIG_STRING:
    case CONFIG_CHOICE:
        break;
    }
    return strcmp(a->s, b->s) == 0;
}

const char *config_name(const config *c)
{
    return c->name;
}

config_key config_diff(const config *a, const config *b, const char *sections)
{
    for (int k = 0; k < KEY_N; k++) {
        const config_row *row = &config__rows[k];
        if (row->shapes && config__in_sections(row, sections) &&
            !same_value(&a->values[k], &b->values[k], row->type))
            return (config_key)k;
    }
    return KEY_N;
}

md_status config_same(const config *a, const config *b, const char *sections)
{
    config_key k = config_diff(a, b, sections);
    if (k == KEY_N)
        return MD_OK;
    const config_row *row = &config__rows[k];
    md_text is = {0}, was = {0};
    md_status status = add_value(&is, &a->values[k], row);
    if (status == MD_OK)
        status = add_value(&was, &b->values[k], row);
    if (status == MD_OK)
        status = md_fail(MD_USAGE, __FILE__, __LINE__,
                         "%s is %s in %s but %s in %s; set it back or use another run directory",
                         row->path, is.s, a->name, was.s, b->name);
    md_text_free(&is);
    md_text_free(&was);
    return status;
}

md_status config_same_as(const config *now, const char *text, const char *name,
                         const char *sections)
{
    config *then = NULL;
    MD_TRY(config_parse(text, strlen(text), name, &then));
    md_status status = config_same(now, then, sections);
    config_free(then);
    return status;
}
