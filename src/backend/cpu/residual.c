/* conv2d and linear with a residual: their own kernel, then an addition in place. */
#include "backend/cpu/internal.h"
#include <string.h>

typedef struct residual {
    md_node inner_node, add_node;
    md_kernel inner, add;
} residual;

static md_status run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    const residual *s = k->state;
    MD_TRY(s->inner.run(&s->inner, in, out, scratch));
    void *const add_in[] = {out[0], in[3]};
    return s->add.run(&s->add, add_in, out, scratch);
}

static void release(md_kernel *k)
{
    residual *s = k->state;
    if (s->inner.release)
        s->inner.release(&s->inner);
    if (s->add.release)
        s->add.release(&s->add);
    free(s);
    k->state = NULL;
}

md_status cpu__prepare_residual(md_backend *be, const md_node *node, md_prepare_fn inner,
                                md_kernel *k)
{
    void *state;
    MD_TRY(md_kernel_state(k, sizeof(residual), &state));
    residual *s = state;
    k->release = release;
    s->inner_node = s->add_node = *node;
    s->inner_node.in[3] = NULL;
    s->add_node.op = MD_OP_add;
    memset(s->add_node.in, 0, sizeof s->add_node.in);
    s->add_node.n_in = 2;
    s->add_node.in[0] = node->out[0];
    s->add_node.in[1] = node->in[3];
    MD_TRY(inner(be, &s->inner_node, &s->inner));
    MD_TRY(inner(be, &s->add_node, &s->add));
    k->scratch_bytes = s->inner.scratch_bytes > s->add.scratch_bytes ? s->inner.scratch_bytes
                                                                     : s->add.scratch_bytes;
    k->run = run;
    return MD_OK;
}
