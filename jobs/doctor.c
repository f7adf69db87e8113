/* meddiff doctor [CONFIG]: looks at everything that a run needs from its machine, one line each,
   and says of what is missing what to do. Starts MPI itself, after what can be said without: where
   launcher and library do not fit, the library ends the process. */
#include "doctor.h"
#include "base/log.h"
#include "comm/comm.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>

static const double PATIENCE_S = 60; /* with a rank that does not answer */

static void print(doctor *d, const char *state, const char *what, const char *fmt, va_list ap)
{
    if (!d->prints) {
        if (*state == 'm' && !*d->worst)
            (void)vsnprintf(d->worst, sizeof d->worst, fmt, ap);
        return;
    }
    (void)printf("%-8s %-12s ", state, what);
    (void)vprintf(fmt, ap);
    (void)putchar('\n');
    (void)fflush(stdout); /* the next check may end the process */
}

void doctor_ok(doctor *d, const char *what, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    print(d, "ok", what, fmt, ap);
    va_end(ap);
}

void doctor_note(doctor *d, const char *what, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    print(d, "note", what, fmt, ap);
    va_end(ap);
}

void doctor_warn(doctor *d, const char *what, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    print(d, "warning", what, fmt, ap);
    va_end(ap);
    d->warnings++;
}

void doctor_missing(doctor *d, const char *what, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    print(d, "missing", what, fmt, ap);
    va_end(ap);
    d->missing++;
}

const char *doctor_size(char out[DOCTOR_SIZE], double bytes)
{
    static const double MIB = 1 << 20;
    bool large = bytes >= 1024 * MIB;
    (void)snprintf(out, DOCTOR_SIZE, large ? "%.1f GiB" : "%.0f MiB",
                   large ? bytes / MIB / 1024 : bytes / MIB);
    return out;
}

/* Rank 0's outcome is the job's: a launcher that sees another rank fail would end rank 0 before it
   has said so. Collective. */
static md_status end(doctor *d)
{
    md_status status = d->mpi ? comm_barrier(comm_world(), 0) : MD_OK;
    if (d->prints)
        (void)printf("%d missing, %d warning%s\n", d->missing, d->warnings,
                     d->warnings == 1 ? "" : "s");
    if (d->mpi && (status != MD_OK || comm_lost_peer())) { /* MPI would not end */
        (void)fflush(NULL);
        comm_abort(1);
    }
    MD_TRY(d->mpi ? comm_finalize() : MD_OK);
    if (d->prints && d->missing)
        MD_FAIL(MD_IO, "what a run needs is missing: the lines above say what to do");
    return MD_OK;
}

md_status job_doctor(job *j)
{
    doctor d = {.cfg = j->cfg, .asked = j->arg != NULL, .launch = comm_launched()};
    d.prints = d.launch.rank == 0;
    md_log_quiet(true);             /* it prints what it finds itself */
    (void)signal(SIGPIPE, SIG_IGN); /* `doctor | head` is to leave nothing behind */
    doctor_machine(&d);
    doctor_library(&d);
    if (d.asked && d.prints)
        doctor_models(&d);
    doctor_meet(&d);
    comm_set_timeout(PATIENCE_S);
    if (d.prints)
        doctor_disk(&d);
    doctor_ranks(&d);
    doctor_devices(&d);
    doctor_stores(&d);
    if (d.prints)
        doctor_clean(&d);
    return end(&d);
}
