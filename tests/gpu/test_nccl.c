/* NCCL with one rank on a GPU: a small backward pass whose gradient buckets are summed on the side
   queue, launched, recorded and replayed. With one rank a sum changes nothing, so the numbers must
   be the CPU's; that several ranks add up needs several GPUs. */
#include "backend/cpu/cpu.h"
#include "backend/open.h"
#include "comm/device.h"
#include "ops/grad.h"
#include "ops/ops.h"
#include "train/reduce.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 64, WIDTH = 256, LAYERS = 4, RUNS = 4, N = LAYERS * WIDTH * WIDTH };

static const double TOLERANCE = 1e-5; /* of the largest gradient, f32 */

typedef struct net {
    md_backend *be;
    md_graph *g;
    md_plan *p;
    md_buffer weights, grads, tail;
    md_tensor *x, *loss;
} net;

static md_status build(net *n)
{
    md_tensor *w[LAYERS], *grad[LAYERS], *out[LAYERS + 1];
    MD_TRY(md_graph_new(&n->g));
    md_buffer_init(&n->weights, "weights", MD_F32, N);
    md_buffer_init(&n->grads, "gradients", MD_F32, N);
    md_buffer_init(&n->tail, "loss", MD_F32, 16);
    MD_TRY(md_buffer_alloc(n->be, &n->weights));
    MD_TRY(md_buffer_alloc(n->be, &n->grads));
    MD_TRY(md_buffer_alloc(n->be, &n->tail));
    n->x = md_input(n->g, "x", MD_F32, 2, MD_DIMS(ROWS, WIDTH));
    md_tensor *y = n->x;
    for (int i = 0; i < LAYERS; i++) {
        w[i] = md_extern(n->g, &n->weights, (int64_t)i * WIDTH * WIDTH, 2, MD_DIMS(WIDTH, WIDTH));
        y = md_silu(md_linear(y, w[i], NULL));
    }
    n->loss = md_sum(md_mul(y, y));
    MD_TRY(md_grad(n->loss, w, LAYERS, 0, grad));
    for (int i = 0; i < LAYERS; i++)
        out[i] = md_write(
            md_extern(n->g, &n->grads, (int64_t)i * WIDTH * WIDTH, 2, MD_DIMS(WIDTH, WIDTH)),
            grad[i]);
    out[LAYERS] = md_write(md_extern(n->g, &n->tail, 0, 1, MD_DIMS(1)), n->loss);
    MD_TRY(md_plan_build(n->g, n->be, out, LAYERS + 1, &n->p));
    return md_plan_load(n->p);
}

/* Another input each run, so that a replay that changed nothing would show. */
static md_status run(net *n, int r, float *grads, float *loss)
{
    float *host = malloc((size_t)N * sizeof *host);
    if (!host)
        MD_FAIL(MD_NOMEM, "out of memory");
    for (int i = 0; i < N; i++)
        host[i] = (float)(sin(0.37 * i + 1) / 16);
    md_status status = md_buffer_write(n->be, &n->weights, 0, host, MD_F32, N);
    for (int i = 0; i < ROWS * WIDTH; i++)
        host[i] = (float)cos(0.11 * i + r);
    if (status == MD_OK)
        status = md_plan_write(n->p, n->x, host, MD_F32, ROWS * WIDTH);
    if (status == MD_OK)
        status = md_plan_run(n->p);
    if (status == MD_OK)
        status = md_buffer_read(n->be, &n->grads, 0, grads, MD_F32, N);
    if (status == MD_OK)
        status = md_buffer_read(n->be, &n->tail, 0, loss, MD_F32, 1);
    free(host);
    return status;
}

static void drop(net *n)
{
    md_plan_free(n->p);
    md_graph_free(n->g);
    md_buffer_release(n->be, &n->weights);
    md_buffer_release(n->be, &n->grads);
    md_buffer_release(n->be, &n->tail);
}

static md_status compare(net *gpu, net *cpu, train_reduce *reduce, float *a, float *b)
{
    float loss[2];
    for (int r = 0; r < RUNS; r++) {
        double most = 0, worst = 0;
        MD_TRY(run(gpu, r, a, &loss[0]));
        MD_TRY(train_reduce_wait(reduce, r, 60));
        MD_TRY(run(cpu, r, b, &loss[1]));
        for (int i = 0; i < N; i++) {
            most = fmax(most, fabs((double)b[i]));
            worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
        }
        printf(
            "run %d (%s): loss %.7g, on the processor %.7g; gradients off by %.2g of the largest\n",
            r,
            r == 0   ? "launched"
            : r == 1 ? "recorded"
                     : "replayed",
            (double)loss[0], (double)loss[1], worst / most);
        if (!(worst <= TOLERANCE * most) || !(fabs((double)(loss[0] / loss[1]) - 1) <= TOLERANCE))
            MD_FAIL(MD_INTERNAL, "run %d differs by more than %g", r, TOLERANCE);
    }
    return MD_OK;
}

static md_status check(net *gpu, net *cpu)
{
    comm_device *device = NULL;
    const backend_options o = {
        .device = "cuda", .sharing = 1, .workspace_mib = 64, .deterministic = true};
    MD_TRY(backend_open(&o, &gpu->be));
    MD_TRY(cpu_backend_open(&cpu->be, 2));
    MD_TRY(build(gpu));
    MD_TRY(build(cpu));
    MD_TRY(comm_device_new(comm_workers(), backend_identity(gpu->be), true, 60, &device));
    if (!device)
        MD_FAIL(MD_UNSUPPORTED, "no communicator of GPUs: is this build without NCCL?");
    train_reduce reduce = {.be = gpu->be,
                           .workers = comm_workers(),
                           .device = device,
                           .gradients = {&gpu->grads},
                           .n_gradients = 1,
                           .tail = &gpu->tail};
    float *a = malloc(N * sizeof *a), *b = malloc(N * sizeof *b);
    md_status status = a && b ? MD_OK : md_fail(MD_NOMEM, __FILE__, __LINE__, "out of memory");
    if (status == MD_OK)
        status = train_reduce_overlap(&reduce, gpu->p);
    if (status == MD_OK)
        status = compare(gpu, cpu, &reduce, a, b);
    free(a);
    free(b);
    train_reduce_close(&reduce);
    drop(gpu); /* the recording holds the communicator's kernels */
    comm_device_free(device);
    drop(cpu);
    return status;
}

int main(int argc, char **argv)
{
    net gpu = {0}, cpu = {0};
    if (comm_init(&argc, &argv) != MD_OK) {
        fprintf(stderr, "%s\n", md_status_text());
        return 1;
    }
    md_status status = check(&gpu, &cpu);
    if (status != MD_OK)
        fprintf(stderr, "test_gpu_nccl: %s\n", md_status_text());
    if (comm_finalize() != MD_OK)
        return 1;
    return status == MD_OK ? 0 : status == MD_USAGE || status == MD_UNSUPPORTED ? 77 : 1;
}
