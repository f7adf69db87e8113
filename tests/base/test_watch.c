/* The watchdog, each time in a process of its own, which it ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/watch.h"

#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ENDED_BY_IT = 17, ENDED_BY_ITSELF = 18, WRONG_WORDS = 19 };
static const double LIMIT_S = 1;
static const char *expected;

static void hangs(const char *doing, double seconds)
{
    bool right = !strcmp(doing, expected) && seconds > LIMIT_S && seconds < 10 * LIMIT_S;
    _exit(right ? ENDED_BY_IT : WRONG_WORDS);
}

static double work_s, hang_s;

static void child_that_hangs(void)
{
    double begin = md_now();
    while (md_now() - begin < work_s) {
        md_watch("work");
        md_sleep(0.01);
    }
    md_watch("the last step");
    for (begin = md_now(); md_now() - begin < hang_s;)
        md_sleep(0.05);
}

/* The exit code of a child, which runs `what` under a watchdog; -1 after another end. */
static int watched(void (*what)(void))
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        if (md_watch_start(LIMIT_S, hangs) != MD_OK)
            _exit(1);
        what();
        _exit(ENDED_BY_ITSELF);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_hang(void **state)
{
    (void)state;
    expected = "the last step";
    work_s = 0, hang_s = 60;
    assert_int_equal(watched(child_that_hangs), ENDED_BY_IT);
}

/* Work that takes several times the limit, in steps. */
static void test_work(void **state)
{
    (void)state;
    expected = "";
    work_s = 3 * LIMIT_S, hang_s = 0;
    assert_int_equal(watched(child_that_hangs), ENDED_BY_ITSELF);
    work_s = 2 * LIMIT_S, hang_s = 60, expected = "the last step";
    assert_int_equal(watched(child_that_hangs), ENDED_BY_IT);
}

/* Stopped and continued, as a suspended machine is: no hang, as it had no time to go forward. */
static void test_stopped(void **state)
{
    (void)state;
    int status = 0;
    work_s = 4 * LIMIT_S, hang_s = 0;
    pid_t child = fork();
    if (child == 0) {
        expected = "";
        if (md_watch_start(LIMIT_S, hangs) != MD_OK)
            _exit(1);
        child_that_hangs();
        _exit(ENDED_BY_ITSELF);
    }
    md_sleep(LIMIT_S);
    assert_int_equal(kill(child, SIGSTOP), 0);
    md_sleep(3 * LIMIT_S);
    assert_int_equal(kill(child, SIGCONT), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == ENDED_BY_ITSELF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hang),
        cmocka_unit_test(test_work),
        cmocka_unit_test(test_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
