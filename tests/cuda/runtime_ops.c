/* Weak: what has no kernel of its own here (on a device: cuDNN, cuBLASLt) is put on the fake's
   stream as backend/cpu's kernel, so that whole plans run through backend/cuda's table. */
#include "runtime_ops.h"
#include "backend/cpu/cpu.h"
#include "backend/cuda/vendor.h"
#include "fake.h"
#include <stdlib.h>

static md_backend *cpu;

/* A kernel of backend/cpu, held by the kernel around it and by launches that have not run: as on a
   device, a launch outlives the kernel. */
typedef struct inner {
    md_kernel kernel;
    int holders;
} inner;

typedef struct launch {
    inner *inner;
    void *in[MD_MAX_IN], *out[MD_MAX_OUT], *scratch;
} launch;

static void let_go(inner *i)
{
    if (--i->holders > 0)
        return;
    if (i->kernel.release)
        i->kernel.release(&i->kernel);
    free(i);
}

static int launch_run(void *closure)
{
    const launch *l = closure;
    const md_kernel *k = &l->inner->kernel;
    return k->run(k, l->in, l->out, l->scratch) != MD_OK;
}

static void launch_drop(void *closure)
{
    launch *l = closure;
    let_go(l->inner);
    free(l);
}

static md_status put(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    launch *l = calloc(1, sizeof *l);
    if (!l)
        MD_FAIL(MD_NOMEM, "out of memory");
    l->inner = k->state;
    l->inner->holders++;
    l->scratch = scratch;
    for (int i = 0; i < k->node->n_in; i++)
        l->in[i] = in[i];
    for (int i = 0; i < k->node->n_out; i++)
        l->out[i] = out[i];
    (void)fake_enqueue(cuda__device(k->backend)->stream, md_op_name(k->node->op), launch_run,
                       launch_drop, l);
    return cuda__launched(k, (int)cudaGetLastError()); /* as gpu.cuh: blamed for what came before */
}

static void release(md_kernel *k)
{
    if (k->state)
        let_go(k->state);
    k->state = NULL;
}

static md_status by_cpu(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    void *state;
    if (!cpu)
        MD_TRY(cpu_backend_open(&cpu, 1));
    MD_TRY(md_kernel_state(k, sizeof(inner), &state));
    inner *i = state;
    MD_TRY(cpu->ops->prepare[node->op](cpu, node, &i->kernel));
    i->holders = 1;
    k->run = put;
    k->release = release;
    k->scratch_bytes = i->kernel.scratch_bytes;
    return MD_OK;
}

void runtime_ops_close(void)
{
    if (cpu)
        cpu->ops->close(cpu);
    cpu = NULL;
}

#define MD_OP(name, n_out, vjp)                                                                    \
    __attribute__((weak)) md_status cuda_##name(md_backend *be, const md_node *node, md_kernel *k) \
    {                                                                                              \
        return by_cpu(be, node, k);                                                                \
    }
#include "graph/ops.def"
#undef MD_OP

/* tune.c's, for tests without it. */
__attribute__((weak)) md_status cuda__tuning_open(cuda_impl *d)
{
    (void)d;
    return MD_OK;
}

__attribute__((weak)) void cuda__tuning_close(cuda_impl *d)
{
    (void)d;
}
