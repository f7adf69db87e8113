/* What outputs.c (whose a file is) and outputs_remove.c share. */
#ifndef MD_JOBS_OUTPUTS_INTERNAL_H
#define MD_JOBS_OUTPUTS_INTERNAL_H

#include "outputs.h"

#include <stddef.h>
#include <stdint.h>

enum { OUTPUTS_PATH = 4096, OUTPUTS_OF_RUN = N_PRODUCTS }; /* not of one job */

/* A row OUTPUT of the table. */
typedef struct output {
    int of;
    const char *folder, *names;
} output;

/* A row METRICS. */
typedef struct output_stage {
    product of;
    const char *name;
} output_stage;

extern const output outputs__rows[];
extern const int outputs__n;
extern const output_stage outputs__stages[];
extern const int outputs__n_stages;

/* Something in the run directory, by its path from there. */
typedef struct entry {
    char *path;
    int64_t bytes;
    int output, rank; /* row of the table and place among its names; ABOVE, UNKNOWN */
    bool link, folder;
} entry;

enum { ABOVE = -1, UNKNOWN = -2 }; /* ABOVE: a folder that holds the folders of rows */

typedef struct scene {
    const char *run;
    int dir; /* the run directory, open */
    product_set set;
    bool repaired;
    entry *e;
    size_t n, cap;
} scene;

/* Everything in the run directory, into s->e; outputs__free whatever it says. */
MD_MUST md_status outputs__list(scene *s);
void outputs__free(scene *s);

#endif
