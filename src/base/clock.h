/* Time: a monotonic one for measuring, wall time only for people to read. */
#ifndef MD_BASE_CLOCK_H
#define MD_BASE_CLOCK_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { MD_CLOCK_TEXT_BYTES = 24 };

double md_now(void); /* seconds, monotonic, origin arbitrary */
/* A signal may cut it short. */
void md_sleep(double seconds);
/* "2026-11-23T09:22:54Z" (UTC) into buf of at least MD_CLOCK_TEXT_BYTES; returns buf. */
const char *md_clock_text(char buf[MD_CLOCK_TEXT_BYTES]);

#ifdef __cplusplus
}
#endif
#endif
