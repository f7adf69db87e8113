/* Runs a fuzz target without libFuzzer: every seed as it is, then fixed mutations of them.
   Usage: fuzz_x N_MUTATIONS FOLDER... Any finding is a crash or a sanitizer's report. Without
   folders the one seed is 64 zero bytes. */
#include "fuzz.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SEEDS = 4096, MAX_BYTES = 1 << 16 };

static struct {
    uint8_t *data;
    size_t n;
} seeds[MAX_SEEDS];
static size_t n_seeds;
static uint64_t state = 88172645463325252u;

static size_t below(size_t n)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return n ? (size_t)(state % n) : 0;
}

static void load(const char *folder)
{
    char **names = NULL, path[1024];
    size_t n = 0;
    if (md_dir_list(folder, &names, &n) != MD_OK) {
        fprintf(stderr, "%s\n", md_status_text());
        exit(1);
    }
    for (size_t i = 0; i < n && n_seeds < MAX_SEEDS; i++) {
        void *data = NULL;
        size_t bytes = 0;
        if (md_path_join(path, sizeof path, folder, names[i]) != MD_OK ||
            md_file_read(path, MAX_BYTES, &data, &bytes) != MD_OK)
            continue;
        seeds[n_seeds].data = data;
        seeds[n_seeds++].n = bytes;
    }
    free(names);
}

/* One small change to buf[*n], which has room for MAX_BYTES. */
static void mutate(uint8_t *buf, size_t *n)
{
    static const uint32_t odd[] = {0, 1, 0x7F, 0xFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF};
    const size_t at = below(*n), len = 1 + below(16), left = *n - at;
    switch (below(7)) {
    case 0:
        if (*n)
            buf[at] ^= (uint8_t)(1u << below(8));
        break;
    case 1:
        if (*n)
            buf[at] = (uint8_t)below(256);
        break;
    case 2: /* a number at its limits, either byte order */
        for (size_t i = 0, size = (size_t)1 << below(3), k = below(8), big = below(2);
             i < size && i < left; i++)
            buf[at + i] = (uint8_t)(odd[k] >> 8 * (big ? size - 1 - i : i));
        break;
    case 3: /* delete */
        if (len <= left) {
            memmove(buf + at, buf + at + len, left - len);
            *n -= len;
        }
        break;
    case 4: /* repeat */
        if (len <= left && *n + len <= MAX_BYTES) {
            memmove(buf + at + len, buf + at, left);
            *n += len;
        }
        break;
    case 5: /* cut */
        if (below(4) == 0)
            *n = at;
        break;
    default: { /* a piece of another seed */
        const size_t other = below(n_seeds);
        const size_t from = below(seeds[other].n);
        for (size_t i = 0; i < len && i < left && from + i < seeds[other].n; i++)
            buf[at + i] = seeds[other].data[from + i];
    }
    }
}

/* In an allocation of exactly n bytes, so that a read past the end is seen. */
static void run(const uint8_t *data, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);
    if (!copy)
        exit(1);
    memcpy(copy, data, n);
    (void)LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

int main(int argc, char **argv)
{
    const long mutations = argc > 1 ? strtol(argv[1], NULL, 10) : 0;
    uint8_t *buf = malloc(MAX_BYTES);
    for (int i = 2; i < argc; i++)
        load(argv[i]);
    if (argc == 2) {
        seeds[0].data = calloc(1, 64);
        seeds[0].n = seeds[0].data ? 64 : 0;
        n_seeds = 1;
    }
    if (!buf || n_seeds == 0) {
        fprintf(stderr, "usage: %s N_MUTATIONS FOLDER...\n", argv[0]);
        return 1;
    }
    for (size_t i = 0; i < n_seeds; i++)
        run(seeds[i].data, seeds[i].n);
    for (long k = 0; k < mutations; k++) {
        const size_t i = below(n_seeds);
        size_t n = seeds[i].n;
        memcpy(buf, seeds[i].data, n);
        for (size_t m = 1 + below(6); m > 0; m--)
            mutate(buf, &n);
        run(buf, n);
    }
    printf("%zu seeds, %ld mutations\n", n_seeds, mutations);
    for (size_t i = 0; i < n_seeds; i++)
        free(seeds[i].data);
    free(buf);
    return 0;
}
