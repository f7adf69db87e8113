#include "base/file.h"

#include "base/str.h"
#include "base/watch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

static md_status read_all(int fd, const char *path, size_t size, void **data)
{
    char *buf = malloc(size + 1);
    if (!buf)
        MD_FAIL(MD_NOMEM, "%s: no memory for its %zu bytes", path, size);
    size_t at = 0;
    while (at < size) {
        md_watch("reading a file");
        ssize_t got = read(fd, buf + at, size - at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            int error = errno;
            free(buf);
            if (got == 0)
                MD_FAIL(MD_IO, "%s: shrank while it was read: %zu of %zu bytes", path, at, size);
            MD_FAIL(MD_IO, "%s: cannot read: %s", path, strerror(error));
        }
        at += (size_t)got;
    }
    buf[size] = '\0';
    *data = buf;
    return MD_OK;
}

const char *md_file_reason(const char *path, int error)
{
    struct stat st;
    if (error == ELOOP)
        return "its symbolic links lead in a circle";
    if (error == ENOENT && lstat(path, &st) == 0 && S_ISLNK(st.st_mode))
        return "a symbolic link to a file that is not there (an unfinished download?)";
    return strerror(error);
}

md_status md_file_read(const char *path, size_t max, void **data, size_t *n)
{
    /* O_NONBLOCK: opening a FIFO must not hang before the check that refuses it. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        MD_FAIL(MD_BAD_INPUT, "%s: cannot open: %s", path, md_file_reason(path, errno));
    struct stat st;
    md_status status = MD_OK;
    if (fstat(fd, &st) != 0)
        status = md_fail(MD_IO, __FILE__, __LINE__, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        status = md_fail(MD_BAD_INPUT, __FILE__, __LINE__, "%s: not a regular file", path);
    else if ((uintmax_t)st.st_size > max)
        status =
            md_fail(MD_BAD_INPUT, __FILE__, __LINE__, "%s: %jd bytes is more than the limit of %zu",
                    path, (intmax_t)st.st_size, max);
    else
        status = read_all(fd, path, (size_t)st.st_size, data);
    (void)close(fd);
    if (status == MD_OK)
        *n = (size_t)st.st_size;
    return status;
}

const char *md_file_write_reason(int error)
{
    if (error == ENOSPC)
        return "the disk is full (No space left on device): free some of it and start the same "
               "command again";
    if (error == EDQUOT)
        return "the quota is used up (Disk quota exceeded): free some of it and start the same "
               "command again";
    if (error == EACCES || error == EPERM)
        return "no permission to write (Permission denied): name another folder, or have the right "
               "given to you";
    if (error == EROFS)
        return "nothing can be written there (Read-only file system): name another folder, such as "
               "by run";
    return strerror(error);
}

static md_status say_write_error(const char *path, const char *what, int error)
{
    MD_FAIL(MD_IO, "%s: cannot %s: %s", path, what, md_file_write_reason(error));
}

static struct {
    char path[PATH_BYTES];
    size_t n; /* of its letters; 0: none */
    dev_t device;
    ino_t inode;
} expected;

/* Is the expected directory still there, as far as `path` lies in it? */
static md_status check_expected(const char *path)
{
    struct stat st;
    if (!expected.n || strncmp(path, expected.path, expected.n) != 0 ||
        (path[expected.n] && path[expected.n] != '/'))
        return MD_OK;
    if (stat(expected.path, &st) == 0 && st.st_dev == expected.device &&
        st.st_ino == expected.inode)
        return MD_OK;
    MD_FAIL(MD_IO, "%s: %s is gone, or is another directory now: is its file system still mounted?",
            path, expected.path);
}

md_status md_dir_expect(const char *path)
{
    struct stat st;
    MD_TRY(md_str_copy(expected.path, sizeof expected.path, path));
    expected.n = 0;
    if (stat(path, &st) != 0)
        MD_FAIL(MD_IO, "%s: %s", path, strerror(errno));
    expected.device = st.st_dev;
    expected.inode = st.st_ino;
    expected.n = strlen(path);
    while (expected.n > 1 && expected.path[expected.n - 1] == '/')
        expected.path[--expected.n] = '\0';
    return MD_OK;
}

static md_status write_new(const char *tmp, const char *path, const void *data, size_t n)
{
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return say_write_error(path, "create its temporary file", errno);
    const char *p = data;
    for (size_t left = n; left > 0;) {
        md_watch("writing a file");
        ssize_t done = write(fd, p, left);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0) {
            int error = done < 0 ? errno : ENOSPC;
            (void)close(fd);
            return say_write_error(path, "write", error);
        }
        p += done;
        left -= (size_t)done;
    }
    if (close(fd) != 0)
        return say_write_error(path, "close", errno);
    return MD_OK;
}

md_status md_file_write_atomic(const char *path, const void *data, size_t n)
{
    char tmp[PATH_BYTES];
    MD_TRY(check_expected(path));
    MD_TRY(md_str_printf(tmp, sizeof tmp, "%s.tmp.%ld", path, (long)getpid()));
    md_status status = write_new(tmp, path, data, n);
    if (status == MD_OK)
        status = md_file_publish(tmp, path);
    if (status != MD_OK)
        (void)unlink(tmp);
    return status;
}

