/* CRC-32C (Castagnoli, RFC 3720 appendix B.4): reflected, start and end inverted. */
#ifndef MD_BASE_CRC32C_H
#define MD_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Continues `crc` (0 to start) over n bytes: crc32c(crc32c(0,a),b) = crc32c(0,ab). Uses the SSE4.2
   instruction where the processor has it. */
uint32_t md_crc32c(uint32_t crc, const void *p, size_t n);
/* The same by table on every processor, for the test that holds them equal. */
uint32_t md_crc32c_portable(uint32_t crc, const void *p, size_t n);

#ifdef __cplusplus
}
#endif
#endif
