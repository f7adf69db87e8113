#include "hidden.h"
#include "backend/cpu/cpu.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { BLOCKS = 4096, THREADS = 2, PAGE = 4096 };

typedef struct block {
    void *p;
    size_t bytes;
} block;

typedef struct hidden {
    md_backend *cpu;
    hidden_fault fault;
    block blocks[BLOCKS];
} hidden;

typedef struct wrapped {
    md_kernel inner;
    int runs;
} wrapped;

static hidden *impl(md_backend *be)
{
    return be->impl;
}

static void protect(md_backend *be, int access)
{
    for (int i = 0; i < BLOCKS; i++)
        if (impl(be)->blocks[i].p)
            (void)mprotect(impl(be)->blocks[i].p, impl(be)->blocks[i].bytes, access);
}

static void show(md_backend *be)
{
    protect(be, PROT_READ | PROT_WRITE);
}

static void hide(md_backend *be)
{
    protect(be, PROT_NONE);
}

static md_status hidden_alloc(md_backend *be, size_t bytes, void **out)
{
    for (int i = 0; i < BLOCKS; i++) {
        block *b = &impl(be)->blocks[i];
        if (b->p)
            continue;
        void *p = NULL;
        bytes = (bytes + PAGE - 1) / PAGE * PAGE;
        if (posix_memalign(&p, PAGE, bytes) != 0)
            MD_FAIL(MD_NOMEM, "hidden: no %zu bytes", bytes);
        *b = (block){p, bytes};
        hide(be);
        be->allocated_bytes += bytes;
        *out = p;
        return MD_OK;
    }
    MD_FAIL(MD_NOMEM, "hidden: more than %d blocks", BLOCKS);
}

static void hidden_release(md_backend *be, void *p)
{
    for (int i = 0; i < BLOCKS; i++) {
        block *b = &impl(be)->blocks[i];
        if (b->p != p)
            continue;
        be->allocated_bytes -= b->bytes;
        (void)mprotect(b->p, b->bytes, PROT_READ | PROT_WRITE);
        free(b->p);
        *b = (block){0};
        return;
    }
}

static md_status hidden_write(md_backend *be, void *dst, md_dtype dtype, const void *host,
                              md_dtype host_dtype, int64_t n)
{
    show(be);
    md_status status = impl(be)->cpu->ops->write(impl(be)->cpu, dst, dtype, host, host_dtype, n);
    hide(be);
    return status;
}

static md_status hidden_read(md_backend *be, const void *src, md_dtype dtype, void *host,
                             md_dtype host_dtype, int64_t n)
{
    show(be);
    md_status status = impl(be)->cpu->ops->read(impl(be)->cpu, src, dtype, host, host_dtype, n);
    hide(be);
    return status;
}

static md_status hidden_zero(md_backend *be, void *dst, size_t bytes)
{
    show(be);
    md_status status = impl(be)->cpu->ops->zero(impl(be)->cpu, dst, bytes);
    hide(be);
    return status;
}

static size_t bytes_of(const md_backend *be, const md_tensor *t)
{
    return (size_t)md_numel(t) * be->ops->elem_bytes(t->dtype);
}

static void spoil_value(const md_tensor *t, void *p)
{
    if (t->dtype == MD_F32)
        *(float *)p += *(float *)p / 256;
    else if (t->dtype == MD_BF16)
        *(uint16_t *)p = (uint16_t)(*(uint16_t *)p + 8); /* 2^-5 to 2^-4: beyond bf16's tolerance */
}

static void do_harm(const md_kernel *k, void *const *in, void *const *out)
{
    const md_node *n = k->node;
    hidden_fault fault = impl(k->backend)->fault;
    if (fault == HIDDEN_GUARD)
        ((unsigned char *)out[0])[bytes_of(k->backend, n->out[0])] = 0; /* not the guard */
    for (int i = n->n_in - 1; fault == HIDDEN_INPUT && i >= 0; i--)
        if (in[i]) {
            *(unsigned char *)in[i] ^= 1;
            break;
        }
    if (fault == HIDDEN_VALUE)
        spoil_value(n->out[0], out[0]);
}

static md_status run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    wrapped *w = k->state;
    md_status status = MD_OK;
    w->runs++;
    show(k->backend);
    if (impl(k->backend)->fault != HIDDEN_SKIP || w->runs == 1)
        status = w->inner.run(&w->inner, in, out, scratch);
    do_harm(k, in, out);
    hide(k->backend);
    return status;
}

static void release(md_kernel *k)
{
    wrapped *w = k->state;
    if (w->inner.release)
        w->inner.release(&w->inner);
    free(w);
}

static md_status prepare(md_backend *be, const md_node *node, md_kernel *k)
{
    md_backend *cpu = impl(be)->cpu;
    wrapped *w = calloc(1, sizeof *w);
    if (!w)
        MD_FAIL(MD_NOMEM, "out of memory");
    w->inner.node = node;
    w->inner.backend = cpu;
    k->state = w;
    k->release = release;
    k->run = run;
    MD_TRY(cpu->ops->prepare[node->op](cpu, node, &w->inner));
    k->scratch_bytes = w->inner.scratch_bytes;
    return MD_OK;
}

static size_t elem_bytes(md_dtype d)
{
    return d == MD_F64 ? 8 : d == MD_BF16 ? 2 : d == MD_U8 ? 1 : 4;
}

static md_status hidden_sync(md_backend *be)
{
    return impl(be)->cpu->ops->sync(impl(be)->cpu);
}

static void hidden_close(md_backend *be)
{
    impl(be)->cpu->ops->close(impl(be)->cpu);
    free(be->impl);
    free(be);
}

static md_prepare_fn table[MD_OP_COUNT];

md_status hidden_backend_open(hidden_fault fault, md_backend **out)
{
    static const md_backend_ops ops = {.name = "cpu, hidden",
                                       .prepare = table,
                                       .elem_bytes = elem_bytes,
                                       .alloc = hidden_alloc,
                                       .release = hidden_release,
                                       .write = hidden_write,
                                       .read = hidden_read,
                                       .zero = hidden_zero,
                                       .sync = hidden_sync,
                                       .close = hidden_close};
    for (int i = 0; i < MD_OP_COUNT; i++)
        table[i] = prepare;
    md_backend *be = calloc(1, sizeof *be);
    hidden *h = calloc(1, sizeof *h);
    if (!be || !h || cpu_backend_open(&h->cpu, THREADS) != MD_OK) {
        free(be);
        free(h);
        MD_FAIL(MD_NOMEM, "out of memory");
    }
    h->fault = fault;
    be->ops = &ops;
    be->impl = h;
    be->threads = THREADS;
    *out = be;
    return MD_OK;
}
