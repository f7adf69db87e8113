/* Inside src/format only: the tables that tokenizer_read.c fills and tokenizer.c uses. */
#ifndef MD_FORMAT_TOKENIZER_INTERNAL_H
#define MD_FORMAT_TOKENIZER_INTERNAL_H

#include "format/strmap.h"
#include "format/tokenizer.h"

/* a then b become result; the lowest rank goes first; rank < 0: a free slot. */
typedef struct merge {
    int32_t a, b, rank, result;
} merge;

enum { SPECIAL_START, SPECIAL_END, SPECIAL_PAD, SPECIAL_UNKNOWN, N_SPECIAL };

struct format_tokenizer {
    md_arena *arena;               /* holds everything below, and this */
    strmap symbols;                /* text -> symbol: vocabulary, parts and results of merges */
    int32_t n_symbols, *symbol_id; /* symbol -> vocabulary id or -1 */
    int32_t byte_symbol[2][256];   /* [1]: with </w>; -1 when no table has it */
    merge *merges;
    uint32_t merge_mask;
    const char **tokens; /* [vocab_size] */
    int32_t vocab_size, unknown;
    int64_t length;
    struct {
        const char *text;
        int32_t id;
    } special[N_SPECIAL];
};

static inline uint32_t format__pair_hash(int32_t a, int32_t b)
{
    const uint64_t k = ((uint64_t)(uint32_t)a << 32 | (uint32_t)b) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(k >> 32);
}

#endif
