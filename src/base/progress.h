/* Progress for people: on a terminal a bar with rate and time left, otherwise (and in the log file)
   one plain line now and then. Shown by rank 0 only; holds no memory; one bar at a time. */
#ifndef MD_BASE_PROGRESS_H
#define MD_BASE_PROGRESS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct md_progress {
    const char *what, *unit; /* borrowed: "generate", "pairs" */
    int64_t total, start;
    double began, bar_at, line_at; /* md_now() */
} md_progress;

/* `done` is what an earlier run had finished: it counts for the bar, not for the rate. */
md_progress md_progress_begin(const char *what, const char *unit, int64_t done, int64_t total);
void md_progress_at(md_progress *p, int64_t done); /* cheap: draws at most ten times a second */
void md_progress_end(md_progress *p, int64_t done);

#ifdef __cplusplus
}
#endif
#endif
