/* F(4x4, 3x3): 4 x 4 outputs from 6 x 6 inputs by 36 products instead of 144 (Lavin and Gray 2015,
   arXiv:1509.09308). Y = A' [(G g G') (B' d B)] A over the points 0, +-1/sqrt 2, +-sqrt 2,
   infinity, which err half as much as 0, +-1, +-2 and less than the direct sum of 9 C products
   (README.md). A task holds its transformed tiles and makes the transformed weights block by block
   as it goes: they are four times the weights and never exist as a whole. */
#include "backend/cpu/winograd.h"
#include "backend/cpu/gemm.h"

enum {
    EDGE = 6,
    POINTS = EDGE * EDGE,
    OUT = 4,
    PANEL = CPU_NR,        /* tiles of a panel */
    MAX_TILES = 64,        /* of a task */
    TILE_CHANNELS = 40960, /* tiles x channels of a task: 6 MB of transformed tiles */
    BLOCK = 24,            /* output channels and */
    MAX_SPAN = 160,        /* input channels of a block of weights: 540 KB transformed */
    PAD = 16 /* floats between points, which would meet in the same lines of the cache */
};

typedef struct wino_state {
    int64_t n, h, w, c, oh, ow, o; /* input [n,h,w,c] and output [n,oh,ow,o] of this kernel */
    int64_t pad_t, pad_l, th, tw;  /* th x tw tiles an image */
    int64_t tiles, span;           /* a task's tiles; input channels of a block, a multiple of 8 */
    int64_t u_step, m_step;        /* from point to point */
    bool gradient;                 /* conv2d_dx: the weights are w[c][8 - tap][o] */
    bool has_residual;             /* not where residual.c wraps this node */
    bool in_half, w_half, b_half, r_half, out_half; /* bf16 */
    size_t u_at, m_at, thread_bytes;
} wino_state;

typedef struct wino_args {
    const void *in, *w, *bias, *residual;
    void *out;
    float *v; /* [span][POINTS][panel][channel][PANEL]  with PAD behind each point */
    float *u; /* [POINTS][BLOCK][span], or [POINTS][span][BLOCK] for the gradient; likewise */
    float *m; /* [POINTS][BLOCK][tiles]; likewise */
} wino_args;

#define ROOT2 1.41421356237309505f

/* B': six inputs at stride `step`, in place */
static inline void input_line(vf *x, int step)
{
    vf x0 = x[0], x1 = x[step], x2 = x[2 * step], x3 = x[3 * step], x4 = x[4 * step];
    vf even1 = v_fma(v_set(-2), x2, x4), odd1 = v_set(ROOT2 / 2) * v_fma(v_set(-2), x1, x3);
    vf even2 = v_fma(v_set(-0.5f), x2, x4), odd2 = v_set(ROOT2) * v_fma(v_set(-0.5f), x1, x3);
    x[0] = v_fma(v_set(-2.5f), x2, x0 + x4);
    x[step] = even1 + odd1;
    x[2 * step] = even1 - odd1;
    x[3 * step] = even2 + odd2;
    x[4 * step] = even2 - odd2;
    x[5 * step] = v_fma(v_set(-2.5f), x3, x1 + x[5 * step]);
}

/* G: three weights to six */
static inline void weight_line(vf g0, vf g1, vf g2, vf *y, int step)
{
    vf even1 = v_set(-2 / 3.0f) * v_fma(v_set(0.5f), g2, g0), odd1 = v_set(-ROOT2 / 3) * g1;
    vf even2 = v_set(1 / 6.0f) * v_fma(v_set(2), g2, g0), odd2 = v_set(ROOT2 / 6) * g1;
    y[0] = g0;
    y[step] = even1 + odd1;
    y[2 * step] = even1 - odd1;
    y[3 * step] = even2 + odd2;
    y[4 * step] = even2 - odd2;
    y[5 * step] = g2;
}

/* A': six to four */
static inline void output_line(const vf *m, int m_step, vf *y, int step)
{
    vf p1 = m[m_step] + m[2 * m_step], q1 = m[m_step] - m[2 * m_step];
    vf p2 = m[3 * m_step] + m[4 * m_step], q2 = m[3 * m_step] - m[4 * m_step];
    y[0] = m[0] + (p1 + p2);
    y[step] = v_set(ROOT2 / 2) * v_fma(v_set(2), q2, q1);
    y[2 * step] = v_fma(v_set(2), p2, v_set(0.5f) * p1);
    y[3 * step] = v_fma(v_set(ROOT2 / 4), q1, v_fma(v_set(2 * ROOT2), q2, m[5 * m_step]));
}

