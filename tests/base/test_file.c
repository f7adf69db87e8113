/* Files, directories, checksums. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "base/sha256.h"
#include "support/fail_alloc.h"
#include "support/tmp_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[256], path[512];

static int make_dir(void **state)
{
    (void)state;
    return tmp_dir_make(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    tmp_dir_remove(dir);
    return 0;
}

static const char *in_dir(const char *name)
{
    assert_int_equal(md_path_join(path, sizeof path, dir, name), MD_OK);
    return path;
}

static void written_files_read_back(void **state)
{
    (void)state;
    const char *p = in_dir("a.bin");
    assert_int_equal(md_file_write_atomic(p, "one\0two", 7), MD_OK);
    assert_true(md_file_exists(p));
    void *data;
    size_t n;
    assert_int_equal(md_file_read(p, 7, &data, &n), MD_OK);
    assert_int_equal(n, 7);
    assert_memory_equal(data, "one\0two", 8); /* the NUL after it too */
    free(data);
    assert_int_equal(md_file_write_atomic(p, "", 0), MD_OK);
    assert_int_equal(md_file_read(p, 7, &data, &n), MD_OK);
    assert_int_equal(n, 0);
    free(data);
    char **names;
    assert_int_equal(md_dir_list(dir, &names, &n), MD_OK);
    assert_int_equal(n, 1); /* no temporary file is left */
    free(names);
}

static void temporary_names_are_known(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        size_t plain;
    } names[] = {{"a/pairs.h5.tmp", 10},
                 {"RESULT.tmp.17", 6},
                 {"a.tmp.tmp.3", 5},
                 {"a.tmp.txt", 9},
                 {"a.tmp.", 6},
                 {"a.tmp7", 6},
                 {"a.17", 4},
                 {".tmp", 4},
                 {"17", 2},
                 {"", 0}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_int_equal(md_file_plain_length(names[i].path), names[i].plain);
}

static void what_is_not_there_is_removed(void **state)
{
    (void)state;
    const char *p = in_dir("gone");
    assert_int_equal(md_file_write_atomic(p, "x", 1), MD_OK);
    assert_int_equal(md_file_remove(p), MD_OK);
    assert_false(md_file_exists(p));
    assert_int_equal(md_file_remove(p), MD_OK);
    assert_int_equal(md_file_remove(dir), MD_IO);
    assert_non_null(strstr(md_status_text(), "cannot remove"));
}

static void unreadable_inputs_are_named(void **state)
{
    (void)state;
    void *data = &data;
    size_t n = 99;
    assert_int_equal(md_file_read(in_dir("missing"), 10, &data, &n), MD_BAD_INPUT);
    assert_non_null(strstr(md_status_text(), "missing: cannot open"));
    assert_int_equal(md_file_read(dir, 10, &data, &n), MD_BAD_INPUT);
    assert_non_null(strstr(md_status_text(), "not a regular file"));
    const char *fifo = in_dir("fifo");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(md_file_read(fifo, 10, &data, &n), MD_BAD_INPUT); /* and does not hang */
    assert_int_equal(unlink(fifo), 0);
    const char *p = in_dir("large");
    assert_int_equal(md_file_write_atomic(p, "0123456789", 10), MD_OK);
    assert_int_equal(md_file_read(p, 9, &data, &n), MD_BAD_INPUT);
    assert_non_null(strstr(md_status_text(), "10 bytes is more than the limit of 9"));
    fail_alloc_at(1);
    assert_int_equal(md_file_read(p, 10, &data, &n), MD_NOMEM);
    fail_alloc_at(0);
    assert_ptr_equal(data, &data); /* untouched on failure */
    assert_int_equal(n, 99);
}

/* A file size limit stands for the full disk: write fails midway. */
static void a_failed_write_leaves_the_old_file(void **state)
{
    (void)state;
    const char *p = in_dir("kept");
    assert_int_equal(md_file_write_atomic(p, "old", 3), MD_OK);
    size_t n = 1 << 16;
    char *big = calloc(1, n);
    assert_non_null(big);
    struct rlimit before, small = {4096, 0};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small.rlim_max = before.rlim_max;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    md_status status = md_file_write_atomic(p, big, n);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    free(big);
    assert_int_equal(status, MD_IO);
    assert_non_null(strstr(md_status_text(), "kept: cannot write"));
    void *data;
    assert_int_equal(md_file_read(p, 10, &data, &n), MD_OK);
    assert_memory_equal(data, "old", 4);
    free(data);
    char **names;
    assert_int_equal(md_dir_list(dir, &names, &n), MD_OK);
    for (size_t i = 0; i < n; i++)
        assert_null(strstr(names[i], ".tmp"));
    free(names);
}

