/* rejected.csv: one line for every rejected draw. The coordinator appends as they come, so that a
   kill loses none; closing leaves one line per slot and attempt, in their order, whatever the order
   they came in. */
#ifndef MD_GENERATE_REJECTS_H
#define MD_GENERATE_REJECTS_H

#include "generate/band.h"

typedef struct reject {
    int64_t slot;
    int32_t attempt, background_id, mask_id;
    verdict why;
    assessment m;
} reject;

typedef struct rejects rejects;

/* Reads what an earlier run left at `path`, if anything; lines that are none are dropped with a
 * warning. */
MD_MUST md_status rejects_open(const char *path, rejects **out);
MD_MUST md_status rejects_add(rejects *r, const reject *line);
/* A draw that is not rejected after all; no error when there is no such line. */
MD_MUST md_status rejects_forget(rejects *r, int64_t slot, int32_t attempt);
int64_t rejects_count(const rejects *r); /* lines; one a draw once they are put in order */
/* On disk afterwards. */
MD_MUST md_status rejects_sync(rejects *r);
/* Sorts, writes the file anew and syncs it; removes it when nothing is left. */
MD_MUST md_status rejects_order(rejects *r);
void rejects_close(rejects *r); /* NULL is fine */

/* The lines of text[n] into lines[most], with what is none counted in *bad; returns their number.
 */
int64_t rejects_parse(const char *text, size_t n, reject *lines, int64_t most, int64_t *bad);

/* Removes the lines and pictures of a store that is there no longer. */
MD_MUST md_status rejects_drop(const char *csv, const char *folder);
/* A picture of a rejected draw beside the real image nearest to it: rgb with the guide's outline,
   and `real` [S,S,3] (NULL: alone), at most 256 pixels high. */
MD_MUST md_status rejects_picture(const image *rgb, const image *guide, const image *real,
                                  const char *png);

#endif
