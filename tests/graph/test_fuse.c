/* Chains: which elementwise nodes the plan makes one, which it must not, and that the results are
   those of the single nodes to the bit. */
#include "backends.h"
#include "base/rng.h"
#include "graph/chain.h"
#include "graph/plan.h"
#include "ops/ops.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != MD_OK)                                                                       \
            fail_msg("%s", md_status_text());                                                      \
    } while (0)

enum { N = 2, H = 3, W = 5, C = 4, SIZE = N * H * W * C, REGION = 512, MAX_OUT = 16 };

/* A small graph: inputs x, y [N,H,W,C], t [N,1,1,C], s [1], the buffer e of REGION elements; what
   it is read by. */
typedef struct model {
    md_graph *g;
    md_tensor *x, *y, *t, *s;
    md_buffer buffer;
    md_tensor *out[MAX_OUT];
    int n_out;
} model;

static void model_new(model *m)
{
    memset(m, 0, sizeof *m);
    OK(md_graph_new(&m->g));
    m->x = md_input(m->g, "x", MD_F32, 4, MD_DIMS(N, H, W, C));
    m->y = md_input(m->g, "y", MD_F32, 4, MD_DIMS(N, H, W, C));
    m->t = md_input(m->g, "t", MD_F32, 4, MD_DIMS(N, 1, 1, C));
    m->s = md_input(m->g, "s", MD_F32, 1, MD_DIMS(1));
    md_buffer_init(&m->buffer, "e", MD_F32, REGION);
}

static md_tensor *region(model *m, int64_t at)
{
    return md_extern(m->g, &m->buffer, at, 4, MD_DIMS(N, H, W, C));
}

typedef struct result {
    int nodes;
    size_t bytes;
    double *values; /* outputs, one after the other, then the buffer */
    size_t n;
} result;

static void fill(double *v, int n, double phase)
{
    for (int i = 0; i < n; i++)
        v[i] = sin(0.7 * i + phase);
}

static result run(model *m, md_backend *be, bool fuses)
{
    md_backend_ops ops = *be->ops;
    md_backend with = *be;
    md_plan *p;
    result r = {0};
    double host[REGION];
    md_tensor *in[] = {m->x, m->y, m->t, m->s};
    ops.fuses_chains = fuses;
    with.ops = &ops;
    OK(md_graph_check(m->g));
    OK(md_plan_build(m->g, &with, m->out, m->n_out, &p));
    OK(md_buffer_alloc(&with, &m->buffer));
    OK(md_plan_load(p));
    for (int i = 0; i < 4; i++) {
        fill(host, (int)md_numel(in[i]), i);
        OK(md_plan_write(p, in[i], host, MD_F64, md_numel(in[i])));
    }
    fill(host, REGION, 9);
    OK(md_buffer_write(&with, &m->buffer, 0, host, MD_F64, REGION));
    OK(md_plan_run(p));
    for (int i = 0; i < m->n_out; i++)
        r.n += (size_t)md_numel(m->out[i]);
    r.values = malloc((r.n + REGION) * sizeof *r.values);
    assert_non_null(r.values);
    double *at = r.values;
    for (int i = 0; i < m->n_out; i++) {
        OK(md_plan_read(p, m->out[i], at, MD_F64, md_numel(m->out[i])));
        at += md_numel(m->out[i]);
    }
    OK(md_buffer_read(&with, &m->buffer, 0, at, MD_F64, REGION));
    r.n += REGION;
    r.nodes = md_plan_n_nodes(p);
    r.bytes = md_plan_memory(p).total;
    md_plan_free(p);
    md_buffer_release(&with, &m->buffer);
    assert_int_equal(with.allocated_bytes, be->allocated_bytes);
    return r;
}

/* Both backends, fused and not: the same bits; the numbers of nodes. */
static void check(model *m, const char *name, int before, int after)
{
    for (int b = 0; b < 2; b++) {
        md_backend *be = b ? cpu : ref;
        result plain = run(m, be, false), fused = run(m, be, true);
        if (plain.nodes != before || fused.nodes != after)
            fail_msg("%s on %s: %d nodes, then %d; wanted %d, then %d", name, be->ops->name,
                     plain.nodes, fused.nodes, before, after);
        for (size_t i = 0; i < plain.n; i++)
            if (!(plain.values[i] == fused.values[i]))
                fail_msg("%s on %s, value %zu: %.17g, fused %.17g", name, be->ops->name, i,
                         plain.values[i], fused.values[i]);
        if (fused.bytes > plain.bytes)
            fail_msg("%s on %s: %zu bytes, fused %zu", name, be->ops->name, plain.bytes,
                     fused.bytes);
        free(plain.values);
        free(fused.values);
    }
}

