/* See runtime_ops.c. */
#ifndef TESTS_CUDA_RUNTIME_OPS_H
#define TESTS_CUDA_RUNTIME_OPS_H

/* The processor behind the ops without a kernel; after the last plan is freed. */
void runtime_ops_close(void);

#endif
