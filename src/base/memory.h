/* What this process takes of the machine's memory. Linux; elsewhere 0. */
#ifndef MD_BASE_MEMORY_H
#define MD_BASE_MEMORY_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Most bytes that were resident at once since the start or the last md_memory_forget; 0: unknown.
   (getrusage counts what the process was before exec, too.) */
size_t md_memory_peak(void);
/* From now on md_memory_peak counts anew, where the system lets it. */
void md_memory_forget(void);

#ifdef __cplusplus
}
#endif
#endif
