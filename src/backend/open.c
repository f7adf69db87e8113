#include "backend/open.h"
#include "backend/cpu/cpu.h"
#include "backend/ref/ref.h"
#include "base/log.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#ifdef MEDDIFF_CUDA
#include "backend/cuda/cuda.h"
#endif

/* At least one each. */
static int share_of_processors(int sharing)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > sharing ? (int)(n / sharing) : 1;
}

static md_status open_cpu(const backend_options *o, md_backend **out)
{
    bool share = o->threads <= 0 && o->sharing > 1;
    return cpu_backend_open(out, share ? share_of_processors(o->sharing) : o->threads);
}

/* Ignores the threads: it is an oracle, not a way to work. */
static md_status open_ref(const backend_options *o, md_backend **out)
{
    (void)o;
    return ref_backend_open(out);
}

#ifdef MEDDIFF_CUDA
md_status backend_gpus(int *n, char reason[BACKEND_REASON])
{
    MD_TRY(cuda_device_count(n));
    (void)snprintf(reason, BACKEND_REASON, "%s", *n == 0 ? md_status_text() : "");
    return MD_OK;
}

static md_status open_cuda(const backend_options *o, md_backend **out)
{
    cuda_options c = {.index = o->index,
                      .workspace_bytes = (size_t)o->workspace_mib << 20,
                      .cache = o->cache,
                      .deterministic = o->deterministic};
    MD_TRY(cuda_backend_open(&c, out));
    md_log_gpu((*out)->device);
    if (o->index == 0)
        md_info("device", "%s", cuda_backend_text(*out));
    return MD_OK;
}

static const char *gpu_identity(const md_backend *be)
{
    return strcmp(be->ops->name, "cuda") == 0 ? cuda_backend_uuid(be) : "";
}

static const char *gpu_text(const md_backend *be)
{
    return strcmp(be->ops->name, "cuda") == 0 ? cuda_backend_text(be) : "";
}

const char *backend_gpu_libraries(void)
{
    return cuda_libraries();
}
#else
md_status backend_gpus(int *n, char reason[BACKEND_REASON])
{
    *n = 0;
    (void)snprintf(reason, BACKEND_REASON, "this build has no CUDA");
    return MD_OK;
}

static md_status open_cuda(const backend_options *o, md_backend **out)
{
    (void)o;
    (void)out;
    MD_FAIL(MD_INTERNAL, "opened a device that this build lacks");
}

static const char *gpu_identity(const md_backend *be)
{
    (void)be;
    return "";
}

static const char *gpu_text(const md_backend *be)
{
    (void)be;
    return "";
}

const char *backend_gpu_libraries(void)
{
    return "";
}
#endif

/* Opens it, or says in `reason` why there is none that can be used: one too old for this build is
   as good as none; any other failure to open one is a failure. */
static md_status try_cuda(const backend_options *o, md_backend **out, char reason[BACKEND_REASON])
{
    int n = 0;
    MD_TRY(backend_gpus(&n, reason));
    if (n == 0)
        return MD_OK;
    md_status status = open_cuda(o, out);
    if (status != MD_UNSUPPORTED)
        return status;
    (void)snprintf(reason, BACKEND_REASON, "%s", md_status_text());
    return MD_OK;
}

static md_status open_auto(const backend_options *o, md_backend **out)
{
    char reason[BACKEND_REASON];
    md_backend *be = NULL;
    MD_TRY(try_cuda(o, &be, reason));
    if (be) {
        *out = be;
        return MD_OK;
    }
    md_status_clear();
    if (o->index == 0)
        md_info("device", "computing on the processor: %s", reason);
    return open_cpu(o, out);
}

static md_status open_asked(const backend_options *o, md_backend **out)
{
    char reason[BACKEND_REASON];
    md_backend *be = NULL;
    MD_TRY(try_cuda(o, &be, reason));
    if (!be)
        MD_FAIL(MD_USAGE, "device = \"cuda\": %s; \"cpu\" computes on the processor", reason);
    *out = be;
    return MD_OK;
}

static const struct {
    const char *name;
    md_status (*open)(const backend_options *o, md_backend **out);
} rows[] = {{"auto", open_auto}, {"cpu", open_cpu}, {"cuda", open_asked}, {"ref", open_ref}};

md_status backend_open(const backend_options *o, md_backend **out)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!strcmp(o->device, rows[i].name))
            return rows[i].open(o, out);
    MD_FAIL(MD_USAGE, "device \"%s\": there are auto, cpu and cuda", o->device);
}

const char *backend_identity(const md_backend *be)
{
    return gpu_identity(be);
}

const char *backend_text(const md_backend *be)
{
    return gpu_text(be);
}

const char *backend_cpu_lacks(void)
{
    return cpu_backend_lacks();
}
