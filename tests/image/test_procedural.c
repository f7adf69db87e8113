/* Procedural pictures: pure functions of (seed, item), captions from the closed word list, a third
   gray; the tokenizer's files are complete and every caption word is one token of them. */
#include "image/procedural.h"

#include "base/file.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { SIZE = 128, BYTES = SIZE * SIZE * 3, ITEMS = 200 };

static uint64_t digest(const uint8_t *p, size_t n)
{
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 1099511628211u;
    return h;
}

static void *draw_all(void *out)
{
    static _Thread_local uint8_t rgb[BYTES];
    uint64_t *digests = out;
    char caption[PROCEDURAL_CAPTION];
    for (int i = 0; i < ITEMS; i++) {
        procedural_draw(7, (uint64_t)i, SIZE, rgb, caption);
        digests[i] = digest(rgb, BYTES) ^ digest((uint8_t *)caption, strlen(caption));
    }
    return NULL;
}

static void test_is_pure_and_thread_safe(void **state)
{
    (void)state;
    static uint64_t seen[3][ITEMS];
    pthread_t threads[2];
    draw_all(seen[0]);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, draw_all, seen[i + 1]), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_memory_equal(seen[0], seen[1], sizeof seen[0]);
    assert_memory_equal(seen[0], seen[2], sizeof seen[0]);
    for (int i = 0; i < ITEMS; i++)
        for (int j = 0; j < i; j++)
            assert_true(seen[0][i] != seen[0][j]);
}

static void test_seed_matters(void **state)
{
    (void)state;
    static uint8_t a[BYTES], b[BYTES];
    char caption[PROCEDURAL_CAPTION];
    procedural_draw(1, 5, SIZE, a, caption);
    procedural_draw(2, 5, SIZE, b, caption);
    assert_memory_not_equal(a, b, BYTES);
}

static void test_writes_only_its_pixels(void **state)
{
    (void)state;
    static const int sizes[] = {8, 31, 64, 100, 128};
    static uint8_t rgb[BYTES + 64];
    char caption[PROCEDURAL_CAPTION];
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        size_t bytes = (size_t)sizes[k] * (size_t)sizes[k] * 3;
        for (uint64_t item = 0; item < 300; item++) {
            memset(rgb + bytes, 0xA5, 64);
            procedural_draw(3, item, sizes[k], rgb, caption);
            for (size_t i = 0; i < 64; i++)
                assert_int_equal(rgb[bytes + i], 0xA5);
        }
    }
}

/* Words apart from the list would be untrained; a trigger word would spoil the control. */
static void test_captions_use_the_closed_list(void **state)
{
    (void)state;
    static uint8_t rgb[16 * 16 * 3];
    int n = 0, distinct = 0;
    const char *const *words = procedural_words(&n);
    int *used = calloc((size_t)n, sizeof *used);
    assert_non_null(used);
    for (uint64_t item = 0; item < 4000; item++) {
        char caption[PROCEDURAL_CAPTION], *save = NULL;
        procedural_draw(11, item, 16, rgb, caption);
        assert_true(strlen(caption) > 3 && strlen(caption) < PROCEDURAL_CAPTION - 1);
        for (char *w = strtok_r(caption, ", ", &save); w; w = strtok_r(NULL, ", ", &save)) {
            int i = 0;
            while (i < n && strcmp(w, words[i]) != 0)
                i++;
            if (i == n)
                fail_msg("item %llu: \"%s\" is not in the list", (unsigned long long)item, w);
            distinct += !used[i];
            used[i] = 1;
        }
    }
    for (int i = 0; i < n; i++) {
        static const char *const triggers[] = {"hta", "lesion", "tumor", "nodule", "skin", "mole"};
        if (!used[i])
            print_message("never used: %s\n", words[i]);
        for (size_t k = 0; k < sizeof triggers / sizeof *triggers; k++)
            assert_string_not_equal(words[i], triggers[k]);
    }
    assert_int_equal(distinct, n);
    free(used);
}

static void test_a_third_is_gray_and_says_so(void **state)
{
    (void)state;
    static uint8_t rgb[32 * 32 * 3];
    int gray = 0;
    for (uint64_t item = 0; item < 1000; item++) {
        char caption[PROCEDURAL_CAPTION];
        procedural_draw(13, item, 32, rgb, caption);
        int equal = 1;
        for (int i = 0; i < 32 * 32; i++)
            equal &= rgb[3 * i] == rgb[3 * i + 1] && rgb[3 * i] == rgb[3 * i + 2];
        gray += equal;
        if (equal && !strstr(caption, "gray") && !strstr(caption, "black") &&
            !strstr(caption, "white"))
            fail_msg("gray picture called \"%s\"", caption);
    }
    assert_in_range(gray, 300, 420);
}

static char *read_text(const char *dir, const char *name)
{
    char path[512];
    void *data = NULL;
    size_t n = 0;
    assert_int_equal(md_path_join(path, sizeof path, dir, name), MD_OK);
    assert_int_equal(md_file_read(path, 1 << 20, &data, &n), MD_OK);
    assert_int_equal(unlink(path), 0);
    return data;
}

static void test_tokenizer_files(void **state)
{
    (void)state;
    char dir[] = "/tmp/md-tokenizer-XXXXXX";
    assert_non_null(mkdtemp(dir));
    assert_int_equal(procedural_write_tokenizer(dir), MD_OK);
    char *vocab = read_text(dir, "vocab.json"), *merges = read_text(dir, "merges.txt");
    char *map = read_text(dir, "special_tokens_map.json");
    char *config = read_text(dir, "tokenizer_config.json");
    int n = 0, lines = 0;
    const char *const *words = procedural_words(&n);
    for (int i = 0; i < n; i++) {
        char entry[64];
        snprintf(entry, sizeof entry, "\"%s</w>\": ", words[i]);
        if (!strstr(vocab, entry))
            fail_msg("%s is not one token", words[i]);
    }
    for (const char *p = merges; *p; p++)
        lines += *p == '\n';
    char last[64]; /* 512 bytes, one entry per merge, the start token, the end token */
    snprintf(last, sizeof last, "\"<|endoftext|>\": %d}", 512 + lines - 1 + 1);
    assert_non_null(strstr(vocab, last));
    assert_true(strncmp(merges, "#version: 0.2\n", 14) == 0);
    assert_null(strstr(vocab, "lesion"));
    assert_non_null(strstr(map, "\"pad_token\": \"<|endoftext|>\""));
    assert_non_null(strstr(config, "\"model_max_length\": 77"));
    free(vocab);
    free(merges);
    free(map);
    free(config);
    assert_int_equal(rmdir(dir), 0);
    assert_int_not_equal(procedural_write_tokenizer("/nonexistent/folder"), MD_OK);
    assert_non_null(strstr(md_status_text(), "/nonexistent/folder"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_is_pure_and_thread_safe),
        cmocka_unit_test(test_seed_matters),
        cmocka_unit_test(test_writes_only_its_pixels),
        cmocka_unit_test(test_captions_use_the_closed_list),
        cmocka_unit_test(test_a_third_is_gray_and_says_so),
        cmocka_unit_test(test_tokenizer_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