/* ---- rows: what is built, how many nodes that is, how many it becomes */

static md_tensor *straight(model *m)
{
    return md_silu(md_add(md_affine(m->x, 2, -0.5), m->y));
}

static md_tensor *time_embedding(model *m)
{
    return md_silu(md_add(md_scale(m->x, 3), m->t));
}

/* silu of the small tensor is made once, not H W times. */
static md_tensor *small_stays(model *m)
{
    return md_scale(md_add(m->x, md_silu(m->t)), 3);
}

static md_tensor *broadcasts_are_inputs(model *m)
{
    md_tensor *big = md_broadcast_to(m->t, 4, m->x->dim);
    return md_mul(md_mul(big, m->s), m->x);
}

/* h is read twice, by nodes of the chain. */
static md_tensor *diamond(model *m)
{
    md_tensor *h = md_mul(m->x, m->y);
    return md_sub(md_add(h, m->x), md_mul(h, h));
}

/* h is also read by a sum. */
static md_tensor *two_consumers(model *m)
{
    md_tensor *h = md_mul(m->x, m->y);
    return md_mul(md_add(h, m->x), md_sum(h));
}

/* One element is made once, not as often as it is read. */
static md_tensor *scalar_stays(model *m)
{
    return md_mul(m->x, md_affine(m->s, 2, 1));
}

/* h and its first pixel. */
static md_tensor *read_in_two_ways(model *m)
{
    md_tensor *h = md_mul(m->x, m->y);
    return md_silu(md_add(h, md_view(h, 0, 1, MD_DIMS(C))));
}

/* x and its first pixel, which begins where x does. */
static md_tensor *input_in_two_ways(model *m)
{
    return md_silu(md_add(m->x, md_view(m->x, 0, 1, MD_DIMS(C))));
}

/* Half of h is read: no whole chain has it in a register. */
static md_tensor *part_is_read(model *m)
{
    md_tensor *h = md_mul(m->x, m->y);
    return md_scale(md_silu(md_view(h, SIZE / 2, 1, MD_DIMS(SIZE / 2))), 2);
}

/* Under another shape all the same elements, in the same order. */
static md_tensor *reshaped(model *m)
{
    md_tensor *h = md_reshape(md_add(m->x, m->y), 3, MD_DIMS(N, H * W, C));
    return md_reshape(md_scale(md_mul(h, m->s), 2), 2, MD_DIMS(N * H, W * C));
}

/* t goes along the last of four dims, and what follows has two. */
static md_tensor *reshaped_broadcast(model *m)
{
    md_tensor *h = md_add(m->x, m->t);
    return md_silu(md_scale(md_reshape(h, 2, MD_DIMS(N * H, W * C)), 2));
}

static md_tensor *thirty_deep(model *m)
{
    md_tensor *h = m->x;
    for (int i = 0; i < 30; i++)
        h = md_affine(h, 0.9, 0.01 * i);
    return h;
}

/* A sum of 22 tensors: eight at a time. */
static md_tensor *many_inputs(model *m)
{
    md_tensor *h = m->x, *e = md_extern(m->g, &m->buffer, 0, 1, MD_DIMS(REGION));
    for (int i = 0; i < 21; i++)
        h = md_add(h, md_view(e, 16 * i, 4, MD_DIMS(N, H, W, C)));
    return h;
}

/* Twelve steps whose four results and five inputs are all still to be read at once: one register
   too many for one chain. */
static md_tensor *many_values(model *m)
{
    md_tensor *e = region(m, 0), *v[4];
    for (int i = 0; i < 4; i++)
        v[i] = md_affine(i % 2 ? m->x : m->y, i + 1, 0.5);
    md_tensor *h = md_sub(m->x, m->y);
    for (int i = 0; i < 4; i++)
        h = md_mul(h, v[i]);
    return md_add(md_add(md_add(h, m->t), m->s), e);
}

