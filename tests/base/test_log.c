/* The log's line format, levels by rank, threads; progress lines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "support/tmp_dir.h"

#include <pthread.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[256], path[512];

static int make_dir(void **state)
{
    (void)state;
    if (!tmp_dir_make(dir))
        return -1;
    (void)snprintf(path, sizeof path, "%s/log.txt", dir);
    md_log_quiet(true);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    md_log_close();
    tmp_dir_remove(dir);
    return 0;
}

static char *read_log(void)
{
    void *data;
    size_t n;
    assert_int_equal(md_file_read(path, 10 << 20, &data, &n), MD_OK);
    return data;
}

static void assert_matches(const char *text, const char *pattern)
{
    regex_t re;
    assert_int_equal(regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB), 0);
    int rc = regexec(&re, text, 0, NULL, 0);
    regfree(&re);
    if (rc != 0)
        fail_msg("\"%s\" does not match \"%s\"", text, pattern);
}

#define TIME "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z "

static void line_format(void **state)
{
    (void)state;
    assert_int_equal(md_log_open(0, 4, path), MD_OK);
    md_info("train", "loss %.2f", 0.25);
    char *text = read_log();
    assert_matches(text, TIME "\\[0/4 [^ :]+:cpu -\\] INFO train: loss 0\\.25\n$");
    free(text);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(md_log_open(0, 4, path), MD_OK);
    md_log_gpu(2);
    md_log_step(17);
    md_info("train", "x");
    md_log_gpu(-1);
    md_log_step(-1);
    text = read_log();
    assert_matches(text, TIME "\\[0/4 [^ :]+:2 17\\] INFO train: x\n$");
    free(text);
    assert_int_equal(unlink(path), 0);
}

static void only_rank_0_informs(void **state)
{
    (void)state;
    assert_int_equal(md_log_open(3, 4, path), MD_OK);
    md_info("store", "not shown");
    md_warn("store", "shown %d", 1);
    md_error("store", "shown %d", 2);
    char *text = read_log();
    assert_null(strstr(text, "not shown"));
    assert_matches(text,
                   TIME "\\[3/4 [^ ]+ -\\] WARN store: shown 1\n[^\n]*ERROR store: shown 2\n$");
    free(text);
    assert_int_equal(unlink(path), 0);
}

static char relayed[4096];

static void keep(const char *line, size_t n)
{
    assert_int_equal(strlen(line), n);
    (void)strncat(relayed, line, sizeof relayed - strlen(relayed) - 1);
}

/* Who leads others: its INFO goes to the relay and nowhere else, its warnings where they always go.
 */
static void a_relay_takes_what_informs(void **state)
{
    (void)state;
    assert_int_equal(md_log_open(3, 4, path), MD_OK);
    md_log_relay(keep);
    md_info("train", "relayed %d", 1);
    md_log_file_only("train", "relayed %d", 2);
    md_warn("train", "here");
    assert_false(md_log_is_terminal());
    md_log_relay(NULL);
    md_info("train", "nowhere");
    assert_matches(relayed, TIME "\\[3/4 [^ ]+ -\\] INFO train: relayed 1\n[^\n]*relayed 2\n$");
    char *text = read_log();
    assert_matches(text, TIME "\\[3/4 [^ ]+ -\\] WARN train: here\n$");
    free(text);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(md_log_open(0, 4, path), MD_OK);
    md_log_line(relayed, strlen(relayed)); /* on rank 0 */
    text = read_log();
    assert_string_equal(text, relayed);
    free(text);
    assert_int_equal(unlink(path), 0);
}

static void *write_many(void *arg)
{
    for (int i = 0; i < 500; i++)
        md_info("thread", "%s-%d-end", (const char *)arg, i);
    return NULL;
}

static void threads_do_not_mix_lines(void **state)
{
    (void)state;
    assert_int_equal(md_log_open(0, 1, path), MD_OK);
    static char names[4][2] = {"a", "b", "c", "d"};
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, write_many, names[i]), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_join(t[i], NULL), 0);
    char *text = read_log();
    int lines = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), lines++)
        assert_matches(line, TIME "\\[0/1 [^ ]+ -\\] INFO thread: [a-d]-[0-9]+-end$");
    assert_int_equal(lines, 2000);
    free(text);
    assert_int_equal(unlink(path), 0);
}

static void a_long_line_is_cut_and_ended(void **state)
{
    (void)state;
    assert_int_equal(md_log_open(0, 1, path), MD_OK);
    char big[9000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    md_info("base", "%s", big);
    md_info("base", "next");
    char *text = read_log();
    assert_matches(text, "x\n[^\n]* INFO base: next\n$");
    free(text);
    assert_int_equal(unlink(path), 0);
}

static void a_log_that_cannot_open_says_so(void **state)
{
    (void)state;
    char missing[600];
    (void)snprintf(missing, sizeof missing, "%s/missing/log.txt", dir);
    assert_int_equal(md_log_open(0, 1, missing), MD_IO);
    assert_non_null(strstr(md_status_text(), missing));
}

static void progress_ends_with_a_line(void **state)
{
    (void)state;
    assert_int_equal(md_log_open(0, 1, path), MD_OK);
    md_progress p = md_progress_begin("generate", "pairs", 10, 50);
    for (int i = 11; i <= 50; i++)
        md_progress_at(&p, i);
    p.line_at -= 100; /* as if a while had passed */
    p.began -= 80;
    md_progress_at(&p, 50);
    md_progress_end(&p, 50);
    char *text = read_log();
    assert_matches(text, "generate: 50/50 pairs, [0-9.]+ s each, 0 s left\n");
    assert_matches(text, "INFO generate: 50/50 pairs in [0-9]+ s\n$");
    free(text);
    assert_int_equal(unlink(path), 0);
}

static void clocks(void **state)
{
    (void)state;
    double a = md_now(), b = md_now();
    assert_true(b >= a);
    char text[MD_CLOCK_TEXT_BYTES];
    assert_matches(md_clock_text(text), "^[0-9-]{10}T[0-9:]{8}Z$");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(line_format),
        cmocka_unit_test(only_rank_0_informs),
        cmocka_unit_test(a_relay_takes_what_informs),
        cmocka_unit_test(threads_do_not_mix_lines),
        cmocka_unit_test(a_long_line_is_cut_and_ended),
        cmocka_unit_test(a_log_that_cannot_open_says_so),
        cmocka_unit_test(progress_ends_with_a_line),
        cmocka_unit_test(clocks),
    };
    return cmocka_run_group_tests_name("base/log", tests, make_dir, remove_dir);
}
