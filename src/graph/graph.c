/* Nodes, tensors and views: records in an arena, no data. Errors poison the graph instead of
   failing loudly: the first one is kept with its layer path, see md_graph_check. */
#include "graph/graph.h"
#include "base/arena.h"
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct md_graph {
    md_arena *arena;
    md_node **nodes;
    md_tensor **tensors;
    int n_nodes, n_tensors, cap_nodes, cap_tensors;
    const char *path;
    int block, block_depth, n_blocks;
    md_status error;
    char message[600];
    md_tensor poison;
    md_node poison_node;
};

static const char *const op_names[MD_OP_COUNT] = {
#define MD_OP(name, n_out, vjp) #name,
#include "graph/ops.def"
#undef MD_OP
};

static const int op_n_out[MD_OP_COUNT] = {
#define MD_OP(name, n_out, vjp) n_out,
#include "graph/ops.def"
#undef MD_OP
};

const char *md_op_name(md_op op)
{
    return (int)op >= 0 && op < MD_OP_COUNT ? op_names[op] : "?";
}

const char *md_dtype_name(md_dtype d)
{
    static const char *const names[] = {"f32", "bf16", "i32", "f64", "u8"};
    return (unsigned)d < 5 ? names[d] : "?";
}

md_status md_graph_new(md_graph **out)
{
    md_graph *g = calloc(1, sizeof *g);
    if (!g)
        MD_FAIL(MD_NOMEM, "graph: out of memory");
    g->arena = md_arena_new();
    if (!g->arena) {
        free(g);
        MD_FAIL(MD_NOMEM, "graph: out of memory");
    }
    g->path = "";
    g->block = -1;
    g->poison = (md_tensor){.g = g, .ndim = 1, .dim = {1}, .id = -1, .path = ""};
    g->poison_node = (md_node){.op = MD_OP_COUNT, .index = -1, .path = ""};
    g->poison.node = &g->poison_node;
    *out = g;
    return MD_OK;
}

void md_graph_free(md_graph *g)
{
    if (!g)
        return;
    md_arena_free(g->arena);
    free(g->nodes);
    free(g->tensors);
    free(g);
}

md_status md_graph_check(md_graph *g)
{
    if (g->error != MD_OK)
        MD_FAIL(g->error, "%s", g->message);
    return MD_OK;
}

md_tensor *md_graph_poison(md_graph *g, md_status code, const char *fmt, ...)
{
    if (g->error != MD_OK)
        return &g->poison;
    g->error = code;
    int n = *g->path ? snprintf(g->message, sizeof g->message, "%s: ", g->path) : 0;
    if (n < 0 || (size_t)n >= sizeof g->message)
        n = 0;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(g->message + n, sizeof g->message - (size_t)n, fmt, ap);
    va_end(ap);
    return &g->poison;
}

const char *md_graph_set_path(md_graph *g, const char *path)
{
    const char *old = g->path;
    g->path = path;
    return old;
}

char *md_graph_printf(md_graph *g, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    char *copy = n < 0 || (size_t)n >= sizeof text ? NULL : md_arena_strdup(g->arena, text);
    if (!copy) {
        md_graph_poison(g, n < 0 || copy ? MD_INTERNAL : MD_NOMEM,
                        "path too long or out of memory");
        static char empty[1];
        return empty;
    }
    return copy;
}

int md_block_begin(md_graph *g)
{
    if (g->block_depth++ == 0)
        g->block = g->n_blocks++;
    return g->block;
}

void md_block_end(md_graph *g)
{
    if (g->block_depth > 0 && --g->block_depth == 0)
        g->block = -1;
}

int md_graph_n_blocks(const md_graph *g)
{
    return g->n_blocks;
}

int md_graph_n_nodes(const md_graph *g)
{
    return g->n_nodes;
}

md_node *md_graph_node(const md_graph *g, int index)
{
    return g->nodes[index];
}