static md_tensor *gradients_of_acts(model *m)
{
    md_attr clamp = {.act = {MD_ACT_CLAMP, -0.5, 0.5}}, gelu = {.act = {.kind = MD_ACT_GELU}};
    md_tensor *h = md_act_grad(md_scale(m->x, 2), m->y, gelu);
    return md_act_grad(h, md_clamp(m->y, -0.9, 0.9), clamp);
}

static const struct {
    const char *name;
    md_tensor *(*build)(model *m);
    int before, after;
} rows[] = {
    {"straight", straight, 3, 1},
    {"time embedding", time_embedding, 3, 1},
    {"a small tensor stays", small_stays, 3, 2},
    {"broadcasts are inputs", broadcasts_are_inputs, 3, 1},
    {"diamond", diamond, 4, 1},
    {"two consumers", two_consumers, 4, 3},
    {"a scalar stays", scalar_stays, 2, 2},
    {"read in two ways", read_in_two_ways, 3, 2},
    {"an input in two ways", input_in_two_ways, 2, 1},
    {"a part is read", part_is_read, 3, 2},
    {"reshaped", reshaped, 3, 1},
    {"reshaped broadcast", reshaped_broadcast, 3, 2},
    {"thirty deep", thirty_deep, 30, 3},
    {"many inputs", many_inputs, 21, 3},
    {"many values", many_values, 12, 2},
    {"gradients of activations", gradients_of_acts, 4, 1},
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        model m;
        model_new(&m);
        m.out[m.n_out++] = rows[i].build(&m);
        check(&m, rows[i].name, rows[i].before, rows[i].after);
        md_graph_free(m.g);
    }
}

static void test_outputs_stay(void **state)
{
    (void)state;
    model m;
    model_new(&m);
    md_tensor *h = md_mul(m.x, m.y);
    m.out[m.n_out++] = md_silu(md_scale(h, 2));
    check(&m, "nothing but the end is read", 3, 1);
    m.out[m.n_out++] = h;
    check(&m, "the product is read too", 3, 2);
    m.out[1] = md_view(h, 8, 1, MD_DIMS(8));
    check(&m, "a part of the product is read too", 3, 2);
    md_graph_free(m.g);
}

static void test_updates_are_not_passed(void **state)
{
    (void)state;
    model m;
    model_new(&m);
    md_tensor *e = region(&m, 0), *h = md_mul(e, m.x);
    m.out[0] = md_accumulate(region(&m, 64), m.y); /* changes part of what h was made from */
    m.out[1] = md_add(h, m.x);
    m.n_out = 2;
    check(&m, "an update between", 3, 3);
    m.out[0] = md_accumulate(region(&m, 256), m.y);
    m.out[1] = md_add(md_mul(e, m.x), m.x);
    check(&m, "an update elsewhere", 3, 2);
    md_graph_free(m.g);

    /* a copy that the plan saves writes where the update would: it is passed no more than that */
    model_new(&m);
    e = region(&m, 0), h = md_mul(e, m.x);
    md_tensor *up = md_slice(m.y, 0, 0, N);
    m.out[0] = md_write(e, up);
    m.out[1] = md_add(h, m.x);
    m.n_out = 2;
    check(&m, "a saved copy between", 3, 3);
    md_graph_free(m.g);
}

/* The end is written straight into what the beginning reads: as two nodes that is right. */
static void test_own_destination(void **state)
{
    (void)state;
    model m;
    model_new(&m);
    md_tensor *h = md_mul(region(&m, 0), m.x), *y = md_mul(md_add(h, m.t), m.s);
    m.out[m.n_out++] = md_write(region(&m, 16), y);
    check(&m, "onto its own input", 3, 2);
    md_graph_free(m.g);
    model_new(&m);
    h = md_mul(region(&m, 0), m.x), y = md_mul(md_add(h, m.t), m.s);
    m.out[m.n_out++] = md_write(region(&m, 128), y);
    check(&m, "beside its own input", 3, 1);
    md_graph_free(m.g);
}

/* A gradient in its buffer is ready for others as soon as nobody reads it: no chain reads it later
   than the nodes did. */
static void test_gradients_become_ready(void **state)
{
    (void)state;
    model m;
    model_new(&m);
    md_tensor *grad = md_slice(m.x, 0, 0, N); /* placed in the buffer */
    m.out[0] = md_write(region(&m, 0), grad);
    md_tensor *h = md_mul(grad, m.y), *other = md_slice(m.y, 0, 0, N);
    m.out[1] = md_write(region(&m, 128), other);
    m.out[2] = md_add(h, m.x);
    m.n_out = 3;
    check(&m, "reads a gradient", 4, 4);
    md_graph_free(m.g);
}

