/* Attention by (sample, head, block of query rows): only the scores of one block exist at a time,
   whole rows of them, so that softmax needs no rescaling. The backward pass recomputes a block's
   probabilities from the saved log-sum-exp (Dao et al. 2022, arXiv:2205.14135, section 3.1). */
#include "backend/cpu/gemm.h"

typedef struct attn_state {
    int64_t n, t, s, width, heads, d; /* width = heads d */
    int64_t ld;                       /* length of a score row: s rounded up to panels */
    int64_t block, n_blocks;          /* query rows */
    int64_t keys_len, values_len;     /* floats of one head's panels */
    float scale;
    bool causal;
    size_t keys_at, values_at, thread_at, thread_bytes;
} attn_state;

static md_status attn_geometry(const md_node *node, const md_tensor *q, const md_tensor *key,
                               int64_t score_floats, md_kernel *k, attn_state **out)
{
    void *state;
    MD_TRY(cpu__state(k, sizeof(attn_state), &state));
    attn_state *s = state;
    s->n = q->dim[0], s->t = q->dim[1], s->width = q->dim[2], s->s = key->dim[1];
    s->heads = node->attr.attn.heads;
    s->d = s->width / s->heads;
    s->scale =
        (float)(node->attr.attn.scale > 0 ? node->attr.attn.scale : 1.0 / sqrt((double)s->d));
    s->causal = node->attr.attn.causal;
    s->ld = cpu__ceil(s->s, CPU_NR) * CPU_NR;
    /* As many rows as the second-level cache takes, in whole tiles. Fixed by the shapes. */
    int64_t rows = cpu__max(2, cpu__min(16, score_floats / s->ld / CPU_MR)) * CPU_MR;
    s->block = cpu__min(rows, cpu__ceil(s->t, CPU_MR) * CPU_MR);
    s->n_blocks = cpu__ceil(s->t, s->block);
    s->keys_len = cpu__panels_len(s->d, s->s);
    s->values_len = cpu__panels_len(s->s, s->d);
    *out = s;
    return MD_OK;
}

/* c[rows][...] = a[rows][k] panels for columns 0..n of the panels; row strides lda, ldc. */
static void block_product(int64_t rows, int64_t n, int64_t k, const float *a, int64_t lda,
                          const float *panels, int64_t panel_k, float *c, int64_t ldc)
{
    for (int64_t j = 0; j < n; j += CPU_NR) {
        cpu_tile tile = {1, k, CPU_NR, panels + j * panel_k, NULL, false};
        int nr = (int)cpu__min(CPU_NR, n - j);
        for (int64_t i = 0; i < rows; i += CPU_MR) {
            const float *from[CPU_MR];
            float *to[CPU_MR];
            int mr = (int)cpu__min(CPU_MR, rows - i);
            for (int m = 0; m < mr; m++) {
                from[m] = a + (i + m) * lda;
                to[m] = c + (i + m) * ldc + j;
            }
            cpu__tile(&tile, mr, nr, from, to);
        }
    }
}

/* Replaces a row of scores by e^(scale (x - max)), zero beyond len up to n; returns the log-sum-exp
   and the inverse of the sum. */
static float softmax_row(float *x, int64_t len, int64_t n, float scale, float *inverse)
{
    vf top = v_set(-INFINITY), sum = v_zero();
    int64_t i = 0;
    for (; i + VL <= len; i += VL)
        top = v_max(top, v_load(x + i));
    float max = v_hmax(top), total = 0;
    for (; i < len; i++)
        max = x[i] > max ? x[i] : max;
    vf vmax = v_set(max), vs = v_set(scale);
    for (i = 0; i + VL <= len; i += VL) {
        vf e = v_exp((v_load(x + i) - vmax) * vs);
        v_store(x + i, e);
        sum += e;
    }
    if (i < len) {
        int left = (int)(len - i);
        vf e = v_exp((v_load_n(x + i, left) - vmax) * vs);
        v_store_n(x + i, e, left);
        for (int j = 0; j < left; j++)
            total += e[j];
    }
    for (i = len; i < n; i++)
        x[i] = 0;
    total += v_sum(sum);
    *inverse = 1.0f / total;
    return max * scale + logf(total);
}

