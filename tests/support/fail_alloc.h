/* Lets the n-th allocation fail: "the n-th allocation fails, for all n, in each constructor".
   A test that includes this file is linked with malloc, calloc and realloc wrapped (CMake). */
#ifndef MD_TESTS_FAIL_ALLOC_H
#define MD_TESTS_FAIL_ALLOC_H

/* The n-th allocation from now fails, once (1 = the next); 0 = none. */
void fail_alloc_at(long n);
/* Allocations since fail_alloc_at. */
long fail_alloc_count(void);

#endif
