#include "generate/rejects.h"
#include "base/file.h"
#include "base/log.h"
#include "image/resize.h"
#include "image/sheet.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_BYTES = 512, WORD = 32, PATH_BYTES = 4096, PICTURE = 256 };
static const size_t FILE_MAX = (size_t)1 << 31;
static const char header[] = "slot,attempt,reason,similarity,similarity_lesion,mean,mean_lesion,"
                             "nearest,nearest_lesion,alignment,background,mask\n";

typedef struct entry {
    reject line;
    int64_t order; /* of two lines of a draw the later counts */
    bool gone;
} entry;

struct rejects {
    char path[PATH_BYTES];
    int fd; /* -1 until there is a line */
    entry *e;
    int64_t n, cap;
};

static int format_line(const reject *l, char out[LINE_BYTES])
{
    const likeness *w = &l->m.part[PART_WHOLE], *d = &l->m.part[PART_LESION];
    return snprintf(out, LINE_BYTES,
                    "%" PRId64 ",%" PRId32 ",%s,%.6f,%.6f,%.6f,%.6f,%" PRId32 ",%" PRId32
                    ",%.6f,%" PRId32 ",%" PRId32 "\n",
                    l->slot, l->attempt, verdict_name(l->why), (double)w->nearest,
                    (double)d->nearest, (double)w->mean, (double)d->mean, w->id, d->id,
                    (double)l->m.alignment, l->background_id, l->mask_id);
}

static bool parse_line(const char *text, size_t n, reject *out)
{
    char line[LINE_BYTES], why[WORD];
    reject l = {0};
    likeness *w = &l.m.part[PART_WHOLE], *d = &l.m.part[PART_LESION];
    int end = -1;
    if (n >= sizeof line || memchr(text, 0, n))
        return false;
    memcpy(line, text, n);
    line[n] = 0;
    (void)sscanf(line,
                 "%18" SCNd64 ",%9" SCNd32 ",%31[^,\n],%15f,%15f,%15f,%15f,%9" SCNd32 ",%9" SCNd32
                 ",%15f,%9" SCNd32 ",%9" SCNd32 "%n",
                 &l.slot, &l.attempt, why, &w->nearest, &d->nearest, &w->mean, &d->mean, &w->id,
                 &d->id, &l.m.alignment, &l.background_id, &l.mask_id, &end);
    if (end < 0 || (size_t)end != n || l.slot < 0 || l.attempt < 0)
        return false;
    while (l.why < N_VERDICTS && strcmp(why, verdict_name(l.why)) != 0)
        l.why++;
    *out = l;
    return l.why < N_VERDICTS && l.why != VERDICT_GOOD;
}

int64_t rejects_parse(const char *text, size_t n, reject *lines, int64_t most, int64_t *bad)
{
    int64_t found = 0;
    *bad = 0;
    for (size_t at = 0; at < n;) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t length = end ? (size_t)(end - text) - at : n - at;
        reject line;
        /* a line without its end is one that a kill cut off */
        if (end && found < most && parse_line(text + at, length, &line))
            lines[found++] = line;
        else if (length + 1 != sizeof header - 1 || memcmp(text + at, header, length) != 0)
            ++*bad;
        at += length + 1;
    }
    return found;
}

static md_status append(rejects *r, const reject *line, bool gone)
{
    if (r->n == r->cap) {
        int64_t cap = r->cap ? 2 * r->cap : 256;
        entry *e = realloc(r->e, (size_t)cap * sizeof *e);
        if (!e)
            MD_FAIL(MD_NOMEM, "%s: out of memory", r->path);
        r->e = e;
        r->cap = cap;
    }
    r->e[r->n] = (entry){*line, r->n, gone};
    r->n++;
    return MD_OK;
}

static int64_t count_lines(const char *text, size_t n)
{
    int64_t lines = 1;
    for (size_t i = 0; i < n; i++)
        lines += text[i] == '\n';
    return lines;
}

static md_status read_old(rejects *r)
{
    void *text = NULL;
    size_t n = 0;
    int64_t bad = 0;
    if (!md_file_exists(r->path))
        return MD_OK;
    MD_TRY(md_file_read(r->path, FILE_MAX, &text, &n));
    int64_t most = count_lines(text, n);
    reject *line = malloc((size_t)most * sizeof *line);
    md_status status =
        line ? MD_OK : md_fail(MD_NOMEM, __FILE__, __LINE__, "%s: out of memory", r->path);
    int64_t found = line ? rejects_parse(text, n, line, most, &bad) : 0;
    for (int64_t i = 0; i < found && status == MD_OK; i++)
        status = append(r, &line[i], false);
    if (bad)
        md_warn("assess", "%s: %lld lines could not be read and are dropped", r->path,
                (long long)bad);
    free(line);
    free(text);
    return status;
}

md_status rejects_open(const char *path, rejects **out)
{
    rejects *r = calloc(1, sizeof *r);
    if (!r)
        MD_FAIL(MD_NOMEM, "%s: out of memory", path);
    r->fd = -1;
    md_status status = md_str_copy(r->path, sizeof r->path, path);
    if (status == MD_OK)
        status = read_old(r);
    if (status == MD_OK)
        status = rejects_order(r);
    if (status != MD_OK)
        rejects_close(r);
    else
        *out = r;
    return status;
}

