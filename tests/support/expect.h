/* What the tests of this folder share: a call must succeed, or fail with a code and a text. */
#ifndef TESTS_SUPPORT_EXPECT_H
#define TESTS_SUPPORT_EXPECT_H

#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != MD_OK)                                                                       \
            fail_msg("%s: %s", #call, md_status_text());                                           \
    } while (0)

/* The message must hold `text`. */
#define FAILS(call, code, text)                                                                    \
    do {                                                                                           \
        const md_status got_ = (call);                                                             \
        if (got_ != (code) || !strstr(md_status_text(), (text)))                                   \
            fail_msg("%s: %s, \"%s\"; wanted %s, \"%s\"", #call, md_status_name(got_),             \
                     got_ == MD_OK ? "" : md_status_text(), md_status_name(code), (text));         \
    } while (0)

#endif
