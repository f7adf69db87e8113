/* Convolution and its two gradients on NHWC without im2col: the inner kernel reads input pixels
   through a table of pointers (Dukhan 2019, "The Indirect Convolution Algorithm",
   arXiv:1907.02129), zero padding being a pointer to zeros. The gradient for the input is the same
   algorithm once per stride phase; the one for the weights sums outer products over rows of pixels.
 */
#include "backend/cpu/gemm.h"
#include "backend/cpu/product.h"
#include "backend/cpu/winograd.h"

#define TILES 16 /* pixel tiles per task: their pointer table is built once for all panels */

/* Output pixels (y0 + step j, x0 + step i) see tap t at input pixel (in_step j + dy[t], ...). */
typedef struct phase {
    int64_t y0, x0, h, w;
    int n_taps, first_tap; /* its taps stand together in the packed weights, from first_tap on */
} phase;

typedef struct conv_state {
    int64_t n, in_h, in_w, in_c, out_h, out_w, out_c; /* as this kernel sees in and out */
    int64_t k_len; /* contiguous floats read per tap: in_c, or kw in_c where rows need no padding */
    int out_step, in_step;
    int n_taps, max_taps, n_phases;
    int *tap, *dy, *dx; /* by packed position: position in w, input offsets */
    phase *phases;
    float *zeros;
    int64_t *w_tap;      /* by packed position: where the tap's weights begin */
    cpu_product product; /* what all phases have in common */
    size_t packed_at, bias_at, table_at, table_bytes;
} conv_state;

static void conv_release(md_kernel *k)
{
    conv_state *s = k->state;
    if (s) {
        free(s->tap);
        free(s->dy);
        free(s->dx);
        free(s->phases);
        free(s->w_tap);
        free(s->zeros);
        free(s);
    }
}

static md_status conv_alloc(md_kernel *k, int n_taps, int n_phases, conv_state **out)
{
    void *state;
    MD_TRY(md_kernel_state(k, sizeof(conv_state), &state));
    k->release = conv_release;
    conv_state *s = state;
    s->tap = calloc((size_t)n_taps, sizeof(int));
    s->dy = calloc((size_t)n_taps, sizeof(int));
    s->dx = calloc((size_t)n_taps, sizeof(int));
    s->phases = calloc((size_t)n_phases, sizeof(phase));
    if (!s->tap || !s->dy || !s->dx || !s->phases)
        MD_FAIL(MD_NOMEM, "%s at '%s': out of memory", md_op_name(k->node->op), k->node->path);
    s->n_taps = n_taps;
    s->n_phases = n_phases;
    *out = s;
    return MD_OK;
}

/* Scratch layout; called when the geometry stands. */
static md_status conv_layout(md_kernel *k, conv_state *s)
{
    s->zeros = calloc((size_t)s->k_len + VL, sizeof(float));
    if (!s->zeros)
        MD_FAIL(MD_NOMEM, "%s at '%s': out of memory", md_op_name(k->node->op), k->node->path);
    for (int p = 0; p < s->n_phases; p++)
        s->max_taps = (int)cpu__max(s->max_taps, s->phases[p].n_taps);
    s->bias_at = cpu__floats(cpu__panels_len(s->n_taps * s->k_len, s->out_c));
    s->table_at = s->bias_at + cpu__floats(cpu__panels_len(1, s->out_c));
    s->table_bytes = ((size_t)s->max_taps * TILES * CPU_MR * sizeof(float *) + 63) & ~(size_t)63;
    k->scratch_bytes = s->table_at + s->table_bytes * (size_t)cpu__threads(k);
    return MD_OK;
}

/* Input pointers of all taps and output pointers for up to TILES tiles of pixels from `first` on.
 */
