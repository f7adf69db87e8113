/* A tokenizer folder in one input: vocab.json, merges.txt, tokenizer_config.json,
   special_tokens_map.json and a prompt, with lines of "---" between. */
#include "fuzz.h"

#include "format/tokenizer.h"

#include <stdlib.h>
#include <string.h>

static const char fixed_vocab[] = "{\"a\":0,\"b\":1,\"a</w>\":2,\"b</w>\":3,\"ab</w>\":4,\"ab\":5,"
                                  "\"<|startoftext|>\":6,\"<|endoftext|>\":7}";
static const char fixed_merges[] = "#v\na b</w>\na b\nab ab</w>\n";

/* Any prompt must give whole ids of the vocabulary with start and end in place. */
static void encode(const format_tokenizer *t, const char *text)
{
    const int64_t length = format_tokenizer_length(t);
    int64_t used = 0, wanted = 0;
    int32_t *ids = malloc((size_t)length * sizeof *ids);
    if (!ids)
        abort();
    if (format_tokenizer_encode(t, text, ids, &used, &wanted) == MD_OK) {
        if (ids[0] != format_tokenizer_start(t) || used < 2 || used > length || wanted < used ||
            ids[used - 1] != format_tokenizer_end(t))
            abort();
        for (int64_t i = 0; i < length; i++)
            if (!format_tokenizer_token(t, ids[i]))
                abort();
    }
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    format_blob part[5] = {{0}};
    const char *s = (const char *)data, *end = s + n;
    for (int i = 0; i < 5 && s; i++) {
        const char *stop = s;
        while (stop < end && !(end - stop >= 5 && !memcmp(stop, "\n---\n", 5)))
            stop++;
        part[i] = (format_blob){"fuzz", s, (size_t)(stop - s)};
        s = stop < end ? stop + 5 : NULL;
    }
    if (!part[1].bytes)
        part[1] = (format_blob){"fuzz", "", 0};
    const size_t prompt_bytes = part[4].bytes ? part[4].n : n;
    char *prompt = malloc(prompt_bytes + 1);
    if (!prompt)
        abort();
    memcpy(prompt, part[4].bytes ? part[4].bytes : data, prompt_bytes);
    prompt[prompt_bytes] = 0;
    format_tokenizer *t = NULL;
    if (format_tokenizer_parse(part[0], part[1], part[2], part[3], &t) == MD_OK) {
        encode(t, prompt);
        format_tokenizer_free(t);
    }
    const format_blob vocab = {"fixed", fixed_vocab, sizeof fixed_vocab - 1};
    const format_blob merges = {"fixed", fixed_merges, sizeof fixed_merges - 1}, none = {0};
    if (format_tokenizer_parse(vocab, merges, none, none, &t) != MD_OK)
        abort();
    encode(t, prompt);
    format_tokenizer_free(t);
    free(prompt);
    return 0;
}
