/* What the plan makes one node: a product and the addition behind it, elementwise nodes that only
   each other read. A node that is taken into a later one runs later: what it reads must still be
   there, unchanged. */
#include "graph/plan_internal.h"
#include <stdlib.h>
#include <string.h>

/* How often each tensor (by its base) is an input of the nodes that run. */
static void count_readers(const md_plan *p, int *readers)
{
    for (int i = 0; i < p->n_nodes; i++) {
        const md_node *node = &p->nodes[i];
        for (int k = 0; p->used[i] && k < node->n_in; k++)
            if (node->in[k])
                readers[graph__base(node->in[k])->id]++;
    }
}

static bool reads(const md_node *node, const md_tensor *t)
{
    for (int k = 0; k < node->n_in; k++)
        if (node->in[k] && graph__overlap(node->in[k], t))
            return true;
    return false;
}

/* Whether what node `made` reads is the same at node `at`, behind it: nothing is written there in
   between. An update may change any of its persistent inputs, not only the one that it returns. */
static bool still_holds(const md_plan *p, int made, int at)
{
    for (int i = made + 1; i < at; i++) {
        const md_node *node = &p->nodes[i];
        if (!p->used[i])
            continue;
        for (int k = 0; k < node->n_out; k++)
            if (reads(&p->nodes[made], graph__home(p, node->out[k])))
                return false;
        for (int k = 0; graph__base(node->out[0])->storage == MD_EXTERN && k < node->n_in; k++)
            if (node->in[k] && reads(&p->nodes[made], node->in[k]))
                return false;
    }
    return true;
}

/* The node whose result `t` (a linear's perhaps under another shape) nobody but addition `at` reads
   and which can add a residual to it, or -1. */
static int fusable(const md_plan *p, const md_tensor *t, int at, const int *readers)
{
    const md_tensor *base = t->storage == MD_VIEW ? t->base : t;
    if (!base->node || base->storage != MD_TEMP || md_numel(base) != md_numel(t) ||
        readers[base->id] != 1 || p->kept[base->id])
        return -1;
    const md_node *made = &p->nodes[base->node->index];
    bool takes = made->op == MD_OP_linear ||
                 (made->op == MD_OP_conv2d && md_same_shape(base, p->nodes[at].out[0]));
    bool fits = takes && p->used[made->index] && !made->in[3];
    return fits && still_holds(p, made->index, at) ? made->index : -1;
}

md_status graph__fuse_residuals(md_plan *p)
{
    if (!p->be->ops->fuses_residual)
        return MD_OK;
    int *readers = calloc((size_t)p->n_tensors + 1, sizeof *readers);
    if (!readers)
        MD_FAIL(MD_NOMEM, "plan: out of memory");
    count_readers(p, readers);
    for (int i = 0; i < p->n_nodes; i++) {
        md_node *add = &p->nodes[i];
        if (!p->used[i] || add->op != MD_OP_add || md_numel(add->in[0]) != md_numel(add->in[1]))
            continue;
        int at = fusable(p, add->in[1], i, readers), other = 0;
        if (at < 0)
            at = fusable(p, add->in[0], i, readers), other = 1;
        if (at < 0)
            continue;
        md_node *made = &p->nodes[at];
        md_tensor *r = add->in[other], *y = add->out[0];
        add->op = made->op;
        add->attr = made->attr;
        add->flops = made->flops;
        add->path = made->path;
        memcpy(add->in, made->in, sizeof add->in);
        add->n_in = 4;
        add->in[3] = r;
        add->out[0] = y;
        p->used[at] = false;
    }
    free(readers);
    return MD_OK;
}

/* ---- chains */

/* The nodes that become one, the last one first; each other's result is read by these alone. */
typedef struct group {
    int n, node[MD_CHAIN_STEPS];
} group;

typedef struct fuser {
    md_plan *p;
    int *readers; /* per tensor (bases) */
    size_t *live; /* per node: bytes in the arena that must hold there */
    size_t most;  /* the largest of them */
} fuser;