md_status md_file_publish(const char *tmp, const char *path)
{
    int fd = open(tmp, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return say_write_error(path, "open its temporary file", errno);
    md_watch("syncing a file");
    int rc = fsync(fd), error = errno;
    (void)close(fd);
    if (rc != 0)
        return say_write_error(path, "sync", error);
    if (rename(tmp, path) != 0)
        return say_write_error(path, "rename its temporary file", errno);
    return md_file_sync_dir(path);
}

size_t md_file_plain_length(const char *path)
{
    const size_t all = strlen(path);
    size_t n = all;
    while (n > 0 && path[n - 1] >= '0' && path[n - 1] <= '9')
        n--;
    n = n > 0 && n < all && path[n - 1] == '.' ? n - 1 : all;
    return n > 4 && !memcmp(path + n - 4, ".tmp", 4) ? n - 4 : all;
}

md_status md_file_remove(const char *path)
{
    if (unlink(path) != 0 && errno != ENOENT)
        MD_FAIL(MD_IO, "%s: cannot remove: %s", path, strerror(errno));
    return MD_OK;
}

bool md_file_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

bool md_dir_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

md_status md_dir_make(const char *path)
{
    char buf[PATH_BYTES];
    MD_TRY(check_expected(path));
    MD_TRY(md_str_copy(buf, sizeof buf, path));
    for (char *p = buf + 1; buf[0]; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char kept = *p;
        *p = '\0';
        if (mkdir(buf, 0777) != 0 && errno != EEXIST)
            return say_write_error(buf, "make the directory", errno);
        *p = kept;
        if (!kept)
            break;
    }
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
        MD_FAIL(MD_IO, "%s: is there but is not a directory", path);
    return MD_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names as one text of NUL-ended words, then as one block: pointers first, words after them. */
static md_status collect_names(DIR *dir, const char *path, char **words, size_t *bytes, size_t *n)
{
    size_t cap = 0;
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(dir);
        if (!entry) {
            if (errno)
                MD_FAIL(MD_IO, "%s: cannot list: %s", path, strerror(errno));
            return MD_OK;
        }
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        size_t length = strlen(entry->d_name) + 1;
        if (*bytes + length > cap) {
            cap = (*bytes + length) * 2 + 1024;
            char *grown = realloc(*words, cap);
            if (!grown)
                MD_FAIL(MD_NOMEM, "%s: no memory to list it", path);
            *words = grown;
        }
        memcpy(*words + *bytes, entry->d_name, length);
        *bytes += length;
        (*n)++;
    }
}

md_status md_dir_list(const char *path, char ***names, size_t *n)
{
    DIR *dir = opendir(path);
    if (!dir)
        MD_FAIL(MD_BAD_INPUT, "%s: cannot list: %s", path, md_file_reason(path, errno));
    char *words = NULL;
    size_t bytes = 0, count = 0;
    md_status status = collect_names(dir, path, &words, &bytes, &count);
    (void)closedir(dir);
    char **block = NULL;
    if (status == MD_OK) {
        block = malloc(count * sizeof *block + bytes + 1);
        if (!block)
            status = md_fail(MD_NOMEM, __FILE__, __LINE__, "%s: no memory to list it", path);
    }
    if (status == MD_OK) {
        char *at = (char *)(block + count);
        if (bytes)
            memcpy(at, words, bytes);
        for (size_t i = 0; i < count; i++) {
            block[i] = at;
            at += strlen(at) + 1;
        }
        qsort(block, count, sizeof *block, compare_names);
        *names = block;
        *n = count;
    }
    free(words);
    return status;
}

md_status md_dir_remove(const char *path)
{
    char below[PATH_BYTES], **names = NULL;
    struct stat st;
    size_t n = 0;
    if (lstat(path, &st) != 0 && errno == ENOENT)
        return MD_OK;
    MD_TRY(md_dir_list(path, &names, &n));
    md_status status = MD_OK;
    for (size_t i = 0; i < n && status == MD_OK; i++) {
        status = md_path_join(below, sizeof below, path, names[i]);
        if (status == MD_OK)
            status = lstat(below, &st) == 0 && S_ISDIR(st.st_mode) ? md_dir_remove(below)
                                                                   : md_file_remove(below);
    }
    free(names);
    MD_TRY(status);
    if (rmdir(path) != 0 && errno != ENOENT)
        MD_FAIL(MD_IO, "%s: cannot remove: %s", path, strerror(errno));
    return MD_OK;
}

md_status md_path_join(char *buf, size_t size, const char *a, const char *b)
{
    if (a[0] == '\0' || b[0] == '/')
        return md_str_copy(buf, size, b);
    const char *slash = md_str_ends(a, "/") ? "" : "/";
    return md_str_printf(buf, size, "%s%s%s", a, slash, b);
}

md_status md_file_sync_dir(const char *path)
{
    char dir[PATH_BYTES];
    MD_TRY(md_str_copy(dir, sizeof dir, path));
    char *slash = strrchr(dir, '/');
    if (!slash)
        memcpy(dir, ".", 2);
    else if (slash == dir)
        dir[1] = '\0';
    else
        *slash = '\0';
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return say_write_error(dir, "open the directory", errno);
    int rc = fsync(fd), error = errno;
    (void)close(fd);
    /* Some network file systems cannot sync a directory and say EINVAL; rename is durable there. */
    if (rc != 0 && error != EINVAL)
        return say_write_error(dir, "sync the directory", error);
    return MD_OK;
}

void md_dir_licence(const char *folder, char *out, size_t size)
{
    static const char *const names[] = {"LICENSE", "LICENSE.txt", "LICENSE.md",
                                        "LICENCE", "LICENCE.txt", "LICENCE.md"};
    *out = '\0';
    for (size_t i = 0; i < sizeof names / sizeof *names && !*out; i++) {
        char path[PATH_BYTES];
        void *text = NULL;
        size_t n = 0;
        if (md_path_join(path, sizeof path, folder, names[i]) != MD_OK || !md_file_exists(path) ||
            md_file_read(path, 1 << 20, &text, &n) != MD_OK)
            continue;
        n = strcspn(text, "\r\n");
        if (n < size) {
            memcpy(out, text, n);
            out[n] = '\0';
        }
        free(text);
    }
}
