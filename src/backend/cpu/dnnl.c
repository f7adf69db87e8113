/* The thin layer over oneDNN 2.x and 3.x. A job is one primitive with plain activations; weights
   take the layout that the primitive likes best and are reordered on every run, since they may have
   changed. All memory comes from the plan's scratch. */
#include "backend/cpu/dnnl.h"
#include "backend/cpu/winograd.h"
#include <oneapi/dnnl/dnnl.h>

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t desc;
typedef const_dnnl_memory_desc_t desc_ref;
#define REF(d) (d)
#else
typedef dnnl_memory_desc_t desc;
typedef const dnnl_memory_desc_t *desc_ref;
#define REF(d) (&(d))
#endif

enum { SRC, WEIGHTS, BIAS, DST, N_ARGS }; /* as oneDNN names them, whatever is computed */
enum { RESULT = MD_MAX_IN };              /* a position behind all inputs: the node's output */

typedef struct job {
    dnnl_primitive_t primitive, reorder;
    dnnl_memory_t arg[N_ARGS]; /* weights in the primitive's layout */
    dnnl_memory_t plain, scratchpad;
    int arg_id[N_ARGS], n_args;
    bool weights_out;          /* reorder after the primitive, not before */
    size_t weights_at, pad_at; /* scratch offsets */
    int position[N_ARGS];      /* which of the node's tensors: input i, RESULT, or -1: none */
} job;

static cpu_dnnl_policy policy = CPU_DNNL_AUTO;
static dnnl_engine_t engine;
static dnnl_stream_t stream;

void cpu__dnnl_set_policy(cpu_dnnl_policy p)
{
    policy = p;
}

/* Measured on AVX2 (README.md): a short inner loop is where our convolution loses. */
static bool few_channels(const md_node *node)
{
    switch (node->op) {
    case MD_OP_conv2d:
        return node->in[0]->dim[3] < 32;
    case MD_OP_conv2d_dx:
        return node->in[0]->dim[3] < 32;
    case MD_OP_conv2d_dw:
        return node->in[1]->dim[3] < 8;
    default:
        return false;
    }
}

bool cpu__dnnl_wanted(const md_node *node, md_dtype dtype)
{
    bool conv =
        node->op == MD_OP_conv2d || node->op == MD_OP_conv2d_dx || node->op == MD_OP_conv2d_dw;
    if (policy == CPU_DNNL_NEVER || !(conv || node->op == MD_OP_linear || node->op == MD_OP_matmul))
        return false;
    if (policy == CPU_DNNL_ALWAYS)
        return true;
    unsigned isa = (unsigned)dnnl_get_effective_cpu_isa();
    unsigned need =
        (unsigned)(dtype == MD_BF16 ? dnnl_cpu_isa_avx512_core_bf16 : dnnl_cpu_isa_avx512_core);
    return (isa & need) == need ||
           (dtype == MD_F32 && few_channels(node) && !cpu__winograd_wanted(node));
}

static md_status check(dnnl_status_t st, const md_node *node, const char *what)
{
    if (st == dnnl_success)
        return MD_OK;
    MD_FAIL(st == dnnl_out_of_memory ? MD_NOMEM : MD_DEVICE, "%s at '%s': oneDNN: %s failed (%d)",
            md_op_name(node->op), node->path, what, (int)st);
}

/* ---- descriptors */

static dnnl_status_t desc_tag(desc *d, int n, const dnnl_dim_t *dim, dnnl_data_type_t type,
                              dnnl_format_tag_t tag)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_memory_desc_create_with_tag(d, n, dim, type, tag);
#else
    return dnnl_memory_desc_init_by_tag(d, n, dim, type, tag);
#endif
}

static void desc_free(desc *d, int n)
{
#if DNNL_VERSION_MAJOR >= 3
    for (int i = 0; i < n; i++)
        if (d[i])
            dnnl_memory_desc_destroy(d[i]);
#else
    (void)d;
    (void)n;
#endif
}

typedef struct conv_args {
    dnnl_dims_t stride, pad_l, pad_r;
} conv_args;

