#include "vendor_backend.h"
#include "backend/cpu/cpu.h"
#include "backend/cuda/shape.h"
#include "fake_vendor.h"
#include <stdlib.h>
#include <string.h>

typedef struct vendor_backend {
    cuda_impl impl; /* first: cuda__impl() looks here */
    md_backend *cpu;
} vendor_backend;

int vendor_own_attention;

static md_backend *cpu_of(md_backend *be)
{
    return ((vendor_backend *)be->impl)->cpu;
}

static md_status by_cpu(md_backend *be, const md_node *node, md_kernel *k)
{
    k->backend = cpu_of(be);
    return k->backend->ops->prepare[node->op](k->backend, node, k);
}

/* ---- what the rest of backend/cuda gives to the files under test */

md_status cuda__fail(cudaError_t e, const char *call, const char *file, int line)
{
    return md_fail(e == cudaErrorMemoryAllocation ? MD_NOMEM : MD_DEVICE, file, line,
                   "%s: error %d", call, e);
}

md_status cuda__cudnn_fail(cudnnStatus_t s, const char *call, const char *file, int line)
{
    bool memory = s == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
    return md_fail(memory ? MD_NOMEM : MD_DEVICE, file, line, "%s: error %d", call, s);
}

md_status cuda__blas_fail(cublasStatus_t s, const char *call, const char *file, int line)
{
    return md_fail(s == CUBLAS_STATUS_ALLOC_FAILED ? MD_NOMEM : MD_DEVICE, file, line,
                   "%s: error %d", call, s);
}

md_status cuda_add(md_backend *be, const md_node *node, md_kernel *k)
{
    return by_cpu(be, node, k);
}

int cuda__copy_rows(const cuda_device *d, int64_t rows, int64_t width, const void *from,
                    int64_t from_pitch, void *to, int64_t to_pitch)
{
    (void)d;
    for (int64_t i = 0; i < rows; i++)
        memcpy((char *)to + i * to_pitch, (const char *)from + i * from_pitch, (size_t)width);
    return 0;
}

md_status cuda__flash(md_backend *be, const md_node *node, md_kernel *k)
{
    vendor_own_attention++;
    return by_cpu(be, node, k);
}

md_status cuda__flash_grad(md_backend *be, const md_node *node, md_kernel *k)
{
    return cuda__flash(be, node, k);
}

md_status cuda__launched(const md_kernel *k, int code)
{
    if (code)
        MD_FAIL(MD_DEVICE, "%s: launch error %d", md_op_name(k->node->op), code);
    return MD_OK;
}

/* gpu_host.cc's; a launch is a call that can fail, as those of the libraries. */
extern int (*gpu_host_queue)(void *stream, const char *name, int (*run)(void *),
                             void (*drop)(void *), void *closure);

static int launch(void *stream, const char *name, int (*run)(void *), void (*drop)(void *),
                  void *closure)
{
    (void)name;
    fake_put('k', stream);
    int code = fake_fails("launch") ? (int)cudaErrorUnknown : run(closure);
    drop(closure);
    return code;
}

/* ---- the table */

static md_status prepare(md_backend *be, const md_node *node, md_kernel *k)
{
    static const md_prepare_fn own[MD_OP_COUNT] = {[MD_OP_conv2d] = cuda_conv2d,
                                                   [MD_OP_conv2d_dx] = cuda_conv2d_dx,
                                                   [MD_OP_conv2d_dw] = cuda_conv2d_dw,
                                                   [MD_OP_linear] = cuda_linear,
                                                   [MD_OP_matmul] = cuda_matmul,
                                                   [MD_OP_attention] = cuda_attention,
                                                   [MD_OP_attention_grad] = cuda_attention_grad};
    md_status status = (own[node->op] ? own[node->op] : by_cpu)(be, node, k);
    if (status != MD_OK && k->release)
        k->release(k);
    return status;
}

static md_status allocate(md_backend *be, size_t bytes, void **out)
{
    return cpu_of(be)->ops->alloc(cpu_of(be), bytes, out);
}

static void release(md_backend *be, void *p)
{
    cpu_of(be)->ops->release(cpu_of(be), p);
}

static md_status write(md_backend *be, void *dst, md_dtype dtype, const void *host,
                       md_dtype host_dtype, int64_t n)
{
    return cpu_of(be)->ops->write(cpu_of(be), dst, dtype, host, host_dtype, n);
}

static md_status read(md_backend *be, const void *src, md_dtype dtype, void *host,
                      md_dtype host_dtype, int64_t n)
{
    return cpu_of(be)->ops->read(cpu_of(be), src, dtype, host, host_dtype, n);
}

static md_status zero(md_backend *be, void *dst, size_t bytes)
{
    return cpu_of(be)->ops->zero(cpu_of(be), dst, bytes);
}

static md_status sync(md_backend *be)
{
    (void)be;
    return MD_OK;
}

static void close(md_backend *be)
{
    md_backend *cpu = cpu_of(be);
    cuda__tuning_close(cuda__impl(be));
    cpu->ops->close(cpu);
    free(be->impl);
    free(be);
}

md_status vendor_backend_open(const cuda_options *o, md_backend **out)
{
    static md_prepare_fn table[MD_OP_COUNT];
    static const md_backend_ops ops = {.name = "cuda on fake libraries",
                                       .prepare = table,
                                       .elem_bytes = md_dtype_bytes,
                                       .alloc = allocate,
                                       .release = release,
                                       .write = write,
                                       .read = read,
                                       .zero = zero,
                                       .sync = sync,
                                       .close = close,
                                       .host_visible = true};
    for (int i = 0; i < MD_OP_COUNT; i++)
        table[i] = prepare;
    md_backend *be = calloc(1, sizeof *be);
    vendor_backend *v = calloc(1, sizeof *v);
    if (!be || !v || cpu_backend_open(&v->cpu, 1) != MD_OK) {
        free(be);
        free(v);
        MD_FAIL(MD_NOMEM, "out of memory");
    }
    fake.stream = v;
    gpu_host_queue = launch;
    v->impl.launch = (cudaStream_t)(void *)v;
    v->impl.device.stream = v;
    v->impl.device.sm = 90;
    v->impl.device.n_sm = 3;
    strcpy(v->impl.name, "NVIDIA Fake 1/2");
    v->impl.options = *o;
    be->ops = &ops;
    be->impl = v;
    be->threads = 1;
    md_status status = cuda__tuning_open(&v->impl);
    if (status != MD_OK)
        close(be);
    else
        *out = be;
    return status;
}
