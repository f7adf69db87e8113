/* A CUDA runtime on host memory (fake_cudart.c), with the handles of cuDNN and cuBLASLt and a NCCL
   of one rank (fake_nccl.c): enough of each for backend/cuda's own calls. What is put on a stream
   runs as late as it may: when the host waits for it, or for an event behind it. So a missing wait
   shows as stale or torn data, every time. Recorded graphs run the same way, stream by stream.

   Misuse is a problem (fake_problems): a copy beyond an allocation or from memory that is not
   pinned, a handle after its destruction, writing to what was freed or behind an allocation's end,
   work left on a stream that is destroyed. */
#ifndef TESTS_CUDA_FAKE_H
#define TESTS_CUDA_FAKE_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Everything as at the start: one device of 1 GiB, empty log, nothing fails, late running. */
void fake_reset(void);
/* What cudaGetDeviceCount and cudaDriverGetVersion say. */
void fake_devices(int n, int count_error, int driver);
void fake_total_memory(size_t bytes);
void fake_compute_capability(int major, int minor);
/* True: what is put on a stream runs at once, unless it waits for an event. */
void fake_eager(bool on);

/* One line per call, "s1 h2d 64": streams are s1, s2 in order of creation; while recording
   "s1 [h2d 64]". What the host waits for is logged as "s1 sync" and "e1 sync". Calls without a
   stream are only counted. */
const char *fake_log_text(void);
void fake_log_clear(void);
/* The same for what ran, in the order in which it ran. */
const char *fake_ran_text(void);
/* Lines of the log that hold `text`. */
int fake_log_count(const char *text);
void fake_log_mark(const char *text); /* a line of the test's own */

/* The n-th call from now fails once, with its library's error (1: the next; 0: none). Calls that
   free something free it all the same. */
void fake_fail_at(long n);
long fake_calls(void);              /* since fake_fail_at or fake_reset */
const char *fake_call(long n);      /* the name of the n-th of these, from 1 */
const char *fake_failed_call(void); /* what fake_fail_at hit; NULL: nothing yet */
/* The next thing that runs on a stream fails; then every call does, as on a device. */
void fake_async_error(int cuda_error);
int fake_last_error(void); /* what cudaGetLastError would say */

/* Live allocations, streams, events, graphs and handles. */
int fake_leaks(void);
/* Number of problems; what they were, a line each. */
int fake_problems(void);
const char *fake_problem_text(void);

/* Puts run(closure) on a stream; drop(closure) when it will not be called again. Returns a
   cudaError_t. What gpu_host.cc's gpu_host_queue may be set to. */
int fake_enqueue(void *stream, const char *name, int (*run)(void *closure),
                 void (*drop)(void *closure), void *closure);

/* gpu_host.cc: where launches go; NULL: they run at once. */
extern int (*gpu_host_queue)(void *stream, const char *name, int (*run)(void *),
                             void (*drop)(void *), void *closure);

/* ---- fake_nccl.c: its calls are counted, logged and failed with the ones above */

/* ncclCommGetAsyncError answers ncclInProgress this often before each success. */
void fake_nccl_delay(int polls);
/* What ncclCommGetAsyncError says from now on (0: success). */
void fake_nccl_async_error(int nccl_result);
/* Sums are as if this many ranks had the same (1 at first). */
void fake_nccl_peers(int n);
int fake_nccl_leaks(void); /* communicators neither destroyed nor aborted, groups not ended */
void fake_nccl_reset(void);

/* ---- between the fakes */
int fake_enter(const char *call); /* counts the call; not 0: it must fail */
void fake_logf(void *stream, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void fake_problemf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool fake_on_device(const void *p, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
