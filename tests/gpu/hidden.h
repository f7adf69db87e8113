/* The CPU backend as if it were a device: its memory can be touched by write, read, zero and by
   kernels only; anything else ends in a segmentation fault. For trying what runs on a device where
   there is none. */
#ifndef MD_TESTS_GPU_HIDDEN_H
#define MD_TESTS_GPU_HIDDEN_H

#include "graph/backend.h"

/* What every kernel does wrong beside its work, to see that a test notices. */
typedef enum hidden_fault {
    HIDDEN_NONE,
    HIDDEN_GUARD, /* writes one byte behind its first output */
    HIDDEN_INPUT, /* changes its last input */
    HIDDEN_SKIP,  /* leaves its last run out */
    HIDDEN_VALUE  /* adds 2^-8 of it to one element of its first output */
} hidden_fault;

MD_MUST md_status hidden_backend_open(hidden_fault fault, md_backend **out);

#endif