static void fill_table(const conv_state *s, const phase *ph, const float *in, float *out,
                       int64_t first, int64_t count, const float **table, float **dst)
{
    int64_t x = first % ph->w, y = first / ph->w % ph->h, n = first / (ph->w * ph->h);
    for (int64_t p = 0; p < count; p++) {
        const float **a = table + p / CPU_MR * (ph->n_taps * CPU_MR) + p % CPU_MR;
        const float *image = in + n * s->in_h * s->in_w * s->in_c;
        for (int t = 0; t < ph->n_taps; t++) {
            int64_t iy = y * s->in_step + s->dy[ph->first_tap + t];
            int64_t ix = x * s->in_step + s->dx[ph->first_tap + t];
            bool inside = (uint64_t)iy < (uint64_t)s->in_h && (uint64_t)ix < (uint64_t)s->in_w;
            a[t * CPU_MR] = inside ? image + (iy * s->in_w + ix) * s->in_c : s->zeros;
        }
        int64_t oy = ph->y0 + y * s->out_step, ox = ph->x0 + x * s->out_step;
        dst[p] = out + ((n * s->out_h + oy) * s->out_w + ox) * s->out_c;
        if (++x == ph->w) {
            x = 0;
            if (++y == ph->h) {
                y = 0;
                n++;
            }
        }
    }
}

static void conv_task(const conv_state *s, const phase *ph, const float *in, float *out,
                      const float *packed, const float *bias, int64_t first, int64_t count,
                      int64_t j0, int64_t j1, const float **table)
{
    float *dst[TILES * CPU_MR];
    fill_table(s, ph, in, out, first, count, table, dst);
    for (int64_t j = j0; j < j1; j++) {
        int nr = (int)cpu__min(CPU_NR, s->out_c - j * CPU_NR);
        const float *b = packed + (j * s->n_taps + ph->first_tap) * s->k_len * CPU_NR;
        cpu_tile t = {ph->n_taps, s->k_len, CPU_NR, b, bias ? bias + j * CPU_NR : NULL, false};
        for (int64_t p = 0; p < count; p += CPU_MR) {
            float *rows[CPU_MR];
            int mr = (int)cpu__min(CPU_MR, count - p);
            for (int m = 0; m < mr; m++)
                rows[m] = dst[p + m] + j * CPU_NR;
            cpu__tile(&t, mr, nr, table + p * ph->n_taps, rows);
        }
    }
}

static void conv_run_phases(const md_kernel *k, const conv_state *s, const float *in, float *out,
                            void *scratch, const float *bias)
{
    int threads = cpu__threads(k);
    const float *packed = scratch;
    int64_t n_panels = cpu__ceil(s->out_c, CPU_NR);
#pragma omp parallel num_threads(threads)
    {
        const float **table =
            cpu__at(scratch, s->table_at + s->table_bytes * (size_t)omp_get_thread_num());
        for (int i = 0; i < s->n_phases; i++) {
            const phase *ph = &s->phases[i];
            int64_t pixels = s->n * ph->h * ph->w;
            int64_t n_chunks = cpu__ceil(pixels, TILES * CPU_MR);
            int64_t split = cpu__min(n_panels, cpu__ceil(4 * (int64_t)threads, n_chunks));
#pragma omp for collapse(2) schedule(dynamic) nowait
            for (int64_t c = 0; c < n_chunks; c++)
                for (int64_t g = 0; g < split; g++)
                    conv_task(s, ph, in, out, packed, bias, c * TILES * CPU_MR,
                              cpu__min(TILES * CPU_MR, pixels - c * TILES * CPU_MR),
                              n_panels * g / split, n_panels * (g + 1) / split, table);
        }
    }
}

/* ---- as products with weights in place */

typedef struct place {
    const conv_state *s;
    const phase *ph;
} place;

static void locate(const void *ctx, int64_t first, int64_t n, int tap, int64_t *at)
{
    const conv_state *s = ((const place *)ctx)->s;
    const phase *ph = ((const place *)ctx)->ph;
    int64_t x = first % ph->w, y = first / ph->w % ph->h, image = first / (ph->w * ph->h);
    for (int64_t i = 0; i < n; i++) {
        if (tap < 0) {
            int64_t oy = ph->y0 + y * s->out_step, ox = ph->x0 + x * s->out_step;
            at[i] = ((image * s->out_h + oy) * s->out_w + ox) * s->out_c;
        } else {
            int64_t iy = y * s->in_step + s->dy[ph->first_tap + tap];
            int64_t ix = x * s->in_step + s->dx[ph->first_tap + tap];
            bool inside = (uint64_t)iy < (uint64_t)s->in_h && (uint64_t)ix < (uint64_t)s->in_w;
            at[i] = inside ? ((image * s->in_h + iy) * s->in_w + ix) * s->in_c : -1;
        }
        if (++x == ph->w) {
            x = 0;
            if (++y == ph->h) {
                y = 0;
                image++;
            }
        }
    }
}

