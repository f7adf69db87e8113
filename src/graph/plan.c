/* The plan: which nodes run, where each tensor lives, which kernel each node gets. Addresses are
   assigned by lifetime, largest tensor first at the lowest free offset. */
#include "base/clock.h"
#include "base/watch.h"
#include "graph/plan_internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALIGN 64

/* One tensor in the arena: bytes and the steps between which it must hold. */
typedef struct place {
    md_tensor *t;
    size_t bytes, at;
    int first, last;
} place;

static md_node *node_at(const md_plan *p, int i)
{
    return &p->nodes[i];
}

size_t graph__bytes(const md_plan *p, const md_tensor *t)
{
    size_t n = (size_t)md_numel(t) * p->be->ops->elem_bytes(t->dtype);
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

/* Backwards from the outputs: a node runs if something that runs or is read needs it. An update is
   needed only when its own result is (its base exists without it). */
static void mark_used(md_plan *p, md_tensor *const *outputs, int n, bool *wanted)
{
    for (int i = 0; i < n; i++) {
        wanted[outputs[i]->id] = wanted[graph__base(outputs[i])->id] = true;
        p->kept[graph__base(outputs[i])->id] = true;
    }
    for (int i = p->n_nodes - 1; i >= 0; i--) {
        md_node *node = node_at(p, i);
        for (int k = 0; k < node->n_out; k++)
            p->used[i] = p->used[i] || wanted[node->out[k]->id];
        for (int k = 0; p->used[i] && k < node->n_in; k++)
            if (node->in[k])
                wanted[node->in[k]->id] = wanted[graph__base(node->in[k])->id] = true;
    }
}

/* First element of a persistent tensor or a view of one, inside its buffer. */
static int64_t start_of(const md_tensor *t)
{
    return t->offset + (t->storage == MD_VIEW ? t->base->offset : 0);
}

bool graph__overlap(const md_tensor *a, const md_tensor *b)
{
    const md_tensor *ab = a->storage == MD_VIEW ? a->base : a;
    const md_tensor *bb = b->storage == MD_VIEW ? b->base : b;
    return ab->storage == MD_EXTERN && bb->storage == MD_EXTERN && ab->buffer == bb->buffer &&
           start_of(a) < start_of(b) + md_numel(b) && start_of(b) < start_of(a) + md_numel(a);
}

static void find_lifetimes(md_plan *p)
{
    for (int i = 0; i < p->n_tensors; i++) {
        p->first[i] = p->n_nodes;
        p->last[i] = p->kept[i] ? p->n_nodes : -1;
    }
    for (int i = 0; i < p->n_nodes; i++) {
        md_node *node = node_at(p, i);
        if (!p->used[i])
            continue;
        for (int k = 0; k < node->n_out; k++) {
            int id = graph__base(node->out[k])->id;
            p->first[id] = i < p->first[id] ? i : p->first[id];
            p->last[id] = i > p->last[id] ? i : p->last[id];
        }
        for (int k = 0; k < node->n_in; k++)
            if (node->in[k]) {
                int id = graph__base(node->in[k])->id;
                p->last[id] = i > p->last[id] ? i : p->last[id];
            }
    }
}

const md_tensor *graph__home(const md_plan *p, md_tensor *t)
{
    const md_tensor *placed = p->placed[graph__base(t)->id];
    return placed ? placed : t;
}

/* True when nothing but `except` touches the region of dst while `base` is alive. */
static bool region_is_free(const md_plan *p, const md_tensor *dst, const md_tensor *base,
                           const md_node *except)
{
    for (int i = p->first[base->id]; i <= p->last[base->id] && i < p->n_nodes; i++) {
        const md_node *node = node_at(p, i);
        if (!p->used[i] || node == except)
            continue;
        for (int k = 0; k < node->n_in; k++)
            if (node->in[k] && graph__overlap(graph__home(p, node->in[k]), dst))
                return false;
        for (int k = 0; k < node->n_out; k++)
            if (graph__overlap(graph__home(p, node->out[k]), dst))
                return false;
    }
    return true;
}

/* write(dst, src): lets src's producer write into dst directly where that changes nothing. Saves a
   copy of every gradient. */
static void elide_writes(md_plan *p)
{
    for (int i = 0; i < p->n_nodes; i++) {
        md_node *node = node_at(p, i);
        if (!p->used[i] || node->op != MD_OP_write)
            continue;
        md_tensor *dst = node->in[0], *src = node->in[1], *base = graph__base(src);
        size_t offset = (size_t)start_of(dst) * p->be->ops->elem_bytes(dst->dtype);
        if (base->storage != MD_TEMP || md_numel(base) != md_numel(src) || p->placed[base->id] ||
            p->kept[base->id] || offset % ALIGN || !region_is_free(p, dst, base, node))
            continue;
        p->placed[base->id] = dst;
        p->used[i] = false;
    }
}

static int by_size(const void *a, const void *b)
{
    const place *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x->t->id - y->t->id;
}

/* Lowest offset where q fits among those already placed whose lifetimes meet its own. `order` holds
   the placed ones sorted by offset. */
static size_t lowest_fit(const place *placed, const int *order, int n, const place *q)
{
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        const place *o = &placed[order[i]];
        if (o->last < q->first || q->last < o->first)
            continue;
        if (at + q->bytes <= o->at)
            break;
        if (o->at + o->bytes > at)
            at = o->at + o->bytes;
    }
    return at;
}

