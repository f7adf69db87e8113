/* JSON: values by path, wrong types, bad documents. */
#include "support/expect.h"

#include "format/json.h"

static format_json *parse(const char *text)
{
    format_json *doc = NULL;
    OK(format_json_parse("x.json", text, strlen(text), &doc));
    return doc;
}

static void values(void **state)
{
    (void)state;
    format_json *d =
        parse("{\"a\": {\"b\": [1, {\"c\": -7}, 2.5]}, \"s\": \"t\\u00e9\", \"y\": true,"
              " \"n\": null, \"big\": 9007199254740993, \"e\": []}");
    int64_t i = 0, many[3], n = 0;
    double f = 0;
    bool b = false;
    const char *s = NULL;
    OK(format_json_int(d, "a.b[1].c", -10, 10, &i));
    assert_int_equal(i, -7);
    OK(format_json_int(d, "big", 0, INT64_MAX, &i));
    assert_true(i == 9007199254740993);
    OK(format_json_float(d, "a.b[2]", &f));
    assert_true(f == 2.5);
    OK(format_json_float(d, "a.b[0]", &f));
    assert_true(f == 1);
    OK(format_json_bool(d, "y", &b));
    assert_true(b);
    OK(format_json_string(d, "s", &s));
    assert_string_equal(s, "t\xc3\xa9");
    OK(format_json_count(d, "a.b", &i));
    assert_int_equal(i, 3);
    OK(format_json_count(d, "", &i));
    assert_int_equal(i, 6);
    OK(format_json_key(d, "", 1, &s));
    assert_string_equal(s, "s");
    assert_true(format_json_has(d, "a.b[1]"));
    assert_false(format_json_has(d, "a.b[3]"));
    assert_false(format_json_has(d, "n"));
    assert_string_equal(format_json_type(d, "n"), "null");
    OK(format_json_int_or(d, "n", 0, 9, 4, &i));
    assert_int_equal(i, 4);
    OK(format_json_string_or(d, "none", "other", &s));
    assert_string_equal(s, "other");
    OK(format_json_ints(d, "e", 0, 1, many, 3, &n));
    assert_int_equal(n, 0);
    FAILS(format_json_ints(d, "a.b", 0, 9, many, 3, &n), MD_BAD_INPUT, "a.b[1]");
    FAILS(format_json_ints(d, "a.b", 0, 9, many, 2, &n), MD_BAD_INPUT, "at most 2");
    FAILS(format_json_int(d, "a.b[1].c", 0, 10, &i), MD_BAD_INPUT, "x.json: a.b[1].c is -7");
    FAILS(format_json_int(d, "s", 0, 10, &i), MD_BAD_INPUT, "s is string");
    FAILS(format_json_int_or(d, "s", 0, 10, 1, &i), MD_BAD_INPUT, "s is string");
    FAILS(format_json_int(d, "a.x", 0, 10, &i), MD_BAD_INPUT, "a.x is missing");
    FAILS(format_json_int(d, "a.b[x]", 0, 10, &i), MD_BAD_INPUT, "missing");
    FAILS(format_json_int(d, "a.b[99999999999999999999]", 0, 10, &i), MD_BAD_INPUT, "missing");
    FAILS(format_json_key(d, "", 6, &s), MD_BAD_INPUT, "only 6");
    format_json_free(d);
}

static void refused(void **state)
{
    (void)state;
    format_json *d = NULL;
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"", "x.json: line 1"},
        {"{\n\"a\": }", "line 2"},
        {"{\"a\":1,\"a\":2}", "dup"},
        {"3", "line 1"},
        {"{\"a\": 1} x", "line 1"},
        {"{\"a\": 1e999}", "line 1"},
        {"{\"a\": \"\\ud800\"}", "line 1"},
        {"{\"a\": \"\xff\"}", "line 1"},
        {"{\"a\": [1,2}", "line 1"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        FAILS(format_json_parse("x.json", rows[i].text, strlen(rows[i].text), &d), MD_BAD_INPUT,
              rows[i].message);
    char deep[200];
    memset(deep, '[', 100);
    memset(deep + 100, ']', 100);
    FAILS(format_json_parse("x.json", deep, 200, &d), MD_BAD_INPUT, "deeper than 64");
    OK(format_json_parse("x.json", deep + 36, 128, &d));
    format_json_free(d);
    /* brackets in strings do not nest */
    memset(deep + 1, '[', 198);
    deep[1] = '"', deep[198] = '"', deep[199] = ']';
    OK(format_json_parse("x.json", deep, 200, &d));
    format_json_free(d);
    FAILS(format_json_load("no/such.json", &d), MD_BAD_INPUT, "no/such.json");
}

static void quoting(void **state)
{
    (void)state;
    md_text t = {0};
    OK(md_text_add(&t, "{\"k\":"));
    OK(format_json_quote(&t, "a\"b\\c\n\x01 d\xc3\xa9"));
    OK(md_text_add(&t, "}"));
    format_json *d = parse(t.s);
    const char *s = NULL;
    OK(format_json_string(d, "k", &s));
    assert_string_equal(s, "a\"b\\c\n\x01 d\xc3\xa9");
    format_json_free(d);
    md_text_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(values), cmocka_unit_test(refused),
                                       cmocka_unit_test(quoting)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