/* Floats from point to point of `rows` channels of transformed tiles. */
static int64_t v_step(int64_t n_panels, int64_t rows)
{
    return n_panels * rows * PANEL + PAD;
}

/* Where the span at c0 begins; all before it are full. */
static int64_t v_start(const wino_state *s, int64_t n_panels, int64_t c0)
{
    return c0 / s->span * POINTS * v_step(n_panels, s->span);
}

typedef struct wino_tile {
    int64_t n, y, x; /* its image and first output */
} wino_tile;

static void find_tiles(const wino_state *s, int64_t first, int n, wino_tile *t)
{
    for (int i = 0; i < n; i++) {
        int64_t at = first + i;
        t[i] = (wino_tile){at / (s->th * s->tw), at / s->tw % s->th * OUT, at % s->tw * OUT};
    }
}

/* Eight (nc) channels from c on of the tile's 6 x 6 inputs, transformed, at stride 8 in d. */
static void transform_tile(const wino_state *s, const void *in, const wino_tile *t, int64_t c,
                           int nc, vf *d)
{
    vf x[POINTS];
    int64_t y0 = t->y - s->pad_t, x0 = t->x - s->pad_l;
    int64_t at = ((t->n * s->h + y0) * s->w + x0) * s->c + c;
    bool whole = y0 >= 0 && x0 >= 0 && y0 + EDGE <= s->h && x0 + EDGE <= s->w;
    for (int i = 0; i < EDGE; i++)
        for (int j = 0; j < EDGE; j++) {
            bool inside = whole || ((uint64_t)(y0 + i) < (uint64_t)s->h &&
                                    (uint64_t)(x0 + j) < (uint64_t)s->w);
            x[i * EDGE + j] =
                inside ? v_get_n(in, s->in_half, at + (i * s->w + j) * s->c, nc) : v_zero();
        }
    for (int j = 0; j < EDGE; j++)
        input_line(x + j, EDGE);
    for (int i = 0; i < EDGE; i++) {
        input_line(x + i * EDGE, 1);
        for (int j = 0; j < EDGE; j++)
            d[(i * EDGE + j) * VL] = x[i * EDGE + j];
    }
}

/* n <= 16 tiles from `first` on into their place in v. */
static void transform_panel(const wino_state *s, const wino_args *a, int64_t first, int n,
                            int64_t panel, int64_t n_panels)
{
    wino_tile tile[PANEL];
    vf d[POINTS * VL];
    find_tiles(s, first, n, tile);
    for (int64_t c0 = 0; c0 < s->c; c0 += s->span) {
        int64_t len = cpu__min(s->span, s->c - c0), rows = cpu__ceil(len, VL) * VL;
        float *v = a->v + v_start(s, n_panels, c0) + panel * rows * PANEL;
        for (int64_t c = 0; c < len; c += VL)
            for (int half = 0; half < n; half += VL) {
                for (int t = 0; t < VL; t++)
                    if (half + t < n)
                        transform_tile(s, a->in, &tile[half + t], c0 + c,
                                       (int)cpu__min(VL, len - c), d + t);
                    else
                        for (int p = 0; p < POINTS; p++)
                            d[p * VL + t] = v_zero();
                for (int p = 0; p < POINTS; p++) {
                    v_transpose(d + p * VL);
                    float *to = v + p * v_step(n_panels, rows) + c * PANEL + half;
                    for (int i = 0; i < VL; i++)
                        v_store(to + i * PANEL, d[p * VL + i]);
                }
            }
    }
}

/* Weights at w[at + tap * step], eight (n) beside each other, to u[point * u_step]. */
static void transform_weights(const wino_state *s, const void *w, int64_t at, int64_t step, int n,
                              float *u, int64_t u_step)
{
    vf g[9], t[3 * EDGE], y[EDGE];
    for (int tap = 0; tap < 9; tap++)
        g[tap] = v_get_n(w, s->w_half, at + tap * step, n);
    for (int j = 0; j < 3; j++)
        weight_line(g[j], g[3 + j], g[6 + j], t + j, 3);
    for (int i = 0; i < EDGE; i++) {
        weight_line(t[3 * i], t[3 * i + 1], t[3 * i + 2], y, 1);
        for (int j = 0; j < EDGE; j++)
            v_store(u + (i * EDGE + j) * u_step, y[j]);
    }
}

