/* How this process was started and what the MPI library is: from the environment and the library
   itself, so before comm_init, too, which may end the process where these two do not fit. Local. */
#ifndef MD_COMM_LAUNCH_H
#define MD_COMM_LAUNCH_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct comm_launch {
    const char *by; /* "mpirun", "srun", "a launcher that speaks PMI"; NULL: a process alone */
    int rank, size; /* as the launcher says, 0 of 1 where it does not */
    bool met; /* by something through which this MPI library's processes find each other; otherwise
                 it stops in comm_init, or each process takes itself for the only one */
} comm_launch;

comm_launch comm_launched(void);
/* "Open MPI 4.1.4"; what mpirun --version says begins alike. */
const char *comm_library(void);
bool comm_library_is_open_mpi(void);
/* "NCCL 2.28.9"; NULL where the build has none. */
const char *comm_nccl(void);

#ifdef __cplusplus
}
#endif
#endif
