// chain: a program of elementwise steps over a few registers, in f32, one rounding at the end. All
// threads take the same steps, so that no branch on the program divides a warp; which register a
// step means is found by comparing constants, as registers cannot be indexed at run time. All
// inputs are asked for before the first step, so that their waits are one.
#include "backend/cuda/act.cuh"
#include "backend/cuda/chain.h"
#include "backend/cuda/walk.cuh"

template <int V> struct lanes { // V neighbours of one register
    float v[V];
};

struct chain_args {
    cuda_chain_program c;
    const void *in[MD_CHAIN_REGS];
    void *out;
};

template <int V, class T> GPU_DEVICE lanes<V> from_memory(const T *p)
{
    gpu_vec<T, V> x = walk_load<V>(p);
    lanes<V> r;
    for (int j = 0; j < V; j++)
        r.v[j] = gpu_float(x.v[j]);
    return r;
}

template <int V, class T> GPU_DEVICE lanes<V> read_input(const T *p, bool repeated)
{
    lanes<V> r;
    if (!repeated)
        return from_memory<V>(p);
    float one = gpu_float(*p);
    for (int j = 0; j < V; j++)
        r.v[j] = one;
    return r;
}

template <int V, class T> GPU_DEVICE void write_output(T *p, const lanes<V> &r)
{
    gpu_vec<T, V> y;
    for (int j = 0; j < V; j++)
        y.v[j] = gpu_from<T>(r.v[j]);
    walk_store<V>(p, y);
}

template <int KIND, int V>
GPU_DEVICE void act_step(bool grad, float p, float q, const lanes<V> &a, const lanes<V> &b,
                         lanes<V> *y)
{
    for (int j = 0; j < V; j++)
        y->v[j] = grad ? a.v[j] * slope_of<KIND>(b.v[j], p, q) : value_of<KIND>(a.v[j], p, q);
}

template <int V>
GPU_DEVICE lanes<V> take_step(const cuda_chain_step &s, const lanes<V> &a, const lanes<V> &b)
{
    lanes<V> y = a; // cast: a copy
    bool grad = s.op == MD_OP_act_grad;
    if (s.op == MD_OP_add) {
        for (int j = 0; j < V; j++)
            y.v[j] += b.v[j];
    } else if (s.op == MD_OP_sub) {
        for (int j = 0; j < V; j++)
            y.v[j] -= b.v[j];
    } else if (s.op == MD_OP_mul) {
        for (int j = 0; j < V; j++)
            y.v[j] *= b.v[j];
    } else if (s.op == MD_OP_affine) {
        for (int j = 0; j < V; j++)
            y.v[j] = value_of<AFFINE>(a.v[j], s.p, s.q);
    } else if (s.op == MD_OP_act || grad) {
        if (s.act == MD_ACT_SILU)
            act_step<MD_ACT_SILU>(grad, s.p, s.q, a, b, &y);
        else if (s.act == MD_ACT_GELU)
            act_step<MD_ACT_GELU>(grad, s.p, s.q, a, b, &y);
        else if (s.act == MD_ACT_QUICK_GELU)
            act_step<MD_ACT_QUICK_GELU>(grad, s.p, s.q, a, b, &y);
        else if (s.act == MD_ACT_EXP)
            act_step<MD_ACT_EXP>(grad, s.p, s.q, a, b, &y);
        else if (s.act == MD_ACT_LOG)
            act_step<MD_ACT_LOG>(grad, s.p, s.q, a, b, &y);
        else
            act_step<MD_ACT_CLAMP>(grad, s.p, s.q, a, b, &y);
    }
    return y;
}

template <int V> GPU_DEVICE lanes<V> pick(const lanes<V> *r, const lanes<V> &last, int which)
{
    lanes<V> x = r[0];
    if (which == CUDA_CHAIN_LAST)
        return last;
    GPU_UNROLL
    for (int i = 1; i < MD_CHAIN_REGS; i++) {
        GPU_UNROLL
        for (int j = 0; j < V; j++)
            x.v[j] = which == i ? r[i].v[j] : x.v[j];
    }
    return x;
}