int md_graph_n_tensors(const md_graph *g)
{
    return g->n_tensors;
}

md_tensor *md_graph_tensor(const md_graph *g, int id)
{
    return g->tensors[id];
}

/* Room for one more pointer in a growing list. */
static void *grow(void *list, int n, int *cap)
{
    if (n < *cap)
        return list;
    int want = *cap ? 2 * *cap : 256;
    void *p = realloc(list, (size_t)want * sizeof(void *));
    if (p)
        *cap = want;
    return p;
}

/* A new tensor record, or NULL after poisoning the graph. */
static md_tensor *tensor_new(md_graph *g, md_dtype dtype, int ndim, const int64_t *dim)
{
    if (g->error != MD_OK)
        return NULL;
    if (ndim < 1 || ndim > MD_MAX_DIMS) {
        md_graph_poison(g, MD_SHAPE, "a tensor of %d dimensions (1 to %d)", ndim, MD_MAX_DIMS);
        return NULL;
    }
    int64_t numel = 1;
    for (int i = 0; i < ndim; i++) {
        if (dim[i] < 1 || dim[i] > ((int64_t)1 << 40) / numel) {
            md_graph_poison(g, MD_SHAPE, "dimension %d is %lld", i, (long long)dim[i]);
            return NULL;
        }
        numel *= dim[i];
    }
    void *list = grow(g->tensors, g->n_tensors, &g->cap_tensors);
    md_tensor *t = list ? md_arena_alloc(g->arena, sizeof *t) : NULL;
    if (list)
        g->tensors = list;
    if (!t) {
        md_graph_poison(g, MD_NOMEM, "out of memory for the graph");
        return NULL;
    }
    t->g = g;
    t->dtype = dtype;
    t->ndim = ndim;
    memcpy(t->dim, dim, (size_t)ndim * sizeof *dim);
    t->id = g->n_tensors;
    t->path = g->path;
    g->tensors[g->n_tensors++] = t;
    return t;
}

md_tensor *md_input(md_graph *g, const char *name, md_dtype dtype, int ndim, const int64_t *dim)
{
    md_tensor *t = tensor_new(g, dtype, ndim, dim);
    if (!t)
        return &g->poison;
    t->storage = MD_INPUT;
    t->path = md_graph_printf(g, "%s", name);
    return t;
}

md_tensor *md_extern(md_graph *g, md_buffer *b, int64_t offset, int ndim, const int64_t *dim)
{
    md_tensor *t = tensor_new(g, b->dtype, ndim, dim);
    if (!t)
        return &g->poison;
    if (offset < 0 || offset > b->numel - md_numel(t))
        return md_graph_poison(g, MD_SHAPE, "%s at %lld does not fit in %s of %lld elements",
                               md_shape_text(t), (long long)offset, b->name, (long long)b->numel);
    t->storage = MD_EXTERN;
    t->buffer = b;
    t->offset = offset;
    return t;
}

md_tensor *md_view(md_tensor *x, int64_t offset, int ndim, const int64_t *dim)
{
    if (md_is_poison(x))
        return x;
    md_tensor *t = tensor_new(x->g, x->dtype, ndim, dim);
    if (!t)
        return &x->g->poison;
    if (offset < 0 || offset > md_numel(x) - md_numel(t))
        return md_graph_poison(x->g, MD_SHAPE, "view %s at %lld of %s", md_shape_text(t),
                               (long long)offset, md_shape_text(x));
    t->storage = MD_VIEW;
    t->base = x->storage == MD_VIEW ? x->base : x;
    t->offset = offset + (x->storage == MD_VIEW ? x->offset : 0);
    return t;
}

