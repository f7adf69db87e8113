/* Writing safetensors as a stream: the header is known before the first element, so a file of many
   gigabytes passes through one small buffer. */
#include "base/bf16.h"
#include "format/json.h"
#include "format/safetensors.h"

#include "base/arena.h"
#include "base/file.h"
#include "base/str.h"
#include "base/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct declared {
    const char *name;
    format_dtype dtype;
    int64_t numel;
} declared;

struct format_writer {
    md_arena *arena;
    const char *path, *tmp;
    int fd;
    bool begun;
    md_text tensors, meta; /* parts of the header: "a":{...},"b":{...} and "k":"v",... */
    declared *list;
    int64_t n, cap, current, put; /* put: elements of the current tensor so far */
    uint64_t bytes;
    uint8_t *buf;
    size_t used;
};

enum { BUFFER = 1 << 20 };

md_status format_writer_new(const char *path, format_writer **out)
{
    format_writer *w = calloc(1, sizeof *w);
    if (!w)
        MD_FAIL(MD_NOMEM, "%s: no memory to write it", path);
    w->fd = -1;
    w->arena = md_arena_new();
    w->buf = malloc(BUFFER);
    if (w->arena) {
        w->path = md_arena_strdup(w->arena, path);
        w->tmp = md_arena_printf(w->arena, "%s.tmp.%ld", path, (long)getpid());
    }
    if (!w->arena || !w->buf || !w->path || !w->tmp) {
        format_writer_free(w);
        MD_FAIL(MD_NOMEM, "%s: no memory to write it", path);
    }
    w->fd = open(w->tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (w->fd < 0) {
        const int e = errno;
        const char *name = path;
        format_writer_free(w);
        MD_FAIL(MD_IO, "%s: cannot be made: %s", name, md_file_write_reason(e));
    }
    *out = w;
    return MD_OK;
}

void format_writer_free(format_writer *w)
{
    if (!w)
        return;
    if (w->fd >= 0) {
        (void)close(w->fd);
        (void)unlink(w->tmp);
    }
    md_text_free(&w->tensors);
    md_text_free(&w->meta);
    md_arena_free(w->arena);
    free(w->list);
    free(w->buf);
    free(w);
}

md_status format_writer_declare(format_writer *w, const char *name, format_dtype dtype, int ndim,
                                const int64_t *dim)
{
    if (w->begun)
        MD_FAIL(MD_INTERNAL, "%s: tensor %s declared after the first element", w->path, name);
    if (dtype != FORMAT_F32 && dtype != FORMAT_F16 && dtype != FORMAT_BF16 && dtype != FORMAT_I64 &&
        dtype != FORMAT_U8)
        MD_FAIL(MD_INTERNAL, "%s: tensor %s: %s is not written", w->path, name,
                format_dtype_name(dtype));
    for (int64_t i = 0; i < w->n; i++)
        if (!strcmp(w->list[i].name, name))
            MD_FAIL(MD_INTERNAL, "%s: tensor %s declared twice", w->path, name);
    if (w->n == w->cap) {
        const int64_t cap = w->cap ? 2 * w->cap : 256;
        declared *list = realloc(w->list, (size_t)cap * sizeof *list);
        if (!list)
            MD_FAIL(MD_NOMEM, "%s: no memory for tensor %s", w->path, name);
        w->list = list;
        w->cap = cap;
    }
    declared d = {.name = md_arena_strdup(w->arena, name), .dtype = dtype, .numel = 1};
    if (!d.name)
        MD_FAIL(MD_NOMEM, "%s: no memory for tensor %s", w->path, name);
    if (w->n)
        MD_TRY(md_text_add(&w->tensors, ","));
    MD_TRY(format_json_quote(&w->tensors, name));
    MD_TRY(md_text_add(&w->tensors, ":{\"dtype\":\"%s\",\"shape\":[", format_dtype_name(dtype)));
    for (int i = 0; i < ndim; i++) {
        if (dim[i] < 0 || __builtin_mul_overflow(d.numel, dim[i], &d.numel))
            MD_FAIL(MD_INTERNAL, "%s: tensor %s: bad shape", w->path, name);
        MD_TRY(md_text_add(&w->tensors, i ? ",%lld" : "%lld", (long long)dim[i]));
    }
    const uint64_t end = w->bytes + (uint64_t)d.numel * format_dtype_bytes(dtype);
    MD_TRY(md_text_add(&w->tensors, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)w->bytes,
                       (unsigned long long)end));
    w->bytes = end;
    w->list[w->n++] = d;
    return MD_OK;
}

