/* Elementwise ops. Broadcasting is folded at prepare time into rows: each row of `a` meets either a
   row of `b` or one of its elements. */
#include "backend/cpu/act.h"
#include "backend/cpu/internal.h"
#include <math.h>

/* ---- add, sub, mul */

typedef struct binary {
    int64_t inner;        /* length of a row */
    bool inner_broadcast; /* one element of b per row */
    int n_outer;
    int64_t dim[MD_MAX_DIMS]; /* outer dims, outermost first */
    int64_t b_stride[MD_MAX_DIMS];
    int64_t rows, piece,
        pieces; /* each row is cut into pieces so that one long row has threads too */
} binary;

/* Merges neighbouring dims that b treats alike. */
static void fold(binary *s, const md_tensor *a, const md_tensor *b)
{
    int64_t dim[MD_MAX_DIMS], stride[MD_MAX_DIMS], step = 1;
    int n = 0; /* innermost first */
    for (int i = a->ndim - 1; i >= 0; i--) {
        int j = i - (a->ndim - b->ndim);
        int64_t bd = j >= 0 ? b->dim[j] : 1;
        if (a->dim[i] == 1)
            continue;
        bool same = bd != 1;
        if (n > 0 && (stride[n - 1] != 0) == same) {
            dim[n - 1] *= a->dim[i];
        } else {
            dim[n] = a->dim[i];
            stride[n++] = same ? step : 0;
        }
        step *= bd;
    }
    if (n == 0) {
        dim[0] = 1;
        stride[0] = 1;
        n = 1;
    }
    s->inner = dim[0];
    s->inner_broadcast = stride[0] == 0;
    s->n_outer = n - 1;
    s->rows = 1;
    for (int i = 1; i < n; i++) {
        s->dim[n - 1 - i] = dim[i];
        s->b_stride[n - 1 - i] = stride[i];
        s->rows *= dim[i];
    }
    s->piece = 8192;
    s->pieces = cpu__max(1, cpu__ceil(s->inner, s->piece));
}

static int64_t b_offset(const binary *s, int64_t row)
{
    int64_t off = 0;
    for (int i = s->n_outer - 1; i >= 0; i--) {
        off += row % s->dim[i] * s->b_stride[i];
        row /= s->dim[i];
    }
    return off;
}

static inline vf apply(md_op op, vf a, vf b)
{
    return op == MD_OP_add ? a + b : op == MD_OP_sub ? a - b : a * b;
}

static inline __attribute__((always_inline)) void
binary_row(md_op op, const float *a, const float *b, bool broadcast, float *y, int64_t n)
{
    vf vb = broadcast ? v_set(b[0]) : v_zero();
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        v_store(y + i, apply(op, v_load(a + i), broadcast ? vb : v_load(b + i)));
    if (i < n) {
        int left = (int)(n - i);
        v_store_n(y + i, apply(op, v_load_n(a + i, left), broadcast ? vb : v_load_n(b + i, left)),
                  left);
    }
}

/* Elements `at`.. of rows r0 to r1; the division in b_offset only where the last outer dim ends. */
static inline __attribute__((always_inline)) void binary_rows(const binary *s, md_op op,
                                                              const float *a, const float *b,
                                                              float *y, int64_t r0, int64_t r1,
                                                              int64_t at)
{
    int64_t len = cpu__min(s->piece, s->inner - at), left = 0, offset = 0, step = 0;
    for (int64_t r = r0; r < r1; r++, left--, offset += step) {
        if (left == 0) {
            offset = b_offset(s, r) + (s->inner_broadcast ? 0 : at);
            left = s->n_outer ? s->dim[s->n_outer - 1] - r % s->dim[s->n_outer - 1] : 1;
            step = s->n_outer ? s->b_stride[s->n_outer - 1] : 0;
        }
        int64_t a_at = r * s->inner + at;
        binary_row(op, a + a_at, b + offset, s->inner_broadcast, y + a_at, len);
    }
}