static void a_full_disk_is_called_so(void **state)
{
    (void)state;
    if (!md_file_exists("/dev/full")) {
        print_message("no /dev/full here\n");
        skip();
    }
    /* The temporary name leads to /dev/full, where every write says ENOSPC. */
    char tmp[600];
    const char *p = in_dir("full");
    (void)snprintf(tmp, sizeof tmp, "%s.tmp.%ld", p, (long)getpid());
    assert_int_equal(symlink("/dev/full", tmp), 0);
    assert_int_equal(md_file_write_atomic(p, "x", 1), MD_IO);
    assert_non_null(strstr(md_status_text(), "the disk is full"));
    assert_false(md_file_exists(p));
}

static void a_quota_is_called_so(void **state)
{
    (void)state;
    assert_non_null(strstr(md_file_write_reason(EDQUOT), "quota is used up"));
}

static void directories(void **state)
{
    (void)state;
    const char *deep = in_dir("x/y/z");
    assert_int_equal(md_dir_make(deep), MD_OK);
    assert_int_equal(md_dir_make(deep), MD_OK);
    assert_int_equal(md_file_write_atomic(in_dir("x/b"), "", 0), MD_OK);
    assert_int_equal(md_file_write_atomic(in_dir("x/B"), "", 0), MD_OK);
    assert_int_equal(md_file_write_atomic(in_dir("x/a"), "", 0), MD_OK);
    char **names;
    size_t n;
    assert_int_equal(md_dir_list(in_dir("x"), &names, &n), MD_OK);
    assert_int_equal(n, 4);
    assert_string_equal(names[0], "B");
    assert_string_equal(names[1], "a");
    assert_string_equal(names[2], "b");
    assert_string_equal(names[3], "y");
    free(names);
    assert_int_equal(md_dir_list(in_dir("x/y/z"), &names, &n), MD_OK);
    assert_int_equal(n, 0);
    free(names);
    assert_int_equal(md_dir_list(in_dir("none"), &names, &n), MD_BAD_INPUT);
    assert_int_equal(md_dir_make(in_dir("x/a")), MD_IO);
    assert_int_equal(md_dir_make(in_dir("x/a/b")), MD_IO);
    for (long fail = 1; fail <= 2; fail++) {
        fail_alloc_at(fail);
        assert_int_equal(md_dir_list(in_dir("x"), &names, &n), MD_NOMEM);
        fail_alloc_at(0);
    }
}

/* A file system that is gone leaves the empty directory that it was mounted on, or none. */
static void an_expected_folder_is_not_made_again(void **state)
{
    (void)state;
    char run[300], aside[300], below[320], file[320];
    (void)snprintf(run, sizeof run, "%s/run", dir);
    (void)snprintf(aside, sizeof aside, "%s/aside", dir);
    (void)snprintf(below, sizeof below, "%s/models/unet", run);
    (void)snprintf(file, sizeof file, "%s/RESULT", run);
    assert_int_equal(md_dir_expect(run), MD_IO);
    assert_int_equal(md_dir_make(run), MD_OK);
    assert_int_equal(md_dir_expect(run), MD_OK);
    assert_int_equal(md_dir_make(below), MD_OK);
    assert_int_equal(md_file_write_atomic(file, "ok", 2), MD_OK);
    assert_int_equal(rename(run, aside), 0);
    for (int empty = 0; empty < 2; empty++) {
        assert_int_equal(md_dir_make(below), MD_IO);
        assert_non_null(strstr(md_status_text(), "still mounted"));
        assert_int_equal(md_dir_make(run), MD_IO);
        assert_int_equal(md_file_write_atomic(file, "ok", 2), MD_IO);
        assert_int_equal(md_file_exists(run), empty);
        assert_int_equal(mkdir(run, 0777) == 0, !empty);
    }
    assert_int_equal(rmdir(run), 0); /* nothing came into it */
    (void)snprintf(below, sizeof below, "%s/runs", dir);
    assert_int_equal(md_dir_make(below), MD_OK); /* not below it */
    assert_int_equal(rename(aside, run), 0);
    assert_int_equal(md_file_write_atomic(file, "no", 2), MD_OK);
}

