/* A whole training and a whole painting on backend/cuda, with every op by backend/cpu's kernels, so
   that what streams, recordings and pinned memory do must not change one bit (OWN_KERNELS: by
   backend/cuda's where there are some, within bounds); and what the host asks of the device
   meanwhile: one recording per plan, no allocation, no wait but for results. */
#include "backend/cuda/cuda.h"
#include "comm/comm_internal.h"
#include "comm/device.h"
#include "fake_internal.h"
#include "generate/painter.h"
#include "ops/ops.h"
#include "runtime_ops.h"
#include "train/rig.h"

#include "base/log.h"
#include <nccl.h>

#define SUM_OF_TAIL "s2 sum f32 5" /* loss and flags */

#ifdef OWN_KERNELS /* slow: a thread is a fiber */
enum { STEPS = 3, TYPES = 1, MODES = 1 };
#else
enum { STEPS = 5, TYPES = 2, MODES = 2 };
#endif

static md_backend *open_gpu(void)
{
    static const cuda_options options = {.index = 0};
    md_backend *be = NULL;
#ifdef OWN_KERNELS
    gpu_host_queue = fake_enqueue;
#endif
    OK(cuda_backend_open(&options, &be));
    return be;
}

static md_backend *open_cpu(void)
{
    md_backend *be = NULL;
    OK(cpu_backend_open(&be, 1));
    return be;
}

static int start(void **state)
{
    (void)state;
    fake_reset();
    fake_nccl_reset();
    return 0;
}

static int end(void **state)
{
    runtime_ops_close();
    return start(state);
}

static void nothing_is_left(const char *after)
{
    if (fake_leaks() || fake_nccl_leaks())
        fail_msg("%s: %d things and %d communicators are left", after, fake_leaks(),
                 fake_nccl_leaks());
    if (fake_problems())
        fail_msg("%s: %s", after, fake_problem_text());
}

static long calls_of(const char *name)
{
    long n = 0;
    for (long i = 1; fake_call(i); i++)
        n += !strcmp(fake_call(i), name);
    return n;
}

static long allocations(void)
{
    return calls_of("cudaMalloc") + calls_of("cudaFree") + calls_of("cudaHostAlloc") +
           calls_of("cudaFreeHost");
}

/* ---- the log, line by line */

typedef struct lines {
    char *text, **line;
    int n;
} lines;

static lines split(const char *text)
{
    lines l = {.text = strdup(text)};
    assert_non_null(l.text);
    l.line = malloc((strlen(text) + 1) * sizeof *l.line);
    assert_non_null(l.line);
    for (char *at = strtok(l.text, "\n"); at; at = strtok(NULL, "\n"))
        l.line[l.n++] = at;
    return l;
}

static void drop(lines *l)
{
    free(l->text);
    free(l->line);
}

static bool has(const char *line, const char *what)
{
    return strstr(line, what) != NULL;
}

static int count(const lines *l, const char *what)
{
    int n = 0;
    for (int i = 0; i < l->n; i++)
        n += has(l->line[i], what);
    return n;
}

/* -1: none */
static int first(const lines *l, const char *what)
{
    for (int i = 0; i < l->n; i++)
        if (has(l->line[i], what))
            return i;
    return -1;
}

static int last(const lines *l, const char *what)
{
    for (int i = l->n - 1; i >= 0; i--)
        if (has(l->line[i], what))
            return i;
    return -1;
}

/* A copy, its slot's event (those of the side are e1 and e2), a wait, a mark, a graph's begin, end
   or launch: what is no kernel. */
static bool is_transport(const char *line)
{
    static const char *const words[] = {" h2d ", " d2h ", " sync", "-- "};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (has(line, words[i]))
            return true;
    return has(line, " record e") && !has(line, " e1") && !has(line, " e2");
}

static bool is_graph(const char *line)
{
    return has(line, " graph ") || has(line, " begin") || has(line, " end");
}

/* "s1 [relu]" -> "s1 relu" */
static void unbracket(char *line)
{
    char *to = line;
    for (const char *from = line; *from; from++)
        if (*from != '[' && *from != ']')
            *to++ = *from;
    *to = '\0';
}

