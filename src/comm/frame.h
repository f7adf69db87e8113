/* Framed messages: a fixed little-endian header and packed fields behind it. Pure memory work, no
   MPI; what is read is checked against the bytes there are, whatever they contain.
   Header, 16 bytes: magic u32 "MDM1", version u16, type u16, run u32, body bytes u32. */
#ifndef MD_COMM_FRAME_H
#define MD_COMM_FRAME_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define COMM_FRAME_HEADER  16
#define COMM_FRAME_VERSION 1

/* Grows by realloc; an error is kept and reported by comm_frame_end. Zero-initialise; reuse freely.
 */
typedef struct comm_writer {
    uint8_t *data; /* owned; comm_writer_free */
    size_t size, capacity;
    md_status failed;
} comm_writer;

/* Borrows the frame's bytes. Reading past the end gives zeros and sets `bad`. */
typedef struct comm_frame {
    uint16_t type;
    uint32_t run;
    const uint8_t *body;
    size_t size, at;
    bool bad;
} comm_frame;

void comm_frame_begin(comm_writer *w, uint16_t type, uint32_t run);
void comm_put_u8(comm_writer *w, uint8_t v);
void comm_put_u16(comm_writer *w, uint16_t v);
void comm_put_u32(comm_writer *w, uint32_t v);
void comm_put_u64(comm_writer *w, uint64_t v);
void comm_put_i64(comm_writer *w, int64_t v);
void comm_put_f64(comm_writer *w, double v);
void comm_put_bytes(comm_writer *w, const void *data, size_t n); /* u32 count, then the bytes */
/* At most `limit` bytes of it, cut at a UTF-8 boundary; NULL is "". */
void comm_put_text(comm_writer *w, const char *s, size_t limit);
/* Completes the header. MD_NOMEM, or MD_COMM when the frame exceeds COMM_MESSAGE_MAX. */
MD_MUST md_status comm_frame_end(comm_writer *w);
void comm_writer_free(comm_writer *w);

/* Checks magic, version and length. */
MD_MUST md_status comm_frame_open(const void *data, size_t bytes, comm_frame *out);
uint8_t comm_get_u8(comm_frame *f);
uint16_t comm_get_u16(comm_frame *f);
uint32_t comm_get_u32(comm_frame *f);
uint64_t comm_get_u64(comm_frame *f);
int64_t comm_get_i64(comm_frame *f);
double comm_get_f64(comm_frame *f);
/* Points into the frame; NULL and *n 0 when more than `limit` or than is there. */
const uint8_t *comm_get_bytes(comm_frame *f, size_t limit, size_t *n);
/* Copies into out[capacity], always terminated; longer text is bad. */
void comm_get_text(comm_frame *f, char *out, size_t capacity);
/* After the last field: everything was there and nothing is left over. */
MD_MUST md_status comm_frame_done(const comm_frame *f);

#ifdef __cplusplus
}
#endif
#endif
