/* Attention by (sample, head, panels of 16 query rows) and blocks of keys, which stay in the cache
   while the panels pass. Scores are kept transposed, [keys][16 queries], so that softmax works on
   whole vectors and neither keys nor values are repacked. Sums and maxima are carried from block to
   block; the backward pass recomputes the probabilities from the saved log-sum-exp (Dao et al.
   2022, arXiv:2205.14135, algorithm 1 and section 3.1). */
#include "backend/cpu/gemm.h"

#define Q      CPU_NR /* queries of a panel */
#define KEYS   256    /* of a block: their scores for a panel stay in the first-level cache */
#define PANELS 8      /* of a task */

typedef struct attn_state {
    int64_t n, t, s, width, heads, d; /* width = heads d */
    int64_t block;                    /* query rows of a backward block: panels of Q */
    float scale;
    bool causal;
    size_t thread_bytes;
} attn_state;

static md_status attn_geometry(const md_node *node, const md_tensor *q, const md_tensor *key,
                               md_kernel *k, attn_state **out)
{
    void *state;
    MD_TRY(md_kernel_state(k, sizeof(attn_state), &state));
    attn_state *s = state;
    s->n = q->dim[0], s->t = q->dim[1], s->width = q->dim[2], s->s = key->dim[1];
    s->heads = node->attr.attn.heads;
    s->d = s->width / s->heads;
    s->scale =
        (float)(node->attr.attn.scale != 0 ? node->attr.attn.scale : 1.0 / sqrt((double)s->d));
    s->causal = node->attr.attn.causal;
    *out = s;
    return MD_OK;
}

/* rows x[i][0..d) (stride ld), i < n <= Q, to panel[d][Q] times `sign`, zero for i >= n. */
static void pack_queries(float *panel, const float *x, int64_t ld, int64_t d, int64_t n, float sign)
{
    cpu__pack_panel(panel, x, ld, true, d, n);
    if (sign < 0)
        for (int64_t i = 0; i < d * Q; i++)
            panel[i] = -panel[i];
}

/* scores[key][Q] (stride ld) = x[key] . panel, for len keys at stride width */
static void score_rows(const attn_state *s, int64_t len, const float *x, const float *panel,
                       float *scores, int64_t ld)
{
    cpu_tile tile = {1, s->d, Q, panel, NULL, false};
    cpu__tile_rows(&tile, len, Q, x, s->width, scores, ld);
}

/* out[d][Q] += sum over at most KEYS keys of x[key][d] scores[key][Q] */
static void sum_keys(const attn_state *s, int64_t len, const float *x, const float *scores,
                     int64_t ld, float *out)
{
    int64_t n_tiles = cpu__ceil(s->d, CPU_MR);
    cpu_outer o = {1, len, 0, s->width, 0, ld};
    for (int64_t i = 0; i < n_tiles; i++) {
        int64_t d0 = s->d * i / n_tiles, d1 = s->d * (i + 1) / n_tiles;
        cpu__outer(&o, (int)(d1 - d0), Q, x + d0, scores, out + d0 * Q, Q);
    }
}

/* Sets to `value` what causality hides: query t0 + i must not see keys beyond t0 + i; both counted
   from the block's first key. */
static void hide(float *scores, int64_t ld, int64_t t0, int64_t len, float value)
{
    for (int64_t key = cpu__max(0, t0 + 1); key < len; key++)
        for (int64_t i = 0; i < cpu__min(Q, key - t0); i++)
            scores[key * ld + i] = value;
}

/* What is known of a panel after some blocks of keys. */
typedef struct panel_sums {
    vf max[2], total[2];  /* of the scores before scaling; of e^(scale (score - max)) */
    float *queries, *sum; /* [d][Q], [d][Q] */
} panel_sums;

/* A block of keys. A hidden score's e^-inf is tiny, not 0: below the last bit of the total. */
static void attend(const attn_state *s, panel_sums *a, const float *key, const float *value,
                   int64_t len, int64_t t0, float *p)
{
    vf c = v_set(fabsf(s->scale) * CPU_LOG2E);
    score_rows(s, len, key, a->queries, p, Q);
    if (s->causal)
        hide(p, Q, t0, len, -INFINITY);
    for (int half = 0; half < 2; half++) {
        vf max = a->max[half], total = v_zero();
        float *x = p + half * VL;
        for (int64_t i = 0; i < len; i++)
            max = v_max(max, v_load(x + i * Q));
        for (int64_t i = 0; i < len; i++) {
            vf e = v_exp2_fast((v_load(x + i * Q) - max) * c);
            v_store(x + i * Q, e);
            total += e;
        }
        vf shrink = v_exp2_fast((a->max[half] - max) * c);
        a->total[half] = v_fma(a->total[half], shrink, total);
        a->max[half] = max;
        for (int64_t j = 0; j < s->d; j++)
            v_store(a->sum + j * Q + half * VL, v_load(a->sum + j * Q + half * VL) * shrink);
    }
    if (s->causal)
        hide(p, Q, t0, len, 0);
    sum_keys(s, len, value, p, Q, a->sum);
}