/* What is on the streams besides transport, recorded or not. */
static lines launches(const char *text)
{
    lines l = split(text);
    int n = 0;
    for (int i = 0; i < l.n; i++)
        if (!is_transport(l.line[i]) && !is_graph(l.line[i])) {
            unbracket(l.line[i]);
            l.line[n++] = l.line[i];
        }
    l.n = n;
    return l;
}

static void same_lines(const lines *a, const lines *b)
{
    assert_int_equal(a->n, b->n);
    for (int i = 0; i < a->n; i++)
        assert_string_equal(a->line[i], b->line[i]);
}

/* ---- a task that notes when it is asked; that may double its loss and leave out positions, which
   is what the sum over two workers with equal samples comes to */

static struct {
    train_task task;
    double scale;
    int64_t stride;  /* of positions */
    int64_t fail_at; /* step whose fill fails; -1: none */
} inner;

static md_tensor *noted_build(void *user, md_graph *g, int64_t n)
{
    md_tensor *loss = inner.task.build(user, g, n);
    return inner.scale == 1 ? loss : md_scale(loss, inner.scale);
}

static md_status noted_fill(void *user, md_plan *plan, int64_t step, int64_t at, int64_t n)
{
    char text[32];
    (void)snprintf(text, sizeof text, "-- fill %lld", (long long)step);
    fake_log_mark(text);
    if (step == inner.fail_at)
        MD_FAIL(MD_BAD_INPUT, "a picture that cannot be read");
    return inner.task.fill(user, plan, step, at * inner.stride, n);
}

static void noted_ahead(void *user, int64_t step, int64_t at, int64_t n)
{
    char text[32];
    (void)snprintf(text, sizeof text, "-- ahead %lld", (long long)step);
    fake_log_mark(text);
    inner.task.ahead(user, step, at * inner.stride, n);
}

static void wrap(rig *r, double scale, int64_t stride)
{
    inner.task = r->task;
    inner.scale = scale;
    inner.stride = stride;
    inner.fail_at = -1;
    r->task.build = noted_build;
    r->task.fill = noted_fill;
    r->task.ahead = noted_ahead;
}

/* ---- a course of training */

typedef struct course {
    double loss[STEPS], norm[STEPS];
    float *all; /* weights, moments, averages at the end */
    int64_t n;
    char *log[STEPS];
} course;

typedef struct way {
    comm_device *device; /* NULL: alone */
    double scale;
    int64_t stride, batch, accumulate;
    md_dtype dtype;
} way;

static comm two = {.rank = 0, .size = 2}; /* as which this process trains; fake_nccl is the other */

static void run(md_backend *be, const way *w, course *c)
{
    rig r;
    rig_open_on(&r, be, w->dtype);
    wrap(&r, w->scale, w->stride);
    r.o.steps = STEPS;
    r.o.batch = w->batch;
    r.o.accumulate = w->accumulate;
    r.o.device = w->device;
    r.o.workers = w->device ? &two : NULL;
    r.o.bucket = w->device ? nn_params_buffer(r.params)->numel / 5 : 0;
    rig_start(&r);
    long before = allocations();
    for (int i = 0; i < STEPS; i++) {
        train_stats s;
        fake_log_clear();
        OK(train_step(r.t, false, &s));
        assert_false(s.skipped);
        c->loss[i] = s.loss;
        c->norm[i] = s.grad_norm;
        c->log[i] = strdup(fake_log_text());
        assert_non_null(c->log[i]);
    }
    assert_int_equal(allocations(), before);
    c->all = rig_all(&r, &c->n);
    rig_stop(&r);
    rig_close(&r);
}

static void drop_course(course *c)
{
    free(c->all);
    for (int i = 0; i < STEPS; i++)
        free(c->log[i]);
}

