/* The messages of leased work: packed by comm/frame.h, every count and index checked on arrival. */
#ifndef MD_CLUSTER_MESSAGES_H
#define MD_CLUSTER_MESSAGES_H

#include "cluster/cluster.h"
#include "comm/frame.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum cluster_kind {
    CLUSTER_MSG_BEAT =
        1, /* both ways: I live. From a worker also: I want a lease, I was told to stop */
    CLUSTER_MSG_LEASE,  /* to a worker */
    CLUSTER_MSG_RESULT, /* to the coordinator: what became of one micro-batch */
    CLUSTER_MSG_END,    /* to a worker: this run is over */
    CLUSTER_MSG_BYE     /* to the coordinator: I leave this run */
} cluster_kind;

typedef enum cluster_end {
    CLUSTER_END_DONE,
    CLUSTER_END_ORDERLY, /* finish the micro-batch first */
    CLUSTER_END_NOW,
    CLUSTER_END_FAILED /* text says why */
} cluster_end;

typedef struct cluster_msg_beat {
    bool wants_lease;
    uint32_t last_lease; /* the last one received, 0 at first */
    cluster_stop stop;
} cluster_msg_beat;

/* One entry of a lease: the item and its place in the coordinator's list. */
typedef struct cluster_entry {
    int64_t index;
    cluster_item item;
} cluster_entry;

typedef struct cluster_msg_lease {
    uint32_t lease;
    int n;
    cluster_entry entry[CLUSTER_LEASE_MAX];
} cluster_msg_lease;

/* Results are read one by one; texts and payloads point into the frame. */
typedef struct cluster_msg_result {
    cluster_entry entry;
    md_status status;
    char text[CLUSTER_TEXT_MAX + 1];
    const uint8_t *payload;
    size_t size;
} cluster_msg_result;

typedef struct cluster_msg_end {
    cluster_end how;
    bool peer_lost; /* the coordinator knows of a rank that is gone */
    char text[CLUSTER_TEXT_MAX + 1];
} cluster_msg_end;

/* Packers fill w completely except comm_frame_end. */
void cluster__put_beat(comm_writer *w, uint32_t run, const cluster_msg_beat *m);
void cluster__put_lease(comm_writer *w, uint32_t run, uint32_t lease, const cluster_entry *e,
                        int n);
void cluster__put_end(comm_writer *w, uint32_t run, cluster_end how, bool peer_lost,
                      const char *text);
void cluster__put_bye(comm_writer *w, uint32_t run);
/* n results follow, each by cluster__put_result. */
void cluster__put_results(comm_writer *w, uint32_t run, int n);
void cluster__put_result(comm_writer *w, const cluster_msg_result *m);

/* Readers take a frame from comm_frame_open; MD_COMM for anything that does not fit. */
MD_MUST md_status cluster__get_beat(comm_frame *f, cluster_msg_beat *m);
MD_MUST md_status cluster__get_lease(comm_frame *f, cluster_msg_lease *m);
MD_MUST md_status cluster__get_end(comm_frame *f, cluster_msg_end *m);
MD_MUST md_status cluster__get_bye(comm_frame *f);
MD_MUST md_status cluster__get_results(comm_frame *f, int *n);
MD_MUST md_status cluster__get_result(comm_frame *f, cluster_msg_result *m);

#ifdef __cplusplus
}
#endif
#endif