/* The panels from query t0 on. */
static void attention_task(const attn_state *s, int64_t nh, int64_t t0, void *const *in, float *out,
                           float *lse, float *work)
{
    int64_t n = nh / s->heads, column = nh % s->heads * s->d;
    int64_t rows = cpu__min(PANELS * Q, s->t - t0), n_panels = cpu__ceil(rows, Q);
    int64_t q_at = (n * s->t + t0) * s->width + column, kv_at = n * s->s * s->width + column;
    const float *key = (const float *)in[1] + kv_at, *value = (const float *)in[2] + kv_at;
    float *p = work + 2 * PANELS * s->d * Q, scale = fabsf(s->scale);
    panel_sums panel[PANELS];
    memset(work, 0, (size_t)(2 * PANELS * s->d * Q) * sizeof(float));
    for (int64_t b = 0; b < n_panels; b++) {
        panel_sums *a = &panel[b];
        a->max[0] = a->max[1] = v_set(-INFINITY);
        a->total[0] = a->total[1] = v_zero();
        a->queries = work + 2 * b * s->d * Q;
        a->sum = a->queries + s->d * Q;
        pack_queries(a->queries, (const float *)in[0] + q_at + b * Q * s->width, s->width, s->d,
                     cpu__min(Q, rows - b * Q), s->scale);
    }
    for (int64_t k0 = 0; k0 < s->s; k0 += KEYS)
        for (int64_t b = 0; b < n_panels; b++) {
            int64_t end = s->causal ? t0 + cpu__min(rows, (b + 1) * Q) : s->s;
            int64_t len = cpu__min(KEYS, end - k0);
            if (len > 0)
                attend(s, &panel[b], key + k0 * s->width, value + k0 * s->width, len,
                       t0 + b * Q - k0, p);
        }
    for (int64_t r = 0; r < rows; r++) {
        const panel_sums *a = &panel[r / Q];
        int64_t half = r % Q / VL, lane = r % VL;
        float total = a->total[half][lane], inverse = 1.0f / total;
        lse[nh * s->t + t0 + r] = a->max[half][lane] * scale + logf(total);
        for (int64_t j = 0; j < s->d; j++)
            out[q_at + r * s->width + j] = a->sum[j * Q + r % Q] * inverse;
    }
}

static md_status attention_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    const attn_state *s = k->state;
    int64_t n_heads = s->n * s->heads, n_tasks = cpu__ceil(s->t, PANELS * Q);
#pragma omp parallel num_threads(cpu__threads_for(k, n_heads * s->t * s->s))
    {
        float *work = cpu__at(scratch, s->thread_bytes * (size_t)omp_get_thread_num());
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t i = 0; i < n_heads; i++)
            for (int64_t b = 0; b < n_tasks; b++)
                attention_task(s, i, b * PANELS * Q, in, out[0], out[1], work);
    }
    return MD_OK;
}

md_status cpu_attention(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    attn_state *s = NULL;
    MD_TRY(attn_geometry(node, node->in[0], node->in[1], k, &s));
    s->thread_bytes = cpu__floats((2 * PANELS * s->d + cpu__min(KEYS, s->s)) * Q);
    k->scratch_bytes = s->thread_bytes * (size_t)cpu__threads(k);
    k->run = attention_run;
    return MD_OK;
}

/* ---- gradient */

typedef struct attn_grad {
    const float *dout, *q, *key, *value, *out, *lse;
    float *dq, *dk, *dv;
} attn_grad;

/* One thread's scratch; ld = block. */
typedef struct attn_scratch {
    float *p, *ds;      /* [keys][block] */
    float *panel, *sum; /* [d][Q] */
    float *rows;        /* [block][d rounded up to panels], one panel after the other */
    float *lse, *delta; /* [block] */
} attn_scratch;

/* One panel of a block over len keys from k0 on: p = e^(scale s - lse), ds = p (dp - delta). */
static void grad_panel(const attn_state *s, int64_t nh, int64_t t0, int64_t k0, int64_t len,
                       const attn_grad *g, const attn_scratch *m, int64_t b)
{
    int64_t n = nh / s->heads, column = nh % s->heads * s->d, ld = s->block;
    int64_t rows = cpu__min(Q, s->t - t0), kv_at = (n * s->s + k0) * s->width + column;
    int64_t at = (n * s->t + t0) * s->width + column;
    float *lse = m->lse + b, *delta = m->delta + b, *p = m->p + b, *ds = m->ds + b;
    for (int64_t r = 0; r < Q; r++) { /* rows beyond the last have dout = 0, so any finite p does */
        lse[r] = r < rows ? g->lse[nh * s->t + t0 + r] : 0;
        delta[r] = 0;
        for (int64_t j = 0; r < rows && j < s->d; j++)
            delta[r] += g->dout[at + r * s->width + j] * g->out[at + r * s->width + j];
    }
    pack_queries(m->panel, g->q + at, s->width, s->d, rows, s->scale);
    score_rows(s, len, g->key + kv_at, m->panel, p, ld);
    pack_queries(m->panel, g->dout + at, s->width, s->d, rows, 1);
    score_rows(s, len, g->value + kv_at, m->panel, ds, ld);
    vf c = v_set(fabsf(s->scale)), e = v_set(CPU_LOG2E);
    for (int half = 0; half < Q; half += VL) {
        vf l = v_load(lse + half), d = v_load(delta + half);
        for (int64_t i = 0; i < len; i++) {
            vf prob = v_exp2_fast(v_fma(c, v_load(p + i * ld + half), -l) * e);
            v_store(p + i * ld + half, prob);
            v_store(ds + i * ld + half, prob * (v_load(ds + i * ld + half) - d));
        }
    }
    if (s->causal) {
        hide(p, ld, t0 - k0, len, 0);
        hide(ds, ld, t0 - k0, len, 0);
    }
    memset(m->sum, 0, (size_t)(s->d * Q) * sizeof(float));
    sum_keys(s, len, g->key + kv_at, ds, ld, m->sum);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < s->d; j++)
            g->dq[at + r * s->width + j] =
                (k0 ? g->dq[at + r * s->width + j] : 0) + s->scale * m->sum[j * Q + r];
}

