/* concat slice pad_axis upsample2x downsum2x. Around an axis, tensors are rows (the dims before it)
   of bytes (the axis and the dims behind it). */
#include "backend/cuda/shape.h"

static int64_t elem_bytes(const md_tensor *t)
{
    return t->dtype == MD_BF16 ? 2 : 4;
}

static int64_t rows_before(const md_tensor *t, int axis)
{
    int64_t n = 1;
    for (int i = 0; i < axis; i++)
        n *= t->dim[i];
    return n;
}

/* Bytes of one step along axis. */
static int64_t step_bytes(const md_tensor *t, int axis)
{
    int64_t n = elem_bytes(t);
    for (int i = axis + 1; i < t->ndim; i++)
        n *= t->dim[i];
    return n;
}

static md_status concat_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    const md_node *n = k->node;
    const md_tensor *y = n->out[0];
    int axis = n->attr.axis.axis;
    int64_t rows = rows_before(y, axis), step = step_bytes(y, axis), at = 0;
    for (int i = 0; i < n->n_in; i++) {
        int64_t width = n->in[i]->dim[axis] * step;
        MD_TRY(cuda__launched(k, cuda__copy_rows(cuda__device(k->backend), rows, width, in[i],
                                                 width, (char *)out[0] + at, y->dim[axis] * step)));
        at += width;
    }
    return MD_OK;
}

md_status cuda_concat(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = concat_run;
    return MD_OK;
}

static md_status slice_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    const md_node *n = k->node;
    const md_tensor *x = n->in[0], *y = n->out[0];
    int axis = n->attr.axis.axis;
    int64_t step = step_bytes(y, axis), width = y->dim[axis] * step;
    const char *from = (const char *)in[0] + n->attr.axis.start * step;
    return cuda__launched(k, cuda__copy_rows(cuda__device(k->backend), rows_before(y, axis), width,
                                             from, x->dim[axis] * step, out[0], width));
}

md_status cuda_slice(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = slice_run;
    return MD_OK;
}

static md_status pad_axis_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    const md_node *n = k->node;
    const md_tensor *x = n->in[0], *y = n->out[0];
    int axis = n->attr.axis.axis;
    int64_t step = step_bytes(y, axis);
    return cuda__launched(k, cuda__pad_rows(cuda__device(k->backend), rows_before(y, axis),
                                            y->dim[axis] * step, n->attr.axis.start * step, in[0],
                                            x->dim[axis] * step, out[0]));
}

md_status cuda_pad_axis(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = pad_axis_run;
    return MD_OK;
}

static md_status upsample2x_run(const md_kernel *k, void *const *in, void *const *out,
                                void *scratch)
{
    (void)scratch;
    const md_tensor *x = k->node->in[0];
    return cuda__launched(k, cuda__upsample2x(cuda__device(k->backend), x->dim[0] * x->dim[1],
                                              x->dim[2], x->dim[3] * elem_bytes(x), in[0], out[0]));
}

md_status cuda_upsample2x(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = upsample2x_run;
    return MD_OK;
}

static md_status downsum2x_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    const md_tensor *y = k->node->out[0];
    return cuda__launched(k,
                          cuda__downsum2x(cuda__device(k->backend), y->dtype, y->dim[0] * y->dim[1],
                                          y->dim[2], y->dim[3], in[0], out[0]));
}

md_status cuda_downsum2x(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = downsum2x_run;
    return MD_OK;
}