/* Creates the primitive descriptor of any convolution; the backward ones need a forward hint. */
static dnnl_status_t conv_desc(md_op op, desc *d, bool bias, const conv_args *a,
                               dnnl_primitive_attr_t attr, dnnl_primitive_desc_t *out)
{
    dnnl_primitive_desc_t hint = NULL;
    dnnl_dims_t dilate = {0, 0};
    dnnl_alg_kind_t alg = dnnl_convolution_direct;
    dnnl_status_t st;
    (void)dilate;
#if DNNL_VERSION_MAJOR >= 3
    st = dnnl_convolution_forward_primitive_desc_create(
        &hint, engine, op == MD_OP_conv2d ? dnnl_forward_inference : dnnl_forward_training, alg,
        d[SRC], d[WEIGHTS], bias ? d[BIAS] : NULL, d[DST], a->stride, dilate, a->pad_l, a->pad_r,
        op == MD_OP_conv2d ? attr : NULL);
    if (op == MD_OP_conv2d || st != dnnl_success) {
        *out = hint;
        return st;
    }
    if (op == MD_OP_conv2d_dx)
        st = dnnl_convolution_backward_data_primitive_desc_create(
            out, engine, alg, d[SRC], d[WEIGHTS], d[DST], a->stride, dilate, a->pad_l, a->pad_r,
            hint, attr);
    else
        st = dnnl_convolution_backward_weights_primitive_desc_create(
            out, engine, alg, d[SRC], d[WEIGHTS], NULL, d[DST], a->stride, dilate, a->pad_l,
            a->pad_r, hint, attr);
#else
    dnnl_convolution_desc_t fwd, bwd;
    st = dnnl_convolution_forward_desc_init(
        &fwd, op == MD_OP_conv2d ? dnnl_forward_inference : dnnl_forward_training, alg, &d[SRC],
        &d[WEIGHTS], bias ? &d[BIAS] : NULL, &d[DST], a->stride, a->pad_l, a->pad_r);
    if (st == dnnl_success)
        st =
            dnnl_primitive_desc_create(&hint, &fwd, op == MD_OP_conv2d ? attr : NULL, engine, NULL);
    if (op == MD_OP_conv2d || st != dnnl_success) {
        *out = hint;
        return st;
    }
    if (op == MD_OP_conv2d_dx)
        st = dnnl_convolution_backward_data_desc_init(&bwd, alg, &d[SRC], &d[WEIGHTS], &d[DST],
                                                      a->stride, a->pad_l, a->pad_r);
    else
        st = dnnl_convolution_backward_weights_desc_init(&bwd, alg, &d[SRC], &d[WEIGHTS], NULL,
                                                         &d[DST], a->stride, a->pad_l, a->pad_r);
    if (st == dnnl_success)
        st = dnnl_primitive_desc_create(out, &bwd, attr, engine, hint);
#endif
    dnnl_primitive_desc_destroy(hint);
    return st;
}

static dnnl_status_t matmul_desc(desc *d, bool bias, dnnl_primitive_attr_t attr,
                                 dnnl_primitive_desc_t *out)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_matmul_primitive_desc_create(out, engine, d[SRC], d[WEIGHTS], bias ? d[BIAS] : NULL,
                                             d[DST], attr);
#else
    dnnl_matmul_desc_t m;
    dnnl_status_t st =
        dnnl_matmul_desc_init(&m, &d[SRC], &d[WEIGHTS], bias ? &d[BIAS] : NULL, &d[DST]);
    return st == dnnl_success ? dnnl_primitive_desc_create(out, &m, attr, engine, NULL) : st;
#endif
}

/* ---- a job from a primitive descriptor */

static void job_release(md_kernel *k)
{
    job *j = k->state;
    if (!j)
        return;
    for (int i = 0; i < N_ARGS; i++)
        dnnl_memory_destroy(j->arg[i]);
    dnnl_memory_destroy(j->plain);
    dnnl_memory_destroy(j->scratchpad);
    dnnl_primitive_destroy(j->primitive);
    dnnl_primitive_destroy(j->reorder);
    free(j);
    k->state = NULL;
}

static void *tensor_at(int position, void *const *in, void *const *out)
{
    return position == RESULT ? out[0] : in[position];
}

static md_status job_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    const job *j = k->state;
    dnnl_exec_arg_t args[N_ARGS + 1], move[2];
    if (omp_get_max_threads() != k->backend->threads)
        omp_set_num_threads(k->backend->threads);
    int n = 0;
    for (int i = 0; i < N_ARGS; i++) {
        if (!j->arg[i])
            continue;
        bool moved = i == WEIGHTS && j->reorder;
        void *p = moved ? cpu__at(scratch, j->weights_at) : tensor_at(j->position[i], in, out);
        MD_TRY(check(dnnl_memory_set_data_handle(j->arg[i], p), k->node, "setting an address"));
        args[n++] = (dnnl_exec_arg_t){j->arg_id[i], j->arg[i]};
    }
    MD_TRY(check(dnnl_memory_set_data_handle(j->scratchpad, cpu__at(scratch, j->pad_at)), k->node,
                 "setting an address"));
    args[n++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, j->scratchpad};
    if (j->reorder) {
        void *p = tensor_at(j->position[WEIGHTS], in, out);
        MD_TRY(check(dnnl_memory_set_data_handle(j->plain, p), k->node, "setting an address"));
        move[0] = (dnnl_exec_arg_t){DNNL_ARG_FROM, j->weights_out ? j->arg[WEIGHTS] : j->plain};
        move[1] = (dnnl_exec_arg_t){DNNL_ARG_TO, j->weights_out ? j->plain : j->arg[WEIGHTS]};
    }
    if (j->reorder && !j->weights_out)
        MD_TRY(check(dnnl_primitive_execute(j->reorder, stream, 2, move), k->node, "reordering"));
    MD_TRY(check(dnnl_primitive_execute(j->primitive, stream, n, args), k->node, "running"));
    if (j->reorder && j->weights_out)
        MD_TRY(check(dnnl_primitive_execute(j->reorder, stream, 2, move), k->node, "reordering"));
    return MD_OK;
}

