/* The command line: the table of jobs, options, the configuration that they make, help. Rank 0
   alone or a local job; the only one beside main.c and the LOCAL jobs that prints. */
#ifndef MD_JOBS_COMMAND_H
#define MD_JOBS_COMMAND_H

#include "job.h"

#include <stdio.h>

enum { COMMAND_MAX_SETS = 256, COMMAND_MAX_WITHS = 16 };

typedef enum argument { CONFIG, RUN, RUN_ID, DIR, STEP_CONFIG, ANY_CONFIG, NOTHING } argument;
typedef enum ranks { LOCAL, MPI, SELF } ranks;

typedef struct job_row {
    const char *name;
    argument arg;
    ranks ranks;
    const char *sections, *help;
    md_status (*run)(job *j);
} job_row;

typedef struct command {
    const char *arg, *id, *step;
    const char *sets[COMMAND_MAX_SETS], *withs[COMMAND_MAX_WITHS];
    size_t n_sets, n_withs;
    bool help, fresh;
} command;

void command_usage(FILE *f);
const job_row *command_rows(void);              /* ends with one whose name is NULL */
const char *command_argument(const job_row *r); /* "CONFIG", "[train|sample] CONFIG"; "": none */
const char *command_argument_meaning(const job_row *r); /* "RUN: a run directory, such as ..." */
/* Both return the exit code. */
int command_job_help(const job_row *r);
int command_unknown_job(const char *name); /* with a guess at what was meant, to stderr */

/* The job of the line's first word or first two; NULL if there is none. Of two, the first is taken
   off, so that what follows counts from the job's last word. */
const job_row *command_find_job(int *argc, char ***argv);
bool command_takes_config(const job_row *r);
bool command_takes_fresh(const job_row *r); /* it has a run directory */
bool command_takes_share(const job_row *r); /* --share is short for export.share */
MD_MUST md_status command_read(const job_row *r, int argc, char **argv, command *c);
/* CONFIG, the files of --with over it, --set over all; `run` named where nothing does. */
MD_MUST md_status command_config(const job_row *r, const command *c, config **out);

#endif