void rejects_close(rejects *r)
{
    if (!r)
        return;
    if (r->fd >= 0)
        (void)close(r->fd);
    free(r->e);
    free(r);
}

static md_status put(rejects *r, const char *text, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t m = write(r->fd, text + at, n - at);
        if (m < 0 && errno != EINTR)
            MD_FAIL(MD_IO, "%s: cannot write: %s", r->path, md_file_write_reason(errno));
        at += m > 0 ? (size_t)m : 0;
    }
    return MD_OK;
}

md_status rejects_add(rejects *r, const reject *line)
{
    char text[LINE_BYTES];
    MD_TRY(append(r, line, false));
    if (r->fd < 0) {
        bool there = md_file_exists(r->path);
        r->fd = open(r->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (r->fd < 0)
            MD_FAIL(MD_IO, "%s: cannot write: %s", r->path, md_file_write_reason(errno));
        if (!there)
            MD_TRY(put(r, header, sizeof header - 1));
    }
    int n = format_line(line, text);
    return put(r, text, (size_t)n);
}

md_status rejects_forget(rejects *r, int64_t slot, int32_t attempt)
{
    return append(r, &(reject){.slot = slot, .attempt = attempt}, true);
}

int64_t rejects_count(const rejects *r)
{
    return r->n;
}

md_status rejects_sync(rejects *r)
{
    if (r->fd >= 0 && fsync(r->fd) != 0)
        MD_FAIL(MD_IO, "%s: cannot write: %s", r->path, md_file_write_reason(errno));
    return MD_OK;
}

static int by_draw(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->line.slot != y->line.slot)
        return x->line.slot < y->line.slot ? -1 : 1;
    if (x->line.attempt != y->line.attempt)
        return x->line.attempt < y->line.attempt ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* One entry a draw, the last one; draws that are gone are left out. */
static void thin(rejects *r)
{
    int64_t n = 0;
    if (r->n > 0)
        qsort(r->e, (size_t)r->n, sizeof *r->e, by_draw);
    for (int64_t i = 0; i < r->n; i++) {
        const entry *next = &r->e[i + 1];
        bool last = i + 1 == r->n || next->line.slot != r->e[i].line.slot ||
                    next->line.attempt != r->e[i].line.attempt;
        if (last && !r->e[i].gone) {
            r->e[n] = r->e[i];
            r->e[n].order = n;
            n++;
        }
    }
    r->n = n;
}

md_status rejects_order(rejects *r)
{
    char text[LINE_BYTES];
    md_text t = {0};
    if (r->n == 0)
        return MD_OK;
    thin(r);
    if (r->fd >= 0)
        (void)close(r->fd);
    r->fd = -1;
    if (r->n == 0)
        return md_file_remove(r->path);
    md_status status = md_text_add(&t, "%s", header);
    for (int64_t i = 0; i < r->n && status == MD_OK; i++) {
        (void)format_line(&r->e[i].line, text);
        status = md_text_add(&t, "%s", text);
    }
    if (status == MD_OK)
        status = md_file_write_atomic(r->path, t.s, t.n);
    md_text_free(&t);
    return status;
}

md_status rejects_drop(const char *csv, const char *folder)
{
    char path[PATH_BYTES], **names = NULL;
    size_t n = 0;
    MD_TRY(md_file_remove(csv));
    if (!md_file_exists(folder))
        return MD_OK;
    MD_TRY(md_dir_list(folder, &names, &n));
    md_status status = MD_OK;
    for (size_t i = 0; i < n && status == MD_OK; i++) {
        int end = 0;
        (void)sscanf(names[i], "%*9[0-9]-%*9[0-9].png%n", &end); /* as assessor_show names them */
        if (!end || names[i][end])
            continue;
        status = md_path_join(path, sizeof path, folder, names[i]);
        if (status == MD_OK)
            status = md_file_remove(path);
    }
    free(names);
    return status;
}

static md_status shrink(const image *im, image *out)
{
    return im->h > PICTURE ? image_resize(im, PICTURE, im->w * PICTURE / im->h, IMAGE_AREA, out)
                           : image_copy(im, out);
}

md_status rejects_picture(const image *rgb, const image *guide, const image *real, const char *png)
{
    static const image_color green = {60, 255, 60};
    image outlined = {0}, part[2] = {{0}}, both = {0};
    const image *beside[] = {&part[0], &part[1]};
    md_status status = image_copy(rgb, &outlined);
    if (status == MD_OK)
        status = image_draw_outline(&outlined, guide, green, 1);
    if (status == MD_OK)
        status = shrink(&outlined, &part[0]);
    if (status == MD_OK && real)
        status = shrink(real, &part[1]);
    if (status == MD_OK)
        status = image_side_by_side(beside, real ? 2 : 1, 2, &both);
    if (status == MD_OK)
        status = image_write_png(png, &both, NULL, 0);
    image_free(&outlined);
    image_free(&part[0]);
    image_free(&part[1]);
    image_free(&both);
    return status;
}
