/* --fresh: what goes, in which order, and what is said about it. */
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "outputs_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH = OUTPUTS_PATH, TOLD = 20, METRICS_MOST = 1 << 30 };

static bool in_set(const scene *s, int row)
{
    int of = outputs__rows[row].of;
    return of != OUTPUTS_OF_RUN && (s->set >> of & 1);
}

/* The folder of a path, no link on the way; *name: its last component. */
static int open_above(const scene *s, const char *path, const char **name)
{
    char part[PATH];
    int fd = dup(s->dir);
    for (const char *slash; fd >= 0 && (slash = strchr(path, '/')); path = slash + 1) {
        int above = fd;
        if (md_str_printf(part, sizeof part, "%.*s", (int)(slash - path), path) != MD_OK)
            *part = 0;
        fd = openat(above, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int why = errno;
        (void)close(above);
        errno = why;
    }
    *name = path;
    return fd;
}

static md_status remove_at(const scene *s, const char *path, int flags)
{
    const char *name;
    int fd = open_above(s, path, &name);
    int rc = fd < 0 ? -1 : unlinkat(fd, name, flags), why = errno;
    if (fd >= 0)
        (void)close(fd);
    /* a folder in which something unknown is left stays */
    bool well = rc == 0 || why == ENOENT || (flags && (why == ENOTEMPTY || why == EEXIST));
    if (!well)
        MD_FAIL(MD_IO, "%s/%s: cannot be removed: %s; start the same command again", s->run, path,
                strerror(why));
    return MD_OK;
}

static const char *amount(int64_t bytes, char out[32])
{
    if (bytes < 1000)
        (void)snprintf(out, 32, "%lld bytes", (long long)bytes);
    else
        (void)snprintf(out, 32, bytes < 1000000 ? "%.1f kB" : "%.1f MB",
                       (double)bytes / (bytes < 1000000 ? 1e3 : 1e6));
    return out;
}

/* Files of a row follow each other in its order, folders come behind what is in them. */
static int in_order(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->output != y->output)
        return x->output < y->output ? -1 : 1;
    if (x->folder != y->folder)
        return x->folder ? 1 : -1;
    if (x->folder)
        return -strcmp(x->path, y->path);
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    return strcmp(x->path, y->path);
}

static md_status remove_entry(const scene *s, const entry *e, bool tell)
{
    char size[32];
    if (tell)
        md_info("fresh", "removes %s/%s (%s)", s->run, e->path,
                e->link ? "a symbolic link; what it leads to stays" : amount(e->bytes, size));
    return remove_at(s, e->path, e->folder ? AT_REMOVEDIR : 0);
}

/* e[0..n) are all of a row. */
static md_status remove_row(const scene *s, const entry *e, size_t n, bool *any)
{
    const char *folder = outputs__rows[e->output].folder;
    char size[32], above[PATH];
    size_t files = 0;
    int64_t bytes = 0;
    for (size_t i = 0; i < n; i++)
        if (!e[i].folder) {
            files++;
            bytes += e[i].bytes;
        }
    *any = *any || files;
    bool link = *folder && !strcmp(e->path, folder) && e->link;
    if (*folder && files && !link)
        md_info("fresh", "removes %s/%s (%zu file%s, %s)", s->run, folder, files,
                files == 1 ? "" : "s", amount(bytes, size));
    for (size_t i = 0; i < n; i++)
        MD_TRY(remove_entry(s, &e[i], !*folder || link));
    const char *slash = strchr(folder, '/');
    if (!slash)
        return MD_OK;
    MD_TRY(md_str_printf(above, sizeof above, "%.*s", (int)(slash - folder), folder));
    return remove_at(s, above, AT_REMOVEDIR); /* models/, when it is empty */
}

