/* Reading a tokenizer folder into symbols, merges and special tokens. */
#include "format/json_internal.h"
#include "format/tokenizer_internal.h"
#include "format/unicode.h"

#include "base/file.h"

#include <stdlib.h>
#include <string.h>

enum {
    MERGES_MAX = 49152 - 256 - 2, /* lines that the reference reads; the rest is ignored */
    TOKENS_MAX = 1 << 20,
    TOKEN_BYTES_MAX = 1024,
    LENGTH_MAX = 65536,
    FILE_BYTES_MAX = 64 << 20
};

/* Symbol of a text, new or known. */
static md_status symbol_of(format_tokenizer *t, const char *s, size_t n, int32_t *out)
{
    int32_t i = format__strmap_get(&t->symbols, s, n);
    if (i < 0) {
        i = t->n_symbols;
        MD_TRY(format__strmap_put(&t->symbols, t->arena, s, n, i));
        t->symbol_id[t->n_symbols++] = -1;
    }
    *out = i;
    return MD_OK;
}

static md_status read_vocab(format_tokenizer *t, const char *name, json_t *vocab)
{
    const char *token;
    json_t *v;
    json_object_foreach(vocab, token, v)
    {
        const int64_t id = json_integer_value(v);
        const size_t n = strlen(token);
        if (!json_is_integer(v) || id < 0 || id >= t->vocab_size)
            MD_FAIL(MD_BAD_INPUT, "%s: token \"%.40s\": its id is no integer of 0 to %d", name,
                    token, t->vocab_size - 1);
        if (t->tokens[id])
            MD_FAIL(MD_BAD_INPUT, "%s: id %lld stands for \"%.40s\" and for \"%.40s\"", name,
                    (long long)id, t->tokens[id], token);
        if (n > TOKEN_BYTES_MAX)
            MD_FAIL(MD_BAD_INPUT, "%s: a token of %zu bytes", name, n);
        int32_t s = 0;
        MD_TRY(symbol_of(t, token, n, &s));
        t->symbol_id[s] = (int32_t)id;
        t->tokens[id] = md_arena_strdup(t->arena, token);
        if (!t->tokens[id])
            MD_FAIL(MD_NOMEM, "%s: no memory for its tokens", name);
    }
    return MD_OK;
}

static md_status add_merge(format_tokenizer *t, const char *name, int64_t line, const char *s,
                           size_t n, int32_t rank)
{
    const char *space = memchr(s, ' ', n);
    const size_t first = space ? (size_t)(space - s) : 0;
    const size_t second = space ? n - first - 1 : 0;
    if (first == 0 || second == 0 || memchr(space + 1, ' ', second))
        MD_FAIL(MD_BAD_INPUT, "%s: line %lld: a merge is two parts with a space between", name,
                (long long)line);
    if (n > TOKEN_BYTES_MAX)
        MD_FAIL(MD_BAD_INPUT, "%s: line %lld: a merge of %zu bytes", name, (long long)line, n);
    char joined[TOKEN_BYTES_MAX];
    memcpy(joined, s, first);
    memcpy(joined + first, space + 1, second);
    merge m = {.rank = rank};
    MD_TRY(symbol_of(t, s, first, &m.a));
    MD_TRY(symbol_of(t, space + 1, second, &m.b));
    MD_TRY(symbol_of(t, joined, first + second, &m.result));
    uint32_t i = format__pair_hash(m.a, m.b) & t->merge_mask;
    while (t->merges[i].rank >= 0 && (t->merges[i].a != m.a || t->merges[i].b != m.b))
        i = (i + 1) & t->merge_mask;
    t->merges[i] = m; /* a pair named twice keeps the later rank, as a Python dict does */
    return MD_OK;
}

static int64_t count_lines(const char *s, size_t n)
{
    int64_t lines = 1;
    for (size_t i = 0; i < n; i++)
        lines += s[i] == '\n';
    return lines;
}

static bool only_space(const char *s, const char *end)
{
    while (s < end && (*s == ' ' || *s == '\r' || *s == '\n'))
        s++;
    return s == end;
}

