/* group_norm group_norm_grad layer_norm layer_norm_grad. */
#include "backend/cuda/norm.h"

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Chunks short enough for many blocks, long enough that the partial results stay small beside x. */
static md_status shape_prepare(md_kernel *k, const md_tensor *x, int64_t samples, int64_t groups)
{
    void *state;
    if (x->dtype != MD_F32 && x->dtype != MD_BF16)
        MD_FAIL(MD_SHAPE, "%s at '%s': no kernel for %s", md_op_name(k->node->op), k->node->path,
                md_shape_text(x));
    MD_TRY(md_kernel_state(k, sizeof(cuda_norm_shape), &state));
    cuda_norm_shape *z = state;
    z->samples = samples;
    z->channels = x->dim[x->ndim - 1];
    z->rows = md_numel(x) / (samples * z->channels);
    z->groups = groups;
    z->chunk_rows = most(z->rows <= 512 ? 16 : 32, (z->rows + 511) / 512);
    z->chunks = (z->rows + z->chunk_rows - 1) / z->chunk_rows;
    z->eps = k->node->attr.norm.eps;
    z->silu = k->node->attr.norm.act == MD_ACT_SILU;
    z->dtype = x->dtype;
    return MD_OK;
}

static size_t scratch_bytes(const md_kernel *k)
{
    return (size_t)cuda__norm_scratch(k->state) * sizeof(float);
}

static md_status group_norm_run(const md_kernel *k, void *const *in, void *const *out,
                                void *scratch)
{
    const cuda_device *d = cuda__device(k->backend);
    const cuda_norm_args a = {.x = in[0],
                              .gamma = in[1],
                              .beta = in[2],
                              .y = out[0],
                              .mean = out[1],
                              .rstd = out[2],
                              .scratch = scratch};
    return cuda__launched(k, cuda__group_norm_launch(k->state, &a, d->n_sm, d->stream));
}

md_status cuda_group_norm(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    const md_tensor *x = node->in[0];
    k->run = group_norm_run;
    MD_TRY(shape_prepare(k, x, x->dim[0], node->attr.norm.groups));
    k->scratch_bytes = scratch_bytes(k);
    return MD_OK;
}

static md_status group_norm_grad_run(const md_kernel *k, void *const *in, void *const *out,
                                     void *scratch)
{
    const cuda_device *d = cuda__device(k->backend);
    const cuda_norm_args a = {.dy = in[0],
                              .x = in[1],
                              .gamma = in[2],
                              .beta = in[3],
                              .y = out[0],
                              .dgamma = out[1],
                              .dbeta = out[2],
                              .mean = in[4],
                              .rstd = in[5],
                              .scratch = scratch};
    return cuda__launched(k, cuda__group_norm_grad_launch(k->state, &a, d->n_sm, d->stream));
}

md_status cuda_group_norm_grad(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    const md_tensor *x = node->in[1];
    k->run = group_norm_grad_run;
    MD_TRY(shape_prepare(k, x, x->dim[0], node->attr.norm.groups));
    k->scratch_bytes = scratch_bytes(k);
    return MD_OK;
}

static md_status layer_norm_run(const md_kernel *k, void *const *in, void *const *out,
                                void *scratch)
{
    (void)scratch;
    const cuda_device *d = cuda__device(k->backend);
    const cuda_norm_args a = {
        .x = in[0], .gamma = in[1], .beta = in[2], .y = out[0], .mean = out[1], .rstd = out[2]};
    return cuda__launched(k, cuda__layer_norm_launch(k->state, &a, d->n_sm, d->stream));
}

md_status cuda_layer_norm(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    k->run = layer_norm_run;
    return shape_prepare(k, node->in[0], 1, 1);
}

static md_status layer_norm_grad_run(const md_kernel *k, void *const *in, void *const *out,
                                     void *scratch)
{
    const cuda_device *d = cuda__device(k->backend);
    const cuda_norm_args a = {.dy = in[0],
                              .x = in[1],
                              .gamma = in[2],
                              .y = out[0],
                              .dgamma = out[1],
                              .dbeta = out[2],
                              .mean = in[3],
                              .rstd = in[4],
                              .scratch = scratch};
    return cuda__launched(k, cuda__layer_norm_grad_launch(k->state, &a, d->n_sm, d->stream));
}

md_status cuda_layer_norm_grad(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    k->run = layer_norm_grad_run;
    MD_TRY(shape_prepare(k, node->in[1], 1, 1));
    k->scratch_bytes = scratch_bytes(k);
    return MD_OK;
}
