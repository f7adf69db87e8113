/* Status chain, arena, strings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/status.h"
#include "base/str.h"
#include "support/fail_alloc.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static md_status read_pixels(const char *name)
{
    MD_FAIL(MD_BAD_INPUT, "%s: truncated at row %d", name, 7);
}

static md_status import_one(const char *name)
{
    md_status s = read_pixels(name);
    if (s != MD_OK)
        return md_context(s, "importing %s", "busi");
    return MD_OK;
}

static void chain_reads_outermost_first(void **state)
{
    (void)state;
    assert_int_equal(import_one("y.png"), MD_BAD_INPUT);
    assert_string_equal(md_status_text(), "importing busi: y.png: truncated at row 7");
    md_status_clear();
    assert_string_equal(md_status_text(), "");
}

static void a_new_failure_drops_the_old_chain(void **state)
{
    (void)state;
    (void)import_one("y.png");
    (void)read_pixels("z.png");
    assert_string_equal(md_status_text(), "z.png: truncated at row 7");
}

static void a_chain_can_be_wrapped_in_a_new_one(void **state)
{
    (void)state;
    (void)import_one("y.png");
    (void)md_fail(MD_PEER, __FILE__, __LINE__, "rank 2: %s", md_status_text());
    assert_string_equal(md_status_text(), "rank 2: importing busi: y.png: truncated at row 7");
}

static void long_messages_and_chains_are_marked_as_cut(void **state)
{
    (void)state;
    char text[3000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    (void)md_fail(MD_IO, __FILE__, __LINE__, "%s", text);
    const char *cut = md_status_text();
    assert_int_equal(strlen(cut), 1023);
    assert_true(md_str_ends(cut, "x..."));
    for (int i = 0; i < 20; i++)
        (void)md_context(MD_IO, "level %d", i);
    assert_true(md_str_starts(md_status_text(), "...: level 11: level 10: "));
}

static void trace_shows_frames(void **state)
{
    (void)state;
    (void)setenv("MEDDIFF_TRACE", "1", 1);
    (void)import_one("y.png");
    assert_non_null(strstr(md_status_text(), "test_status.c:"));
    (void)unsetenv("MEDDIFF_TRACE");
    assert_null(strstr(md_status_text(), "test_status.c:"));
}

static void *other_thread(void *arg)
{
    (void)arg;
    (void)read_pixels("other.png");
    return NULL;
}

static void every_thread_has_its_own_chain(void **state)
{
    (void)state;
    (void)read_pixels("mine.png");
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, other_thread, NULL), 0);
    assert_int_equal(pthread_join(t, NULL), 0);
    assert_string_equal(md_status_text(), "mine.png: truncated at row 7");
}

static void exit_codes(void **state)
{
    (void)state;
    assert_int_equal(md_status_exit_code(MD_OK), 0);
    assert_int_equal(md_status_exit_code(MD_USAGE), 2);
    assert_int_equal(md_status_exit_code(MD_BAD_INPUT), 2);
    assert_int_equal(md_status_exit_code(MD_STOPPED), 0);
    assert_int_equal(md_status_exit_code(MD_NONFINITE), 1);
    assert_string_equal(md_status_name(MD_NOMEM), "out of memory");
}

static void arena_memory_is_zeroed_aligned_and_apart(void **state)
{
    (void)state;
    md_arena *a = md_arena_new();
    assert_non_null(a);
    unsigned char *p[200];
    for (size_t i = 0; i < 200; i++) {
        size_t n = i * 37 % 500;
        p[i] = md_arena_alloc(a, n);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % 16, 0);
        for (size_t j = 0; j < n; j++)
            assert_int_equal(p[i][j], 0);
        memset(p[i], (int)i, n);
    }
    for (size_t i = 0; i < 200; i++)
        for (size_t j = 0; j < i * 37 % 500; j++)
            assert_int_equal(p[i][j], (unsigned char)i);
    assert_non_null(md_arena_alloc(a, 5u << 20)); /* larger than any block */
    assert_true(md_arena_bytes(a) > (5u << 20));
    assert_string_equal(md_arena_printf(a, "down.%d.%s", 3, "conv"), "down.3.conv");
    assert_null(md_arena_alloc(a, SIZE_MAX));
    md_arena_free(a);
}

