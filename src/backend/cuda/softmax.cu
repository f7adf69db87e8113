/* The softmax of rows of logits, for attention by products (attention_products.c). A block takes a
   row; its threads keep the first SPAN columns in registers and read later ones three times. */
#include "backend/cuda/gpu.cuh"
#include "backend/cuda/softmax.h"

enum {
    THREADS = 256,
    V = 4,    /* columns that a thread takes side by side */
    KEPT = 4, /* such pieces that it keeps */
    STEP = THREADS * V,
    SPAN = STEP * KEPT,
    BLOCKS_PER_SM = 8
};

/* V logits from `column` on; -inf, whose exp is 0, where there is none. */
GPU_DEVICE void take(const float *row, int64_t column, int64_t cols, float to[V])
{
    gpu_vec<float, V> piece;
    if (column < cols)
        piece = *(const gpu_vec<float, V> *)(row + column);
    for (int j = 0; j < V; j++)
        to[j] = column + j < cols ? piece.v[j] : -INFINITY;
}

GPU_DEVICE void give(bf16 *row, int64_t column, int64_t cols, const float from[V])
{
    gpu_vec<bf16, V> piece;
    for (int j = 0; j < V; j++)
        piece.v[j] = gpu_bf16(from[j]);
    if (column < cols)
        *(gpu_vec<bf16, V> *)(row + column) = piece;
}

GPU_DEVICE float most_of(float most, const float x[V])
{
    for (int j = 0; j < V; j++)
        most = fmaxf(most, x[j]);
    return most;
}

/* x = e^(x - most); returns their sum. */
GPU_DEVICE float exp_of(float x[V], float most)
{
    for (int j = 0; j < V; j++)
        x[j] = expf(x[j] - most);
    return (x[0] + x[1]) + (x[2] + x[3]);
}

GPU_DEVICE void scale(float x[V], float factor)
{
    for (int j = 0; j < V; j++)
        x[j] *= factor;
}

GPU_KERNEL void softmax(const float *__restrict__ logits, int64_t rows, int64_t cols, int64_t ld,
                        bf16 *__restrict__ p, float *__restrict__ lse)
{
    const int64_t mine = (int64_t)threadIdx.x * V;
    for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
        const float *from = logits + r * ld;
        bf16 *to = p + r * ld;
        float kept[KEPT][V], x[V], most = -INFINITY, sum = 0.0f;
        GPU_UNROLL
        for (int k = 0; k < KEPT; k++) {
            take(from, mine + k * STEP, cols, kept[k]);
            most = most_of(most, kept[k]);
        }
        for (int64_t c = mine + SPAN; c < cols; c += STEP) {
            take(from, c, cols, x);
            most = most_of(most, x);
        }
        most = gpu_block_max(most);
        GPU_UNROLL
        for (int k = 0; k < KEPT; k++)
            sum += exp_of(kept[k], most);
        for (int64_t c = mine + SPAN; c < cols; c += STEP) {
            take(from, c, cols, x);
            sum += exp_of(x, most);
        }
        sum = gpu_block_sum(sum);
        const float factor = 1.0f / sum;
        GPU_UNROLL
        for (int k = 0; k < KEPT; k++) {
            scale(kept[k], factor);
            give(to, mine + k * STEP, cols, kept[k]);
        }
        for (int64_t c = mine + SPAN; c < cols; c += STEP) {
            take(from, c, cols, x);
            (void)exp_of(x, most);
            scale(x, factor);
            give(to, c, cols, x);
        }
        if (threadIdx.x == 0)
            lse[r] = most + logf(sum);
    }
}

extern "C" int cuda__softmax_launch(const cuda_device *d, const float *logits, int64_t rows,
                                    int64_t cols, int64_t ld, void *p, float *lse)
{
    return GPU_LAUNCH(softmax, gpu_grid(rows, 1, (int64_t)d->n_sm * BLOCKS_PER_SM), THREADS,
                      d->stream, logits, rows, cols, ld, (bf16 *)p, lse);
}
