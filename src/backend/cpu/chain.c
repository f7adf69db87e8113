/* chain: the plan's elementwise nodes in one pass. Every step is a loop over a block that stays in
   the first-level cache; the arithmetic is that of elementwise.c, so that f32 results are the same
   to the bit. Reads and writes bf16 itself. */
#include "graph/chain.h"
#include "backend/cpu/act.h"
#include "backend/cpu/internal.h"
#include "base/bf16.h"

enum { BLOCK = 512, PIECE = 16 * BLOCK };

/* How an input comes: as it lies; one element for all; gathered along the output's dims. */
typedef enum input_kind { DENSE, ONE, SPREAD } input_kind;

typedef struct chain {
    md_chain_shape shape;
    input_kind kind[MD_CHAIN_REGS];
    const md_chain *program;
    md_chain own; /* where the node is no chain: its one step */
} chain;

/* Inputs that are not f32 as it lies, and results, of one block. */
typedef struct chain_blocks {
    float input[MD_CHAIN_REGS][BLOCK], result[MD_CHAIN_REGS][BLOCK];
} chain_blocks;

/* y[i] = value, of the vectors a and b, over n elements. */
#define STEP(value)                                                                                \
    do {                                                                                           \
        int64_t i = 0;                                                                             \
        for (; i + VL <= n; i += VL) {                                                             \
            vf a = v_load(pa + i), b = v_load(pb + i);                                             \
            (void)b;                                                                               \
            v_store(y + i, value);                                                                 \
        }                                                                                          \
        if (i < n) {                                                                               \
            vf a = v_load_n(pa + i, (int)(n - i)), b = v_load_n(pb + i, (int)(n - i));             \
            (void)b;                                                                               \
            v_store_n(y + i, value, (int)(n - i));                                                 \
        }                                                                                          \
    } while (0)

static void act_step(const md_chain_step *s, const float *pa, float *y, int64_t n)
{
    const float *pb = pa;
    vf lo = v_set((float)s->attr.act.lo), hi = v_set((float)s->attr.act.hi);
#define CALL(kind) STEP(act_value(kind, a, lo, hi))
    ACT_CASES(s->attr.act.kind, CALL)
#undef CALL
}

static void act_grad_step(const md_chain_step *s, const float *pa, const float *pb, float *y,
                          int64_t n)
{
    vf lo = v_set((float)s->attr.act.lo), hi = v_set((float)s->attr.act.hi);
#define CALL(kind) STEP(a *act_slope(kind, b, lo, hi))
    ACT_CASES(s->attr.act.kind, CALL)
#undef CALL
}

static void run_step(const md_chain_step *s, const float *pa, const float *pb, float *y, int64_t n)
{
    vf alpha, beta;
    switch (s->op) {
    case MD_OP_add:
        STEP(a + b);
        break;
    case MD_OP_sub:
        STEP(a - b);
        break;
    case MD_OP_mul:
        STEP(a * b);
        break;
    case MD_OP_affine:
        alpha = v_set((float)s->attr.affine.alpha), beta = v_set((float)s->attr.affine.beta);
        STEP(v_fma(alpha, a, beta));
        break;
    case MD_OP_act:
        act_step(s, pa, y, n);
        break;
    case MD_OP_act_grad:
        act_grad_step(s, pa, pb, y, n);
        break;
    default: /* cast */
        STEP(a);
    }
}

/* n elements of x, f32 or bf16, from `offset` on; or n times the one there. */
static void load(float *to, const void *x, md_dtype dtype, int64_t offset, int64_t n, bool one)
{
    const uint16_t *half = (const uint16_t *)x + offset;
    const float *full = (const float *)x + offset;
    if (one) {
        float v = dtype == MD_BF16 ? md_bf16_to_f32(*half) : *full;
        for (int64_t i = 0; i < n; i++)
            to[i] = v;
    } else if (dtype == MD_BF16) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            to[i] = md_bf16_to_f32(half[i]);
    } else {
        memcpy(to, full, (size_t)n * sizeof *to);
    }
}

static void store_bf16(uint16_t *to, const float *x, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        to[i] = md_f32_to_bf16(x[i]);
}

/* Elements at.. of input j as they lie along the output: row by row of its last dim. The divisions
   only once: then every digit counts on. */