static dnnl_status_t make_reorder(job *j, desc_ref from, desc_ref to)
{
    dnnl_primitive_desc_t pd;
    dnnl_status_t st = dnnl_reorder_primitive_desc_create(&pd, from, engine, to, engine, NULL);
    if (st == dnnl_success) {
        st = dnnl_primitive_create(&j->reorder, pd);
        dnnl_primitive_desc_destroy(pd);
    }
    return st;
}

/* Memories, reorder and primitive for pd; `plain` describes the node's own weights. */
static md_status job_fill(job *j, const md_node *node, dnnl_primitive_desc_t pd, desc *d,
                          const dnnl_query_t *query, desc plain, md_kernel *k)
{
    for (int i = 0; i < N_ARGS; i++) {
        if (j->position[i] < 0)
            continue;
        desc_ref ref = query[i] ? dnnl_primitive_desc_query_md(pd, query[i], 0) : REF(d[i]);
        MD_TRY(check(dnnl_memory_create(&j->arg[i], ref, engine, DNNL_MEMORY_NONE), node,
                     "making a memory object"));
        if (i != WEIGHTS || dnnl_memory_desc_equal(ref, REF(plain)))
            continue;
        MD_TRY(check(
            make_reorder(j, j->weights_out ? ref : REF(plain), j->weights_out ? REF(plain) : ref),
            node, "making a reorder"));
        MD_TRY(check(dnnl_memory_create(&j->plain, REF(plain), engine, DNNL_MEMORY_NONE), node,
                     "making a memory object"));
        j->pad_at = (dnnl_memory_desc_get_size(ref) + 63) & ~(size_t)63;
    }
    desc_ref pad = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    MD_TRY(check(dnnl_memory_create(&j->scratchpad, pad, engine, DNNL_MEMORY_NONE), node,
                 "making a memory object"));
    MD_TRY(check(dnnl_primitive_create(&j->primitive, pd), node, "making a primitive"));
    k->scratch_bytes = j->pad_at + dnnl_memory_desc_get_size(pad) + 64;
    k->run = job_run;
    return MD_OK;
}

static dnnl_status_t make_conv(const md_node *node, job *j, desc *d, desc *plain,
                               dnnl_data_type_t type, dnnl_primitive_attr_t attr,
                               dnnl_query_t *query, dnnl_primitive_desc_t *pd)
{
    bool fwd = node->op == MD_OP_conv2d, dx = node->op == MD_OP_conv2d_dx;
    const md_tensor *x = fwd ? node->in[0] : dx ? node->out[0] : node->in[1];
    const md_tensor *w = fwd || dx ? node->in[1] : node->out[0];
    const md_tensor *y = fwd ? node->out[0] : node->in[0];
    bool bias = fwd && node->in[2];
    static const int ids[3][N_ARGS] = {
        {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DST},
        {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, 0, DNNL_ARG_DIFF_DST},
        {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, 0, DNNL_ARG_DIFF_DST}};
    static const int positions[3][N_ARGS] = {
        {0, 1, 2, RESULT}, {RESULT, 1, -1, 0}, {1, RESULT, -1, 0}};
    memcpy(j->arg_id, ids[fwd ? 0 : dx ? 1 : 2], sizeof j->arg_id);
    memcpy(j->position, positions[fwd ? 0 : dx ? 1 : 2], sizeof j->position);
    if (!bias)
        j->position[BIAS] = -1;
    j->weights_out = !fwd && !dx;
    query[WEIGHTS] = j->weights_out ? dnnl_query_diff_weights_md : dnnl_query_weights_md;
    dnnl_dims_t xd = {x->dim[0], x->dim[3], x->dim[1], x->dim[2]};
    dnnl_dims_t wd = {w->dim[0], w->dim[3], w->dim[1], w->dim[2]};
    dnnl_dims_t yd = {y->dim[0], y->dim[3], y->dim[1], y->dim[2]}, bd = {w->dim[0]};
    dnnl_status_t st = desc_tag(&d[SRC], 4, xd, type, dnnl_nhwc);
    st = st ? st : desc_tag(&d[WEIGHTS], 4, wd, type, dnnl_format_tag_any);
    st = st ? st : desc_tag(&d[BIAS], 1, bd, type, dnnl_a);
    st = st ? st : desc_tag(&d[DST], 4, yd, type, dnnl_nhwc);
    st = st ? st : desc_tag(plain, 4, wd, type, dnnl_ohwi);
    const int s = node->attr.conv.stride;
    conv_args a = {{s, s},
                   {node->attr.conv.pad_t, node->attr.conv.pad_l},
                   {node->attr.conv.pad_b, node->attr.conv.pad_r}};
    return st ? st : conv_desc(node->op, d, bias, &a, attr, pd);
}

