// concat slice pad_axis upsample2x downsum2x. Sizes in kernels are counted in units.
#include "backend/cuda/shape.h"
#include "backend/cuda/units.cuh"

// walk: rows, units of a row, with the strides of `from`
template <class U>
GPU_KERNEL void copy_rows(walk<2> w, int64_t to_pitch, const U *__restrict__ from,
                          U *__restrict__ to)
{
    int64_t at[2];
    walk_begin(w, at);
    for (int64_t i = walk_thread(); i < w.n; i += walk_threads()) {
        to[at[0] * to_pitch + at[1]] = from[walk_offset(w, at)];
        walk_next(w, at);
    }
}

template <class U>
static int copy_rows_launch(const cuda_device *d, int64_t rows, int64_t width, const void *from,
                            int64_t from_pitch, void *to, int64_t to_pitch)
{
    const int64_t size = sizeof(U), dim[2] = {rows, width / size},
                  stride[2] = {from_pitch / size, 1};
    unsigned grid = walk_grid(d, dim[0] * dim[1]);
    walk<2> w = walk_of<2>(dim, stride, grid);
    return GPU_LAUNCH(copy_rows<U>, grid, WALK_BLOCK, d->stream, w, to_pitch / size,
                      (const U *)from, (U *)to);
}

extern "C" int cuda__copy_rows(const cuda_device *d, int64_t rows, int64_t width, const void *from,
                               int64_t from_pitch, void *to, int64_t to_pitch)
{
    int unit = unit_of(from, to, rows == 1 ? width : width | from_pitch | to_pitch);
    return UNIT_LAUNCH(unit, copy_rows_launch, d, rows, width, from, from_pitch, to, to_pitch);
}

// walk: rows, units of a row of `to`; the units before..before+width-1 have something in `from`
template <class U>
GPU_KERNEL void pad_rows(walk<2> w, int64_t before, int64_t width, const U *__restrict__ from,
                         U *__restrict__ to)
{
    int64_t at[2];
    walk_begin(w, at);
    for (int64_t i = walk_thread(); i < w.n; i += walk_threads()) {
        bool inside = at[1] >= before && at[1] < before + width;
        U v = unit_zero<U>();
        if (inside)
            v = from[walk_offset(w, at) - before];
        to[i] = v;
        walk_next(w, at);
    }
}

template <class U>
static int pad_rows_launch(const cuda_device *d, int64_t rows, int64_t width, int64_t before,
                           const void *from, int64_t from_width, void *to)
{
    const int64_t size = sizeof(U), dim[2] = {rows, width / size},
                  stride[2] = {from_width / size, 1};
    unsigned grid = walk_grid(d, dim[0] * dim[1]);
    walk<2> w = walk_of<2>(dim, stride, grid);
    return GPU_LAUNCH(pad_rows<U>, grid, WALK_BLOCK, d->stream, w, before / size, from_width / size,
                      (const U *)from, (U *)to);
}

extern "C" int cuda__pad_rows(const cuda_device *d, int64_t rows, int64_t width, int64_t before,
                              const void *from, int64_t from_width, void *to)
{
    int unit = unit_of(from, to, width | before | from_width);
    return UNIT_LAUNCH(unit, pad_rows_launch, d, rows, width, before, from, from_width, to);
}

// walk: rows, columns and units of the small image, with the strides of the large one, of which a
// row has `row` units and a pixel `pixel`.
template <class U>
GPU_KERNEL void upsample(walk<3> w, int64_t row, int64_t pixel, const U *__restrict__ x,
                         U *__restrict__ y)
{
    int64_t at[3];
    walk_begin(w, at);
    for (int64_t i = walk_thread(); i < w.n; i += walk_threads()) {
        U v = x[i];
        U *to = y + walk_offset(w, at);
        to[0] = v;
        to[pixel] = v;
        to[row] = v;
        to[row + pixel] = v;
        walk_next(w, at);
    }
}

template <int V, class T>
GPU_KERNEL void downsum(walk<3> w, int64_t row, int64_t pixel, const T *__restrict__ x,
                        T *__restrict__ y)
{
    int64_t at[3];
    walk_begin(w, at);
    for (int64_t i = walk_thread(); i < w.n; i += walk_threads()) {
        const T *from = x + walk_offset(w, at);
        gpu_vec<T, V> a = walk_load<V>(from), b = walk_load<V>(from + pixel),
                      c = walk_load<V>(from + row), e = walk_load<V>(from + row + pixel);
        for (int j = 0; j < V; j++)
            a.v[j] = gpu_from<T>((gpu_float(a.v[j]) + gpu_float(b.v[j])) +
                                 (gpu_float(c.v[j]) + gpu_float(e.v[j])));
        walk_store<V>(y + i * V, a);
        walk_next(w, at);
    }
}

template <class U>
static int upsample_launch(const cuda_device *d, int64_t rows, int64_t w, int64_t channel_bytes,
                           const void *x, void *y)
{
    const int64_t c = channel_bytes / (int64_t)sizeof(U), dim[3] = {rows, w, c},
                  stride[3] = {4 * w * c, 2 * c, 1};
    unsigned grid = walk_grid(d, rows * w * c);
    walk<3> at = walk_of<3>(dim, stride, grid);
    return GPU_LAUNCH(upsample<U>, grid, WALK_BLOCK, d->stream, at, 2 * w * c, c, (const U *)x,
                      (U *)y);
}

extern "C" int cuda__upsample2x(const cuda_device *d, int64_t rows, int64_t w,
                                int64_t channel_bytes, const void *x, void *y)
{
    int unit = unit_of(x, y, channel_bytes);
    return UNIT_LAUNCH(unit, upsample_launch, d, rows, w, channel_bytes, x, y);
}

template <int V, class T>
static int downsum_launch(const cuda_device *d, int64_t rows, int64_t w, int64_t c, const T *x,
                          T *y)
{
    const int64_t dim[3] = {rows, w, c / V}, stride[3] = {4 * w * c, 2 * c, V};
    unsigned grid = walk_grid(d, rows * w * (c / V));
    walk<3> at = walk_of<3>(dim, stride, grid);
    return GPU_LAUNCH((downsum<V, T>), grid, WALK_BLOCK, d->stream, at, 2 * w * c, c, x, y);
}

template <class T>
static int downsum_of(const cuda_device *d, int64_t rows, int64_t w, int64_t c, const T *x, T *y)
{
    const int V = gpu_lanes<T>::n;
    return gpu_aligned(x, y) && c % V == 0 ? downsum_launch<V>(d, rows, w, c, x, y)
                                           : downsum_launch<1>(d, rows, w, c, x, y);
}

extern "C" int cuda__downsum2x(const cuda_device *d, md_dtype t, int64_t rows, int64_t w, int64_t c,
                               const void *x, void *y)
{
    return t == MD_BF16 ? downsum_of(d, rows, w, c, (const bf16 *)x, (bf16 *)y)
                        : downsum_of(d, rows, w, c, (const float *)x, (float *)y);
}
