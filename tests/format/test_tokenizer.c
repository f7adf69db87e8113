/* The tokenizer against transformers' ids (tokenizer/golden.tsv), settings, bad files. */
#include "support/expect.h"

#include "base/file.h"
#include "format/tokenizer.h"

#define FOLDER "tests/format/tokenizer"

static void unescape(char *s)
{
    char *to = s;
    for (; *s; s++) {
        if (*s == '\\') {
            s++;
            *to++ = (char)(*s == 'n' ? '\n' : *s == 't' ? '\t' : *s == 'r' ? '\r' : *s);
        } else {
            *to++ = *s;
        }
    }
    *to = 0;
}

static void golden(void **state)
{
    (void)state;
    format_tokenizer *t = NULL;
    void *file = NULL;
    size_t n = 0;
    int32_t ids[77];
    int lines = 0;
    OK(format_tokenizer_open(FOLDER, &t));
    assert_int_equal(format_tokenizer_length(t), 77);
    OK(md_file_read(FOLDER "/golden.tsv", 1 << 20, &file, &n));
    for (char *line = file, *next; *line; line = next) {
        next = strchr(line, '\n');
        *next++ = 0;
        if (*line == '#')
            continue;
        char *numbers = strchr(line, '\t');
        *numbers++ = 0;
        unescape(line);
        OK(format_tokenizer_encode(t, line, ids, NULL, NULL));
        for (int i = 0; i < 77; i++) {
            const long wanted = strtol(numbers, &numbers, 10);
            if (wanted != ids[i])
                fail_msg("\"%s\": id %d is %d (%s), wanted %ld (%s)", line, i, ids[i],
                         format_tokenizer_token(t, ids[i]), wanted,
                         format_tokenizer_token(t, (int32_t)wanted));
        }
        lines++;
    }
    assert_true(lines >= 25);
    free(file);
    format_tokenizer_free(t);
}

#define BLOB(name, text) ((format_blob){name, text, strlen(text)})
static const format_blob none = {0};
static const char vocab[] = "{\"a\":0,\"b\":1,\"a</w>\":2,\"b</w>\":3,\"ab</w>\":4,"
                            "\"<|startoftext|>\":5,\"<|endoftext|>\":6,\"!\":7}";

static void small(void **state)
{
    (void)state;
    format_tokenizer *t = NULL;
    int32_t ids[8];
    int64_t used = 0, wanted = 0;
    OK(format_tokenizer_parse(
        BLOB("v", vocab), BLOB("m", "#version\na b</w>\n"),
        BLOB("c", "{\"model_max_length\": 8, \"pad_token\": {\"content\": \"!\"}}"), none, &t));
    assert_int_equal(format_tokenizer_length(t), 8);
    assert_int_equal(format_tokenizer_vocab_size(t), 8);
    assert_int_equal(format_tokenizer_pad(t), 7);
    OK(format_tokenizer_encode(t, "AB aab z", ids, &used, &wanted));
    const int32_t first[8] = {5, 4, 0, 4, 6, 6, 7, 7}; /* z is unknown: the end token */
    assert_memory_equal(ids, first, sizeof ids);
    assert_int_equal(used, 6);
    assert_int_equal(wanted, 6);
    OK(format_tokenizer_encode(t, "a!a a a a a a", ids, &used, &wanted));
    const int32_t second[8] = {5, 2, 7, 2, 2, 2, 2, 6}; /* "!" is special here; the end stays */
    assert_memory_equal(ids, second, sizeof ids);
    assert_int_equal(used, 8);
    assert_int_equal(wanted, 10);
    assert_null(format_tokenizer_token(t, 8));
    assert_null(format_tokenizer_token(t, -1));
    FAILS(format_tokenizer_encode(t, "a \xc3(", ids, NULL, NULL), MD_BAD_INPUT, "UTF-8 at byte 2");
    char *text = calloc(1, FORMAT_PROMPT_BYTES_MAX + 2);
    memset(text, 'a', FORMAT_PROMPT_BYTES_MAX);
    OK(format_tokenizer_encode(t, text, ids, NULL, NULL));
    text[FORMAT_PROMPT_BYTES_MAX] = 'a';
    FAILS(format_tokenizer_encode(t, text, ids, NULL, NULL), MD_BAD_INPUT, "at most");
    free(text);
    format_tokenizer_free(t);
    /* "no limit" as transformers writes it; special_tokens_map.json over the config */
    OK(format_tokenizer_parse(BLOB("v", vocab), BLOB("m", "#version"),
                              BLOB("c", "{\"model_max_length\": 1000000000000000019884624838656, "
                                        "\"pad_token\": \"b\"}"),
                              BLOB("s", "{\"pad_token\": \"a\"}"), &t));
    assert_int_equal(format_tokenizer_length(t), 77);
    assert_int_equal(format_tokenizer_pad(t), 0);
    format_tokenizer_free(t);
}

static void refused(void **state)
{
    (void)state;
    format_tokenizer *t = NULL;
    const format_blob v = BLOB("v.json", vocab), m = BLOB("m.txt", "#version\na b</w>\n");
    FAILS(format_tokenizer_parse(BLOB("v", "[1]"), m, none, none, &t), MD_BAD_INPUT, "v: wanted");
    FAILS(format_tokenizer_parse(BLOB("v", "{\"a\":0,\"b\":2}"), m, none, none, &t), MD_BAD_INPUT,
          "\"b\"");
    FAILS(format_tokenizer_parse(BLOB("v", "{\"a\":0,\"b\":0}"), m, none, none, &t), MD_BAD_INPUT,
          "id 0");
    FAILS(format_tokenizer_parse(BLOB("v", "{\"a\":0,\"b\":1}"), m, none, none, &t), MD_BAD_INPUT,
          "<|startoftext|>");
    FAILS(format_tokenizer_parse(v, BLOB("m", "#v\na b\nab\n"), none, none, &t), MD_BAD_INPUT,
          "m: line 3");
    FAILS(format_tokenizer_parse(v, BLOB("m", "#v\na b c\n"), none, none, &t), MD_BAD_INPUT,
          "line 2");
    FAILS(format_tokenizer_parse(v, m, BLOB("c", "{\"model_max_length\": 1}"), none, &t),
          MD_BAD_INPUT, "model_max_length");
    FAILS(format_tokenizer_parse(v, m, BLOB("c", "{\"pad_token\": \"zz\"}"), none, &t),
          MD_BAD_INPUT, "pad_token \"zz\"");
    FAILS(format_tokenizer_parse(v, m, none, BLOB("s", "{\"eos_token\": 3}"), &t), MD_BAD_INPUT,
          "s: eos_token");
    FAILS(format_tokenizer_open("tests/format", &t), MD_BAD_INPUT, "tests/format/vocab.json");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden), cmocka_unit_test(small),
                                       cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
