/* doctor: MPI, its launcher, and what every rank finds on its own machine. */
#include "base/file.h"
#include "comm/comm.h"
#include "doctor.h"
#include "store/table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* What a rank tells rank 0. */
typedef struct place {
    char host[64], worst[DOCTOR_TEXT];
    int cores, online;
    bool scratch, lock, foundation, encoder; /* seen from here */
} place;

/* ---- before MPI starts */

static md_status first_line_of(const char *command, char *line, int bytes)
{
    FILE *f = popen(command, "r");
    if (!f)
        MD_FAIL(MD_IO, "%s: %s", command, strerror(errno));
    bool any = fgets(line, bytes, f) != NULL;
    line[any ? strcspn(line, "\n") : 0] = 0;
    (void)pclose(f);
    return MD_OK;
}

/* A process alone: would mpirun start it? "mpirun (Open MPI) 4.1.4" */
static void check_mpirun(doctor *d)
{
    char line[DOCTOR_TEXT], wanted[DOCTOR_TEXT];
    if (first_line_of("mpirun --version 2>/dev/null", line, sizeof line) != MD_OK || !*line) {
        doctor_warn(d, "mpirun",
                    "is not in PATH, so that there is one process at a time: load its module, or "
                    "apt-get install openmpi-bin");
        return;
    }
    bool open_mpi = comm_library_is_open_mpi();
    (void)snprintf(wanted, sizeof wanted, "mpirun (Open MPI) %s",
                   open_mpi ? comm_library() + strlen("Open MPI ") : "");
    bool fits = open_mpi ? strcmp(line, wanted) == 0 : strstr(line, "Open MPI") == NULL;
    if (!fits)
        doctor_missing(d, "mpirun",
                       "the one in PATH says \"%.80s\", the program has %s: each rank would be "
                       "alone; put this library's own mpirun first in PATH",
                       line, comm_library());
    else if (open_mpi && geteuid() == 0 && !getenv("OMPI_ALLOW_RUN_AS_ROOT"))
        doctor_warn(d, "mpirun",
                    "refuses to work for root: export OMPI_ALLOW_RUN_AS_ROOT=1 "
                    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1");
    else
        doctor_ok(d, "mpirun", "%s%s", line,
                  open_mpi && doctor_cores() < 3 && !getenv("OMPI_MCA_rmaps_base_oversubscribe")
                      ? "; for 3 ranks on these cores it wants --oversubscribe"
                      : "");
}

void doctor_library(doctor *d)
{
    const comm_launch *l = &d->launch;
    if (!l->by) {
        doctor_ok(d, "MPI", "%s; one process alone: mpirun -n 3 meddiff doctor looks at several",
                  comm_library());
        check_mpirun(d);
    } else if (l->met) {
        doctor_ok(d, "MPI", "%s, started by %s", comm_library(), l->by);
    } else if (l->size == 1) {
        doctor_warn(d, "PMIx",
                    "this one process lies in a step of %s without PMIx, in which Open MPI 4 stops "
                    "jobs: start them by mpirun, or by srun --mpi=pmix",
                    l->by);
    } else {
        doctor_missing(d, "PMIx",
                       "%s started %d processes without PMIx, so that with %s each stops or takes "
                       "itself for the only one: srun --mpi=pmix (srun --mpi=list shows what Slurm "
                       "has), or mpirun inside the allocation",
                       l->by, l->size, comm_library());
    }
}

/* ---- MPI */

void doctor_meet(doctor *d)
{
    if (!d->launch.met)
        return;
    if (comm_init(NULL, NULL) != MD_OK) {
        doctor_missing(d, "MPI", "does not start: %s", md_status_text());
        return;
    }
    d->mpi = true;
    int size = comm_size(comm_world());
    if (size < d->launch.size)
        doctor_missing(d, "ranks",
                       "%s started %d processes, of which MPI finds %d: is its PMIx that of %s? "
                       "srun --mpi=list; ldd of the program",
                       d->launch.by, d->launch.size, size, comm_library());
}

static void look(const doctor *d, place *p)
{
    const char *encoder = config_string(d->cfg, KEY_model_encoder);
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    *p = (place){.cores = doctor_cores(), .online = online > 0 ? (int)online : 1};
    (void)snprintf(p->host, sizeof p->host, "%s", comm_host());
    (void)snprintf(p->worst, sizeof p->worst, "%s", d->worst);
    p->scratch = !*d->scratch || md_file_exists(d->scratch);
    if (*d->scratch && store_directory_is_locked(d->scratch, &p->lock) != MD_OK)
        md_status_clear();
    p->foundation = md_file_exists(config_string(d->cfg, KEY_model_foundation));
    p->encoder = !*encoder || md_file_exists(encoder);
}

/* Ranks and, of them, workers on the machine of rank r. */
static int on_host(const place *p, int size, int r, int *workers)
{
    int n = 0;
    *workers = 0;
    for (int i = 0; i < size; i++)
        if (strcmp(p[i].host, p[r].host) == 0) {
            n++;
            *workers += i > 0 || size == 1;
        }
    return n;
}

/* How many threads its workers start, as backend_open decides, and whether they get in each other's
   way. */
static void check_threads(doctor *d, const place *p, int size, int r)
{
    const char *policy = getenv("OMP_WAIT_POLICY");
    int workers, ranks = on_host(p, size, r, &workers);
    int threads = (int)config_int(d->cfg, KEY_threads);
    if (workers == 0)
        return;
    if (threads == 0)
        threads = workers == 1 ? p[r].cores : p[r].online > workers ? p[r].online / workers : 1;
    if (threads > p[r].cores && p[r].cores < p[r].online)
        doctor_warn(d, "threads",
                    "%s: rank %d starts %d threads on %d core%s that it was bound to: mpirun "
                    "--bind-to none, srun --cpus-per-task=%d, or --set threads=%d",
                    p[r].host, r, threads, p[r].cores, p[r].cores == 1 ? "" : "s", threads,
                    p[r].cores);
    else if (threads > 1 && workers * threads + (ranks - workers) > p[r].online &&
             (!policy || strcasecmp(policy, "passive") != 0))
        doctor_warn(d, "threads",
                    "%s: %d worker%s of %d threads share %d cores and spin while they wait, which "
                    "makes runs several times slower: export OMP_WAIT_POLICY=passive",
                    p[r].host, workers, workers == 1 ? "" : "s", threads, p[r].online);
    else
        doctor_ok(d, "threads", "%s: %d worker%s of %d on %d cores%s", p[r].host, workers,
                  workers == 1 ? "" : "s", threads, p[r].online,
                  policy ? ", waiting as OMP_WAIT_POLICY says" : "");
}

static void judge_rank(doctor *d, const place *p, int r)
{
    bool elsewhere = strcmp(p[r].host, p[0].host) != 0;
    if (!p[r].scratch)
        doctor_missing(d, "run",
                       "rank %d on %s does not see %s: set run to a folder that all machines share",
                       r, p[r].host, d->place);
    else if (elsewhere && d->locks && !p[r].lock)
        doctor_warn(d, "locks",
                    "%s does not see the locks of %s: two jobs could work in one run directory; "
                    "mount it with locks for all nodes (Lustre: flock), or let one job use it",
                    p[r].host, p[0].host);
    /* what rank 0 does not see either, it has said itself */
    bool foundation = p[r].foundation || !p[0].foundation, encoder = p[r].encoder || !p[0].encoder;
    if (d->asked && (!foundation || !encoder))
        doctor_missing(
            d, "models", "rank %d on %s does not see %s: put it where all machines see it", r,
            p[r].host,
            config_string(d->cfg, foundation ? KEY_model_encoder : KEY_model_foundation));
    if (elsewhere && *p[r].worst)
        doctor_missing(d, "machine", "rank %d on %s: %s", r, p[r].host, p[r].worst);
}

static void judge(doctor *d, const place *p, int size)
{
    for (int r = 0; r < size; r++) {
        int workers, before = 0;
        for (int i = 0; i < r; i++)
            before += strcmp(p[i].host, p[r].host) == 0;
        if (before == 0) {
            int n = on_host(p, size, r, &workers);
            if (size == 1)
                doctor_ok(d, "ranks", "%s: one, which coordinates and works", p[r].host);
            else
                doctor_ok(d, "ranks", "%s: %d of %d, %d of them worker%s", p[r].host, n, size,
                          workers, workers == 1 ? "" : "s");
            check_threads(d, p, size, r);
        }
        judge_rank(d, p, r);
    }
}

void doctor_ranks(doctor *d)
{
    place mine, *all = NULL;
    if (!d->mpi) {
        if (d->prints) {
            look(d, &mine);
            (void)snprintf(mine.host, sizeof mine.host, "here");
            check_threads(d, &mine, 1, 0);
        }
        return;
    }
    int size = comm_size(comm_world());
    md_status status = comm_broadcast(comm_world(), 0, d->scratch, sizeof d->scratch, 0);
    look(d, &mine);
    if (comm_rank(comm_world()) == 0)
        all = calloc((size_t)size, sizeof *all);
    if (status == MD_OK)
        status = comm_gather(comm_world(), 0, &mine, sizeof mine, all, 0);
    if (status != MD_OK)
        doctor_missing(d, "ranks",
                       "do not reach each other: %s; is a firewall between the machines, or the "
                       "wrong network (OMPI_MCA_btl_tcp_if_include)?",
                       md_status_text());
    else if (all)
        judge(d, all, size);
    free(all);
}
