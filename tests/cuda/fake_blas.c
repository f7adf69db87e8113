/* cuBLASLt's products, and the runtime calls around both libraries. Matrices are walked by rows,
   columns and leading dimension as the layouts say. */
#include "fake_vendor.h"
#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

fake_vendor fake;

void fake_reset(void)
{
    fake = (fake_vendor){.live = fake.live, .n_offers = 3, .last = -1};
    fake.offers[0].ms = 3;
    fake.offers[1] = (fake_offer){.ms = 1, .workspace = 1000};
    fake.offers[2] = (fake_offer){.ms = 2, .workspace = 64};
}

bool fake_fails(const char *call)
{
    if (++fake.calls != fake.fail_at)
        return false;
    fake.failed = call;
    return true;
}

void fake_put(char what, const void *stream)
{
    size_t n = strlen(fake.order);
    if (n + 1 < sizeof fake.order)
        fake.order[n] = what;
    if (stream != fake.stream)
        fake_violation("'%c' is put on another stream", what);
}

void fake_violation(const char *fmt, ...)
{
    va_list args;
    if (fake.violations++)
        return;
    va_start(args, fmt);
    vsnprintf(fake.violation, sizeof fake.violation, fmt, args);
    va_end(args);
}

double fake_load(const void *p, bool bf16, int64_t i)
{
    if (!bf16) {
        float f;
        memcpy(&f, (const char *)p + 4 * i, sizeof f);
        return f;
    }
    uint16_t bits;
    memcpy(&bits, (const char *)p + 2 * i, sizeof bits);
    uint32_t u = (uint32_t)bits << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

void fake_store(void *p, bool bf16, int64_t i, double v)
{
    float f = (float)v;
    if (!bf16) {
        memcpy((char *)p + 4 * i, &f, sizeof f);
        return;
    }
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    uint16_t bits = (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
    if (f != f)
        bits = 0x7fc0;
    memcpy((char *)p + 2 * i, &bits, sizeof bits);
}

/* ---- the runtime */

static cudaError_t outcome(const char *call)
{
    return fake_fails(call) ? cudaErrorUnknown : cudaSuccess;
}

cudaError_t cudaMalloc(void **p, size_t n)
{
    if (fake_fails("cudaMalloc") || fake.no_memory)
        return cudaErrorMemoryAllocation;
    *p = aligned_alloc(256, (n + 255) / 256 * 256);
    fake.live += *p != NULL;
    return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFree(void *p)
{
    fake.live -= p != NULL;
    free(p);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t n, cudaStream_t stream)
{
    (void)stream;
    memset(p, value, n);
    return outcome("cudaMemsetAsync");
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    (void)stream;
    return outcome("cudaStreamSynchronize");
}

cudaError_t cudaGetLastError(void)
{
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *v)
{
    *v = 13000;
    return outcome("cudaDriverGetVersion");
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags)
{
    (void)flags;
    if (fake_fails("cudaEventCreateWithFlags"))
        return cudaErrorMemoryAllocation;
    *e = (cudaEvent_t)calloc(1, sizeof(double));
    fake.live++;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t stream)
{
    (void)stream;
    *(double *)(void *)e = fake.clock_ms;
    return outcome("cudaEventRecord");
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    (void)e;
    return outcome("cudaEventSynchronize");
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    *ms = (float)(*(double *)(void *)to - *(double *)(void *)from);
    return outcome("cudaEventElapsedTime");
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    fake.live--;
    free(e);
    return cudaSuccess;
}

/* ---- cuBLASLt */

typedef struct matmul {
    cublasComputeType_t compute;
    int32_t ta, tb, bias_type;
    uint32_t epilogue;
    const void *bias;
} matmul;

typedef struct layout {
    cudaDataType type;
    uint64_t rows, cols;
    int64_t ld;
} layout;

typedef struct preference {
    uint64_t workspace;
    uint32_t schemes, alignment[4];
} preference;

static cublasStatus_t make(const char *call, void *out, size_t bytes)
{
    void *p = fake_fails(call) ? NULL : calloc(1, bytes);
    if (!p)
        return CUBLAS_STATUS_ALLOC_FAILED;
    fake.live++;
    memcpy(out, &p, sizeof p);
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t drop(void *p)
{
    fake.live--;
    free(p);
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t take(const char *call, void *to, size_t bytes, const void *from, size_t given)
{
    if (fake_fails(call))
        return CUBLAS_STATUS_INTERNAL_ERROR;
    if (bytes != given) {
        fake_violation("%s: %zu bytes in place of %zu", call, given, bytes);
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    memcpy(to, from, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion(void)
{
    return CUBLAS_VERSION;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute,
                                        cudaDataType_t scale)
{
    if ((compute != CUBLAS_COMPUTE_32F && compute != CUBLAS_COMPUTE_32F_FAST_TF32) ||
        scale != CUDA_R_32F)
        fake_violation("compute type %d, scale type %d", compute, scale);
    cublasStatus_t s = make("cublasLtMatmulDescCreate", out, sizeof(matmul));
    if (s == CUBLAS_STATUS_SUCCESS)
        *(matmul *)(void *)*out = (matmul){.compute = compute, .bias_type = -1};
    return s;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
    return drop(d);
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t a, const void *v,
                                              size_t n)
{
    matmul *d = (matmul *)(void *)desc;
    const char *call = "cublasLtMatmulDescSetAttribute";
    switch (a) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return take(call, &d->ta, sizeof d->ta, v, n);
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return take(call, &d->tb, sizeof d->tb, v, n);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return take(call, &d->epilogue, sizeof d->epilogue, v, n);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return take(call, &d->bias, sizeof d->bias, v, n);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
        return take(call, &d->bias_type, sizeof d->bias_type, v, n);
    default:
        fake_violation("%s: attribute %d", call, a);
        return CUBLAS_STATUS_INVALID_VALUE;
    }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type,
                                          uint64_t rows, uint64_t cols, int64_t ld)
{
    if (rows < 1 || cols < 1 || ld < (int64_t)rows || (type != CUDA_R_32F && type != CUDA_R_16BF))
        fake_violation("layout %llu x %llu, ld %lld", (unsigned long long)rows,
                       (unsigned long long)cols, (long long)ld);
    cublasStatus_t s = make("cublasLtMatrixLayoutCreate", out, sizeof(layout));
    if (s == CUBLAS_STATUS_SUCCESS)
        *(layout *)(void *)*out = (layout){type, rows, cols, ld};
    return s;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    return drop(l);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    cublasStatus_t s = make("cublasLtMatmulPreferenceCreate", out, sizeof(preference));
    if (s == CUBLAS_STATUS_SUCCESS)
        *(preference *)(void *)*out =
            (preference){0, CUBLASLT_REDUCTION_SCHEME_MASK, {256, 256, 256, 256}};
    return s;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    return drop(p);
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t pref,
                                                    cublasLtMatmulPreferenceAttributes_t a,
                                                    const void *v, size_t n)
{
    preference *p = (preference *)(void *)pref;
    const char *call = "cublasLtMatmulPreferenceSetAttribute";
    switch (a) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return take(call, &p->workspace, sizeof p->workspace, v, n);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        return take(call, &p->schemes, sizeof p->schemes, v, n);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
        return take(call, &p->alignment[0], sizeof(uint32_t), v, n);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
        return take(call, &p->alignment[1], sizeof(uint32_t), v, n);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
        return take(call, &p->alignment[2], sizeof(uint32_t), v, n);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return take(call, &p->alignment[3], sizeof(uint32_t), v, n);
    default:
        fake_violation("%s: attribute %d", call, a);
        return CUBLAS_STATUS_INVALID_VALUE;
    }
}

/* What an algorithm remembers: its offer and what was promised to it. */
typedef struct algorithm {
    int64_t offer;
    uint32_t alignment[4];
} algorithm;

static bool fits(const matmul *m, const layout *a, const layout *b, const layout *c,
                 const layout *d)
{
    uint64_t rows = m->ta == CUBLAS_OP_T ? a->cols : a->rows;
    uint64_t inner = m->ta == CUBLAS_OP_T ? a->rows : a->cols;
    return rows == d->rows && inner == (m->tb == CUBLAS_OP_T ? b->cols : b->rows) &&
           (m->tb == CUBLAS_OP_T ? b->rows : b->cols) == d->cols && c->rows == d->rows &&
           c->cols == d->cols && a->type == b->type && c->type == d->type &&
           (d->type == a->type || d->type == CUDA_R_32F);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t pref, int asked,
                                              cublasLtMatmulHeuristicResult_t result[], int *n)
{
    const matmul *m = (const matmul *)(void *)desc;
    const preference *p = (const preference *)(void *)pref;
    (void)handle;
    fake.asked++;
    if (fake_fails("cublasLtMatmulAlgoGetHeuristic"))
        return CUBLAS_STATUS_INTERNAL_ERROR;
    if (!fits(m, (layout *)(void *)a, (layout *)(void *)b, (layout *)(void *)c,
              (layout *)(void *)d) ||
        p->schemes & ~(uint32_t)CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE)
        fake_violation("the product's matrices do not fit, or sums may be rounded");
    *n = 0;
    if (fake.refuse_fused && m->epilogue != CUBLASLT_EPILOGUE_DEFAULT)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    for (int i = 0; i < fake.n_offers && *n < asked; i++) {
        if (fake.offers[i].workspace > p->workspace)
            continue;
        cublasLtMatmulHeuristicResult_t *r = &result[(*n)++];
        memset(r, 0, sizeof *r);
        algorithm algo = {.offer = i};
        memcpy(algo.alignment, p->alignment, sizeof algo.alignment);
        memcpy(&r->algo, &algo, sizeof algo);
        r->workspaceSize = fake.offers[i].workspace;
        r->state = fake.offers[i].broken ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
    }
    return *n ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

static double element(const void *p, const layout *l, bool transposed, uint64_t row, uint64_t col)
{
    uint64_t r = transposed ? col : row, c = transposed ? row : col;
    return fake_load(p, l->type == CUDA_R_16BF, (int64_t)r + (int64_t)c * l->ld);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha,
                              const void *A, cublasLtMatrixLayout_t al, const void *B,
                              cublasLtMatrixLayout_t bl, const void *beta, const void *C,
                              cublasLtMatrixLayout_t cl, void *D, cublasLtMatrixLayout_t dl,
                              const cublasLtMatmulAlgo_t *algo, void *workspace, size_t bytes,
                              cudaStream_t stream)
{
    const matmul *m = (const matmul *)(void *)desc;
    const layout *a = (const layout *)(void *)al, *b = (const layout *)(void *)bl;
    const layout *c = (const layout *)(void *)cl, *d = (const layout *)(void *)dl;
    const void *at[4] = {A, B, C, D};
    algorithm how;
    (void)handle;
    fake_put('p', stream);
    memcpy(&how, algo, sizeof how);
    if (fake_fails("cublasLtMatmul") || fake.offers[how.offer].crashes)
        return CUBLAS_STATUS_EXECUTION_FAILED;
    for (int i = 0; i < 4; i++)
        if ((uintptr_t)at[i] % how.alignment[i])
            fake_violation("matrix %d is not as aligned as promised", i);
    if (bytes != fake.offers[how.offer].workspace || (bytes && (uintptr_t)workspace % 256))
        fake_violation("workspace %p of %zu bytes", workspace, bytes);
    else if (bytes)
        memset(workspace, 0xee, bytes); /* operands that lie in it are lost */
    bool biased = m->epilogue == CUBLASLT_EPILOGUE_BIAS;
    if (biased && m->bias_type != (int32_t)d->type)
        fake_violation("bias of type %d", m->bias_type);
    uint64_t K = m->ta == CUBLAS_OP_T ? a->rows : a->cols;
    for (uint64_t j = 0; j < d->cols; j++)
        for (uint64_t i = 0; i < d->rows; i++) {
            double sum = 0;
            for (uint64_t k = 0; k < K; k++)
                sum += element(A, a, m->ta == CUBLAS_OP_T, i, k) *
                       element(B, b, m->tb == CUBLAS_OP_T, k, j);
            sum *= *(const float *)alpha;
            if (*(const float *)beta != 0)
                sum += *(const float *)beta * element(C, c, false, i, j);
            if (biased)
                sum += fake_load(m->bias, d->type == CUDA_R_16BF, (int64_t)i);
            fake_store(D, d->type == CUDA_R_16BF, (int64_t)i + (int64_t)j * d->ld, sum);
        }
    if (bytes)
        memset(workspace, 0xee, bytes); /* and so is the result */
    fake.executions++;
    fake.last = (int)how.offer;
    fake.clock_ms += fake.offers[how.offer].ms;
    return CUBLAS_STATUS_SUCCESS;
}
