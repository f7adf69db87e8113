/* What a fake device holds and how it runs; see fake.h. */
#include "fake_internal.h"
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- text */

typedef struct text {
    char *s;
    size_t n, capacity;
    int lines;
} text;

static text log_, ran, problems;

static void vadd(text *t, const char *fmt, va_list ap)
{
    char line[256];
    int n = vsnprintf(line, sizeof line - 1, fmt, ap);
    if (n < 0)
        abort();
    n = n > (int)sizeof line - 2 ? (int)sizeof line - 2 : n;
    line[n++] = '\n';
    if (t->n + (size_t)n + 1 > t->capacity) {
        t->capacity = 2 * t->capacity + 1024;
        t->s = realloc(t->s, t->capacity);
        if (!t->s)
            abort();
    }
    memcpy(t->s + t->n, line, (size_t)n);
    t->n += (size_t)n;
    t->s[t->n] = '\0';
    t->lines++;
}

static void add(text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vadd(t, fmt, ap);
    va_end(ap);
}

static void text_clear(text *t)
{
    free(t->s);
    memset(t, 0, sizeof *t);
}

void fake__log_line(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vadd(&log_, fmt, ap);
    va_end(ap);
}

void fake_problemf(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vadd(&problems, fmt, ap);
    va_end(ap);
}

/* ---- what exists */

const char *const fake__kind_names[] = {"stream",       "event",         "graph",
                                        "exec",         "device memory", "pinned memory",
                                        "cudnn handle", "blas handle"};

fake_state fake__s;

object *fake__new_object(kind k)
{
    object *o = calloc(1, sizeof *o);
    if (!o)
        abort();
    o->kind = k;
    o->live = true;
    o->number = ++fake__s.n_of[k];
    o->tail = &o->head;
    o->next = fake__s.objects;
    fake__s.objects = o;
    return o;
}

object *fake__find(const void *handle, kind k)
{
    for (object *o = fake__s.objects; o; o = o->next)
        if (o == handle && o->kind == k) {
            if (!o->live)
                fake_problemf("%s %d used after its destruction", fake__kind_names[k], o->number);
            return o->live ? o : NULL;
        }
    fake_problemf("%p is no %s", handle, fake__kind_names[k]);
    return NULL;
}

object *fake__find_memory(const void *p, size_t bytes)
{
    const unsigned char *at = p;
    for (object *o = fake__s.objects; o; o = o->next)
        if ((o->kind == DEVICE_MEMORY || o->kind == PINNED_MEMORY) && o->live && at >= o->p &&
            at + bytes <= o->p + o->bytes)
            return o;
    return NULL;
}

bool fake_on_device(const void *p, size_t bytes)
{
    object *o = fake__find_memory(p, bytes);
    return o && o->kind == DEVICE_MEMORY;
}

/* ---- calls */

int fake_enter(const char *call)
{
    if (fake__s.calls == fake__s.names_capacity) {
        fake__s.names_capacity = 2 * fake__s.names_capacity + 1024;
        fake__s.names = realloc(fake__s.names, (size_t)fake__s.names_capacity * sizeof(char *));
        if (!fake__s.names)
            abort();
    }
    fake__s.names[fake__s.calls] = call;
    if (++fake__s.calls != fake__s.fail_at)
        return 0;
    fake__s.failed = call;
    return 1;
}

cudaError_t fake__failing(cudaError_t e)
{
    if (e != cudaSuccess)
        fake__s.last = e;
    return e;
}

cudaError_t fake__entered(const char *call)
{
    if (fake_enter(call))
        return fake__failing(cudaErrorUnknown);
    return fake__failing(fake__s.sticky);
}

void fake_logf(void *stream, const char *fmt, ...)
{
    char what[200];
    va_list ap;
    object *s = stream;
    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    add(&log_, s->capture ? "s%d [%s]" : "s%d %s", s->number, what);
}

/* What a recording does not allow. */
cudaError_t fake__forbidden_while_recording(void)
{
    if (!fake__s.capture)
        return cudaSuccess;
    fake__s.capture->invalid = true;
    return fake__failing(cudaErrorStreamCaptureUnsupported);
}

/* ---- running */

static void op_free(op *o)
{
    if (o->drop)
        o->drop(o->closure);
    free(o);
}

void fake__graph_release(graph *g)
{
    if (!g || --g->references > 0)
        return;
    for (long i = 0; i < g->n; i++)
        op_free(g->nodes[i]);
    free(g->nodes);
    free(g);
}

