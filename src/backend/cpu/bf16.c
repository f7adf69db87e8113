/* bf16 tensors: storage only. A node with bf16 tensors gets the f32 kernel of the same node,
   wrapped in conversions through scratch, so that every op rounds once, at its end. */
#include "base/bf16.h"
#include "backend/cpu/internal.h"

void cpu__f32_from_bf16(float *dst, const uint16_t *src, int64_t n, int threads)
{
#pragma omp parallel for simd num_threads(threads) if (n > 65536)
    for (int64_t i = 0; i < n; i++)
        dst[i] = md_bf16_to_f32(src[i]);
}

void cpu__bf16_from_f32(uint16_t *dst, const float *src, int64_t n, int threads)
{
#pragma omp parallel for simd num_threads(threads) if (n > 65536)
    for (int64_t i = 0; i < n; i++)
        dst[i] = md_f32_to_bf16(src[i]);
}

typedef struct wrapped {
    md_node node; /* the node with every bf16 tensor seen as f32 */
    md_tensor tensor[MD_MAX_IN + MD_MAX_OUT];
    md_kernel inner;
    size_t in_at[MD_MAX_IN], out_at[MD_MAX_OUT], inner_at;
    bool in_bf16[MD_MAX_IN], out_bf16[MD_MAX_OUT];
    bool in_place; /* the op changes in[0], which is out[0] */
} wrapped;

static md_status wrapped_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    const wrapped *w = k->state;
    const md_node *node = k->node;
    void *f_in[MD_MAX_IN] = {0}, *f_out[MD_MAX_OUT] = {0};
    int threads = cpu__threads(k);
    for (int i = 0; i < node->n_in; i++) {
        f_in[i] = in[i];
        if (in[i] && w->in_bf16[i]) {
            f_in[i] = cpu__at(scratch, w->in_at[i]);
            cpu__f32_from_bf16(f_in[i], in[i], md_numel(node->in[i]), threads);
        }
    }
    for (int i = 0; i < node->n_out; i++)
        f_out[i] = w->out_bf16[i] ? cpu__at(scratch, w->out_at[i]) : out[i];
    if (w->in_place)
        f_out[0] = f_in[0];
    MD_TRY(w->inner.run(&w->inner, f_in, f_out, cpu__at(scratch, w->inner_at)));
    for (int i = 0; i < node->n_out; i++)
        if (out[i] && w->out_bf16[i])
            cpu__bf16_from_f32(out[i], f_out[i], md_numel(node->out[i]), threads);
    return MD_OK;
}

static void wrapped_release(md_kernel *k)
{
    wrapped *w = k->state;
    if (w && w->inner.release)
        w->inner.release(&w->inner);
    free(w);
    k->state = NULL;
}

md_status cpu__prepare_bf16(md_backend *be, const md_node *node, md_kernel *k)
{
    void *state;
    MD_TRY(md_kernel_state(k, sizeof(wrapped), &state));
    wrapped *w = state;
    k->release = wrapped_release;
    w->node = *node;
    w->in_place = node->op == MD_OP_accumulate;
    size_t at = 0;
    for (int i = 0; i < node->n_in; i++) {
        if (!node->in[i] || node->in[i]->dtype != MD_BF16)
            continue;
        md_tensor *t = &w->tensor[i];
        *t = *node->in[i];
        t->dtype = MD_F32;
        w->node.in[i] = t;
        w->in_bf16[i] = true;
        w->in_at[i] = at;
        at += cpu__floats(md_numel(t));
    }
    for (int i = 0; i < node->n_out; i++) {
        if (!node->out[i] || node->out[i]->dtype != MD_BF16)
            continue;
        md_tensor *t = &w->tensor[MD_MAX_IN + i];
        *t = *node->out[i];
        t->dtype = MD_F32;
        w->node.out[i] = t;
        w->out_bf16[i] = true;
        w->out_at[i] = at;
        if (!(w->in_place && i == 0))
            at += cpu__floats(md_numel(t));
    }
    w->inner_at = at;
    w->inner.node = &w->node;
    w->inner.backend = be;
    MD_TRY(cpu__prepare_f32(be, &w->node, &w->inner));
    k->scratch_bytes = at + w->inner.scratch_bytes;
    k->run = wrapped_run;
    return MD_OK;
}