/* Gives every arena tensor an offset; returns the peak. */
static size_t assign(place *list, int n, int *order)
{
    size_t peak = 0;
    qsort(list, (size_t)n, sizeof *list, by_size);
    for (int i = 0; i < n; i++) {
        list[i].at = lowest_fit(list, order, i, &list[i]);
        if (list[i].at + list[i].bytes > peak)
            peak = list[i].at + list[i].bytes;
        int k = i;
        for (; k > 0 && list[order[k - 1]].at > list[i].at; k--)
            order[k] = order[k - 1];
        order[k] = i;
    }
    return peak;
}

static md_status assign_addresses(md_plan *p)
{
    place *list = calloc((size_t)p->n_tensors + 1, sizeof *list);
    int *order = calloc((size_t)p->n_tensors + 1, sizeof *order);
    if (!list || !order) {
        free(list);
        free(order);
        MD_FAIL(MD_NOMEM, "plan: out of memory");
    }
    int n = 0;
    for (int i = 0; i < p->n_tensors; i++) {
        md_tensor *t = md_graph_tensor(p->g, i);
        bool temp =
            t->storage == MD_TEMP && !p->placed[i] && p->last[i] >= 0 && p->first[i] < p->n_nodes;
        if (t->storage != MD_INPUT && !temp)
            continue;
        bool input = t->storage == MD_INPUT;
        list[n++] = (place){t, graph__bytes(p, t), 0, input ? -1 : p->first[i],
                            input ? p->n_nodes : p->last[i]};
        if (input)
            p->bytes.inputs += graph__bytes(p, t);
        else if (p->kept[i])
            p->bytes.outputs += graph__bytes(p, t);
    }
    size_t peak = assign(list, n, order);
    for (int i = 0; i < n; i++)
        p->at[list[i].t->id] = list[i].at;
    size_t fixed = p->bytes.inputs + p->bytes.outputs;
    p->bytes.activations = peak > fixed ? peak - fixed : 0;
    p->bytes.total = peak;
    free(list);
    free(order);
    return MD_OK;
}

static int64_t bytes_touched(const md_plan *p, const md_node *node)
{
    size_t bytes = 0;
    for (int k = 0; k < node->n_in; k++)
        bytes += node->in[k] ? graph__bytes(p, node->in[k]) : 0;
    for (int k = 0; k < node->n_out; k++)
        bytes += graph__bytes(p, node->out[k]);
    return (int64_t)bytes;
}

