/* conv.c, attention.c, attention_products.c, linear.c and tune.c on libraries that check and
   compute (fake_vendor.h): numbers against ref on every row of their families, what they choose
   among the engines offered, each library call failing once, the file of timed choices. */
#include "backend/ref/ref.h"
#include "base/file.h"
#include "base/log.h"
#include "fake_vendor.h"
#include "ops_cmocka.h"
#include "support/tmp_dir.h"
#include "vendor_backend.h"

enum { WORKSPACE = 64 << 20 };

static md_backend *ref;
static char dir[256];

static md_backend *open_with(cuda_options o)
{
    md_backend *be = NULL;
    if (!o.workspace_bytes)
        o.workspace_bytes = WORKSPACE;
    OK(vendor_backend_open(&o, &be));
    return be;
}

static int setup(void **state)
{
    (void)state;
    md_log_quiet(true);
    OK(ref_backend_open(&ref));
    return tmp_dir_make(dir) == NULL;
}

static int teardown(void **state)
{
    (void)state;
    tmp_dir_remove(dir);
    ref->ops->close(ref);
    return 0;
}

static void expect_clean(long live)
{
    if (fake.violations)
        fail_msg("%ld misuses, the first: %s", fake.violations, fake.violation);
    assert_int_equal(fake.live, live);
}

/* ---- numbers */

static const op_family *family(const char *name)
{
    for (int i = 0; i < op_n_families; i++)
        if (!strcmp(op_families[i]->name, name))
            return op_families[i];
    fail_msg("no family %s", name);
    return NULL;
}

static md_status compare(md_backend *be, const op_family *f, int row, md_dtype dtype, int *seen)
{
    op_compare o = {
        .oracle = ref, .tested = be, .with_grad = f->rows[row].flags & GRAD, .seen = seen};
    return op_compare_run(&o, f, row, dtype);
}

/* All rows, or every `step`-th; returns how many nodes of `op` were compared. */
static void compare_rows(md_backend *be, const char *name, int step, int *seen)
{
    const op_family *f = family(name);
    int failed = 0;
    for (int row = 0; row < f->n; row += step)
        for (int d = 0; d < 2; d++)
            if (compare(be, f, row, d ? MD_BF16 : MD_F32, seen) != MD_OK && ++failed)
                print_error("FAILED %s\n", md_status_text());
    if (failed)
        fail_msg("%d rows of %s failed", failed, name);
}

static void test_numbers(void **state)
{
    (void)state;
    static const char *const names[] = {"conv", "linear", "attention"};
    int seen[MD_OP_COUNT] = {0};
    fake_reset();
    long live = fake.live;
    vendor_own_attention = 0;
    md_backend *be = open_with((cuda_options){.deterministic = true});
    for (int i = 0; i < 3; i++)
        compare_rows(be, names[i], 1, seen);
    be->ops->close(be);
    expect_clean(live);
    assert_true(seen[MD_OP_conv2d] > 50 && seen[MD_OP_conv2d_dx] > 50 &&
                seen[MD_OP_conv2d_dw] > 50 && seen[MD_OP_linear] > 30 && seen[MD_OP_matmul] > 50 &&
                seen[MD_OP_attention] > 30 && seen[MD_OP_attention_grad] > 30);
    /* nothing was timed: a trial of plain loops takes long; test_fastest has trials.
       bf16 without a mask and with heads of a multiple of 8 columns are the library's */
    int own = vendor_own_attention, all = seen[MD_OP_attention] + seen[MD_OP_attention_grad];
    print_message("attention: %d of %d nodes are our own kernels'\n", own, all);
    assert_true(own > all / 2 && own < all - 15);
}

/* No engine adds inside the convolution or the product: launches of our own do. */
static void test_unfused(void **state)
{
    (void)state;
    int seen[MD_OP_COUNT] = {0};
    fake_reset();
    long live = fake.live;
    fake.refuse_fused = true;
    md_backend *be = open_with((cuda_options){.deterministic = true});
    compare_rows(be, "conv", 2, seen);
    compare_rows(be, "linear", 2, seen);
    be->ops->close(be);
    expect_clean(live);
}

