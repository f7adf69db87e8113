/* trace: what a GPU really did, kernel by kernel, also inside replayed CUDA graphs, where a fence
   behind each op would cost more than the op. A library that the driver loads into any program,
   ours or PyTorch:

     cc -shared -fPIC -O2 -I/usr/local/cuda/include tests/bench/trace.c -o trace.so
   -L/usr/local/cuda/lib64 -lcupti CUDA_INJECTION64_PATH=$PWD/trace.so MEDDIFF_TRACE=trace.csv
   meddiff bench ... python3 tests/bench/trace.py trace.csv

   Lines of the file: begin and duration in ns, grid, block, name. */
#include <cupti.h>
#include <stdio.h>
#include <stdlib.h>

enum { BUFFER = 8 << 20 };

static FILE *out;

static void CUPTIAPI request(uint8_t **buffer, size_t *size, size_t *records)
{
    *buffer = aligned_alloc(8, BUFFER);
    *size = *buffer ? BUFFER : 0;
    *records = 0;
}

static void CUPTIAPI complete(CUcontext context, uint32_t stream, uint8_t *buffer, size_t size,
                              size_t valid)
{
    CUpti_Activity *a = NULL;
    (void)context;
    (void)stream;
    (void)size;
    while (out && cuptiActivityGetNextRecord(buffer, valid, &a) == CUPTI_SUCCESS) {
        if (a->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
            const CUpti_ActivityKernel10 *k = (const CUpti_ActivityKernel10 *)a;
            (void)fprintf(out, "%llu,%llu,%dx%dx%d,%d,%s\n", (unsigned long long)k->start,
                          (unsigned long long)(k->end - k->start), k->gridX, k->gridY, k->gridZ,
                          k->blockX * k->blockY * k->blockZ, k->name);
        } else if (a->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
            const CUpti_ActivityMemcpy6 *k = (const CUpti_ActivityMemcpy6 *)a;
            (void)fprintf(out, "%llu,%llu,%llu,0,memcpy kind %d\n", (unsigned long long)k->start,
                          (unsigned long long)(k->end - k->start), (unsigned long long)k->bytes,
                          k->copyKind);
        } else if (a->kind == CUPTI_ACTIVITY_KIND_MEMSET) {
            const CUpti_ActivityMemset4 *k = (const CUpti_ActivityMemset4 *)a;
            (void)fprintf(out, "%llu,%llu,%llu,0,memset\n", (unsigned long long)k->start,
                          (unsigned long long)(k->end - k->start), (unsigned long long)k->bytes);
        }
    }
    free(buffer);
}

static void finish(void)
{
    (void)cuptiActivityFlushAll(1);
    if (out && fclose(out) != 0)
        perror("trace");
    out = NULL;
}

/* Called by the driver when the program first uses it. */
int InitializeInjection(void)
{
    const char *path = getenv("MEDDIFF_TRACE");
    out = fopen(path ? path : "trace.csv", "w");
    if (!out) {
        perror("trace");
        return 0;
    }
    if (cuptiActivityRegisterCallbacks(request, complete) != CUPTI_SUCCESS ||
        cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) != CUPTI_SUCCESS ||
        cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMCPY) != CUPTI_SUCCESS ||
        cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMSET) != CUPTI_SUCCESS)
        (void)fprintf(stderr, "trace: CUPTI refuses\n");
    (void)atexit(finish);
    return 1;
}