static md_status prepare_kernels(md_plan *p)
{
    int n = 0;
    for (int i = 0; i < p->n_nodes; i++)
        n += p->used[i];
    p->steps = calloc((size_t)n + 1, sizeof *p->steps);
    if (!p->steps)
        MD_FAIL(MD_NOMEM, "plan: out of memory");
    for (int i = 0; i < p->n_nodes; i++) {
        md_node *node = node_at(p, i);
        if (!p->used[i])
            continue;
        step *s = &p->steps[p->n_steps];
        s->kernel.node = node;
        s->kernel.backend = p->be;
        md_watch(md_op_name(node->op));
        md_status status = p->be->ops->prepare[node->op](p->be, node, &s->kernel);
        if (status != MD_OK)
            return md_context(status, "%s%s%s on %s", node->path, *node->path ? ": " : "",
                              md_op_name(node->op), p->be->ops->name);
        p->n_steps++;
        p->flops += node->flops;
        p->traffic += node->flops ? 0 : bytes_touched(p, node);
        if (s->kernel.scratch_bytes > p->bytes.workspace)
            p->bytes.workspace = s->kernel.scratch_bytes;
    }
    p->bytes.workspace = (p->bytes.workspace + ALIGN - 1) / ALIGN * ALIGN;
    p->bytes.total += p->bytes.workspace;
    return MD_OK;
}

static md_status plan_alloc(md_plan *p)
{
    size_t nt = (size_t)p->n_tensors + 1, nn = (size_t)p->n_nodes + 1;
    p->nodes = malloc(nn * sizeof *p->nodes);
    p->used = calloc(nn, sizeof *p->used);
    p->kept = calloc(nt, sizeof *p->kept);
    p->placed = calloc(nt, sizeof *p->placed);
    p->at = calloc(nt, sizeof *p->at);
    p->first = calloc(nt, sizeof *p->first);
    p->last = calloc(nt, sizeof *p->last);
    if (!p->nodes || !p->used || !p->kept || !p->placed || !p->at || !p->first || !p->last)
        MD_FAIL(MD_NOMEM, "plan: out of memory");
    for (int i = 0; i < p->n_nodes; i++)
        p->nodes[i] = *md_graph_node(p->g, i);
    return MD_OK;
}

static md_status build(md_plan *p, md_tensor *const *outputs, int n)
{
    MD_TRY(md_graph_check(p->g));
    MD_TRY(plan_alloc(p));
    bool *wanted = calloc((size_t)p->n_tensors + 1, sizeof *wanted);
    if (!wanted)
        MD_FAIL(MD_NOMEM, "plan: out of memory");
    mark_used(p, outputs, n, wanted);
    free(wanted);
    MD_TRY(graph__fuse_residuals(p));
    find_lifetimes(p);
    elide_writes(p);
    MD_TRY(graph__fuse_chains(p));
    MD_TRY(assign_addresses(p));
    return prepare_kernels(p);
}

md_status md_plan_build(md_graph *g, md_backend *be, md_tensor *const *outputs, int n,
                        md_plan **out)
{
    md_plan *p = calloc(1, sizeof *p);
    if (!p)
        MD_FAIL(MD_NOMEM, "plan: out of memory");
    p->g = g;
    p->be = be;
    p->n_nodes = md_graph_n_nodes(g);
    p->n_tensors = md_graph_n_tensors(g);
    md_status status = build(p, outputs, n);
    if (status != MD_OK) {
        md_plan_free(p);
        return md_frame(status, __FILE__, __LINE__);
    }
    *out = p;
    return MD_OK;
}

static void *address(const md_plan *p, const md_tensor *t)
{
    size_t elem = p->be->ops->elem_bytes(t->dtype);
    size_t offset = 0;
    if (t->storage == MD_VIEW) {
        offset = (size_t)t->offset * elem;
        t = t->base;
    }
    if (t->storage == MD_TEMP && p->placed[t->id])
        return (char *)address(p, p->placed[t->id]) + offset;
    if (t->storage == MD_EXTERN)
        return t->buffer->ptr ? (char *)t->buffer->ptr + (size_t)t->offset * elem + offset : NULL;
    return p->arena + p->at[t->id] + offset;
}