/* The gradient of attention as one operation, as the 18 that 9.19 wants in its place, as 17 where
   the order of sums is fixed; and by our own kernels where cuDNN knows none of them. */
static void test_attention_forms(void **state)
{
    (void)state;
    static const struct {
        bool refuse_unified, refuse_all, deterministic;
        int ops; /* 0: our own */
    } rows[] = {{false, false, false, 1},
                {true, false, false, 18},
                {true, false, true, 17},
                {false, false, true, 17},
                {false, true, false, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int seen[MD_OP_COUNT] = {0};
        fake_reset();
        long live = fake.live;
        fake.no_memory = true;           /* no trial */
        fake.offers[0].workspace = 1000; /* behind the graph's own memory */
        fake.refuse_unified = rows[i].refuse_unified;
        fake.refuse_attention = rows[i].refuse_all;
        vendor_own_attention = 0;
        md_backend *be = open_with((cuda_options){.deterministic = rows[i].deterministic});
        compare_rows(be, "attention", 1, seen);
        be->ops->close(be);
        expect_clean(live);
        assert_int_equal(fake.most_ops, rows[i].ops);
        int all = seen[MD_OP_attention] + seen[MD_OP_attention_grad];
        if (rows[i].refuse_all) /* but for the rows with wide heads: forward, bf16, no mask */
            assert_int_equal(vendor_own_attention, all - 2);
        else
            assert_true(vendor_own_attention < all - 15);
    }
}

/* ---- one node by hand */

typedef struct made {
    md_graph *g;
    md_node *node;
    md_kernel k;
    void *in[MD_MAX_IN], *out[MD_MAX_OUT], *scratch;
} made;

/* conv2d, conv2d with bias and residual, linear, attention in bf16 with head size 8, its gradient
   in 18 operations, attention with head size 264: two products. */
enum { CONV, CONV_FUSED, LINEAR, ATTENTION, ATTENTION_GRAD, ATTENTION_WIDE, N_KINDS };

/* Choices and executions per run. */
static int n_calls(int kind)
{
    return kind == ATTENTION_WIDE ? 2 : 1;
}

static md_tensor *tensor(md_graph *g, md_dtype dtype, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return md_input(g, "t", dtype, 4, MD_DIMS(a, b, c, d));
}

static void build(made *m, int kind, md_dtype dtype)
{
    *m = (made){0};
    OK(md_graph_new(&m->g));
    md_tensor *y, *b = md_input(m->g, "b", dtype, 1, MD_DIMS(8));
    bool wide = kind == ATTENTION_WIDE;
    md_tensor *q = md_input(m->g, "q", MD_BF16, 3, MD_DIMS(1, 4, wide ? 264 : 16));
    if (kind == LINEAR)
        y = md_linear(md_input(m->g, "x", dtype, 2, MD_DIMS(4, 6)),
                      md_input(m->g, "w", dtype, 2, MD_DIMS(8, 6)), b);
    else if (kind >= ATTENTION)
        y = md_attention(q, q, q, wide ? 1 : 2, 0, false);
    else
        y = md_conv2d_residual(tensor(m->g, dtype, 1, 4, 4, 8), tensor(m->g, dtype, 8, 3, 3, 8),
                               kind == CONV ? NULL : b,
                               kind == CONV ? NULL : tensor(m->g, dtype, 1, 4, 4, 8), 1, 1, 1, 1,
                               1);
    m->node = kind == ATTENTION_GRAD ? md_attention_grad(q, y->node) : y->node;
    fake.refuse_unified = kind == ATTENTION_GRAD;
    OK(md_graph_check(m->g));
}

static md_status prepare(made *m, md_backend *be)
{
    m->k = (md_kernel){.node = m->node, .backend = be};
    md_status status = be->ops->prepare[m->node->op](be, m->node, &m->k);
    if (status != MD_OK)
        m->k = (md_kernel){0}; /* prepare released it */
    return status;
}

/* 8 KiB as the plan's arena gives them. */
static void *zeros(void)
{
    void *p = aligned_alloc(64, 8192);
    return p ? memset(p, 0, 8192) : NULL;
}

static void give_memory(made *m)
{
    for (int i = 0; i < m->node->n_in; i++)
        m->in[i] = m->node->in[i] ? zeros() : NULL;
    for (int i = 0; i < m->node->n_out; i++)
        m->out[i] = zeros();
    m->scratch = m->k.scratch_bytes ? aligned_alloc(64, (m->k.scratch_bytes + 63) / 64 * 64) : NULL;
}

static md_status run(made *m)
{
    return m->k.run(&m->k, m->in, m->out, m->scratch);
}

static void drop(made *m)
{
    if (m->k.release)
        m->k.release(&m->k);
    for (int i = 0; i < MD_MAX_IN; i++)
        free(m->in[i]);
    for (int i = 0; i < MD_MAX_OUT; i++)
        free(m->out[i]);
    free(m->scratch);
    md_graph_free(m->g);
}

/* The offer that is executed for a node of this kind. */
static int chosen(md_backend *be, int kind, md_dtype dtype)
{
    made m;
    build(&m, kind, dtype);
    OK(prepare(&m, be));
    give_memory(&m);
    OK(run(&m));
    drop(&m);
    return fake.last;
}

static int chosen_with(cuda_options o, int kind, md_dtype dtype)
{
    md_backend *be = open_with(o);
    int which = chosen(be, kind, dtype);
    be->ops->close(be);
    return which;
}

static void test_fastest(void **state)
{
    (void)state;
    fake_reset();
    long live = fake.live;
    for (int kind = 0; kind < N_KINDS; kind++) {
        assert_int_equal(chosen_with((cuda_options){0}, kind, MD_F32), 1);
        /* nothing is timed where results must repeat */
        long before = fake.executions;
        assert_int_equal(chosen_with((cuda_options){.deterministic = true}, kind, MD_F32), 0);
        assert_int_equal(fake.executions, before + n_calls(kind));
        /* 1000 bytes do not fit; the gradient's 512 of its own do */
        assert_int_equal(chosen_with((cuda_options){.workspace_bytes = 1024}, kind, MD_F32), 0);
        fake.no_memory = true; /* for a trial */
        assert_int_equal(chosen_with((cuda_options){0}, kind, MD_F32), 0);
        fake.no_memory = false;
        fake.offers[1].crashes = true;
        assert_int_equal(chosen_with((cuda_options){0}, kind, MD_F32), 2);
        fake.offers[1].crashes = false;
        fake.offers[0].broken = fake.offers[1].broken = true;
        assert_int_equal(chosen_with((cuda_options){0}, kind, MD_F32), 2);
        fake.offers[0].broken = fake.offers[1].broken = false;
    }
    expect_clean(live);
}

/* ---- attention by products */

typedef struct wide {
    int64_t T, S;
    int heads, d;
    md_dtype dtype;
    bool causal, off; /* off: q lies where its address is no multiple of 16 */
    cuda_options options;
    bool refuse_attention;
    int n_offers;
    bool products; /* expected; else our own kernels */
} wide;

static void prepare_wide(const wide *w)
{
    made m = {0};
    md_buffer buf;
    fake_reset();
    fake.no_memory = true; /* no trial */
    fake.refuse_attention = w->refuse_attention;
    fake.n_offers = w->n_offers;
    long live = fake.live, own = vendor_own_attention;
    md_backend *be = open_with(w->options);
    int64_t D = w->heads * w->d;
    OK(md_graph_new(&m.g));
    md_buffer_init(&buf, "parameters", w->dtype, w->T * D + 1);
    md_tensor *q = w->off ? md_extern(m.g, &buf, 1, 3, MD_DIMS(1, w->T, D))
                          : md_input(m.g, "q", w->dtype, 3, MD_DIMS(1, w->T, D));
    md_tensor *k = md_input(m.g, "k", w->dtype, 3, MD_DIMS(1, w->S, D));
    md_tensor *y = md_attention(q, k, k, w->heads, 0, w->causal);
    OK(md_graph_check(m.g));
    m.node = y->node;
    OK(prepare(&m, be));
    assert_int_equal(vendor_own_attention - own, !w->products);
    if (w->products)
        assert_true(m.k.scratch_bytes <= cuda__impl(be)->options.workspace_bytes);
    drop(&m);
    be->ops->close(be);
    expect_clean(live);
}

/* Who takes which attention. Nothing runs. */
static void test_wide_rule(void **state)
{
    (void)state;
    static const wide rows[] = {
        {4, 4, 1, 264, MD_BF16, .n_offers = 3, .products = true},
        {4096, 4096, 1, 512, MD_BF16, .n_offers = 3, .products = true},
        {16384, 16384, 1, 512, MD_BF16, .n_offers = 3, .products = true},
        {4, 4, 1, 264, MD_F32, .n_offers = 3},
        {4, 4, 1, 264, MD_BF16, .causal = true, .n_offers = 3},
        {4, 4, 2, 259, MD_BF16, .n_offers = 3},
        {4, 4, 1, 264, MD_BF16, .off = true, .n_offers = 3},
        {4, 4, 1, 264, MD_BF16, .n_offers = 0},
        {4, 4, 1, 264, MD_BF16, .options = {.workspace_bytes = 64}, .n_offers = 3},
        {4096, 4096, 1, 512, MD_BF16, .options = {.workspace_bytes = 1 << 20}, .n_offers = 3},
        {4096, 4096, 1, 512, MD_BF16, .options = {.workspace_bytes = 3 << 20}, .n_offers = 3,
         .products = true},
        /* heads that cuDNN knows, and refuses: where there is much to do */
        {512, 512, 1, 128, MD_BF16, .refuse_attention = true, .n_offers = 3, .products = true},
        {64, 64, 1, 128, MD_BF16, .refuse_attention = true, .n_offers = 3},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        prepare_wide(&rows[i]);
}

/* Chunks of queries, the last one reaching back; scratch is kept by op_compare's guards and the
   fake's writing over the whole of its workspace. Product, softmax, product, on one stream. */
static void test_wide_chunks(void **state)
{
    (void)state;
    /* 70 queries, 72 columns of L and P: three quarters of 42 KiB hold 74 rows, of 38 KiB 67 */
    static const struct {
        size_t workspace;
        const char *order;
    } rows[] = {{42 << 10, "pkppkp"}, {38 << 10, "pkppkppkppkp"}};
    const op_family *f = family("attention");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int compared = 0, seen[MD_OP_COUNT] = {0};
        fake_reset();
        long live = fake.live;
        fake.no_memory = true;
        fake.offers[0].workspace = 1000;
        md_backend *be = open_with((cuda_options){.workspace_bytes = rows[i].workspace});
        for (int row = 0; row < f->n; row++) {
            if (f->rows[row].a.dim[1] != 70 || f->rows[row].a.dim[2] != 512)
                continue;
            op_compare o = {.oracle = ref, .tested = be, .seen = seen};
            OK(op_compare_run(&o, f, row, MD_BF16));
            compared++;
        }
        be->ops->close(be);
        expect_clean(live);
        assert_int_equal(compared, 1);
        assert_string_equal(fake.order, rows[i].order); /* op_compare runs it twice */
    }
}

/* Engines with a numerical note that the options do not allow are passed over. */
static void test_notes(void **state)
{
    (void)state;
    static const struct {
        int note;
        md_dtype dtype;
        cuda_options options;
        bool taken;
    } rows[] = {
        {CUDNN_NUMERICAL_NOTE_TENSOR_CORE, MD_F32, {0}, false},
        {CUDNN_NUMERICAL_NOTE_TENSOR_CORE, MD_F32, {.tf32 = true}, true},
        {CUDNN_NUMERICAL_NOTE_TENSOR_CORE, MD_BF16, {0}, true},
        {CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS, MD_F32, {0}, false},
        {CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION, MD_F32, {.tf32 = true}, false},
        {CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION, MD_BF16, {0}, false},
        {CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6, MD_F32, {0}, false},
        {CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC, MD_F32, {0}, true},
        {CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC, MD_F32, {.deterministic = true}, false},
        {CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC, MD_BF16, {.deterministic = true}, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fake_reset();
        fake.n_offers = 2;
        fake.offers[0] = (fake_offer){.notes = 1u << rows[i].note, .ms = 1};
        fake.offers[1] = (fake_offer){.ms = 5};
        int got = chosen_with(rows[i].options, CONV, rows[i].dtype);
        if (got != !rows[i].taken)
            fail_msg("row %zu: offer %d", i, got);
    }
}

static void test_no_engine(void **state)
{
    (void)state;
    fake_reset();
    long live = fake.live;
    fake.offers[0].fallback = true; /* the others are broken */
    fake.offers[1].broken = fake.offers[2].broken = true;
    assert_int_equal(chosen_with((cuda_options){0}, CONV, MD_F32), 0);
    fake.n_offers = 0;
    for (int kind = 0; kind < ATTENTION; kind++) {
        md_backend *be = open_with((cuda_options){0});
        made m;
        build(&m, kind, MD_F32);
        assert_int_equal(prepare(&m, be), MD_UNSUPPORTED);
        assert_non_null(strstr(md_status_text(), kind == LINEAR ? "[4,6]" : "[1,4,4,8]"));
        drop(&m);
        be->ops->close(be);
    }
    expect_clean(live);
}

/* From the second run on nothing is made; other addresses are noticed. */
static void test_steady(void **state)
{
    (void)state;
    fake_reset();
    md_backend *be = open_with((cuda_options){0});
    for (int kind = 0; kind < N_KINDS; kind++) {
        made m;
        build(&m, kind, MD_F32);
        OK(prepare(&m, be));
        give_memory(&m);
        OK(run(&m));
        long packs = fake.packs, live = fake.live;
        for (int i = 0; i < 3; i++)
            OK(run(&m));
        assert_int_equal(fake.packs, packs);
        void *other = zeros(), *old = m.out[0];
        m.out[0] = other;
        memset(other, 0xff, 512);
        OK(run(&m));
        float f;
        memcpy(&f, other, sizeof f);
        assert_true(f == 0); /* inputs are zeros */
        assert_int_equal(fake.packs, packs + (kind != LINEAR && kind != ATTENTION_WIDE));
        assert_int_equal(fake.live, live);
        m.out[0] = old;
        free(other);
        drop(&m);
    }
    be->ops->close(be);
}

/* Parts of buffers at odd offsets: what is promised to the libraries is what the addresses keep. */
static void test_unaligned(void **state)
{
    (void)state;
    fake_reset();
    long live = fake.live;
    md_backend *be = open_with((cuda_options){0});
    for (int d = 0; d < 2; d++) {
        md_dtype dtype = d ? MD_BF16 : MD_F32;
        size_t bytes = d ? 2 : 4;
        made m = {0};
        md_buffer buf;
        md_buffer_init(&buf, "parameters", dtype, 4096);
        OK(md_graph_new(&m.g));
        md_tensor *x = md_view(md_extern(m.g, &buf, 3, 1, MD_DIMS(512)), 2, 2, MD_DIMS(4, 6));
        md_tensor *w = md_extern(m.g, &buf, 1001, 2, MD_DIMS(8, 6));
        md_tensor *b = md_extern(m.g, &buf, 2002, 1, MD_DIMS(8));
        md_tensor *y = md_linear(x, w, b);
        OK(md_graph_check(m.g));
        m.node = y->node;
        OK(prepare(&m, be));
        give_memory(&m);
        char *memory = aligned_alloc(64, 4096 * bytes);
        for (int64_t i = 0; i < 4096; i++)
            fake_store(memory, d, i, (double)(i % 7) - 3);
        void *in[4] = {memory + 5 * bytes, memory + 1001 * bytes, memory + 2002 * bytes, NULL};
        OK(m.k.run(&m.k, in, m.out, m.scratch));
        double want = fake_load(memory, d, 2002 + 3);
        for (int64_t i = 0; i < 6; i++)
            want += fake_load(memory, d, 5 + 6 + i) * fake_load(memory, d, 1001 + 18 + i);
        assert_true(fake_load(m.out[0], d, 8 + 3) == want);
        in[0] = memory + 5 * bytes + 1; /* less than was promised: refused, not computed wrongly */
        assert_int_equal(m.k.run(&m.k, in, m.out, m.scratch), MD_INTERNAL);
        free(memory);
        drop(&m);
    }
    be->ops->close(be);
    expect_clean(live);
}

/* ---- every call fails once */

static md_status whole_life(md_backend *be, int kind)
{
    made m;
    build(&m, kind, MD_F32);
    md_status status = prepare(&m, be);
    if (status == MD_OK) {
        give_memory(&m);
        status = run(&m);
    }
    drop(&m);
    return status;
}

static void test_failures(void **state)
{
    (void)state;
    int failed = 0, survived = 0;
    for (int kind = 0; kind < N_KINDS; kind++)
        for (long n = 1;; n++) {
            fake_reset();
            long live = fake.live;
            md_backend *be = open_with((cuda_options){0});
            fake.calls = 0;
            fake.fail_at = n;
            md_status status = whole_life(be, kind);
            be->ops->close(be);
            if (!fake.failed)
                break; /* there are fewer than n calls */
            expect_clean(live);
            if (status != MD_OK && !md_status_text()[0])
                fail_msg("%s failed without a message", fake.failed);
            if (status == MD_OK && (!strcmp(fake.failed, "cudnnBackendExecute") ||
                                    !strcmp(fake.failed, "cublasLtMatmul")))
                survived++; /* in a trial: that candidate is passed over */
            failed += status != MD_OK;
            assert_true(n < 2000);
        }
    print_message("%d calls whose failure is an error\n", failed);
    assert_true(failed > 100 && survived > 10);
}

/* ---- the file */

static char *only_file(char path[600])
{
    char **names = NULL;
    size_t n = 0;
    OK(md_dir_list(dir, &names, &n));
    assert_int_equal(n, 1);
    (void)snprintf(path, 600, "%s/%s", dir, names[0]);
    free(names);
    return path;
}

static void put(const char *path, const char *text)
{
    OK(md_file_write_atomic(path, text, strlen(text)));
}

static void test_remembered(void **state)
{
    (void)state;
    char path[600];
    void *text = NULL;
    size_t n = 0;
    cuda_options o = {.cache = dir};
    fake_reset();
    long live = fake.live;
    for (int kind = 0; kind < N_KINDS; kind++) {
        assert_int_equal(chosen_with(o, kind, MD_F32), 1);
        long runs = fake.executions, built = fake.built;
        /* another process: the answer is in the file, one plan is built and nothing timed */
        assert_int_equal(chosen_with(o, kind, MD_F32), 1);
        assert_int_equal(fake.executions, runs + n_calls(kind));
        assert_true(fake.built - built <= 1);
        /* another limit is another question */
        o.workspace_bytes = 1024;
        assert_int_equal(chosen_with(o, kind, MD_F32), 0);
        o.workspace_bytes = 0;
    }
    only_file(path);
    assert_non_null(strstr(path, "/NVIDIA_Fake_1_2-sm90-cudnn"));
    OK(md_file_read(path, 1 << 20, &text, &n));
    int lines = 0;
    for (size_t i = 0; i < n; i++)
        lines += ((char *)text)[i] == '\n';
    assert_true(lines >= N_KINDS && lines <= 2 * (N_KINDS + 1));
    /* an offer that is gone: found anew */
    fake.offers[1].broken = true;
    assert_int_equal(chosen_with(o, CONV, MD_F32), 2);
    free(text);
    expect_clean(live);
    (void)remove(path);
}

static void test_damaged(void **state)
{
    (void)state;
    static const char *const bad[] = {"no tab\n",        "q\t1",       "q\t\n",     "q\t-1\n",
                                      "q\t1x\n",         "\t1\n",      "\n",        "q\t1\t2\n",
                                      "q\t9999999999\n", "q\x01\t1\n", "a\t1\nq\n", "\xff\t1\n"};
    char path[600];
    cuda_options o = {.cache = dir};
    fake_reset();
    long live = fake.live;
    assert_int_equal(chosen_with(o, CONV, MD_F32), 1);
    only_file(path);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put(path, bad[i]);
        md_backend *be = open_with(o);
        assert_int_equal(cuda__tuning_find(cuda__impl(be), "a"), -1);
        assert_int_equal(cuda__tuning_find(cuda__impl(be), "q"), -1);
        assert_int_equal(chosen(be, CONV, MD_F32), 1);
        be->ops->close(be);
        long runs = fake.executions; /* it was replaced by a good one */
        assert_int_equal(chosen_with(o, CONV, MD_F32), 1);
        assert_int_equal(fake.executions, runs + 1);
    }
    /* two processes: neither loses the other's answers */
    (void)remove(path);
    md_backend *one = open_with(o), *two = open_with(o);
    cuda__tuning_keep(cuda__impl(one), "first", 3);
    cuda__tuning_keep(cuda__impl(two), "second", 4);
    cuda__tuning_keep(cuda__impl(two), "bad\tquestion", 1);
    one->ops->close(one);
    two->ops->close(two);
    one = open_with(o);
    assert_int_equal(cuda__tuning_find(cuda__impl(one), "first"), 3);
    assert_int_equal(cuda__tuning_find(cuda__impl(one), "second"), 4);
    one->ops->close(one);
    (void)remove(path);
    /* a place where nothing can be written */
    put(path, "x\t1\n");
    o.cache = path;
    assert_int_equal(chosen_with(o, CONV, MD_F32), 1);
    (void)remove(path);
    expect_clean(live);
}

/* The memory and so the file are bounded. */
static void test_bounded(void **state)
{
    (void)state;
    fake_reset();
    md_backend *be = open_with((cuda_options){0});
    char question[32];
    for (int i = 0; i < 10000; i++) {
        (void)snprintf(question, sizeof question, "question %d", i);
        cuda__tuning_keep(cuda__impl(be), question, i);
    }
    assert_int_equal(cuda__tuning_find(cuda__impl(be), "question 9999"), 9999);
    assert_int_equal(cuda__tuning_find(cuda__impl(be), "question 1"), -1);
    be->ops->close(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),         cmocka_unit_test(test_unfused),
        cmocka_unit_test(test_attention_forms), cmocka_unit_test(test_wide_rule),
        cmocka_unit_test(test_wide_chunks),     cmocka_unit_test(test_fastest),
        cmocka_unit_test(test_notes),           cmocka_unit_test(test_no_engine),
        cmocka_unit_test(test_steady),          cmocka_unit_test(test_unaligned),
        cmocka_unit_test(test_failures),        cmocka_unit_test(test_remembered),
        cmocka_unit_test(test_damaged),         cmocka_unit_test(test_bounded),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
