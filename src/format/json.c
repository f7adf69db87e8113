/* Checked access to JSON by path. */
#include "format/json.h"
#include "format/json_internal.h"

#include "base/file.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

struct format_json {
    json_t *root;
    char *name;
};

/* jansson's own limit is 2048 levels, deep enough to hurt whoever walks the result. */
static md_status check_depth(const char *name, const unsigned char *s, size_t n)
{
    int depth = 0, line = 1;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = s[i];
        line += c == '\n';
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > FORMAT_JSON_DEPTH_MAX)
                MD_FAIL(MD_BAD_INPUT, "%s: line %d: nested deeper than %d", name, line,
                        FORMAT_JSON_DEPTH_MAX);
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return MD_OK;
}

static md_status bad_document(const char *name, const json_error_t *e)
{
    /* jansson has nothing to say when an allocation fails inside a value */
    if (!e->text[0] || json_error_code(e) == json_error_out_of_memory)
        MD_FAIL(MD_NOMEM, "%s: no memory for the document", name);
    MD_FAIL(MD_BAD_INPUT, "%s: line %d, column %d: %s", name, e->line, e->column, e->text);
}

md_status format__json_parse(const char *name, const void *bytes, size_t n, size_t flags,
                             json_t **out)
{
    json_error_t e;
    if (n > FORMAT_JSON_BYTES_MAX)
        MD_FAIL(MD_BAD_INPUT, "%s: %zu bytes of JSON; at most %zu are read", name, n,
                FORMAT_JSON_BYTES_MAX);
    MD_TRY(check_depth(name, bytes, n));
    json_t *root = json_loadb(bytes, n, flags | JSON_REJECT_DUPLICATES, &e);
    if (!root)
        return bad_document(name, &e);
    *out = root;
    return MD_OK;
}

const char *format__json_type(const json_t *v)
{
    if (!v)
        return "nothing";
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "object";
    case JSON_ARRAY:
        return "array";
    case JSON_STRING:
        return "string";
    case JSON_INTEGER:
        return "integer";
    case JSON_REAL:
        return "real";
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    case JSON_NULL:
        return "null";
    }
    return "nothing";
}

/* Python writes infinities as Infinity and -Infinity, which JSON does not know and diffusers' files
   hold: numbers of the same length instead, as large as they get. */
static void replace_infinities(char *s, size_t n)
{
    static const char word[] = "Infinity";
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        if (in_string && s[i] == '\\')
            i++;
        else if (s[i] == '"')
            in_string = !in_string;
        else if (!in_string && n - i >= sizeof word - 1 && !memcmp(s + i, word, sizeof word - 1))
            memcpy(s + i, "1.7e+308", sizeof word - 1);
    }
}

md_status format_json_parse(const char *name, const void *bytes, size_t n, format_json **out)
{
    format_json *doc = calloc(1, sizeof *doc);
    char *copy = malloc(strlen(name) + 1), *text = malloc(n + 1);
    md_status status;
    if (!doc || !copy || !text) {
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "%s: no memory for the document", name);
        goto fail;
    }
    strcpy(copy, name);
    doc->name = copy;
    if (n)
        memcpy(text, bytes, n);
    replace_infinities(text, n);
    MD_TRY_GOTO(format__json_parse(name, text, n, 0, &doc->root), fail);
    free(text);
    *out = doc;
    return MD_OK;
fail:
    free(text);
    free(copy);
    free(doc);
    return status;
}

md_status format_json_load(const char *path, format_json **out)
{
    void *bytes = NULL;
    size_t n = 0;
    MD_TRY(md_file_read(path, FORMAT_JSON_BYTES_MAX, &bytes, &n));
    const md_status status = format_json_parse(path, bytes, n, out);
    free(bytes);
    return status;
}

void format_json_free(format_json *doc)
{
    if (!doc)
        return;
    json_decref(doc->root);
    free(doc->name);
    free(doc);
}

const char *format_json_name(const format_json *doc)
{
    return doc->name;
}

/* NULL when the path leads nowhere. */
static json_t *find(const format_json *doc, const char *path)
{
    json_t *v = doc->root;
    const char *p = path;
    while (v && *p) {
        if (*p == '[') {
            char *end;
            const long i = strtol(p + 1, &end, 10);
            if (end == p + 1 || *end != ']' || i < 0)
                return NULL;
            v = json_array_get(v, (size_t)i);
            p = end + 1;
        } else {
            p += *p == '.';
            const size_t n = strcspn(p, ".[");
            char key[256];
            if (n == 0 || n >= sizeof key)
                return NULL;
            memcpy(key, p, n);
            key[n] = 0;
            v = json_object_get(v, key);
            p += n;
        }
    }
    return v;
}

bool format_json_has(const format_json *doc, const char *path)
{
    const json_t *v = find(doc, path);
    return v && !json_is_null(v);
}

const char *format_json_type(const format_json *doc, const char *path)
{
    return format__json_type(find(doc, path));
}

static md_status wrong(const format_json *doc, const char *path, const json_t *v,
                       const char *wanted)
{
    const char *key = *path ? path : "the document";
    if (!v)
        MD_FAIL(MD_BAD_INPUT, "%s: %s is missing (wanted: %s)", doc->name, key, wanted);
    MD_FAIL(MD_BAD_INPUT, "%s: %s is %s, wanted: %s", doc->name, key, format__json_type(v), wanted);
}

