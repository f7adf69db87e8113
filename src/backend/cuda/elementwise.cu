// add sub mul affine act act_grad geglu geglu_grad cast. Arithmetic in f32, one rounding at the
// end.
#include "backend/cuda/act.cuh"
#include "backend/cuda/elementwise.h"
#include "backend/cuda/walk.cuh"

// ---- add, sub, mul

template <int OP> GPU_DEVICE float apply(float a, float b)
{
    return OP == MD_OP_add ? a + b : OP == MD_OP_sub ? a - b : a * b;
}

// Both of one shape.
template <int OP, int V, class T>
GPU_KERNEL void binary_flat(int64_t n, const T *__restrict__ a, const T *__restrict__ b,
                            T *__restrict__ y)
{
    for (int64_t i = walk_thread(); i < n / V; i += walk_threads()) {
        gpu_vec<T, V> va = walk_load<V>(a + i * V), vb = walk_load<V>(b + i * V);
        for (int j = 0; j < V; j++)
            va.v[j] = gpu_from<T>(apply<OP>(gpu_float(va.v[j]), gpu_float(vb.v[j])));
        walk_store<V>(y + i * V, va);
    }
    for (int64_t i = n - n % V + walk_thread(); i < n; i += walk_threads())
        y[i] = gpu_from<T>(apply<OP>(gpu_float(a[i]), gpu_float(b[i])));
}

// a in pieces of V within the last dim; there b goes along (rows) or stays (not).
template <int OP, int D, int V, class T>
GPU_KERNEL void binary_walk(walk<D> w, bool rows, const T *__restrict__ a, const T *__restrict__ b,
                            T *__restrict__ y)
{
    int64_t at[D];
    walk_begin(w, at);
    for (int64_t i = walk_thread(); i < w.n; i += walk_threads()) {
        const T *from = b + walk_offset(w, at);
        gpu_vec<T, V> va = walk_load<V>(a + i * V);
        if (rows) {
            gpu_vec<T, V> vb = walk_load<V>(from);
            for (int j = 0; j < V; j++)
                va.v[j] = gpu_from<T>(apply<OP>(gpu_float(va.v[j]), gpu_float(vb.v[j])));
        } else {
            float one = gpu_float(*from);
            for (int j = 0; j < V; j++)
                va.v[j] = gpu_from<T>(apply<OP>(gpu_float(va.v[j]), one));
        }
        walk_store<V>(y + i * V, va);
        walk_next(w, at);
    }
}

template <int OP, int D, int V, class T>
static int binary_rows(const cuda_device *d, const cuda_broadcast *s, const T *a, const T *b, T *y)
{
    int64_t dim[D], stride[D], n = 1;
    for (int i = 0; i < D; i++) {
        dim[i] = s->dim[MD_MAX_DIMS - D + i] / (i == D - 1 ? V : 1);
        stride[i] = s->stride[MD_MAX_DIMS - D + i] * (i == D - 1 ? V : 1);
        n *= dim[i];
    }
    unsigned grid = walk_grid(d, n);
    walk<D> w = walk_of<D>(dim, stride, grid);
    return GPU_LAUNCH((binary_walk<OP, D, V, T>), grid, WALK_BLOCK, d->stream, w,
                      stride[D - 1] != 0, a, b, y);
}

template <int OP, class T>
static int binary(const cuda_device *d, const cuda_broadcast *s, const T *a, const T *b, T *y)
{
    const int V = gpu_lanes<T>::n;
    int64_t inner = s->dim[MD_MAX_DIMS - 1];
    bool rows = s->stride[MD_MAX_DIMS - 1] != 0;
    bool wide = gpu_aligned(a, y, rows ? b : nullptr);
    if (s->n == 1 && rows) {
        if (wide && inner >= V)
            return GPU_LAUNCH((binary_flat<OP, V, T>), walk_grid(d, inner / V), WALK_BLOCK,
                              d->stream, inner, a, b, y);
        return GPU_LAUNCH((binary_flat<OP, 1, T>), walk_grid(d, inner), WALK_BLOCK, d->stream,
                          inner, a, b, y);
    }
    if (wide && inner % V == 0) // b's rows are then aligned too
        return s->n <= 2 ? binary_rows<OP, 2, V>(d, s, a, b, y)
                         : binary_rows<OP, 4, V>(d, s, a, b, y);
    return s->n <= 2 ? binary_rows<OP, 2, 1>(d, s, a, b, y) : binary_rows<OP, 4, 1>(d, s, a, b, y);
}

template <class T>
static int binary_of(const cuda_device *d, md_op op, const cuda_broadcast *s, const T *a,
                     const T *b, T *y)
{
    return op == MD_OP_add   ? binary<MD_OP_add>(d, s, a, b, y)
           : op == MD_OP_sub ? binary<MD_OP_sub>(d, s, a, b, y)
                             : binary<MD_OP_mul>(d, s, a, b, y);
}

