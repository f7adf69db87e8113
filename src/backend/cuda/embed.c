/* embedding embedding_grad timestep_embedding. */
#include "backend/cuda/embed.h"

static md_status embedding_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    const md_tensor *ids = k->node->in[0], *table = k->node->in[1];
    int64_t width = table->dim[1] * (table->dtype == MD_BF16 ? 2 : 4);
    return cuda__launched(k, cuda__embedding(cuda__device(k->backend), md_numel(ids), table->dim[0],
                                             width, in[0], in[1], out[0]));
}

md_status cuda_embedding(md_backend *be, const md_node *node, md_kernel *k)
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
    const md_tensor *ids = k->node->in[1], *dtable = k->node->out[0];
    return cuda__launched(k, cuda__embedding_grad(cuda__device(k->backend), dtable->dtype,
                                                  md_numel(ids), dtable->dim[0], dtable->dim[1],
                                                  in[0], in[1], out[0]));
}

md_status cuda_embedding_grad(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = embedding_grad_run;
    return MD_OK;
}

static md_status timestep_embedding_run(const md_kernel *k, void *const *in, void *const *out,
                                        void *scratch)
{
    (void)scratch;
    const md_tensor *y = k->node->out[0];
    const md_attr *a = &k->node->attr;
    return cuda__launched(k, cuda__timestep_embedding(cuda__device(k->backend), y->dim[0],
                                                      y->dim[1] / 2, a->temb.max_period,
                                                      a->temb.shift, a->temb.flip, in[0], out[0]));
}

md_status cuda_timestep_embedding(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = timestep_embedding_run;
    return MD_OK;
}