/* The same values: needs no step where there is another. */
static bool copies(const md_node *node)
{
    return node->op == MD_OP_cast || node->op == MD_OP_broadcast_to;
}

static bool elementwise(const md_node *node)
{
    switch (node->op) {
    case MD_OP_add:
    case MD_OP_sub:
    case MD_OP_mul:
    case MD_OP_affine:
    case MD_OP_act:
    case MD_OP_act_grad:
    case MD_OP_cast:
    case MD_OP_broadcast_to:
        return true;
    default:
        return false;
    }
}

static int place_in(const group *g, const md_node *node)
{
    for (int i = 0; node && i < g->n; i++)
        if (g->node[i] == node->index)
            return i;
    return -1;
}

/* The value of t: through copies inside the group to what they copy. */
static md_tensor *source_of(const md_plan *p, const group *g, md_tensor *t)
{
    for (;;) {
        const md_node *made = graph__base(t)->node;
        if (place_in(g, made) < 0 || !copies(&p->nodes[made->index]))
            return t;
        t = p->nodes[made->index].in[0];
    }
}

static bool same_value(const md_tensor *a, const md_tensor *b)
{
    const md_tensor *ab = a->storage == MD_VIEW ? a->base : a;
    const md_tensor *bb = b->storage == MD_VIEW ? b->base : b;
    int64_t ao = a->storage == MD_VIEW ? a->offset : 0, bo = b->storage == MD_VIEW ? b->offset : 0;
    return ab == bb && ao == bo && md_same_shape(a, b);
}

/* A group as steps. Values are numbered: input i is i, the result of step s REGS + s. */
typedef struct program {
    md_tensor *in[MD_CHAIN_REGS];
    int n_in, n;
    int node[MD_CHAIN_STEPS];                 /* per step */
    int operand[MD_CHAIN_STEPS][2];           /* values, -1: none */
    int last[MD_CHAIN_REGS + MD_CHAIN_STEPS]; /* per value: the last step that reads it */
} program;

/* The number of t's value, as an input where no step makes it; -1 where there are too many. */
static int value_of(const md_plan *p, const group *g, program *w, md_tensor *t)
{
    t = source_of(p, g, t);
    const md_node *made = graph__base(t)->node;
    if (place_in(g, made) >= 0)
        for (int s = 0; s < w->n; s++)
            if (w->node[s] == made->index)
                return MD_CHAIN_REGS + s;
    for (int i = 0; i < w->n_in; i++)
        if (same_value(w->in[i], t))
            return i;
    if (w->n_in == MD_CHAIN_REGS)
        return -1;
    w->in[w->n_in] = t;
    return w->n_in++;
}

static bool list_steps(const md_plan *p, const group *g, program *w)
{
    *w = (program){.n = 0};
    for (int i = g->n - 1; i >= 0; i--) {
        const md_node *node = &p->nodes[g->node[i]];
        if (copies(node) && (i > 0 || w->n > 0)) /* at the end it copies the last step */
            continue;
        int s = w->n;
        w->node[s] = node->index;
        w->operand[s][1] = -1;
        for (int k = 0; k < node->n_in; k++) {
            int v = w->operand[s][k] = value_of(p, g, w, node->in[k]);
            if (v < 0)
                return false;
            w->last[v] = s;
        }
        w->n++;
    }
    return true;
}

/* Gives each value a register: an input its own from the start, a result one that nobody reads any
   more. False: there are too few. */
static bool write_program(const md_plan *p, const group *g, program *w, md_chain *c)
{
    int holds[MD_CHAIN_REGS], reg[MD_CHAIN_REGS + MD_CHAIN_STEPS];
    if (!list_steps(p, g, w))
        return false;
    for (int r = 0; r < MD_CHAIN_REGS; r++)
        holds[r] = r < w->n_in ? reg[r] = r : -1;
    c->n = w->n;
    for (int s = 0; s < w->n; s++) {
        const md_node *node = &p->nodes[w->node[s]];
        md_chain_step *now = &c->step[s];
        *now = (md_chain_step){.op = copies(node) ? MD_OP_cast : node->op, .attr = node->attr};
        now->a = reg[w->operand[s][0]];
        now->b = w->operand[s][1] < 0 ? -1 : reg[w->operand[s][1]];
        for (now->to = 0; now->to < MD_CHAIN_REGS; now->to++)
            if (holds[now->to] < 0 || w->last[holds[now->to]] <= s)
                break;
        if (now->to == MD_CHAIN_REGS)
            return false;
        holds[now->to] = MD_CHAIN_REGS + s;
        reg[MD_CHAIN_REGS + s] = now->to;
    }
    return true;
}