extern "C" int cuda__binary(const cuda_device *d, md_op op, md_dtype t, const cuda_broadcast *shape,
                            const void *a, const void *b, void *y)
{
    return t == MD_BF16 ? binary_of(d, op, shape, (const bf16 *)a, (const bf16 *)b, (bf16 *)y)
                        : binary_of(d, op, shape, (const float *)a, (const float *)b, (float *)y);
}

// ---- y = f(x), dx = dy f'(x)

template <int KIND, int V, class T>
GPU_KERNEL void value_flat(int64_t n, float p, float q, const T *__restrict__ x, T *__restrict__ y)
{
    for (int64_t i = walk_thread(); i < n / V; i += walk_threads()) {
        gpu_vec<T, V> v = walk_load<V>(x + i * V);
        for (int j = 0; j < V; j++)
            v.v[j] = gpu_from<T>(value_of<KIND>(gpu_float(v.v[j]), p, q));
        walk_store<V>(y + i * V, v);
    }
    for (int64_t i = n - n % V + walk_thread(); i < n; i += walk_threads())
        y[i] = gpu_from<T>(value_of<KIND>(gpu_float(x[i]), p, q));
}

template <int KIND, int V, class T>
GPU_KERNEL void slope_flat(int64_t n, float p, float q, const T *__restrict__ dy,
                           const T *__restrict__ x, T *__restrict__ dx)
{
    for (int64_t i = walk_thread(); i < n / V; i += walk_threads()) {
        gpu_vec<T, V> g = walk_load<V>(dy + i * V), v = walk_load<V>(x + i * V);
        for (int j = 0; j < V; j++)
            g.v[j] = gpu_from<T>(gpu_float(g.v[j]) * slope_of<KIND>(gpu_float(v.v[j]), p, q));
        walk_store<V>(dx + i * V, g);
    }
    for (int64_t i = n - n % V + walk_thread(); i < n; i += walk_threads())
        dx[i] = gpu_from<T>(gpu_float(dy[i]) * slope_of<KIND>(gpu_float(x[i]), p, q));
}

struct flat_args { // what value_flat or, with dy, slope_flat works on
    int64_t n;
    float p, q;
    const void *dy, *x;
    void *y;
};

template <int KIND, int V, class T> static int flat_launch(const cuda_device *d, const flat_args &f)
{
    unsigned grid = walk_grid(d, f.n / V);
    const T *dy = (const T *)f.dy, *x = (const T *)f.x;
    T *y = (T *)f.y;
    int64_t n = f.n;
    float p = f.p, q = f.q;
    if constexpr (KIND != AFFINE)
        if (dy)
            return GPU_LAUNCH((slope_flat<KIND, V, T>), grid, WALK_BLOCK, d->stream, n, p, q, dy, x,
                              y);
    return GPU_LAUNCH((value_flat<KIND, V, T>), grid, WALK_BLOCK, d->stream, n, p, q, x, y);
}

template <int KIND> static int flat(const cuda_device *d, md_dtype t, const flat_args &f)
{
    const int V = t == MD_BF16 ? gpu_lanes<bf16>::n : gpu_lanes<float>::n;
    if (gpu_aligned(f.dy, f.x, f.y) && f.n >= V)
        return t == MD_BF16 ? flat_launch<KIND, gpu_lanes<bf16>::n, bf16>(d, f)
                            : flat_launch<KIND, gpu_lanes<float>::n, float>(d, f);
    return t == MD_BF16 ? flat_launch<KIND, 1, bf16>(d, f) : flat_launch<KIND, 1, float>(d, f);
}

static int flat_of(const cuda_device *d, md_dtype t, md_act kind, const flat_args &f)
{
    switch (kind) {
    case MD_ACT_SILU:
        return flat<MD_ACT_SILU>(d, t, f);
    case MD_ACT_GELU:
        return flat<MD_ACT_GELU>(d, t, f);
    case MD_ACT_QUICK_GELU:
        return flat<MD_ACT_QUICK_GELU>(d, t, f);
    case MD_ACT_EXP:
        return flat<MD_ACT_EXP>(d, t, f);
    case MD_ACT_LOG:
        return flat<MD_ACT_LOG>(d, t, f);
    default:
        return flat<MD_ACT_CLAMP>(d, t, f);
    }
}

extern "C" int cuda__affine(const cuda_device *d, md_dtype t, int64_t n, float alpha, float beta,
                            const void *x, void *y)
{
    return flat<AFFINE>(d, t, flat_args{n, alpha, beta, nullptr, x, y});
}

extern "C" int cuda__act(const cuda_device *d, md_dtype t, int64_t n, md_act kind, float lo,
                         float hi, const void *x, void *y)
{
    return flat_of(d, t, kind, flat_args{n, lo, hi, nullptr, x, y});
}

extern "C" int cuda__act_grad(const cuda_device *d, md_dtype t, int64_t n, md_act kind, float lo,
                              float hi, const void *dy, const void *x, void *dx)
{
    return flat_of(d, t, kind, flat_args{n, lo, hi, dy, x, dx});
}

// ---- geglu; walk: rows, pieces of a row, with the strides of x

