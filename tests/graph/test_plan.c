/* The plan: addresses by lifetime, writes that go straight to their destination, updates in place,
   recomputed blocks, what is left out, what is refused, and that a run allocates nothing. */
#include "backends.h"
#include "base/rng.h"
#include "graph/plan.h"
#include "ops/grad.h"
#include "ops/ops.h"
#include "support/fail_alloc.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != MD_OK)                                                                       \
            fail_msg("%s", md_status_text());                                                      \
    } while (0)
#define FAILS(code, text, call)                                                                    \
    do {                                                                                           \
        assert_int_equal(call, code);                                                              \
        if (!strstr(md_status_text(), text))                                                       \
            fail_msg("no \"%s\" in: %s", text, md_status_text());                                  \
    } while (0)

enum { MAX_NODES = 256, MAX_OUTPUTS = 64 };

/* ---- a backend that notes which addresses each node got */

typedef struct note {
    bool ran;
    md_status (*run)(const md_kernel *, void *const *, void *const *, void *);
    const char *in[MD_MAX_IN], *out[MD_MAX_OUT], *scratch;
    size_t scratch_bytes;
} note;

static note notes[MAX_NODES];

static md_status noting_run(const md_kernel *k, void *const *in, void *const *out, void *scratch)
{
    note *n = &notes[k->node->index];
    n->ran = true;
    n->scratch = scratch;
    n->scratch_bytes = k->scratch_bytes;
    for (int i = 0; i < k->node->n_in; i++)
        n->in[i] = in[i];
    for (int i = 0; i < k->node->n_out; i++)
        n->out[i] = out[i];
    return n->run(k, in, out, scratch);
}

static md_status noting_prepare(md_backend *be, const md_node *node, md_kernel *k)
{
    MD_TRY(ref->ops->prepare[node->op](be, node, k));
    notes[node->index].run = k->run;
    k->run = noting_run;
    return MD_OK;
}

/* ref with noted addresses; closes nothing of its own. */
static md_backend noting_backend(md_backend_ops *ops, md_prepare_fn prepare[MD_OP_COUNT])
{
    md_backend be = *ref;
    *ops = *ref->ops;
    for (int i = 0; i < MD_OP_COUNT; i++)
        prepare[i] = noting_prepare;
    ops->prepare = prepare;
    be.ops = ops;
    memset(notes, 0, sizeof notes);
    return be;
}

/* ---- random graphs */

typedef struct random_graph {
    md_graph *g;
    md_tensor *input[2];
    md_buffer buffer; /* three regions of 64 */
    md_tensor *out[MAX_OUTPUTS], *all[MAX_OUTPUTS * 4];
    int n_out, n_all;
} random_graph;

static int64_t below(md_rng *r, int64_t n)
{
    return md_rng_below(r, n);
}

/* One more tensor from those there are; all are [n,8] or 64 long when flat. */
static md_tensor *random_op(md_rng *r, md_tensor *const *have, int n)
{
    md_tensor *a = have[below(r, n)], *b = have[below(r, n)];
    int64_t rows = a->dim[0];
    switch (below(r, 8)) {
    case 0:
        return md_add(a, md_slice(b, 0, 0, 1));
    case 1:
        return md_scale(a, 0.5);
    case 2:
        return md_activation(a, MD_ACT_QUICK_GELU);
    case 3:
        return rows > 1 ? md_slice(a, 0, 1, rows - 1) : md_affine(a, 0.5, 0.25);
    case 4:
        return rows + b->dim[0] < 24 ? md_concat((md_tensor *[]){a, b}, 2, 0) : md_clamp(a, -1, 1);
    case 5: /* through a view */
        return md_scale(md_view(a, 8 * below(r, rows), 2, MD_DIMS(1, 8)), -0.5);
    case 6:
        return md_broadcast_to(md_sum_to(a, 2, MD_DIMS(1, 8)), 2, MD_DIMS(rows, 8));
    default:
        return md_reshape(md_affine(md_reshape(a, 1, MD_DIMS(-1)), 0.25, 0.125), 2,
                          MD_DIMS(rows, 8));
    }
}