#ifdef OWN_KERNELS
/* Sums in another order: the bounds of test_train.c. */
static void same_courses(const course *gpu, const course *cpu, md_dtype dtype)
{
    double bound = dtype == MD_BF16 ? 5e-3 : 1e-5, worst = 0;
    assert_int_equal(gpu->n, cpu->n);
    for (int i = 0; i < STEPS; i++)
        worst = fmax(worst, fmax(fabs(gpu->loss[i] / cpu->loss[i] - 1),
                                 fabs(gpu->norm[i] / cpu->norm[i] - 1)));
    double all = rig_distance(gpu->all, cpu->all, gpu->n);
    print_message("losses and norms %.2g, weights and moments %.2g\n", worst, all);
    assert_true(worst <= bound && all <= bound);
}
#else
static void same_courses(const course *gpu, const course *cpu, md_dtype dtype)
{
    (void)dtype;
    assert_int_equal(gpu->n, cpu->n);
    assert_memory_equal(gpu->loss, cpu->loss, sizeof gpu->loss);
    assert_memory_equal(gpu->norm, cpu->norm, sizeof gpu->norm);
    assert_memory_equal(gpu->all, cpu->all, (size_t)gpu->n * sizeof *gpu->all);
}
#endif

/* Steps 0 and 1: at once, then recorded once per plan, with the same launches. */
static void check_recording(const course *c)
{
    lines eager = launches(c->log[0]), recorded = launches(c->log[1]), all = split(c->log[1]);
    assert_true(eager.n > 100);
    same_lines(&eager, &recorded);
    assert_int_equal(count(&all, " begin"), 2);
    assert_int_equal(count(&all, " end"), 2);
    assert_int_equal(count(&all, " graph "), 2);
    drop(&eager);
    drop(&recorded);
    drop(&all);
    all = split(c->log[0]);
    assert_int_equal(count(&all, " begin") + count(&all, " graph "), 0);
    drop(&all);
}

/* A later step: small copies, two replays, then the next inputs, then the only waits: one for the
   stream and one for the copy of each of two results. */
static void check_replay(const course *c, int step)
{
    char ahead[32];
    lines l = split(c->log[step]), none = launches(c->log[step]);
    assert_int_equal(none.n, 0);
    assert_int_equal(count(&l, " begin"), 0);
    assert_int_equal(count(&l, " graph "), 2);
    assert_int_equal(count(&l, "s1 graph "), 2);
    assert_int_equal(count(&l, " h2d "), 6); /* flags, 3 inputs, hyper, decay */
    (void)snprintf(ahead, sizeof ahead, "-- ahead %d", step + 1);
    assert_int_equal(count(&l, "-- ahead "), step + 1 < STEPS);
    if (step + 1 < STEPS) {
        assert_true(first(&l, ahead) > last(&l, " graph "));
        assert_true(first(&l, ahead) < first(&l, " sync"));
    }
    assert_true(first(&l, " sync") > last(&l, " graph "));
    assert_true(first(&l, " d2h ") > first(&l, " sync"));
    assert_int_equal(count(&l, " d2h "), 2);
    assert_int_equal(count(&l, "s1 sync"), 2);
    assert_int_equal(count(&l, " sync"), 4);
    drop(&l);
}

static void trains_as_on_the_cpu(void **state)
{
    (void)state;
    static const md_dtype types[] = {MD_F32, MD_BF16};
    for (int t = 0; t < TYPES; t++)
        for (int eager = 0; eager < MODES; eager++) {
            course cpu, gpu;
            way w = {NULL, 1, 1, 4, 1, types[t]};
            (void)end(NULL);
            fake_eager(eager);
            run(open_cpu(), &w, &cpu);
            run(open_gpu(), &w, &gpu);
            same_courses(&gpu, &cpu, types[t]);
            check_recording(&gpu);
            for (int i = 2; i < STEPS; i++)
                check_replay(&gpu, i);
            drop_course(&cpu);
            drop_course(&gpu);
            nothing_is_left("training");
        }
}

/* Two micro-batches: the plan is recorded within the first step. */
static void micro_batches(void **state)
{
    (void)state;
    course cpu, gpu;
    way w = {NULL, 1, 1, 4, 2, MD_F32};
    run(open_cpu(), &w, &cpu);
    run(open_gpu(), &w, &gpu);
    same_courses(&gpu, &cpu, MD_F32);
    lines l = split(gpu.log[3 % STEPS]);
    assert_int_equal(count(&l, " graph "), 3);
    assert_int_equal(count(&l, "-- ahead 3"), 1); /* its second half, beside its first */
    assert_true(first(&l, "-- ahead 3") > first(&l, " graph "));
    assert_true(first(&l, "-- ahead 3") < first(&l, " sync"));
    assert_true(first(&l, "-- ahead 4") < first(&l, " sync"));
    drop(&l);
    drop_course(&cpu);
    drop_course(&gpu);
    nothing_is_left("training");
}

