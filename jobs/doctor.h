/* What the files of `meddiff doctor` share: the checks, one line each. Rank 0 prints; where a check
   is Collective every rank calls it. */
#ifndef MD_JOBS_DOCTOR_H
#define MD_JOBS_DOCTOR_H

#include "comm/launch.h"
#include "job.h"

#include <stdbool.h>
#include <stdint.h>

enum { DOCTOR_PATH = 1024, DOCTOR_TEXT = 200, DOCTOR_SIZE = 24 };

typedef struct doctor {
    const config *cfg;
    bool asked;  /* a CONFIG was given, whose run, models and data are looked at, too */
    bool prints; /* rank 0 */
    bool mpi;    /* MPI runs: comm_world() is there */
    comm_launch launch;
    int missing, warnings;
    char worst[DOCTOR_TEXT];   /* the first thing missing here, for rank 0 to print */
    bool locks;                /* the run's file system holds locks */
    char place[DOCTOR_PATH];   /* the folder that is there: `run`, or what it will be made in */
    char scratch[DOCTOR_PATH]; /* doctor's own folder in it, "" where none could be made */
    int64_t bytes, largest;    /* that the run is going to write, and its largest file */
} doctor;

/* "ok", "note", "warning" or "missing" and a line; `what` is a word or two. The last two say what
   to do. */
void doctor_ok(doctor *d, const char *what, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void doctor_note(doctor *d, const char *what, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void doctor_warn(doctor *d, const char *what, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void doctor_missing(doctor *d, const char *what, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* "1.5 GiB", "12 MiB"; returns out. */
const char *doctor_size(char out[DOCTOR_SIZE], double bytes);
/* The processors that this process may use, by its affinity. */
int doctor_cores(void);

void doctor_machine(doctor *d); /* processor, memory, /dev/shm, TMPDIR, limits */
void doctor_models(doctor *d);  /* foundation, encoder, data set; fills bytes and largest */
void doctor_library(doctor *d); /* MPI and its launcher, before MPI starts */
void doctor_meet(doctor *d);    /* starts MPI; do the ranks see each other? Collective. */
void doctor_ranks(doctor *d);   /* what each finds where it runs, scratch too. Collective. */
void doctor_devices(doctor *d); /* GPUs: every worker's, or all of the machine. Collective. */
void doctor_disk(doctor *d);    /* makes scratch; room, locks. Rank 0. */
void doctor_stores(doctor *d);  /* a small store, of which every rank writes a row. Collective. */
void doctor_clean(doctor *d);   /* removes scratch. Rank 0. */

#endif