static inline __attribute__((always_inline)) void binary_all(const md_kernel *k, md_op op,
                                                             void *const *in, void *const *out)
{
    const binary *s = k->state;
    int64_t batch = cpu__max(1, s->piece / s->inner), n_batches = cpu__ceil(s->rows, batch);
#pragma omp parallel for num_threads(cpu__threads_for(k, s->rows * s->inner))
    for (int64_t task = 0; task < n_batches * s->pieces; task++) {
        int64_t r0 = task / s->pieces * batch;
        binary_rows(s, op, in[0], in[1], out[0], r0, cpu__min(s->rows, r0 + batch),
                    task % s->pieces * s->piece);
    }
}

static md_status add_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    binary_all(k, MD_OP_add, in, out);
    return MD_OK;
}

static md_status sub_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    binary_all(k, MD_OP_sub, in, out);
    return MD_OK;
}

static md_status mul_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    binary_all(k, MD_OP_mul, in, out);
    return MD_OK;
}

static md_status prepare_binary(const md_node *node, md_kernel *k)
{
    void *state;
    MD_TRY(md_kernel_state(k, sizeof(binary), &state));
    fold(state, node->in[0], node->in[1]);
    return MD_OK;
}

md_status cpu_add(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    k->run = add_run;
    return prepare_binary(node, k);
}

md_status cpu_sub(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    k->run = sub_run;
    return prepare_binary(node, k);
}

md_status cpu_mul(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    k->run = mul_run;
    return prepare_binary(node, k);
}

/* ---- flat kernels: y[i] = f(x[i]) or f(dy[i], x[i]), in pieces of PIECE elements */

#define PIECE 8192

#define FOR_PIECES(n)                                                                              \
    _Pragma("omp parallel for num_threads(cpu__threads_for(k, n))") for (int64_t at = 0; at < (n); \
                                                                         at += PIECE)

static md_status affine_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    const float *x = in[0];
    float *y = out[0];
    int64_t n = md_numel(k->node->in[0]);
    vf alpha = v_set((float)k->node->attr.affine.alpha),
       beta = v_set((float)k->node->attr.affine.beta);
    FOR_PIECES(n)
    {
        int64_t i = at, end = cpu__min(n, at + PIECE);
        for (; i + VL <= end; i += VL)
            v_store(y + i, v_fma(alpha, v_load(x + i), beta));
        if (i < end)
            v_store_n(y + i, v_fma(alpha, v_load_n(x + i, (int)(end - i)), beta), (int)(end - i));
    }
    return MD_OK;
}

md_status cpu_affine(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = affine_run;
    return MD_OK;
}

/* `kind` is a constant where these are inlined, so that no lane decides anything. */
static inline __attribute__((always_inline)) void act_piece(md_act kind, const md_attr *attr,
                                                            const float *x, float *y, int64_t n)
{
    vf lo = v_set((float)attr->act.lo), hi = v_set((float)attr->act.hi);
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        v_store(y + i, act_value(kind, v_load(x + i), lo, hi));
    if (i < n)
        v_store_n(y + i, act_value(kind, v_load_n(x + i, (int)(n - i)), lo, hi), (int)(n - i));
}

static inline __attribute__((always_inline)) void act_grad_piece(md_act kind, const md_attr *attr,
                                                                 const float *dy, const float *x,
                                                                 float *dx, int64_t n)
{
    vf lo = v_set((float)attr->act.lo), hi = v_set((float)attr->act.hi);
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        v_store(dx + i, v_load(dy + i) * act_slope(kind, v_load(x + i), lo, hi));
    if (i < n) {
        int left = (int)(n - i);
        v_store_n(dx + i, v_load_n(dy + i, left) * act_slope(kind, v_load_n(x + i, left), lo, hi),
                  left);
    }
}

static md_status act_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    const float *x = in[0];
    float *y = out[0];
    const md_attr *attr = &k->node->attr;
    int64_t n = md_numel(k->node->in[0]);
    FOR_PIECES(n)
    {
        int64_t len = cpu__min(PIECE, n - at);
#define CALL(kind) act_piece(kind, attr, x + at, y + at, len)
        ACT_CASES(attr->act.kind, CALL)
#undef CALL
    }
    return MD_OK;
}