/* Inputs that are repeated along the result are so along the chain's: then their shapes must be the
   same. */
static bool lies_like(const md_node *node, const md_tensor *root)
{
    if (md_numel(node->out[0]) != md_numel(root))
        return false;
    for (int k = 0; k < node->n_in; k++)
        if (md_numel(node->in[k]) != md_numel(root) && md_numel(node->in[k]) != 1)
            return md_same_shape(node->out[0], root);
    return true;
}

static bool only_read_by(const fuser *f, const group *g, const md_tensor *t)
{
    int n = 0;
    for (int i = 0; i < g->n; i++) {
        const md_node *node = &f->p->nodes[g->node[i]];
        for (int k = 0; k < node->n_in; k++) {
            const md_tensor *in = node->in[k];
            if (graph__base(node->in[k]) != t)
                continue;
            if (md_numel(in) != md_numel(t)) /* a part of it */
                return false;
            n++;
        }
    }
    return n > 0 && n == f->readers[t->id];
}

/* Inputs of node i that would have to hold longer if it ran at `root`; each once. */
static int kept_longer(const md_plan *p, int i, int root, md_tensor **t)
{
    int n = 0;
    const md_node *node = &p->nodes[i];
    for (int k = 0; k < node->n_in; k++) {
        md_tensor *base = graph__base(node->in[k]);
        if (base->storage != MD_TEMP || p->last[base->id] >= root || (n && t[0] == base))
            continue;
        t[n++] = base;
    }
    return n;
}

/* Moves the bytes that node i's inputs and result take in the arena to what they are when it runs
   at `root`; false, and nothing is changed, where that would raise the plan's peak or keep a
   gradient in its buffer from being ready. */
static bool hold_longer(fuser *f, int i, int root)
{
    md_plan *p = f->p;
    md_tensor *t[MD_MAX_IN], *y = p->nodes[i].out[0];
    int n = kept_longer(p, i, root, t);
    size_t saved = graph__bytes(p, y);
    for (int k = 0; k < n; k++)
        if (p->placed[t[k]->id])
            return false;
    for (int pass = 0; pass < 2; pass++)
        for (int at = i; at <= root; at++) {
            size_t more = 0;
            for (int k = 0; k < n; k++)
                more += at > p->last[t[k]->id] ? graph__bytes(p, t[k]) : 0;
            if (pass)
                f->live[at] += more - saved;
            else if (more > saved && f->live[at] + more - saved > f->most)
                return false;
        }
    for (int k = 0; k < n; k++)
        p->last[t[k]->id] = root;
    return true;
}

/* Takes node i into the group if that can be. */
static void join(fuser *f, group *g, int i)
{
    md_plan *p = f->p;
    const md_node *node = &p->nodes[i], *root = &p->nodes[g->node[0]];
    md_tensor *y = node->out[0];
    if (g->n == MD_CHAIN_STEPS || !p->used[i] || !elementwise(node) || y->storage != MD_TEMP ||
        p->kept[y->id] || p->placed[y->id] || !only_read_by(f, g, y) ||
        !lies_like(node, root->out[0]) || !still_holds(p, i, root->index) ||
        reads(node, graph__home(p, root->out[0])))
        return;
    md_chain c;
    program w;
    g->node[g->n++] = i;
    if (!write_program(p, g, &w, &c) || !hold_longer(f, i, root->index))
        g->n--;
}

