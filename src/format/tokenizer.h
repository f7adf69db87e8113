/* CLIP's byte-pair tokenizer, read from a diffusers tokenizer folder (vocab.json, merges.txt,
   tokenizer_config.json, special_tokens_map.json): the ids of transformers' CLIPTokenizer without
   ftfy (README.md). Vocabularies of any size. */
#ifndef MD_FORMAT_TOKENIZER_H
#define MD_FORMAT_TOKENIZER_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FORMAT_PROMPT_BYTES_MAX (64 << 10)

typedef struct format_tokenizer format_tokenizer;

/* One file's bytes; {NULL, NULL, 0} for one that does not exist. */
typedef struct format_blob {
    const char *name; /* for messages */
    const void *bytes;
    size_t n;
} format_blob;

/* Checked: ids are integers, each used once, 0 .. count-1; every merge is a pair; the special
   tokens are in the vocabulary. The two settings files may be missing: start "<|startoftext|>",
   end, pad and unknown "<|endoftext|>", length 77. */
MD_MUST md_status format_tokenizer_open(const char *folder, format_tokenizer **out);
MD_MUST md_status format_tokenizer_parse(format_blob vocab, format_blob merges, format_blob config,
                                         format_blob special, format_tokenizer **out);
void format_tokenizer_free(format_tokenizer *t); /* NULL is fine */

int64_t format_tokenizer_length(const format_tokenizer *t); /* model_max_length, 77 */
int64_t format_tokenizer_vocab_size(const format_tokenizer *t);
int32_t format_tokenizer_start(const format_tokenizer *t);
int32_t format_tokenizer_end(const format_tokenizer *t);
int32_t format_tokenizer_pad(const format_tokenizer *t);
/* The token's text as in vocab.json; NULL for an id out of range. */
const char *format_tokenizer_token(const format_tokenizer *t, int32_t id);

/* start, the words' tokens, end, then pad, into ids[length] (caller's; length = the function
   above). What does not fit is cut, the end token stays. *n_used (may be NULL): ids before the
   padding; *n_wanted (may be NULL): what it would take to cut nothing. MD_BAD_INPUT when text is no
   UTF-8 or longer than FORMAT_PROMPT_BYTES_MAX. Thread-safe. */
MD_MUST md_status format_tokenizer_encode(const format_tokenizer *t, const char *text, int32_t *ids,
                                          int64_t *n_used, int64_t *n_wanted);

#ifdef __cplusplus
}
#endif
#endif
