/* Buffers, the only memory that outlives a plan; what backends share: conversions of host arrays,
   states of kernels. */
#include "graph/backend.h"
#include "base/bf16.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

size_t md_dtype_bytes(md_dtype d)
{
    return d == MD_F64 ? 8 : d == MD_BF16 ? 2 : d == MD_U8 ? 1 : 4;
}

bool md_convertible(md_dtype a, md_dtype b)
{
    bool whole = a == MD_I32 || a == MD_U8 || b == MD_I32 || b == MD_U8;
    return !whole || a == b;
}

/* Double to bf16 rounds once: a float between would round twice. Sets the float's last bit when the
   first rounding was not exact ("round to odd"). */
static uint16_t double_to_bf16(double v)
{
    float f = (float)v;
    if (isfinite(f) && (double)f != v) {
        uint32_t u;
        memcpy(&u, &f, sizeof u);
        if (fabs((double)f) > fabs(v))
            u--;
        u |= 1;
        memcpy(&f, &u, sizeof f);
    }
    return md_f32_to_bf16(f);
}

static double load_as_double(const void *p, md_dtype d, int64_t i)
{
    if (d == MD_BF16)
        return md_bf16_to_f32(((const uint16_t *)p)[i]);
    return d == MD_F32 ? (double)((const float *)p)[i] : ((const double *)p)[i];
}

static void store_double(void *p, md_dtype d, int64_t i, double v)
{
    if (d == MD_F32)
        ((float *)p)[i] = (float)v;
    else if (d == MD_F64)
        ((double *)p)[i] = v;
    else
        ((uint16_t *)p)[i] = double_to_bf16(v);
}

void md_convert_host(void *dst, md_dtype to, const void *src, md_dtype from, int64_t n)
{
    if (to == from) {
        if (n > 0)
            memcpy(dst, src, (size_t)n * md_dtype_bytes(to));
    } else if (to == MD_F32 && from == MD_BF16) {
        for (int64_t i = 0; i < n; i++)
            ((float *)dst)[i] = md_bf16_to_f32(((const uint16_t *)src)[i]);
    } else if (to == MD_BF16 && from == MD_F32) {
        for (int64_t i = 0; i < n; i++)
            ((uint16_t *)dst)[i] = md_f32_to_bf16(((const float *)src)[i]);
    } else {
        for (int64_t i = 0; i < n; i++)
            store_double(dst, to, i, load_as_double(src, from, i));
    }
}

static void free_state(md_kernel *k)
{
    free(k->state);
    k->state = NULL;
}

md_status md_kernel_state(md_kernel *k, size_t bytes, void **out)
{
    *out = k->state = calloc(1, bytes);
    if (!k->state)
        MD_FAIL(MD_NOMEM, "%s at '%s': out of memory for its kernel", md_op_name(k->node->op),
                k->node->path);
    k->release = free_state;
    return MD_OK;
}

void md_buffer_init(md_buffer *b, const char *name, md_dtype dtype, int64_t numel)
{
    *b = (md_buffer){.name = name, .dtype = dtype, .numel = numel};
}

md_status md_buffer_alloc(md_backend *be, md_buffer *b)
{
    if (b->ptr)
        return MD_OK;
    size_t bytes = (size_t)b->numel * be->ops->elem_bytes(b->dtype);
    void *p = NULL;
    MD_TRY(be->ops->alloc(be, bytes, &p));
    md_status status = be->ops->zero(be, p, bytes);
    if (status != MD_OK) {
        be->ops->release(be, p);
        return md_context(status, "clearing buffer %s", b->name);
    }
    b->ptr = p;
    return MD_OK;
}

void md_buffer_release(md_backend *be, md_buffer *b)
{
    if (b->ptr)
        be->ops->release(be, b->ptr);
    b->ptr = NULL;
}

static md_status check_range(const md_buffer *b, int64_t offset, int64_t n)
{
    if (!b->ptr)
        MD_FAIL(MD_INTERNAL, "buffer %s is not allocated", b->name);
    if (offset < 0 || n < 0 || offset > b->numel - n)
        MD_FAIL(MD_SHAPE, "buffer %s: %lld elements at %lld, it has %lld", b->name, (long long)n,
                (long long)offset, (long long)b->numel);
    return MD_OK;
}

md_status md_buffer_write(md_backend *be, md_buffer *b, int64_t offset, const void *host,
                          md_dtype host_dtype, int64_t n)
{
    MD_TRY(check_range(b, offset, n));
    char *at = (char *)b->ptr + (size_t)offset * be->ops->elem_bytes(b->dtype);
    return be->ops->write(be, at, b->dtype, host, host_dtype, n);
}

md_status md_buffer_read(md_backend *be, const md_buffer *b, int64_t offset, void *host,
                         md_dtype host_dtype, int64_t n)
{
    MD_TRY(check_range(b, offset, n));
    const char *at = (const char *)b->ptr + (size_t)offset * be->ops->elem_bytes(b->dtype);
    return be->ops->read(be, at, b->dtype, host, host_dtype, n);
}

md_status md_buffer_copy(md_backend *be, md_buffer *to, const md_buffer *from)
{
    enum { CHUNK = 1 << 20 };
    if (to->numel != from->numel)
        MD_FAIL(MD_SHAPE, "buffer %s of %lld elements into %s of %lld", from->name,
                (long long)from->numel, to->name, (long long)to->numel);
    float *host = malloc(CHUNK * sizeof *host);
    if (!host)
        MD_FAIL(MD_NOMEM, "copying buffer %s: out of memory", from->name);
    md_status status = MD_OK;
    for (int64_t at = 0; at < from->numel && status == MD_OK; at += CHUNK) {
        int64_t n = from->numel - at < CHUNK ? from->numel - at : CHUNK;
        status = md_buffer_read(be, from, at, host, MD_F32, n);
        if (status == MD_OK)
            status = md_buffer_write(be, to, at, host, MD_F32, n);
    }
    free(host);
    return status;
}