/* A write or an accumulation into one of the buffer's regions. */
static md_tensor *random_update(md_rng *r, random_graph *o, md_tensor *x)
{
    static const int64_t starts[] = {0, 16, 20, 64, 96}; /* some overlap, one is not aligned */
    md_tensor *dst = md_extern(o->g, &o->buffer, starts[below(r, 5)], 2, MD_DIMS(x->dim[0], 8));
    return below(r, 3) ? md_write(dst, x) : md_accumulate(dst, x);
}

static void random_graph_new(uint64_t seed, random_graph *o)
{
    md_rng r = md_rng_at(seed, MD_RNG_TRAIN_NOISE, 0, 0);
    md_tensor *have[MAX_NODES];
    int n = 0;
    memset(o, 0, sizeof *o);
    OK(md_graph_new(&o->g));
    md_buffer_init(&o->buffer, "regions", MD_F32, 512);
    for (int i = 0; i < 2; i++)
        have[n++] = o->input[i] = md_input(o->g, "x", MD_F32, 2, MD_DIMS(2 + i, 8));
    have[n++] = md_extern(o->g, &o->buffer, 64, 2, MD_DIMS(2, 8));
    while (n < 40) {
        md_tensor *t = random_op(&r, have, n);
        if (below(&r, 4) == 0 && o->n_out < MAX_OUTPUTS / 2)
            o->out[o->n_out++] = random_update(&r, o, t);
        have[n++] = t;
        o->all[o->n_all++] = t;
    }
    for (int i = 0; i < 3; i++)
        o->out[o->n_out++] = have[3 + below(&r, n - 3)];
    OK(md_graph_check(o->g));
    assert_in_range(md_graph_n_nodes(o->g), 1, MAX_NODES);
}

static void random_graph_free(random_graph *o)
{
    md_graph_free(o->g);
}

/* Runs with these outputs; values of o->out, one after the other, and the buffer. Returns how many.
   `twice`: a second run from the same values must give the same. */
static size_t run_random(random_graph *o, md_backend *be, md_tensor *const *outputs, int n,
                         double *values)
{
    md_plan *p;
    size_t at = 0;
    double fill[512];
    OK(md_plan_build(o->g, be, outputs, n, &p));
    OK(md_buffer_alloc(be, &o->buffer));
    OK(md_plan_load(p));
    for (int round = 0; round < 2; round++) {
        at = 0;
        for (int i = 0; i < 512; i++)
            fill[i] = sin(0.37 * i);
        OK(md_buffer_write(be, &o->buffer, 0, fill, MD_F64, 512));
        for (int i = 0; i < 2; i++)
            OK(md_plan_write(p, o->input[i], fill + 31 * i, MD_F64, md_numel(o->input[i])));
        OK(md_plan_run(p));
        for (int i = 0; i < o->n_out; i++) {
            OK(md_plan_read(p, o->out[i], values + at, MD_F64, md_numel(o->out[i])));
            at += (size_t)md_numel(o->out[i]);
        }
        OK(md_buffer_read(be, &o->buffer, 0, values + at, MD_F64, 512));
        at += 512;
    }
    md_plan_free(p);
    md_buffer_release(be, &o->buffer);
    return at;
}

static md_tensor *base_of(md_tensor *t)
{
    return t->storage == MD_VIEW ? t->base : t;
}

typedef struct life {
    int first, last;
    const char *at;
    size_t bytes;
} life;

