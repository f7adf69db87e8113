/* The backend table of the processor: memory, converting copies, dispatch by op and type. */
#include "backend/cpu/dnnl.h"
#include "backend/cpu/product.h"
#include "backend/cpu/winograd.h"

static const md_prepare_fn f32_table[MD_OP_COUNT] = {
#define MD_OP(name, n_out, vjp) [MD_OP_##name] = cpu_##name,
#include "graph/ops.def"
#undef MD_OP
};

md_status cpu__prepare_f32(md_backend *be, const md_node *node, md_kernel *k)
{
    return f32_table[node->op](be, node, k);
}

/* Kernels that convert on the way, and add a residual. */
static bool converts(const md_node *node)
{
    return cpu__winograd_wanted(node) || cpu__product_wanted(node);
}

/* Their kernels read every type themselves: bf16 is updated in place, only copied, or converted
   block by block. */
static bool takes_any_type(const md_node *node)
{
    return node->op == MD_OP_adamw || node->op == MD_OP_write || node->op == MD_OP_chain ||
           node->op == MD_OP_sumsq || converts(node);
}

static md_status prepare_any(md_backend *be, const md_node *node, md_kernel *k)
{
    bool bf16 = false;
    for (int i = 0; i < node->n_in; i++)
        bf16 |= node->in[i] && node->in[i]->dtype == MD_BF16;
    for (int i = 0; i < node->n_out; i++)
        bf16 |= node->out[i] && node->out[i]->dtype == MD_BF16;
    if (cpu__dnnl_wanted(node, bf16 ? MD_BF16 : MD_F32)) {
        bool taken;
        MD_TRY(cpu__dnnl_prepare(be, node, k, &taken));
        if (taken)
            return MD_OK;
    }
    if (bf16 && cpu__is_step(node->op))
        return cpu__prepare_step(node, k);
    return bf16 && !takes_any_type(node) ? cpu__prepare_bf16(be, node, k)
                                         : cpu__prepare_f32(be, node, k);
}

/* Whether a residual is there which the node's own kernel does not add. */
static bool wants_addition(const md_node *node)
{
    bool there = (node->op == MD_OP_conv2d || node->op == MD_OP_linear) && node->n_in > 3;
    bool adds = converts(node) && !cpu__dnnl_wanted(node, node->out[0]->dtype);
    return there && node->in[3] && !adds;
}

static md_status prepare(md_backend *be, const md_node *node, md_kernel *k)
{
    *k = (md_kernel){.node = node, .backend = be};
    md_status status = wants_addition(node) ? cpu__prepare_residual(be, node, prepare, k)
                                            : prepare_any(be, node, k);
    if (status != MD_OK && k->release)
        k->release(k);
    return status;
}

#define PREPARE_4  prepare, prepare, prepare, prepare
#define PREPARE_16 PREPARE_4, PREPARE_4, PREPARE_4, PREPARE_4
static const md_prepare_fn prepare_table[64] = {PREPARE_16, PREPARE_16, PREPARE_16, PREPARE_16};
_Static_assert(MD_OP_COUNT <= 64, "prepare_table is too short");

/* A cache line in front of each block remembers its size, for the count of held bytes. */
static md_status be_alloc(md_backend *be, size_t bytes, void **out)
{
    *out = NULL;
    size_t size = ((bytes + 63) & ~(size_t)63) + 64;
    void *p = NULL;
    if (size < bytes || posix_memalign(&p, 64, size) != 0)
        MD_FAIL(MD_NOMEM, "cpu: cannot allocate %zu bytes (%zu held)", bytes, be->allocated_bytes);
    memcpy(p, &bytes, sizeof bytes);
    be->allocated_bytes += bytes;
    *out = (char *)p + 64;
    return MD_OK;
}

static void be_release(md_backend *be, void *p)
{
    if (!p)
        return;
    size_t bytes;
    memcpy(&bytes, (char *)p - 64, sizeof bytes);
    be->allocated_bytes -= bytes;
    free((char *)p - 64);
}

/* Large arrays of weights come as f32 or bf16: those on all threads. */
static void convert(void *dst, md_dtype to, const void *src, md_dtype from, int64_t n, int threads)
{
    if (to == MD_F32 && from == MD_BF16)
        cpu__f32_from_bf16(dst, src, n, threads);
    else if (to == MD_BF16 && from == MD_F32)
        cpu__bf16_from_f32(dst, src, n, threads);
    else
        md_convert_host(dst, to, src, from, n);
}

static md_status be_write(md_backend *be, void *dst, md_dtype dtype, const void *host,
                          md_dtype host_dtype, int64_t n)
{
    if (!md_convertible(dtype, host_dtype))
        MD_FAIL(MD_SHAPE, "cpu: cannot copy %s from the host into %s", md_dtype_name(host_dtype),
                md_dtype_name(dtype));
    convert(dst, dtype, host, host_dtype, n, be->threads);
    return MD_OK;
}

static md_status be_read(md_backend *be, const void *src, md_dtype dtype, void *host,
                         md_dtype host_dtype, int64_t n)
{
    if (!md_convertible(dtype, host_dtype))
        MD_FAIL(MD_SHAPE, "cpu: cannot copy %s to the host as %s", md_dtype_name(dtype),
                md_dtype_name(host_dtype));
    convert(host, host_dtype, src, dtype, n, be->threads);
    return MD_OK;
}

static md_status be_zero(md_backend *be, void *dst, size_t bytes)
{
    (void)be;
    memset(dst, 0, bytes);
    return MD_OK;
}

static md_status be_sync(md_backend *be)
{
    (void)be;
    return MD_OK;
}

static void be_close(md_backend *be)
{
    free(be);
}

md_status cpu_backend_open(md_backend **out, int threads)
{
    static const md_backend_ops ops = {.name = "cpu",
                                       .prepare = prepare_table,
                                       .elem_bytes = md_dtype_bytes,
                                       .alloc = be_alloc,
                                       .release = be_release,
                                       .write = be_write,
                                       .read = be_read,
                                       .zero = be_zero,
                                       .sync = be_sync,
                                       .close = be_close,
                                       .host_visible = true,
                                       .fuses_residual = true,
                                       .fuses_chains = true};
    *out = NULL;
    if (threads < 0)
        MD_FAIL(MD_USAGE, "cpu: %d threads asked for, need 0 (all) or more", threads);
    md_backend *be = calloc(1, sizeof *be);
    if (!be)
        MD_FAIL(MD_NOMEM, "cpu: out of memory");
    be->ops = &ops;
    be->threads = threads ? threads : omp_get_num_procs();
    /* A smaller team than asked for would leave parts of a kernel undone. */
    omp_set_dynamic(0);
    *out = be;
    return MD_OK;
}

const char *cpu_backend_lacks(void)
{
#define LACKS(set)                                                                                 \
    if (!__builtin_cpu_supports(set))                                                              \
    return set
#ifdef __AVX2__
    LACKS("avx2");
#endif
#ifdef __FMA__
    LACKS("fma");
#endif
#ifdef __AVX512F__
    LACKS("avx512f");
#endif
#ifdef __AVX512BW__
    LACKS("avx512bw");
#endif
#ifdef __AVX512VL__
    LACKS("avx512vl");
#endif
#undef LACKS
    return "";
}
