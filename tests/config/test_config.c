/* Keys, defaults, overrides, messages with line and suggestion, the resolved text, differences. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/str.h"
#include "config/config.h"
#include "config/keys.h"
#include "support/fail_alloc.h"
#include "support/tmp_dir.h"

#include <stdlib.h>
#include <string.h>

static config *parse(const char *text)
{
    config *c = NULL;
    if (config_parse(text, strlen(text), "x.cfg", &c) != MD_OK)
        fail_msg("%s", md_status_text());
    return c;
}

static void refuse(const char *text, const char *message)
{
    config *c = NULL;
    md_status status = config_parse(text, strlen(text), "x.cfg", &c);
    if (status == MD_OK)
        fail_msg("accepted: %s", text);
    assert_int_equal(status, MD_USAGE);
    assert_int_equal(md_status_exit_code(status), 2);
    assert_null(c);
    assert_string_equal(md_status_text(), message);
}

static void refuse_set(const char *assignment, const char *message)
{
    config *c = parse("");
    assert_int_equal(config_set(c, assignment, "--set"), MD_USAGE);
    assert_string_equal(md_status_text(), message);
    config_free(c);
}

static void defaults_stand_in_the_table(void **state)
{
    (void)state;
    config *c;
    assert_int_equal(config_load(NULL, NULL, 0, &c), MD_OK);
    assert_string_equal(config_string(c, KEY_run), "");
    assert_int_equal(config_int(c, KEY_finetune_steps), 2000);
    assert_true(config_float(c, KEY_finetune_lr) == 5e-6);
    assert_true(config_bool(c, KEY_guide_paste));
    assert_string_equal(config_string(c, KEY_guide_blend), "paper");
    assert_int_equal(config_choice(c, KEY_guide_blend), 0);
    assert_false(config_is_set(c, KEY_finetune_steps));
    config_free(c);
}

static void every_row_is_sound(void **state)
{
    (void)state;
    for (int k = 0; k < KEY_N; k++) {
        const config_row *r = &config__rows[k];
        assert_int_equal(config_find(r->path), k);
        assert_true(strlen(r->meaning) > 5);
        if (r->type == CONFIG_INT) {
            assert_true(r->int_min <= r->int_default && r->int_default <= r->int_max);
            if (r->multiple)
                assert_int_equal(r->int_default % r->multiple, 0);
        } else if (r->type == CONFIG_FLOAT) {
            assert_true(r->float_min <= r->float_default && r->float_default <= r->float_max);
        } else if (r->type == CONFIG_CHOICE) {
            assert_true(config__choice_index(r->choices, r->string_default) >= 0);
        }
    }
}

static void a_file_gives_values(void **state)
{
    (void)state;
    config *c = parse("seed = 12;\n"
                      "run = \"runs/a b\";\n"
                      "finetune: { lr = 1e-4; clip = 2; steps = 10; mask_out = true };\n"
                      "generate = { sampler = \"ddpm\"; guidance = 3.5; }\n");
    assert_int_equal(config_int(c, KEY_seed), 12);
    assert_string_equal(config_string(c, KEY_run), "runs/a b");
    assert_true(config_float(c, KEY_finetune_lr) == 1e-4);
    assert_true(config_float(c, KEY_finetune_clip) == 2.0); /* an integer will do */
    assert_int_equal(config_int(c, KEY_finetune_steps), 10);
    assert_true(config_bool(c, KEY_finetune_mask_out));
    assert_int_equal(config_choice(c, KEY_generate_sampler), 2);
    assert_true(config_is_set(c, KEY_seed));
    config_free(c);
}

