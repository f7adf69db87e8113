/* Ranks and what passes between them: start and end, agreement, messages, collectives with
   deadlines. No MPI type appears here; MPI is named in this room only. Call everything from the
   main thread. Every wait has a deadline, and polls with short growing sleeps, since ranks often
   share cores. A wait ends with MD_STOPPED at once when the interrupt hook says so (see
   comm_set_interrupt). `Collective(c)`: every rank of c calls it, in the same order. `Local`: no
   peer takes part. */
#ifndef MD_COMM_COMM_H
#define MD_COMM_COMM_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define COMM_MESSAGE_MAX ((size_t)64 << 20) /* bytes of one message; more is an error */
#define COMM_TIMEOUT_S   1800.0             /* what a timeout of 0 means; see comm_set_timeout */

typedef struct comm comm; /* a group of ranks; owned by this room */

/* ---- start and end */

/* Starts MPI once per process; without a launcher the process is a group of one. Asks for
   MPI_THREAD_MULTIPLE, takes FUNNELED. argc and argv may be NULL. Collective(world). */
MD_MUST md_status comm_init(int *argc, char ***argv);
/* Ends MPI; waits for all ranks. Do not call it when comm_lost_peer() or after SIGTERM: it may then
   never return; flush and _exit instead. Collective(world). */
MD_MUST md_status comm_finalize(void);
/* Ends every rank at once with this code. Only jobs/main calls it. Local. */
void comm_abort(int code);

comm *comm_world(void);
/* All ranks but 0; with one process alone, rank 0 itself. NULL on rank 0 otherwise. */
comm *comm_workers(void);
/* Whether this rank saves and speaks for all workers: the first of them, or a process without MPI.
 */
bool comm_leads(void);
int comm_rank(const comm *c);
int comm_size(const comm *c);
/* This rank's place among the workers of its node, for the choice of a GPU; rank 0 of several: 0.
 */
int comm_node_index(void);
int comm_node_workers(void); /* workers on this node, at least 1 */
const char *comm_host(void);
/* A rank for messages: "rank 2 on node7", the number in the whole job; returns text. Local. */
enum { COMM_WHO = 96 };
const char *comm_who(const comm *c, int rank, char text[COMM_WHO]);

/* ---- groups: parts of the workers that each do a job of their own. Inside, comm_world() and
   comm_workers() are both the group: its rank 0 leads and works, as a process alone does. The place
   on the node stays what it is among all workers. One level; who stays outside sees no change. */

/* Those that give the same number >= 0 become a group, in rank order; rank 0 of the world gives -1
   and stays outside. Collective(world). */
MD_MUST md_status comm_enter(int group);
/* Back. Collective(group), but it waits for nobody longer than its mail takes to leave. */
void comm_leave(void);
comm *comm_outer(void); /* the whole world while in a group, else NULL */

/* For waits whose timeout is 0. Local. */
void comm_set_timeout(double seconds);
double comm_timeout(void);
/* Waits ask this; true ends them with MD_STOPPED. NULL: never. Local. */
void comm_set_interrupt(bool (*stop_now)(void));

/* ---- ranks that went away. Open MPI 4 reports nothing for a dead peer, so whoever watches
   heartbeats (cluster/) says here what it found. Ranks marked lost are not waited for. Rank -1
   means somebody: what rank 0 knows, which also travels with every agreement and barrier. Local. */
void comm_mark_lost(comm *c, int rank, bool lost);
bool comm_is_lost(const comm *c, int rank);
/* Some rank is or was lost, or a collective ran out of time: finalize may hang. */
bool comm_lost_peer(void);
/* After an agreement of the world that found ranks lost: those that are left become the world, in
   the same order, with a group of workers of their own; what is under way between ranks is given
   up, and comm_reducers and devices are worth nothing any more. MD_COMM where every worker is gone,
   and on a rank that the others count as lost. Not while in a group. Collective(world without the
   lost). */
MD_MUST md_status comm_shrink(void);

/* ---- agreement and small collectives; a star over rank 0 of c, so a lost rank other than 0 does
   not block them. timeout_s 0: the default. */

/* What every rank does before a collective that another might skip. All OK: MD_OK. Otherwise all
   return together: the lowest failing rank its own status and chain, the others MD_PEER, whose text
   repeats that chain; whoever prints leaves MD_PEER out, so one message appears. MD_STOPPED on some
   ranks and no failure: MD_STOPPED on all. Once one of them says MD_COMM, rank 0 waits for the
   others for 20 s more; who has not come by then is lost. Collective(c). */
MD_MUST md_status comm_agree(comm *c, md_status local);
/* The same with another timeout; 0: the default. */
MD_MUST md_status comm_agree_within(comm *c, md_status local, double timeout_s);
/* The status itself or, for MD_PEER, the failure behind the last one, so that all ranks can do the
 * same about it. */
md_status comm_cause(md_status status);

MD_MUST md_status comm_barrier(comm *c, double timeout_s);
/* data[bytes] on root goes to all; any size. Collective(c). */
MD_MUST md_status comm_broadcast(comm *c, int root, void *data, size_t bytes, double timeout_s);
/* As above where only root knows the size: on the others *data is malloced (one NUL behind it, so
   that text is a string; caller frees) and *bytes set. Collective(c). */
MD_MUST md_status comm_broadcast_blob(comm *c, int root, void **data, size_t *bytes,
                                      double timeout_s);
/* mine[bytes] of every rank -> all[size*bytes] on root (else NULL); a lost rank's part is
   zeroed. bytes at most COMM_MESSAGE_MAX / 2. Collective(c). */
MD_MUST md_status comm_gather(comm *c, int root, const void *mine, size_t bytes, void *all,
                              double timeout_s);

/* ---- messages between two ranks, whole and in order per pair */

/* Copies data and returns at once; delivery goes on inside later calls of this room. Local. */
MD_MUST md_status comm_send(comm *c, int to, const void *data, size_t bytes);
/* Sends to `to` that have not left yet; a peer whose number only grows does not listen. Local. */
int comm_pending(comm *c, int to);
/* The next message from anybody, waiting at most wait_s (0: just look). None: MD_OK and *bytes 0.
 *data is valid until the next call. Local. */
MD_MUST md_status comm_receive(comm *c, double wait_s, int *from, const uint8_t **data,
                               size_t *bytes);
/* Waits until the sends to ranks not lost have left. Local. */
MD_MUST md_status comm_flush(comm *c, double timeout_s);

/* ---- all-reduce of f32 sums on host memory. Each element is added in double in rank order and
   rounded once, so the result depends neither on arrival nor on the segment size, and is the
   same bits on every rank. */
typedef struct comm_reducer comm_reducer;

/* Takes all memory the reductions need (about 8 MiB). Local. */
MD_MUST md_status comm_reducer_new(comm *c, comm_reducer **out);
void comm_reducer_free(comm_reducer *r);
/* Starts summing x[n] over the ranks, in place; x must stay until it ended. One at a time. Does not
   wait. Collective(c). */
MD_MUST md_status comm_reduce_begin(comm_reducer *r, float *x, int64_t n);
/* Moves it on without waiting; call it between pieces of work. Local. */
MD_MUST md_status comm_reduce_poll(comm_reducer *r, bool *done);
/* Waits for its end. After a timeout x is undefined, and c and r are unusable. */
MD_MUST md_status comm_reduce_wait(comm_reducer *r, double timeout_s);
/* begin and wait. Collective(c). */
MD_MUST md_status comm_allreduce_f32(comm_reducer *r, float *x, int64_t n, double timeout_s);

#ifdef __cplusplus
}
#endif
#endif
