/* SHA-256 as 64 lower-case hex digits (nettle). */
#ifndef MD_BASE_SHA256_H
#define MD_BASE_SHA256_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MD_SHA256_HEX = 65 }; /* with its NUL */

void md_sha256(const void *data, size_t n, char hex[MD_SHA256_HEX]);
/* Reads the file in pieces. MD_BAD_INPUT when it cannot be opened, MD_IO when reading fails. */
MD_MUST md_status md_sha256_file(const char *path, char hex[MD_SHA256_HEX]);

#ifdef __cplusplus
}
#endif
#endif