md_tensor *md_reshape(md_tensor *x, int ndim, const int64_t *dim)
{
    if (md_is_poison(x))
        return x;
    int64_t full[MD_MAX_DIMS], known = 1;
    int free_dim = -1;
    for (int i = 0; i < ndim && i < MD_MAX_DIMS; i++) {
        full[i] = dim[i];
        if (dim[i] == -1 && free_dim < 0)
            free_dim = i;
        else
            known *= dim[i];
    }
    if (ndim < 1 || ndim > MD_MAX_DIMS || known < 1 || md_numel(x) % known ||
        (free_dim < 0 && known != md_numel(x)))
        return md_graph_poison(x->g, MD_SHAPE, "reshape: %s into %d dimensions of %lld elements",
                               md_shape_text(x), ndim, (long long)known);
    if (free_dim >= 0)
        full[free_dim] = md_numel(x) / known;
    return md_view(x, 0, ndim, full);
}

md_node *md_node_new(md_graph *g, md_op op, int n_in, md_tensor *const *in, const md_attr *attr)
{
    for (int i = 0; i < n_in; i++)
        if (in[i] && md_is_poison(in[i]))
            return &g->poison_node;
    if (g->error != MD_OK)
        return &g->poison_node;
    void *list = grow(g->nodes, g->n_nodes, &g->cap_nodes);
    md_node *n = list ? md_arena_alloc(g->arena, sizeof *n) : NULL;
    if (list)
        g->nodes = list;
    if (!n) {
        md_graph_poison(g, MD_NOMEM, "out of memory for the graph");
        return &g->poison_node;
    }
    n->op = op;
    n->index = g->n_nodes;
    n->n_in = n_in;
    for (int i = 0; i < n_in; i++)
        n->in[i] = in[i];
    if (attr)
        n->attr = *attr;
    n->block = g->block;
    n->path = g->path;
    g->nodes[g->n_nodes++] = n;
    return n;
}

static md_tensor *output_of(md_node *n, md_tensor *t)
{
    t->node = n;
    t->out = n->n_out;
    n->out[n->n_out++] = t;
    return t;
}

/* The graph a node belongs to, through any of its inputs; poison nodes are known by their index. */
static md_graph *graph_of(const md_node *n)
{
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i])
            return n->in[i]->g;
    return NULL;
}

md_tensor *md_node_output(md_node *n, md_dtype dtype, int ndim, const int64_t *dim)
{
    if (n->index < 0) /* the poison node is embedded in its graph */
        return &((md_graph *)((char *)n - offsetof(md_graph, poison_node)))->poison;
    md_graph *g = graph_of(n);
    md_tensor *t = tensor_new(g, dtype, ndim, dim);
    if (!t)
        return &g->poison;
    if (n->n_out >= op_n_out[n->op])
        return md_graph_poison(g, MD_INTERNAL, "%s: more outputs than its row in ops.def says",
                               md_op_name(n->op));
    t->storage = MD_TEMP;
    return output_of(n, t);
}

md_tensor *md_node_output_inplace(md_node *n, md_tensor *updated)
{
    if (n->index < 0)
        return &((md_graph *)((char *)n - offsetof(md_graph, poison_node)))->poison;
    md_tensor *t = md_view(updated, 0, updated->ndim, updated->dim);
    return md_is_poison(t) ? t : output_of(n, t);
}

int64_t md_numel(const md_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++)
        n *= t->dim[i];
    return n;
}

bool md_same_shape(const md_tensor *a, const md_tensor *b)
{
    return a->ndim == b->ndim && !memcmp(a->dim, b->dim, (size_t)a->ndim * sizeof a->dim[0]);
}

bool md_is_poison(const md_tensor *t)
{
    return t->id < 0;
}

const char *md_shape_text(const md_tensor *t)
{
    static _Thread_local char ring[4][96];
    static _Thread_local int next;
    char *text = ring[next++ & 3];
    int n = 0;
    for (int i = 0; i < t->ndim; i++)
        n += snprintf(text + n, sizeof ring[0] - (size_t)n, "%c%lld", i ? ',' : '[',
                      (long long)t->dim[i]);
    snprintf(text + n, sizeof ring[0] - (size_t)n, "] %s", md_dtype_name(t->dtype));
    return text;
}
