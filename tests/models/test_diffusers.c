/* Folders that we write open in diffusers: tests/golden/check_folder.py compares. Skipped without
   diffusers; MEDDIFF_PYTHON names an interpreter that has it. */
#include "backend/ref/ref.h"
#include "model/foundation.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <cmocka.h>

#define SD "tests/golden/sd"
#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != MD_OK)                                                                       \
            fail_msg("%s", md_status_text());                                                      \
    } while (0)

/* The exit status of check_folder.py. */
static int check(const char *arguments)
{
    char command[512];
    const char *python = getenv("MEDDIFF_PYTHON");
    snprintf(command, sizeof command, "%s tests/golden/check_folder.py %s 2>&1",
             python ? python : "python3", arguments);
    fflush(stdout);
    int status = system(command);
    return status != -1 && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static void test_opens(void **state)
{
    (void)state;
    char root[] = "/tmp/meddiff-diffusers-XXXXXX", text[256];
    md_backend *be;
    foundation *f;
    assert_non_null(mkdtemp(root));
    OK(ref_backend_open(&be));
    OK(foundation_open(SD, &f));
    for (int i = 0; i < MODEL_N_PARTS; i++)
        OK(foundation_load(f, (model_part)i, be));
    OK(foundation_save(f, root, be, false));
    snprintf(text, sizeof text, "%s " SD, root);
    int same = check(text);
    /* and the check can fail: another UNet is noticed */
    OK(foundation_randomize(f, MODEL_UNET, be, 1));
    OK(foundation_save_part(f, MODEL_UNET, root, be, NULL, false));
    int other = check(text);
    snprintf(text, sizeof text, "rm -rf %s", root);
    assert_int_equal(system(text), 0);
    foundation_free(f, be);
    be->ops->close(be);
    assert_int_equal(same, 0);
    assert_int_equal(other, 1);
}

int main(void)
{
    int probe = check("--probe");
    if (probe == 77 || probe == 127) { /* 127: not even a Python */
        puts("skipped: no Python with diffusers here");
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_opens)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