/* Three tensors made one after the other and added: as one node all three are held at once. */
static md_tensor *sum_of_three(model *m)
{
    md_tensor *a = md_upsample2x(m->x), *b = md_upsample2x(m->y), *s = md_add(a, b);
    return md_add(s, md_upsample2x(md_slice(m->x, 0, 0, N)));
}

static void test_peak(void **state)
{
    (void)state;
    model m;
    model_new(&m);
    m.out[m.n_out++] = md_sum(sum_of_three(&m));
    check(&m, "at the peak", 7, 7);
    md_tensor *big[6]; /* a higher peak elsewhere */
    for (int i = 0; i < 6; i++)
        big[i] = md_upsample2x(i % 2 ? m.x : m.y);
    m.out[m.n_out++] = md_sum(md_concat(big, 6, 0));
    check(&m, "below the peak", 15, 14);
    md_graph_free(m.g);
}

/* Nothing but casts: still a step, as the result must come from one. */
static void test_casts_alone(void **state)
{
    (void)state;
    model m;
    model_new(&m);
    m.out[m.n_out++] = md_cast(md_cast(m.x, MD_BF16), MD_F32);
    result plain = run(&m, ref, false), fused = run(&m, ref, true), f32 = run(&m, cpu, true);
    assert_int_equal(plain.nodes, 2);
    assert_int_equal(fused.nodes, 1);
    assert_memory_equal(plain.values, fused.values, plain.n * sizeof *plain.values);
    for (int i = 0; i < SIZE; i++)
        assert_true(f32.values[i] == (double)(float)fused.values[i]);
    free(plain.values);
    free(fused.values);
    free(f32.values);
    md_graph_free(m.g);
}

/* bf16 between f32: the chain rounds once, at its end. */
static void test_types(void **state)
{
    (void)state;
    for (int end = 0; end < 2; end++) {
        model m;
        model_new(&m);
        md_tensor *h = md_cast(m.x, MD_BF16);
        h = md_mul(h, md_cast(m.y, MD_BF16));
        h = md_sub(md_cast(h, MD_F32), m.s);
        m.out[m.n_out++] = end ? md_cast(md_scale(h, 3), MD_BF16) : md_scale(h, 3);
        result plain = run(&m, cpu, false), fused = run(&m, cpu, true), exact = run(&m, ref, true);
        assert_int_equal(plain.nodes, 6 + end);
        assert_int_equal(fused.nodes, 1);
        double tol = end ? 0.0040 : 1e-6;
        for (int i = 0; i < SIZE; i++)
            if (!(fabs(fused.values[i] - exact.values[i]) <= tol * (1 + fabs(exact.values[i]))))
                fail_msg("value %d: %.9g, exactly %.9g", i, fused.values[i], exact.values[i]);
        free(plain.values);
        free(fused.values);
        free(exact.values);
        md_graph_free(m.g);
    }
}

/* ---- random graphs: mostly elementwise, some updates */

static md_tensor *random_node(md_rng *r, model *m, md_tensor *const *have, int n)
{
    md_tensor *a = have[md_rng_below(r, n)], *b = have[md_rng_below(r, n)];
    md_attr silu = {.act = {.kind = MD_ACT_SILU}};
    switch (md_rng_below(r, 12)) {
    case 0:
        return md_add(a, b);
    case 1:
        return md_sub(a, b);
    case 2:
        return md_mul(a, md_clamp(b, -1, 1));
    case 3:
        return md_mul(a, m->t);
    case 4:
        return md_affine(a, 0.5, 0.25);
    case 5:
        return md_activation(a, MD_ACT_QUICK_GELU);
    case 6:
        return md_act_grad(a, b, silu);
    case 7:
        return md_add(md_broadcast_to(md_sum_to(a, 4, MD_DIMS(N, 1, 1, C)), 4, a->dim), b);
    case 8:
        return md_reshape(md_scale(md_reshape(a, 1, MD_DIMS(-1)), 0.5), 4, a->dim);
    case 9:
        return md_clamp(md_downsum2x(md_upsample2x(a)), -2, 2);
    case 10:
        return md_sub(md_scale(a, 0.5), region(m, 16 * md_rng_below(r, 20)));
    default:
        return md_mul(a, m->s);
    }
}

