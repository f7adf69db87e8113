/* Checks that also work inside callbacks: cmocka's, with the status chain. */
#ifndef MD_TESTS_CLUSTER_TEST_H
#define MD_TESTS_CLUSTER_TEST_H

#include "base/status.h"
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
// cmocka.h needs those before it
#include <setjmp.h>

#include <cmocka.h>

#define ok(condition) assert_true(condition)
#define must(call)                                                                                 \
    do {                                                                                           \
        md_status must_ = (call);                                                                  \
        if (must_ != MD_OK)                                                                        \
            fail_msg("%s: %s: %s", #call, md_status_name(must_), md_status_text());                \
    } while (0)

#endif
