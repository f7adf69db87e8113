/* doctor: GPUs and kernels: a small network on each device against the reference, and the sum of
   all GPUs. */
#include "backend/open.h"
#include "backend/ref/ref.h"
#include "comm/comm.h"
#include "comm/device.h"
#include "doctor.h"
#include "graph/plan.h"
#include "ops/ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EDGE = 16, WIDTH = 32, N_X = EDGE * EDGE * WIDTH, N_W = WIDTH * 9 * WIDTH };
static const double NEAR = 1e-4; /* relative to the largest value, in f32 */

/* What a worker found of its device. */
typedef struct finding {
    char text[DOCTOR_TEXT], fault[2 * DOCTOR_TEXT];
    bool gpu;
} finding;

/* ---- a convolution, an activation, a linear layer */

static float value(int i, int of)
{
    return (float)((i * 37 + of) % 101) / 101 - 0.5F;
}

static md_status write_input(md_plan *p, md_tensor *x, int n)
{
    float *host = malloc((size_t)n * sizeof *host);
    if (!host)
        MD_FAIL(MD_NOMEM, "no memory for %d numbers", n);
    for (int i = 0; i < n; i++)
        host[i] = value(i, n);
    md_status status = md_plan_write(p, x, host, MD_F32, n);
    free(host);
    return status;
}

static md_status compute(md_backend *be, float *y)
{
    md_graph *g = NULL;
    md_plan *p = NULL;
    MD_TRY(md_graph_new(&g));
    md_tensor *x = md_input(g, "x", MD_F32, 4, MD_DIMS(1, EDGE, EDGE, WIDTH));
    md_tensor *w = md_input(g, "w", MD_F32, 4, MD_DIMS(WIDTH, 3, 3, WIDTH));
    md_tensor *v = md_input(g, "v", MD_F32, 2, MD_DIMS(WIDTH, WIDTH));
    md_tensor *out = md_linear(md_silu(md_conv2d(x, w, NULL, 1, 1, 1, 1, 1)), v, NULL);
    md_status status = md_plan_build(g, be, &out, 1, &p);
    if (status == MD_OK)
        status = md_plan_load(p);
    if (status == MD_OK)
        status = write_input(p, x, N_X);
    if (status == MD_OK)
        status = write_input(p, w, N_W);
    if (status == MD_OK)
        status = write_input(p, v, WIDTH * WIDTH);
    if (status == MD_OK)
        status = md_plan_run(p);
    if (status == MD_OK)
        status = md_plan_read(p, out, y, MD_F32, N_X);
    md_plan_free(p);
    md_graph_free(g);
    return status;
}

/* On `be`, against the reference. */
static md_status check_kernels(md_backend *be)
{
    static float got[N_X], wanted[N_X];
    md_backend *ref = NULL;
    double most = 0, off = 0;
    MD_TRY(ref_backend_open(&ref));
    md_status status = compute(ref, wanted);
    ref->ops->close(ref);
    if (status == MD_OK)
        status = compute(be, got);
    MD_TRY(status);
    for (int i = 0; i < N_X; i++) {
        most = fmax(most, fabs((double)wanted[i]));
        off = fmax(off, fabs((double)got[i] - (double)wanted[i]));
        if (!isfinite(got[i]))
            off = INFINITY;
    }
    if (!(off <= NEAR * most))
        MD_FAIL(MD_DEVICE, "a small network gives wrong numbers, off by %.1g of %.1g", off, most);
    return MD_OK;
}

/* ---- one device */

static md_status open_device(const char *name, const config *c, int index, md_backend **be)
{
    backend_options o = {.device = name,
                         .sharing = 1,
                         .index = index,
                         .workspace_mib = config_int(c, KEY_memory_workspace)};
    return backend_open(&o, be);
}

/* GPU `index`; *be stays open for what comes, NULL where it does not open. */
static void look_at(const config *c, int index, finding *f, md_backend **be)
{
    size_t left = 0, all = 0;
    char size[DOCTOR_SIZE];
    *be = NULL;
    md_status status = open_device("cuda", c, index, be);
    if (status == MD_OK)
        status = check_kernels(*be);
    if (status == MD_OK)
        status = (*be)->ops->queues->memory(*be, &left, &all);
    f->gpu = *be != NULL;
    if (*be)
        (void)snprintf(f->text, sizeof f->text, "%s, %s free; its kernels agree", backend_text(*be),
                       doctor_size(size, (double)left));
    if (status != MD_OK)
        (void)snprintf(f->fault, sizeof f->fault, "%s", md_status_text());
}

static void tell(doctor *d, const char *where, const finding *f)
{
    if (!*f->fault)
        doctor_ok(d, "GPU", "%s%s", where, f->text);
    else if (config_choice(d->cfg, KEY_device) == 2 || f->gpu)
        doctor_missing(d, "GPU",
                       "%s%s: nvidia-smi shows the driver's view; another GPU by "
                       "CUDA_VISIBLE_DEVICES, or --set device=cpu",
                       where, f->fault);
    else
        doctor_warn(d, "GPU", "%s%s", where, f->fault);
}

/* ---- all of them */

/* A float of each GPU, summed by NCCL. Collective(workers). */
static md_status sum_of_all(md_backend *be, comm_device *dev)
{
    float one = 1, sum = 0;
    void *p = NULL;
    MD_TRY(be->ops->alloc(be, sizeof one, &p));
    md_status status = be->ops->write(be, p, MD_F32, &one, MD_F32, 1);
    if (status == MD_OK)
        status = be->ops->queues->fork(be);
    if (status == MD_OK)
        status = comm_device_sum(dev, p, 1, COMM_DEVICE_F32, be->ops->queues->side(be));
    if (status == MD_OK)
        status = be->ops->queues->join(be);
    if (status == MD_OK)
        status = be->ops->read(be, p, MD_F32, &sum, MD_F32, 1);
    be->ops->release(be, p);
    MD_TRY(status);
    if (sum != (float)comm_size(comm_workers()))
        MD_FAIL(MD_COMM, "%d GPUs count themselves as %g", comm_size(comm_workers()), sum);
    return MD_OK;
}

