/* Shared by the files of the fake: fake_core.c (what exists, and how it runs), fake_cudart.c and
   fake_handles.c (the entry points). */
#ifndef TESTS_CUDA_FAKE_INTERNAL_H
#define TESTS_CUDA_FAKE_INTERNAL_H

#include "fake.h"
#include <cuda_runtime_api.h>

enum { GUARD = 64, STREAMS = 16 };
enum { FAKE_AFTER = 0xa5, FAKE_FREED = 0xdb, FAKE_FRESH = 0xff };

typedef struct op op;
typedef struct graph graph;

typedef enum kind { STREAM, EVENT, GRAPH, EXEC, DEVICE_MEMORY, PINNED_MEMORY, CUDNN, BLAS } kind;

/* Every handle and allocation ever made, kept until fake_reset so that late use is seen. */
typedef struct object {
    struct object *next;
    kind kind;
    bool live;
    int number; /* of its kind, from 1 */
    /* memory */
    unsigned char *p;
    size_t bytes;
    /* stream */
    op *head, **tail;
    graph *capture; /* NULL: not recording */
    /* event */
    long recorded, done; /* versions */
    struct object *on;   /* stream of the last record */
    graph *in;           /* recorded while this was recorded; node: */
    long node;
    double at;
    /* graph, exec */
    graph *g;
} object;

typedef enum op_kind { COPY, SET, CALL, RECORD, WAIT, LAUNCH } op_kind;

struct op {
    op *next;
    op_kind kind;
    object *stream;
    void *dst;
    const void *src;
    size_t bytes;
    int value;
    object *event, *event_stream;
    long version; /* of the event; in a graph, for WAIT: the node that it waits for, or -1 */
    graph *g;
    const char *name;
    int (*run)(void *);
    void (*drop)(void *);
    void *closure;
    bool in_graph, ran;
};

struct graph {
    op **nodes;
    long n, capacity;
    object *origin, *streams[STREAMS];
    int n_streams, references;
    bool invalid;
};

typedef struct fake_state {
    object *objects;
    int n_of[8];
    int n_devices, count_error, driver, major, minor;
    size_t total, held;
    long calls, fail_at;
    const char *failed, **names; /* names[calls] */
    long names_capacity;
    cudaError_t last, sticky, async;
    bool eager, pumping;
    double clock_ms;
    graph *capture;
} fake_state;
extern fake_state fake__s;
extern const char *const fake__kind_names[];

object *fake__new_object(kind k);
/* Live and of this kind; else a problem and NULL. */
object *fake__find(const void *handle, kind k);
object *fake__find_memory(const void *p, size_t bytes);

/* Remembers it for cudaGetLastError. */
cudaError_t fake__failing(cudaError_t e);
cudaError_t fake__entered(const char *call);
cudaError_t fake__forbidden_while_recording(void);
void fake__log_line(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define ENTER()                                                                                    \
    do {                                                                                           \
        cudaError_t entered_ = fake__entered(__func__);                                            \
        if (entered_ != cudaSuccess)                                                               \
            return entered_;                                                                       \
    } while (0)

op *fake__new_op(op_kind k, object *s);
/* At the end of the stream, or of what is recorded on it. */
cudaError_t fake__put(op *o);
long fake__graph_add(graph *g, op *o);
void fake__graph_release(graph *g);
void fake__run_head(object *s);
/* All of the stream, or up to this version of the event. */
void fake__run_until(object *stream, const object *event, long version);
void fake__run_all(void);

#endif