static void bad_files_are_refused_with_line_and_key(void **state)
{
    (void)state;
    refuse("seed = 1;\nfinetune = { stepps = 5; };\n",
           "x.cfg:2: unknown key \"finetune.stepps\"; did you mean \"finetune.steps\"?");
    refuse("\n\nsteps = 5;\n", "x.cfg:3: unknown key \"steps\"; did you mean \"finetune.steps\"?");
    refuse("qwertyuiop = 5;\n",
           "x.cfg:1: unknown key \"qwertyuiop\"; \"meddiff JOB --help\" lists the keys");
    refuse("finetune = 5;\n", "x.cfg:1: finetune is an integer, wanted is a group { ... }");
    refuse("finetune = { lr = \"fast\"; };\n",
           "x.cfg:1: finetune.lr is a text in quotes, wanted is a number");
    refuse("finetune = { steps = 1.5; };\n",
           "x.cfg:1: finetune.steps is a number with a decimal point, wanted is an integer");
    refuse("finetune = { mask_out = 1; };\n",
           "x.cfg:1: finetune.mask_out is an integer, wanted is true or false");
    refuse("run = 7;\n", "x.cfg:1: run is an integer, wanted is a text in quotes");
    refuse("device = true;\n",
           "x.cfg:1: device is true or false, wanted is one of auto|cpu|cuda in quotes");
    refuse("device = \"gpu\";\n", "x.cfg:1: device is \"gpu\", allowed is one of auto|cpu|cuda");
    refuse("seed = { a = 1; };\n", "x.cfg:1: seed is a group, wanted is an integer");
    refuse("seed = [1, 2];\n", "x.cfg:1: seed is a list, wanted is an integer");
    refuse("\nfinetune = { steps = -1; };\n",
           "x.cfg:2: finetune.steps is -1, allowed is 0 to 10000000");
    refuse("finetune = { lr = 2.0; };\n", "x.cfg:1: finetune.lr is 2, allowed is 0 to 1");
    refuse("data = {\n  size = 100;\n};\n",
           "x.cfg:2: data.size is 100, which is not a multiple of 64");
    refuse("seed = 1\nrun = ;\n",
           "x.cfg:2: syntax error; a ; } or \" may be missing here or before it");
    refuse("  @include \"other.cfg\"\n", "x.cfg:1: @include is not supported");
    refuse("run = \"a\\nb\";\n", "x.cfg:1: run contains a control character (byte 10)");
    config *c = NULL;
    assert_int_equal(config_parse("a\0b", 3, "x.cfg", &c), MD_USAGE);
    assert_string_equal(md_status_text(), "x.cfg: a NUL byte at offset 1; is this a text file?");
}

static void overrides_win_and_are_checked(void **state)
{
    (void)state;
    config *c = parse("finetune = { steps = 10; };");
    assert_int_equal(config_set(c, "finetune.steps=20", "--set"), MD_OK);
    assert_int_equal(config_set(c, "finetune.lr=1e-3", "--set"), MD_OK);
    assert_int_equal(config_set(c, "model.prompt=a photo = x", "--set"), MD_OK);
    assert_int_equal(config_set(c, "guide.paste=false", "--set"), MD_OK);
    assert_int_equal(config_int(c, KEY_finetune_steps), 20);
    assert_true(config_float(c, KEY_finetune_lr) == 1e-3);
    assert_string_equal(config_string(c, KEY_model_prompt), "a photo = x");
    assert_false(config_bool(c, KEY_guide_paste));
    config_free(c);
    refuse_set("finetune.steps", "--set \"finetune.steps\": wanted is section.name=value");
    refuse_set("finetune.step=3",
               "--set: unknown key \"finetune.step\"; did you mean \"finetune.steps\"?");
    refuse_set("finetune.steps=3x",
               "--set finetune.steps=3x: finetune.steps is no integer, wanted is an integer");
    refuse_set("finetune.steps=",
               "--set finetune.steps=: finetune.steps is no integer, wanted is an integer");
    refuse_set("finetune.steps=99999999999999999999",
               "--set finetune.steps=99999999999999999999: finetune.steps is no integer, wanted is "
               "an integer");
    refuse_set("finetune.lr=nan",
               "--set finetune.lr=nan: finetune.lr is no number, wanted is a number");
    refuse_set("finetune.lr=0x1p-3",
               "--set finetune.lr=0x1p-3: finetune.lr is no number, wanted is a number");
    refuse_set("guide.paste=1",
               "--set guide.paste=1: guide.paste is neither, wanted is true or false");
    refuse_set("guide.blend=papper",
               "--set guide.blend=papper: guide.blend is \"papper\", allowed is one of "
               "paper|paper-mean|renoise|x0|none");
}

static void files_and_overrides_load(void **state)
{
    (void)state;
    char dir[256], path[512];
    assert_non_null(tmp_dir_make(dir));
    (void)snprintf(path, sizeof path, "%s/a.cfg", dir);
    assert_int_equal(md_file_write_atomic(path, "seed = 3;\n", 10), MD_OK);
    const char *sets[] = {"data.size=64", "seed=4"};
    config *c;
    assert_int_equal(config_load(path, sets, 2, &c), MD_OK);
    assert_int_equal(config_int(c, KEY_seed), 4);
    assert_int_equal(config_int(c, KEY_data_size), 64);
    /* What a job finds wrong is said with its place. */
    assert_int_equal(config_fail(c, KEY_data_size, "too small for %s", "this"), MD_USAGE);
    assert_string_equal(md_status_text(), "--set data.size=64: data.size: too small for this");
    config_free(c);
    (void)snprintf(path, sizeof path, "%s/none.cfg", dir);
    assert_int_equal(config_load(path, NULL, 0, &c), MD_BAD_INPUT);
    assert_non_null(strstr(md_status_text(), "none.cfg: cannot open"));
    tmp_dir_remove(dir);
}