/* ---- with sums of two workers that have the same samples: as if the loss were twice as large */

static comm_device *join(void)
{
    comm_device *d = NULL;
    OK(comm_device_new(comm_workers(), "GPU-1", false, 5, &d));
    assert_non_null(d);
    fake_nccl_peers(2);
    return d;
}

/* Each sum behind a fork of its own, the flags last, then the launches wait; some of it before the
   last kernels of the backward pass are launched. */
static void check_sums(const course *c, md_dtype dtype, int64_t n)
{
    const char *type = dtype == MD_BF16 ? "s2 sum bf16 " : "s2 sum f32 ";
    lines l = launches(c->log[0]);
    int64_t summed = 0;
    int buckets = 0, flags = last(&l, " sum "), after_first = 0;
    assert_int_equal(count(&l, " sum "), count(&l, "s2 sum "));
    assert_true(flags > 2 && flags + 2 < l.n);
    assert_string_equal(l.line[flags], SUM_OF_TAIL);
    assert_string_equal(l.line[flags + 1], "s2 record e2");
    assert_string_equal(l.line[flags + 2], "s1 wait e2");
    for (int i = 2; i < flags; i++) {
        if (!has(l.line[i], " sum ")) {
            after_first += buckets > 0 && !has(l.line[i], " e1");
            continue;
        }
        assert_true(has(l.line[i], type));
        assert_string_equal(l.line[i - 1], "s2 wait e1");
        assert_string_equal(l.line[i - 2], "s1 record e1");
        assert_true(has(l.line[i - 3], "s1 ") || has(l.line[i - 3], "s2 sum"));
        summed += atoll(l.line[i] + strlen(type));
        buckets++;
    }
    assert_int_equal(summed, n);
    assert_in_range(buckets, 5, 6);
    assert_true(after_first > 20); /* kernels beside the first sum */
    /* one recording holds all of it */
    lines r = split(c->log[1]);
    assert_int_equal(count(&r, "s2 [sum "), buckets + 1);
    assert_int_equal(count(&r, "s2 sum "), 0);
    assert_true(first(&r, " [sum ") > first(&r, " begin") &&
                last(&r, " [sum ") < first(&r, " end"));
    drop(&r);
    drop(&l);
}

static void sums_over_workers(void **state)
{
    (void)state;
    static const md_dtype types[] = {MD_F32, MD_BF16};
    for (int t = 0; t < 2; t++)
        for (int eager = 0; eager < 2; eager++) {
            course cpu, gpu;
            way alone = {NULL, 2, 1, 2, 1, types[t]}, both = {NULL, 1, 1, 4, 1, types[t]};
            (void)end(NULL);
            fake_eager(eager);
            run(open_cpu(), &alone, &cpu);
            both.device = join();
            run(open_gpu(), &both, &gpu);
            comm_device_free(both.device);
            same_courses(&gpu, &cpu, types[t]);
            check_recording(&gpu);
            for (int i = 2; i < STEPS; i++)
                check_replay(&gpu, i);
            check_sums(&gpu, types[t], gpu.n / 4);
            drop_course(&cpu);
            drop_course(&gpu);
            nothing_is_left("training with sums");
        }
}

/* Micro-batches 0 and 2 of 4: one sum after the last of them, in every step anew. */
static void sums_of_micro_batches(void **state)
{
    (void)state;
    for (int eager = 0; eager < 2; eager++) {
        course cpu, gpu;
        way alone = {NULL, 2, 2, 2, 2, MD_F32}, both = {NULL, 1, 1, 4, 2, MD_F32};
        (void)end(NULL);
        fake_eager(eager);
        run(open_cpu(), &alone, &cpu);
        both.device = join();
        run(open_gpu(), &both, &gpu);
        comm_device_free(both.device);
        same_courses(&gpu, &cpu, MD_F32);
        for (int i = 1; i < STEPS; i++) {
            lines l = split(gpu.log[i]);
            int record = last(&l, "s1 record e1"), sum = first(&l, "s2 sum f32"),
                flags = last(&l, SUM_OF_TAIL), wait = first(&l, "s1 wait e2");
            assert_int_equal(count(&l, "s1 record e1"), 1);
            assert_true(record >= 0 && record < sum && sum < flags && flags < wait);
            assert_in_range(count(&l, "s2 sum f32"), 6, 7);
            assert_true(wait < last(&l, " graph "));
            assert_true(i == 1 || record > first(&l, " graph "));
            drop(&l);
        }
        drop_course(&cpu);
        drop_course(&gpu);
        nothing_is_left("training with sums");
    }
}