/* Of temporary base `t`, from what the nodes that ran were given. */
static life life_of(const random_graph *o, md_tensor *t)
{
    life l = {.first = MAX_NODES, .last = -1, .bytes = (size_t)md_numel(t) * sizeof(double)};
    for (int i = 0; i < md_graph_n_nodes(o->g); i++) {
        md_node *node = md_graph_node(o->g, i);
        if (!notes[i].ran)
            continue;
        for (int k = 0; k < node->n_out; k++)
            if (node->out[k] == t) {
                l.first = i;
                l.last = i > l.last ? i : l.last;
                l.at = notes[i].out[k];
            }
        for (int k = 0; k < node->n_in; k++)
            if (node->in[k] && base_of(node->in[k]) == t)
                l.last = i;
    }
    for (int i = 0; i < o->n_out; i++)
        if (base_of(o->out[i]) == t)
            l.last = MAX_NODES;
    return l;
}

static bool share(const char *a, size_t an, const char *b, size_t bn)
{
    return a < b + bn && b < a + an;
}

static void test_lifetimes(void **state)
{
    (void)state;
    static double few[MAX_OUTPUTS * 256], all[MAX_OUTPUTS * 256];
    int checked = 0, reused = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        random_graph o;
        md_backend_ops ops;
        md_prepare_fn prepare[MD_OP_COUNT];
        random_graph_new(seed, &o);
        md_backend be = noting_backend(&ops, prepare);
        size_t n = run_random(&o, &be, o.out, o.n_out, few);
        life l[MAX_NODES * 2];
        int n_lives = 0;
        for (int i = 0; i < md_graph_n_tensors(o.g); i++) {
            md_tensor *t = md_graph_tensor(o.g, i);
            life x = t->storage == MD_TEMP ? life_of(&o, t) : (life){.last = -1};
            if (x.last >= 0 && x.first < MAX_NODES)
                l[n_lives++] = x;
        }
        for (int i = 0; i < n_lives; i++)
            for (int k = 0; k < i; k++) {
                bool meet = l[i].first <= l[k].last && l[k].first <= l[i].last;
                bool same = share(l[i].at, l[i].bytes, l[k].at, l[k].bytes);
                if (meet && same)
                    fail_msg("seed %llu: tensors alive in nodes %d..%d and %d..%d share bytes",
                             (unsigned long long)seed, l[i].first, l[i].last, l[k].first,
                             l[k].last);
                checked += meet;
                reused += same;
            }
        for (int i = 0; i < md_graph_n_nodes(o.g); i++)
            for (int k = 0; k < n_lives && notes[i].ran; k++)
                if (l[k].first <= i && i <= l[k].last &&
                    share(notes[i].scratch, notes[i].scratch_bytes, l[k].at, l[k].bytes))
                    fail_msg("seed %llu: node %d's scratch holds a tensor",
                             (unsigned long long)seed, i);

        /* the same with every tensor kept: no byte is used twice, no write is left out */
        md_tensor *outputs[MAX_OUTPUTS * 5];
        int n_outputs = 0;
        for (int i = 0; i < o.n_out; i++)
            outputs[n_outputs++] = o.out[i];
        for (int i = 0; i < o.n_all; i++)
            outputs[n_outputs++] = o.all[i];
        assert_int_equal(run_random(&o, ref, outputs, n_outputs, all), n);
        if (memcmp(few, all, n * sizeof *few) != 0)
            fail_msg("seed %llu: the results differ from those with every tensor kept",
                     (unsigned long long)seed);
        n = run_random(&o, cpu, o.out, o.n_out, few);
        assert_int_equal(run_random(&o, cpu, outputs, n_outputs, all), n);
        if (memcmp(few, all, n * sizeof *few) != 0)
            fail_msg("seed %llu, cpu: the results differ from those with every tensor kept",
                     (unsigned long long)seed);
        random_graph_free(&o);
    }
    assert_true(checked > 10000); /* the property was not empty */
    assert_true(reused > 1000);
}

/* ---- small graphs with one input x [32] and one buffer e [96] */

typedef struct small {
    md_graph *g;
    md_tensor *x;
    md_buffer buffer;
} small;

static small small_new(void)
{
    small s;
    OK(md_graph_new(&s.g));
    md_buffer_init(&s.buffer, "e", MD_F32, 96);
    s.x = md_input(s.g, "x", MD_F32, 1, MD_DIMS(32));
    return s;
}