static md_status conv_product_run(const md_kernel *k, void *const *in, void *const *out,
                                  void *scratch)
{
    const conv_state *s = k->state;
    cpu_product_args a = cpu__product_args(k->node, in, out);
    for (int i = 0; i < s->n_phases; i++) {
        const phase *ph = &s->phases[i];
        place at = {s, ph};
        cpu_product p = s->product;
        p.rows = s->n * ph->h * ph->w;
        p.taps = ph->n_taps;
        p.w_tap = s->w_tap + ph->first_tap;
        p.ctx = &at;
        cpu__product_run(&p, &a, scratch, cpu__threads(k));
    }
    return MD_OK;
}

/* When the geometry stands; w is [outputs of the forward pass, h, w, inputs]. */
static md_status conv_product(md_kernel *k, conv_state *s, const int64_t *w)
{
    const md_node *node = k->node;
    bool gradient = node->op == MD_OP_conv2d_dx;
    int64_t all = w[1] * w[2] * w[3];
    s->w_tap = calloc((size_t)s->n_taps, sizeof(int64_t));
    if (!s->w_tap)
        MD_FAIL(MD_NOMEM, "%s at '%s': out of memory", md_op_name(node->op), node->path);
    for (int t = 0; t < s->n_taps; t++)
        s->w_tap[t] = s->tap[t] * (gradient ? w[3] : s->k_len);
    s->product = (cpu_product){.outs = s->out_c,
                               .k_len = s->k_len,
                               .w_out = gradient ? 1 : all,
                               .w_k = gradient ? all : 1,
                               .locate = locate};
    cpu__product_types(&s->product, node);
    k->scratch_bytes = cpu__product_scratch(cpu__threads(k));
    k->run = conv_product_run;
    return MD_OK;
}

static md_status conv2d_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    const conv_state *s = k->state;
    cpu__pack(scratch, in[1], s->n_taps * s->k_len, true, s->n_taps * s->k_len, s->out_c,
              cpu__threads(k));
    float *bias = NULL;
    if (in[2]) {
        bias = cpu__at(scratch, s->bias_at);
        memset(bias, 0, (size_t)cpu__panels_len(1, s->out_c) * sizeof(float));
        memcpy(bias, in[2], (size_t)s->out_c * sizeof(float));
    }
    conv_run_phases(k, s, in[0], out[0], scratch, bias);
    return MD_OK;
}

md_status cpu_conv2d(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    if (cpu__winograd_wanted(node))
        return cpu__winograd_prepare(node, k);
    const int64_t *x = node->in[0]->dim, *w = node->in[1]->dim, *y = node->out[0]->dim;
    int stride = node->attr.conv.stride;
    /* Without padding to the sides a tap's row of kw pixels is one contiguous run. */
    bool merge = node->attr.conv.pad_l == 0 && node->attr.conv.pad_r == 0;
    int kh = (int)w[1], kw = merge ? 1 : (int)w[2];
    conv_state *s;
    MD_TRY(conv_alloc(k, kh * kw, 1, &s));
    s->n = x[0], s->in_h = x[1], s->in_w = x[2], s->in_c = x[3];
    s->out_h = y[1], s->out_w = y[2], s->out_c = y[3];
    s->k_len = merge ? w[2] * x[3] : x[3];
    s->in_step = stride, s->out_step = 1;
    s->phases[0] = (phase){0, 0, y[1], y[2], kh * kw, 0};
    for (int t = 0; t < kh * kw; t++) {
        s->tap[t] = t;
        s->dy[t] = t / kw - node->attr.conv.pad_t;
        s->dx[t] = t % kw - node->attr.conv.pad_l;
    }
    if (cpu__product_wanted(node))
        return conv_product(k, s, w);
    MD_TRY(conv_layout(k, s));
    k->run = conv2d_run;
    return MD_OK;
}

