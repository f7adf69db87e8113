/* Ops that move elements: concat, slice and pad along an axis, 2x up and down. */
#include "backend/cpu/internal.h"

/* Around `axis`: outer dims folded, and the floats behind one step along it. */
static int64_t outer_of(const md_tensor *t, int axis)
{
    int64_t n = 1;
    for (int i = 0; i < axis; i++)
        n *= t->dim[i];
    return n;
}

static int64_t inner_of(const md_tensor *t, int axis)
{
    int64_t n = 1;
    for (int i = axis + 1; i < t->ndim; i++)
        n *= t->dim[i];
    return n;
}

static md_status concat_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    const md_node *node = k->node;
    int axis = node->attr.axis.axis;
    int64_t outer = outer_of(node->out[0], axis), inner = inner_of(node->out[0], axis);
    int64_t row = node->out[0]->dim[axis] * inner;
#pragma omp parallel for num_threads(cpu__threads_for(k, outer *row))
    for (int64_t o = 0; o < outer; o++) {
        float *to = (float *)out[0] + o * row;
        for (int i = 0; i < node->n_in; i++) {
            int64_t len = node->in[i]->dim[axis] * inner;
            memcpy(to, (const float *)in[i] + o * len, (size_t)len * sizeof(float));
            to += len;
        }
    }
    return MD_OK;
}

md_status cpu_concat(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = concat_run;
    return MD_OK;
}

static md_status slice_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    const md_node *node = k->node;
    int axis = node->attr.axis.axis;
    int64_t outer = outer_of(node->out[0], axis), inner = inner_of(node->out[0], axis);
    int64_t from = node->in[0]->dim[axis] * inner, to = node->out[0]->dim[axis] * inner;
    int64_t skip = node->attr.axis.start * inner;
#pragma omp parallel for num_threads(cpu__threads_for(k, outer *to))
    for (int64_t o = 0; o < outer; o++)
        memcpy((float *)out[0] + o * to, (const float *)in[0] + o * from + skip,
               (size_t)to * sizeof(float));
    return MD_OK;
}

md_status cpu_slice(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = slice_run;
    return MD_OK;
}

static md_status pad_axis_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    const md_node *node = k->node;
    int axis = node->attr.axis.axis;
    int64_t outer = outer_of(node->out[0], axis), inner = inner_of(node->out[0], axis);
    int64_t from = node->in[0]->dim[axis] * inner, to = node->out[0]->dim[axis] * inner;
    int64_t before = node->attr.axis.start * inner;
#pragma omp parallel for num_threads(cpu__threads_for(k, outer *to))
    for (int64_t o = 0; o < outer; o++) {
        float *row = (float *)out[0] + o * to;
        memset(row, 0, (size_t)before * sizeof(float));
        memcpy(row + before, (const float *)in[0] + o * from, (size_t)from * sizeof(float));
        memset(row + before + from, 0, (size_t)(to - before - from) * sizeof(float));
    }
    return MD_OK;
}

md_status cpu_pad_axis(md_backend *be, const md_node *node, md_kernel *k)
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
    const int64_t *d = k->node->in[0]->dim;
    int64_t rows = d[0] * d[1], w = d[2], c = d[3];
    size_t bytes = (size_t)c * sizeof(float);
#pragma omp parallel for num_threads(cpu__threads_for(k, rows *w *c * 4))
    for (int64_t r = 0; r < rows; r++) {
        const float *x = (const float *)in[0] + r * w * c;
        float *y = (float *)out[0] + r * 4 * w * c;
        for (int64_t i = 0; i < w; i++) {
            memcpy(y + 2 * i * c, x + i * c, bytes);
            memcpy(y + (2 * i + 1) * c, x + i * c, bytes);
        }
        memcpy(y + 2 * w * c, y, 2 * (size_t)w * bytes);
    }
    return MD_OK;
}

md_status cpu_upsample2x(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = upsample2x_run;
    return MD_OK;
}

static md_status downsum2x_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    const int64_t *d = k->node->out[0]->dim;
    int64_t rows = d[0] * d[1], w = d[2], c = d[3];
#pragma omp parallel for num_threads(cpu__threads_for(k, rows *w *c * 4))
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < w; i++) {
            const float *a = (const float *)in[0] + (r * 4 * w + 2 * i) * c, *b = a + 2 * w * c;
            float *y = (float *)out[0] + (r * w + i) * c;
#pragma omp simd
            for (int64_t j = 0; j < c; j++)
                y[j] = (a[j] + a[c + j]) + (b[j] + b[c + j]);
        }
    return MD_OK;
}

md_status cpu_downsum2x(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    (void)node;
    k->run = downsum2x_run;
    return MD_OK;
}
