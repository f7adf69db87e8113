/* Byte-pair encoding of prompts: transformers models/clip/tokenization_clip.py is the model, with
   its BasicTokenizer (README.md says why). Symbols are numbered over the vocabulary and the merges;
   the files are read in tokenizer_read.c. */
#include "format/tokenizer_internal.h"
#include "format/unicode.h"

#include <stdlib.h>
#include <string.h>

/* One call's working memory. */
typedef struct encoder {
    const format_tokenizer *t;
    int32_t *ids;
    int64_t n; /* ids wanted so far, the start token included; those beyond room are not kept */
    int64_t room;
    /* What stands between two spaces, three times: as it came, its NFC, that in lower case. */
    int32_t *raw, *nfc, *lower;
    int32_t *word; /* symbols of one word, -1: not in any table */
} encoder;

static void emit(encoder *e, int32_t id)
{
    if (e->n < e->room)
        e->ids[e->n] = id;
    e->n++;
}

static const merge *find_merge(const format_tokenizer *t, int32_t a, int32_t b)
{
    if (a < 0 || b < 0)
        return NULL;
    for (uint32_t i = format__pair_hash(a, b) & t->merge_mask;; i = (i + 1) & t->merge_mask) {
        const merge *m = &t->merges[i];
        if (m->rank < 0)
            return NULL;
        if (m->a == a && m->b == b)
            return m;
    }
}

/* Joins the pair of lowest rank, everywhere, until no pair has a rank. */
static int64_t merge_word(const format_tokenizer *t, int32_t *w, int64_t n)
{
    for (;;) {
        const merge *best = NULL;
        for (int64_t i = 0; i + 1 < n; i++) {
            const merge *m = find_merge(t, w[i], w[i + 1]);
            if (m && (!best || m->rank < best->rank))
                best = m;
        }
        if (!best)
            return n;
        int64_t kept = 0;
        for (int64_t i = 0; i < n; i++) {
            if (i + 1 < n && w[i] == best->a && w[i + 1] == best->b) {
                w[kept++] = best->result;
                i++;
            } else {
                w[kept++] = w[i];
            }
        }
        n = kept;
    }
}

static void encode_word(encoder *e, const int32_t *code, int64_t n)
{
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        char bytes[4];
        const int length = format__utf8_put(code[i], bytes);
        for (int k = 0; k < length; k++) {
            const int last = i == n - 1 && k == length - 1;
            e->word[count++] = e->t->byte_symbol[last][(unsigned char)bytes[k]];
        }
    }
    count = merge_word(e->t, e->word, count);
    for (int64_t i = 0; i < count; i++) {
        const int32_t s = e->word[i], id = s < 0 ? -1 : e->t->symbol_id[s];
        emit(e, id < 0 ? e->t->unknown : id);
    }
}

/* Length of the literal at code, or 0. The pattern ignores case: a long s is an s too. */
static int64_t literal(const int32_t *code, int64_t n, const char *text)
{
    int64_t i = 0;
    while (text[i] && i < n && (code[i] == text[i] || (code[i] == 0x17F && text[i] == 's')))
        i++;
    return text[i] ? 0 : i;
}

/* U+0345, a mark, is a case of the letter iota: where case is ignored, neither a letter nor none.
 */
static bool is_nothing(int32_t c)
{
    return c == 0x345;
}

static bool is_sign(int32_t c)
{
    return !is_nothing(c) && !format__is_letter(c) && !format__is_number(c);
}

/* The pattern <|startoftext|>|<|endoftext|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|
   [^\s\p{L}\p{N}]+ at code[0]; no code point is a space. 0: no match. */
static int64_t word_length(const int32_t *code, int64_t n)
{
    static const char *const whole[] = {
        "<|startoftext|>", "<|endoftext|>", "'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        const int64_t length = literal(code, n, whole[i]);
        if (length)
            return length;
    }
    int64_t i = 0;
    if (format__is_letter(code[0])) {
        while (i < n && format__is_letter(code[i]))
            i++;
        return i;
    }
    if (format__is_number(code[0]))
        return 1;
    while (i < n && is_sign(code[i]))
        i++;
    return i;
}

/* A special token's name that was written in another case is looked up, not split. Nothing else
   that starts with a sign holds a letter. */
static bool encode_name(encoder *e, const int32_t *code, int64_t n)
{
    if (n < 3 || code[0] != '<' || (code[2] != 's' && code[2] != 'e'))
        return false;
    char name[16];
    for (int64_t i = 0; i < n; i++)
        name[i] = (char)code[i];
    const int32_t s = format__strmap_get(&e->t->symbols, name, (size_t)n);
    emit(e, s < 0 || e->t->symbol_id[s] < 0 ? e->t->unknown : e->t->symbol_id[s]);
    return true;
}

