#include "base/sha256.h"
#include "base/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <nettle/version.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

static void finish(struct sha256_ctx *ctx, char hex[MD_SHA256_HEX])
{
    uint8_t digest[SHA256_DIGEST_SIZE];
#if NETTLE_VERSION_MAJOR >= 4
    sha256_digest(ctx, digest);
#else
    sha256_digest(ctx, sizeof digest, digest);
#endif
    for (int i = 0; i < SHA256_DIGEST_SIZE; i++) {
        hex[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    hex[2 * SHA256_DIGEST_SIZE] = '\0';
}

void md_sha256(const void *data, size_t n, char hex[MD_SHA256_HEX])
{
    struct sha256_ctx ctx;
    sha256_init(&ctx);
    if (n)
        sha256_update(&ctx, n, data);
    finish(&ctx, hex);
}

md_status md_sha256_file(const char *path, char hex[MD_SHA256_HEX])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        MD_FAIL(MD_BAD_INPUT, "%s: cannot open: %s", path, strerror(errno));
    struct sha256_ctx ctx;
    sha256_init(&ctx);
    for (;;) {
        uint8_t buf[16384];
        md_watch("hashing a file");
        ssize_t got = read(fd, buf, sizeof buf);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            int error = errno;
            (void)close(fd);
            MD_FAIL(MD_IO, "%s: cannot read: %s", path, strerror(error));
        }
        if (got == 0)
            break;
        sha256_update(&ctx, (size_t)got, buf);
    }
    (void)close(fd);
    finish(&ctx, hex);
    return MD_OK;
}
