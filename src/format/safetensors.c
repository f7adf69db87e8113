/* Reading safetensors: header checks, sharded sets, conversion to f32. The writer is
   safetensors_write.c. Data is read by pread, so that a file cut while open is an error, not a
   fault. */
#include "format/safetensors.h"
#include "base/bf16.h"
#include "format/json.h"
#include "format/json_internal.h"

#include "base/arena.h"
#include "base/file.h"
#include "base/str.h"
#include "base/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Far above what a model needs (200 KB for Stable Diffusion), far below what parsing could do to a
   machine: the original reads 100 MB. */
enum { HEADER_MAX = FORMAT_JSON_BYTES_MAX, SHARDS_MAX = 1024 };

typedef struct shard {
    const char *name;
    int fd;
    const uint8_t *memory; /* or NULL */
    uint64_t size, data;   /* bytes of the file; where its tensors start */
} shard;

struct format_tensors {
    md_arena *arena;
    const char *name;
    shard *shards;
    int n_shards;
    format_tensor *tensors; /* sorted by name */
    int64_t n;
    const char **meta; /* key, value, key, value, ... */
    int64_t n_meta;
};

static const char *const dtype_names[] = {
#define X(name, size) #name,
    FORMAT_DTYPE_MAP(X)
#undef X
};

static const size_t dtype_bytes[] = {
#define X(name, size) size,
    FORMAT_DTYPE_MAP(X)
#undef X
};

enum { N_DTYPES = sizeof dtype_names / sizeof *dtype_names };

const char *format_dtype_name(format_dtype d)
{
    return (unsigned)d < N_DTYPES ? dtype_names[d] : "?";
}

size_t format_dtype_bytes(format_dtype d)
{
    return (unsigned)d < N_DTYPES ? dtype_bytes[d] : 0;
}

static md_status read_at(const shard *s, uint64_t offset, void *dst, size_t n)
{
    if (offset > s->size || n > s->size - offset)
        MD_FAIL(MD_BAD_INPUT, "%s: bytes %llu to %llu lie beyond its end", s->name,
                (unsigned long long)offset, (unsigned long long)(offset + n));
    if (s->memory) {
        memcpy(dst, s->memory + offset, n);
        return MD_OK;
    }
    for (size_t done = 0; done < n;) {
        md_watch("reading weights");
        const ssize_t got = pread(s->fd, (char *)dst + done, n - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            MD_FAIL(MD_IO, "%s: reading: %s", s->name, strerror(errno));
        if (got == 0)
            MD_FAIL(MD_IO, "%s: it became shorter while being read", s->name);
        done += (size_t)got;
    }
    return MD_OK;
}

/* "F32", [2,3], [0,24] of one tensor into *t; begin and end relative to the data. */
static md_status parse_shape(const char *file, const json_t *v, format_tensor *t)
{
    const json_t *shape = json_object_get(v, "shape");
    const json_t *dtype = json_object_get(v, "dtype");
    if (!json_is_string(dtype))
        MD_FAIL(MD_BAD_INPUT, "%s: tensor %s: dtype is %s, wanted: a string", file, t->name,
                format__json_type(dtype));
    int d = 0;
    while (d < N_DTYPES && strcmp(dtype_names[d], json_string_value(dtype)) != 0)
        d++;
    if (d == N_DTYPES)
        MD_FAIL(MD_BAD_INPUT, "%s: tensor %s: unknown dtype \"%.20s\"", file, t->name,
                json_string_value(dtype));
    t->dtype = (format_dtype)d;
    if (!json_is_array(shape))
        MD_FAIL(MD_BAD_INPUT, "%s: tensor %s: shape is %s, wanted: an array", file, t->name,
                format__json_type(shape));
    if (json_array_size(shape) > FORMAT_DIMS_MAX)
        MD_FAIL(MD_BAD_INPUT, "%s: tensor %s: %zu dimensions; at most %d are read", file, t->name,
                json_array_size(shape), FORMAT_DIMS_MAX);
    t->ndim = (int)json_array_size(shape);
    t->numel = 1;
    for (int i = 0; i < t->ndim; i++) {
        const json_t *e = json_array_get(shape, (size_t)i);
        const int64_t dim = json_integer_value(e);
        if (!json_is_integer(e) || dim < 0)
            MD_FAIL(MD_BAD_INPUT, "%s: tensor %s: dimension %d is no count", file, t->name, i);
        t->dim[i] = dim;
        if (__builtin_mul_overflow(t->numel, dim, &t->numel))
            MD_FAIL(MD_BAD_INPUT, "%s: tensor %s: its shape overflows", file, t->name);
    }
    if (__builtin_mul_overflow((size_t)t->numel, dtype_bytes[d], &t->bytes))
        MD_FAIL(MD_BAD_INPUT, "%s: tensor %s: its shape overflows", file, t->name);
    return MD_OK;
}

static md_status parse_tensor(const shard *s, const json_t *v, format_tensor *t)
{
    if (!json_is_object(v))
        MD_FAIL(MD_BAD_INPUT, "%s: tensor %s is %s, wanted: an object", s->name, t->name,
                format__json_type(v));
    MD_TRY(parse_shape(s->name, v, t));
    const json_t *offsets = json_object_get(v, "data_offsets");
    const json_t *b = json_array_get(offsets, 0), *e = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(b) || !json_is_integer(e))
        MD_FAIL(MD_BAD_INPUT, "%s: tensor %s: data_offsets are no pair of integers", s->name,
                t->name);
    const int64_t begin = json_integer_value(b), end = json_integer_value(e);
    if (begin < 0 || end < begin || (uint64_t)end > s->size - s->data)
        MD_FAIL(
            MD_BAD_INPUT,
            "%s: tensor %s: bytes %lld to %lld lie outside the file's %llu data bytes (truncated?)",
            s->name, t->name, (long long)begin, (long long)end,
            (unsigned long long)(s->size - s->data));
    if ((uint64_t)(end - begin) != t->bytes)
        MD_FAIL(MD_BAD_INPUT,
                "%s: tensor %s: shape and dtype need %zu bytes, its offsets hold %lld", s->name,
                t->name, t->bytes, (long long)(end - begin));
    t->offset = s->data + (uint64_t)begin;
    return MD_OK;
}

