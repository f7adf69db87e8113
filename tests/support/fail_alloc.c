#include "support/fail_alloc.h"

#include <stddef.h>

static _Thread_local long fail_at, count;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t m);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t m);
void *__wrap_realloc(void *p, size_t n);

void fail_alloc_at(long n)
{
    fail_at = n;
    count = 0;
}

long fail_alloc_count(void)
{
    return count;
}

void *__wrap_malloc(size_t n)
{
    return ++count == fail_at ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t m)
{
    return ++count == fail_at ? NULL : __real_calloc(n, m);
}

void *__wrap_realloc(void *p, size_t n)
{
    return ++count == fail_at ? NULL : __real_realloc(p, n);
}