static md_status make_chain(fuser *f, const group *g)
{
    md_plan *p = f->p;
    program w;
    plan_chain *c = malloc(sizeof *c);
    if (!c)
        MD_FAIL(MD_NOMEM, "plan: out of memory");
    c->next = p->chains;
    p->chains = c;
    (void)write_program(p, g, &w, &c->program); /* join has seen it succeed */
    for (int i = 0; i < g->n; i++) {
        md_node *node = &p->nodes[g->node[i]];
        p->used[g->node[i]] = i == 0;
        if (i > 0) {
            p->first[node->out[0]->id] = p->n_nodes;
            p->last[node->out[0]->id] = -1;
        }
    }
    md_node *root = &p->nodes[g->node[0]];
    root->op = MD_OP_chain;
    root->attr = (md_attr){.chain = &c->program};
    root->n_in = w.n_in;
    memset(root->in, 0, sizeof root->in);
    memcpy(root->in, w.in, (size_t)w.n_in * sizeof *w.in);
    return MD_OK;
}

/* The bytes that lifetimes ask for at each node. */
static void measure(fuser *f)
{
    const md_plan *p = f->p;
    for (int t = 0; t < p->n_tensors; t++) {
        const md_tensor *x = md_graph_tensor(p->g, t);
        bool held = x->storage == MD_TEMP && !p->placed[t] && p->last[t] >= 0;
        for (int i = p->first[t]; held && i <= p->last[t] && i < p->n_nodes; i++)
            f->live[i] += graph__bytes(p, x);
    }
    for (int i = 0; i < p->n_nodes; i++)
        f->most = f->live[i] > f->most ? f->live[i] : f->most;
}

static md_status find_chains(fuser *f)
{
    md_plan *p = f->p;
    count_readers(p, f->readers);
    measure(f);
    for (int last = p->n_nodes - 1; last > 0; last--) {
        if (!p->used[last] || !elementwise(&p->nodes[last]))
            continue;
        group g = {1, {last}};
        for (int i = last - 1; i >= 0; i--)
            join(f, &g, i);
        if (g.n > 1)
            MD_TRY(make_chain(f, &g));
    }
    return MD_OK;
}

md_status graph__fuse_chains(md_plan *p)
{
    if (!p->be->ops->fuses_chains)
        return MD_OK;
    fuser f = {.p = p,
               .readers = calloc((size_t)p->n_tensors + 1, sizeof *f.readers),
               .live = calloc((size_t)p->n_nodes + 1, sizeof *f.live)};
    md_status status = f.readers && f.live
                           ? find_chains(&f)
                           : md_fail(MD_NOMEM, __FILE__, __LINE__, "plan: out of memory");
    free(f.readers);
    free(f.live);
    return status;
}

void md_chain_fold(const md_node *chain, md_chain_shape *out)
{
    const md_tensor *y = chain->out[0];
    int at = MD_MAX_DIMS;                   /* of the dim being gathered */
    int64_t next[MD_CHAIN_REGS], dense = 1; /* what a step along the next dim is */
    memset(out, 0, sizeof *out);
    for (int i = 0; i < MD_MAX_DIMS; i++)
        out->dim[i] = 1;
    for (int k = 0; k < chain->n_in; k++)
        next[k] = 1;
    for (int i = y->ndim - 1; i >= 0; i--) {
        if (y->dim[i] == 1)
            continue;
        int64_t stride[MD_CHAIN_REGS];
        bool alike = at < MD_MAX_DIMS;
        for (int k = 0; k < chain->n_in; k++) {
            const md_tensor *x = chain->in[k];
            int j = i - (y->ndim - x->ndim);
            int64_t own = j >= 0 ? x->dim[j] : 1;
            bool all = md_numel(x) == md_numel(y);
            stride[k] = all ? dense : own == 1 ? 0 : next[k];
            next[k] *= own;
            alike = alike && stride[k] == out->stride[k][at] * out->dim[at];
        }
        if (!alike) {
            at--;
            for (int k = 0; k < chain->n_in; k++)
                out->stride[k][at] = stride[k];
        }
        out->dim[at] *= y->dim[i];
        dense *= y->dim[i];
    }
    if (at == MD_MAX_DIMS) /* one element */
        at--;
    out->n = MD_MAX_DIMS - at;
}
