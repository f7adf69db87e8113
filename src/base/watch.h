/* A watchdog: a process in which nothing goes forward any more says where it hangs and ends, in
   place of hanging silently for the rest of the night. Work that can hang, or take long, says
   md_watch before each of its steps: a launch, a wait, a file, a row. */
#ifndef MD_BASE_WATCH_H
#define MD_BASE_WATCH_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* From now on, when no md_watch came for `limit_s` seconds, calls `hangs` from a thread of its own,
   which is to end the process; if it has not after half a minute, SIGALRM does. Once per process.
   MD_NOMEM without a thread. */
MD_MUST md_status md_watch_start(double limit_s, void (*hangs)(const char *doing, double seconds));

/* A step forward; `doing` (static, shown in the message) is what begins. Two stores to memory; any
 * thread. */
void md_watch(const char *doing);

#ifdef __cplusplus
}
#endif
#endif
