/* The tokenizer against transformers' ids (tokenizer/golden.tsv), settings, bad files. */
#include "support/expect.h"

#include "base/file.h"
#include "format/tokenizer.h"
#include "format/unicode.h"

#define FOLDER "tests/format/tokenizer"

/* As make_tokenizer_golden.py's shown() writes it; returns the length. */
static size_t unescape(char *s)
{
    char *const start = s, *to = s;
    for (; *s; s++) {
        if (*s != '\\') {
            *to++ = *s;
        } else if (*++s == 'u') {
            to += format__utf8_put((int32_t)strtol(s + 2, &s, 16), to);
        } else {
            *to++ = (char)(*s == 'n' ? '\n' : *s == 't' ? '\t' : *s == 'r' ? '\r' : *s);
        }
    }
    *to = 0;
    return (size_t)(to - start);
}

/* text, how often it is repeated, ids up to the first padding: a line's three columns. */
static void check_line(const format_tokenizer *t, char *text, char *numbers)
{
    const size_t times = strtoul(numbers, &numbers, 10), n = unescape(text);
    const int64_t length = format_tokenizer_length(t);
    int32_t *ids = malloc((size_t)length * sizeof *ids);
    char *prompt = malloc(n * times + 1);
    for (size_t i = 0; i < times; i++)
        memcpy(prompt + i * n, text, n);
    prompt[n * times] = 0;
    OK(format_tokenizer_encode(t, prompt, ids, NULL, NULL));
    for (int64_t i = 0; i < length; i++) {
        char *end = numbers;
        const long golden = strtol(numbers, &end, 10);
        const long wanted = end == numbers ? format_tokenizer_pad(t) : golden;
        numbers = end;
        if (wanted != ids[i])
            fail_msg("\"%s\" %zu times: id %d is %d (%s), wanted %ld (%s)", text, times, (int)i,
                     ids[i], format_tokenizer_token(t, ids[i]), wanted,
                     format_tokenizer_token(t, (int32_t)wanted));
    }
    free(prompt);
    free(ids);
}

/* MEDDIFF_TOKENIZER: another folder that make_tokenizer_golden.py has put its golden.tsv into. */
static void golden(void **state)
{
    (void)state;
    const char *other = getenv("MEDDIFF_TOKENIZER"), *folder = other ? other : FOLDER;
    char path[4096];
    format_tokenizer *t = NULL;
    void *file = NULL;
    size_t n = 0;
    int lines = 0;
    OK(format_tokenizer_open(folder, &t));
    assert_int_equal(format_tokenizer_length(t), 77);
    OK(md_path_join(path, sizeof path, folder, "golden.tsv"));
    OK(md_file_read(path, 64 << 20, &file, &n));
    for (char *line = file, *next; *line; line = next) {
        next = strchr(line, '\n');
        *next++ = 0;
        if (!strncmp(line, "# ", 2) && line == file)
            continue;
        char *numbers = strchr(line, '\t');
        assert_non_null(numbers);
        *numbers++ = 0;
        check_line(t, line, numbers);
        lines++;
    }
    assert_true(lines >= 2000);
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
    /* no UTF-8: cut short, overlong, half of a surrogate pair, beyond U+10FFFF, Latin-1 */
    const char *const broken[] = {"a\xe2\x82",        "\xc0\xaf", "\xed\xa0\x80",
                                  "\xf4\x90\x80\x80", "caf\xe9",  "\x80"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        FAILS(format_tokenizer_encode(t, broken[i], ids, NULL, NULL), MD_BAD_INPUT, "not UTF-8");
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