/* Collective(workers), where there are several. */
static void try_nccl(md_backend *be, finding *f)
{
    enum { SECONDS = 60 };
    comm_device *dev = NULL;
    if (comm_size(comm_workers()) == 1)
        return;
    md_status status =
        comm_device_new(comm_workers(), be ? backend_identity(be) : "", false, SECONDS, &dev);
    if (status == MD_OK && dev)
        status = sum_of_all(be, dev);
    if (status != MD_OK)
        (void)snprintf(f->fault, sizeof f->fault,
                       "NCCL: %s; NCCL_DEBUG=INFO says more, NCCL_SOCKET_IFNAME names the network",
                       md_status_text());
    comm_device_free(dev);
}

static void look_as_worker(doctor *d, int n)
{
    finding mine = {.gpu = false}, *all = NULL;
    md_backend *be = NULL;
    char where[96];
    int size = comm_size(comm_world());
    bool works = comm_workers() != NULL;
    if (works && n > 0)
        look_at(d->cfg, comm_node_index(), &mine, &be);
    else if (works)
        (void)snprintf(mine.fault, sizeof mine.fault, "%s sees no GPU", comm_host());
    if (works)
        try_nccl(be, &mine);
    if (d->prints)
        all = calloc((size_t)size, sizeof *all);
    if (comm_gather(comm_world(), 0, &mine, sizeof mine, all, 0) != MD_OK)
        doctor_missing(d, "GPU", "a rank did not answer: %s", md_status_text());
    else
        for (int r = 1; all && r < size; r++) {
            (void)snprintf(where, sizeof where, "rank %d: ", r);
            tell(d, where, &all[r]);
        }
    free(all);
    if (be)
        be->ops->close(be);
}

static void look_alone(doctor *d, int n)
{
    char where[32];
    for (int i = 0; i < n; i++) {
        finding f = {.gpu = false};
        md_backend *be = NULL;
        look_at(d->cfg, i, &f, &be);
        (void)snprintf(where, sizeof where, "%d: ", i);
        tell(d, where, &f);
        if (be)
            be->ops->close(be);
    }
}

static void tell_of_none(doctor *d, const char *reason)
{
    bool driver = access("/proc/driver/nvidia/version", F_OK) == 0;
    if (config_choice(d->cfg, KEY_device) == 2)
        doctor_missing(d, "GPU",
                       "device = \"cuda\": %s: %s, or --set device=cpu to compute on the processor",
                       reason,
                       *backend_gpu_libraries() ? "install or load NVIDIA's driver; in a container "
                                                  "start it with docker --gpus all, apptainer --nv"
                                                : "build where CMake finds the CUDA toolkit and "
                                                  "cuDNN (-DMEDDIFF_CUDA=ON says what is missing)");
    else if (driver && !*backend_gpu_libraries())
        doctor_warn(d, "GPU",
                    "this machine has NVIDIA's driver, but this build has no CUDA: build where "
                    "CMake finds the CUDA toolkit and cuDNN (-DMEDDIFF_CUDA=ON)");
    else
        doctor_note(d, "GPU", "%s: it computes on the processor", reason);
}

static void check_processor(doctor *d)
{
    md_backend *be = NULL;
    md_status status = open_device("cpu", d->cfg, 0, &be);
    if (status == MD_OK)
        status = check_kernels(be);
    if (status == MD_OK)
        doctor_ok(d, "kernels", "the processor's agree with the reference");
    else
        doctor_missing(d, "kernels",
                       "%s: build the program anew on this machine, and pass its tests",
                       md_status_text());
    if (be)
        be->ops->close(be);
}

/* The most GPUs that a rank sees: rank 0 may stand on a machine without. Collective(world). */
static int most_of_all(int n)
{
    int size = comm_size(comm_world()), most = n;
    int *all = comm_rank(comm_world()) == 0 ? calloc((size_t)size, sizeof *all) : NULL;
    md_status status = comm_gather(comm_world(), 0, &n, sizeof n, all, 0);
    for (int r = 0; all && r < size; r++)
        most = all[r] > most ? all[r] : most;
    free(all);
    if (status == MD_OK)
        status = comm_broadcast(comm_world(), 0, &most, sizeof most, 0);
    return status == MD_OK ? most : 0;
}

void doctor_devices(doctor *d)
{
    int n = 0;
    char reason[BACKEND_REASON];
    if (!d->mpi && !d->prints)
        return;
    if (d->prints)
        check_processor(d);
    if (backend_gpus(&n, reason) != MD_OK) {
        n = 0;
        (void)snprintf(reason, sizeof reason, "%s", md_status_text());
    }
    if (d->prints && *backend_gpu_libraries())
        doctor_ok(d, "GPU", "%s, %s", backend_gpu_libraries(),
                  comm_nccl() ? comm_nccl() : "no NCCL: GPUs are summed through the host");
    bool several = d->mpi && comm_size(comm_world()) > 1;
    int any = several ? most_of_all(n) : n;
    if (config_choice(d->cfg, KEY_device) == 1)
        doctor_note(d, "GPU", "device = \"cpu\" leaves them alone");
    else if (any == 0)
        tell_of_none(d, reason);
    else if (several)
        look_as_worker(d, n);
    else
        look_alone(d, n);
}
