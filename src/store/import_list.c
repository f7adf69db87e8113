/* Lists of pictures for the importers. */
#define _XOPEN_SOURCE 700 /* realpath */
#include "store/import_list.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"

static size_t digits(const char *s)
{
    size_t n = 0;
    while (isdigit((unsigned char)s[n]))
        n++;
    return n;
}

int import__natural(const char *a, const char *b)
{
    while (*a && *b) {
        size_t m = digits(a), n = digits(b);
        if (m && n) {
            const char *x = a, *y = b;
            size_t p = m, q = n;
            for (; p > 1 && *x == '0'; p--)
                x++;
            for (; q > 1 && *y == '0'; q--)
                y++;
            int order = p != q ? (p < q ? -1 : 1) : strncmp(x, y, p);
            if (order)
                return order;
            a += m;
            b += n;
        } else {
            if (*a != *b)
                return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
            a++;
            b++;
        }
    }
    return *a ? 1 : *b ? -1 : 0;
}

static int by_nature(const void *a, const void *b)
{
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    int order = import__natural(x, y);
    return order ? order : strcmp(x, y); /* "1" and "01": any fixed order */
}

size_t import__stem(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot && dot != name ? (size_t)(dot - name) : strlen(name);
}

bool import__ends(const char *name, size_t n, const char *suffix)
{
    size_t m = strlen(suffix);
    if (m > n)
        return false;
    for (size_t i = 0; i < m; i++)
        if (tolower((unsigned char)name[n - m + i]) != tolower((unsigned char)suffix[i]))
            return false;
    return true;
}

bool import__is_picture(const char *name)
{
    static const char *const suffixes[] = {".png", ".jpg", ".jpeg", ".bmp"};
    for (size_t i = 0; name[0] != '.' && i < sizeof suffixes / sizeof *suffixes; i++)
        if (import__ends(name, strlen(name), suffixes[i]))
            return true;
    return false;
}

static md_status list_names(const import_list *list, const char *dir, bool pictures,
                            import_names *out)
{
    char path[PATH_MAX];
    char **name = NULL;
    size_t n = 0, kept = 0;
    MD_TRY(md_path_join(path, sizeof path, list->root, dir));
    MD_TRY(md_dir_list(path, &name, &n));
    for (size_t i = 0; i < n; i++)
        if (pictures ? import__is_picture(name[i]) : name[i][0] != '.')
            name[kept++] = name[i];
    qsort(name, kept, sizeof *name, by_nature);
    *out = (import_names){name, kept};
    return MD_OK;
}

md_status import__entries(const import_list *list, const char *dir, import_names *out)
{
    return list_names(list, dir, false, out);
}

md_status import__pictures(const import_list *list, const char *dir, import_names *out)
{
    return list_names(list, dir, true, out);
}

void import__names_free(import_names *names)
{
    free(names->name);
    *names = (import_names){0};
}

bool import__is_dir(const import_list *list, const char *dir)
{
    char path[PATH_MAX];
    return md_path_join(path, sizeof path, list->root, dir) == MD_OK && md_dir_exists(path);
}

import_picture *import__add(import_list *list, const char *dir, const char *name, data_kind kind,
                            md_status *status)
{
    if (list->n == list->cap) {
        int64_t cap = list->cap ? 2 * list->cap : 64;
        import_picture *item = realloc(list->item, (size_t)cap * sizeof *item);
        if (!item)
            goto fail;
        list->item = item;
        list->cap = cap;
    }
    import_picture *p = &list->item[list->n];
    *p = (import_picture){.kind = kind, .split = IMPORT_NO_SPLIT, .licence = "not stated"};
    p->image = md_arena_printf(list->arena, "%s%s%s", dir, *dir ? "/" : "", name);
    if (!p->image)
        goto fail;
    list->n++;
    return p;
fail:
    *status = md_fail(MD_NOMEM, __FILE__, __LINE__, "%s: out of memory", list->root);
    return NULL;
}