/* y[key][d] (+)= sum over the block's queries of scores[key][query] x[query][d] */
static void add_queries(const attn_state *s, int64_t rows, int64_t len, const float *scores,
                        const float *x, float *y, bool add, float *packed)
{
    for (int64_t j = 0; j < s->d; j += CPU_NR) {
        int nr = (int)cpu__min(CPU_NR, s->d - j);
        cpu__pack_panel(packed, x + j, s->width, false, rows, nr);
        cpu_tile tile = {1, rows, CPU_NR, packed, NULL, add};
        cpu__tile_rows(&tile, len, nr, scores, s->block, y + j, s->width);
    }
}

static void zero_rows(const attn_state *s, float *y, int64_t from, int64_t to)
{
    for (int64_t i = from; i < to; i++)
        memset(y + i * s->width, 0, (size_t)s->d * sizeof(float));
}

static void attention_grad_head(const attn_state *s, int64_t nh, const attn_grad *g,
                                const attn_scratch *m)
{
    int64_t n = nh / s->heads, column = nh % s->heads * s->d;
    int64_t kv_at = n * s->s * s->width + column;
    if (s->causal) { /* the first block does not reach all keys */
        zero_rows(s, g->dk + kv_at, 0, s->s);
        zero_rows(s, g->dv + kv_at, 0, s->s);
    }
    for (int64_t k0 = 0; k0 < s->s; k0 += KEYS)
        for (int64_t t0 = 0; t0 < s->t; t0 += s->block) {
            int64_t rows = cpu__min(s->block, s->t - t0), end = s->causal ? t0 + rows : s->s;
            int64_t len = cpu__min(KEYS, end - k0);
            int64_t at = (n * s->t + t0) * s->width + column, to = kv_at + k0 * s->width;
            if (len <= 0)
                continue;
            for (int64_t b = 0; b < rows; b += Q)
                grad_panel(s, nh, t0 + b, k0, len, g, m, b);
            bool add = s->causal || t0 > 0;
            add_queries(s, rows, len, m->p, g->dout + at, g->dv + to, add, m->rows);
            add_queries(s, rows, len, m->ds, g->q + at, g->dk + to, add, m->rows);
        }
    for (int64_t i = 0; i < s->s; i++)
        for (int64_t j = 0; j < s->d; j++)
            g->dk[kv_at + i * s->width + j] *= s->scale;
}

static md_status attention_grad_run(const md_kernel *k, void *const *in, void *const *out,
                                    void *scratch)
{
    const attn_state *s = k->state;
    const attn_grad g = {in[0], in[1], in[2], in[3], in[4], in[5], out[0], out[1], out[2]};
    int64_t n_heads = s->n * s->heads;
    /* A thread does whole heads: dk and dv sum over the queries. */
#pragma omp parallel num_threads(cpu__threads_for(k, n_heads * s->t * s->s))
    {
        float *at = cpu__at(scratch, s->thread_bytes * (size_t)omp_get_thread_num());
        attn_scratch m;
        m.p = at;
        m.ds = m.p + cpu__min(KEYS, s->s) * s->block;
        m.panel = m.ds + cpu__min(KEYS, s->s) * s->block;
        m.sum = m.panel + s->d * Q;
        m.rows = m.sum + s->d * Q;
        m.lse = m.rows + s->block * CPU_NR;
        m.delta = m.lse + s->block;
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < n_heads; i++)
            attention_grad_head(s, i, &g, &m);
    }
    return MD_OK;
}

md_status cpu_attention_grad(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    attn_state *s = NULL;
    MD_TRY(attn_geometry(node, node->in[1], node->in[2], k, &s));
    s->block = cpu__min(4, cpu__ceil(s->t, Q)) * Q; /* p and ds stay in the second-level cache */
    s->thread_bytes = cpu__floats(2 * cpu__min(KEYS, s->s) * s->block + 2 * s->d * Q +
                                  s->block * CPU_NR + 2 * s->block);
    k->scratch_bytes = s->thread_bytes * (size_t)cpu__threads(k);
    k->run = attention_grad_run;
    return MD_OK;
}
