/* Shared inside comm/: what a comm holds, and the wait loop. */
#ifndef MD_COMM_COMM_INTERNAL_H
#define MD_COMM_COMM_INTERNAL_H

#include "comm/comm.h"
#include "comm/frame.h"
#include <mpi.h>

/* One tag per kind of traffic, so that a probe for one never meets another. */
enum {
    COMM_TAG_MAIL,
    COMM_TAG_UP,
    COMM_TAG_DOWN,
    COMM_TAG_READY,
    COMM_TAG_PART,
    COMM_TAG_SUM,
    COMM_TAGS
};

/* A send under way: the bytes live here until MPI is done with them. */
typedef struct comm_outgoing {
    struct comm_outgoing *next;
    MPI_Request request;
    int to;
    uint8_t data[];
} comm_outgoing;

/* All groups share one communicator of MPI, each with tags of its own: a group can then be made of
   the ranks that are left after a death, which Open MPI's own ways to make communicators do not
   survive. */
struct comm {
    MPI_Comm mpi;
    int rank, size;
    int *at;                 /* [size] ranks in mpi */
    int *index;              /* [ranks of mpi] and back; -1: not in this group */
    int tag;                 /* of its first kind of traffic */
    uint32_t sequence;       /* of star collectives: an answer to an older one is dropped */
    bool broken;             /* a reduction ran out of time: its requests are still with MPI */
    bool *lost;              /* [size] */
    bool *heard;             /* [size] in this agreement; rank 0 */
    int *pending;            /* [size] outgoing sends */
    comm_outgoing *outgoing; /* in order of sending */
    uint8_t *received;       /* buffer of the last comm_receive */
    size_t received_capacity;
};

#define MPI_TRY(call)                                                                              \
    do {                                                                                           \
        int mpi_try_ = (call);                                                                     \
        if (mpi_try_ != MPI_SUCCESS)                                                               \
            return comm__mpi_fail(mpi_try_, #call, __FILE__, __LINE__);                            \
    } while (0)

MD_MUST md_status comm__mpi_fail(int error, const char *call, const char *file, int line);

/* A polling wait: `while (!arrived) MD_TRY(comm__pause(&w, what));` */
typedef struct comm__wait {
    double deadline, pause_s, looked_at;
    int yields; /* first give the core away this often without sleeping: for a peer known to be
                   there */
} comm__wait;

comm__wait comm__wait_begin(double timeout_s, int yields);
/* MD_COMM after the deadline, MD_STOPPED when the interrupt hook says so. */
MD_MUST md_status comm__pause(comm__wait *w, const char *what);
bool comm__interrupted(void);

/* Frees the sends that have left. */
MD_MUST md_status comm__progress(comm *c);
MD_MUST md_status comm__send(comm *c, int to, int tag, const void *data, size_t bytes);
/* A message with this tag from this rank (MPI_ANY_SOURCE: anybody), if there is one, into the
   buffer of c. None: *bytes 0. */
MD_MUST md_status comm__take(comm *c, int source, int tag, int *from, const uint8_t **data,
                             size_t *bytes);
void comm__note_lost(void);

#endif