static void attention_block(const attn_state *s, int64_t nh, int64_t block, const float *q,
                            const float *keys, const float *values, float *out, float *lse,
                            float *p)
{
    int64_t n = nh / s->heads, h = nh % s->heads, t0 = block * s->block;
    int64_t rows = cpu__min(s->block, s->t - t0);
    int64_t len = s->causal ? t0 + rows : s->s; /* keys that this block sees */
    int64_t at = (n * s->t + t0) * s->width + h * s->d;
    float inverse[16 * CPU_MR];
    block_product(rows, len, s->d, q + at, s->width, keys + nh * s->keys_len, s->d, p, s->ld);
    for (int64_t r = 0; r < rows; r++)
        lse[nh * s->t + t0 + r] =
            softmax_row(p + r * s->ld, s->causal ? t0 + r + 1 : s->s, len, s->scale, &inverse[r]);
    block_product(rows, s->d, len, p, s->ld, values + nh * s->values_len, s->s, out + at, s->width);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < s->d; j++)
            out[at + r * s->width + j] *= inverse[r];
}

static md_status attention_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    const attn_state *s = k->state;
    float *keys = cpu__at(scratch, s->keys_at), *values = cpu__at(scratch, s->values_at);
    int64_t n_heads = s->n * s->heads;
#pragma omp parallel num_threads(cpu__threads_for(k, n_heads * s->t * s->s))
    {
        float *p = cpu__at(scratch, s->thread_at + s->thread_bytes * (size_t)omp_get_thread_num());
#pragma omp for schedule(static)
        for (int64_t i = 0; i < n_heads; i++) {
            int64_t at = i / s->heads * s->s * s->width + i % s->heads * s->d;
            cpu__pack(keys + i * s->keys_len, (const float *)in[1] + at, s->width, true, s->d, s->s,
                      1);
            cpu__pack(values + i * s->values_len, (const float *)in[2] + at, s->width, false, s->s,
                      s->d, 1);
        }
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t i = 0; i < n_heads; i++)
            for (int64_t b = 0; b < s->n_blocks; b++)
                attention_block(s, i, b, in[0], keys, values, out[0], out[1], p);
    }
    return MD_OK;
}

md_status cpu_attention(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    attn_state *s;
    MD_TRY(attn_geometry(node, node->in[0], node->in[1], 49152, k, &s));
    int64_t n_heads = s->n * s->heads;
    s->values_at = cpu__floats(n_heads * s->keys_len);
    s->thread_at = s->values_at + cpu__floats(n_heads * s->values_len);
    s->thread_bytes = cpu__floats(s->block * s->ld);
    k->scratch_bytes = s->thread_at + s->thread_bytes * (size_t)cpu__threads(k);
    k->run = attention_run;
    return MD_OK;
}

/* ---- gradient */

typedef struct attn_grad {
    const float *dout, *q, *key, *value, *out, *lse;
    float *dq, *dk, *dv;
} attn_grad;

/* Scratch of one thread, in floats from its start. */
typedef struct attn_scratch {
    float *p, *ds, *keys_t, *values_t, *keys;
} attn_scratch;

/* p = e^(scale p - lse), ds = p (ds - delta) scale; one row, zero beyond len up to n. */
static void grad_row(const attn_state *s, float *p, float *ds, int64_t len, int64_t n, float lse,
                     float delta)
{
    vf vs = v_set(s->scale), vl = v_set(-lse), vd = v_set(delta);
    for (int64_t i = 0; i < len; i += VL) {
        int w = (int)cpu__min(VL, len - i);
        vf e = v_exp(v_fma(vs, v_load_n(p + i, w), vl));
        v_store_n(p + i, e, w);
        v_store_n(ds + i, e * (v_load_n(ds + i, w) - vd) * vs, w);
    }
    for (int64_t i = len; i < n; i++)
        p[i] = ds[i] = 0;
}

