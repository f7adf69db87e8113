/* Several tasks at the same time, each by a group of workers of its own. Inside a task
   comm_world() and comm_workers() are its group, so that a job runs there as it would alone. Rank 0
   waits: it keeps the log and the rows of metrics of all tasks, passes stops on, and asks the
   others to stop when one fails. Who calls: jobs/pipeline.c; train/loop.c for its rows. */
#ifndef MD_CLUSTER_GROUPS_H
#define MD_CLUSTER_GROUPS_H

#include "base/status.h"
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { CLUSTER_MAX_TASKS = 16 };

typedef struct cluster_task {
    const char *name;             /* in the log and in messages */
    int workers;                  /* its share, at least 1; in the order of the ranks */
    md_status (*run)(void *user); /* Collective(its group) */
    void *user;
} cluster_task;

typedef struct cluster_groups {
    const cluster_task *task;
    int n;
    /* Rank 0: one line of metrics, without the newline, of whatever task. */
    md_status (*on_row)(void *user, const char *row);
    void *user;
    double silent_s; /* a task not heard of for so long has failed; 0: comm's
                        default timeout */
} cluster_groups;

/* Shares the workers equally: out[n], as even as can be, larger ones first. workers >= n. */
void cluster_share(int workers, int n, int *out);
/* Runs the tasks; their shares must add up to all workers. MD_OK when all are done. A task's
   failure comes back with its name in the chain on one rank, on the others as MD_PEER; the other
   tasks are asked to stop as by a signal. MD_STOPPED after a signal on any rank. Collective(world).
 */
MD_MUST md_status cluster_side_by_side(const cluster_groups *g);

/* Inside a task: */
bool cluster_in_group(void); /* this rank is in one */
/* Hands a row of metrics to rank 0, where on_row gets it; the group's rank 0 only. */
MD_MUST md_status cluster_send_row(const char *row);

#ifdef __cplusplus
}
#endif
#endif