/* The loss is written by the last kernel of all: its sum must not come with the last gradient's. */
static void flags_wait_for_the_loss(void **state)
{
    (void)state;
    for (int eager = 0; eager < 2; eager++) {
        (void)end(NULL);
        fake_eager(eager);
        md_backend *be = open_gpu();
        md_buffer grad, tail;
        md_graph *g = NULL;
        md_plan *p = NULL;
        float x[4] = {1, 2, 3, 4}, sums[4], loss;
        md_buffer_init(&grad, "gradients", MD_F32, 4);
        md_buffer_init(&tail, "flags", MD_F32, 3);
        OK(md_buffer_alloc(be, &grad));
        OK(md_buffer_alloc(be, &tail));
        OK(md_graph_new(&g));
        md_tensor *in = md_input(g, "x", MD_F32, 1, MD_DIMS(4)), *out[2];
        out[0] = md_write(md_extern(g, &grad, 0, 1, MD_DIMS(4)), md_scale(in, 3));
        out[1] = md_write(md_extern(g, &tail, 0, 1, MD_DIMS(1)), md_sum(in));
        OK(md_plan_build(g, be, out, 2, &p));
        OK(md_plan_load(p));
        train_reduce r = {.be = be,
                          .workers = &two,
                          .device = join(),
                          .gradients = {&grad},
                          .n_gradients = 1,
                          .tail = &tail,
                          .bucket = 3};
        OK(train_reduce_overlap(&r, p));
        for (int i = 0; i < 4; i++) {
            x[0] = (float)i;
            OK(md_plan_write(p, in, x, MD_F32, 4));
            OK(md_plan_run(p));
            OK(train_reduce_now(&r)); /* nothing is left for it */
            OK(train_reduce_wait(&r, i, 5));
            OK(md_buffer_read(be, &grad, 0, sums, MD_F32, 4));
            OK(md_buffer_read(be, &tail, 0, &loss, MD_F32, 1));
            assert_true(sums[0] == 6 * x[0] && sums[3] == 24 && loss == 2 * (x[0] + 9));
        }
        md_plan_free(p);
        md_graph_free(g);
        md_buffer_release(be, &grad);
        md_buffer_release(be, &tail);
        comm_device_free(r.device);
        train_reduce_close(&r);
        be->ops->close(be);
        nothing_is_left("sums");
    }
}

static void open_summing(rig *r, comm_device *d)
{
    rig_open_on(r, open_gpu(), MD_F32);
    wrap(r, 1, 1);
    r->o.device = d;
    r->o.workers = &two;
    r->o.bucket = nn_params_buffer(r->params)->numel / 5;
    rig_start(r);
}

static void close_summing(rig *r, comm_device *d)
{
    rig_close(r);
    comm_device_free(d);
    nothing_is_left("a failed sum");
}

/* What NCCL finds out while the host waits ends the step, and the sums of this worker. */
static void a_lost_peer_ends_the_step(void **state)
{
    (void)state;
    char text[96];
    for (int n = 0; n < 4; n++) { /* steps before it: none, eager, recorded, replayed */
        (void)end(NULL);
        comm_device *d = join();
        rig r;
        open_summing(&r, d);
        train_stats s;
        for (int i = 0; i < n; i++)
            OK(train_step(r.t, false, &s));
        fake_nccl_async_error(ncclRemoteError);
        FAILS(MD_COMM, "the sum of gradient bucket", train_step(r.t, false, &s));
        (void)snprintf(text, sizeof text, "rank 0 on %.40s", comm_host());
        assert_non_null(strstr(md_status_text(), text));
        assert_non_null(strstr(md_status_text(), "a peer is gone"));
        assert_int_equal(fake_nccl_leaks(), 0); /* aborted, not only given back later */
        close_summing(&r, d);
    }
}