/* The words of e->raw[n], which holds no space; then raw is free again. */
static void encode_chunk(encoder *e, int64_t n)
{
    n = format__nfc(e->raw, n, e->nfc);
    n = format__lower(e->nfc, n, e->lower);
    for (int64_t at = 0; at < n;) {
        const int32_t *code = e->lower + at;
        const int64_t length = word_length(code, n - at);
        if (length && !encode_name(e, code, length))
            encode_word(e, code, length);
        at += length ? length : 1;
    }
}

/* Each of these stands alone: the ranges are the reference's, not Unicode's. */
static bool is_chinese(int32_t c)
{
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
           (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

static void encode_segment(encoder *e, const char *text, size_t n)
{
    int64_t count = 0;
    for (size_t i = 0; i < n;) {
        int length = 1;
        const int32_t c = format__utf8_get(text + i, n - i, &length);
        i += (size_t)length;
        const bool blank = c == '\t' || c == '\n' || c == '\r';
        if (c == 0xFFFD || (format__is_other(c) && !blank))
            continue; /* what it stood between is one word */
        const bool alone = is_chinese(c);
        if (alone || format__is_space(c)) {
            encode_chunk(e, count);
            count = 0;
        }
        if (!format__is_space(c))
            e->raw[count++] = c;
        if (alone) {
            encode_chunk(e, count);
            count = 0;
        }
    }
    encode_chunk(e, count);
}

/* The special token (as written, case and all) at s: its index, or -1; the longest wins. */
static int special_at(const format_tokenizer *t, const char *s, size_t n)
{
    int best = -1;
    for (int i = 0; i < N_SPECIAL; i++) {
        const size_t length = strlen(t->special[i].text);
        if (length <= n && !memcmp(s, t->special[i].text, length) &&
            (best < 0 || length > strlen(t->special[best].text)))
            best = i;
    }
    return best;
}

static md_status check_text(const char *text, size_t n)
{
    if (n > FORMAT_PROMPT_BYTES_MAX)
        MD_FAIL(MD_BAD_INPUT, "a prompt of %zu bytes; at most %d are read", n,
                FORMAT_PROMPT_BYTES_MAX);
    for (size_t i = 0; i < n;) {
        int length = 1;
        if (format__utf8_get(text + i, n - i, &length) < 0)
            MD_FAIL(MD_BAD_INPUT, "the prompt is not UTF-8 at byte %zu", i);
        i += (size_t)length;
    }
    return MD_OK;
}

md_status format_tokenizer_encode(const format_tokenizer *t, const char *text, int32_t *ids,
                                  int64_t *n_used, int64_t *n_wanted)
{
    const size_t n = strlen(text);
    MD_TRY(check_text(text, n));
    const size_t most = n + n / 2 + 1; /* code points, see unicode.h; in a word 4 bytes each */
    int32_t *memory = malloc((n + 1 + 2 * most + 4 * most) * sizeof *memory);
    if (!memory)
        MD_FAIL(MD_NOMEM, "no memory to encode a prompt of %zu bytes", n);
    encoder e = {.t = t, .ids = ids, .room = t->length - 1, .raw = memory};
    e.nfc = e.raw + n + 1;
    e.lower = e.nfc + most;
    e.word = e.lower + most;
    emit(&e, t->special[SPECIAL_START].id);
    size_t from = 0, at = 0;
    while (at < n) {
        const int s = special_at(t, text + at, n - at);
        if (s < 0) {
            at++;
            continue;
        }
        encode_segment(&e, text + from, at - from);
        emit(&e, t->special[s].id);
        from = at += strlen(t->special[s].text);
    }
    encode_segment(&e, text + from, n - from);
    free(memory);
    int64_t used = e.n < e.room ? e.n : e.room;
    ids[used++] = t->special[SPECIAL_END].id;
    if (n_used)
        *n_used = used;
    if (n_wanted)
        *n_wanted = e.n + 1;
    while (used < t->length)
        ids[used++] = t->special[SPECIAL_PAD].id;
    return MD_OK;
}

int64_t format_tokenizer_length(const format_tokenizer *t)
{
    return t->length;
}

int64_t format_tokenizer_vocab_size(const format_tokenizer *t)
{
    return t->vocab_size;
}

int32_t format_tokenizer_start(const format_tokenizer *t)
{
    return t->special[SPECIAL_START].id;
}

int32_t format_tokenizer_end(const format_tokenizer *t)
{
    return t->special[SPECIAL_END].id;
}

int32_t format_tokenizer_pad(const format_tokenizer *t)
{
    return t->special[SPECIAL_PAD].id;
}

const char *format_tokenizer_token(const format_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->vocab_size ? t->tokens[id] : NULL;
}