md_status md_plan_load(md_plan *p)
{
    if (p->arena)
        return MD_OK;
    void *arena = NULL;
    MD_TRY(p->be->ops->alloc(p->be, p->bytes.total ? p->bytes.total : ALIGN, &arena));
    p->arena = arena;
    for (int i = 0; i < p->n_steps; i++) {
        step *s = &p->steps[i];
        const md_node *node = s->kernel.node;
        for (int k = 0; k < node->n_in; k++) {
            s->in[k] = node->in[k] ? address(p, node->in[k]) : NULL;
            if (node->in[k] && !s->in[k])
                MD_FAIL(MD_INTERNAL, "%s: buffer %s is not allocated", md_op_name(node->op),
                        graph__base(node->in[k])->buffer->name);
        }
        for (int k = 0; k < node->n_out; k++) {
            s->out[k] = address(p, node->out[k]);
            if (!s->out[k]) /* a producer that writes straight into an unallocated buffer */
                MD_FAIL(MD_INTERNAL, "%s: its result's buffer is not allocated",
                        md_op_name(node->op));
        }
    }
    return MD_OK;
}

static md_status failed_in(const md_node *node, md_status status)
{
    return md_context(status, "%s%s%s", node->path, *node->path ? ": " : "", md_op_name(node->op));
}

/* Says what has become ready with step i. */
static md_status tell_ready(const md_plan *p, int i)
{
    for (int k = 0; k < p->watch.n; k++)
        if (p->watch.step[k] == i)
            MD_TRY(p->watch.ready(p->watch.user, k));
    return MD_OK;
}

static md_status run_profiled(md_plan *p)
{
    void *scratch = p->arena + p->bytes.total - p->bytes.workspace;
    for (int i = 0; i < p->n_steps; i++) {
        step *s = &p->steps[i];
        double t = md_now();
        md_watch(md_op_name(s->kernel.node->op));
        md_status status = s->kernel.run(&s->kernel, s->in, s->out, scratch);
        if (status == MD_OK)
            status = p->be->ops->sync(p->be);
        if (status != MD_OK)
            return failed_in(s->kernel.node, status);
        p->seconds[s->kernel.node->op] += md_now() - t;
        p->calls[s->kernel.node->op]++;
        MD_TRY(tell_ready(p, i));
    }
    return MD_OK;
}

static md_status launch(md_plan *p)
{
    void *scratch = p->arena + p->bytes.total - p->bytes.workspace;
    for (int i = 0; i < p->n_steps; i++) {
        step *s = &p->steps[i];
        md_watch(md_op_name(s->kernel.node->op));
        md_status status = s->kernel.run(&s->kernel, s->in, s->out, scratch);
        if (status != MD_OK)
            return failed_in(s->kernel.node, status);
        MD_TRY(tell_ready(p, i));
    }
    return MD_OK;
}

/* Ends the recording whatever happened while it was made. */
static md_status record(md_plan *p)
{
    const md_backend_queues *q = p->be->ops->queues;
    MD_TRY(q->record_begin(p->be));
    md_status status = launch(p);
    if (status != MD_OK) {
        (void)q->record_end(p->be, NULL);
        return status;
    }
    return q->record_end(p->be, &p->recording);
}

/* The first run is not recorded: libraries load and choose what they need during their first call.
 */
static md_status run_queued(md_plan *p)
{
    if (!p->ran)
        MD_TRY(launch(p));
    else if (!p->recording)
        MD_TRY(record(p));
    md_watch("a recorded step");
    if (p->recording)
        MD_TRY(p->be->ops->queues->replay(p->be, p->recording));
    p->ran = true;
    return MD_OK;
}

md_status md_plan_run(md_plan *p)
{
    if (!p->arena)
        MD_FAIL(MD_INTERNAL, "plan: run before load");
    if (p->profile)
        return run_profiled(p);
    if (p->be->ops->queues)
        return run_queued(p);
    MD_TRY(launch(p));
    p->ran = true;
    return p->be->ops->sync(p->be);
}

static bool is_in(const md_plan *p, md_tensor *t, const md_range *r)
{
    const md_tensor *home = graph__home(p, t);
    const md_tensor *base = home->storage == MD_VIEW ? home->base : home;
    return base->storage == MD_EXTERN && base->buffer == r->buffer && start_of(home) < r->end &&
           r->first < start_of(home) + md_numel(home);
}

/* A gradient that was placed in its buffer may still be read there for what comes before it. */
static bool touches(const md_plan *p, const md_node *node, const md_range *r)
{
    for (int k = 0; k < node->n_out; k++)
        if (is_in(p, node->out[k], r))
            return true;
    for (int k = 0; k < node->n_in; k++)
        if (node->in[k] && is_in(p, node->in[k], r))
            return true;
    return false;
}

