/* Packing and unpacking of framed messages; see frame.h. */
#include "comm/frame.h"
#include "comm/comm.h"
#include <stdlib.h>
#include <string.h>

#define MAGIC 0x314d444du /* "MDM1" read as little-endian */

static uint8_t *grow(comm_writer *w, size_t n)
{
    if (w->failed != MD_OK)
        return NULL;
    if (n > COMM_MESSAGE_MAX || w->size > COMM_MESSAGE_MAX - n) {
        w->failed = MD_COMM;
        return NULL;
    }
    if (w->size + n > w->capacity) {
        size_t capacity = w->capacity ? w->capacity : 256;
        while (capacity < w->size + n)
            capacity *= 2;
        uint8_t *data = realloc(w->data, capacity);
        if (!data) {
            w->failed = MD_NOMEM;
            return NULL;
        }
        w->data = data;
        w->capacity = capacity;
    }
    uint8_t *at = w->data + w->size;
    w->size += n;
    return at;
}

static void put_le(uint8_t *at, uint64_t v, int n)
{
    for (int i = 0; i < n; i++)
        at[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get_le(const uint8_t *at, int n)
{
    uint64_t v = 0;
    for (int i = 0; i < n; i++)
        v |= (uint64_t)at[i] << (8 * i);
    return v;
}

static void put(comm_writer *w, uint64_t v, int n)
{
    uint8_t *at = grow(w, (size_t)n);
    if (at)
        put_le(at, v, n);
}

void comm_frame_begin(comm_writer *w, uint16_t type, uint32_t run)
{
    w->size = 0;
    w->failed = MD_OK;
    put(w, MAGIC, 4);
    put(w, COMM_FRAME_VERSION, 2);
    put(w, type, 2);
    put(w, run, 4);
    put(w, 0, 4);
}

void comm_put_u8(comm_writer *w, uint8_t v)
{
    put(w, v, 1);
}

void comm_put_u16(comm_writer *w, uint16_t v)
{
    put(w, v, 2);
}

void comm_put_u32(comm_writer *w, uint32_t v)
{
    put(w, v, 4);
}

void comm_put_u64(comm_writer *w, uint64_t v)
{
    put(w, v, 8);
}

void comm_put_i64(comm_writer *w, int64_t v)
{
    put(w, (uint64_t)v, 8);
}

void comm_put_f64(comm_writer *w, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    put(w, bits, 8);
}

void comm_put_bytes(comm_writer *w, const void *data, size_t n)
{
    if (n > COMM_MESSAGE_MAX) {
        w->failed = MD_COMM;
        return;
    }
    put(w, n, 4);
    uint8_t *at = grow(w, n);
    if (at && n)
        memcpy(at, data, n);
}

void comm_put_text(comm_writer *w, const char *s, size_t limit)
{
    size_t n = 0;
    if (s)
        while (n < limit && s[n])
            n++;
    if (s && s[n]) /* cut: not inside a multi-byte character */
        while (n > 0 && ((unsigned char)s[n] & 0xc0) == 0x80)
            n--;
    comm_put_bytes(w, s, n);
}

md_status comm_frame_end(comm_writer *w)
{
    if (w->failed == MD_NOMEM)
        MD_FAIL(MD_NOMEM, "message: no memory for more than %zu bytes", w->capacity);
    if (w->failed != MD_OK)
        MD_FAIL(w->failed, "message: more than the limit of %zu bytes", COMM_MESSAGE_MAX);
    put_le(w->data + 12, w->size - COMM_FRAME_HEADER, 4);
    return MD_OK;
}

void comm_writer_free(comm_writer *w)
{
    free(w->data);
    memset(w, 0, sizeof *w);
}

md_status comm_frame_open(const void *data, size_t bytes, comm_frame *out)
{
    const uint8_t *p = data;
    if (bytes < COMM_FRAME_HEADER)
        MD_FAIL(MD_COMM, "message: %zu bytes, a header has %d", bytes, COMM_FRAME_HEADER);
    if (get_le(p, 4) != MAGIC)
        MD_FAIL(MD_COMM, "message: wrong magic %08llx", (unsigned long long)get_le(p, 4));
    if (get_le(p + 4, 2) != COMM_FRAME_VERSION)
        MD_FAIL(MD_COMM, "message: version %llu, this program speaks %d",
                (unsigned long long)get_le(p + 4, 2), COMM_FRAME_VERSION);
    if (get_le(p + 12, 4) != bytes - COMM_FRAME_HEADER)
        MD_FAIL(MD_COMM, "message: header says %llu body bytes, %zu arrived",
                (unsigned long long)get_le(p + 12, 4), bytes - COMM_FRAME_HEADER);
    *out = (comm_frame){.type = (uint16_t)get_le(p + 6, 2),
                        .run = (uint32_t)get_le(p + 8, 4),
                        .body = p + COMM_FRAME_HEADER,
                        .size = bytes - COMM_FRAME_HEADER};
    return MD_OK;
}

static uint64_t get(comm_frame *f, int n)
{
    if (f->bad || f->size - f->at < (size_t)n) {
        f->bad = true;
        return 0;
    }
    uint64_t v = get_le(f->body + f->at, n);
    f->at += (size_t)n;
    return v;
}

uint8_t comm_get_u8(comm_frame *f)
{
    return (uint8_t)get(f, 1);
}

uint16_t comm_get_u16(comm_frame *f)
{
    return (uint16_t)get(f, 2);
}

uint32_t comm_get_u32(comm_frame *f)
{
    return (uint32_t)get(f, 4);
}

uint64_t comm_get_u64(comm_frame *f)
{
    return get(f, 8);
}

int64_t comm_get_i64(comm_frame *f)
{
    return (int64_t)get(f, 8);
}

double comm_get_f64(comm_frame *f)
{
    uint64_t bits = get(f, 8);
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

const uint8_t *comm_get_bytes(comm_frame *f, size_t limit, size_t *n)
{
    size_t count = comm_get_u32(f);
    *n = 0;
    if (f->bad || count > limit || count > f->size - f->at) {
        f->bad = true;
        return NULL;
    }
    const uint8_t *at = f->body + f->at;
    f->at += count;
    *n = count;
    return at;
}

void comm_get_text(comm_frame *f, char *out, size_t capacity)
{
    size_t n;
    const uint8_t *at = comm_get_bytes(f, capacity - 1, &n);
    if (n)
        memcpy(out, at, n);
    out[n] = '\0';
}

md_status comm_frame_done(const comm_frame *f)
{
    if (f->bad)
        MD_FAIL(MD_COMM, "message of type %u: a field is missing, cut or too long", f->type);
    if (f->at != f->size)
        MD_FAIL(MD_COMM, "message of type %u: %zu bytes left over", f->type, f->size - f->at);
    return MD_OK;
}