/* The first line is the version and is skipped, whatever it says. */
static md_status read_merges(format_tokenizer *t, format_blob merges)
{
    const char *s = merges.bytes, *end = s + merges.n;
    for (int64_t line = 1; s < end && line <= MERGES_MAX + 1; line++) {
        const char *stop = memchr(s, '\n', (size_t)(end - s));
        const char *next = stop ? stop + 1 : end;
        stop = stop ? stop : end;
        while (stop > s && (stop[-1] == '\r' || stop[-1] == ' '))
            stop--;
        if (line > 1 && !(stop == s && only_space(next, end)))
            MD_TRY(add_merge(t, merges.name, line, s, (size_t)(stop - s), (int32_t)(line - 2)));
        s = next;
    }
    return MD_OK;
}

/* GPT-2's bytes_to_unicode: printable bytes stand for themselves, the others from U+0100 on. */
static void find_bytes(format_tokenizer *t)
{
    int32_t extra = 256;
    for (int b = 0; b < 256; b++) {
        const bool plain = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
        char text[4 + 4];
        const int n = format__utf8_put(plain ? b : extra++, text);
        memcpy(text + n, "</w>", 4);
        t->byte_symbol[0][b] = format__strmap_get(&t->symbols, text, (size_t)n);
        t->byte_symbol[1][b] = format__strmap_get(&t->symbols, text, (size_t)n + 4);
    }
}

static const char *const special_keys[N_SPECIAL] = {"bos_token", "eos_token", "pad_token",
                                                    "unk_token"};

/* "x": "text" or "x": {"content": "text", ...} */
static md_status read_specials(format_tokenizer *t, const char *name, json_t *root)
{
    for (int i = 0; i < N_SPECIAL; i++) {
        json_t *v = json_object_get(root, special_keys[i]);
        if (!v || json_is_null(v))
            continue;
        const char *text = json_string_value(json_is_object(v) ? json_object_get(v, "content") : v);
        if (!text || !*text || strlen(text) > TOKEN_BYTES_MAX)
            MD_FAIL(MD_BAD_INPUT, "%s: %s is no token", name, special_keys[i]);
        t->special[i].text = md_arena_strdup(t->arena, text);
        if (!t->special[i].text)
            MD_FAIL(MD_NOMEM, "%s: no memory for its tokens", name);
    }
    return MD_OK;
}

static md_status parse_settings(format_blob file, json_t **root)
{
    /* "no limit" is written as 1e30 in full, which is no 64-bit integer */
    MD_TRY(format__json_parse(file.name, file.bytes, file.n, JSON_DECODE_INT_AS_REAL, root));
    if (!json_is_object(*root))
        MD_FAIL(MD_BAD_INPUT, "%s: it is %s, wanted: an object", file.name,
                format__json_type(*root));
    return MD_OK;
}

static md_status read_length(format_tokenizer *t, const char *name, json_t *root)
{
    json_t *v = json_object_get(root, "model_max_length");
    if (!v || json_is_null(v))
        return MD_OK;
    const double length = json_number_value(v);
    if (!json_is_number(v) || length < 2 || (length > LENGTH_MAX && length < 1e9))
        MD_FAIL(MD_BAD_INPUT, "%s: model_max_length is no number of 2 to %d", name, LENGTH_MAX);
    if (length <= LENGTH_MAX)
        t->length = (int64_t)length;
    return MD_OK;
}

/* As transformers 4.39: special_tokens_map.json wins, unless the config lists added_tokens_decoder.
 */
static md_status read_settings(format_tokenizer *t, format_blob config, format_blob special)
{
    json_t *root = NULL;
    md_status status = MD_OK;
    bool config_wins = false;
    if (config.bytes) {
        status = parse_settings(config, &root);
        if (status == MD_OK)
            status = read_specials(t, config.name, root);
        if (status == MD_OK)
            status = read_length(t, config.name, root);
        config_wins = json_object_get(root, "added_tokens_decoder") != NULL;
        json_decref(root);
    }
    if (status == MD_OK && special.bytes && !config_wins) {
        root = NULL;
        status = parse_settings(special, &root);
        if (status == MD_OK)
            status = read_specials(t, special.name, root);
        json_decref(root);
    }
    return status;
}

