/* Bump allocator: many small objects, one lifetime. Owned by a graph, a parsed document, a config.
 */
#ifndef MD_BASE_ARENA_H
#define MD_BASE_ARENA_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct md_arena md_arena;

md_arena *md_arena_new(void);                    /* NULL when out of memory */
void md_arena_free(md_arena *a);                 /* NULL is fine */
void *md_arena_alloc(md_arena *a, size_t bytes); /* zeroed, 16-aligned; NULL when out of memory */
char *md_arena_strdup(md_arena *a, const char *s);
char *md_arena_printf(md_arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
size_t md_arena_bytes(const md_arena *a);

#ifdef __cplusplus
}
#endif
#endif