/* A worker that cannot do its part leaves the sums, so that the others need not wait for it. */
static void a_failed_part_ends_the_sums(void **state)
{
    (void)state;
    comm_device *d = join();
    rig r;
    train_stats s;
    open_summing(&r, d);
    OK(train_step(r.t, false, &s));
    OK(train_step(r.t, false, &s));
    inner.fail_at = 2;
    FAILS(MD_BAD_INPUT, "cannot be read", train_step(r.t, false, &s));
    assert_int_equal(fake_nccl_leaks(), 0);
    close_summing(&r, d);
}

static md_status never_idle(md_backend *be, bool *idle)
{
    (void)be;
    *idle = false;
    return MD_OK;
}

static void silence_ends_the_wait(void **state)
{
    (void)state;
    md_backend *be = open_gpu();
    const md_backend_ops *ops = be->ops;
    md_backend_queues queues = *ops->queues;
    md_backend_ops deaf = *ops;
    char text[160];
    queues.idle = never_idle;
    deaf.queues = &queues;
    be->ops = &deaf;
    train_reduce r = {.be = be, .workers = &two, .device = join()};
    (void)snprintf(text, sizeof text, "worker 0 on %.40s: nothing ended for 0 s in step 7",
                   comm_host());
    FAILS(MD_COMM, text, train_reduce_wait(&r, 7, 0.02));
    assert_int_equal(fake_nccl_leaks(), 0);
    be->ops = ops;
    OK(train_reduce_wait(&(train_reduce){.be = be}, 7, 0.02)); /* nobody else */
    comm_device_free(r.device);
    be->ops->close(be);
    nothing_is_left("a stall");
}

/* ---- painting */

enum { SIZE = 32, PIXELS = SIZE * SIZE, N = 2, PAINT_STEPS = 5 };

typedef struct studio {
    md_backend *be;
    foundation *f;
    painter *p;
    image guide[N];
    uint8_t background[N][3 * PIXELS], rgb[N * 3 * PIXELS];
    float *moments;
    long before, between[PAINT_STEPS + 1]; /* allocations; pndm has one evaluation more */
    int beats;
} studio;

static void studio_init(studio *s, md_backend *be)
{
    memset(s, 0, sizeof *s);
    s->be = be;
    for (int i = 0; i < N; i++) {
        OK(image_new(&s->guide[i], SIZE, SIZE, 1));
        for (int k = 0; k < PIXELS; k++) {
            int x = k % SIZE, y = k / SIZE;
            s->guide[i].px[k] = x > 6 + i && x < 20 && y > 8 && y < 22 - i;
            for (int c = 0; c < 3; c++)
                s->background[i][3 * k + c] = (uint8_t)(40 * i + 3 * x + 2 * y + 20 * c);
        }
    }
}

static void studio_close(studio *s)
{
    free(s->moments);
    painter_free(s->p);
    foundation_free(s->f, s->be);
    assert_int_equal(s->be->allocated_bytes, 0);
    s->be->ops->close(s->be);
    for (int i = 0; i < N; i++)
        image_free(&s->guide[i]);
}

static md_status studio_open(studio *s, const char *sampler, const char *blend)
{
    painter_options o = {.size = SIZE,
                         .batch = N,
                         .prompt = "an image of hta",
                         .guidance = 7.5,
                         .sampler = sampler_find(sampler),
                         .steps = PAINT_STEPS,
                         .eta = 0.5,
                         .blend = blend_find(blend),
                         .grow = 1,
                         .seed = 5,
                         .dtype = MD_F32};
    MD_TRY(foundation_open("tests/golden/sd", &s->f));
    for (int i = 0; i < MODEL_N_PARTS; i++)
        MD_TRY(foundation_load(s->f, (model_part)i, s->be));
    MD_TRY(painter_new(s->f, s->be, &o, &s->p));
    return painter_load(s->p);
}

static md_status beat(void *user)
{
    studio *s = user;
    fake_log_mark("-- beat");
    s->between[s->beats++] = allocations() - s->before;
    return MD_OK;
}