static md_status conv2d_dx_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    const conv_state *s = k->state;
    const float *w = in[1];
    float *packed = scratch;
    int64_t n_panels = cpu__ceil(s->out_c, CPU_NR);
    int threads = cpu__threads_for(k, n_panels * CPU_NR * s->n_taps * s->k_len);
    /* w[o][tap][i] -> [i / 16][position][o][i % 16] */
#pragma omp parallel for collapse(2) num_threads(threads)
    for (int64_t j = 0; j < n_panels; j++)
        for (int t = 0; t < s->n_taps; t++) {
            int64_t nn = cpu__min(CPU_NR, s->out_c - j * CPU_NR);
            float *p = packed + (j * s->n_taps + t) * s->k_len * CPU_NR;
            for (int64_t o = 0; o < s->k_len; o++, p += CPU_NR) {
                memcpy(p, w + (o * s->n_taps + s->tap[t]) * s->out_c + j * CPU_NR,
                       (size_t)nn * sizeof(float));
                memset(p + nn, 0, (size_t)(CPU_NR - nn) * sizeof(float));
            }
        }
    conv_run_phases(k, s, in[0], out[0], scratch, NULL);
    return MD_OK;
}

md_status cpu_conv2d_dx(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    if (cpu__winograd_wanted(node))
        return cpu__winograd_prepare(node, k);
    const int64_t *dy = node->in[0]->dim, *w = node->in[1]->dim, *dx = node->out[0]->dim;
    int stride = node->attr.conv.stride, kh = (int)w[1], kw = (int)w[2];
    conv_state *s;
    MD_TRY(conv_alloc(k, kh * kw, stride * stride, &s));
    s->n = dy[0], s->in_h = dy[1], s->in_w = dy[2], s->in_c = dy[3];
    s->out_h = dx[1], s->out_w = dx[2], s->out_c = dx[3];
    s->k_len = dy[3];
    s->in_step = 1, s->out_step = stride;
    /* Pixel (py + stride j, ..) meets tap ky at dy row j + (py + pad_t - ky) / stride where that
       divides; each phase has its own taps, maybe none (then dx is zero there). */
    int at = 0;
    for (int p = 0; p < stride * stride; p++) {
        phase *ph = &s->phases[p];
        ph->y0 = p / stride, ph->x0 = p % stride;
        ph->h = cpu__ceil(cpu__max(0, dx[1] - ph->y0), stride);
        ph->w = cpu__ceil(cpu__max(0, dx[2] - ph->x0), stride);
        ph->first_tap = at;
        for (int ky = 0; ky < kh; ky++)
            for (int kx = 0; kx < kw; kx++) {
                int64_t oy = ph->y0 + node->attr.conv.pad_t - ky;
                int64_t ox = ph->x0 + node->attr.conv.pad_l - kx;
                if (oy % stride != 0 || ox % stride != 0)
                    continue;
                s->tap[at] = ky * kw + kx;
                s->dy[at] = (int)(oy / stride);
                s->dx[at++] = (int)(ox / stride);
            }
        ph->n_taps = at - ph->first_tap;
    }
    if (cpu__product_wanted(node))
        return conv_product(k, s, w);
    MD_TRY(conv_layout(k, s));
    k->run = conv2d_dx_run;
    return MD_OK;
}

/* ---- gradient for the weights */

typedef struct dw_state {
    int64_t n, h, w, c, oh, ow, o; /* x [n,h,w,c], dy [n,oh,ow,o] */
    int64_t k_len;
    int kh, kw, stride, pad_t, pad_l;
    int64_t rows; /* of dy per pass, so that they and their part of x stay in the cache */
} dw_state;

/* The first and the one-past-last output position that tap offset d keeps inside [0, size). */
static void valid_range(int64_t d, int64_t stride, int64_t size, int64_t out, int64_t *lo,
                        int64_t *hi)
{
    *lo = d < 0 ? cpu__ceil(-d, stride) : 0;
    *hi = size - 1 - d < 0 ? 0 : cpu__min(out, (size - 1 - d) / stride + 1);
}