template <int V, class T>
GPU_KERNEL void geglu(walk<2> w, int64_t width, const T *__restrict__ x, T *__restrict__ y)
{
    int64_t at[2];
    walk_begin(w, at);
    for (int64_t i = walk_thread(); i < w.n; i += walk_threads()) {
        const T *from = x + walk_offset(w, at);
        gpu_vec<T, V> v = walk_load<V>(from), gate = walk_load<V>(from + width);
        for (int j = 0; j < V; j++)
            v.v[j] =
                gpu_from<T>(gpu_float(v.v[j]) * value_of<MD_ACT_GELU>(gpu_float(gate.v[j]), 0, 0));
        walk_store<V>(y + i * V, v);
        walk_next(w, at);
    }
}

template <int V, class T>
GPU_KERNEL void geglu_grad(walk<2> w, int64_t width, const T *__restrict__ dy,
                           const T *__restrict__ x, T *__restrict__ dx)
{
    int64_t at[2];
    walk_begin(w, at);
    for (int64_t i = walk_thread(); i < w.n; i += walk_threads()) {
        int64_t offset = walk_offset(w, at);
        gpu_vec<T, V> g = walk_load<V>(dy + i * V);
        gpu_vec<T, V> v = walk_load<V>(x + offset), gate = walk_load<V>(x + offset + width);
        for (int j = 0; j < V; j++) {
            float gj = gpu_float(g.v[j]), tj = gpu_float(gate.v[j]);
            gate.v[j] = gpu_from<T>(gj * gpu_float(v.v[j]) * slope_of<MD_ACT_GELU>(tj, 0, 0));
            v.v[j] = gpu_from<T>(gj * value_of<MD_ACT_GELU>(tj, 0, 0));
        }
        walk_store<V>(dx + offset, v);
        walk_store<V>(dx + offset + width, gate);
        walk_next(w, at);
    }
}

template <int V, class T>
static int geglu_rows(const cuda_device *d, int64_t rows, int64_t width, const T *dy, const T *x,
                      T *out)
{
    const int64_t dim[2] = {rows, width / V}, stride[2] = {2 * width, V};
    unsigned grid = walk_grid(d, dim[0] * dim[1]);
    walk<2> w = walk_of<2>(dim, stride, grid);
    return dy ? GPU_LAUNCH((geglu_grad<V, T>), grid, WALK_BLOCK, d->stream, w, width, dy, x, out)
              : GPU_LAUNCH((geglu<V, T>), grid, WALK_BLOCK, d->stream, w, width, x, out);
}

// dy null: forward
template <class T>
static int geglu_of(const cuda_device *d, int64_t rows, int64_t width, const void *dy,
                    const void *x, void *out)
{
    const int V = gpu_lanes<T>::n;
    if (gpu_aligned(dy, x, out) && width % V == 0)
        return geglu_rows<V, T>(d, rows, width, (const T *)dy, (const T *)x, (T *)out);
    return geglu_rows<1, T>(d, rows, width, (const T *)dy, (const T *)x, (T *)out);
}

extern "C" int cuda__geglu(const cuda_device *d, md_dtype t, int64_t rows, int64_t width,
                           const void *x, void *y)
{
    return t == MD_BF16 ? geglu_of<bf16>(d, rows, width, nullptr, x, y)
                        : geglu_of<float>(d, rows, width, nullptr, x, y);
}

extern "C" int cuda__geglu_grad(const cuda_device *d, md_dtype t, int64_t rows, int64_t width,
                                const void *dy, const void *x, void *dx)
{
    return t == MD_BF16 ? geglu_of<bf16>(d, rows, width, dy, x, dx)
                        : geglu_of<float>(d, rows, width, dy, x, dx);
}

// ---- cast

template <int V, class From, class To>
GPU_KERNEL void cast(int64_t n, const From *__restrict__ x, To *__restrict__ y)
{
    for (int64_t i = walk_thread(); i < n / V; i += walk_threads()) {
        gpu_vec<From, V> v = walk_load<V>(x + i * V);
        gpu_vec<To, V> r;
        for (int j = 0; j < V; j++)
            r.v[j] = gpu_from<To>(gpu_float(v.v[j]));
        walk_store<V>(y + i * V, r);
    }
    for (int64_t i = n - n % V + walk_thread(); i < n; i += walk_threads())
        y[i] = gpu_from<To>(gpu_float(x[i]));
}

template <class From, class To>
static int cast_of(const cuda_device *d, int64_t n, const From *x, To *y)
{
    const int V = 4; // 16 bytes of f32, 8 of bf16
    if (gpu_aligned(x, y) && n >= V)
        return GPU_LAUNCH((cast<V, From, To>), walk_grid(d, n / V), WALK_BLOCK, d->stream, n, x, y);
    return GPU_LAUNCH((cast<1, From, To>), walk_grid(d, n), WALK_BLOCK, d->stream, n, x, y);
}

extern "C" int cuda__cast(const cuda_device *d, md_dtype from, int64_t n, const void *x, void *y)
{
    return from == MD_BF16 ? cast_of(d, n, (const bf16 *)x, (float *)y)
                           : cast_of(d, n, (const float *)x, (bf16 *)y);
}