static md_status studio_paint(studio *s)
{
    painter_item items[N];
    bool finite[N];
    if (!s->moments)
        s->moments = malloc((size_t)(N * painter_moments(s->p)) * sizeof *s->moments);
    assert_non_null(s->moments);
    for (int i = 0; i < N; i++) {
        float *z = s->moments + i * painter_moments(s->p);
        MD_TRY(painter_encode(s->p, s->background[i], z));
        items[i] = (painter_item){10 + i, 2, &s->guide[i], s->background[i], z};
    }
    s->beats = 0;
    s->before = allocations();
    fake_log_clear();
    MD_TRY(painter_paint(s->p, items, N, beat, s, s->rgb, finite));
    assert_true(finite[0] && finite[1]);
    return MD_OK;
}

/* Lines of the log before, between and after the beats: part 0..beats. */
static lines part_of(const char *text, int part)
{
    lines l = split(text), out = {.text = NULL};
    int at = 0, n = 0;
    for (int i = 0; i < l.n; i++)
        if (has(l.line[i], "-- beat"))
            at++;
        else if (at == part)
            l.line[n++] = l.line[i];
    out = l;
    out.n = n;
    return out;
}

/* From the third step on copies and one launch; the host waits for nothing before the end. */
static void check_painting(const char *text, const studio *s, bool again)
{
    int64_t most = N * painter_moments(s->p) / 2 * (int64_t)sizeof(float); /* the latents */
    for (int i = 0; i < s->beats; i++) {
        lines l = part_of(text, i);
        int graphs = count(&l, " graph "), begins = count(&l, " begin");
        assert_int_equal(count(&l, " sync"), 0);
        assert_int_equal(count(&l, " d2h "), 0);
        assert_int_equal(s->between[i], 0);
        assert_int_equal(graphs, again || i > 0);
        assert_int_equal(begins, !again && i == 1);
        if (again || i > 1)
            for (int k = 0; k < l.n; k++) {
                const char *copy = strstr(l.line[k], " h2d ");
                assert_true(copy || has(l.line[k], " record e") || has(l.line[k], " graph "));
                if (copy)
                    assert_in_range(atoll(copy + 5), 1, most);
            }
        drop(&l);
    }
    lines l = part_of(text, s->beats);
    assert_true(has(l.line[0], "s1 sync"));
    drop(&l);
}

static void paints_as_on_the_cpu(void **state)
{
    (void)state;
    static const char *const ways[][2] = {
        {"ddim", "paper"}, {"ddpm", "x0"}, {"pndm", "renoise"}, {"dpm++", "paper"}};
    for (int i = 0; i < 8; i++) {
        const char *sampler = ways[i / 2][0], *blend = ways[i / 2][1];
        static studio cpu, gpu;
        (void)end(NULL);
        fake_eager(i % 2);
        studio_init(&cpu, open_cpu());
        studio_init(&gpu, open_gpu());
        OK(studio_open(&cpu, sampler, blend));
        OK(studio_open(&gpu, sampler, blend));
        OK(studio_paint(&cpu));
        OK(studio_paint(&gpu));
        assert_memory_equal(gpu.rgb, cpu.rgb, sizeof gpu.rgb);
        check_painting(fake_log_text(), &gpu, false);
        memset(gpu.rgb, 0, sizeof gpu.rgb);
        OK(studio_paint(&gpu));
        assert_memory_equal(gpu.rgb, cpu.rgb, sizeof gpu.rgb);
        check_painting(fake_log_text(), &gpu, true);
        studio_close(&cpu);
        studio_close(&gpu);
        nothing_is_left("painting");
    }
}

/* ---- every kind of call fails: for the first and second time, in the middle and at last */

static md_status train_job(rig *r)
{
    train_stats s;
    MD_TRY(train_new(r->be, &r->params, 1, &r->task, &r->o, &r->t));
    MD_TRY(train_load(r->t));
    for (int i = 0; i < 3; i++)
        MD_TRY(train_step(r->t, false, &s));
    return MD_OK;
}

/* Text and status of the job; fails the n-th call, if n is not 0. */
static md_status train_failing(long n, bool sums, char *text, size_t size, bool *during)
{
    rig r;
    fake_reset();
    fake_nccl_reset();
    comm_device *d = sums ? join() : NULL;
    rig_open_on(&r, open_gpu(), MD_F32);
    r.o.device = d;
    r.o.workers = d ? &two : NULL;
    r.o.bucket = nn_params_buffer(r.params)->numel / 5;
    fake_fail_at(n);
    md_status status = train_job(&r);
    (void)snprintf(text, size, "%s", md_status_text());
    *during = fake_failed_call() != NULL;
    rig_close(&r);
    comm_device_free(d);
    return status;
}

