/* Files as wholes: read one into memory, replace one atomically, list a directory.
   Messages name the file and the system's reason. All functions are local to the process. */
#ifndef MD_BASE_FILE_H
#define MD_BASE_FILE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Reads a regular file of at most `max` bytes. *data (owner: caller, free()) has a NUL after its *n
   bytes. MD_BAD_INPUT when it is missing, no regular file or larger; MD_IO when reading fails. */
MD_MUST md_status md_file_read(const char *path, size_t max, void **data, size_t *n);
/* Replaces path: temporary file beside it, fsync, rename, fsync of the directory. On failure the
   old file is untouched and the temporary one removed. */
MD_MUST md_status md_file_write_atomic(const char *path, const void *data, size_t n);
/* The last two steps for a file that somebody else wrote under `tmp`: fsync it, rename it to path,
   fsync the directory. On failure tmp is left to the caller. */
MD_MUST md_status md_file_publish(const char *tmp, const char *path);
/* Why opening failed with errno `error`, in words: symbolic links that lead nowhere or in a circle
   are called so. */
const char *md_file_reason(const char *path, int error);
/* Why writing failed with errno `error`; of a full disk or quota also what to do about it. */
const char *md_file_write_reason(int error);
/* The length of a name or path without the ".tmp" or ".tmp.<pid>" that a file bears until it is
   whole; all of it where it bears none. */
size_t md_file_plain_length(const char *path);
/* Fine when it is not there. */
MD_MUST md_status md_file_remove(const char *path);
bool md_file_exists(const char *path);           /* anything by that name */
bool md_dir_exists(const char *path);            /* a folder, or a link to one */
MD_MUST md_status md_dir_make(const char *path); /* with parents; fine when it is there */
/* `path` is a directory that stays as long as this process: where it is gone, or another one, its
   file system has been unmounted, and what is made or written below it (with the same words for its
   path) fails, rather than landing on the disk below. One per process; MD_IO when it is not there.
 */
MD_MUST md_status md_dir_expect(const char *path);
/* With all that is in it; links go, what they lead to stays. Fine when it is not there. */
MD_MUST md_status md_dir_remove(const char *path);
/* Names (without "." and ".."), sorted bytewise. *names is one allocation: free(*names). */
MD_MUST md_status md_dir_list(const char *path, char ***names, size_t *n);
/* The first line of folder's LICENSE or LICENCE (.txt, .md); "" where there is none that fits. */
void md_dir_licence(const char *folder, char *out, size_t size);
/* a + "/" + b; b alone when it is absolute or a is "". MD_USAGE when it does not fit. */
MD_MUST md_status md_path_join(char *buf, size_t size, const char *a, const char *b);
/* fsync of the directory that holds path. */
MD_MUST md_status md_file_sync_dir(const char *path);

#ifdef __cplusplus
}
#endif
#endif
