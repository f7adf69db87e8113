/* The training of test_step.c with backend/cuda's own kernels. */
#define OWN_KERNELS
#include "test_step.c"
