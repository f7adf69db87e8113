/* masks.h5: what is written is read, torn slots are found, another beginning is refused. */
#include "helper.h"
#include "store/masks.h"
#include "store/pairs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 5, SIZE = 64, PX = SIZE * SIZE };

static uint8_t mask[PX], got[PX];

static void draw(int i)
{
    for (int k = 0; k < PX; k++)
        mask[k] = (k / SIZE > 8 + i && k % SIZE < 30 - i);
}

static void make(const char *path, config **cfg)
{
    md_status status = MD_OK;
    const char *sets[] = {"masks.count=5"};
    assert_ok(config_load(NULL, sets, 1, cfg));
    const char *text = config_text(*cfg, &status);
    masks_spec spec = {.rows = ROWS,
                       .size = SIZE,
                       .attempts = 4,
                       .fault_codes = "0 fine, 1 empty",
                       .config = text,
                       .sha256_data = "aa",
                       .sha256_model = "bb",
                       .seed = 7,
                       .limits = {{0.1, 0.2}, 1, 0, 3, 0.9}};
    assert_ok(masks_create(path, &spec));
}

static masks_row row_of(int i, masks_state state)
{
    masks_row r = {.state = state, .attempt = i, .nearest_id = 10 + i, .nearest_iou = 0.5F};
    for (int k = 0; k < MASKS_SHAPES; k++)
        r.shape[k] = (float)(i + k);
    (void)snprintf(r.reason, sizeof r.reason, "why %d", i);
    return r;
}

static void rows(void **state)
{
    (void)state;
    const char *path = helper_path("masks.h5");
    config *cfg;
    masks_store *m;
    masks_row r;
    uint8_t states[ROWS];
    int32_t attempts[ROWS];
    int64_t torn;
    make(path, &cfg);
    assert_ok(masks_open_writer(path, &m));
    assert_int_equal(masks_rows(m), ROWS);
    assert_int_equal(masks_size(m), SIZE);
    assert_ok(masks_read_states(m, states, attempts));
    for (int i = 0; i < ROWS; i++)
        assert_true(states[i] == MASKS_EMPTY && attempts[i] == 0);
    for (int i = 0; i < 3; i++) {
        r = row_of(i, i ? MASKS_ACCEPTED : MASKS_WRITTEN);
        draw(i);
        assert_ok(masks_write_pixels(m, i, mask, &r.crc));
        assert_ok(masks_write_row(m, i, &r));
    }
    mask[5] = 2;
    assert_fails(masks_write_pixels(m, 3, mask, &r.crc), MD_INTERNAL, "holds the value 2");
    assert_ok(masks_reset(m, 4, 9));
    assert_ok(masks_sync(m));
    masks_close(m);

    assert_ok(masks_open_reader(path, &m));
    for (int i = 0; i < 3; i++) {
        masks_row want = row_of(i, i ? MASKS_ACCEPTED : MASKS_WRITTEN);
        draw(i);
        assert_ok(masks_read_row(m, i, &r));
        assert_ok(masks_read_pixels(m, i, got));
        assert_memory_equal(got, mask, PX);
        want.crc = r.crc;
        assert_memory_equal(&want, &r, sizeof r);
    }
    assert_ok(masks_read_row(m, 4, &r));
    assert_true(r.state == MASKS_EMPTY && r.attempt == 9);
    masks_close(m);

    /* another mask under the same checksum, accepted or not; a state that there is not */
    assert_ok(masks_open_writer(path, &m));
    uint32_t crc;
    draw(4);
    assert_ok(masks_repair(m, &torn));
    assert_int_equal(torn, 0);
    assert_ok(masks_write_pixels(m, 0, mask, &crc));
    assert_ok(masks_write_pixels(m, 1, mask, &crc));
    assert_ok(masks_read_states(m, states, attempts));
    states[3] = 77;
    attempts[3] = 2;
    assert_ok(masks_settle(m, states, attempts));
    assert_fails(masks_read_row(m, 3, &r), MD_BAD_INPUT, "unknown state 77");
    assert_ok(masks_repair(m, &torn));
    assert_int_equal(torn, 3);
    assert_ok(masks_read_states(m, states, attempts));
    const uint8_t after[ROWS] = {0, 0, MASKS_ACCEPTED, 0, 0};
    assert_memory_equal(states, after, ROWS);
    assert_true(attempts[1] == 1 && attempts[3] == 2);
    masks_close(m);
    config_free(cfg);
}

/* Why draws were not taken: by slot and attempt, so that what is written twice counts once. */
static void faults(void **state)
{
    (void)state;
    const char *path = helper_path("faults.h5");
    config *cfg;
    masks_store *m;
    masks_row r;
    int64_t count[9];
    bool known;
    make(path, &cfg);
    assert_ok(masks_open_writer(path, &m));
    assert_ok(masks_write_fault(m, 0, 0, 3, NULL));
    assert_ok(masks_write_fault(m, 0, 1, 8, NULL));
    assert_ok(masks_write_fault(m, 4, 3, 8, "twin"));
    masks_close(m);
    for (int start = 0; start < 2; start++) { /* a start that was killed, and the next */
        assert_ok(masks_open_writer(path, &m));
        assert_ok(masks_write_fault(m, 0, 1, 8, NULL));
        assert_ok(masks_count_faults(m, count, 9, &known));
        const int64_t want[9] = {[3] = 1, [8] = 2};
        assert_true(known);
        assert_memory_equal(count, want, sizeof count);
        masks_close(m);
    }
    assert_ok(masks_open_reader(path, &m));
    assert_ok(masks_read_row(m, 4, &r));
    assert_string_equal(r.reason, "twin");
    assert_ok(masks_read_row(m, 0, &r));
    assert_string_equal(r.reason, "");
    masks_close(m);
    config_free(cfg);
}

static void beginnings(void **state)
{
    (void)state;
    const char *path = helper_path("bound.h5");
    config *cfg;
    masks_store *m;
    pairs_store *p;
    char *text;
    make(path, &cfg);
    assert_ok(masks_open_reader(path, &m));
    assert_ok(masks_check(m, cfg, ". masks", "aa", "bb"));
    assert_fails(masks_check(m, cfg, ". masks", "ab", "bb"), MD_USAGE, "another data.h5");
    assert_fails(masks_check(m, cfg, ". masks", "aa", "bc"), MD_USAGE, "another models/masks");
    assert_ok(config_set(cfg, "masks.eta=0.25", "a test"));
    assert_fails(masks_check(m, cfg, ". masks", "aa", "bb"), MD_USAGE, "masks.eta");
    assert_ok(masks_text(m, "shape_columns", &text));
    assert_string_equal(text, "area perimeter eccentricity solidity centre_y centre_x");
    free(text);
    masks_close(m);
    config_free(cfg);
    assert_fails(pairs_open_reader(path, &p), MD_BAD_INPUT, "meddiff.masks, wanted meddiff.pairs");
    assert_fails(masks_open_reader(helper_path("none.h5"), &m), MD_BAD_INPUT, "none.h5");
    assert_fails(masks_create(helper_path("no/dir.h5"),
                              &(masks_spec){.rows = 1, .size = SIZE, .attempts = 1}),
                 MD_IO, "dir.h5");
    assert_fails(masks_create(path, &(masks_spec){.rows = 0, .size = SIZE, .attempts = 1}),
                 MD_USAGE, "0 masks");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows), cmocka_unit_test(faults),
                                       cmocka_unit_test(beginnings)};
    assert_non_null(helper_begin());
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    helper_end();
    return failed;
}