md_status import__add_mask(import_list *list, import_picture *p, const char *dir, const char *name)
{
    if (p->n_masks == IMPORT_MAX_MASKS)
        MD_FAIL(MD_BAD_INPUT, "%s has more than %d masks", p->image, IMPORT_MAX_MASKS);
    const char *mask = md_arena_printf(list->arena, "%s%s%s", dir, *dir ? "/" : "", name);
    if (!mask)
        MD_FAIL(MD_NOMEM, "%s: out of memory", list->root);
    p->mask[p->n_masks++] = mask;
    return MD_OK;
}

/* ---- what is left out */

md_status import__skip(import_list *list, const char *dir, const char *name, const char *fmt, ...)
{
    char why[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    if (list->n_skipped == list->skip_cap) {
        int64_t cap = list->skip_cap ? 2 * list->skip_cap : 64;
        import_skip *skip = realloc(list->skip, (size_t)cap * sizeof *skip);
        if (!skip)
            MD_FAIL(MD_NOMEM, "%s: out of memory", list->root);
        list->skip = skip;
        list->skip_cap = cap;
    }
    import_skip s = {md_arena_printf(list->arena, "%s%s%s", dir,
                                     *dir && !md_str_ends(dir, "/") ? "/" : "", name),
                     md_arena_printf(list->arena, "%s", why)};
    if (!s.file || !s.why)
        MD_FAIL(MD_NOMEM, "%s: out of memory", list->root);
    list->skip[list->n_skipped++] = s;
    return MD_OK;
}

md_status import__write_skipped(const import_list *list, const char *path)
{
    md_text t = {0};
    md_status status = md_text_add(&t, "file,why\n");
    for (int64_t i = 0; i < list->n_skipped && status == MD_OK; i++) {
        status = md_text_add_csv(&t, list->skip[i].file);
        if (status == MD_OK)
            status = md_text_add(&t, ",");
        if (status == MD_OK)
            status = md_text_add_csv(&t, list->skip[i].why);
        if (status == MD_OK)
            status = md_text_add(&t, "\n");
    }
    if (status == MD_OK)
        status = md_file_write_atomic(path, t.s, t.n);
    md_text_free(&t);
    return status;
}

static bool same_reason(const char *a, const char *b)
{
    size_t n = strcspn(a, "(");
    return strcspn(b, "(") == n && strncmp(a, b, n) == 0;
}

void import__tell_skipped(const import_list *list)
{
    for (int64_t i = 0; i < list->n_skipped; i++) {
        int64_t first = 0, count = 0;
        const char *why = list->skip[i].why;
        while (!same_reason(list->skip[first].why, why))
            first++;
        for (int64_t k = i; first == i && k < list->n_skipped; k++)
            count += same_reason(list->skip[k].why, why);
        size_t n = strcspn(why, "(");
        while (n && why[n - 1] == ' ')
            n--;
        if (count)
            md_info("import", "%lld left out: %.*s, as %s", (long long)count, (int)n, why,
                    list->skip[i].file);
    }
}

md_status import__resolve(const import_list *list, const char *relative, char *out, size_t bytes)
{
    char path[PATH_MAX], *root = NULL, *real = NULL;
    MD_TRY(md_path_join(path, sizeof path, list->root, relative));
    md_status status = MD_OK;
    root = realpath(list->root, NULL);
    real = root ? realpath(path, NULL) : NULL;
    size_t n = root ? strlen(root) : 0;
    if (!real)
        status = md_fail(MD_BAD_INPUT, __FILE__, __LINE__, "%s: %s", path, strerror(errno));
    else if (strncmp(real, root, n) != 0 || (n > 1 && real[n] != '/'))
        status = md_fail(MD_BAD_INPUT, __FILE__, __LINE__,
                         "%s: this link leads out of the data set's folder, to %s", path, real);
    else
        status = md_str_copy(out, bytes, real);
    free(root);
    free(real);
    return status;
}
