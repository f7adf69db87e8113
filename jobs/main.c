/* meddiff: runs the job of the command line, starts and ends MPI, turns the job's status into the
   exit code and prints the failure once. Nothing else in the program ends a process. */
#include "base/file.h"
#include "base/log.h"
#include "base/watch.h"
#include "cluster/signals.h"
#include "comm/comm.h"
#include "comm/launch.h"
#include "command.h"
#include "fresh.h"
#include "manual.h"
#include "memory.h"
#include "rundir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RUN_BYTES = 1024 };
/* for the other ranks to reach the end too: the coordinator may still wait for a worker that died
 */
static const double END_TIMEOUT_S = 180;

static md_status run_local(const job_row *r, const command *c)
{
    job j = {.name = r->name, .arg = c->arg, .id = c->id, .step = c->step, .run = "", .size = 1};
    MD_TRY(command_config(r, c, &j.cfg));
    if (command_takes_config(r))
        j.run = config_string(j.cfg, KEY_run);
    md_status status = r->run(&j);
    config_free(j.cfg);
    return status;
}

static void report(const job_row *r, md_status status)
{
    /* MD_PEER repeats what the failing rank prints itself. */
    if (status != MD_OK && status != MD_STOPPED && status != MD_PEER)
        md_error(r->name, "%s", md_status_text());
}

/* ---- jobs of several ranks */

/* Rank 0: command line, configuration, run directory. Local. */
static md_status prepare(const job_row *r, int argc, char **argv, command *c, config **cfg,
                         rundir *d)
{
    MD_TRY(command_read(r, argc, argv, c));
    MD_TRY(command_config(r, c, cfg));
    return rundir_begin(d, config_string(*cfg, KEY_run), *cfg);
}

/* The resolved configuration of rank 0 becomes everybody's. Collective(world). */
static md_status share(int rank, config **cfg)
{
    void *text = NULL;
    size_t n = 0;
    md_status status = MD_OK;
    if (rank == 0) {
        const char *own = config_text(*cfg, &status);
        n = own ? strlen(own) : 0;
        text = own ? strdup(own) : NULL;
        if (own && !text)
            status = md_fail(MD_NOMEM, __FILE__, __LINE__, "no memory for the configuration");
    }
    MD_TRY(comm_agree(comm_world(), status));
    status = comm_broadcast_blob(comm_world(), 0, &text, &n, 0);
    if (status == MD_OK && rank != 0)
        status = config_parse(text, n, "configuration of rank 0", cfg);
    free(text);
    return status;
}

/* From the watchdog's thread: MPI's or the GPU's own end may hang as what hangs does. */
static void hangs(const char *doing, double seconds)
{
    md_error("main",
             "rank %d on %s: no step forward for %.0f s, the last that began: %s; it ends, start "
             "the same command again to go on (stall_s sets the time)",
             comm_rank(comm_world()), comm_host(), seconds, doing);
    _exit(1);
}

/* On every rank alike. */
static md_status watch(const config *cfg)
{
    /* one that hangs says so itself, before those that wait for it do */
    static const double LATER = 1.25;
    double stall_s = config_float(cfg, KEY_stall_s);
    comm_set_timeout(LATER * stall_s);
    return stall_s > 0 ? md_watch_start(stall_s, hangs) : MD_OK;
}

static int exit_code(md_status status)
{
    return md_status_exit_code(comm_cause(status));
}

/* The outcome of all: a rank's echo of another's failure is none of its own. Collective(world). */
static md_status agree(md_status status)
{
    return comm_agree(comm_world(), status == MD_PEER ? MD_OK : status);
}

/* The outcome for all, and whether it is that ranks were lost. Collective(world). */
static md_status agree_on(md_status status, bool *lost)
{
    md_status agreed = agree(status);
    *lost = comm_lost_peer() && comm_cause(agreed) == MD_COMM;
    return agreed == MD_OK ? status : agreed;
}

/* Where the launcher leaves the others alive when a rank dies (mpirun --enable-recovery), they go
   on from what stands on the disk, as the next start would. Collective(world). */
static md_status run_to_the_end(const job_row *r, job *j)
{
    static const int AGAIN_MOST = 5;
    bool lost;
    md_status status = agree_on(r->run(j), &lost);
    for (int again = 0; again < AGAIN_MOST && lost; again++) {
        report(r, status);
        status = comm_shrink();
        if (status != MD_OK)
            return md_context(status, "the ranks that are left cannot go on alone");
        cluster_begin_again();
        j->rank = comm_rank(comm_world());
        j->size = comm_size(comm_world());
        j->fresh = false;
        md_log_step(-1);
        if (j->rank == 0)
            md_warn("main", "goes on with %d worker%s", j->size - 1, j->size == 2 ? "" : "s");
        status = agree_on(r->run(j), &lost);
    }
    return status;
}

/* Every rank comes here; a rank that failed alone becomes the failure of all. A rank that does not
   come in time keeps MPI from ending, so all are ended. Collective(world). */
static md_status end_together(md_status status)
{
    comm_set_timeout(comm_timeout() < END_TIMEOUT_S ? comm_timeout() : END_TIMEOUT_S);
    int code = exit_code(status);
    md_status agreed = agree(status);
    if (agreed == MD_COMM) {
        md_error("main", "not all ranks reached the end: %s", md_status_text());
        md_log_close();
        (void)fflush(NULL);
        if (comm_rank(comm_world()) == 0) /* the others may go on without this one */
            comm_abort(code ? code : 1);
        _exit(code ? code : 1);
    }
    return agreed == MD_OK ? status : agreed;
}

