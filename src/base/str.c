#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

md_status md_str_copy(char *buf, size_t size, const char *s)
{
    size_t n = strlen(s);
    if (n >= size) {
        if (size)
            buf[0] = '\0';
        MD_FAIL(MD_USAGE, "\"%.60s%s\" is too long: %zu bytes, the limit is %zu", s,
                n > 60 ? "..." : "", n, size ? size - 1 : 0);
    }
    memmove(buf, s, n + 1);
    return MD_OK;
}

md_status md_str_printf(char *buf, size_t size, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(buf, size, fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= size) {
        if (size)
            buf[0] = '\0';
        MD_FAIL(MD_USAGE, "text for \"%.60s\" is too long: %d bytes, the limit is %zu", fmt, n,
                size ? size - 1 : 0);
    }
    return MD_OK;
}

bool md_str_starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool md_str_ends(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && strcmp(s + n - m, suffix) == 0;
}

int md_str_distance(const char *a, const char *b)
{
    enum { LONGEST = 63 };
    size_t n = strlen(a), m = strlen(b);
    if (n > LONGEST || m > LONGEST)
        return 1000;
    int row[LONGEST + 1];
    for (size_t j = 0; j <= m; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= m; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[m];
}

md_status md_text_add(md_text *t, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0) {
        va_end(again);
        MD_FAIL(MD_INTERNAL, "bad format \"%.60s\"", fmt);
    }
    size_t need = t->n + (size_t)n + 1;
    if (need > t->cap) {
        size_t cap = t->cap ? t->cap : 256;
        while (cap < need)
            cap *= 2;
        char *grown = realloc(t->s, cap);
        if (!grown) {
            va_end(again);
            MD_FAIL(MD_NOMEM, "no memory for a text of %zu bytes", cap);
        }
        t->s = grown;
        t->cap = cap;
    }
    (void)vsnprintf(t->s + t->n, t->cap - t->n, fmt, again);
    va_end(again);
    t->n += (size_t)n;
    return MD_OK;
}

md_status md_text_add_csv(md_text *t, const char *s)
{
    if (!strpbrk(s, ",\"\r\n"))
        return md_text_add(t, "%s", s);
    MD_TRY(md_text_add(t, "\""));
    for (; *s; s++)
        MD_TRY(md_text_add(t, *s == '"' ? "\"\"" : "%c", *s));
    return md_text_add(t, "\"");
}

void md_text_free(md_text *t)
{
    free(t->s);
    *t = (md_text){0};
}
