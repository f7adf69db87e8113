/* The tiny foundation's tokenizer: byte-pair merges learnt from the caption words, in the files and
   the order of CLIP's tokenizer (openai/CLIP, simple_tokenizer.py; transformers, CLIPTokenizer). */
#include "image/procedural.h"

#include "base/file.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Words that prompts need beside those of the captions. */
static const char *const prompt_words[] = {
    "a",       "an",      "the",        "of",    "photo", "image", "picture", "drawing", "texture",
    "pattern", "close",   "up",         "view",  "on",    "with",  "in",      "sharp",   "color",
    "colour",  "colored", "shape",      "round", "soft",  "hard",  "flat",    "over",    "under",
    "without", "many",    "few",        "one",   "two",   "three", "left",    "right",   "top",
    "bottom",  "center",  "background", "edge",  "noise", "pale",  "deep"};

enum { WORD_MAX = 24, WORDS_MAX = 160, MERGES_MAX = 1024, SYMBOL_MAX = 40 };

struct word {
    int n; /* symbols left */
    char symbol[WORD_MAX][SYMBOL_MAX];
};

struct merge {
    char left[SYMBOL_MAX], right[SYMBOL_MAX];
};

static bool known(const struct word *list, int n, const char *text)
{
    for (int i = 0; i < n; i++) {
        char joined[WORD_MAX + 1] = "";
        for (int k = 0; k < list[i].n; k++)
            strncat(joined, list[i].symbol[k], 1);
        if (strcmp(joined, text) == 0)
            return true;
    }
    return false;
}

/* Splits the word into letters, the last one marked as the end of a word. */
static md_status add_word(struct word *list, int *n, const char *text)
{
    size_t length = strlen(text);
    if (length >= WORD_MAX || *n >= WORDS_MAX)
        MD_FAIL(MD_INTERNAL, "tokenizer word \"%s\": longer than %d letters or beyond %d words",
                text, WORD_MAX - 1, WORDS_MAX);
    if (known(list, *n, text))
        return MD_OK;
    struct word *w = &list[(*n)++];
    w->n = (int)length;
    for (int i = 0; i < w->n; i++)
        MD_TRY(
            md_str_printf(w->symbol[i], SYMBOL_MAX, "%c%s", text[i], i == w->n - 1 ? "</w>" : ""));
    return MD_OK;
}

static int count_pair(const struct word *list, int n, const char *left, const char *right)
{
    int count = 0;
    for (int i = 0; i < n; i++)
        for (int k = 0; k + 1 < list[i].n; k++)
            count +=
                strcmp(list[i].symbol[k], left) == 0 && strcmp(list[i].symbol[k + 1], right) == 0;
    return count;
}

static md_status apply(struct word *list, int n, const struct merge *m)
{
    for (int i = 0; i < n; i++) {
        struct word *w = &list[i];
        for (int k = 0; k + 1 < w->n; k++) {
            if (strcmp(w->symbol[k], m->left) != 0 || strcmp(w->symbol[k + 1], m->right) != 0)
                continue;
            MD_TRY(md_str_printf(w->symbol[k], SYMBOL_MAX, "%s%s", m->left, m->right));
            memmove(w->symbol[k + 1], w->symbol[k + 2],
                    sizeof w->symbol[0] * (size_t)(w->n - k - 2));
            w->n--;
        }
    }
    return MD_OK;
}

/* The most frequent pair is merged first (Sennrich et al. 2016; ties by first appearance), until
   every word is one symbol. */
static md_status learn(struct word *list, int n, struct merge *merges, int *n_merges)
{
    for (*n_merges = 0;; ++*n_merges) {
        const char *left = NULL, *right = NULL;
        int best = 0;
        for (int i = 0; i < n; i++) {
            for (int k = 0; k + 1 < list[i].n; k++) {
                int count = count_pair(list, n, list[i].symbol[k], list[i].symbol[k + 1]);
                if (count > best) {
                    best = count;
                    left = list[i].symbol[k];
                    right = list[i].symbol[k + 1];
                }
            }
        }
        if (!left)
            return MD_OK;
        if (*n_merges >= MERGES_MAX)
            MD_FAIL(MD_INTERNAL, "tokenizer: more than %d merges", MERGES_MAX);
        struct merge *m = &merges[*n_merges];
        MD_TRY(md_str_copy(m->left, SYMBOL_MAX, left));
        MD_TRY(md_str_copy(m->right, SYMBOL_MAX, right));
        MD_TRY(apply(list, n, m));
    }
}

