/* JSON text through every accessor. */
#include "fuzz.h"

#include "format/json.h"

#include <stdlib.h>
#include <string.h>

static void ask(const format_json *d, const char *path)
{
    int64_t i = 0, many[4], n = 0;
    double f;
    bool b;
    const char *s = NULL;
    (void)format_json_has(d, path);
    (void)format_json_type(d, path);
    if (format_json_int(d, path, -5, 1 << 20, &i) != MD_OK &&
        format_json_float(d, path, &f) != MD_OK && format_json_bool(d, path, &b) != MD_OK &&
        format_json_string(d, path, &s) != MD_OK)
        md_status_clear();
    if (s) {
        md_text t = {0};
        if (format_json_quote(&t, s) == MD_OK)
            (void)strlen(t.s);
        md_text_free(&t);
    }
    if (format_json_ints(d, path, 0, 99, many, 4, &n) != MD_OK ||
        format_json_int_or(d, path, 0, 9, 1, &i) != MD_OK)
        md_status_clear();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    format_json *d = NULL;
    int64_t count = 0;
    if (format_json_parse("fuzz", data, n, &d) != MD_OK)
        return 0;
    ask(d, "");
    ask(d, "a.b[1].c");
    ask(d, "[0][0]");
    ask(d, "weight_map");
    if (format_json_count(d, "", &count) == MD_OK)
        for (int64_t i = 0; i < count && i < 8; i++) {
            const char *key = NULL;
            if (format_json_key(d, "", i, &key) == MD_OK)
                ask(d, key);
        }
    format_json_free(d);
    return 0;
}