md_status format_json_int(const format_json *doc, const char *path, int64_t lo, int64_t hi,
                          int64_t *out)
{
    const json_t *v = find(doc, path);
    if (!json_is_integer(v))
        return wrong(doc, path, v, "an integer");
    const int64_t i = json_integer_value(v);
    if (i < lo || i > hi)
        MD_FAIL(MD_BAD_INPUT, "%s: %s is %lld, wanted: %lld to %lld", doc->name, path, (long long)i,
                (long long)lo, (long long)hi);
    *out = i;
    return MD_OK;
}

md_status format_json_float(const format_json *doc, const char *path, double *out)
{
    const json_t *v = find(doc, path);
    if (!json_is_number(v))
        return wrong(doc, path, v, "a number");
    *out = json_number_value(v);
    return MD_OK;
}

md_status format_json_bool(const format_json *doc, const char *path, bool *out)
{
    const json_t *v = find(doc, path);
    if (!json_is_boolean(v))
        return wrong(doc, path, v, "true or false");
    *out = json_is_true(v);
    return MD_OK;
}

md_status format_json_string(const format_json *doc, const char *path, const char **out)
{
    const json_t *v = find(doc, path);
    if (!json_is_string(v))
        return wrong(doc, path, v, "a string");
    *out = json_string_value(v);
    return MD_OK;
}

md_status format_json_count(const format_json *doc, const char *path, int64_t *out)
{
    const json_t *v = find(doc, path);
    if (!json_is_array(v) && !json_is_object(v))
        return wrong(doc, path, v, "an array or object");
    *out = (int64_t)(json_is_array(v) ? json_array_size(v) : json_object_size(v));
    return MD_OK;
}

md_status format_json_key(const format_json *doc, const char *path, int64_t i, const char **out)
{
    json_t *v = find(doc, path);
    if (!json_is_object(v))
        return wrong(doc, path, v, "an object");
    const char *key;
    json_t *member;
    json_object_foreach(v, key, member)
    {
        if (i-- == 0) {
            *out = key;
            return MD_OK;
        }
    }
    MD_FAIL(MD_BAD_INPUT, "%s: %s has only %zu members", doc->name, *path ? path : "the document",
            json_object_size(v));
}

md_status format_json_ints(const format_json *doc, const char *path, int64_t lo, int64_t hi,
                           int64_t *out, int64_t max, int64_t *n)
{
    const json_t *v = find(doc, path);
    if (!json_is_array(v))
        return wrong(doc, path, v, "an array of integers");
    const int64_t count = (int64_t)json_array_size(v);
    if (count > max)
        MD_FAIL(MD_BAD_INPUT, "%s: %s has %lld elements, wanted: at most %lld", doc->name, path,
                (long long)count, (long long)max);
    for (int pass = 0; pass < 2; pass++) /* out is touched only when all are good */
        for (int64_t i = 0; i < count; i++) {
            const json_t *e = json_array_get(v, (size_t)i);
            const int64_t value = json_integer_value(e);
            if (!json_is_integer(e) || value < lo || value > hi)
                MD_FAIL(MD_BAD_INPUT, "%s: %s[%lld] is no integer of %lld to %lld", doc->name, path,
                        (long long)i, (long long)lo, (long long)hi);
            if (pass)
                out[i] = value;
        }
    *n = count;
    return MD_OK;
}

md_status format_json_int_or(const format_json *doc, const char *path, int64_t lo, int64_t hi,
                             int64_t other, int64_t *out)
{
    if (format_json_has(doc, path))
        return format_json_int(doc, path, lo, hi, out);
    *out = other;
    return MD_OK;
}

md_status format_json_float_or(const format_json *doc, const char *path, double other, double *out)
{
    if (format_json_has(doc, path))
        return format_json_float(doc, path, out);
    *out = other;
    return MD_OK;
}

md_status format_json_bool_or(const format_json *doc, const char *path, bool other, bool *out)
{
    if (format_json_has(doc, path))
        return format_json_bool(doc, path, out);
    *out = other;
    return MD_OK;
}

md_status format_json_string_or(const format_json *doc, const char *path, const char *other,
                                const char **out)
{
    if (format_json_has(doc, path))
        return format_json_string(doc, path, out);
    *out = other;
    return MD_OK;
}

md_status format_json_quote(md_text *t, const char *s)
{
    MD_TRY(md_text_add(t, "\""));
    for (const char *p = s; *p;) {
        const size_t plain = strcspn(p, "\"\\\x01\x02\x03\x04\x05\x06\x07\x08\t\n\x0b\x0c\r\x0e\x0f"
                                        "\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d"
                                        "\x1e\x1f");
        if (plain > INT_MAX)
            MD_FAIL(MD_USAGE, "a JSON string of more than 2 GiB");
        if (plain)
            MD_TRY(md_text_add(t, "%.*s", (int)plain, p));
        p += plain;
        if (*p == '"' || *p == '\\')
            MD_TRY(md_text_add(t, "\\%c", *p++));
        else if (*p)
            MD_TRY(md_text_add(t, "\\u%04x", (unsigned)(unsigned char)*p++));
    }
    return md_text_add(t, "\"");
}
