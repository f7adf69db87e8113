/* Adler-32, as Python's zlib.adler32: what programs of other means are compared by. C11 and C++17
 * alike. */
#ifndef TESTS_JOBS_ADLER_H
#define TESTS_JOBS_ADLER_H

#include <stdint.h>

/* Of n further bytes; the first sum is 1. */
static inline uint32_t adler(uint32_t sum, const uint8_t *p, int64_t n)
{
    uint32_t a = sum & 0xffff, b = sum >> 16;
    for (int64_t i = 0; i < n; i++) {
        a = (a + p[i]) % 65521;
        b = (b + a) % 65521;
    }
    return b << 16 | a;
}

#endif
