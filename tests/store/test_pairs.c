/* pairs.h5: what is written is read back, by us and by others; torn slots are found; stores grow.
 */
#include "helper.h"

#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/rng.h"
#include "comm/comm.h"
#include "pixels.h"
#include "store/pairs.h"

static pairs_spec spec_of(int64_t rows, int64_t side)
{
    return (pairs_spec){.rows = rows,
                        .height = side,
                        .width = side,
                        .prompt = "an image of hta \xc3\xa4",
                        .foundation = "data/tiny",
                        .config = "seed = 7;\n",
                        .code_version = "test",
                        .licences = "CC0 1.0",
                        .seed = 0xfedcba9876543210u,
                        .band = {0.25, 0.75, 0.375, 0.875},
                        .contains_real_pixels = true,
                        .input = {{"data", "ab12"}, {"scheduler", "cd34"}},
                        .n_inputs = 2};
}

static pairs_row row_of(int slot, uint32_t crc)
{
    pairs_row r = pairs_row_empty();
    r.state = PAIRS_ACCEPTED;
    r.similarity = 0.5f + (float)slot;
    r.similarity_lesion = -0.25f;
    r.nearest_id = 100 + slot;
    r.alignment = 0.75f;
    r.background_id = 3;
    r.mask_id = 4;
    r.attempt = slot % 3;
    r.crc = crc;
    (void)snprintf(r.reason, sizeof r.reason, "slot %d", slot);
    return r;
}

static void write_slot(pairs_store *p, int slot, int attempt)
{
    slot_pixels x = pixels_make((int)pairs_height(p), slot, attempt);
    uint32_t crc = 0;
    assert_ok(pairs_write_pixels(p, slot, x.image, x.mask, x.guide, &crc));
    pairs_row r = row_of(slot, crc);
    r.attempt = attempt;
    assert_ok(pairs_write_row(p, slot, &r));
    pixels_free(&x);
}

static void written_is_read_back(void **state)
{
    (void)state;
    const char *path = helper_path("a.h5");
    pairs_spec spec = spec_of(6, 64);
    assert_ok(pairs_create(path, &spec));
    assert_int_not_equal(access(helper_path("a.h5.tmp"), F_OK), 0);
    pairs_store *p = NULL;
    assert_ok(pairs_open_writer(path, &p));
    assert_int_equal(pairs_rows(p), 6);
    assert_int_equal(pairs_width(p), 64);
    pairs_row r;
    assert_ok(pairs_read_row(p, 5, &r));
    assert_true(r.state == PAIRS_EMPTY && isnan(r.similarity) && isnan(r.alignment));
    assert_true(r.nearest_id == -1 && r.background_id == -1 && r.mask_id == -1 && r.attempt == 0);
    for (int slot = 5; slot >= 1; slot--)
        write_slot(p, slot, slot % 3);
    assert_ok(pairs_sync(p));
    pairs_close(p);

    assert_ok(pairs_open_reader(path, &p));
    for (int slot = 1; slot < 6; slot++) {
        slot_pixels x = pixels_make(64, slot, slot % 3), y = pixels_make(64, 99, 0);
        assert_ok(pairs_read_pixels(p, slot, y.image, y.mask, y.guide));
        assert_memory_equal(x.image, y.image, 64 * 64 * 3);
        assert_memory_equal(x.mask, y.mask, 64 * 64);
        assert_memory_equal(x.guide, y.guide, 64 * 64);
        pairs_row want = row_of(slot, 0);
        assert_ok(pairs_read_row(p, slot, &r));
        assert_int_equal(r.state, PAIRS_ACCEPTED);
        assert_true(r.similarity == want.similarity && r.similarity_lesion == -0.25f &&
                    r.alignment == 0.75f && r.nearest_id == 100 + slot);
        assert_true(r.background_id == 3 && r.mask_id == 4 && r.attempt == slot % 3);
        assert_string_equal(r.reason, want.reason);
        bool whole = false;
        assert_ok(pairs_verify_slot(p, slot, &whole));
        assert_true(whole);
        pixels_free(&x);
        pixels_free(&y);
    }
    int64_t count[PAIRS_N_STATES];
    assert_ok(pairs_count_states(p, count));
    assert_true(count[PAIRS_EMPTY] == 1 && count[PAIRS_ACCEPTED] == 5);
    char *text = NULL;
    assert_ok(pairs_text(p, "prompt", &text));
    assert_string_equal(text, spec.prompt);
    free(text);
    assert_ok(pairs_text(p, "sha256_scheduler", &text));
    assert_string_equal(text, "cd34");
    free(text);
    uint64_t seed = 0;
    double band[PAIRS_BAND];
    bool real = false;
    assert_ok(pairs_seed(p, &seed));
    assert_ok(pairs_band(p, band));
    assert_ok(pairs_contains_real_pixels(p, &real));
    assert_true(seed == spec.seed && memcmp(band, spec.band, sizeof band) == 0 && real);
    assert_fails(pairs_read_row(p, 6, &r), MD_INTERNAL, "a.h5");
    pairs_close(p);
}

