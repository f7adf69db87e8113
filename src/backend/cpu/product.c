/* The product behind convolution and linear layers. A tile is 6 outputs x 16 rows, so that weights
   are broadcast from their own memory and never packed: at few rows that would cost as much as the
   product. A task holds ROWS rows of one tap and span, and sums for GROUP outputs. */
#include "backend/cpu/product.h"
#include "backend/cpu/gemm.h"

enum {
    ROWS = CPU_PRODUCT_ROWS,
    PANELS = ROWS / CPU_NR,
    MAX_SPAN = 320, /* of k at a time */
    BLOCK = 96,     /* outputs whose weights of a span stay in the second-level cache, */
    GROUP = 320,    /* and whose sums do; where outputs lie side by side, 96 of k x 320 outputs */
    LARGE = 32768   /* weights that are not worth packing */
};

typedef struct work {
    float *panels;  /* [PANELS][span][16] */
    float *weights; /* [BLOCK][span], or [span][GROUP] where w_out is 1 */
    float *sums;    /* [GROUP][ROWS] */
} work;

bool cpu__product_wanted(const md_node *node)
{
    const md_tensor *w = node->in[1], *y = node->out[0];
    switch (node->op) {
    case MD_OP_conv2d:
        return w->dim[3] >= 64 && w->dim[0] >= 32 && md_numel(w) >= LARGE;
    case MD_OP_conv2d_dx:
        return w->dim[0] >= 64 && w->dim[3] >= 32 && md_numel(w) >= LARGE;
    case MD_OP_linear:
        return w->dim[1] >= 64 && w->dim[0] >= 32 && md_numel(w) >= LARGE;
    case MD_OP_matmul: { /* the gradient for a linear layer's input, and what looks like it */
        int64_t n = y->dim[y->ndim - 1], k = md_numel(w) / n;
        return !node->attr.matmul.ta && k >= 64 && n >= 32 && md_numel(w) >= LARGE;
    }
    default:
        return false;
    }
}

cpu_product_args cpu__product_args(const md_node *node, void *const *in, void *const *out)
{
    return (cpu_product_args){.in = in[0],
                              .w = in[1],
                              .bias = node->n_in > 2 ? in[2] : NULL,
                              .residual = node->n_in > 3 && node->in[3] ? in[3] : NULL,
                              .out = out[0]};
}

void cpu__product_types(cpu_product *p, const md_node *node)
{
    p->in_half = cpu__is_half(node->in[0]);
    p->w_half = cpu__is_half(node->in[1]);
    p->b_half = node->n_in > 2 && cpu__is_half(node->in[2]);
    p->r_half = node->n_in > 3 && cpu__is_half(node->in[3]);
    p->out_half = cpu__is_half(node->out[0]);
}

size_t cpu__product_scratch(int threads)
{
    return cpu__floats(ROWS * MAX_SPAN + BLOCK * MAX_SPAN + GROUP * ROWS) * (size_t)threads;
}

/* 16 rows (n real) of len floats from k on, transposed. */
static void pack_rows(float *panel, const void *in, bool half, const int64_t *at, int n, int64_t k,
                      int64_t len)
{
    for (int r = 0; r < n; r += VL)
        for (int64_t i = 0; i < len; i += VL) {
            vf x[VL];
            int m = (int)cpu__min(VL, len - i);
            for (int j = 0; j < VL; j++) {
                bool there = r + j < n && at[r + j] >= 0;
                x[j] = there ? v_get_n(in, half, at[r + j] + k + i, m) : v_zero();
            }
            v_transpose(x);
            for (int j = 0; j < m; j++)
                v_store(panel + (i + j) * CPU_NR + r, x[j]);
        }
}

/* Weights of `outs` outputs from element `at` on. */
static void copy_weights(const cpu_product *p, const void *w, int64_t at, int64_t outs, int64_t len,
                         float *to, int64_t span)
{
    bool by_k = p->w_out == 1;
    int64_t lines = by_k ? len : outs, width = by_k ? outs : len, ld = by_k ? GROUP : span;
    for (int64_t i = 0; i < lines; i++, at += by_k ? p->w_k : p->w_out)
        for (int64_t j = 0; j < width; j += VL) {
            int n = (int)cpu__min(VL, width - j);
            v_store(to + i * ld + j, v_get_n(w, p->w_half, at + j, n));
        }
}

