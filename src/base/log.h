/* The log: `time [rank/size host:gpu step] LEVEL room: text`, one write per line, to stderr and to
   a file when one is open. INFO appears from rank 0 only, WARN and above from every rank.
   Thread safe. Works before md_log_open (as rank 0 of 1, without a file). */
#ifndef MD_BASE_LOG_H
#define MD_BASE_LOG_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum md_log_level { MD_LOG_INFO, MD_LOG_WARN, MD_LOG_ERROR } md_log_level;

/* Appends to `path` (NULL: stderr only); several processes may share the file. May be called
   again, to name a file once the run directory exists. */
MD_MUST md_status md_log_open(int rank, int size, const char *path);
void md_log_close(void);
void md_log_step(long step);   /* shown as the step; < 0 shows "-" */
void md_log_gpu(int gpu);      /* shown after the host; < 0 (the start value) shows "cpu" */
void md_log_quiet(bool quiet); /* INFO no longer goes to stderr (files still get it); for tests */

void md_info(const char *room, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void md_warn(const char *room, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void md_error(const char *room, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* This rank leads others for a while: its INFO lines appear too, and go whole (with newline and
   NUL) to `relay`, which brings them to rank 0 (md_log_line). Called from the thread that logs.
   NULL: no longer. */
void md_log_relay(void (*relay)(const char *line, size_t n));
void md_log_line(const char *line, size_t n); /* a line that another rank made, as it is */

/* For progress.c: a line to the file only; the bar at the bottom of a terminal, which log lines
   clear and the next md_log_bar draws again ("" ends it). */
void md_log_file_only(const char *room, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void md_log_bar(const char *text);
bool md_log_is_terminal(void);

#ifdef __cplusplus
}
#endif
#endif