static void gather(const md_chain_shape *s, int j, const void *x, md_dtype dtype, int64_t at,
                   int64_t n, float *to)
{
    const int in = MD_MAX_DIMS - 1;
    const int64_t *stride = s->stride[j];
    int64_t digit[MD_MAX_DIMS], offset = 0, left = at;
    for (int i = in; i >= 0; i--) {
        digit[i] = left % s->dim[i];
        left /= s->dim[i];
        offset += digit[i] * stride[i];
    }
    for (int64_t done = 0; done < n;) {
        int64_t len = cpu__min(s->dim[in] - digit[in], n - done);
        load(to + done, x, dtype, offset, len, stride[in] == 0);
        done += len;
        digit[in] += len;
        offset += len * stride[in];
        for (int i = in; i > 0 && digit[i] == s->dim[i]; i--) {
            offset += stride[i - 1] - digit[i] * stride[i];
            digit[i] = 0;
            digit[i - 1]++;
        }
    }
}

static void run_block(const md_kernel *k, void *const *in, void *out, int64_t at, int64_t n,
                      chain_blocks *w)
{
    const md_node *node = k->node;
    const chain *s = k->state;
    const md_chain *c = s->program;
    const float *r[MD_CHAIN_REGS];
    for (int j = 0; j < node->n_in; j++) {
        md_dtype dtype = node->in[j]->dtype;
        r[j] = w->input[j];
        if (s->kind[j] == DENSE && dtype == MD_F32)
            r[j] = (const float *)in[j] + at;
        else if (s->kind[j] == DENSE)
            load(w->input[j], in[j], dtype, at, n, false);
        else if (s->kind[j] == SPREAD)
            gather(&s->shape, j, in[j], dtype, at, n, w->input[j]);
    }
    bool direct = node->out[0]->dtype == MD_F32;
    for (int i = 0; i < c->n; i++) {
        const md_chain_step *t = &c->step[i];
        float *y = direct && i == c->n - 1 ? (float *)out + at : w->result[t->to];
        run_step(t, r[t->a], r[t->b < 0 ? t->a : t->b], y, n);
        r[t->to] = y;
    }
    if (!direct)
        store_bf16((uint16_t *)out + at, r[c->step[c->n - 1].to], n);
}

static md_status run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    const md_node *node = k->node;
    const chain *s = k->state;
    int64_t n = md_numel(node->out[0]);
#pragma omp parallel for num_threads(cpu__threads_for(k, n))
    for (int64_t piece = 0; piece < n; piece += PIECE) {
        chain_blocks w;
        for (int j = 0; j < node->n_in; j++)
            if (s->kind[j] == ONE)
                load(w.input[j], in[j], node->in[j]->dtype, 0, cpu__min(BLOCK, n), true);
        int64_t end = cpu__min(n, piece + PIECE);
        for (int64_t at = piece; at < end; at += BLOCK)
            run_block(k, in, out[0], at, cpu__min(BLOCK, end - at), &w);
    }
    return MD_OK;
}

static md_status prepare(const md_node *node, md_kernel *k, chain **out)
{
    void *state;
    MD_TRY(md_kernel_state(k, sizeof(chain), &state));
    chain *s = *out = state;
    md_chain_fold(node, &s->shape);
    for (int j = 0; j < node->n_in; j++) {
        bool all = md_numel(node->in[j]) == md_numel(node->out[0]);
        s->kind[j] = all ? DENSE : md_numel(node->in[j]) == 1 ? ONE : SPREAD;
    }
    k->run = run;
    return MD_OK;
}

md_status cpu_chain(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    chain *s;
    MD_TRY(prepare(node, k, &s));
    s->program = node->attr.chain;
    return MD_OK;
}

bool cpu__is_step(md_op op)
{
    return op == MD_OP_add || op == MD_OP_sub || op == MD_OP_mul || op == MD_OP_affine ||
           op == MD_OP_act || op == MD_OP_act_grad || op == MD_OP_cast;
}

md_status cpu__prepare_step(const md_node *node, md_kernel *k)
{
    chain *s;
    MD_TRY(prepare(node, k, &s));
    s->own = (md_chain){
        .n = 1,
        .step[0] = {.op = node->op, .a = 0, .b = node->n_in > 1 ? 1 : -1, .attr = node->attr}};
    s->program = &s->own;
    return MD_OK;
}
