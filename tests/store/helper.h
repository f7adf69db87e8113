/* What the tests of the store share: scratch folders, commands, expected messages. */
#ifndef TESTS_STORE_HELPER_H
#define TESTS_STORE_HELPER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/status.h"

/* A fresh folder for this program, removed by helper_end. */
const char *helper_begin(void);
void helper_end(void);
/* "<folder>/<name>", valid until eight more calls. */
const char *helper_path(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Runs a shell command; returns its exit code and the first bytes of its output. */
int helper_run(char *out, size_t bytes, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#define assert_ok(call)                                                                            \
    do {                                                                                           \
        md_status s_ = (call);                                                                     \
        if (s_ != MD_OK)                                                                           \
            fail_msg("%s: %s: %s", #call, md_status_name(s_), md_status_text());                   \
    } while (0)
/* The call fails with this status, and its message holds the text. */
#define assert_fails(call, want, text)                                                             \
    do {                                                                                           \
        md_status s_ = (call);                                                                     \
        if (s_ != (want) || !helper_has(md_status_text(), (text)))                                 \
            fail_msg("%s: got %s \"%s\", wanted %s with \"%s\"", #call, md_status_name(s_),        \
                     s_ == MD_OK ? "" : md_status_text(), md_status_name(want), (text));           \
    } while (0)
int helper_has(const char *text, const char *part);

#endif