static void check_copy(const op *o)
{
    if (!fake__find_memory(o->dst, o->bytes))
        fake_problemf("s%d: %zu bytes are written beyond what is allocated", o->stream->number,
                      o->bytes);
    else if (o->kind == COPY && !fake__find_memory(o->src, o->bytes))
        fake_problemf("s%d: %zu bytes are read beyond what is allocated", o->stream->number,
                      o->bytes);
}

static void run_graph(graph *g);

static void run_op(op *o)
{
    fake__s.clock_ms += 1;
    if (fake__s.async != cudaSuccess && o->kind != RECORD && o->kind != WAIT) {
        fake__s.sticky = fake__s.async;
        fake__s.async = cudaSuccess;
    }
    if (fake__s.sticky != cudaSuccess && o->kind != RECORD)
        return;
    switch (o->kind) {
    case COPY:
        check_copy(o);
        memcpy(o->dst, o->src, o->bytes);
        add(&ran, "s%d copy %zu", o->stream->number, o->bytes);
        break;
    case SET:
        check_copy(o);
        memset(o->dst, o->value, o->bytes);
        add(&ran, "s%d set %zu", o->stream->number, o->bytes);
        break;
    case CALL:
        add(&ran, "s%d %s", o->stream->number, o->name);
        if (o->run(o->closure) != 0)
            fake__s.sticky = cudaErrorLaunchFailure;
        break;
    case LAUNCH:
        run_graph(o->g);
        break;
    case RECORD:
        if (!o->in_graph) {
            o->event->done = o->version;
            o->event->at = fake__s.clock_ms;
        }
        break;
    case WAIT:
        break;
    }
}

/* The nodes of one stream up to `last`, and what they wait for before them. */
static void run_nodes(graph *g, const object *stream, long last)
{
    for (long i = 0; i <= last; i++) {
        op *o = g->nodes[i];
        if (o->stream != stream || o->ran)
            continue;
        if (o->kind == WAIT && o->version >= 0)
            run_nodes(g, g->nodes[o->version]->stream, o->version);
        o->ran = true;
        run_op(o);
    }
}

static void run_graph(graph *g)
{
    for (long i = 0; i < g->n; i++)
        g->nodes[i]->ran = false;
    run_nodes(g, g->origin, g->n - 1);
    for (int i = 0; i < g->n_streams; i++)
        run_nodes(g, g->streams[i], g->n - 1);
}

void fake__run_head(object *s)
{
    op *o = s->head;
    if (o->kind == WAIT && o->event->done < o->version)
        fake__run_until(o->event_stream, o->event, o->version);
    s->head = o->next;
    if (!s->head)
        s->tail = &s->head;
    run_op(o);
    if (o->kind == LAUNCH)
        fake__graph_release(o->g);
    op_free(o);
}

/* All of the stream, or up to this version of the event. */
void fake__run_until(object *stream, const object *event, long version)
{
    while (stream->head && !(event && event->done >= version))
        fake__run_head(stream);
    if (event && event->done < version)
        fake_problemf("s%d is waited for, and never comes there", stream->number);
}

void fake__run_all(void)
{
    for (object *o = fake__s.objects; o; o = o->next)
        if (o->kind == STREAM)
            fake__run_until(o, NULL, 0);
}

/* Eager: every stream as far as it gets without what others have not reached. */
static void pump(void)
{
    bool moved = fake__s.eager && !fake__s.pumping;
    fake__s.pumping = true;
    while (moved) {
        moved = false;
        for (object *s = fake__s.objects; s; s = s->next)
            while (s->kind == STREAM && s->head &&
                   !(s->head->kind == WAIT && s->head->event->done < s->head->version)) {
                fake__run_head(s);
                moved = true;
            }
    }
    fake__s.pumping = false;
}

op *fake__new_op(op_kind k, object *s)
{
    op *o = calloc(1, sizeof *o);
    if (!o)
        abort();
    o->kind = k;
    o->stream = s;
    return o;
}

long fake__graph_add(graph *g, op *o)
{
    if (g->n == g->capacity) {
        g->capacity = 2 * g->capacity + 16;
        g->nodes = realloc(g->nodes, (size_t)g->capacity * sizeof(op *));
        if (!g->nodes)
            abort();
    }
    o->in_graph = true;
    g->nodes[g->n] = o;
    return g->n++;
}