static md_status paint_failing(long n, bool sums, char *text, size_t size, bool *during)
{
    (void)sums;
    static studio s;
    fake_reset();
    studio_init(&s, open_gpu());
    fake_fail_at(n);
    md_status status = studio_open(&s, "ddim", "paper");
    if (status == MD_OK)
        status = studio_paint(&s);
    (void)snprintf(text, size, "%s", md_status_text());
    *during = fake_failed_call() != NULL;
    studio_close(&s);
    return status;
}

typedef md_status (*job)(long n, bool sums, char *text, size_t size, bool *during);

/* Which calls to fail: sets pick[i] for the i-th, 1-based, of `n`. */
static void choose(bool *pick, long n)
{
    for (long i = 1; i <= n; i++) {
        long of = 0, before = 0;
        for (long k = 1; k <= n; k++)
            if (!strcmp(fake_call(k), fake_call(i))) {
                of++;
                before += k < i;
            }
        pick[i] = before < 2 || before == of / 2 || before == of - 1;
    }
}

static bool frees(const char *call)
{
    return strstr(call, "Destroy") || strstr(call, "Free") || !strcmp(call, "ncclCommFinalize") ||
           !strcmp(call, "ncclCommAbort");
}

static void check_failures(job run_job, bool sums, int least)
{
    char text[1024];
    bool during;
    int failures = 0;
    OK(run_job(0, sums, text, sizeof text, &during));
    long n = fake_calls();
    bool *pick = calloc((size_t)n + 1, sizeof *pick);
    assert_non_null(pick);
    choose(pick, n);
    for (long i = 1; i <= n; i++) {
        if (!pick[i])
            continue;
        md_status status = run_job(i, sums, text, sizeof text, &during);
        const char *call = fake_failed_call();
        assert_non_null(call);
        const char *said = !strcmp(call, "kernel launch") ? "cannot launch" : call;
        if (during && !frees(call) && status == MD_OK)
            fail_msg("call %ld, %s, failed unnoticed", i, call);
        if (status != MD_OK && !strstr(text, said))
            fail_msg("call %ld, %s, failed with \"%s\"", i, call, text);
        failures += status != MD_OK;
        nothing_is_left(call);
        assert_int_equal(fake_last_error(), 0);
    }
    free(pick);
    print_message("%ld calls, %d of the failed ones ended the job\n", n, failures);
    assert_true(failures >= least);
}

static void training_calls_may_fail(void **state)
{
    (void)state;
    check_failures(train_failing, false, 30);
}

static void summing_calls_may_fail(void **state)
{
    (void)state;
    check_failures(train_failing, true, 40);
}

static void painting_calls_may_fail(void **state)
{
    (void)state;
    check_failures(paint_failing, false, 30);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(trains_as_on_the_cpu, start, end),
        cmocka_unit_test_setup_teardown(micro_batches, start, end),
        cmocka_unit_test_setup_teardown(sums_over_workers, start, end),
        cmocka_unit_test_setup_teardown(sums_of_micro_batches, start, end),
        cmocka_unit_test_setup_teardown(flags_wait_for_the_loss, start, end),
        cmocka_unit_test_setup_teardown(a_lost_peer_ends_the_step, start, end),
        cmocka_unit_test_setup_teardown(a_failed_part_ends_the_sums, start, end),
        cmocka_unit_test_setup_teardown(silence_ends_the_wait, start, end),
        cmocka_unit_test_setup_teardown(paints_as_on_the_cpu, start, end),
        cmocka_unit_test_setup_teardown(training_calls_may_fail, start, end),
        cmocka_unit_test_setup_teardown(summing_calls_may_fail, start, end),
        cmocka_unit_test_setup_teardown(painting_calls_may_fail, start, end),
    };
    if (comm_init(&argc, &argv) != MD_OK)
        return 1;
    md_log_quiet(true);
#ifdef OWN_KERNELS
    cmocka_set_test_filter("trains_as_on_the_cpu");
#endif
    int failed = cmocka_run_group_tests_name("cuda: training and painting", tests, NULL, NULL);
    return comm_finalize() != MD_OK || failed;
}