template <int V> GPU_DEVICE void keep(lanes<V> *r, const lanes<V> &x, int which)
{
    GPU_UNROLL
    for (int i = 0; i < MD_CHAIN_REGS; i++) {
        GPU_UNROLL
        for (int j = 0; j < V; j++)
            r[i].v[j] = which == i ? x.v[j] : r[i].v[j];
    }
}

// walk: the output in pieces of V within the last dim; its strides are unused.
template <int D, int V> GPU_KERNEL void chain_steps(walk<D> w, chain_args g)
{
    int64_t at[D];
    walk_begin(w, at);
    for (int64_t i = walk_thread(); i < w.n; i += walk_threads()) {
        lanes<V> r[MD_CHAIN_REGS], last = {};
        GPU_UNROLL
        for (int k = 0; k < MD_CHAIN_REGS; k++) {
            if (k >= g.c.n_in)
                continue;
            const int64_t *stride = g.c.stride[k] + MD_MAX_DIMS - D;
            int64_t offset = at[D - 1] * V * stride[D - 1];
            GPU_UNROLL
            for (int j = 0; j < D - 1; j++)
                offset += at[j] * stride[j];
            bool repeated = stride[D - 1] == 0;
            r[k] = g.c.in_bf16[k] ? read_input<V>((const bf16 *)g.in[k] + offset, repeated)
                                  : read_input<V>((const float *)g.in[k] + offset, repeated);
        }
        for (int s = 0; s < g.c.n; s++) {
            const cuda_chain_step &step = g.c.step[s];
            last = take_step(step, pick(r, last, step.a), pick(r, last, step.b));
            if (step.to != CUDA_CHAIN_LAST)
                keep(r, last, step.to);
        }
        if (g.c.out_bf16)
            write_output((bf16 *)g.out + i * V, last);
        else
            write_output((float *)g.out + i * V, last);
        walk_next(w, at);
    }
}

template <int D, int V> static int launch(const cuda_device *d, const chain_args &g)
{
    int64_t dim[D], none[D] = {0}, n = 1;
    for (int i = 0; i < D; i++) {
        dim[i] = g.c.dim[MD_MAX_DIMS - D + i] / (i == D - 1 ? V : 1);
        n *= dim[i];
    }
    unsigned grid = walk_grid(d, n);
    return GPU_LAUNCH((chain_steps<D, V>), grid, WALK_BLOCK, d->stream, walk_of<D>(dim, none, grid),
                      g);
}

template <int V> static int launch_dims(const cuda_device *d, const chain_args &g)
{
    return g.c.n_dims == 1   ? launch<1, V>(d, g)
           : g.c.n_dims == 2 ? launch<2, V>(d, g)
                             : launch<4, V>(d, g);
}

// Whether every thread's pieces of V lie at multiples of their size.
static bool wide(const chain_args &g, int V)
{
    const int in = MD_MAX_DIMS - 1;
    bool fits = g.c.dim[in] % V == 0 && (uintptr_t)g.out % (g.c.out_bf16 ? 2 * V : 4 * V) == 0;
    for (int k = 0; fits && k < g.c.n_in; k++)
        if (g.c.stride[k][in]) // its other strides are then multiples of the last dim
            fits = (uintptr_t)g.in[k] % (g.c.in_bf16[k] ? 2 * V : 4 * V) == 0;
    return fits;
}

extern "C" int cuda__chain(const cuda_device *d, const cuda_chain_program *c, void *const *in,
                           void *out)
{
    chain_args g;
    g.c = *c;
    for (int k = 0; k < MD_CHAIN_REGS; k++)
        g.in[k] = k < c->n_in ? in[k] : nullptr;
    g.out = out;
    return wide(g, 4) ? launch_dims<4>(d, g) : launch_dims<1>(d, g);
}
