/* Buffers: the only memory that outlives a plan. */
#include "graph/backend.h"

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
