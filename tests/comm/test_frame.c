/* Frames: what is packed comes back; whatever else arrives is an error, never a wild read. */
#include "cluster/messages.h"
#include "comm/comm.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void fill(comm_writer *w)
{
    comm_frame_begin(w, 9, 0xdeadbeef);
    comm_put_u8(w, 200);
    comm_put_u16(w, 65000);
    comm_put_u32(w, 4000000000u);
    comm_put_u64(w, UINT64_C(0x0102030405060708));
    comm_put_i64(w, INT64_MIN);
    comm_put_f64(w, -0.1);
    comm_put_bytes(w, "a\0b", 3);
    comm_put_text(w, "gr\xc3\xbc\xc3\x9f", 5); /* five of six bytes: the last letter is cut whole */
    comm_put_text(w, NULL, 10);
    assert_int_equal(comm_frame_end(w), MD_OK);
}

static void fields_come_back(void **state)
{
    comm_writer w = {0};
    comm_frame f;
    char text[16];
    size_t n;
    (void)state;
    fill(&w);
    /* The bytes are fixed: another machine reads them alike. */
    const uint8_t head[] = {'M',  'D',  'M', '1', 1, 0, 9,   0,    0xef, 0xbe,
                            0xad, 0xde, 50,  0,   0, 0, 200, 0xe8, 0xfd};
    assert_int_equal(w.size, 16 + 50);
    assert_memory_equal(w.data, head, sizeof head);
    assert_int_equal(comm_frame_open(w.data, w.size, &f), MD_OK);
    assert_int_equal(f.type, 9);
    assert_int_equal(f.run, 0xdeadbeef);
    assert_int_equal(comm_get_u8(&f), 200);
    assert_int_equal(comm_get_u16(&f), 65000);
    assert_int_equal(comm_get_u32(&f), 4000000000u);
    assert_true(comm_get_u64(&f) == UINT64_C(0x0102030405060708));
    assert_true(comm_get_i64(&f) == INT64_MIN);
    assert_true(comm_get_f64(&f) == -0.1);
    const uint8_t *bytes = comm_get_bytes(&f, 3, &n);
    assert_int_equal(n, 3);
    assert_memory_equal(bytes, "a\0b", 3);
    comm_get_text(&f, text, sizeof text);
    assert_string_equal(text, "gr\xc3\xbc");
    comm_get_text(&f, text, sizeof text);
    assert_string_equal(text, "");
    assert_int_equal(comm_frame_done(&f), MD_OK);
    assert_int_equal(comm_get_u8(&f), 0); /* beyond the end */
    assert_int_equal(comm_frame_done(&f), MD_COMM);
    comm_writer_free(&w);
}

static void damage_is_an_error(void **state)
{
    comm_writer w = {0};
    comm_frame f;
    (void)state;
    fill(&w);
    for (size_t n = 0; n < w.size; n++) /* cut anywhere */
        assert_int_equal(comm_frame_open(w.data, n, &f), MD_COMM);
    for (size_t i = 0; i < 16; i++) {
        if (i >= 6 && i < 12)
            continue; /* type and run may be anything here */
        w.data[i] ^= 1;
        assert_int_equal(comm_frame_open(w.data, w.size, &f), MD_COMM);
        w.data[i] ^= 1;
    }
    assert_int_equal(comm_frame_open(w.data, w.size, &f), MD_OK);
    char small[3];
    f.at = 31 + 7; /* at the text */
    comm_get_text(&f, small, sizeof small);
    assert_int_equal(comm_frame_done(&f), MD_COMM); /* longer than the place for it */
    assert_string_equal(small, "");
    comm_writer_free(&w);
}

static void limits_are_errors(void **state)
{
    comm_writer w = {0};
    char *big = calloc(1, COMM_MESSAGE_MAX);
    (void)state;
    assert_non_null(big);
    comm_frame_begin(&w, 1, 0);
    comm_put_bytes(&w, big, COMM_MESSAGE_MAX);
    assert_int_equal(comm_frame_end(&w), MD_COMM);
    comm_frame_begin(&w, 1, 0); /* usable again */
    comm_put_bytes(&w, big, COMM_MESSAGE_MAX - 20);
    assert_int_equal(comm_frame_end(&w), MD_OK);
    comm_writer_free(&w);
    free(big);
}

/* A lease with its count or kind changed, a result with a status that does not exist. */
static void lying_messages_are_errors(void **state)
{
    static cluster_msg_lease lease;
    const cluster_entry e[2] = {{0, {5, 1}}, {1, {7, 2}}};
    const cluster_msg_result result = {.entry = e[1], .status = MD_NONFINITE, .text = "nan"};
    comm_writer w = {0};
    comm_frame f;
    int n;
    (void)state;
    cluster__put_lease(&w, 1, 3, e, 2);
    assert_int_equal(comm_frame_end(&w), MD_OK);
    assert_int_equal(comm_frame_open(w.data, w.size, &f), MD_OK);
    assert_int_equal(cluster__get_lease(&f, &lease), MD_OK);
    assert_int_equal(lease.n, 2);
    assert_int_equal(lease.entry[1].item.attempt, 2);
    const uint32_t counts[] = {0, 1, 3, CLUSTER_LEASE_MAX, CLUSTER_LEASE_MAX + 1, UINT32_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        memcpy(w.data + 20, &counts[i], 4);
        assert_int_equal(comm_frame_open(w.data, w.size, &f), MD_OK);
        assert_int_equal(cluster__get_lease(&f, &lease), MD_COMM);
    }
    cluster__put_results(&w, 1, 1);
    cluster__put_result(&w, &result);
    assert_int_equal(comm_frame_end(&w), MD_OK);
    for (int status = 0; status < 256; status++) {
        cluster_msg_result back;
        w.data[16 + 4 + 20] = (uint8_t)status;
        assert_int_equal(comm_frame_open(w.data, w.size, &f), MD_OK);
        assert_int_equal(cluster__get_results(&f, &n), MD_OK);
        md_status got = cluster__get_result(&f, &back);
        assert_int_equal(got, status <= MD_INTERNAL ? MD_OK : MD_COMM);
    }
    comm_writer_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_come_back),
        cmocka_unit_test(damage_is_an_error),
        cmocka_unit_test(limits_are_errors),
        cmocka_unit_test(lying_messages_are_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