/* Output channels o0..o0+no, input channels c0..c0+nc. */
static void fill_weights(const wino_state *s, const wino_args *a, int64_t o0, int64_t no,
                         int64_t c0, int64_t nc)
{
    if (s->gradient)
        for (int64_t c = 0; c < nc; c++)
            for (int64_t o = 0; o < no; o += VL)
                transform_weights(s, a->w, ((c0 + c) * 9 + 8) * s->o + o0 + o, -s->o,
                                  (int)cpu__min(VL, no - o), a->u + c * BLOCK + o, s->u_step);
    else
        for (int64_t o = 0; o < no; o++)
            for (int64_t c = 0; c < nc; c += VL)
                transform_weights(s, a->w, (o0 + o) * 9 * s->c + c0 + c, s->c,
                                  (int)cpu__min(VL, nc - c), a->u + o * s->span + c, s->u_step);
}

/* m[point][o][tile] += sum over channels u[point][o][c] v[point][c][tile] for a span of channels */
static void multiply(const wino_state *s, const wino_args *a, int64_t no, int64_t c0, int64_t nc,
                     int64_t n_tiles)
{
    int64_t n_panels = cpu__ceil(n_tiles, PANEL), rows = cpu__ceil(nc, VL) * VL;
    int64_t m_tiles = cpu__ceil(no, CPU_MR);
    cpu_outer outer = {1, nc, 0, BLOCK, 0, PANEL};
    for (int64_t p = 0; p < POINTS; p++) {
        const float *v = a->v + v_start(s, n_panels, c0) + p * v_step(n_panels, rows);
        for (int64_t panel = 0; panel < n_panels; panel++, v += rows * PANEL) {
            int nr = n_tiles - panel * PANEL > VL ? PANEL : VL;
            cpu_tile t = {1, nc, PANEL, v, NULL, c0 > 0};
            for (int64_t i = 0; i < m_tiles; i++) {
                int64_t o = no * i / m_tiles;
                int mr = (int)(no * (i + 1) / m_tiles - o);
                float *m = a->m + p * s->m_step + o * s->tiles + panel * PANEL;
                const float *u = a->u + p * s->u_step;
                if (s->gradient)
                    cpu__outer(&outer, mr, nr, u + o, v, m, s->tiles);
                else
                    cpu__tile_rows(&t, mr, nr, u + o * s->span, s->span, m, s->tiles);
            }
        }
    }
}

/* Eight (no) output channels from o on for n <= 8 tiles; m points at the first of both. */
static void finish_tiles(const wino_state *s, const wino_args *a, const float *m, int64_t o, int no,
                         const wino_tile *tile, int n)
{
    vf y[OUT * OUT * VL];
    for (int i = 0; i < no; i++, m += s->tiles) {
        vf x[POINTS], t[OUT * EDGE];
        for (int p = 0; p < POINTS; p++)
            x[p] = v_load(m + p * s->m_step);
        for (int j = 0; j < EDGE; j++)
            output_line(x + j, EDGE, t + j, EDGE);
        for (int j = 0; j < OUT; j++)
            output_line(t + j * EDGE, 1, y + j * OUT * VL + i, VL);
    }
    for (int i = no; i < VL; i++)
        for (int p = 0; p < OUT * OUT; p++)
            y[p * VL + i] = v_zero();
    vf bias = a->bias ? v_get_n(a->bias, s->b_half, o, no) : v_zero();
    for (int p = 0; p < OUT * OUT; p++) {
        v_transpose(y + p * VL);
        for (int t = 0; t < n; t++) {
            int64_t py = tile[t].y + p / OUT, px = tile[t].x + p % OUT;
            if (py >= s->oh || px >= s->ow)
                continue;
            int64_t at = ((tile[t].n * s->oh + py) * s->ow + px) * s->o + o;
            vf r = y[p * VL + t] + bias;
            if (a->residual)
                r += v_get_n(a->residual, s->r_half, at, no);
            v_put_n(a->out, s->out_half, at, r, no);
        }
    }
}

/* Tiles first..first+n for output channels o0..o1. */
static void wino_task(const wino_state *s, const wino_args *a, int64_t first, int64_t n, int64_t o0,
                      int64_t o1)
{
    int64_t n_panels = cpu__ceil(n, PANEL);
    for (int64_t p = 0; p < n_panels; p++)
        transform_panel(s, a, first + p * PANEL, (int)cpu__min(PANEL, n - p * PANEL), p, n_panels);
    for (; o0 < o1; o0 += BLOCK) {
        int64_t no = cpu__min(BLOCK, o1 - o0);
        if (s->gradient)
            memset(a->m, 0, (size_t)(POINTS * s->m_step) * sizeof(float));
        for (int64_t c = 0; c < s->c; c += s->span) {
            int64_t nc = cpu__min(s->span, s->c - c);
            fill_weights(s, a, o0, no, c, nc);
            multiply(s, a, no, c, nc, n);
        }
        for (int64_t t = 0; t < n; t += VL) {
            wino_tile tile[VL];
            int nt = (int)cpu__min(VL, n - t);
            find_tiles(s, first + t, nt, tile);
            for (int64_t o = 0; o < no; o += VL)
                finish_tiles(s, a, a->m + o * s->tiles + t, o0 + o, (int)cpu__min(VL, no - o), tile,
                             nt);
        }
    }
}

