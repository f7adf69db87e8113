/* The parameter store: one model's parameters in one flat f32 buffer, declared while the model is
   built for the first time; later graphs bind to them by name. File reading: params_io.c. */
#include "base/arena.h"
#include "nn/nn_internal.h"
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 16 }; /* elements: 64 bytes in f32, so that vector loads and slices are aligned */

struct nn_params {
    md_arena *arena; /* names */
    const char *model;
    nn_param_info *info;
    int n, cap;
    int expect; /* graphs ask for parameters in declaration order: looked at first */
    bool closed;
    nn_hold hold;
    md_buffer buffer, copy; /* f32; bf16, laid out alike */
    nn__lora lora;
};

md_status nn_params_new(const char *model, nn_params **out)
{
    nn_params *p = calloc(1, sizeof *p);
    if (!p)
        MD_FAIL(MD_NOMEM, "%s: out of memory", model);
    p->arena = md_arena_new();
    p->model = p->arena ? md_arena_strdup(p->arena, model) : NULL;
    if (!p->model) {
        md_arena_free(p->arena);
        free(p);
        MD_FAIL(MD_NOMEM, "%s: out of memory", model);
    }
    md_buffer_init(&p->buffer, p->model, MD_F32, 0);
    md_buffer_init(&p->copy, p->model, MD_BF16, 0);
    *out = p;
    return MD_OK;
}

void nn_params_free(nn_params *p, md_backend *be)
{
    if (!p)
        return;
    nn_lora_remove(p, be);
    nn__merge_free(p->lora.merge);
    if (be) {
        md_buffer_release(be, &p->buffer);
        md_buffer_release(be, &p->copy);
    }
    md_arena_free(p->arena);
    free(p->info);
    free(p);
}

md_status nn_params_close(nn_params *p)
{
    if (p->n == 0)
        MD_FAIL(MD_INTERNAL, "%s: closed without any parameter", p->model);
    p->closed = true;
    return p->lora.adapters ? nn_params_close(p->lora.adapters) : MD_OK;
}

nn__lora *nn__lora_of(const nn_params *p)
{
    return &((nn_params *)p)->lora;
}

int nn_params_count(const nn_params *p)
{
    return p->n;
}

const nn_param_info *nn_params_info(const nn_params *p, int i)
{
    return &p->info[i];
}

md_buffer *nn_params_buffer(nn_params *p)
{
    return &p->buffer;
}

void nn_params_hold(nn_params *p, nn_hold hold)
{
    p->hold = hold;
    nn__lora_hold(p);
}

nn_hold nn__hold_of(const nn_params *p)
{
    return p->hold;
}

md_buffer *nn_params_copy(nn_params *p)
{
    p->copy.numel = p->buffer.numel;
    return p->hold == NN_HOLD_F32 ? NULL : &p->copy;
}

md_status nn_params_alloc(nn_params *p, md_backend *be)
{
    if (p->hold != NN_HOLD_BF16)
        MD_TRY(md_buffer_alloc(be, &p->buffer));
    return nn_params_copy(p) ? md_buffer_alloc(be, &p->copy) : MD_OK;
}

bool nn_params_allocated(const nn_params *p)
{
    return (p->hold == NN_HOLD_BF16 ? &p->copy : &p->buffer)->ptr != NULL;
}

size_t nn_params_bytes(const nn_params *p, const md_backend *be)
{
    size_t f32 = be->ops->elem_bytes(MD_F32), bf16 = be->ops->elem_bytes(MD_BF16);
    return (size_t)p->buffer.numel *
           ((p->hold != NN_HOLD_BF16 ? f32 : 0) + (p->hold != NN_HOLD_F32 ? bf16 : 0));
}

md_status nn_params_refresh(nn_params *p, md_backend *be)
{
    return p->hold == NN_HOLD_BOTH ? md_buffer_copy(be, &p->copy, &p->buffer) : MD_OK;
}

int64_t nn_params_numel(const nn_params *p)
{
    int64_t n = 0;
    for (int i = 0; i < p->n; i++)
        n += p->info[i].numel;
    return n;
}

const char *nn_params_model(const nn_params *p)
{
    return p->model;
}

int nn_params_find(const nn_params *p, const char *name)
{
    for (int i = 0; i < p->n; i++)
        if (!strcmp(p->info[i].name, name))
            return i;
    return -1;
}

/* As nn_params_find, but quick for a graph that asks in declaration order. */
static int find_next(nn_params *p, const char *name)
{
    int i = p->expect;
    if (i >= p->n || strcmp(p->info[i].name, name) != 0)
        i = nn_params_find(p, name);
    if (i >= 0)
        p->expect = i + 1;
    return i;
}

/* Appends a parameter; NULL when out of memory. */
static nn_param_info *declare(nn_params *p, const char *name)
{
    if (p->n == p->cap) {
        int cap = p->cap ? 2 * p->cap : 64;
        nn_param_info *list = realloc(p->info, (size_t)cap * sizeof *list);
        if (!list)
            return NULL;
        p->info = list;
        p->cap = cap;
    }
    nn_param_info *q = &p->info[p->n];
    *q = (nn_param_info){.name = md_arena_strdup(p->arena, name)};
    if (!q->name)
        return NULL;
    p->n++;
    p->expect = p->n;
    return q;
}