cudaError_t fake__put(op *o)
{
    object *s = o->stream;
    if (s->capture) {
        (void)fake__graph_add(s->capture, o);
        return cudaSuccess;
    }
    *s->tail = o;
    s->tail = &o->next;
    pump();
    return cudaSuccess;
}

int fake_enqueue(void *stream, const char *name, int (*run)(void *), void (*drop)(void *),
                 void *closure)
{
    object *s = fake__find(stream, STREAM);
    cudaError_t e = s ? fake__entered("kernel launch") : cudaErrorInvalidResourceHandle;
    if (e != cudaSuccess) {
        drop(closure);
        return (int)fake__failing(e);
    }
    op *o = fake__new_op(CALL, s);
    o->name = name;
    o->run = run;
    o->drop = drop;
    o->closure = closure;
    fake_logf(s, "%s", name);
    return (int)fake__put(o);
}

/* ---- the tests' side */

void fake_reset(void)
{
    while (fake__s.objects) {
        object *o = fake__s.objects;
        fake__s.objects = o->next;
        while (o->head) {
            op *head = o->head;
            o->head = head->next;
            if (head->kind == LAUNCH)
                fake__graph_release(head->g);
            op_free(head);
        }
        if (o->kind == DEVICE_MEMORY || o->kind == PINNED_MEMORY)
            free(o->p);
        fake__graph_release(o->g);
        free(o);
    }
    fake__graph_release(fake__s.capture);
    free(fake__s.names);
    memset(&fake__s, 0, sizeof fake__s);
    fake__s.n_devices = 1;
    fake__s.driver = 13000;
    fake__s.major = 9;
    fake__s.total = (size_t)1 << 30;
    text_clear(&log_);
    text_clear(&ran);
    text_clear(&problems);
}

void fake_devices(int n, int count_error, int driver)
{
    fake__s.n_devices = n;
    fake__s.count_error = count_error;
    fake__s.driver = driver;
}

void fake_total_memory(size_t bytes)
{
    fake__s.total = bytes;
}

void fake_compute_capability(int major, int minor)
{
    fake__s.major = major;
    fake__s.minor = minor;
}

void fake_eager(bool on)
{
    fake__s.eager = on;
}

const char *fake_log_text(void)
{
    return log_.s ? log_.s : "";
}

const char *fake_ran_text(void)
{
    return ran.s ? ran.s : "";
}

void fake_log_clear(void)
{
    text_clear(&log_);
    text_clear(&ran);
}

int fake_log_count(const char *what)
{
    int n = 0;
    for (const char *line = log_.s, *end; line && *line; line = end + 1) {
        end = strchr(line, '\n');
        const char *at = strstr(line, what);
        n += at && at < end;
    }
    return n;
}

void fake_log_mark(const char *what)
{
    add(&log_, "%s", what);
}

void fake_fail_at(long n)
{
    fake__s.calls = 0;
    fake__s.fail_at = n;
    fake__s.failed = NULL;
}

long fake_calls(void)
{
    return fake__s.calls;
}

const char *fake_call(long n)
{
    return n >= 1 && n <= fake__s.calls ? fake__s.names[n - 1] : NULL;
}

const char *fake_failed_call(void)
{
    return fake__s.failed;
}

void fake_async_error(int cuda_error)
{
    fake__s.async = (cudaError_t)cuda_error;
}

int fake_last_error(void)
{
    return (int)fake__s.last;
}

int fake_leaks(void)
{
    int n = 0;
    for (const object *o = fake__s.objects; o; o = o->next)
        n += o->live;
    return n;
}

/* Also looks at what lies behind allocations and in those that were freed. */
int fake_problems(void)
{
    for (object *o = fake__s.objects; o; o = o->next) {
        bool freed = false, behind = false;
        if (o->kind != DEVICE_MEMORY && o->kind != PINNED_MEMORY)
            continue;
        for (size_t i = 0; i < o->bytes && !o->live; i++)
            freed = freed || o->p[i] != FAKE_FREED;
        for (int i = 0; i < GUARD; i++)
            behind = behind || o->p[o->bytes + (size_t)i] != FAKE_AFTER;
        if (freed)
            fake_problemf("%s %d was written to after it was freed", fake__kind_names[o->kind],
                          o->number);
        if (behind)
            fake_problemf("%s %d was written to behind its end", fake__kind_names[o->kind],
                          o->number);
    }
    return problems.lines;
}

const char *fake_problem_text(void)
{
    return problems.s ? problems.s : "";
}