/* CLIP's bytes_to_unicode: bytes that print stand for themselves, the others for U+0100 and on. The
   vocabulary lists the printing ones first. */
static bool prints(int byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

static md_status add_unit(md_text *out, int *id, int code, const char *ending)
{
    char utf8[3] = {0};
    if (code < 0x80) {
        utf8[0] = (char)code;
    } else {
        utf8[0] = (char)(0xC0 | code >> 6);
        utf8[1] = (char)(0x80 | (code & 0x3F));
    }
    const char *escape = code == '"' || code == '\\' ? "\\" : "";
    MD_TRY(md_text_add(out, "%s\"%s%s%s\": %d", *id ? ", " : "{", escape, utf8, ending, *id));
    ++*id;
    return MD_OK;
}

static md_status write_text(const char *dir, const char *name, const char *text)
{
    char path[4096];
    MD_TRY(md_path_join(path, sizeof path, dir, name));
    return md_file_write_atomic(path, text, strlen(text));
}

static md_status vocabulary(const struct merge *merges, int n_merges, md_text *vocab,
                            md_text *rules)
{
    int id = 0;
    for (int ends = 0; ends < 2; ends++) {
        const char *ending = ends ? "</w>" : "";
        for (int byte = 0; byte < 256; byte++)
            if (prints(byte))
                MD_TRY(add_unit(vocab, &id, byte, ending));
        for (int byte = 0, code = 256; byte < 256; byte++)
            if (!prints(byte))
                MD_TRY(add_unit(vocab, &id, code++, ending));
    }
    MD_TRY(md_text_add(rules, "#version: 0.2\n"));
    for (int i = 0; i < n_merges; i++) {
        MD_TRY(md_text_add(vocab, ", \"%s%s\": %d", merges[i].left, merges[i].right, id++));
        MD_TRY(md_text_add(rules, "%s %s\n", merges[i].left, merges[i].right));
    }
    return md_text_add(vocab, ", \"<|startoftext|>\": %d, \"<|endoftext|>\": %d}\n", id, id + 1);
}

#define SPECIAL(key, text, kind)                                                                   \
    "  \"" key "\": {" kind "\"content\": \"" text                                                 \
    "\", \"lstrip\": false, \"normalized\": true, \"rstrip\": false, \"single_word\": false},\n"
#define SPECIALS(kind)                                                                             \
    SPECIAL("bos_token", "<|startoftext|>", kind)                                                  \
    SPECIAL("eos_token", "<|endoftext|>", kind)                                                    \
    SPECIAL("unk_token", "<|endoftext|>", kind) "  \"pad_token\": \"<|endoftext|>\""

static const char special_tokens_map[] = "{\n" SPECIALS("") "\n}\n";
static const char tokenizer_config[] = "{\n" SPECIALS(
    "\"__type\": \"AddedToken\", ") ",\n"
                                    "  \"add_prefix_space\": false,\n  \"do_lower_case\": true,\n  "
                                    "\"errors\": \"replace\",\n"
                                    "  \"model_max_length\": 77,\n  \"tokenizer_class\": "
                                    "\"CLIPTokenizer\"\n}\n";

md_status procedural_write_tokenizer(const char *dir)
{
    md_status status = MD_OK;
    md_text vocab = {0}, rules = {0};
    int n = 0, n_merges = 0, n_caption = 0;
    const char *const *caption = procedural_words(&n_caption);
    struct word *list = calloc(WORDS_MAX, sizeof *list);
    struct merge *merges = calloc(MERGES_MAX, sizeof *merges);
    if (!list || !merges) {
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "tokenizer: out of memory");
        goto done;
    }
    for (int i = 0; i < n_caption; i++)
        MD_TRY_GOTO(add_word(list, &n, caption[i]), done);
    for (size_t i = 0; i < sizeof prompt_words / sizeof *prompt_words; i++)
        MD_TRY_GOTO(add_word(list, &n, prompt_words[i]), done);
    MD_TRY_GOTO(learn(list, n, merges, &n_merges), done);
    MD_TRY_GOTO(vocabulary(merges, n_merges, &vocab, &rules), done);
    MD_TRY_GOTO(write_text(dir, "vocab.json", vocab.s), done);
    MD_TRY_GOTO(write_text(dir, "merges.txt", rules.s), done);
    MD_TRY_GOTO(write_text(dir, "special_tokens_map.json", special_tokens_map), done);
    MD_TRY_GOTO(write_text(dir, "tokenizer_config.json", tokenizer_config), done);
done:
    free(list);
    free(merges);
    md_text_free(&vocab);
    md_text_free(&rules);
    return status;
}
