/* One cmocka test per family: `run` does one row and returns a status. Rows after a failed one
   still run; each failure is printed with its row and seed. */
#ifndef MD_TESTS_OPS_CMOCKA_H
#define MD_TESTS_OPS_CMOCKA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "ops_test.h"

typedef md_status (*op_row_fn)(const op_family *f, int row);

int op_run_families(const char *group, op_row_fn run, CMFixtureFunction setup,
                    CMFixtureFunction teardown);

/* Fails the test with the status chain. */
#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != MD_OK)                                                                       \
            fail_msg("%s", md_status_text());                                                      \
    } while (0)

#endif
