/* A fixed-size hash map of byte strings. */
#include "format/strmap.h"

#include <string.h>

md_status format__strmap_new(md_arena *a, int64_t n, strmap *out)
{
    uint32_t size = 16;
    if (n < 0 || n > 1 << 28)
        MD_FAIL(MD_BAD_INPUT, "a table of %lld strings", (long long)n);
    while ((int64_t)size < 2 * n)
        size *= 2;
    out->slots = md_arena_alloc(a, size * sizeof *out->slots);
    if (!out->slots)
        MD_FAIL(MD_NOMEM, "no memory for a table of %lld strings", (long long)n);
    out->mask = size - 1;
    return MD_OK;
}

/* The key's slot, or the free one where it belongs. */
static strmap_slot *slot_of(const strmap *m, const char *key, size_t n, uint32_t *hash)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)key[i]) * 16777619u;
    *hash = h;
    for (uint32_t i = h & m->mask;; i = (i + 1) & m->mask) {
        strmap_slot *s = &m->slots[i];
        if (!s->key || (s->hash == h && s->n == n && !memcmp(s->key, key, n)))
            return s;
    }
}

md_status format__strmap_put(strmap *m, md_arena *a, const char *key, size_t n, int32_t value)
{
    uint32_t hash;
    strmap_slot *s = slot_of(m, key, n, &hash);
    if (!s->key) {
        if (m->used == m->mask)
            MD_FAIL(MD_INTERNAL, "a table of %u strings is full", m->mask);
        char *copy = md_arena_alloc(a, n + 1);
        if (!copy)
            MD_FAIL(MD_NOMEM, "no memory for a table of strings");
        memcpy(copy, key, n);
        *s = (strmap_slot){copy, (uint32_t)n, hash, value};
        m->used++;
    }
    s->value = value;
    return MD_OK;
}

int32_t format__strmap_get(const strmap *m, const char *key, size_t n)
{
    uint32_t hash;
    const strmap_slot *s = slot_of(m, key, n, &hash);
    return s->key ? s->value : -1;
}