static const char *text_of(config *c)
{
    md_status status;
    const char *text = config_text(c, &status);
    assert_int_equal(status, MD_OK);
    return text;
}

static void the_resolved_text_reads_back_the_same(void **state)
{
    (void)state;
    config *a = parse("seed = 9007199254740991L; run = \"with \\\"quotes\\\" and \\\\ in\";\n"
                      "finetune = { lr = 0.1; eps = 1.2345678901234567e-9; clip = 123456.0 };\n"
                      "generate = { pairs = 100000000; };\n"
                      "model = { prompt = \"Läsion # 1 // x\"; };\n");
    config *b = parse(text_of(a));
    assert_string_equal(text_of(a), text_of(b));
    assert_int_equal(config_diff(a, b, NULL), KEY_N);
    assert_int_equal(config_int(b, KEY_seed), 9007199254740991);
    assert_string_equal(config_string(b, KEY_run), "with \"quotes\" and \\ in");
    assert_true(config_float(b, KEY_finetune_lr) == 0.1);
    assert_true(config_float(b, KEY_finetune_eps) == 1.2345678901234567e-9);
    assert_string_equal(config_string(b, KEY_model_prompt), "Läsion # 1 // x");
    /* The text follows a later change. */
    assert_int_equal(config_set(b, "seed=5", "--set"), MD_OK);
    assert_non_null(strstr(text_of(b), "\nseed = 5;\n"));
    config_free(a);
    config_free(b);
}

static void changes_that_shape_samples_are_found(void **state)
{
    (void)state;
    config *a = parse("finetune = { lr = 1e-4; }; threads = 1;");
    config *b = parse("finetune = { lr = 5e-6; }; threads = 2; seed = 1;");
    assert_int_equal(config_diff(a, b, NULL), KEY_seed);
    assert_int_equal(config_diff(a, b, "data finetune"), KEY_finetune_lr);
    assert_int_equal(config_diff(a, b, "data model"), KEY_N);
    assert_int_equal(config_diff(a, b, "data finetune -finetune.lr"), KEY_N);
    assert_int_equal(config_diff(a, b, "-finetune.lr finetune"), KEY_N);
    assert_int_equal(config_diff(a, b, "finetune -finetune.lr_floor"), KEY_finetune_lr);
    assert_int_equal(config_diff(a, b, "."), KEY_seed);
    assert_int_equal(config_same(a, b, "finetune"), MD_USAGE);
    assert_string_equal(md_status_text(),
                        "finetune.lr is 0.0001 in x.cfg but 5e-06 in x.cfg; set it "
                        "back or use another run directory");
    assert_int_equal(config_set(b, "seed=0", "--set"), MD_OK);
    assert_int_equal(config_diff(a, b, "."), KEY_N); /* threads does not shape samples */
    config_free(a);
    config_free(b);
}

static void suggestions(void **state)
{
    (void)state;
    assert_string_equal(config_suggest("fintune.lr"), "finetune.lr");
    assert_string_equal(config_suggest("generate.blend"), "guide.blend");
    assert_null(config_suggest("zzzzzzzzzzzz"));
}

static void help_lists_every_key_of_its_sections(void **state)
{
    (void)state;
    char *text;
    assert_int_equal(config_help(NULL, &text), MD_OK);
    for (int k = 0; k < KEY_N; k++) {
        assert_non_null(strstr(text, config_path((config_key)k)));
        assert_non_null(strstr(text, config_meaning((config_key)k)));
    }
    free(text);
    assert_int_equal(config_help("phantom", &text), MD_OK);
    assert_non_null(strstr(text, "phantom.kind"));
    assert_null(strstr(text, "finetune.lr"));
    free(text);
    assert_int_equal(config_help("", &text), MD_OK);
    assert_string_equal(text, "");
    free(text);
}

/* The names of the .cfg files of a folder; free(). */
static size_t list_configs(const char *folder, char ***names)
{
    size_t n, kept = 0;
    assert_int_equal(md_dir_list(folder, names, &n), MD_OK);
    for (size_t i = 0; i < n; i++)
        if (md_str_ends((*names)[i], ".cfg"))
            (*names)[kept++] = (*names)[i];
    assert_true(kept > 0);
    return kept;
}

static config *load_sample(const char *folder, const char *name)
{
    char path[512];
    config *c = NULL;
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    if (config_load(path, NULL, 0, &c) != MD_OK)
        fail_msg("%s", md_status_text());
    return c;
}

