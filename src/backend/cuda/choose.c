#include "backend/cuda/choose.h"

int64_t cuda__alignment(const md_tensor *t)
{
    int64_t at = 64;
    if (t->storage == MD_VIEW || t->storage == MD_EXTERN)
        at |= t->offset * (int64_t)md_dtype_bytes(t->dtype);
    if (t->storage == MD_VIEW && t->base->storage == MD_EXTERN)
        at |= t->base->offset * (int64_t)md_dtype_bytes(t->dtype);
    return at & -at; /* the lowest bit set */
}

size_t cuda__tensor_bytes(const md_tensor *t)
{
    return (size_t)md_numel(t) * md_dtype_bytes(t->dtype);
}

size_t cuda__workspace_room(size_t workspace)
{
    return workspace ? workspace + CUDA_SCRATCH_PAD : 0;
}

void *cuda__workspace_at(void *scratch)
{
    uintptr_t at = (uintptr_t)scratch;
    return (char *)scratch + (-at & (CUDA_SCRATCH_ALIGN - 1));
}

bool cuda__workspace_fits(const cuda_impl *d, size_t workspace)
{
    return workspace <= d->options.workspace_bytes &&
           cuda__workspace_room(workspace) <= d->options.workspace_bytes;
}

bool cuda__choice_is_timed(const cuda_impl *d)
{
    return d->tuning && !d->options.deterministic && !d->recording;
}

typedef struct trial {
    const cuda_candidates *c;
    int candidate;
    void *in[MD_MAX_IN], *out[MD_MAX_OUT], *scratch;
} trial;

static md_status run_trial(void *user)
{
    trial *t = user;
    return t->c->run(t->c->user, t->candidate, t->in, t->out, t->scratch);
}

static size_t room(const md_tensor *t)
{
    return (cuda__tensor_bytes(t) + CUDA_SCRATCH_ALIGN - 1) / CUDA_SCRATCH_ALIGN *
           CUDA_SCRATCH_ALIGN;
}

/* Places the node's tensors and the workspace behind `at`; returns the bytes that takes. */
static size_t lay_out(trial *t, char *at)
{
    const md_node *n = t->c->node;
    size_t bytes = 0;
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i]) {
            t->in[i] = at ? at + bytes : NULL;
            bytes += room(n->in[i]);
        }
    for (int i = 0; i < n->n_out; i++) {
        t->out[i] = at ? at + bytes : NULL;
        bytes += room(n->out[i]);
    }
    t->scratch = at ? at + bytes : NULL;
    return bytes + cuda__workspace_room(t->c->workspace);
}

static md_status time_all(cuda_impl *d, trial *t, int *best)
{
    md_status status = MD_OK;
    double least = 0;
    bool any = false;
    for (t->candidate = 0; t->candidate < t->c->n; t->candidate++) {
        double ms = 0;
        md_status s = cuda__tuning_time(d, run_trial, t, &ms);
        if (s != MD_OK) {
            status = s;
            continue;
        }
        if (!any || ms < least) {
            least = ms;
            *best = t->candidate;
        }
        any = true;
    }
    if (any)
        md_status_clear();
    return any ? MD_OK : status;
}

md_status cuda__choose(cuda_impl *d, const cuda_candidates *c, int *best)
{
    trial t = {.c = c};
    size_t bytes = lay_out(&t, NULL);
    char *memory = NULL;
    *best = 0;
    if (c->n < 2 || !cuda__choice_is_timed(d) || bytes > d->options.workspace_bytes)
        return MD_OK;
    if (cudaMalloc((void **)&memory, bytes) != cudaSuccess) {
        (void)cudaGetLastError(); /* short of memory is no error here */
        return MD_OK;
    }
    lay_out(&t, memory);
    md_status status = MD_OK;
    cudaError_t e = cudaMemsetAsync(memory, 0, bytes, d->launch);
    if (e != cudaSuccess)
        status = cuda__fail(e, "cudaMemsetAsync", __FILE__, __LINE__);
    else
        status = time_all(d, &t, best);
    e = cudaStreamSynchronize(d->launch); /* nothing may still be using the memory */
    if (e != cudaSuccess && status == MD_OK)
        status = cuda__fail(e, "cudaStreamSynchronize", __FILE__, __LINE__);
    (void)cudaFree(memory);
    return status;
}