static md_status resolve_specials(format_tokenizer *t, const char *name)
{
    for (int i = 0; i < N_SPECIAL; i++) {
        const char *text = t->special[i].text;
        const int32_t s = format__strmap_get(&t->symbols, text, strlen(text));
        if (s < 0 || t->symbol_id[s] < 0)
            MD_FAIL(MD_BAD_INPUT, "%s: %s \"%.40s\" is not in the vocabulary", name,
                    special_keys[i], text);
        t->special[i].id = t->symbol_id[s];
    }
    t->unknown = t->special[SPECIAL_UNKNOWN].id;
    return MD_OK;
}

static md_status fill(format_tokenizer *t, json_t *vocab, format_blob names, format_blob merges,
                      format_blob config, format_blob special)
{
    const int64_t lines = count_lines(merges.bytes, merges.n);
    const int64_t n_merges = lines < MERGES_MAX ? lines : MERGES_MAX;
    const int64_t n_tokens = (int64_t)json_object_size(vocab);
    if (!json_is_object(vocab) || n_tokens < 1 || n_tokens > TOKENS_MAX)
        MD_FAIL(MD_BAD_INPUT, "%s: wanted: an object of 1 to %d tokens", names.name, TOKENS_MAX);
    t->vocab_size = (int32_t)n_tokens;
    const size_t n_symbols = (size_t)(n_tokens + 3 * n_merges);
    uint32_t size = 16;
    while ((int64_t)size < 2 * n_merges)
        size *= 2;
    t->merge_mask = size - 1;
    t->tokens = md_arena_alloc(t->arena, (size_t)n_tokens * sizeof *t->tokens);
    t->symbol_id = md_arena_alloc(t->arena, n_symbols * sizeof *t->symbol_id);
    t->merges = md_arena_alloc(t->arena, size * sizeof *t->merges);
    if (!t->tokens || !t->symbol_id || !t->merges)
        MD_FAIL(MD_NOMEM, "%s: no memory for %lld tokens", names.name, (long long)n_tokens);
    for (uint32_t i = 0; i < size; i++)
        t->merges[i].rank = -1;
    MD_TRY(format__strmap_new(t->arena, (int64_t)n_symbols, &t->symbols));
    MD_TRY(read_vocab(t, names.name, vocab));
    MD_TRY(read_merges(t, merges));
    find_bytes(t);
    t->length = 77;
    t->special[SPECIAL_START].text = "<|startoftext|>";
    for (int i = SPECIAL_END; i < N_SPECIAL; i++)
        t->special[i].text = "<|endoftext|>";
    MD_TRY(read_settings(t, config, special));
    return resolve_specials(t, names.name);
}

md_status format_tokenizer_parse(format_blob vocab, format_blob merges, format_blob config,
                                 format_blob special, format_tokenizer **out)
{
    json_t *root = NULL;
    MD_TRY(format__json_parse(vocab.name, vocab.bytes, vocab.n, 0, &root));
    md_status status;
    md_arena *arena = md_arena_new();
    format_tokenizer *t = arena ? md_arena_alloc(arena, sizeof *t) : NULL;
    if (t) {
        t->arena = arena;
        status = fill(t, root, vocab, merges, config, special);
    } else {
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "%s: no memory to read it", vocab.name);
    }
    json_decref(root);
    if (status == MD_OK)
        *out = t;
    else
        md_arena_free(arena);
    return status;
}

void format_tokenizer_free(format_tokenizer *t)
{
    if (t)
        md_arena_free(t->arena);
}

md_status format_tokenizer_open(const char *folder, format_tokenizer **out)
{
    static const char *const files[] = {"vocab.json", "merges.txt", "tokenizer_config.json",
                                        "special_tokens_map.json"};
    char path[4][4096];
    void *bytes[4] = {0};
    format_blob blob[4] = {{0}};
    md_status status = MD_OK;
    for (int i = 0; i < 4 && status == MD_OK; i++) {
        status = md_path_join(path[i], sizeof path[i], folder, files[i]);
        if (status == MD_OK && (i < 2 || md_file_exists(path[i])))
            status = md_file_read(path[i], FILE_BYTES_MAX, &bytes[i], &blob[i].n);
        blob[i].name = path[i];
        blob[i].bytes = bytes[i];
    }
    if (status == MD_OK)
        status = format_tokenizer_parse(blob[0], blob[1], blob[2], blob[3], out);
    for (int i = 0; i < 4; i++)
        free(bytes[i]);
    return status;
}