/* Every sample in configs/ names only keys that exist, with values in range. */
static void samples_are_valid(void **state)
{
    (void)state;
    static const char *const folders[] = {"configs", "configs/reference", "configs/paper",
                                          "configs/paper/with", "configs/tiny"};
    for (size_t k = 0; k < sizeof folders / sizeof folders[0]; k++) {
        char **names;
        size_t n = list_configs(folders[k], &names);
        for (size_t i = 0; i < n; i++)
            config_free(load_sample(folders[k], names[i]));
        free(names);
    }
}

/* The data sets' files of one procedure differ in nothing but what tells the data sets apart. */
static void data_sets_are_alike(void **state)
{
    (void)state;
    static const char *const sets[] = {"busi.cfg", "ddti.cfg", "isic2017.cfg", "isic2018.cfg",
                                       "ph2.cfg"};
    char **names;
    assert_int_equal(list_configs("configs/paper", &names), 5);
    free(names);
    config *first = load_sample("configs/paper", sets[0]);
    for (int i = 1; i < 5; i++) {
        config *c = load_sample("configs/paper", sets[i]);
        char format[64];
        (void)snprintf(format, sizeof format, "data.format=%s",
                       config_string(first, KEY_data_format));
        assert_string_not_equal(config_string(c, KEY_data_root),
                                config_string(first, KEY_data_root));
        assert_int_equal(config_set(c, format, "test"), MD_OK);
        config_key differs = config_diff(first, c, NULL);
        if (differs != KEY_N)
            fail_msg("%s: %s", sets[i], config_path(differs));
        assert_string_equal(config_string(c, KEY_model_encoder), "");
        config_free(c);
    }
    config_free(first);
}

/* A file over another: its keys win, the others stay, and messages name the file. */
static void files_over_files(void **state)
{
    (void)state;
    config *c = load_sample("configs/paper", "busi.cfg");
    assert_int_equal(config_overlay(c, "configs/paper/with/table3-both.cfg"), MD_OK);
    assert_int_equal(config_int(c, KEY_quality_corrode_px), 1);
    assert_false(config_bool(c, KEY_quality_redraw));
    assert_string_equal(config_string(c, KEY_model_encoder), "data/dinov2-base");
    assert_string_equal(config_string(c, KEY_model_prompt), "An image of hta");
    assert_int_equal(config_int(c, KEY_generate_pairs), 1500);
    assert_int_equal(config_overlay(c, "configs/paper/with/pairs-2750.cfg"), MD_OK);
    assert_int_equal(config_int(c, KEY_generate_pairs), 2750);
    assert_int_equal(config_int(c, KEY_quality_corrode_px), 1);
    assert_int_equal(config_fail(c, KEY_generate_pairs, "no"), MD_USAGE);
    assert_non_null(strstr(md_status_text(), "configs/paper/with/pairs-2750.cfg:2: "));
    assert_int_equal(config_overlay(c, "configs/none.cfg"), MD_BAD_INPUT);
    config_free(c);
}

/* libconfig ends the process when its own allocations fail, so only ours are made to fail: the ones
   of a configuration without a file. */
static void every_allocation_may_fail(void **state)
{
    (void)state;
    const char *sets[] = {"data.root=somewhere", "seed=4"};
    config *c = NULL;
    long fail = 0;
    md_status status;
    do {
        fail_alloc_at(++fail);
        status = config_load(NULL, sets, 2, &c);
        fail_alloc_at(0);
        assert_true(status == MD_OK || status == MD_NOMEM);
    } while (status == MD_NOMEM && fail < 100);
    assert_int_equal(status, MD_OK);
    assert_true(fail > 2);
    for (fail = 1; fail < 20; fail++) {
        config_free(c);
        assert_int_equal(config_load(NULL, sets, 2, &c), MD_OK);
        fail_alloc_at(fail);
        const char *text = config_text(c, &status);
        fail_alloc_at(0);
        assert_true((text != NULL) == (status == MD_OK));
    }
    config_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_stand_in_the_table),
        cmocka_unit_test(every_row_is_sound),
        cmocka_unit_test(a_file_gives_values),
        cmocka_unit_test(bad_files_are_refused_with_line_and_key),
        cmocka_unit_test(overrides_win_and_are_checked),
        cmocka_unit_test(files_and_overrides_load),
        cmocka_unit_test(the_resolved_text_reads_back_the_same),
        cmocka_unit_test(changes_that_shape_samples_are_found),
        cmocka_unit_test(suggestions),
        cmocka_unit_test(help_lists_every_key_of_its_sections),
        cmocka_unit_test(samples_are_valid),
        cmocka_unit_test(data_sets_are_alike),
        cmocka_unit_test(files_over_files),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
