/* write accumulate adamw ema. */
#include "backend/cuda/update.h"

static md_status write_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)out;
    (void)scratch;
    const cuda_device *d = cuda__device(k->backend);
    const md_tensor *t = k->node->in[0];
    size_t bytes = (size_t)md_numel(t) * k->backend->ops->elem_bytes(t->dtype);
    return cuda__launched(k, cuda__copy_launch(in[0], in[1], (int64_t)bytes, d->n_sm, d->stream));
}

md_status cuda_write(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = write_run;
    return MD_OK;
}

static md_status accumulate_run(const md_kernel *k, void *const *in, void *const *out,
                                void *scratch)
{
    (void)out;
    (void)scratch;
    const cuda_device *d = cuda__device(k->backend);
    const md_tensor *t = k->node->in[0];
    return cuda__launched(
        k, cuda__accumulate_launch(in[0], in[1], t->dtype, md_numel(t), d->n_sm, d->stream));
}

md_status cuda_accumulate(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    if (node->in[0]->dtype != MD_F32 && node->in[0]->dtype != MD_BF16)
        MD_FAIL(MD_SHAPE, "accumulate at '%s': no kernel for %s", node->path,
                md_shape_text(node->in[0]));
    k->run = accumulate_run;
    return MD_OK;
}

static md_status adamw_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)out;
    (void)scratch;
    const cuda_device *d = cuda__device(k->backend);
    const md_node *node = k->node;
    const double b1 = node->attr.adamw.beta1, b2 = node->attr.adamw.beta2;
    const cuda_adamw_args a = {.n = md_numel(node->in[0]),
                               .p = in[0],
                               .g = in[1],
                               .m = in[2],
                               .v = in[3],
                               .gnorm2 = in[4],
                               .hyper = in[5],
                               .shadow = in[6],
                               .m_scale = in[7],
                               .v_scale = in[8],
                               .b1 = (float)b1,
                               .b2 = (float)b2,
                               .a1 = (float)(1 - b1),
                               .a2 = (float)(1 - b2),
                               .eps = (float)node->attr.adamw.eps,
                               .weight_decay = (float)node->attr.adamw.weight_decay};
    return cuda__launched(
        k, cuda__adamw_launch(&a, node->in[1]->dtype, node->in[2]->dtype, d->n_sm, d->stream));
}

md_status cuda_adamw(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = adamw_run;
    return MD_OK;
}

static md_status ema_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)out;
    (void)scratch;
    const cuda_device *d = cuda__device(k->backend);
    return cuda__launched(
        k, cuda__ema_launch(in[0], in[1], in[2], md_numel(k->node->in[0]), d->n_sm, d->stream));
}

md_status cuda_ema(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = ema_run;
    return MD_OK;
}