/* c[keys][d] += rows of scores^T b[rows][d] */
static void add_outer(const attn_state *s, int64_t rows, int64_t len, const float *scores,
                      const float *b, float *c)
{
    cpu_outer o = {1, rows, 0, s->ld, 0, s->width};
    for (int64_t i = 0; i < len; i += CPU_MR)
        for (int64_t j = 0; j < s->d; j += CPU_NR)
            cpu__outer(&o, (int)cpu__min(CPU_MR, len - i), (int)cpu__min(CPU_NR, s->d - j),
                       scores + i, b + j, c + i * s->width + j, s->width);
}

static void attention_grad_head(const attn_state *s, int64_t nh, const attn_grad *g,
                                const attn_scratch *m)
{
    int64_t n = nh / s->heads, column = nh % s->heads * s->d;
    int64_t kv = n * s->s * s->width + column;
    cpu__pack(m->keys_t, g->key + kv, s->width, true, s->d, s->s, 1);
    cpu__pack(m->values_t, g->value + kv, s->width, true, s->d, s->s, 1);
    cpu__pack(m->keys, g->key + kv, s->width, false, s->s, s->d, 1);
    for (int64_t i = 0; i < s->s; i++) {
        memset(g->dk + kv + i * s->width, 0, (size_t)s->d * sizeof(float));
        memset(g->dv + kv + i * s->width, 0, (size_t)s->d * sizeof(float));
    }
    for (int64_t t0 = 0; t0 < s->t; t0 += s->block) {
        int64_t rows = cpu__min(s->block, s->t - t0), len = s->causal ? t0 + rows : s->s;
        int64_t at = (n * s->t + t0) * s->width + column;
        block_product(rows, len, s->d, g->q + at, s->width, m->keys_t, s->d, m->p, s->ld);
        block_product(rows, len, s->d, g->dout + at, s->width, m->values_t, s->d, m->ds, s->ld);
        for (int64_t r = 0; r < rows; r++) {
            const float *o = g->out + at + r * s->width, *d = g->dout + at + r * s->width;
            vf sum = v_zero();
            for (int64_t j = 0; j < s->d; j += VL) {
                int w = (int)cpu__min(VL, s->d - j);
                sum = v_fma(v_load_n(o + j, w), v_load_n(d + j, w), sum);
            }
            grad_row(s, m->p + r * s->ld, m->ds + r * s->ld, s->causal ? t0 + r + 1 : s->s, len,
                     g->lse[nh * s->t + t0 + r], v_sum(sum));
        }
        add_outer(s, rows, len, m->p, g->dout + at, g->dv + kv);
        add_outer(s, rows, len, m->ds, g->q + at, g->dk + kv);
        block_product(rows, s->d, len, m->ds, s->ld, m->keys, s->s, g->dq + at, s->width);
    }
}

static md_status attention_grad_run(const md_kernel *k, void *const *in, void *const *out,
                                    void *scratch)
{
    const attn_state *s = k->state;
    const attn_grad g = {in[0], in[1], in[2], in[3], in[4], in[5], out[0], out[1], out[2]};
    int64_t n_heads = s->n * s->heads;
#pragma omp parallel num_threads(cpu__threads_for(k, n_heads * s->t * s->s))
    {
        float *p = cpu__at(scratch, s->thread_bytes * (size_t)omp_get_thread_num());
        attn_scratch m = {p, p + s->block * s->ld, p + 2 * s->block * s->ld,
                          p + 2 * s->block * s->ld + s->keys_len,
                          p + 2 * s->block * s->ld + 2 * s->keys_len};
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < n_heads; i++)
            attention_grad_head(s, i, &g, &m);
    }
    return MD_OK;
}

md_status cpu_attention_grad(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    attn_state *s;
    MD_TRY(attn_geometry(node, node->in[1], node->in[2], 32768, k, &s));
    s->thread_bytes = cpu__floats(2 * s->block * s->ld + 2 * s->keys_len + s->values_len);
    k->scratch_bytes = s->thread_bytes * (size_t)cpu__threads(k);
    k->run = attention_grad_run;
    return MD_OK;
}
