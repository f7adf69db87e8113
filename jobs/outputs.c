#include "base/file.h"
#include "base/str.h"
#include "outputs_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH = OUTPUTS_PATH, WORD = 256, DEPTH = 8 };

#define PRODUCT(name, job, word, marker) {job, word, marker},
#define OUTPUT(product, folder, names)
#define METRICS(product, stage)
#define RUN_FILES(names)
static const product_row product_rows[N_PRODUCTS] = {
#include "outputs.def"
};
#undef PRODUCT
#undef OUTPUT
#undef RUN_FILES

#define PRODUCT(name, job, word, marker)
#define OUTPUT(product, folder, names) {PRODUCT_##product, folder, names},
#define RUN_FILES(names)               {OUTPUTS_OF_RUN, "", names},
const output outputs__rows[] = {
#include "outputs.def"
};
#undef OUTPUT
#undef METRICS
#undef RUN_FILES
const int outputs__n = sizeof outputs__rows / sizeof *outputs__rows;

#define OUTPUT(product, folder, names)
#define METRICS(product, stage) {PRODUCT_##product, stage},
#define RUN_FILES(names)
const output_stage outputs__stages[] = {
#include "outputs.def"
};
const int outputs__n_stages = sizeof outputs__stages / sizeof *outputs__stages;
#undef PRODUCT
#undef OUTPUT
#undef METRICS
#undef RUN_FILES

const product_row *product_find(product p)
{
    return &product_rows[p];
}

/* ---- whose a path is */

/* The next of words parted by spaces, into word[WORD]; NULL behind the last. */
static const char *next_word(const char *at, char word[WORD])
{
    at += strspn(at, " ");
    size_t n = strcspn(at, " ");
    if (!n || n >= WORD)
        return NULL;
    memcpy(word, at, n);
    word[n] = 0;
    return at + n;
}

static bool fits(const char *pattern, const char *path)
{
    return fnmatch(pattern, path, FNM_PATHNAME | FNM_PERIOD) == 0;
}

/* The first components of the pattern, as many as path has. */
static bool leads(const char *pattern, const char *path)
{
    char cut[PATH];
    size_t at = 0;
    if (md_str_copy(cut, sizeof cut, pattern) != MD_OK)
        return false;
    for (const char *p = path; p; p = strchr(p, '/') ? strchr(p, '/') + 1 : NULL) {
        at += at > 0;
        at += strcspn(cut + at, "/");
        if (!cut[at])
            return false; /* path is no folder above a file of it */
    }
    cut[at] = 0;
    return fits(cut, path);
}

/* The other data sets' backgrounds.h5 is the import's. */
static bool is_others(const scene *s, const char *path, int row)
{
    return outputs__rows[row].of == PRODUCT_REPAIRED && !s->repaired &&
           !strcmp(path, product_rows[PRODUCT_REPAIRED].marker);
}

/* Fills e->output and e->rank. Of a link it does not matter what it leads to. */
static void attribute(const scene *s, entry *e)
{
    char plain[PATH], pattern[PATH], word[WORD];
    e->output = UNKNOWN;
    if (md_str_copy(plain, sizeof plain, e->path) != MD_OK)
        return;
    plain[md_file_plain_length(plain)] = 0;
    for (int row = 0; row < outputs__n; row++) {
        const char *folder = outputs__rows[row].folder, *at = outputs__rows[row].names;
        for (int rank = 0; (at = next_word(at, word)); rank++) {
            if (md_path_join(pattern, sizeof pattern, folder, word) != MD_OK)
                continue;
            bool file = !e->folder && fits(pattern, plain) && !is_others(s, e->path, row);
            if (!file && !((e->folder || e->link) && leads(pattern, e->path)))
                continue;
            size_t n = strlen(folder);
            bool inside =
                file || (n && !strncmp(e->path, folder, n) && (!e->path[n] || e->path[n] == '/'));
            if (inside) {
                e->output = row;
                e->rank = rank;
                return;
            }
            e->output = ABOVE;
        }
    }
}

static md_status keep(scene *s, const entry *e)
{
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 64;
        entry *grown = realloc(s->e, cap * sizeof *grown);
        if (!grown)
            MD_FAIL(MD_NOMEM, "%s: no memory to list it", s->run);
        s->e = grown;
        s->cap = cap;
    }
    s->e[s->n] = *e;
    s->e[s->n].path = strdup(e->path);
    if (!s->e[s->n].path)
        MD_FAIL(MD_NOMEM, "%s: no memory to list it", s->run);
    s->n++;
    return MD_OK;
}

/* Everything below the folder `above` ("" for the run directory), open as fd, which it closes. */
static md_status look(scene *s, int fd, const char *above, int depth)
{
    char path[PATH];
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        int why = errno;
        if (fd >= 0)
            (void)close(fd);
        MD_FAIL(MD_IO, "%s/%s: cannot be listed: %s", s->run, above, strerror(why));
    }
    md_status status = MD_OK;
    struct dirent *d;
    while (status == MD_OK && (d = readdir(dir))) {
        struct stat st;
        if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
            continue;
        MD_TRY_GOTO(md_path_join(path, sizeof path, above, d->d_name), done);
        if (fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            continue; /* gone meanwhile */
        entry e = {path, st.st_size, UNKNOWN, 0, S_ISLNK(st.st_mode), S_ISDIR(st.st_mode)};
        if (e.link || e.folder || S_ISREG(st.st_mode))
            attribute(s, &e);
        status = keep(s, &e);
        if (status == MD_OK && e.folder && e.output != UNKNOWN && depth < DEPTH)
            status = look(s, openat(dirfd(dir), d->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW),
                          path, depth + 1);
    }
done:
    (void)closedir(dir);
    return status;
}

md_status outputs__list(scene *s)
{
    return look(s, openat(s->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "", 0);
}

void outputs__free(scene *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->e[i].path);
    free(s->e);
}
