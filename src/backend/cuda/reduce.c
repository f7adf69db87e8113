/* sum_to broadcast_to sumsq. How a sum is cut into parts follows from shapes and the number of
   multiprocessors alone. */
#include "backend/cuda/reduce.h"

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Merges neighbouring dims treated alike, innermost first, into the five places: four dims never
   fill both r0 and r2. */
static cuda_sum fold(const md_tensor *x, const md_tensor *y)
{
    cuda_sum s = {1, 1, 1, 1, 1, 1, 1};
    int64_t *place[] = {&s.r2, &s.b, &s.r1, &s.a, &s.r0};
    int at = 0;
    for (int i = x->ndim - 1; i >= 0; i--) {
        int j = i - (x->ndim - y->ndim);
        bool keep = j >= 0 && y->dim[j] != 1;
        if (x->dim[i] == 1)
            continue;
        if (keep != (at % 2 == 1))
            at++;
        *place[at] *= x->dim[i];
    }
    return s;
}

/* n terms in parts of a multiple of `unit`, not below `smallest`, about as many as wanted. */
static void cut(cuda_sum *s, int64_t n, int64_t wanted, int64_t smallest, int64_t unit)
{
    s->part = most(ceil_div(n, most(1, wanted)), smallest);
    s->part = ceil_div(s->part, unit) * unit;
    s->parts = ceil_div(n, s->part);
}

typedef int (*sum_launch)(const cuda_device *d, md_dtype from, md_dtype to, const cuda_sum *s,
                          const void *x, void *y);

static int total(const cuda_device *d, md_dtype from, md_dtype to, const cuda_sum *s, const void *x,
                 void *y)
{
    return cuda__sum_flat(d, from, to, false, s, x, y);
}

static int total_of_squares(const cuda_device *d, md_dtype from, md_dtype to, const cuda_sum *s,
                            const void *x, void *y)
{
    return cuda__sum_flat(d, from, to, true, s, x, y);
}

typedef struct sum_state {
    cuda_sum first, second; /* the second sums the parts of the first, if there are several */
    sum_launch launch;
} sum_state;

static md_status sum_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    const sum_state *s = k->state;
    const cuda_device *d = cuda__device(k->backend);
    md_dtype from = k->node->in[0]->dtype, to = k->node->out[0]->dtype;
    if (s->first.parts == 1)
        return cuda__launched(k, s->launch(d, from, to, &s->first, in[0], out[0]));
    MD_TRY(cuda__launched(k, s->launch(d, from, MD_F32, &s->first, in[0], scratch)));
    return cuda__launched(k, cuda__sum_columns(d, MD_F32, to, &s->second, scratch, out[0]));
}

static md_status sum_prepare(md_kernel *k, const sum_state *s)
{
    void *state;
    MD_TRY(md_kernel_state(k, sizeof(sum_state), &state));
    sum_state *own = state;
    *own = *s;
    int64_t n = s->first.a * s->first.b;
    own->second = (cuda_sum){1, 1, s->first.parts, n, 1, 1, s->first.parts};
    if (s->first.parts > 1)
        k->scratch_bytes = (size_t)(s->first.parts * n) * sizeof(float);
    k->run = sum_run;
    return MD_OK;
}

/* Parts for a whole tensor of n elements: at least 16 pieces of 16 bytes for each thread. */
static void cut_total(cuda_sum *s, int64_t n, const cuda_device *d, md_dtype t)
{
    int v = t == MD_BF16 ? 8 : 4;
    cut(s, n, (int64_t)d->n_sm * 8, (int64_t)CUDA_SUM_BLOCK * v * 16, v);
}

md_status cuda_sum_to(md_backend *be, const md_node *node, md_kernel *k)
{
    const cuda_device *d = cuda__device(be);
    const md_tensor *x = node->in[0];
    int v = x->dtype == MD_BF16 ? 8 : 4;
    sum_state s = {.first = fold(x, node->out[0])};
    cuda_sum *f = &s.first;
    int64_t n_out = f->a * f->b;
    if (f->r2 > 1 && n_out == 1 && f->r1 == 1) {
        s.launch = total;
        cut_total(f, f->r2, d, x->dtype);
    } else if (f->r2 > 1) {
        s.launch = cuda__sum_segments;
        /* whole blocks per sum only where there are fewer sums than would fill the device */
        cut(f, f->r1 * f->r2, (int64_t)d->n_sm * 8 / n_out, (int64_t)CUDA_SUM_BLOCK * v * 4, v);
    } else {
        s.launch = cuda__sum_columns;
        int side = f->b % v ? 1 : v, lanes = cuda__sum_lanes(f->b, side);
        int64_t blocks = ceil_div(f->b, (int64_t)lanes * side) * f->a;
        cut(f, f->r0 * f->r1, (int64_t)d->n_sm * 4 / blocks, CUDA_SUM_BLOCK / lanes * 8, 1);
    }
    return sum_prepare(k, &s);
}

md_status cuda_sumsq(md_backend *be, const md_node *node, md_kernel *k)
{
    const md_tensor *x = node->in[0];
    int64_t n = md_numel(x);
    sum_state s = {.first = {1, 1, 1, 1, n, 1, 1}, .launch = total_of_squares};
    cut_total(&s.first, n, cuda__device(be), x->dtype);
    return sum_prepare(k, &s);
}

static md_status broadcast_to_run(const md_kernel *k, void *const *in, void *const *out,
                                  void *scratch)
{
    (void)scratch;
    return cuda__launched(
        k, cuda__repeat(cuda__device(k->backend), k->node->out[0]->dtype, k->state, in[0], out[0]));
}

md_status cuda_broadcast_to(md_backend *be, const md_node *node, md_kernel *k)
{
    (void)be;
    void *state;
    MD_TRY(md_kernel_state(k, sizeof(cuda_broadcast), &state));
    *(cuda_broadcast *)state = cuda__broadcast(node->out[0], node->in[0]);
    k->run = broadcast_to_run;
    return MD_OK;
}
