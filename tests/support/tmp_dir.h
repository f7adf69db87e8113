/* A directory for one test, removed with all it holds. */
#ifndef MD_TESTS_TMP_DIR_H
#define MD_TESTS_TMP_DIR_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Into buf[256], below $TMPDIR or /tmp. NULL when it cannot be made. */
static inline char *tmp_dir_make(char buf[256])
{
    const char *base = getenv("TMPDIR");
    (void)snprintf(buf, 256, "%s/meddiff-test-XXXXXX", base && *base ? base : "/tmp");
    return mkdtemp(buf);
}

static inline void tmp_dir_remove(const char *path)
{
    struct stat st;
    DIR *d = lstat(path, &st) == 0 && S_ISDIR(st.st_mode) ? opendir(path) : NULL;
    for (struct dirent *e; d && (e = readdir(d));) {
        char below[1024];
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        if ((size_t)snprintf(below, sizeof below, "%s/%s", path, e->d_name) < sizeof below)
            tmp_dir_remove(below);
    }
    if (d)
        (void)closedir(d);
    (void)remove(path);
}

#endif