static void a_folder_goes_with_all_that_is_in_it(void **state)
{
    (void)state;
    char stays[PATH_MAX], link[PATH_MAX], folder[PATH_MAX];
    (void)snprintf(stays, sizeof stays, "%s", in_dir("stays"));
    (void)snprintf(folder, sizeof folder, "%s", in_dir("goes"));
    (void)snprintf(link, sizeof link, "%s", in_dir("goes/b/link"));
    assert_int_equal(md_dir_make(in_dir("goes/b/c")), MD_OK);
    assert_int_equal(md_dir_make(stays), MD_OK);
    assert_int_equal(md_file_write_atomic(in_dir("stays/file"), "x", 1), MD_OK);
    assert_int_equal(md_file_write_atomic(in_dir("goes/b/c/file"), "x", 1), MD_OK);
    assert_int_equal(symlink(stays, link), 0);
    assert_int_equal(md_dir_remove(folder), MD_OK);
    assert_false(md_file_exists(folder));
    assert_true(md_file_exists(in_dir("stays/file"))); /* behind the link */
    assert_int_equal(md_dir_remove(folder), MD_OK);
    assert_int_equal(md_dir_remove(in_dir("stays/file")), MD_BAD_INPUT);
}

static void joined_paths(void **state)
{
    (void)state;
    char buf[8];
    assert_int_equal(md_path_join(buf, sizeof buf, "a", "b"), MD_OK);
    assert_string_equal(buf, "a/b");
    assert_int_equal(md_path_join(buf, sizeof buf, "a/", "b"), MD_OK);
    assert_string_equal(buf, "a/b");
    assert_int_equal(md_path_join(buf, sizeof buf, "a", "/b"), MD_OK);
    assert_string_equal(buf, "/b");
    assert_int_equal(md_path_join(buf, sizeof buf, "", "b"), MD_OK);
    assert_string_equal(buf, "b");
    assert_int_equal(md_path_join(buf, sizeof buf, "abcd", "efg"), MD_USAGE);
}

/* RFC 3720, appendix B.4. */
static void crc32c_vectors(void **state)
{
    (void)state;
    unsigned char b[32];
    memset(b, 0, 32);
    assert_int_equal(md_crc32c(0, b, 32), 0x8A9136AAu);
    memset(b, 255, 32);
    assert_int_equal(md_crc32c(0, b, 32), 0x62A8AB43u);
    for (int i = 0; i < 32; i++)
        b[i] = (unsigned char)i;
    assert_int_equal(md_crc32c(0, b, 32), 0x46DD794Eu);
    assert_int_equal(md_crc32c(0, "123456789", 9), 0xE3069283u);
    assert_int_equal(md_crc32c(0, "", 0), 0);
}

static void crc32c_is_the_same_by_instruction_and_table(void **state)
{
    (void)state;
    unsigned char b[257];
    for (size_t i = 0; i < sizeof b; i++)
        b[i] = (unsigned char)(i * i * 31 + 7);
    for (size_t start = 0; start < 9; start++)
        for (size_t n = 0; start + n <= sizeof b; n++) {
            uint32_t want = md_crc32c_portable(0, b + start, n);
            assert_int_equal(md_crc32c(0, b + start, n), want);
            assert_int_equal(
                md_crc32c(md_crc32c(0, b + start, n / 3), b + start + n / 3, n - n / 3), want);
        }
}

/* FIPS 180-4 examples. */
static void sha256_vectors(void **state)
{
    (void)state;
    char hex[MD_SHA256_HEX];
    md_sha256("abc", 3, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    md_sha256(NULL, 0, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    char *a = malloc(1000000);
    assert_non_null(a);
    memset(a, 'a', 1000000);
    const char *want = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
    md_sha256(a, 1000000, hex);
    assert_string_equal(hex, want);
    const char *p = in_dir("million");
    assert_int_equal(md_file_write_atomic(p, a, 1000000), MD_OK);
    free(a);
    memset(hex, 0, sizeof hex);
    assert_int_equal(md_sha256_file(p, hex), MD_OK);
    assert_string_equal(hex, want);
    assert_int_equal(md_sha256_file(in_dir("none"), hex), MD_BAD_INPUT);
    assert_int_equal(md_sha256_file(dir, hex), MD_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_files_read_back),
        cmocka_unit_test(temporary_names_are_known),
        cmocka_unit_test(what_is_not_there_is_removed),
        cmocka_unit_test(unreadable_inputs_are_named),
        cmocka_unit_test(a_failed_write_leaves_the_old_file),
        cmocka_unit_test(a_full_disk_is_called_so),
        cmocka_unit_test(a_quota_is_called_so),
        cmocka_unit_test(directories),
        cmocka_unit_test(an_expected_folder_is_not_made_again),
        cmocka_unit_test(a_folder_goes_with_all_that_is_in_it),
        cmocka_unit_test(joined_paths),
        cmocka_unit_test(crc32c_vectors),
        cmocka_unit_test(crc32c_is_the_same_by_instruction_and_table),
        cmocka_unit_test(sha256_vectors),
    };
    return cmocka_run_group_tests_name("base/file", tests, make_dir, remove_dir);
}