static md_tensor *region(small *s, int64_t offset)
{
    return md_extern(s->g, &s->buffer, offset, 1, MD_DIMS(32));
}

/* Runs with x = 1, e = 10 everywhere on both backends. Of buffer element `at`, and of y (may be
   NULL); returns the number of nodes. */
static int small_run(small *s, md_tensor *const *out, int n, int64_t at, double *e, md_tensor *y,
                     double *y0)
{
    int nodes[2];
    double got[2][2] = {{0}};
    for (int i = 0; i < 2; i++) {
        md_backend *be = i ? cpu : ref;
        md_plan *p;
        double fill[96], yy[32];
        OK(md_plan_build(s->g, be, out, n, &p));
        OK(md_buffer_alloc(be, &s->buffer));
        OK(md_plan_load(p));
        for (int k = 0; k < 96; k++)
            fill[k] = 10;
        OK(md_buffer_write(be, &s->buffer, 0, fill, MD_F64, 96));
        for (int k = 0; k < 32; k++)
            fill[k] = 1;
        OK(md_plan_write(p, s->x, fill, MD_F64, 32));
        OK(md_plan_run(p));
        OK(md_buffer_read(be, &s->buffer, at, &got[i][0], MD_F64, 1));
        if (y) {
            OK(md_plan_read(p, y, yy, MD_F64, 32));
            got[i][1] = yy[0];
        }
        nodes[i] = md_plan_n_nodes(p);
        md_plan_free(p);
        md_buffer_release(be, &s->buffer);
    }
    assert_true(got[0][0] == got[1][0] && got[0][1] == got[1][1]);
    assert_int_equal(nodes[0], nodes[1]);
    *e = got[0][0];
    if (y0)
        *y0 = got[0][1];
    return nodes[0];
}

static void test_write_goes_straight(void **state)
{
    (void)state;
    double e, y;
    small s = small_new();
    md_tensor *src = md_scale(s.x, 3), *out[] = {md_write(region(&s, 0), src), src};
    assert_int_equal(small_run(&s, out, 1, 5, &e, NULL, NULL), 1); /* no copy */
    assert_true(e == 3);
    assert_int_equal(small_run(&s, out, 2, 5, &e, src, &y), 2); /* the source is kept: a copy */
    assert_true(e == 3 && y == 3);
    md_graph_free(s.g);

    s = small_new(); /* 12 bytes in: not aligned */
    out[0] = md_write(region(&s, 3), md_scale(s.x, 3));
    assert_int_equal(small_run(&s, out, 1, 34, &e, NULL, NULL), 2);
    assert_true(e == 3);
    md_graph_free(s.g);
}

static void test_write_hazards(void **state)
{
    (void)state;
    double e, y;
    /* the region is read between the source's making and the write */
    small s = small_new();
    md_tensor *src = md_scale(s.x, 3), *seen = md_add(src, region(&s, 0));
    md_tensor *out[3] = {md_write(region(&s, 0), src), seen};
    assert_int_equal(small_run(&s, out, 2, 0, &e, seen, &y), 3);
    assert_true(e == 3 && y == 13);
    md_graph_free(s.g);

    /* the source's own producer reads a part of the region */
    s = small_new();
    src = md_add(region(&s, 16), s.x);
    out[0] = md_write(region(&s, 0), src);
    small_run(&s, out, 1, 0, &e, NULL, NULL);
    assert_true(e == 11);
    small_run(&s, out, 1, 40, &e, NULL, NULL);
    assert_true(e == 10);
    md_graph_free(s.g);

    /* the source is read again after the region has changed once more */
    s = small_new();
    src = md_scale(s.x, 3);
    md_tensor *one = md_write(region(&s, 0), src), *two = md_accumulate(region(&s, 0), s.x);
    seen = md_scale(src, 2);
    out[0] = one;
    out[1] = two;
    out[2] = seen;
    small_run(&s, out, 3, 0, &e, seen, &y);
    assert_true(e == 4 && y == 6);
    md_graph_free(s.g);

    /* two writes, whose sources are made in the other order */
    s = small_new();
    md_tensor *late = md_scale(s.x, 7), *early = md_scale(s.x, 5);
    out[0] = md_write(region(&s, 0), early);
    out[1] = md_write(region(&s, 0), late);
    small_run(&s, out, 2, 0, &e, NULL, NULL);
    assert_true(e == 7);
    md_graph_free(s.g);

    /* the first source is read after the second one is made */
    s = small_new();
    early = md_scale(s.x, 5);
    out[0] = md_write(region(&s, 0), early);
    late = md_scale(s.x, 7);
    seen = md_add(early, s.x);
    out[1] = md_write(region(&s, 16), late);
    out[2] = seen;
    small_run(&s, out, 3, 20, &e, seen, &y);
    assert_true(e == 7 && y == 6);
    md_graph_free(s.g);
}