static void test_random(void **state)
{
    (void)state;
    int before = 0, after = 0;
    for (uint64_t seed = 0; seed < 300; seed++) {
        md_rng r = md_rng_at(seed, MD_RNG_TRAIN_NOISE, 0, 0);
        model m;
        md_tensor *have[40];
        int n = 0;
        model_new(&m);
        have[n++] = m.x;
        have[n++] = m.y;
        while (n < 32) {
            md_tensor *t = have[n] = random_node(&r, &m, have + n / 2, n - n / 2);
            n++;
            if (m.n_out < MAX_OUT - 2 && md_rng_below(&r, 6) == 0) {
                md_tensor *to = region(&m, 16 * md_rng_below(&r, 20));
                m.out[m.n_out++] =
                    md_rng_below(&r, 2) ? md_write(to, t) : md_accumulate(to, md_clamp(t, -1, 1));
            }
        }
        m.out[m.n_out++] = have[n - 1];
        m.out[m.n_out++] = have[2 + md_rng_below(&r, n - 2)];
        for (int b = 0; b < 2; b++) {
            result plain = run(&m, b ? cpu : ref, false), fused = run(&m, b ? cpu : ref, true);
            assert_int_equal(plain.n, fused.n);
            if (memcmp(plain.values, fused.values, plain.n * sizeof *plain.values) != 0)
                fail_msg("seed %llu: other values", (unsigned long long)seed);
            before += plain.nodes;
            after += fused.nodes;
            free(plain.values);
            free(fused.values);
        }
        md_graph_free(m.g);
    }
    assert_in_range(after, before / 3, before * 3 / 4); /* the property was not empty */
}

/* ---- how inputs lie along the output */

static void test_fold(void **state)
{
    (void)state;
    md_graph *g;
    OK(md_graph_new(&g));
    md_tensor y = {.ndim = 4, .dim = {2, 3, 5, 7}};
    md_tensor in[] = {{.ndim = 4, .dim = {2, 3, 5, 7}}, {.ndim = 4, .dim = {2, 1, 1, 7}},
                      {.ndim = 1, .dim = {1}},          {.ndim = 2, .dim = {6, 35}},
                      {.ndim = 3, .dim = {3, 1, 1}},    {.ndim = 2, .dim = {1, 7}}};
    static const struct {
        int n_in, in[2], n;
        int64_t dim[4], stride[2][4];
    } want[] = {
        {1, {0}, 1, {1, 1, 1, 210}, {{0, 0, 0, 1}}},
        {2, {0, 3}, 1, {1, 1, 1, 210}, {{0, 0, 0, 1}, {0, 0, 0, 1}}},
        {2, {0, 2}, 1, {1, 1, 1, 210}, {{0, 0, 0, 1}, {0, 0, 0, 0}}},
        {2, {0, 1}, 3, {1, 2, 15, 7}, {{0, 105, 7, 1}, {0, 7, 0, 1}}},
        {2, {0, 5}, 2, {1, 1, 30, 7}, {{0, 0, 7, 1}, {0, 0, 0, 1}}},
        {2, {0, 4}, 3, {1, 2, 3, 35}, {{0, 105, 35, 1}, {0, 0, 1, 0}}},
        {2, {1, 4}, 4, {2, 3, 5, 7}, {{7, 0, 0, 1}, {0, 1, 0, 0}}},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        md_chain_shape s;
        md_node node = {.n_in = want[i].n_in, .n_out = 1, .out = {&y}};
        for (int k = 0; k < node.n_in; k++)
            node.in[k] = &in[want[i].in[k]];
        md_chain_fold(&node, &s);
        assert_int_equal(s.n, want[i].n);
        assert_memory_equal(s.dim, want[i].dim, sizeof s.dim);
        for (int k = 0; k < node.n_in; k++)
            assert_memory_equal(s.stride[k], want[i].stride[k], sizeof s.stride[k]);
    }
    md_graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_outputs_stay),
        cmocka_unit_test(test_updates_are_not_passed),
        cmocka_unit_test(test_own_destination),
        cmocka_unit_test(test_gradients_become_ready),
        cmocka_unit_test(test_peak),
        cmocka_unit_test(test_casts_alone),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_fold),
    };
    return cmocka_run_group_tests_name("graph: chains", tests, open_backends, close_backends);
}
