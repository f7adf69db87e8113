/* attention attention_grad by own kernels, for what cuDNN does not take. */
#include "backend/cuda/flash.h"
#include <math.h>

static md_status shape_prepare(md_kernel *k, const md_tensor *q, const md_tensor *key)
{
    void *state;
    if (q->dtype != MD_F32 && q->dtype != MD_BF16)
        MD_FAIL(MD_SHAPE, "%s at '%s': no kernel for %s", md_op_name(k->node->op), k->node->path,
                md_shape_text(q));
    MD_TRY(md_kernel_state(k, sizeof(cuda_flash_shape), &state));
    const md_attr *attr = &k->node->attr;
    int64_t d = q->dim[2] / attr->attn.heads;
    double scale = attr->attn.scale;
    *(cuda_flash_shape *)state =
        (cuda_flash_shape){.N = q->dim[0],
                           .T = q->dim[1],
                           .S = key->dim[1],
                           .heads = attr->attn.heads,
                           .d = (int)d,
                           .scale = (float)(scale != 0 ? scale : 1 / sqrt((double)d)),
                           .causal = attr->attn.causal,
                           .dtype = q->dtype};
    return MD_OK;
}

static md_status flash_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    const cuda_device *d = cuda__device(k->backend);
    const cuda_flash_args a = {.q = in[0], .k = in[1], .v = in[2], .out = out[0], .lse = out[1]};
    return cuda__launched(k, cuda__flash_launch(k->state, &a, d->n_sm, d->stream));
}

md_status cuda__flash(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    k->run = flash_run;
    return shape_prepare(k, node->in[0], node->in[1]);
}

static md_status flash_grad_run(const md_kernel *k, void *const *in, void *const *out,
                                void *scratch)
{
    const cuda_device *d = cuda__device(k->backend);
    const cuda_flash_args a = {.dout = in[0],
                               .q = in[1],
                               .k = in[2],
                               .v = in[3],
                               .out = in[4],
                               .lse = in[5],
                               .delta = scratch,
                               .dq = out[0],
                               .dk = out[1],
                               .dv = out[2]};
    return cuda__launched(k, cuda__flash_grad_launch(k->state, &a, d->n_sm, d->stream));
}

md_status cuda__flash_grad(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    k->run = flash_grad_run;
    MD_TRY(shape_prepare(k, node->in[1], node->in[2]));
    k->scratch_bytes = (size_t)md_numel(node->in[5]) * sizeof(float);
    return MD_OK;
}
