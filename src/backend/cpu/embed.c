/* Table lookups and the sinusoidal embedding of time steps. */
#include "backend/cpu/internal.h"

static md_status check_ids(const md_kernel *k, const int32_t *ids, int64_t n, int64_t vocab)
{
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= vocab)
            MD_FAIL(MD_BAD_INPUT, "%s at '%s': id %d at position %lld, the table has %lld rows",
                    md_op_name(k->node->op), k->node->path, (int)ids[i], (long long)i,
                    (long long)vocab);
    return MD_OK;
}

static md_status embedding_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    const int32_t *ids = in[0];
    int64_t n = md_numel(k->node->in[0]), vocab = k->node->in[1]->dim[0],
            d = k->node->in[1]->dim[1];
    MD_TRY(check_ids(k, ids, n, vocab));
    for (int64_t i = 0; i < n; i++)
        memcpy((float *)out[0] + i * d, (const float *)in[1] + ids[i] * d,
               (size_t)d * sizeof(float));
    return MD_OK;
}

md_status cpu_embedding(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = embedding_run;
    return MD_OK;
}

static md_status embedding_grad_run(const md_kernel *k, void *const *in, void *const *out,
                                    void *scratch)
{
    (void)scratch;
    const float *dy = in[0];
    const int32_t *ids = in[1];
    float *table = out[0];
    int64_t n = md_numel(k->node->in[1]), vocab = k->node->out[0]->dim[0],
            d = k->node->out[0]->dim[1];
    MD_TRY(check_ids(k, ids, n, vocab));
    memset(table, 0, (size_t)(vocab * d) * sizeof(float));
    /* in the order of the ids, whatever the threads: these share out the columns */
    int64_t n_parts = cpu__ceil(d, 64);
#pragma omp parallel for num_threads(cpu__threads_for(k, n *d))
    for (int64_t part = 0; part < n_parts; part++)
        for (int64_t i = 0; i < n; i++) {
            float *row = table + ids[i] * d;
            for (int64_t j = part * 64; j < cpu__min(d, (part + 1) * 64); j++)
                row[j] += dy[i * d + j];
        }
    return MD_OK;
}

md_status cpu_embedding_grad(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = embedding_grad_run;
    return MD_OK;
}

/* Double throughout: N x dim values, and sin of large arguments is where f32 would lose digits. */
static md_status timestep_embedding_run(const md_kernel *k, void *const *in, void *const *out,
                                        void *scratch)
{
    (void)scratch;
    const float *t = in[0];
    float *y = out[0];
    int64_t n = md_numel(k->node->in[0]), dim = k->node->out[0]->dim[1], half = dim / 2;
    const md_attr *a = &k->node->attr;
    for (int64_t i = 0; i < half; i++) {
        double f = exp(-log(a->temb.max_period) * (double)i / ((double)half - a->temb.shift));
        for (int64_t r = 0; r < n; r++) {
            double angle = (double)t[r] * f;
            float *row = y + r * dim;
            row[i] = (float)(a->temb.flip ? cos(angle) : sin(angle));
            row[half + i] = (float)(a->temb.flip ? sin(angle) : cos(angle));
        }
    }
    return MD_OK;
}

md_status cpu_timestep_embedding(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = timestep_embedding_run;
    return MD_OK;
}