static md_status wino_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    const wino_state *s = k->state;
    int threads = cpu__threads(k);
    int64_t n_tiles = s->n * s->th * s->tw, n_chunks = cpu__ceil(n_tiles, s->tiles);
    int64_t n_blocks = cpu__ceil(s->o, BLOCK);
    /* Tasks over the same tiles transform them each for itself. */
    int64_t split = cpu__min(cpu__ceil(n_blocks, 4), cpu__ceil(2 * (int64_t)threads, n_chunks));
#pragma omp parallel num_threads(threads)
    {
        char *work = cpu__at(scratch, s->thread_bytes * (size_t)omp_get_thread_num());
        wino_args a = {.in = in[0],
                       .w = in[1],
                       .out = out[0],
                       .v = cpu__at(work, 0),
                       .u = cpu__at(work, s->u_at),
                       .m = cpu__at(work, s->m_at)};
        if (!s->gradient) {
            a.bias = in[2];
            a.residual = s->has_residual ? in[3] : NULL;
        }
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t i = 0; i < n_chunks; i++)
            for (int64_t g = 0; g < split; g++)
                wino_task(s, &a, i * s->tiles, cpu__min(s->tiles, n_tiles - i * s->tiles),
                          n_blocks * g / split * BLOCK,
                          cpu__min(s->o, n_blocks * (g + 1) / split * BLOCK));
    }
    return MD_OK;
}

bool cpu__winograd_wanted(const md_node *node)
{
    if (node->op != MD_OP_conv2d && node->op != MD_OP_conv2d_dx)
        return false;
    const int64_t *w = node->in[1]->dim, *y = node->out[0]->dim;
    /* Many weights want many tiles: transforming them is for all tiles of a task. */
    int64_t pixels = y[1] * y[2], least = w[0] * w[3] > 131072 ? 256 : 64;
    return w[1] == 3 && w[2] == 3 && node->attr.conv.stride == 1 && w[0] >= 16 && w[3] >= 16 &&
           w[0] * w[3] >= 512 && pixels >= least;
}

md_status cpu__winograd_prepare(const md_node *node, md_kernel *k)
{
    void *state;
    MD_TRY(md_kernel_state(k, sizeof(wino_state), &state));
    wino_state *s = state;
    const int64_t *x = node->in[0]->dim, *y = node->out[0]->dim;
    s->gradient = node->op == MD_OP_conv2d_dx;
    s->n = x[0], s->h = x[1], s->w = x[2], s->c = x[3];
    s->oh = y[1], s->ow = y[2], s->o = y[3];
    s->pad_t = s->gradient ? 2 - node->attr.conv.pad_t : node->attr.conv.pad_t;
    s->pad_l = s->gradient ? 2 - node->attr.conv.pad_l : node->attr.conv.pad_l;
    s->th = cpu__ceil(s->oh, OUT), s->tw = cpu__ceil(s->ow, OUT);
    s->in_half = cpu__is_half(node->in[0]), s->w_half = cpu__is_half(node->in[1]);
    s->b_half = !s->gradient && cpu__is_half(node->in[2]);
    s->has_residual = !s->gradient && node->n_in > 3 && node->in[3];
    s->r_half = s->has_residual && cpu__is_half(node->in[3]);
    s->out_half = cpu__is_half(node->out[0]);
    int64_t n_spans = cpu__ceil(s->c, MAX_SPAN);
    s->span = cpu__ceil(cpu__ceil(s->c, n_spans), VL) * VL;
    int64_t fit = cpu__max(1, cpu__min(MAX_TILES, TILE_CHANNELS / s->c) / PANEL);
    s->tiles = cpu__min(fit, cpu__ceil(s->n * s->th * s->tw, PANEL)) * PANEL;
    s->u_step = BLOCK * s->span + PAD, s->m_step = BLOCK * s->tiles + PAD;
    n_spans = cpu__ceil(s->c, s->span);
    s->u_at = cpu__floats(n_spans * POINTS * v_step(s->tiles / PANEL, s->span));
    s->m_at = s->u_at + cpu__floats(POINTS * s->u_step);
    s->thread_bytes = s->m_at + cpu__floats(POINTS * s->m_step);
    k->scratch_bytes = s->thread_bytes * (size_t)cpu__threads(k);
    k->run = wino_run;
    return MD_OK;
}