static dnnl_status_t make_matmul(const md_node *node, job *j, desc *d, desc *plain,
                                 dnnl_data_type_t type, dnnl_primitive_attr_t attr,
                                 dnnl_query_t *query, dnnl_primitive_desc_t *pd)
{
    bool linear = node->op == MD_OP_linear, bias = linear && node->in[2];
    bool ta = !linear && node->attr.matmul.ta, tb = linear || node->attr.matmul.tb;
    const md_tensor *c = node->out[0];
    int64_t n = c->dim[c->ndim - 1], m = md_numel(c) / n, k = md_numel(node->in[0]) / m;
    dnnl_dims_t ad = {m, k}, bd = {k, n}, cd = {m, n}, biasd = {1, n};
    j->arg_id[SRC] = DNNL_ARG_SRC, j->arg_id[WEIGHTS] = DNNL_ARG_WEIGHTS;
    j->arg_id[BIAS] = DNNL_ARG_BIAS, j->arg_id[DST] = DNNL_ARG_DST;
    j->position[SRC] = 0, j->position[WEIGHTS] = 1, j->position[BIAS] = bias ? 2 : -1;
    j->position[DST] = RESULT;
    query[WEIGHTS] = dnnl_query_weights_md;
    dnnl_status_t st = desc_tag(&d[SRC], 2, ad, type, ta ? dnnl_ba : dnnl_ab);
    st = st ? st : desc_tag(&d[WEIGHTS], 2, bd, type, dnnl_format_tag_any);
    st = st ? st : desc_tag(&d[BIAS], 2, biasd, type, dnnl_ab);
    st = st ? st : desc_tag(&d[DST], 2, cd, type, dnnl_ab);
    st = st ? st : desc_tag(plain, 2, bd, type, tb ? dnnl_ba : dnnl_ab);
    return st ? st : matmul_desc(d, bias, attr, pd);
}

static dnnl_status_t open_engine(void)
{
    dnnl_status_t st = engine ? dnnl_success : dnnl_engine_create(&engine, dnnl_cpu, 0);
    if (st == dnnl_success && !stream)
        st = dnnl_stream_create(&stream, engine, dnnl_stream_default_flags);
    return st;
}

md_status cpu__dnnl_prepare(md_backend *be, const md_node *node, md_kernel *k, bool *taken)
{
    *taken = false;
    MD_TRY(check(open_engine(), node, "opening the engine"));
    /* oneDNN plans for the number of threads that it finds when a primitive is made. */
    omp_set_num_threads(be->threads);
    void *state;
    MD_TRY(md_kernel_state(k, sizeof(job), &state));
    k->release = job_release;
    desc d[N_ARGS], plain;
    memset(d, 0, sizeof d);
    memset(&plain, 0, sizeof plain);
    dnnl_query_t query[N_ARGS] = {0};
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_data_type_t type = node->in[0]->dtype == MD_BF16 ? dnnl_bf16 : dnnl_f32;
    dnnl_status_t st = dnnl_primitive_attr_create(&attr);
    st = st ? st : dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    bool conv = node->op != MD_OP_linear && node->op != MD_OP_matmul;
    if (st == dnnl_success)
        st = (conv ? make_conv : make_matmul)(node, state, d, &plain, type, attr, query, &pd);
    const char *impl = "ref";
    if (st == dnnl_success)
        st = dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &impl);
    md_status status = MD_OK;
    if (st == dnnl_success && !strstr(impl, "ref")) {
        status = job_fill(state, node, pd, d, query, plain, k);
        *taken = status == MD_OK;
    }
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    dnnl_primitive_attr_destroy(attr);
    desc_free(d, N_ARGS);
    desc_free(&plain, 1);
    if (!*taken) {
        job_release(k);
        k->release = NULL;
        k->scratch_bytes = 0;
    }
    return status;
}
