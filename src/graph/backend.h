/* What a device must provide. A backend turns a node into a prepared kernel once, then the plan
   only launches. Calls are stream-ordered; sync is the fence. */
#ifndef MD_GRAPH_BACKEND_H
#define MD_GRAPH_BACKEND_H

#include "graph/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct md_backend md_backend;
typedef struct md_kernel md_kernel;

/* A prepared node. `run` may be called any number of times, allocates nothing, and may use
   `scratch` (at least scratch_bytes, 64-aligned, undefined content). in[i] is NULL where
   node->in[i] is. */
struct md_kernel {
    md_status (*run)(const md_kernel *k, void *const *in, void *const *out, void *scratch);
    void (*release)(md_kernel *k); /* frees `state`; NULL if there is nothing to free */
    const md_node *node;
    md_backend *backend;
    void *state;
    size_t scratch_bytes;
};

/* <backend>_<op>: fills run, and state, release, scratch_bytes where needed. Everything that can
   fail for lack of support fails here. */
typedef md_status (*md_prepare_fn)(md_backend *be, const md_node *node, md_kernel *k);

/* What a device has whose launches return before they ran. Then writes are ordered with launches
   and may return before they happened (the host array may be reused at once); read and sync are
   the fences, and say what went wrong in a launch before them. */
typedef struct md_backend_queues {
    /* Launches and writes between begin and end are recorded, not run; one at a time. */
    md_status (*record_begin)(md_backend *be);
    md_status (*record_end)(md_backend *be, void **recording); /* NULL to drop what was recorded */
    md_status (*replay)(md_backend *be, void *recording);
    void (*forget)(md_backend *be, void *recording);
    /* The side queue runs beside the launches, for communication. fork: what comes on the side
       waits for the launches so far; join: the next launches wait for what is on the side. */
    void *(*side)(md_backend *be); /* the native handle */
    md_status (*fork)(md_backend *be);
    md_status (*join)(md_backend *be);
    /* Whether everything launched has run; does not wait. */
    md_status (*idle)(md_backend *be, bool *idle);
    md_status (*memory)(md_backend *be, size_t *free_bytes, size_t *total_bytes);
} md_backend_queues;

typedef struct md_backend_ops {
    const char *name;                 /* "ref", "cpu", "cuda" */
    const md_prepare_fn *prepare;     /* [MD_OP_COUNT] */
    size_t (*elem_bytes)(md_dtype d); /* on the device; ref: 8 for floats */
    md_status (*alloc)(md_backend *be, size_t bytes, void **out); /* 64-aligned; not zeroed */
    void (*release)(md_backend *be, void *p);
    /* Converting copies of n elements. host_dtype: F32, F64, BF16 or I32. */
    md_status (*write)(md_backend *be, void *dst, md_dtype dtype, const void *host,
                       md_dtype host_dtype, int64_t n);
    md_status (*read)(md_backend *be, const void *src, md_dtype dtype, void *host,
                      md_dtype host_dtype, int64_t n);
    md_status (*zero)(md_backend *be, void *dst, size_t bytes);
    md_status (*sync)(md_backend *be);
    void (*close)(md_backend *be);
    bool host_visible;   /* pointers from alloc can be used on the host, f32 as f32 */
    bool fuses_residual; /* conv2d and linear add in[3] in passing: the plan may put it there */
    bool fuses_chains;   /* has op chain: the plan may make elementwise nodes one */
    const md_backend_queues *queues; /* NULL: launches run at once, there is nothing to overlap */
} md_backend_ops;

struct md_backend {
    const md_backend_ops *ops;
    int device, threads;
    size_t allocated_bytes; /* currently held through alloc */
    void *impl;
};

/* For prepare functions: a zeroed state, freed by k->release, which this sets. */
MD_MUST md_status md_kernel_state(md_kernel *k, size_t bytes, void **out);

/* For backends' write and read. Float types go into each other, I32 and U8 only as they are; double
   to bf16 rounds once. */
size_t md_dtype_bytes(md_dtype d); /* of one element in a host array */
bool md_convertible(md_dtype a, md_dtype b);
void md_convert_host(void *dst, md_dtype to, const void *src, md_dtype from, int64_t n);

/* Buffers: declare with a type and size, allocate when the job is known to fit. */
void md_buffer_init(md_buffer *b, const char *name, md_dtype dtype, int64_t numel);
MD_MUST md_status md_buffer_alloc(md_backend *be, md_buffer *b); /* zeroed; no-op when allocated */
void md_buffer_release(md_backend *be, md_buffer *b);
MD_MUST md_status md_buffer_write(md_backend *be, md_buffer *b, int64_t offset, const void *host,
                                  md_dtype host_dtype, int64_t n);
MD_MUST md_status md_buffer_read(md_backend *be, const md_buffer *b, int64_t offset, void *host,
                                 md_dtype host_dtype, int64_t n);
/* All of `from` into `to`, through a small piece of host memory; rounds where `to` is bf16. */
MD_MUST md_status md_buffer_copy(md_backend *be, md_buffer *to, const md_buffer *from);

#ifdef __cplusplus
}
#endif
#endif