static void arena_reports_missing_memory(void **state)
{
    (void)state;
    fail_alloc_at(1);
    assert_null(md_arena_new());
    fail_alloc_at(0);
    md_arena *a = md_arena_new();
    fail_alloc_at(1);
    assert_null(md_arena_alloc(a, 10));
    fail_alloc_at(1);
    assert_null(md_arena_strdup(a, "x"));
    fail_alloc_at(0);
    assert_non_null(md_arena_strdup(a, "x")); /* still usable */
    md_arena_free(a);
}

static void strings_that_do_not_fit_are_errors(void **state)
{
    (void)state;
    char buf[8];
    assert_int_equal(md_str_copy(buf, sizeof buf, "1234567"), MD_OK);
    assert_int_equal(md_str_copy(buf, sizeof buf, "12345678"), MD_USAGE);
    assert_string_equal(buf, "");
    assert_int_equal(md_str_printf(buf, sizeof buf, "%d-%s", 12, "abcd"), MD_OK);
    assert_string_equal(buf, "12-abcd");
    assert_int_equal(md_str_printf(buf, sizeof buf, "%d-%s", 12, "abcde"), MD_USAGE);
    assert_string_equal(buf, "");
}

static void distances(void **state)
{
    (void)state;
    assert_int_equal(md_str_distance("kitten", "sitting"), 3);
    assert_int_equal(md_str_distance("", "abc"), 3);
    assert_int_equal(md_str_distance("abc", ""), 3);
    assert_int_equal(md_str_distance("same", "same"), 0);
}

static void text_grows_and_survives_missing_memory(void **state)
{
    (void)state;
    md_text t = {0};
    for (int i = 0; i < 300; i++)
        assert_int_equal(md_text_add(&t, "%03d,", i), MD_OK);
    assert_int_equal(t.n, 1200);
    assert_int_equal(strlen(t.s), 1200);
    assert_memory_equal(t.s + 4 * 299, "299,", 5);
    char big[4096];
    memset(big, 'y', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    fail_alloc_at(1);
    assert_int_equal(md_text_add(&t, "%s", big), MD_NOMEM);
    fail_alloc_at(0);
    assert_int_equal(t.n, 1200);
    assert_int_equal(strlen(t.s), 1200);
    md_text_free(&t);
    assert_null(t.s);
}

static void csv_fields_are_quoted_where_they_have_to_be(void **state)
{
    (void)state;
    md_text t = {0};
    assert_int_equal(md_text_add_csv(&t, "plain text"), MD_OK);
    assert_int_equal(md_text_add_csv(&t, "a,b"), MD_OK);
    assert_int_equal(md_text_add_csv(&t, "say \"x\"\n"), MD_OK);
    assert_int_equal(md_text_add_csv(&t, ""), MD_OK);
    assert_string_equal(t.s, "plain text\"a,b\"\"say \"\"x\"\"\n\"");
    md_text_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chain_reads_outermost_first),
        cmocka_unit_test(a_new_failure_drops_the_old_chain),
        cmocka_unit_test(a_chain_can_be_wrapped_in_a_new_one),
        cmocka_unit_test(long_messages_and_chains_are_marked_as_cut),
        cmocka_unit_test(trace_shows_frames),
        cmocka_unit_test(every_thread_has_its_own_chain),
        cmocka_unit_test(exit_codes),
        cmocka_unit_test(arena_memory_is_zeroed_aligned_and_apart),
        cmocka_unit_test(arena_reports_missing_memory),
        cmocka_unit_test(strings_that_do_not_fit_are_errors),
        cmocka_unit_test(distances),
        cmocka_unit_test(text_grows_and_survives_missing_memory),
        cmocka_unit_test(csv_fields_are_quoted_where_they_have_to_be),
    };
    return cmocka_run_group_tests_name("base/status", tests, NULL, NULL);
}