static void test_updates_in_order(void **state)
{
    (void)state;
    double e, y;
    small s = small_new();
    md_tensor *r = region(&s, 0);
    md_tensor *one = md_accumulate(r, s.x), *seen = md_scale(r, 2);
    md_tensor *two = md_accumulate(one, s.x), *view = md_view(r, 4, 1, MD_DIMS(8));
    md_tensor *three = md_accumulate(view, md_slice(s.x, 0, 0, 8));
    md_tensor *out[] = {one, two, three, seen};
    small_run(&s, out, 4, 5, &e, seen, &y);
    assert_true(e == 13 && y == 22);
    small_run(&s, out, 4, 12, &e, seen, &y);
    assert_true(e == 12 && y == 22);
    /* an update that nobody asks for does not happen; one through which another was reached does */
    small_run(&s, out, 1, 5, &e, NULL, NULL);
    assert_true(e == 11);
    small_run(&s, out + 1, 1, 5, &e, NULL, NULL);
    assert_true(e == 12);
    md_graph_free(s.g);
}

static void test_unused_nodes(void **state)
{
    (void)state;
    double e, y;
    small s = small_new();
    md_tensor *used = md_scale(s.x, 2), *lost = md_activation(s.x, MD_ACT_EXP);
    (void)md_accumulate(region(&s, 0), lost);
    md_tensor *out = md_affine(used, 1, 1);
    assert_int_equal(small_run(&s, &out, 1, 0, &e, out, &y), 1); /* the two used are one chain */
    assert_true(e == 10 && y == 3);
    md_graph_free(s.g);
}

static void test_refusals(void **state)
{
    (void)state;
    small s = small_new();
    md_plan *p;
    float v[96] = {0};
    md_tensor *mid = md_scale(s.x, 2), *end = md_scale(mid, 2);
    md_tensor *src = md_scale(s.x, 4), *update = md_write(region(&s, 0), src);
    md_tensor *out[] = {end, update};
    OK(md_plan_build(s.g, cpu, out, 2, &p));
    FAILS(MD_INTERNAL, "run before load", md_plan_run(p));
    FAILS(MD_INTERNAL, "write before load", md_plan_write(p, s.x, v, MD_F32, 32));
    FAILS(MD_INTERNAL, "not allocated", md_plan_load(p));
    md_plan_free(p);
    OK(md_plan_build(s.g, cpu, out, 2, &p));
    OK(md_buffer_alloc(cpu, &s.buffer));
    OK(md_plan_load(p));
    FAILS(MD_INTERNAL, "no input", md_plan_write(p, mid, v, MD_F32, 32));
    FAILS(MD_SHAPE, "31 elements", md_plan_write(p, s.x, v, MD_F32, 31));
    FAILS(MD_INTERNAL, "not among the outputs", md_plan_read(p, mid, v, MD_F32, 32));
    FAILS(MD_INTERNAL, "not among the outputs", md_plan_read(p, src, v, MD_F32, 32));
    FAILS(MD_SHAPE, "33 elements", md_plan_read(p, end, v, MD_F32, 33));
    OK(md_plan_read(p, end, v, MD_F32, 32));
    OK(md_plan_read(p, update, v, MD_F32, 32));
    md_plan_free(p);
    md_buffer_release(cpu, &s.buffer);
    FAILS(MD_INTERNAL, "e is not allocated", md_buffer_write(cpu, &s.buffer, 0, v, MD_F32, 1));
    OK(md_buffer_alloc(cpu, &s.buffer));
    FAILS(MD_SHAPE, "buffer e", md_buffer_write(cpu, &s.buffer, 95, v, MD_F32, 2));
    FAILS(MD_SHAPE, "buffer e", md_buffer_read(cpu, &s.buffer, -1, v, MD_F32, 2));
    md_buffer_release(cpu, &s.buffer);

    /* a graph with an error in it is not planned; the error has the layer's path */
    md_graph_set_path(s.g, "blocks.3");
    md_tensor *bad = md_add(s.x, md_input(s.g, "y", MD_F32, 1, MD_DIMS(7)));
    FAILS(MD_SHAPE, "blocks.3", md_plan_build(s.g, cpu, &bad, 1, &p));
    md_graph_free(s.g);
}