/* Units u0..u1 (tile of output channels, tap) over rows r0..r1 of sample n. */
static void dw_units(const dw_state *s, const float *dy, const float *x, float *dw, int64_t u0,
                     int64_t u1, int64_t n, int64_t r0, int64_t r1)
{
    int64_t taps = (int64_t)s->kh * s->kw, n_tiles = cpu__ceil(s->o, CPU_MR);
    cpu_outer outer = {0, 0, s->ow * s->o, s->o, s->stride * s->w * s->c, s->stride * s->c};
    for (int64_t u = u0; u < u1; u++) {
        int64_t tile = u / taps, tap = u % taps, y0, y1, x0, x1;
        int64_t o0 = s->o * tile / n_tiles; /* even split: tiles of 5 or 6 channels, none of 1 */
        int mr = (int)(s->o * (tile + 1) / n_tiles - o0);
        int64_t dy_off = tap / s->kw - s->pad_t, dx_off = tap % s->kw - s->pad_l;
        valid_range(dy_off, s->stride, s->h, s->oh, &y0, &y1);
        valid_range(dx_off, s->stride, s->w, s->ow, &x0, &x1);
        y0 = cpu__max(y0, r0);
        y1 = cpu__min(y1, r1);
        if (y0 >= y1 || x0 >= x1)
            continue;
        outer.rows = y1 - y0, outer.cols = x1 - x0;
        const float *a = dy + ((n * s->oh + y0) * s->ow + x0) * s->o + o0;
        const float *b =
            x + ((n * s->h + y0 * s->stride + dy_off) * s->w + x0 * s->stride + dx_off) * s->c;
        float *c = dw + (o0 * taps + tap) * s->k_len;
        for (int64_t i = 0; i < s->k_len; i += CPU_NR)
            cpu__outer(&outer, mr, (int)cpu__min(CPU_NR, s->k_len - i), a, b + i, c + i,
                       taps * s->k_len);
    }
}

static md_status conv2d_dw_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    const dw_state *s = k->state;
    const float *dy = in[0], *x = in[1];
    float *dw = out[0];
    int threads = cpu__threads(k);
    int64_t units = cpu__ceil(s->o, CPU_MR) * s->kh * s->kw;
    int64_t n_tasks = cpu__min(units, 2 * (int64_t)threads);
    memset(dw, 0, (size_t)(s->o * s->kh * s->kw * s->k_len) * sizeof(float));
    /* Threads share out the weights, not the pixels: no sums to combine, the same bits for any
       number of threads. */
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t task = 0; task < n_tasks; task++)
        for (int64_t n = 0; n < s->n; n++)
            for (int64_t r = 0; r < s->oh; r += s->rows)
                dw_units(s, dy, x, dw, units * task / n_tasks, units * (task + 1) / n_tasks, n, r,
                         cpu__min(s->oh, r + s->rows));
    return MD_OK;
}

md_status cpu_conv2d_dw(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    const int64_t *dy = node->in[0]->dim, *x = node->in[1]->dim, *w = node->out[0]->dim;
    void *state;
    MD_TRY(md_kernel_state(k, sizeof(dw_state), &state));
    dw_state *s = state;
    bool merge = node->attr.conv.pad_l == 0 && node->attr.conv.pad_r == 0;
    s->n = x[0], s->h = x[1], s->w = x[2], s->c = x[3];
    s->oh = dy[1], s->ow = dy[2], s->o = dy[3];
    s->kh = (int)w[1], s->kw = merge ? 1 : (int)w[2];
    s->k_len = merge ? w[2] * x[3] : x[3];
    s->stride = node->attr.conv.stride;
    s->pad_t = node->attr.conv.pad_t, s->pad_l = node->attr.conv.pad_l;
    int64_t row_floats = s->ow * s->o + s->stride * s->w * s->c;
    s->rows = cpu__max(1, 49152 / row_floats);
    k->run = conv2d_dw_run;
    return MD_OK;
}
