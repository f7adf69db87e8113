/* The ref backend's table and its memory: host memory, floats as double. */
#include "backend/ref/ref.h"
#include "backend/ref/ref_impl.h"
#include <stdlib.h>
#include <string.h>

static const md_prepare_fn prepare[MD_OP_COUNT] = {
#define MD_OP(name, n_out, vjp) [MD_OP_##name] = ref_##name,
#include "graph/ops.def"
#undef MD_OP
};

static size_t elem_bytes(md_dtype d)
{
    return d == MD_U8 ? 1 : d == MD_I32 ? sizeof(int32_t) : sizeof(double);
}

/* A 64-byte header before each block holds its size. */
static md_status host_alloc(md_backend *be, size_t bytes, void **out)
{
    char *p = bytes < SIZE_MAX - 128 ? aligned_alloc(64, (bytes + 127) / 64 * 64) : NULL;
    if (!p)
        MD_FAIL(MD_NOMEM, "ref: cannot allocate %zu bytes", bytes);
    memcpy(p, &bytes, sizeof bytes);
    be->allocated_bytes += bytes;
    *out = p + 64;
    return MD_OK;
}

static void host_release(md_backend *be, void *p)
{
    if (!p)
        return;
    size_t bytes;
    memcpy(&bytes, (char *)p - 64, sizeof bytes);
    be->allocated_bytes -= bytes;
    free((char *)p - 64);
}

/* What a tensor of this type is made of here. */
static md_dtype stored_as(md_dtype d)
{
    return d == MD_I32 || d == MD_U8 ? d : MD_F64;
}

static md_status check_types(md_dtype dtype, md_dtype host_dtype)
{
    if (!md_convertible(dtype, host_dtype))
        MD_FAIL(MD_INTERNAL, "ref: no copy between %s and %s", md_dtype_name(dtype),
                md_dtype_name(host_dtype));
    return MD_OK;
}

static md_status host_write(md_backend *be, void *dst, md_dtype dtype, const void *host,
                            md_dtype host_dtype, int64_t n)
{
    (void)be;
    MD_TRY(check_types(dtype, host_dtype));
    md_convert_host(dst, stored_as(dtype), host, host_dtype, n);
    return MD_OK;
}

static md_status host_read(md_backend *be, const void *src, md_dtype dtype, void *host,
                           md_dtype host_dtype, int64_t n)
{
    (void)be;
    MD_TRY(check_types(dtype, host_dtype));
    md_convert_host(host, host_dtype, src, stored_as(dtype), n);
    return MD_OK;
}

static md_status host_zero(md_backend *be, void *dst, size_t bytes)
{
    (void)be;
    memset(dst, 0, bytes);
    return MD_OK;
}

static md_status host_sync(md_backend *be)
{
    (void)be;
    return MD_OK;
}

static void host_close(md_backend *be)
{
    free(be);
}

/* Not host_visible: what callers take for f32 is double here. */
static const md_backend_ops ref_ops = {.name = "ref",
                                       .prepare = prepare,
                                       .elem_bytes = elem_bytes,
                                       .alloc = host_alloc,
                                       .release = host_release,
                                       .write = host_write,
                                       .read = host_read,
                                       .zero = host_zero,
                                       .sync = host_sync,
                                       .close = host_close,
                                       .fuses_chains = true};

md_status ref_backend_open(md_backend **out)
{
    md_backend *be = calloc(1, sizeof *be);
    if (!be)
        MD_FAIL(MD_NOMEM, "ref: cannot allocate a backend");
    be->ops = &ref_ops;
    be->threads = 1;
    *out = be;
    return MD_OK;
}
