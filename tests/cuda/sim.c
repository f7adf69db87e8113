#include "sim.h"
#include "backend/cpu/cpu.h"
#include "backend/cuda/internal.h"
#include <stdlib.h>
#include <string.h>

typedef struct sim {
    cuda_device device; /* first: cuda__device() looks here */
    uint32_t fault;
    md_backend *cpu;
} sim;

static md_backend *cpu_of(md_backend *be)
{
    return ((sim *)be->impl)->cpu;
}

static md_status by_cpu(md_backend *be, const md_node *node, md_kernel *k)
{
    md_backend *cpu = cpu_of(be);
    k->backend = cpu;
    return cpu->ops->prepare[node->op](cpu, node, k);
}

/* Weak: what has no kernel of its own is a vendor library's work on a device, and backend/cpu's
 * here. */
#define MD_OP(name, n_out, vjp)                                                                    \
    __attribute__((weak)) md_status cuda_##name(md_backend *be, const md_node *node, md_kernel *k);
#include "graph/ops.def"
#undef MD_OP

static const md_prepare_fn own[MD_OP_COUNT] = {
#define MD_OP(name, n_out, vjp) [MD_OP_##name] = cuda_##name,
#include "graph/ops.def"
#undef MD_OP
};

/* attention is cuDNN's work where it can be, our own elsewhere; here it is always our own. */
__attribute__((weak)) md_status cuda__flash(md_backend *be, const md_node *node, md_kernel *k);
__attribute__((weak)) md_status cuda__flash_grad(md_backend *be, const md_node *node, md_kernel *k);

static md_prepare_fn kernel_of(md_op op)
{
    return op == MD_OP_attention        ? cuda__flash
           : op == MD_OP_attention_grad ? cuda__flash_grad
                                        : own[op];
}

bool sim_has_kernel(md_op op)
{
    return kernel_of(op) != NULL;
}

static md_status prepare(md_backend *be, const md_node *node, md_kernel *k)
{
    md_status status = (sim_has_kernel(node->op) ? kernel_of(node->op) : by_cpu)(be, node, k);
    if (status != MD_OK && k->release)
        k->release(k);
    return status;
}

static md_prepare_fn table[MD_OP_COUNT];

md_status cuda__launched(const md_kernel *k, int code)
{
    if (code)
        MD_FAIL(MD_DEVICE, "%s: launch error %d", md_op_name(k->node->op), code);
    return MD_OK;
}

static md_status sim_alloc(md_backend *be, size_t bytes, void **out)
{
    return cpu_of(be)->ops->alloc(cpu_of(be), bytes, out);
}

static void sim_release(md_backend *be, void *p)
{
    cpu_of(be)->ops->release(cpu_of(be), p);
}

static md_status sim_write(md_backend *be, void *dst, md_dtype dtype, const void *host,
                           md_dtype host_dtype, int64_t n)
{
    return cpu_of(be)->ops->write(cpu_of(be), dst, dtype, host, host_dtype, n);
}

static md_status sim_sync(md_backend *be)
{
    uint32_t code = ((sim *)be->impl)->fault;
    ((sim *)be->impl)->fault = 0;
    if (code == CUDA_FAULT_EMBEDDING_ID)
        MD_FAIL(MD_BAD_INPUT, "embedding: an id is outside the table");
    return MD_OK;
}

static md_status sim_read(md_backend *be, const void *src, md_dtype dtype, void *host,
                          md_dtype host_dtype, int64_t n)
{
    MD_TRY(sim_sync(be));
    return cpu_of(be)->ops->read(cpu_of(be), src, dtype, host, host_dtype, n);
}

static md_status sim_zero(md_backend *be, void *dst, size_t bytes)
{
    return cpu_of(be)->ops->zero(cpu_of(be), dst, bytes);
}

static void sim_close(md_backend *be)
{
    md_backend *cpu = cpu_of(be);
    cpu->ops->close(cpu);
    free(be->impl);
    free(be);
}

md_status sim_backend_open(md_backend **out)
{
    static const md_backend_ops ops = {.name = "cuda kernels on the host",
                                       .prepare = table,
                                       .elem_bytes = md_dtype_bytes,
                                       .alloc = sim_alloc,
                                       .release = sim_release,
                                       .write = sim_write,
                                       .read = sim_read,
                                       .zero = sim_zero,
                                       .sync = sim_sync,
                                       .close = sim_close,
                                       .host_visible = true,
                                       .fuses_chains = true};
    for (int i = 0; i < MD_OP_COUNT; i++)
        table[i] = prepare;
    md_backend *be = calloc(1, sizeof *be);
    sim *s = calloc(1, sizeof *s);
    if (!be || !s || cpu_backend_open(&s->cpu, 2) != MD_OK) {
        free(be);
        free(s);
        MD_FAIL(MD_NOMEM, "out of memory");
    }
    s->device = (cuda_device){.sm = 90, .n_sm = 3, .fault = &s->fault, .deterministic = true};
    be->ops = &ops;
    be->impl = s;
    be->threads = 2;
    *out = be;
    return MD_OK;
}
