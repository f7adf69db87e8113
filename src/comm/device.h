/* Sums over the workers' GPUs by NCCL, enqueued on a stream of the caller. The workers of `c` find
   each other over MPI, so a worker that never comes is noticed by a deadline; afterwards NCCL
   notices nothing by itself, so whoever waits for a stream asks comm_device_check meanwhile, and
   aborts. Built without NCCL every function says MD_UNSUPPORTED, and comm_device_new gives NULL. */
#ifndef MD_COMM_DEVICE_H
#define MD_COMM_DEVICE_H

#include "comm/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct comm_device comm_device;
typedef enum comm_device_type { COMM_DEVICE_F32, COMM_DEVICE_BF16 } comm_device_type;

/* `gpu`: a text that tells the GPUs of one host apart (its UUID), "" on a worker without one; the
   GPU must be the process's current one. *out is NULL, on all workers alike, where two of them have
   the same GPU or one has none: then sum on the host.
   deterministic: the same sums in the same order on every run with these workers. NCCL promises
   this for one topology, algorithm and protocol, so the last two are fixed (NCCL_ALGO=Ring,
   NCCL_PROTO=Simple, unless the user set them); another number of workers or other links between
   them may still add in another order. timeout_s 0: the default. Collective(c). */
MD_MUST md_status comm_device_new(comm *c, const char *gpu, bool deterministic, double timeout_s,
                                  comm_device **out);
/* Waits for what was enqueued to be done on every worker, at most the timeout of
   comm_device_new; then aborts. Collective(c), but nobody waits for ever. */
void comm_device_free(comm_device *d);

/* What is being done, for messages: "step 12: all-reduce of bucket 3". Copied. Local. */
void comm_device_phase(comm_device *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Enqueues x[n] = the sum of x over the workers on `stream` (a cudaStream_t); may be recorded.
   Collective(c), in the same order on all. */
MD_MUST md_status comm_device_sum(comm_device *d, void *x, int64_t n, comm_device_type type,
                                  void *stream);
/* Sums between the two are launched together. */
MD_MUST md_status comm_device_group_begin(comm_device *d);
MD_MUST md_status comm_device_group_end(comm_device *d);

/* MD_COMM naming rank, host and phase when a sum went wrong on this worker or a peer. Local. */
MD_MUST md_status comm_device_check(comm_device *d);
/* Ends what is on the streams at once; only comm_device_free may follow. Local. */
void comm_device_abort(comm_device *d);

#ifdef __cplusplus
}
#endif
#endif