/* ---- a network of four blocks */

typedef struct network {
    md_graph *g;
    md_buffer weights;
    md_tensor *x, *loss, *wrt[16], *grad[16];
    int n_wrt;
} network;

enum { SIDE = 8, WIDTH = 8, BLOCKS = 4 };

static md_tensor *weight(network *n, int64_t *at, int ndim, const int64_t *dim)
{
    md_tensor *w = md_extern(n->g, &n->weights, *at, ndim, dim);
    *at += (md_numel(w) + 15) / 16 * 16;
    return n->wrt[n->n_wrt++] = w;
}

static void network_new(network *n, int n_recompute)
{
    int64_t at = 0;
    memset(n, 0, sizeof *n);
    OK(md_graph_new(&n->g));
    md_buffer_init(&n->weights, "weights", MD_F32, 8192);
    n->x = md_input(n->g, "x", MD_F32, 4, MD_DIMS(2, SIDE, SIDE, WIDTH));
    md_tensor *h = n->x;
    for (int b = 0; b < BLOCKS; b++) {
        md_block_begin(n->g);
        md_tensor *y = md_group_norm(h, weight(n, &at, 1, MD_DIMS(WIDTH)),
                                     weight(n, &at, 1, MD_DIMS(WIDTH)), 2, 1e-5, MD_ACT_SILU);
        y = md_conv2d(y, weight(n, &at, 4, MD_DIMS(WIDTH, 3, 3, WIDTH)), NULL, 1, 1, 1, 1, 1);
        md_tensor *t = md_reshape(y, 3, MD_DIMS(2, SIDE * SIDE, WIDTH));
        t = md_attention(t, t, t, 2, 0, false);
        h = md_add(h, md_activation(md_reshape(t, 4, y->dim), MD_ACT_GELU));
        md_block_end(n->g);
    }
    n->loss = md_mean(md_mul(h, h));
    OK(md_grad(n->loss, n->wrt, n->n_wrt, n_recompute, n->grad));
}

static md_plan *network_load(network *n, md_backend *be)
{
    md_plan *p;
    md_tensor *out[17];
    static double values[8192];
    for (int i = 0; i < n->n_wrt; i++)
        out[i] = n->grad[i];
    out[n->n_wrt] = n->loss;
    OK(md_plan_build(n->g, be, out, n->n_wrt + 1, &p));
    OK(md_buffer_alloc(be, &n->weights));
    OK(md_plan_load(p));
    md_rng r = md_rng_at(5, MD_RNG_TRAIN_NOISE, 0, 0);
    for (int i = 0; i < 8192; i++)
        values[i] = 0.2 * md_rng_normal(&r);
    OK(md_buffer_write(be, &n->weights, 0, values, MD_F64, 8192));
    OK(md_plan_write(p, n->x, values, MD_F64, md_numel(n->x)));
    return p;
}