static void bad_mask_values_are_refused(void **state)
{
    (void)state;
    pairs_spec spec = spec_of(2, 64);
    assert_ok(pairs_create(helper_path("v.h5"), &spec));
    pairs_store *p = NULL;
    assert_ok(pairs_open_writer(helper_path("v.h5"), &p));
    slot_pixels x = pixels_make(64, 0, 0);
    uint32_t crc = 0;
    x.guide[17] = 255;
    assert_fails(pairs_write_pixels(p, 0, x.image, x.mask, x.guide, &crc), MD_INTERNAL, "255");
    pixels_free(&x);
    pairs_close(p);
}

/* The pixels must start on a page and be claimed on disk, and no object may carry a time. */
static void layout_is_as_designed(void **state)
{
    (void)state;
    pairs_spec spec = spec_of(50, 64);
    const char *path = helper_path("l.h5");
    assert_ok(pairs_create(path, &spec));
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size >= 50 * 64 * 64 * 5);
    assert_true((int64_t)st.st_blocks * 512 >= st.st_size);
    char out[8192];
    if (helper_run(out, sizeof out, "h5dump -V") != 0) {
        print_message("h5dump is not installed: layout not dumped\n");
        return;
    }
    assert_int_equal(helper_run(out, sizeof out, "h5dump -H -p -d /images '%s'", path), 0);
    assert_true(helper_has(out, "CONTIGUOUS") && helper_has(out, "H5D_ALLOC_TIME_EARLY") &&
                helper_has(out, "H5D_FILL_TIME_NEVER") && helper_has(out, "( 50, 64, 64, 3 )"));
    char *at = strstr(out, "OFFSET ");
    assert_non_null(at);
    assert_int_equal(atoll(at + 7) % 4096, 0);
    assert_int_equal(helper_run(out, sizeof out, "h5dump -H -p -d /state '%s'", path), 0);
    assert_true(helper_has(out, "H5D_FILL_TIME_ALLOC") && helper_has(out, "H5T_STD_U8LE"));
    assert_int_equal(helper_run(out, sizeof out, "h5dump -H -d /reason '%s'", path), 0);
    assert_true(helper_has(out, "STRSIZE 160"));
    assert_int_equal(helper_run(out, sizeof out, "h5dump -p -B -a /schema '%s'", path), 0);
    assert_true(helper_has(out, "meddiff.pairs") && helper_has(out, "SUPERBLOCK_VERSION 0"));
    /* Two stores made from the same spec are the same bytes: no clock, no address, no pid in them.
     */
    assert_ok(pairs_create(helper_path("m.h5"), &spec));
    assert_int_equal(helper_run(out, sizeof out, "cmp '%s' '%s'", path, helper_path("m.h5")), 0);
}

