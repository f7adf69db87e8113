/* Folders and single files that we write open in diffusers: tests/golden/check_folder.py,
   check_single.py and check_masks.py compare. Skipped without diffusers; MEDDIFF_PYTHON names an
   interpreter that has it. */
#include "backend/ref/ref.h"
#include "config/config.h"
#include "generate/mask_model.h"
#include "model/foundation.h"
#include "train/masks.h"
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

/* The exit status of a script in tests/golden. */
static int check(const char *script, const char *arguments)
{
    char command[512];
    const char *python = getenv("MEDDIFF_PYTHON");
    snprintf(command, sizeof command, "%s tests/golden/%s %s 2>&1", python ? python : "python3",
             script, arguments);
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
    int same = check("check_folder.py", text);
    /* and the check can fail: another UNet is noticed */
    OK(foundation_randomize(f, MODEL_UNET, be, 1));
    OK(foundation_save_part(f, MODEL_UNET, root, be, NULL, false));
    int other = check("check_folder.py", text);
    snprintf(text, sizeof text, "rm -rf %s", root);
    assert_int_equal(system(text), 0);
    foundation_free(f, be);
    be->ops->close(be);
    assert_int_equal(same, 0);
    assert_int_equal(other, 1);
}

static void test_single(void **state)
{
    (void)state;
    char root[] = "/tmp/meddiff-diffusers-XXXXXX", file[64], text[256];
    md_backend *be;
    foundation *f;
    assert_non_null(mkdtemp(root));
    OK(ref_backend_open(&be));
    OK(foundation_open(SD, &f));
    snprintf(file, sizeof file, "%s/one.safetensors", root);
    OK(foundation_save_file(f, file, be, false));
    snprintf(text, sizeof text, "%s " SD, file);
    int same = check("check_single.py", text);
    OK(foundation_load(f, MODEL_VAE, be));
    OK(foundation_randomize(f, MODEL_VAE, be, 1));
    OK(foundation_save_file(f, file, be, false));
    int other = check("check_single.py", text);
    snprintf(text, sizeof text, "rm -rf %s", root);
    assert_int_equal(system(text), 0);
    foundation_free(f, be);
    be->ops->close(be);
    assert_int_equal(same, 0);
    assert_int_equal(other, 1);
}

/* With the schedule that a configuration gives it. */
static void test_masks(void **state)
{
    (void)state;
    char root[] = "/tmp/meddiff-diffusers-XXXXXX", text[256];
    md_backend *be;
    config *cfg;
    mask_model m;
    assert_non_null(mkdtemp(root));
    OK(ref_backend_open(&be));
    OK(config_load(NULL, NULL, 0, &cfg));
    m.schedule = mask_schedule_for(cfg);
    OK(standalone_open(MODEL_MASK_UNET, "tests/golden/masks", &m.net));
    OK(standalone_load(m.net, be));
    OK(mask_model_save(&m, root, be));
    snprintf(text, sizeof text, "%s tests/golden/masks", root);
    int same = check("check_masks.py", text);
    OK(standalone_randomize(m.net, be, 1));
    OK(mask_model_save(&m, root, be));
    int other = check("check_masks.py", text);
    mask_model_free(&m, be);
    OK(standalone_open(MODEL_MASK_UNET, "tests/golden/masks", &m.net));
    OK(standalone_load(m.net, be));
    m.schedule = mask_schedule_for(cfg);
    m.schedule.beta_end = 0.03;
    OK(mask_model_save(&m, root, be));
    int noisier = check("check_masks.py", text);
    snprintf(text, sizeof text, "rm -rf %s", root);
    assert_int_equal(system(text), 0);
    mask_model_free(&m, be);
    config_free(cfg);
    be->ops->close(be);
    assert_int_equal(same, 0);
    assert_int_equal(other, 1);
    assert_int_equal(noisier, 1);
}

int main(void)
{
    int probe = check("check_folder.py", "--probe");
    if (probe == 77 || probe == 127) { /* 127: not even a Python */
        puts("skipped: no Python with diffusers here");
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_opens), cmocka_unit_test(test_single),
                                       cmocka_unit_test(test_masks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
