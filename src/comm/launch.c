#include "comm/launch.h"
#include "comm/comm_internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef MEDDIFF_NCCL
#include <nccl.h>
#endif

/* What launchers set, the most telling first: inside an allocation Slurm's own variables stand
   beside mpirun's. PMIx alone is no sign of how many there are. */
static const struct {
    const char *by, *rank, *size;
    bool pmix;
} launchers[] = {{"mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", true},
                 {"srun", "PMIX_RANK", "SLURM_STEP_NUM_TASKS", true},
                 {"srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", false},
                 {"a launcher that speaks PMI", "PMI_RANK", "PMI_SIZE", false},
                 {"a launcher that speaks PMIx", "PMIX_RANK", NULL, true}};

comm_launch comm_launched(void)
{
    for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++) {
        const char *rank = getenv(launchers[i].rank);
        const char *size = launchers[i].size ? getenv(launchers[i].size) : "1";
        if (!rank || !size)
            continue;
        long r = strtol(rank, NULL, 10), n = strtol(size, NULL, 10);
        bool other = getenv("PMI_RANK") && !comm_library_is_open_mpi();
        return (comm_launch){.by = launchers[i].by,
                             .rank = r > 0 ? (int)r : 0,
                             .size = n > 1 ? (int)n : 1,
                             .met = launchers[i].pmix || other};
    }
    return (comm_launch){.size = 1, .met = true};
}

/* "Open MPI v4.1.4, package: ..." loses its v; others keep their first line. */
const char *comm_library(void)
{
    static char text[80];
    char all[MPI_MAX_LIBRARY_VERSION_STRING] = "an unknown MPI library";
    int n = 0;
    if (*text)
        return text;
    (void)MPI_Get_library_version(all, &n);
    all[strcspn(all, ",\n")] = 0;
    char *v = strstr(all, " v");
    if (v)
        memmove(v + 1, v + 2, strlen(v + 2) + 1);
    (void)snprintf(text, sizeof text, "%.70s", all);
    return text;
}

bool comm_library_is_open_mpi(void)
{
    return strncmp(comm_library(), "Open MPI", strlen("Open MPI")) == 0;
}

const char *comm_nccl(void)
{
#ifdef MEDDIFF_NCCL
    static char text[32];
    int v = 0;
    if (ncclGetVersion(&v) != ncclSuccess)
        return "NCCL, which does not tell its version";
    (void)snprintf(text, sizeof text, "NCCL %d.%d.%d", v / 10000, v / 100 % 100, v % 100);
    return text;
#else
    return NULL;
#endif
}
