/* The processor backend: own AVX2 kernels and oneDNN, OpenMP threads, f32 and bf16 storage.
   Forward results depend neither on the number of threads nor on the other samples of a batch. */
#ifndef MD_BACKEND_CPU_CPU_H
#define MD_BACKEND_CPU_CPU_H

#include "graph/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* threads 0: as many as this process may use. Close with (*out)->ops->close. */
MD_MUST md_status cpu_backend_open(md_backend **out, int threads);
/* The first instruction set that this was compiled for (MEDDIFF_ARCH) and the processor lacks, or
   "": the first kernel would end the process with SIGILL. */
const char *cpu_backend_lacks(void);

#ifdef __cplusplus
}
#endif
#endif