md_status format_writer_meta(format_writer *w, const char *key, const char *value)
{
    if (w->begun)
        MD_FAIL(MD_INTERNAL, "%s: metadata %s after the first element", w->path, key);
    if (w->meta.n)
        MD_TRY(md_text_add(&w->meta, ","));
    MD_TRY(format_json_quote(&w->meta, key));
    MD_TRY(md_text_add(&w->meta, ":"));
    return format_json_quote(&w->meta, value);
}

static md_status write_all(format_writer *w, const void *data, size_t n)
{
    for (size_t done = 0; done < n;) {
        md_watch("writing weights");
        const ssize_t put = write(w->fd, (const char *)data + done, n - done);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            MD_FAIL(MD_IO, "%s: cannot write: %s", w->path,
                    md_file_write_reason(put < 0 ? errno : ENOSPC));
        done += (size_t)put;
    }
    return MD_OK;
}

static md_status begin(format_writer *w)
{
    md_text head = {0};
    md_status status;
    w->begun = true;
    if (w->meta.n)
        MD_TRY_GOTO(md_text_add(&head, "{\"__metadata__\":{%s}%s%s}", w->meta.s, w->n ? "," : "",
                                w->n ? w->tensors.s : ""),
                    done);
    else
        MD_TRY_GOTO(md_text_add(&head, "{%s}", w->n ? w->tensors.s : ""), done);
    while (head.n % 8)
        MD_TRY_GOTO(md_text_add(&head, " "), done);
    uint8_t length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)((uint64_t)head.n >> 8 * i);
    MD_TRY_GOTO(write_all(w, length, 8), done);
    MD_TRY_GOTO(write_all(w, head.s, head.n), done);
    status = MD_OK;
done:
    md_text_free(&head);
    return status;
}

/* One element into the buffer; 0 when its type cannot hold it. */
static int encode(format_dtype dtype, float v, uint8_t *to)
{
    if (dtype == FORMAT_F32) {
        memcpy(to, &v, 4);
    } else if (dtype == FORMAT_U8) {
        if (!(v >= 0 && v <= 255) || v != rintf(v))
            return 0;
        *to = (uint8_t)v;
    } else if (dtype == FORMAT_I64) {
        const int64_t i = (int64_t)v;
        if ((float)i != v)
            return 0;
        memcpy(to, &i, 8);
    } else {
        const uint16_t h = dtype == FORMAT_F16 ? format_f32_to_f16(v) : md_f32_to_bf16(v);
        memcpy(to, &h, 2);
        const float back = dtype == FORMAT_F16 ? format_f16_to_f32(h) : md_bf16_to_f32(h);
        return !isinf(back) || isinf(v);
    }
    return 1;
}

md_status format_writer_put(format_writer *w, const float *src, int64_t n)
{
    if (!w->begun)
        MD_TRY(begin(w));
    for (int64_t i = 0; i < n;) {
        while (w->current < w->n && w->put == w->list[w->current].numel) {
            w->current++;
            w->put = 0;
        }
        if (w->current == w->n)
            MD_FAIL(MD_INTERNAL, "%s: more elements than declared", w->path);
        const declared *d = &w->list[w->current];
        const size_t size = format_dtype_bytes(d->dtype);
        for (; i < n && w->put < d->numel; i++, w->put++) {
            if (w->used + size > BUFFER) {
                MD_TRY(write_all(w, w->buf, w->used));
                w->used = 0;
            }
            if (d->dtype == FORMAT_I64 && !(fabsf(src[i]) < 0x1p62f))
                MD_FAIL(MD_BAD_INPUT, "%s: tensor %s: %g is no 64-bit integer", w->path, d->name,
                        (double)src[i]);
            if (!encode(d->dtype, src[i], w->buf + w->used))
                MD_FAIL(MD_BAD_INPUT, "%s: tensor %s: element %lld, %g, does not fit %s", w->path,
                        d->name, (long long)w->put, (double)src[i], format_dtype_name(d->dtype));
            w->used += size;
        }
    }
    return MD_OK;
}

md_status format_writer_finish(format_writer *w)
{
    if (!w->begun)
        MD_TRY(begin(w));
    while (w->current < w->n && w->put == w->list[w->current].numel) {
        w->current++;
        w->put = 0;
    }
    if (w->current < w->n)
        MD_FAIL(MD_INTERNAL, "%s: tensor %s has %lld of %lld elements", w->path,
                w->list[w->current].name, (long long)w->put, (long long)w->list[w->current].numel);
    MD_TRY(write_all(w, w->buf, w->used));
    w->used = 0;
    const int fd = w->fd;
    w->fd = -1;
    if (close(fd) != 0) {
        const int e = errno;
        (void)unlink(w->tmp);
        MD_FAIL(MD_IO, "%s: cannot write: %s", w->path, md_file_write_reason(e));
    }
    const md_status status = md_file_publish(w->tmp, w->path);
    if (status != MD_OK)
        (void)unlink(w->tmp);
    return status;
}