md_status md_plan_on_written(md_plan *p, const md_range *ranges, int n,
                             md_status (*ready)(void *user, int range), void *user)
{
    if (!p->arena || p->ran)
        MD_FAIL(MD_INTERNAL, "plan: watched %s", p->arena ? "after a run" : "before load");
    int *last = calloc((size_t)n + 1, sizeof *last);
    if (!last)
        MD_FAIL(MD_NOMEM, "plan: out of memory");
    for (int r = 0; r < n; r++)
        for (int i = 0; i < p->n_steps; i++)
            if (touches(p, p->steps[i].kernel.node, &ranges[r]))
                last[r] = i;
    free(p->watch.step);
    p->watch = (watch){n, last, ready, user};
    return MD_OK;
}

void md_plan_free(md_plan *p)
{
    if (!p)
        return;
    if (p->recording) /* waits, so that no kernel still runs when it is released */
        p->be->ops->queues->forget(p->be, p->recording);
    for (int i = 0; i < p->n_steps; i++)
        if (p->steps[i].kernel.release)
            p->steps[i].kernel.release(&p->steps[i].kernel);
    if (p->arena)
        p->be->ops->release(p->be, p->arena);
    free(p->watch.step);
    free(p->nodes);
    free(p->steps);
    free(p->used);
    free(p->kept);
    free(p->placed);
    free(p->at);
    free(p->first);
    free(p->last);
    while (p->chains) {
        plan_chain *c = p->chains;
        p->chains = c->next;
        free(c);
    }
    free(p);
}

static md_status check_io(const md_plan *p, const md_tensor *t, int64_t n, const char *what)
{
    if (!p->arena)
        MD_FAIL(MD_INTERNAL, "plan: %s before load", what);
    if (n != md_numel(t))
        MD_FAIL(MD_SHAPE, "plan: %s of %lld elements, the tensor is %s", what, (long long)n,
                md_shape_text(t));
    return MD_OK;
}

md_status md_plan_write(md_plan *p, const md_tensor *input, const void *host, md_dtype host_dtype,
                        int64_t n)
{
    MD_TRY(check_io(p, input, n, "write"));
    if (input->storage != MD_INPUT && input->storage != MD_EXTERN)
        MD_FAIL(MD_INTERNAL, "plan: write to %s, which is no input", md_shape_text(input));
    return p->be->ops->write(p->be, address(p, input), input->dtype, host, host_dtype, n);
}

md_status md_plan_read(md_plan *p, const md_tensor *output, void *host, md_dtype host_dtype,
                       int64_t n)
{
    MD_TRY(check_io(p, output, n, "read"));
    const md_tensor *base = output->storage == MD_VIEW ? output->base : output;
    if (base->storage == MD_TEMP && !p->kept[base->id])
        MD_FAIL(MD_INTERNAL, "plan: read of %s, which is not among the outputs",
                md_shape_text(output));
    return p->be->ops->read(p->be, address(p, output), output->dtype, host, host_dtype, n);
}

md_plan_bytes md_plan_memory(const md_plan *p)
{
    return p->bytes;
}

int64_t md_plan_flops(const md_plan *p)
{
    return p->flops;
}

int64_t md_plan_traffic(const md_plan *p)
{
    return p->traffic;
}

int md_plan_n_nodes(const md_plan *p)
{
    return p->n_steps;
}

void md_plan_profile(md_plan *p, bool on)
{
    p->profile = on;
    memset(p->seconds, 0, sizeof p->seconds);
    memset(p->calls, 0, sizeof p->calls);
}

void md_plan_print_profile(const md_plan *p, FILE *f)
{
    double total = 0;
    for (int i = 0; i < MD_OP_COUNT; i++)
        total += p->seconds[i];
    fprintf(f, "%-20s %8s %10s %7s\n", "op", "calls", "ms", "share");
    for (int i = 0; i < MD_OP_COUNT; i++)
        if (p->calls[i])
            fprintf(f, "%-20s %8lld %10.2f %6.1f%%\n", md_op_name((md_op)i), (long long)p->calls[i],
                    1e3 * p->seconds[i], 100 * p->seconds[i] / total);
}
