/* What signals ask of a running job. SIGUSR1: finish the micro-batch or step, save, end orderly.
   SIGTERM and SIGINT: start nothing, return quickly; what is committed is committed. A second
   SIGTERM or SIGINT ends the process at once. Any rank may be the one that hears it; cluster_run
   tells the others, a training loop lets it travel with its gradients. */
#ifndef MD_CLUSTER_SIGNALS_H
#define MD_CLUSTER_SIGNALS_H

#include "base/status.h"
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* In order of urgency; a request only ever grows. */
typedef enum cluster_stop { CLUSTER_GO, CLUSTER_STOP_ORDERLY, CLUSTER_STOP_NOW } cluster_stop;

/* Installs the handlers, ignores SIGPIPE, and makes comm's waits end on CLUSTER_STOP_NOW. Local. */
MD_MUST md_status cluster_signals_install(void);
/* What was asked for so far. CLUSTER_STOP_ORDERLY: the job saves and writes REQUEUE. Local, cheap.
 */
cluster_stop cluster_stop_requested(void);
/* Asks as a signal would: for a stop that another rank was asked for. Local. */
void cluster_stop_request(cluster_stop how);
/* After comm_shrink, before the job runs once more: forgets what other ranks asked for, and which
   leased run is which. Collective(world). */
void cluster_begin_again(void);

#ifdef __cplusplus
}
#endif
#endif