/* sums[o][row] (+)= the packed rows times outputs o0..o0+outs, whose weights begin at `at` */
static void multiply(const cpu_product *p, const void *w, int64_t at, int64_t outs, int64_t len,
                     int64_t rows, bool add, float *sums, const work *m)
{
    int64_t n_tiles = cpu__ceil(outs, CPU_MR), span = cpu__ceil(len, VL) * VL;
    bool by_k = p->w_out == 1, in_place = !by_k && !p->w_half;
    if (!in_place)
        copy_weights(p, w, at, outs, len, m->weights, span);
    const float *from = in_place ? (const float *)w + at : m->weights;
    int64_t ld = in_place ? p->w_out : span;
    cpu_outer outer = {1, len, 0, GROUP, 0, CPU_NR};
    for (int64_t r = 0; r < rows; r += CPU_NR) {
        const float *panel = m->panels + r * span;
        int nr = rows - r > VL ? CPU_NR : VL;
        cpu_tile t = {1, len, CPU_NR, panel, NULL, add};
        for (int64_t i = 0; i < n_tiles; i++) {
            int64_t o = outs * i / n_tiles;
            int mr = (int)(outs * (i + 1) / n_tiles - o);
            float *c = sums + o * ROWS + r;
            if (by_k)
                cpu__outer(&outer, mr, nr, from + o, panel, c, ROWS);
            else
                cpu__tile_rows(&t, mr, nr, from + o * ld, ld, c, ROWS);
        }
    }
}

/* Sums of outputs o0..o1, transposed, to the rows' outputs: eight streams of whole lines. */
static void finish(const cpu_product *p, const cpu_product_args *a, const float *sums, int64_t o0,
                   int64_t o1, const int64_t *to, int64_t rows)
{
    for (int64_t r = 0; r < rows; r += VL)
        for (int64_t o = o0; o < o1; o += VL) {
            const float *from = sums + (o - o0) * ROWS + r;
            int n = (int)cpu__min(VL, o1 - o);
            vf bias = a->bias ? v_get_n(a->bias, p->b_half, o, n) : v_zero();
            vf x[VL];
            for (int i = 0; i < VL; i++)
                x[i] = i < n ? v_load(from + i * ROWS) : v_zero();
            v_transpose(x);
            for (int i = 0; i < cpu__min(VL, rows - r); i++) {
                vf y = x[i] + bias;
                if (a->residual)
                    y += v_get_n(a->residual, p->r_half, to[r + i] + o, n);
                v_put_n(a->out, p->out_half, to[r + i] + o, y, n);
            }
        }
}

static void product_task(const cpu_product *p, const cpu_product_args *a, const work *m,
                         int64_t first, int64_t rows, int64_t o0, int64_t o1)
{
    int64_t at[ROWS];
    bool by_k = p->w_out == 1;
    int64_t block = by_k ? GROUP : BLOCK, n_spans = cpu__ceil(p->k_len, by_k ? BLOCK : MAX_SPAN);
    int64_t max_span = cpu__ceil(cpu__ceil(p->k_len, n_spans), VL) * VL;
    bool add = by_k || p->taps == 0;
    if (add)
        memset(m->sums, 0, (size_t)((o1 - o0) * ROWS) * sizeof(float));
    for (int t = 0; t < p->taps; t++) {
        p->locate(p->ctx, first, rows, t, at);
        for (int64_t k = 0; k < p->k_len; k += max_span, add = true) {
            int64_t len = cpu__min(max_span, p->k_len - k), span = cpu__ceil(len, VL) * VL;
            for (int64_t r = 0; r < rows; r += CPU_NR)
                pack_rows(m->panels + r * span, a->in, p->in_half, at + r,
                          (int)cpu__min(CPU_NR, rows - r), k, len);
            for (int64_t o = o0; o < o1; o += block)
                multiply(p, a->w, o * p->w_out + p->w_tap[t] + k * p->w_k, cpu__min(block, o1 - o),
                         len, rows, add, m->sums + (o - o0) * ROWS, m);
        }
    }
    p->locate(p->ctx, first, rows, -1, at);
    finish(p, a, m->sums, o0, o1, at, rows);
}

void cpu__product_run(const cpu_product *p, const cpu_product_args *a, void *scratch, int threads)
{
    int64_t n_chunks = cpu__ceil(p->rows, ROWS), units = cpu__ceil(p->outs, VL);
    /* Tasks over the same rows pack them each for itself. */
    int64_t most = cpu__max(cpu__ceil(p->outs, BLOCK), 1);
    int64_t wish = cpu__min(most, cpu__ceil(2 * (int64_t)threads, n_chunks));
    int64_t groups = cpu__max(wish, cpu__ceil(units, GROUP / VL));
    bool small = p->rows * p->outs * p->k_len * p->taps < 65536;
    size_t bytes = cpu__product_scratch(1);
#pragma omp parallel num_threads(threads) if (!small)
    {
        float *at = cpu__at(scratch, bytes * (size_t)omp_get_thread_num());
        work m = {at, at + ROWS * MAX_SPAN, at + (ROWS + BLOCK) * MAX_SPAN};
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t c = 0; c < n_chunks; c++)
            for (int64_t g = 0; g < groups; g++)
                product_task(p, a, &m, c * ROWS, cpu__min(ROWS, p->rows - c * ROWS),
                             units * g / groups * VL,
                             cpu__min(p->outs, units * (g + 1) / groups * VL));
    }
}