static void network_free(network *n, md_backend *be, md_plan *p)
{
    md_plan_free(p);
    md_buffer_release(be, &n->weights);
    md_graph_free(n->g);
}

/* Loss and gradients one after the other. */
static size_t network_values(int n_recompute, md_backend *be, double *out, md_plan_bytes *bytes)
{
    network n;
    network_new(&n, n_recompute);
    assert_int_equal(md_graph_n_blocks(n.g), BLOCKS);
    md_plan *p = network_load(&n, be);
    OK(md_plan_run(p));
    OK(md_plan_read(p, n.loss, out, MD_F64, 1));
    size_t at = 1;
    for (int i = 0; i < n.n_wrt; i++) {
        OK(md_plan_read(p, n.grad[i], out + at, MD_F64, md_numel(n.grad[i])));
        at += (size_t)md_numel(n.grad[i]);
    }
    *bytes = md_plan_memory(p);
    network_free(&n, be, p);
    return at;
}

static void test_recompute(void **state)
{
    (void)state;
    static double keep[8192], again[8192];
    md_plan_bytes kept, recomputed;
    for (int which = 0; which < 2; which++) {
        md_backend *be = which ? cpu : ref;
        size_t n = network_values(0, be, keep, &kept);
        double most = 0, previous = (double)kept.activations;
        for (size_t i = 1; i < n; i++)
            most = fmax(most, fabs(keep[i]));
        assert_true(most > 1e-4);
        for (int blocks = 1; blocks <= BLOCKS; blocks++) {
            assert_int_equal(network_values(blocks, be, again, &recomputed), n);
            assert_true(again[0] == keep[0]);
            for (size_t i = 1; i < n; i++)
                assert_true(fabs(again[i] - keep[i]) <= 1e-12 * most);
        }
        assert_true((double)recomputed.activations < 0.6 * previous);
        assert_int_equal(recomputed.outputs, kept.outputs);
    }
}

static void test_allocations(void **state)
{
    (void)state;
    network n;
    network_new(&n, 2);
    size_t before = cpu->allocated_bytes;
    md_plan *p = network_load(&n, cpu);
    md_plan_bytes b = md_plan_memory(p);
    assert_int_equal(cpu->allocated_bytes - before, b.total + 8192 * sizeof(float));
    assert_int_equal(b.inputs + b.outputs + b.activations + b.workspace, b.total);
    assert_true(md_plan_flops(p) > 0);
    OK(md_plan_run(p));
    for (int step = 2; step <= 4; step++) {
        fail_alloc_at(0);
        OK(md_plan_run(p));
        assert_int_equal(fail_alloc_count(), 0);
        assert_int_equal(cpu->allocated_bytes - before, b.total + 8192 * sizeof(float));
    }
    network_free(&n, cpu, p);
    assert_int_equal(cpu->allocated_bytes, before);
}

/* Whatever allocation fails while planning: MD_NOMEM, nothing lost. */
static void test_no_memory(void **state)
{
    (void)state;
    network n;
    network_new(&n, 1);
    long tried = 0;
    for (md_status status = MD_NOMEM; status != MD_OK; tried++) {
        md_plan *p = NULL;
        fail_alloc_at(tried + 1);
        status = md_plan_build(n.g, ref, n.grad, n.n_wrt, &p);
        fail_alloc_at(0);
        assert_true(status == MD_OK || status == MD_NOMEM);
        if (status == MD_OK)
            md_plan_free(p);
    }
    assert_true(tried > 8);
    md_graph_free(n.g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lifetimes),     cmocka_unit_test(test_write_goes_straight),
        cmocka_unit_test(test_write_hazards), cmocka_unit_test(test_updates_in_order),
        cmocka_unit_test(test_unused_nodes),  cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_recompute),     cmocka_unit_test(test_allocations),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, open_backends, close_backends);
}
