/* attention in bf16 without a mask as two products of cuBLASLt around a softmax of our own, for
   heads that cuDNN does not take: those of a VAE's middle block, one of 512 columns. A chunk of
   queries at a time, whose logits lie in scratch:
     L = scale Q K' in f32   P = softmax(L) in bf16   out = P V
   P is normalised: the second product, summed in f32, is then the result and rounded once. bf16
   has f32's range, so that P / sum keeps as many digits as P; dividing behind the product would
   round a second time, or want the result in f32 and another pass. */
#include "backend/cuda/attention.h"
#include "backend/cuda/linear.h"
#include "backend/cuda/softmax.h"
#include <stdlib.h>

/* A place in scratch is at a multiple of PLACE, as the plan's scratch is. */
enum { MULTIPLE = 8, ALIGNMENT = 16, PLACE = 64, WIDE = 256, LEAST_ROWS = 64 };

static const size_t most_logits = (size_t)64 << 20, most_workspace = (size_t)32 << 20;
static const double least_flops = 1 << 26;

typedef struct attention_products {
    cuda_product logits, out;
    int64_t rows, ld;        /* queries in a chunk; of L and P */
    size_t p_at, library_at; /* bytes into scratch: P, what the products work in */
} attention_products;

/* Heads of more than WIDE columns cost flash their logits several times over, tens of microseconds
   for 64 keys of even one head. For others it is better where three launches a head take longer
   than its products. */
static bool worthwhile(const md_node *n)
{
    const md_tensor *q = n->in[0];
    int64_t head = q->dim[2] / n->attr.attn.heads;
    if (q->dtype != MD_BF16 || n->attr.attn.causal || head % MULTIPLE != 0)
        return false;
    for (int i = 0; i < 3; i++)
        if (cuda__alignment(n->in[i]) < ALIGNMENT)
            return false;
    return cuda__alignment(n->out[0]) >= ALIGNMENT &&
           (head > WIDE ||
            4 * (double)head * (double)q->dim[1] * (double)n->in[1]->dim[1] >= least_flops);
}

