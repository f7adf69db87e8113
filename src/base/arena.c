/* Bump allocator: blocks in a list, the newest one in use; sizes double up to 1 MiB. */
#include "base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_BLOCK = 4096, LARGEST_BLOCK = 1 << 20 };

typedef struct block {
    struct block *next;
    size_t size, used;
    _Alignas(16) unsigned char data[];
} block;

struct md_arena {
    block *newest;
    size_t next_size, handed_out;
};

md_arena *md_arena_new(void)
{
    md_arena *a = calloc(1, sizeof *a);
    if (a)
        a->next_size = FIRST_BLOCK;
    return a;
}

void md_arena_free(md_arena *a)
{
    if (!a)
        return;
    for (block *b = a->newest, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(a);
}

void *md_arena_alloc(md_arena *a, size_t bytes)
{
    if (bytes > SIZE_MAX / 2)
        return NULL;
    size_t rounded = (bytes + 15) & ~(size_t)15;
    if (rounded == 0)
        rounded = 16; /* distinct addresses even for nothing */
    block *b = a->newest;
    if (!b || b->size - b->used < rounded) {
        size_t size = rounded > a->next_size ? rounded : a->next_size;
        b = calloc(1, sizeof *b + size);
        if (!b)
            return NULL;
        b->size = size;
        b->next = a->newest;
        a->newest = b;
        if (a->next_size < LARGEST_BLOCK)
            a->next_size *= 2;
    }
    void *p = b->data + b->used;
    b->used += rounded;
    a->handed_out += rounded;
    return p;
}

char *md_arena_strdup(md_arena *a, const char *s)
{
    size_t n = strlen(s) + 1;
    char *p = md_arena_alloc(a, n);
    if (p)
        memcpy(p, s, n);
    return p;
}

char *md_arena_printf(md_arena *a, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    char *p = n < 0 ? NULL : md_arena_alloc(a, (size_t)n + 1);
    if (p)
        (void)vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return p;
}

size_t md_arena_bytes(const md_arena *a)
{
    return a->handed_out;
}