static void h5dump_and_h5py_read_it(void **state)
{
    (void)state;
    pairs_spec spec = spec_of(4, 64);
    const char *path = helper_path("p.h5");
    assert_ok(pairs_create(path, &spec));
    pairs_store *p = NULL;
    assert_ok(pairs_open_writer(path, &p));
    for (int slot = 0; slot < 3; slot++)
        write_slot(p, slot, 1);
    char out[8192];
    /* The writer is still open: others can read all the same. */
    if (helper_run(out, sizeof out, "h5dump -V") == 0) {
        assert_int_equal(helper_run(out, sizeof out, "h5dump -d /state '%s'", path), 0);
        assert_true(helper_has(out, "(0): 2, 2, 2, 0"));
        assert_int_equal(helper_run(out, sizeof out, "h5ls -d '%s/nearest_id'", path), 0);
        assert_true(helper_has(out, "100, 101, 102, -1"));
        assert_int_equal(helper_run(out, sizeof out, "h5dump -d /reason '%s'", path), 0);
        assert_true(helper_has(out, "slot 2"));
    } else
        print_message("h5dump is not installed: not tried\n");
    if (helper_run(out, sizeof out, "/usr/bin/python3 -c 'import h5py'") == 0) {
        slot_pixels x = pixels_make(64, 2, 1);
        FILE *f = fopen(helper_path("want.raw"), "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(x.image, 1, 64 * 64 * 3, f), 64 * 64 * 3);
        assert_int_equal(fclose(f), 0);
        pixels_free(&x);
        int rc = helper_run(
            out, sizeof out,
            "/usr/bin/python3 -c \"import h5py,math\n"
            "f=h5py.File('%s','r')\n"
            "assert f['images'][2].tobytes()==open('%s','rb').read()\n"
            "assert list(f['state'])==[2,2,2,0]\n"
            "assert f['attempt'][2]==1 and f['reason'][1]==b'slot 1'\n"
            "assert math.isnan(f['similarity'][3]) and f['crc'].dtype=='uint32'\n"
            "assert f.attrs['schema']=='meddiff.pairs' and f.attrs['schema_version']==1\n"
            "assert f.attrs['seed']==0xfedcba9876543210\n"
            "assert list(f.attrs['band'])==[0.25,0.75,0.375,0.875]\n"
            "assert f.attrs['prompt'].startswith('an image of hta')\"",
            path, helper_path("want.raw"));
        if (rc)
            fail_msg("h5py: %s", out);
    } else
        print_message("h5py is not installed: not tried\n");
    pairs_close(p);
}

/* A reader opened before a write sees it afterwards: nothing is cached. */
static void readers_follow_a_writer(void **state)
{
    (void)state;
    pairs_spec spec = spec_of(3, 64);
    const char *path = helper_path("f.h5");
    assert_ok(pairs_create(path, &spec));
    pairs_store *r = NULL, *w = NULL;
    assert_ok(pairs_open_reader(path, &r));
    int64_t count[PAIRS_N_STATES];
    assert_ok(pairs_count_states(r, count));
    assert_int_equal(count[PAIRS_EMPTY], 3);
    /* Another process, as in life: within one, HDF5 would share the file. */
    char out[4096];
    (void)w;
    int rc = helper_run(out, sizeof out, "'%s' --write-one '%s'", getenv("STORE_TEST_SELF"), path);
    if (rc)
        fail_msg("writer: %s", out);
    assert_ok(pairs_count_states(r, count));
    assert_int_equal(count[PAIRS_ACCEPTED], 1);
    bool whole = false;
    assert_ok(pairs_verify_slot(r, 1, &whole));
    assert_true(whole);
    pairs_close(r);
}

static void torn_slots_are_found(void **state)
{
    (void)state;
    pairs_spec spec = spec_of(5, 64);
    const char *path = helper_path("t.h5");
    assert_ok(pairs_create(path, &spec));
    pairs_store *p = NULL;
    assert_ok(pairs_open_writer(path, &p));
    for (int slot = 0; slot < 4; slot++)
        write_slot(p, slot, slot);
    slot_pixels x = pixels_make(64, 2, 2);
    x.guide[64 * 64 - 1] ^= 1; /* one bit of the last byte, as a power cut could leave it */
    uint32_t crc = 0;
    assert_ok(pairs_write_pixels(p, 2, x.image, x.mask, x.guide, &crc));
    pixels_free(&x);
    bool whole = true;
    assert_ok(pairs_verify_slot(p, 2, &whole));
    assert_false(whole);
    int64_t torn = 0;
    assert_ok(pairs_repair(p, &torn));
    assert_int_equal(torn, 1);
    pairs_row r;
    assert_ok(pairs_read_row(p, 2, &r));
    assert_true(r.state == PAIRS_EMPTY && r.attempt == 2);
    assert_ok(pairs_read_row(p, 3, &r));
    assert_true(r.state == PAIRS_ACCEPTED);
    assert_ok(pairs_repair(p, &torn));
    assert_int_equal(torn, 0);
    assert_ok(pairs_reset(p, 3, 4));
    assert_ok(pairs_read_row(p, 3, &r));
    assert_true(r.state == PAIRS_EMPTY && r.attempt == 4);
    pairs_close(p);
}

static void stores_grow(void **state)
{
    (void)state;
    pairs_spec spec = spec_of(4, 64);
    const char *path = helper_path("g.h5");
    assert_ok(pairs_create(path, &spec));
    pairs_store *p = NULL;
    assert_ok(pairs_open_writer(path, &p));
    for (int slot = 0; slot < 3; slot++)
        write_slot(p, slot, slot);
    pairs_row bad = pairs_row_empty();
    bad.state = PAIRS_FAILED;
    (void)snprintf(bad.reason, sizeof bad.reason, "non-finite latent");
    assert_ok(pairs_write_row(p, 3, &bad));
    assert_ok(pairs_reset(p, 1, 7));
    pairs_close(p);
    assert_fails(pairs_grow(path, 3, NULL), MD_USAGE, "shrink");
    assert_ok(pairs_grow(path, 9, "seed = 7; # more\n"));
    assert_int_not_equal(access(helper_path("g.h5.tmp"), F_OK), 0);
    assert_ok(pairs_open_reader(path, &p));
    assert_int_equal(pairs_rows(p), 9);
    uint8_t got[9];
    assert_ok(pairs_read_states(p, got));
    assert_memory_equal(got, "\2\0\2\4\0\0\0\0\0", 9);
    int32_t attempt[9];
    assert_ok(pairs_read_attempts(p, attempt));
    assert_true(attempt[1] == 7 && attempt[2] == 2 && attempt[8] == 0);
    slot_pixels x = pixels_make(64, 2, 2), y = pixels_make(64, 9, 9);
    assert_ok(pairs_read_pixels(p, 2, y.image, y.mask, y.guide));
    assert_memory_equal(x.image, y.image, 64 * 64 * 3);
    assert_memory_equal(x.guide, y.guide, 64 * 64);
    pixels_free(&x);
    pixels_free(&y);
    assert_ok(pairs_read_row(p, 3, &bad));
    assert_string_equal(bad.reason, "non-finite latent");
    int64_t remarked = 0; /* slots 0 and 2: slot 1 was emptied, slot 3 is not accepted */
    assert_ok(pairs_count_remarked(p, &remarked));
    assert_int_equal(remarked, 2);
    char *text = NULL;
    assert_ok(pairs_text(p, "config", &text));
    assert_string_equal(text, "seed = 7; # more\n");
    free(text);
    assert_ok(pairs_text(p, "sha256_data", &text));
    assert_string_equal(text, "ab12");
    free(text);
    assert_ok(pairs_text(p, "sha256_scheduler", &text));
    assert_string_equal(text, "cd34");
    free(text);
    pairs_close(p);
}

static void another_config_is_refused(void **state)
{
    (void)state;
    config *a = NULL, *b = NULL, *c = NULL;
    const char *other[] = {"generate.guidance=3"}, *more[] = {"generate.pairs=77"};
    assert_ok(config_load(NULL, NULL, 0, &a));
    assert_ok(config_load(NULL, other, 1, &b));
    assert_ok(config_load(NULL, more, 1, &c));
    md_status status = MD_OK;
    pairs_spec spec = spec_of(2, 64);
    spec.config = config_text(a, &status);
    assert_non_null(spec.config);
    assert_ok(pairs_create(helper_path("c.h5"), &spec));
    pairs_spec odd = spec; /* a name that growing would forget */
    odd.input[0].name = "oddity";
    assert_fails(pairs_create(helper_path("odd.h5"), &odd), MD_INTERNAL, "oddity");
    pairs_store *p = NULL;
    assert_ok(pairs_open_reader(helper_path("c.h5"), &p));
    pairs_input same[] = {{"data", "ab12"}}, changed[] = {{"scheduler", "ffff"}};
    assert_ok(pairs_check_config(p, a, NULL, same, 1));
    assert_ok(pairs_check_config(p, c, NULL, NULL, 0));
    assert_fails(pairs_check_config(p, b, NULL, NULL, 0), MD_USAGE, "generate.guidance");
    assert_fails(pairs_check_config(p, a, NULL, changed, 1), MD_USAGE, "\"scheduler\"");
    pairs_close(p);
    config_free(a);
    config_free(b);
    config_free(c);
}

static int write_one(const char *path)
{
    pairs_store *p = NULL;
    slot_pixels x = pixels_make(64, 1, 0);
    uint32_t crc = 0;
    md_status status = pairs_open_writer(path, &p);
    if (status == MD_OK)
        status = pairs_write_pixels(p, 1, x.image, x.mask, x.guide, &crc);
    pairs_row r = row_of(1, crc);
    if (status == MD_OK)
        status = pairs_write_row(p, 1, &r);
    pixels_free(&x);
    pairs_close(p);
    if (status != MD_OK)
        (void)fprintf(stderr, "%s\n", md_status_text());
    return status != MD_OK;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--write-one") == 0)
        return write_one(argv[2]); /* without MPI: the serial driver */
    (void)setenv("STORE_TEST_SELF", argv[0], 1);
    (void)setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
    if (comm_init(&argc, &argv) != MD_OK) {
        (void)fprintf(stderr, "%s\n", md_status_text());
        return 1;
    }
    (void)helper_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_is_read_back),
        cmocka_unit_test(bad_mask_values_are_refused),
        cmocka_unit_test(layout_is_as_designed),
        cmocka_unit_test(h5dump_and_h5py_read_it),
        cmocka_unit_test(readers_follow_a_writer),
        cmocka_unit_test(torn_slots_are_found),
        cmocka_unit_test(stores_grow),
        cmocka_unit_test(another_config_is_refused),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    helper_end();
    return comm_finalize() == MD_OK ? failed : 1;
}
