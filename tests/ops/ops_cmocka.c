#include "ops_cmocka.h"

static op_row_fn run_row;

static void run_family(void **state)
{
    const op_family *f = *state;
    int failed = 0;
    for (int row = 0; row < f->n; row++) {
        if (run_row(f, row) != MD_OK) {
            print_error("FAILED %s\n", md_status_text());
            failed++;
        }
    }
    if (failed)
        fail_msg("%d of %d rows of %s failed", failed, f->n, f->name);
}

int op_run_families(const char *group, op_row_fn run, CMFixtureFunction setup,
                    CMFixtureFunction teardown)
{
    struct CMUnitTest tests[32] = {{0}};
    run_row = run;
    for (int i = 0; i < op_n_families && i < 32; i++)
        tests[i] = (struct CMUnitTest){op_families[i]->name, run_family, NULL, NULL,
                                       (void *)op_families[i]};
    return _cmocka_run_group_tests(group, tests, (size_t)op_n_families, setup, teardown);
}