md_status cpu_act(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = act_run;
    return MD_OK;
}

static md_status act_grad_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    const float *dy = in[0], *x = in[1];
    float *dx = out[0];
    const md_attr *attr = &k->node->attr;
    int64_t n = md_numel(k->node->in[0]);
    FOR_PIECES(n)
    {
        int64_t len = cpu__min(PIECE, n - at);
#define CALL(kind) act_grad_piece(kind, attr, dy + at, x + at, dx + at, len)
        ACT_CASES(attr->act.kind, CALL)
#undef CALL
    }
    return MD_OK;
}

md_status cpu_act_grad(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = act_grad_run;
    return MD_OK;
}

/* ---- geglu */

static md_status geglu_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    const md_tensor *y_t = k->node->out[0];
    int64_t d = y_t->dim[y_t->ndim - 1], rows = md_numel(y_t) / d;
    const float *x = in[0];
    float *y = out[0];
    vf none = v_zero();
#pragma omp parallel for num_threads(cpu__threads_for(k, rows *d))
    for (int64_t r = 0; r < rows; r++) {
        const float *value = x + r * 2 * d, *gate = value + d;
        float *to = y + r * d;
        int64_t i = 0;
        for (; i + VL <= d; i += VL)
            v_store(to + i,
                    v_load(value + i) * act_value(MD_ACT_GELU, v_load(gate + i), none, none));
        if (i < d) {
            int n = (int)(d - i);
            vf g = act_value(MD_ACT_GELU, v_load_n(gate + i, n), none, none);
            v_store_n(to + i, v_load_n(value + i, n) * g, n);
        }
    }
    return MD_OK;
}

md_status cpu_geglu(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = geglu_run;
    return MD_OK;
}

/* y = gate Phi(gate) and its slope Phi + gate phi, of which most is the same. */
static inline void geglu_grad_piece(vf g, vf value, vf gate, vf *dvalue, vf *dgate)
{
    vf phi = v_phi(gate);
    vf density = v_set(0.3989422804014327f) * v_exp(v_set(-0.5f) * gate * gate);
    *dvalue = g * (gate * phi);
    *dgate = g * value * v_fma(gate, density, phi);
}

static md_status geglu_grad_run(const md_kernel *k, void *const *in, void *const *out,
                                void *scratch)
{
    (void)scratch;
    const md_tensor *dy_t = k->node->in[0];
    int64_t d = dy_t->dim[dy_t->ndim - 1], rows = md_numel(dy_t) / d;
    const float *dy = in[0], *x = in[1];
    float *dx = out[0];
#pragma omp parallel for num_threads(cpu__threads_for(k, rows *d))
    for (int64_t r = 0; r < rows; r++) {
        const float *g = dy + r * d, *value = x + r * 2 * d, *gate = value + d;
        float *dvalue = dx + r * 2 * d, *dgate = dvalue + d;
        vf dv, dg;
        int64_t i = 0;
        for (; i + VL <= d; i += VL) {
            geglu_grad_piece(v_load(g + i), v_load(value + i), v_load(gate + i), &dv, &dg);
            v_store(dvalue + i, dv);
            v_store(dgate + i, dg);
        }
        if (i < d) {
            int n = (int)(d - i);
            geglu_grad_piece(v_load_n(g + i, n), v_load_n(value + i, n), v_load_n(gate + i, n), &dv,
                             &dg);
            v_store_n(dvalue + i, dv, n);
            v_store_n(dgate + i, dg, n);
        }
    }
    return MD_OK;
}

md_status cpu_geglu_grad(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = geglu_grad_run;
    return MD_OK;
}

/* ---- cast: bf16.c has already converted the bf16 side, what remains is f32 to f32 */

static md_status cast_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    memcpy(out[0], in[0], (size_t)md_numel(k->node->in[0]) * sizeof(float));
    return MD_OK;
}

md_status cpu_cast(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = cast_run;
    return MD_OK;
}