static size_t whole(int64_t elements, size_t bytes)
{
    return ((size_t)elements * bytes + PLACE - 1) / PLACE * PLACE;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Queries in a chunk, such that chunks are alike; 0 where `bytes` hold too few. */
static int64_t chunk_rows(int64_t T, int64_t ld, size_t bytes)
{
    const size_t row = (size_t)ld * (sizeof(float) + sizeof(uint16_t));
    const size_t ends = (size_t)2 * PLACE; /* where L and P are rounded up */
    int64_t fit = bytes > ends ? (int64_t)((bytes - ends) / row) : 0;
    int64_t most = least(least(T, fit), (int64_t)(most_logits / ((size_t)ld * sizeof(float))));
    if (most < least(T, LEAST_ROWS))
        return 0;
    int64_t chunks = (T + most - 1) / most, rows = (T + chunks - 1) / chunks;
    return least((rows + MULTIPLE - 1) / MULTIPLE * MULTIPLE, most);
}

/* The two products over [N,T,heads d] with the chunk's rows, for one head. */
static void describe(attention_products *s, cuda_impl *d, const md_node *n, size_t workspace)
{
    int64_t S = n->in[1]->dim[1], D = n->in[0]->dim[2], head = D / n->attr.attn.heads;
    s->logits = (cuda_product){.d = d,
                               .m = s->rows,
                               .n = S,
                               .k = head,
                               .tb = true,
                               .dtype = MD_BF16,
                               .out_dtype = MD_F32,
                               .alpha = (float)cuda__attention_scale(n, n->in[0]),
                               .lda = D,
                               .ldb = D,
                               .ldc = s->ld,
                               .alignment = {ALIGNMENT, ALIGNMENT, 1, 1, PLACE},
                               .limit = workspace};
    s->out = (cuda_product){.d = d,
                            .m = s->rows,
                            .n = head,
                            .k = S,
                            .dtype = MD_BF16,
                            .out_dtype = MD_BF16,
                            .alpha = 1,
                            .lda = s->ld,
                            .ldb = D,
                            .ldc = D,
                            .alignment = {PLACE, ALIGNMENT, 1, 1, ALIGNMENT},
                            .limit = workspace};
}

static void release(md_kernel *k)
{
    attention_products *s = k->state;
    cuda__product_close(&s->out);
    cuda__product_close(&s->logits);
    free(s);
    k->state = NULL;
}

/* q, out: the chunk's first row of the head; k, v: the head's; lse: the chunk's */
static md_status run_chunk(const md_kernel *kernel, const uint16_t *q, const uint16_t *k,
                           const uint16_t *v, uint16_t *out, float *lse, char *scratch)
{
    attention_products *s = kernel->state;
    void *logits = scratch, *p = scratch + s->p_at, *library = scratch + s->library_at;
    const void *const qk[4] = {q, k}, *const pv[4] = {p, v};
    MD_TRY(cuda__product_run(&s->logits, qk, logits, library));
    MD_TRY(cuda__launched(kernel, cuda__softmax_launch(cuda__device(kernel->backend), logits,
                                                       s->rows, s->logits.n, s->ld, p, lse)));
    return cuda__product_run(&s->out, pv, out, library);
}

/* The last chunk reaches back over rows that the one before has done, so that one description of
   the products serves all. */
static md_status run(const md_kernel *kernel, void *const *in, void *const *out, void *scratch)
{
    const attention_products *s = kernel->state;
    const md_node *node = kernel->node;
    const int64_t heads = node->attr.attn.heads, T = node->in[0]->dim[1], S = node->in[1]->dim[1];
    const int64_t D = node->in[0]->dim[2], d = D / heads;
    const uint16_t *q = in[0], *k = in[1], *v = in[2];
    uint16_t *y = out[0];
    float *lse = out[1];
    for (int64_t i = 0; i < node->in[0]->dim[0] * heads; i++) {
        const int64_t n = i / heads, column = i % heads * d, key = n * S * D + column;
        for (int64_t t = 0; t < T; t += s->rows) {
            const int64_t first = least(t, T - s->rows), at = (n * T + first) * D + column;
            MD_TRY(
                run_chunk(kernel, q + at, k + key, v + key, y + at, lse + i * T + first, scratch));
        }
    }
    return MD_OK;
}

md_status cuda__attention_products(md_backend *be, const md_node *node, md_kernel *k)
{
    cuda_impl *d = cuda__impl(be);
    const int64_t T = node->in[0]->dim[1], S = node->in[1]->dim[1];
    const int64_t ld = (S + MULTIPLE - 1) / MULTIPLE * MULTIPLE;
    const size_t total = d->options.workspace_bytes;
    const size_t workspace = total / 4 < most_workspace ? total / 4 : most_workspace;
    const int64_t rows = chunk_rows(T, ld, total - workspace);
    if (!worthwhile(node) || rows == 0)
        return cuda__flash(be, node, k);
    void *state;
    MD_TRY(md_kernel_state(k, sizeof(attention_products), &state));
    attention_products *s = state;
    s->rows = rows;
    s->ld = ld;
    s->p_at = whole(rows * ld, sizeof(float));
    s->library_at = s->p_at + whole(rows * ld, sizeof(uint16_t));
    k->release = release;
    k->run = run;
    describe(s, d, node, workspace);
    MD_TRY(cuda__product_prepare(&s->logits));
    MD_TRY(cuda__product_prepare(&s->out));
    if (s->logits.n_found == 0 || s->out.n_found == 0) {
        release(k);
        k->release = NULL;
        return cuda__flash(be, node, k);
    }
    size_t a = cuda__product_scratch(&s->logits), b = cuda__product_scratch(&s->out);
    k->scratch_bytes = s->library_at + (a > b ? a : b);
    return MD_OK;
}