/* A folder of folders that is a link: what is to go lies behind it. */
static md_status check_links(const scene *s)
{
    struct stat st;
    for (size_t i = 0; i < s->n; i++)
        for (int row = 0; row < outputs__n && s->e[i].link && s->e[i].output == ABOVE; row++) {
            const char *folder = outputs__rows[row].folder;
            size_t n = strlen(s->e[i].path);
            if (in_set(s, row) && !strncmp(folder, s->e[i].path, n) && folder[n] == '/' &&
                fstatat(s->dir, folder, &st, 0) == 0)
                MD_FAIL(MD_USAGE,
                        "%s/%s is a symbolic link, and --fresh removes nothing beyond one: remove "
                        "%s/%s by hand, or the link; nothing was removed",
                        s->run, s->e[i].path, s->run, folder);
        }
    return MD_OK;
}

/* ---- metrics.csv */

/* Whether a line, to its end, is a row of a stage that goes. */
static bool goes(const scene *s, const char *line)
{
    for (size_t i = 0; i < (size_t)outputs__n_stages; i++) {
        size_t n = strlen(outputs__stages[i].name);
        if (s->set >> outputs__stages[i].of & 1 && !strncmp(line, outputs__stages[i].name, n) &&
            line[n] == ',')
            return true;
    }
    return false;
}

/* Takes the rows of the trainings that go out of metrics.csv, which goes when no row is left. */
static md_status thin_metrics(const scene *s, bool *any)
{
    char path[PATH], *text = NULL, size[32];
    struct stat st;
    size_t n = 0, kept = 0, rows = 0, others = 0;
    MD_TRY(md_path_join(path, sizeof path, s->run, "metrics.csv"));
    if (lstat(path, &st) != 0 || !S_ISREG(st.st_mode))
        return MD_OK;
    MD_TRY(md_file_read(path, METRICS_MOST, (void **)&text, &n));
    for (size_t at = 0, length; at < n; at += length) {
        const char *end = memchr(text + at, '\n', n - at);
        length = end ? (size_t)(end - (text + at)) + 1 : n - at;
        if (goes(s, text + at)) {
            rows++;
            continue;
        }
        others += at > 0; /* the first line names the columns */
        memmove(text + kept, text + at, length);
        kept += length;
    }
    md_status status = MD_OK;
    if (rows)
        md_info("fresh", "removes %s%s (%zu row%s, %s)", others ? "rows from " : "", path, rows,
                rows == 1 ? "" : "s", amount((int64_t)(n - (others ? kept : 0)), size));
    if (rows)
        status = others ? md_file_write_atomic(path, text, kept) : remove_at(s, "metrics.csv", 0);
    *any = *any || rows;
    free(text);
    return status;
}

/* ---- all of it */

static void tell_unknown(const scene *s)
{
    int n = 0;
    for (size_t i = 0; i < s->n; i++)
        if (s->e[i].output == UNKNOWN && n++ < TOLD)
            md_warn("fresh", "%s/%s stays: no job made it", s->run, s->e[i].path);
    if (n > TOLD)
        md_warn("fresh", "and %d others", n - TOLD);
}

static md_status remove_all(scene *s, bool *any)
{
    MD_TRY(outputs__list(s));
    MD_TRY(check_links(s));
    if (s->n)
        qsort(s->e, s->n, sizeof *s->e, in_order);
    tell_unknown(s);
    for (size_t i = 0, end; i < s->n; i = end) {
        for (end = i + 1; end < s->n && s->e[end].output == s->e[i].output; end++)
            ;
        if (s->e[i].output >= 0 && in_set(s, s->e[i].output))
            MD_TRY(remove_row(s, s->e + i, end - i, any));
    }
    return thin_metrics(s, any);
}

md_status outputs_remove(const char *run, product_set set, bool repaired, bool *any)
{
    scene s = {.run = run, .set = set, .repaired = repaired};
    s.dir = open(run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s.dir < 0)
        MD_FAIL(MD_IO, "%s: %s", run, strerror(errno));
    md_status status = remove_all(&s, any);
    if (status == MD_OK && fsync(s.dir) != 0 && errno != EINVAL)
        status = md_fail(MD_IO, __FILE__, __LINE__, "%s: fsync: %s", run, strerror(errno));
    (void)close(s.dir);
    outputs__free(&s);
    return status;
}