/* Where graphs of this type find the weights, or NULL: not held so. A graph that only declares
   adapters reads nothing and may be of any type. */
static md_buffer *source(nn_params *p, md_dtype dtype)
{
    bool declares = p->lora.adapters && !p->lora.adapters->closed;
    if ((dtype == MD_BF16 || (declares && p->hold == NN_HOLD_BF16)) && nn_params_copy(p))
        return &p->copy;
    return p->hold == NN_HOLD_BF16 ? NULL : &p->buffer;
}

/* The leaf that graph g already has for parameter q, or NULL. A scan over the graph rather than a
   cache: graphs come and go, and a freed one's address may return. */
static md_tensor *find_leaf(const md_buffer *b, md_graph *g, const nn_param_info *q)
{
    for (int i = md_graph_n_tensors(g) - 1; i >= 0; i--) {
        md_tensor *t = md_graph_tensor(g, i);
        if (t->storage == MD_EXTERN && t->buffer == b && t->offset == q->offset)
            return t;
    }
    return NULL;
}

static bool same_dims(const nn_param_info *q, int ndim, const int64_t *dim)
{
    return q->ndim == ndim && !memcmp(q->dim, dim, (size_t)ndim * sizeof *dim);
}

md_tensor *nn__param(nn m, const char *name, nn_init init, int64_t fan_in, int ndim,
                     const int64_t *dim, bool conv, bool linear_as_conv)
{
    nn_params *p = m.params;
    const char *path = *m.path ? md_graph_printf(m.g, "%s.%s", m.path, name) : name;
    int found = find_next(p, path);
    if (found >= 0) {
        const nn_param_info *q = &p->info[found];
        if (!same_dims(q, ndim, dim)) {
            md_tensor want = {.ndim = ndim};
            memcpy(want.dim, dim, (size_t)ndim * sizeof *dim);
            return md_graph_poison(m.g, MD_SHAPE,
                                   "parameter %s of %s was declared with another shape than %s",
                                   path, p->model, md_shape_text(&want));
        }
        md_buffer *b = source(p, m.dtype);
        if (!b)
            return md_graph_poison(m.g, MD_INTERNAL, "%s is held in bf16 only", p->model);
        md_tensor *leaf = find_leaf(b, m.g, q);
        return leaf ? leaf : md_extern(m.g, b, q->offset, ndim, dim);
    }
    if (p->closed)
        return md_graph_poison(m.g, MD_INTERNAL, "%s has no parameter %s", p->model, path);
    int64_t numel = 1;
    for (int i = 0; i < ndim; i++) {
        if (dim[i] < 1 || dim[i] > ((int64_t)1 << 40) / numel)
            return md_graph_poison(m.g, MD_SHAPE, "parameter %s: dimension %d is %lld", path, i,
                                   (long long)dim[i]);
        numel *= dim[i];
    }
    nn_param_info *q = declare(p, path);
    if (!q)
        return md_graph_poison(m.g, MD_NOMEM, "%s: out of memory", p->model);
    q->ndim = ndim;
    memcpy(q->dim, dim, (size_t)ndim * sizeof *dim);
    q->conv = conv;
    q->linear_as_conv = linear_as_conv;
    q->offset = p->buffer.numel;
    q->numel = numel;
    q->fan_in = fan_in;
    q->init = init;
    p->buffer.numel += (numel + ALIGN - 1) / ALIGN * ALIGN;
    return md_extern(m.g, &p->buffer, q->offset, ndim, dim);
}

md_tensor *nn_param(nn m, const char *name, nn_init init, int64_t fan_in, int ndim,
                    const int64_t *dim)
{
    return nn__param(m, name, init, fan_in, ndim, dim, false, false);
}

void nn_params_tensors(nn_params *p, md_graph *g, md_tensor **out)
{
    for (int i = 0; i < p->n; i++)
        out[i] = NULL;
    for (int id = 0; id < md_graph_n_tensors(g); id++) {
        md_tensor *t = md_graph_tensor(g, id);
        if (t->storage != MD_EXTERN || (t->buffer != &p->buffer && t->buffer != &p->copy))
            continue;
        int lo = 0, hi = p->n - 1; /* offsets rise with the index */
        while (lo < hi) {
            int mid = (lo + hi + 1) / 2;
            if (p->info[mid].offset <= t->offset)
                lo = mid;
            else
                hi = mid - 1;
        }
        const nn_param_info *q = &p->info[lo];
        if (q->offset == t->offset && same_dims(q, t->ndim, t->dim))
            out[lo] = t;
    }
}

md_status nn_params_read(const nn_params *p, md_backend *be, int i, float *host)
{
    const md_buffer *b = p->hold == NN_HOLD_BF16 ? &p->copy : &p->buffer;
    return md_buffer_read(be, b, p->info[i].offset, host, MD_F32, p->info[i].numel);
}

md_status nn_params_write(nn_params *p, md_backend *be, int i, const float *host)
{
    if (p->hold != NN_HOLD_BF16)
        MD_TRY(md_buffer_write(be, &p->buffer, p->info[i].offset, host, MD_F32, p->info[i].numel));
    return p->hold == NN_HOLD_F32
               ? MD_OK
               : md_buffer_write(be, &p->copy, p->info[i].offset, host, MD_F32, p->info[i].numel);
}