static int by_offset(const void *a, const void *b)
{
    const format_tensor *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static int by_name(const void *a, const void *b)
{
    const format_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* The data must be covered exactly: no gap, no overlap, nothing behind. Sorts t by offset. */
static md_status check_cover(const shard *s, format_tensor *t, int64_t n)
{
    uint64_t at = s->data;
    qsort(t, (size_t)n, sizeof *t, by_offset);
    for (int64_t i = 0; i < n; i++) {
        if (t[i].offset != at)
            MD_FAIL(MD_BAD_INPUT, "%s: tensor %s: %s before it", s->name, t[i].name,
                    t[i].offset < at ? "overlaps the tensor" : "a hole");
        at += t[i].bytes;
    }
    if (at != s->size)
        MD_FAIL(MD_BAD_INPUT, "%s: %llu bytes behind the last tensor", s->name,
                (unsigned long long)(s->size - at));
    return MD_OK;
}

static md_status parse_meta(format_tensors *f, const shard *s, json_t *meta)
{
    if (!json_is_object(meta))
        MD_FAIL(MD_BAD_INPUT, "%s: __metadata__ is %s, wanted: an object", s->name,
                format__json_type(meta));
    const char **pairs = md_arena_alloc(f->arena, (2 * json_object_size(meta) + 1) * sizeof *pairs);
    int64_t n = 0;
    const char *key;
    json_t *v;
    json_object_foreach(meta, key, v)
    {
        if (!json_is_string(v))
            MD_FAIL(MD_BAD_INPUT, "%s: __metadata__.%s is %s, wanted: a string", s->name, key,
                    format__json_type(v));
        char *k = md_arena_strdup(f->arena, key),
             *text = md_arena_strdup(f->arena, json_string_value(v));
        if (!pairs || !k || !text)
            MD_FAIL(MD_NOMEM, "%s: no memory for its metadata", s->name);
        pairs[2 * n] = k;
        pairs[2 * n + 1] = text;
        n++;
    }
    if (f->n_meta == 0) {
        f->meta = pairs;
        f->n_meta = n;
    }
    return MD_OK;
}

static md_status parse_tensors(format_tensors *f, const shard *s, json_t *root, format_tensor **out,
                               int64_t *n)
{
    const char *key;
    json_t *v;
    int64_t count = 0;
    if (!json_is_object(root))
        MD_FAIL(MD_BAD_INPUT, "%s: its header is %s, wanted: an object", s->name,
                format__json_type(root));
    format_tensor *t = md_arena_alloc(f->arena, (json_object_size(root) + 1) * sizeof *t);
    if (!t)
        MD_FAIL(MD_NOMEM, "%s: no memory for %zu tensors", s->name, json_object_size(root));
    json_object_foreach(root, key, v)
    {
        if (!strcmp(key, "__metadata__")) {
            MD_TRY(parse_meta(f, s, v));
            continue;
        }
        t[count].name = md_arena_strdup(f->arena, key);
        if (!t[count].name)
            MD_FAIL(MD_NOMEM, "%s: no memory for tensor %s", s->name, key);
        t[count].shard = (int)(s - f->shards);
        MD_TRY(parse_tensor(s, v, &t[count++]));
    }
    MD_TRY(check_cover(s, t, count));
    qsort(t, (size_t)count, sizeof *t, by_name);
    *out = t;
    *n = count;
    return MD_OK;
}

/* What is often met under the name of a safetensors file, by its first bytes. */
static md_status check_stranger(const shard *s, const uint8_t head[8])
{
#define PICKLE                                                                                     \
    "a pickle file, which can run code when it is opened and is not read; get the same weights "   \
    "as .safetensors"
    static const struct {
        const char *head, *what;
    } strangers[] = {
        {"PK\3\4", PICKLE},
        {"\x80\2", PICKLE},
        {"\x80\3", PICKLE},
        {"\x80\4", PICKLE},
        {"\x80\5", PICKLE},
        {"GGUF", "a quantised GGUF file, which is not read; get the weights as .safetensors"},
        {"version ", "a Git LFS pointer in place of the file; run \"git lfs pull\" in its folder"},
        {"<!DOCTYP", "a web page, saved in place of the file"},
        {"<!doctyp", "a web page, saved in place of the file"},
        {"<html", "a web page, saved in place of the file"},
    };
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++)
        if (!memcmp(head, strangers[i].head, strlen(strangers[i].head)))
            MD_FAIL(MD_BAD_INPUT, "%s: %s", s->name, strangers[i].what);
    return MD_OK;
#undef PICKLE
}

/* s is open and knows its size. */
static md_status parse_header(format_tensors *f, shard *s, format_tensor **out, int64_t *n)
{
    uint8_t head[8] = {0};
    if (s->size < 8)
        MD_FAIL(MD_BAD_INPUT, "%s: %llu bytes are too few for a safetensors file", s->name,
                (unsigned long long)s->size);
    MD_TRY(read_at(s, 0, head, 8));
    uint64_t length = 0;
    for (int i = 0; i < 8; i++)
        length |= (uint64_t)head[i] << 8 * i;
    if (length > s->size - 8) /* as text taken for a length is */
        MD_TRY(check_stranger(s, head));
    if (length > HEADER_MAX)
        MD_FAIL(MD_BAD_INPUT, "%s: its header claims %llu bytes; at most %d are read", s->name,
                (unsigned long long)length, HEADER_MAX);
    if (length > s->size - 8)
        MD_FAIL(MD_BAD_INPUT, "%s: its header claims %llu bytes, the file has %llu (truncated?)",
                s->name, (unsigned long long)length, (unsigned long long)s->size);
    s->data = 8 + length;
    char *text = malloc((size_t)length + 1);
    if (!text)
        MD_FAIL(MD_NOMEM, "%s: no memory for its header", s->name);
    json_t *root = NULL;
    md_status status = read_at(s, 8, text, (size_t)length);
    if (status == MD_OK)
        status = format__json_parse(s->name, text, (size_t)length, 0, &root);
    free(text);
    if (status == MD_OK)
        status = parse_tensors(f, s, root, out, n);
    json_decref(root);
    return status;
}

static md_status open_shard(shard *s)
{
    struct stat st;
    s->fd = open(s->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hang */
    if (s->fd < 0)
        MD_FAIL(errno == ENOENT || errno == ELOOP ? MD_BAD_INPUT : MD_IO, "%s: %s", s->name,
                md_file_reason(s->name, errno));
    if (fstat(s->fd, &st) != 0)
        MD_FAIL(MD_IO, "%s: %s", s->name, strerror(errno));
    if (!S_ISREG(st.st_mode))
        MD_FAIL(MD_BAD_INPUT, "%s: not a file", s->name);
    s->size = (uint64_t)st.st_size;
    return MD_OK;
}

static md_status new_set(const char *name, int n_shards, format_tensors **out)
{
    format_tensors *f = calloc(1, sizeof *f);
    md_arena *arena = md_arena_new();
    if (f && arena) {
        f->arena = arena;
        f->name = md_arena_strdup(arena, name);
        f->shards = md_arena_alloc(arena, (size_t)n_shards * sizeof *f->shards);
    }
    if (!f || !arena || !f->name || !f->shards) {
        md_arena_free(arena);
        free(f);
        MD_FAIL(MD_NOMEM, "%s: no memory to open it", name);
    }
    f->n_shards = n_shards;
    for (int i = 0; i < n_shards; i++)
        f->shards[i].fd = -1;
    *out = f;
    return MD_OK;
}

void format_tensors_close(format_tensors *f)
{
    if (!f)
        return;
    for (int i = 0; i < f->n_shards; i++)
        if (f->shards[i].fd >= 0)
            (void)close(f->shards[i].fd);
    md_arena_free(f->arena);
    free(f);
}

md_status format_tensors_open_memory(const char *name, const void *bytes, size_t n,
                                     format_tensors **out)
{
    md_status status;
    format_tensors *f;
    MD_TRY(new_set(name, 1, &f));
    f->shards[0] = (shard){.name = f->name, .fd = -1, .memory = bytes, .size = n};
    MD_TRY_GOTO(parse_header(f, &f->shards[0], &f->tensors, &f->n), fail);
    *out = f;
    return MD_OK;
fail:
    format_tensors_close(f);
    return status;
}

static md_status open_single(const char *path, format_tensors **out)
{
    md_status status;
    format_tensors *f;
    MD_TRY(new_set(path, 1, &f));
    f->shards[0].name = f->name;
    MD_TRY_GOTO(open_shard(&f->shards[0]), fail);
    MD_TRY_GOTO(parse_header(f, &f->shards[0], &f->tensors, &f->n), fail);
    *out = f;
    return MD_OK;
fail:
    format_tensors_close(f);
    return status;
}

/* Shard files in the order in which the map names them; at most SHARDS_MAX. */
static md_status list_shards(format_tensors *f, json_t *map, const char **files, int *n)
{
    const char *key;
    json_t *v;
    *n = 0;
    json_object_foreach(map, key, v)
    {
        const char *file = json_string_value(v);
        if (!file || !*file || strchr(file, '/') || !strcmp(file, "..") || !strcmp(file, "."))
            MD_FAIL(MD_BAD_INPUT, "%s: tensor %s: its file is no plain name", f->name, key);
        int i = 0;
        while (i < *n && strcmp(files[i], file) != 0)
            i++;
        if (i < *n)
            continue;
        if (*n == SHARDS_MAX)
            MD_FAIL(MD_BAD_INPUT, "%s: more than %d files", f->name, SHARDS_MAX);
        files[(*n)++] = file;
    }
    return MD_OK;
}

static const format_tensor *find_in(const format_tensor *t, int64_t n, const char *name)
{
    const format_tensor key = {.name = name};
    return n ? bsearch(&key, t, (size_t)n, sizeof *t, by_name) : NULL;
}

static md_status open_shards(format_tensors *f, json_t *map)
{
    const char *files[SHARDS_MAX];
    format_tensor *lists[SHARDS_MAX];
    int64_t counts[SHARDS_MAX], named[SHARDS_MAX] = {0};
    int n;
    MD_TRY(list_shards(f, map, files, &n));
    f->n_shards = n;
    const char *slash = strrchr(f->name, '/');
    const int dir = slash ? (int)(slash - f->name + 1) : 0;
    for (int i = 0; i < n; i++) {
        f->shards[i].name = md_arena_printf(f->arena, "%.*s%s", dir, f->name, files[i]);
        if (!f->shards[i].name)
            MD_FAIL(MD_NOMEM, "%s: no memory to open its files", f->name);
        MD_TRY(open_shard(&f->shards[i]));
        MD_TRY(parse_header(f, &f->shards[i], &lists[i], &counts[i]));
    }
    f->tensors = md_arena_alloc(f->arena, (json_object_size(map) + 1) * sizeof *f->tensors);
    if (!f->tensors)
        MD_FAIL(MD_NOMEM, "%s: no memory for its tensors", f->name);
    const char *key;
    json_t *v;
    json_object_foreach(map, key, v)
    {
        int i = 0;
        while (strcmp(files[i], json_string_value(v)) != 0)
            i++;
        named[i]++;
        const format_tensor *t = find_in(lists[i], counts[i], key);
        if (!t)
            MD_FAIL(MD_BAD_INPUT, "%s: tensor %s is not in %s, where the index puts it", f->name,
                    key, f->shards[i].name);
        f->tensors[f->n++] = *t;
    }
    for (int i = 0; i < n; i++)
        if (named[i] != counts[i])
            MD_FAIL(MD_BAD_INPUT, "%s: it puts %lld tensors into %s, which holds %lld", f->name,
                    (long long)named[i], f->shards[i].name, (long long)counts[i]);
    qsort(f->tensors, (size_t)f->n, sizeof *f->tensors, by_name);
    return MD_OK;
}

static md_status open_index(const char *path, format_tensors **out)
{
    void *text = NULL;
    size_t n = 0;
    json_t *root = NULL;
    format_tensors *f = NULL;
    MD_TRY(md_file_read(path, HEADER_MAX, &text, &n));
    md_status status = format__json_parse(path, text, n, 0, &root);
    free(text);
    if (status == MD_OK)
        status = new_set(path, SHARDS_MAX, &f);
    json_t *map = json_object_get(root, "weight_map");
    if (status == MD_OK && !json_is_object(map))
        status = md_fail(MD_BAD_INPUT, __FILE__, __LINE__,
                         "%s: weight_map is %s, wanted: an object", path, format__json_type(map));
    if (status == MD_OK)
        status = open_shards(f, map);
    json_decref(root);
    if (status == MD_OK)
        *out = f;
    else
        format_tensors_close(f);
    return status;
}

md_status format_tensors_open(const char *path, format_tensors **out)
{
    return md_str_ends(path, ".json") ? open_index(path, out) : open_single(path, out);
}

int64_t format_tensors_count(const format_tensors *f)
{
    return f->n;
}

const format_tensor *format_tensors_at(const format_tensors *f, int64_t i)
{
    return &f->tensors[i];
}

const format_tensor *format_tensors_find(const format_tensors *f, const char *name)
{
    return find_in(f->tensors, f->n, name);
}

static void shape_text(char *buf, size_t size, int ndim, const int64_t *dim)
{
    size_t at = 0;
    buf[0] = 0;
    for (int i = 0; i < ndim && at < size; i++)
        at += (size_t)snprintf(buf + at, size - at, i ? ",%lld" : "%lld", (long long)dim[i]);
}

md_status format_tensors_get(const format_tensors *f, const char *name, int ndim,
                             const int64_t *dim, const format_tensor **out)
{
    const format_tensor *t = format_tensors_find(f, name);
    if (!t)
        MD_FAIL(MD_BAD_INPUT, "%s: no tensor %s", f->name, name);
    bool same = !dim || t->ndim == ndim;
    for (int i = 0; dim && same && i < ndim; i++)
        same = t->dim[i] == dim[i];
    if (!same) {
        char got[96], wanted[96];
        shape_text(got, sizeof got, t->ndim, t->dim);
        shape_text(wanted, sizeof wanted, ndim, dim);
        MD_FAIL(MD_BAD_INPUT, "%s: tensor %s is [%s], wanted: [%s]", f->shards[t->shard].name, name,
                got, wanted);
    }
    *out = t;
    return MD_OK;
}

int64_t format_tensors_n_meta(const format_tensors *f)
{
    return f->n_meta;
}

void format_tensors_meta_at(const format_tensors *f, int64_t i, const char **key,
                            const char **value)
{
    *key = f->meta[2 * i];
    *value = f->meta[2 * i + 1];
}

const char *format_tensors_meta(const format_tensors *f, const char *key)
{
    for (int64_t i = 0; i < f->n_meta; i++)
        if (!strcmp(f->meta[2 * i], key))
            return f->meta[2 * i + 1];
    return NULL;
}

const char *format_tensors_name(const format_tensors *f)
{
    return f->name;
}

int format_tensors_n_files(const format_tensors *f)
{
    return f->n_shards;
}

const char *format_tensors_file(const format_tensors *f, int i)
{
    return f->shards[i].name;
}

#define CONVERT(type, expression)                                                                  \
    for (int64_t i = 0; i < n; i++) {                                                              \
        type v;                                                                                    \
        memcpy(&v, src + (size_t)i * sizeof v, sizeof v);                                          \
        dst[i] = expression;                                                                       \
    }                                                                                              \
    break

static void convert(format_dtype d, const uint8_t *src, int64_t n, float *dst)
{
    switch (d) {
    case FORMAT_BOOL:
        CONVERT(uint8_t, v != 0);
    case FORMAT_U8:
        CONVERT(uint8_t, v);
    case FORMAT_I8:
        CONVERT(int8_t, v);
    case FORMAT_U16:
        CONVERT(uint16_t, v);
    case FORMAT_I16:
        CONVERT(int16_t, v);
    case FORMAT_F16:
        CONVERT(uint16_t, format_f16_to_f32(v));
    case FORMAT_BF16:
        CONVERT(uint16_t, md_bf16_to_f32(v));
    case FORMAT_U32:
        CONVERT(uint32_t, (float)v);
    case FORMAT_I32:
        CONVERT(int32_t, (float)v);
    case FORMAT_F32:
        memcpy(dst, src, (size_t)n * sizeof *dst);
        break;
    case FORMAT_U64:
        CONVERT(uint64_t, (float)v);
    case FORMAT_I64:
        CONVERT(int64_t, (float)v);
    case FORMAT_F64:
        CONVERT(double, (float)v);
    }
}

md_status format_tensors_read_f32(const format_tensors *f, const format_tensor *t, int64_t first,
                                  int64_t n, float *dst)
{
    if (first < 0 || n < 0 || first > t->numel || n > t->numel - first)
        MD_FAIL(MD_INTERNAL, "%s: elements %lld to %lld of tensor %s, which has %lld",
                f->shards[t->shard].name, (long long)first, (long long)(first + n), t->name,
                (long long)t->numel);
    uint8_t piece[65536]; /* a multiple of every element size */
    const size_t size = dtype_bytes[t->dtype];
    const int64_t step = (int64_t)(sizeof piece / size);
    uint64_t offset = t->offset + (uint64_t)first * size;
    if (t->dtype == FORMAT_F32) {
        const md_status status = read_at(&f->shards[t->shard], offset, dst, (size_t)n * size);
        return status == MD_OK ? MD_OK : md_context(status, "reading tensor %s", t->name);
    }
    for (int64_t done = 0; done < n; done += step, offset += sizeof piece) {
        const int64_t count = n - done < step ? n - done : step;
        const md_status status = read_at(&f->shards[t->shard], offset, piece, (size_t)count * size);
        if (status != MD_OK)
            return md_context(status, "reading tensor %s", t->name);
        convert(t->dtype, piece, count, dst + done);
    }
    return MD_OK;
}

md_status format_tensors_read_raw(const format_tensors *f, const format_tensor *t, void *dst)
{
    const md_status status = read_at(&f->shards[t->shard], t->offset, dst, t->bytes);
    return status == MD_OK ? MD_OK : md_context(status, "reading tensor %s", t->name);
}