/* --fresh: rank 0 removes, the others wait. Collective(world). */
static md_status start_over(job *j)
{
    static const double DAY_S = 86400; /* longer than an agreement waits */
    char done = 1;
    md_status status = j->rank == 0 ? fresh_start(j) : MD_OK;
    md_status told = comm_broadcast(comm_world(), 0, &done, sizeof done, DAY_S);
    return comm_agree(comm_world(), status != MD_OK ? status : told);
}

static md_status run_shared(const job_row *r, int argc, char **argv)
{
    int rank = comm_rank(comm_world()), size = comm_size(comm_world());
    command c = {0};
    job j = {.name = r->name, .rank = rank, .size = size};
    rundir d = {0};
    char log[RUN_BYTES];
    md_status status;
    MD_TRY_GOTO(md_log_open(rank, size, NULL), out);
    MD_TRY_GOTO(cluster_signals_install(), out);
    status = rank == 0 ? prepare(r, argc, argv, &c, &j.cfg, &d) : MD_OK;
    MD_TRY_GOTO(comm_agree(comm_world(), status), out);
    MD_TRY_GOTO(share(rank, &j.cfg), out);
    if (rank != 0)
        MD_TRY_GOTO(command_read(r, argc, argv, &c), out); /* passed on rank 0, so here too */
    j.arg = c.arg;
    j.step = c.step;
    j.fresh = c.fresh;
    j.run = config_string(j.cfg, KEY_run);
    MD_TRY_GOTO(watch(j.cfg), out);
    status = md_path_join(log, sizeof log, j.run, "log.txt");
    if (status == MD_OK)
        status = md_log_open(rank, size, log);
    if (status == MD_OK)
        status = md_dir_expect(j.run);
    MD_TRY_GOTO(comm_agree(comm_world(), status), out);
    md_info("main", "meddiff " MEDDIFF_VERSION " %s %s, run directory %s", r->name, j.arg, j.run);
    if (j.fresh)
        MD_TRY_GOTO(start_over(&j), out);
    status = run_to_the_end(r, &j);
out:
    report(r, status);
    status = end_together(status);
    if (status == MD_OK)
        memory_tell_all(r->name);
    md_status left = d.run ? rundir_end(&d, status, exit_code(status) == 2 && !j.worked) : MD_OK;
    if (left != MD_OK)
        md_error("main", "the outcome could not be written: %s", md_status_text());
    if (exit_code(status) == 0)
        status = left != MD_OK ? left : status; /* who asks RESULT must not wait for it */
    rundir_free(&d);
    config_free(j.cfg);
    return status;
}

/* Ending MPI may wait for ever: for a lost rank, or, after SIGTERM, for one that a signal ended. */
static bool finalizing_may_hang(void)
{
    return comm_lost_peer() ||
           (comm_size(comm_world()) > 1 && cluster_stop_requested() == CLUSTER_STOP_NOW);
}

/* Starts MPI, runs, and ends it so that no rank is left behind. Does not return after a failure
   that keeps MPI from ending. */
static int main_shared(const job_row *r, int argc, char **argv)
{
    md_status status = comm_init(&argc, &argv);
    if (status != MD_OK) {
        report(r, status);
        return md_status_exit_code(status);
    }
    status = run_shared(r, argc, argv);
    int code = exit_code(status);
    md_log_close();
    (void)fflush(NULL);
    if (finalizing_may_hang())
        _exit(code);
    if (comm_finalize() != MD_OK && code == 0)
        code = 1;
    return code;
}

/* For scripts: the run directory of this command line. */
static int print_run(const job_row *r, int argc, char **argv)
{
    command c = {0};
    config *cfg = NULL;
    md_status status = command_read(r, argc, argv, &c);
    if (status == MD_OK && (!command_takes_config(r) || !c.arg))
        status = md_fail(MD_USAGE, __FILE__, __LINE__, "--run-of is for jobs with a configuration");
    if (status == MD_OK)
        status = command_config(r, &c, &cfg);
    if (status == MD_OK)
        (void)puts(config_string(cfg, KEY_run));
    config_free(cfg);
    report(r, status);
    return md_status_exit_code(status);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        command_usage(stderr);
        return 2;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        command_usage(stdout);
        return 0;
    }
    if (!strcmp(argv[1], "--version")) {
        (void)printf("meddiff " MEDDIFF_VERSION "\n");
        return 0;
    }
    if (!strcmp(argv[1], "--complete"))
        return manual_complete(argc - 2, argv + 2);
    bool manual = !strcmp(argv[1], "--man"); /* --man [JOB]: its page for man(1) */
    if (manual && argc == 2)
        return manual_page(NULL);
    bool run_of = !strcmp(argv[1], "--run-of"); /* --run-of JOB CONFIG [OPTION]... */
    if ((manual || run_of) && argc > 2) {
        argc--;
        argv++;
    }
    const job_row *r = command_find_job(&argc, &argv);
    if (!r)
        return command_unknown_job(argv[1]);
    if (manual)
        return manual_page(r);
    if (run_of)
        return print_run(r, argc, argv);
    for (int i = 2; i < argc; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
            return command_job_help(r);
    if (r->ranks == MPI)
        return main_shared(r, argc, argv);
    command c = {0};
    md_status status = command_read(r, argc, argv, &c);
    if (status == MD_OK)
        status = run_local(r, &c);
    if (r->ranks == LOCAL || comm_launched().rank == 0)
        report(r, status);
    return md_status_exit_code(status);
}
