/* Packing and checked unpacking of the messages of leased work. */
#include "cluster/messages.h"

static int n_statuses(void)
{
    int n = 0;
#define X(name, code, text) n++;
    MD_STATUS_MAP(X)
#undef X
    return n;
}

static md_status expect(const comm_frame *f, cluster_kind kind)
{
    if (f->type != kind)
        MD_FAIL(MD_COMM, "message of type %u where %u was expected", f->type, (unsigned)kind);
    return MD_OK;
}

static void put_entry(comm_writer *w, const cluster_entry *e)
{
    comm_put_i64(w, e->index);
    comm_put_i64(w, e->item.id);
    comm_put_u32(w, e->item.attempt);
}

static cluster_entry get_entry(comm_frame *f)
{
    cluster_entry e;
    e.index = comm_get_i64(f);
    e.item.id = comm_get_i64(f);
    e.item.attempt = comm_get_u32(f);
    return e;
}

void cluster__put_beat(comm_writer *w, uint32_t run, const cluster_msg_beat *m)
{
    comm_frame_begin(w, CLUSTER_MSG_BEAT, run);
    comm_put_u8(w, m->wants_lease);
    comm_put_u32(w, m->last_lease);
    comm_put_u8(w, (uint8_t)m->stop);
}

md_status cluster__get_beat(comm_frame *f, cluster_msg_beat *m)
{
    MD_TRY(expect(f, CLUSTER_MSG_BEAT));
    m->wants_lease = comm_get_u8(f) != 0;
    m->last_lease = comm_get_u32(f);
    unsigned stop = comm_get_u8(f);
    if (stop > CLUSTER_STOP_NOW)
        MD_FAIL(MD_COMM, "heartbeat with stop request %u", stop);
    m->stop = (cluster_stop)stop;
    return comm_frame_done(f);
}

void cluster__put_lease(comm_writer *w, uint32_t run, uint32_t lease, const cluster_entry *e, int n)
{
    comm_frame_begin(w, CLUSTER_MSG_LEASE, run);
    comm_put_u32(w, lease);
    comm_put_u32(w, (uint32_t)n);
    for (int i = 0; i < n; i++)
        put_entry(w, &e[i]);
}

md_status cluster__get_lease(comm_frame *f, cluster_msg_lease *m)
{
    MD_TRY(expect(f, CLUSTER_MSG_LEASE));
    m->lease = comm_get_u32(f);
    uint32_t n = comm_get_u32(f);
    if (n < 1 || n > CLUSTER_LEASE_MAX)
        MD_FAIL(MD_COMM, "lease of %u items, 1 to %d are allowed", n, CLUSTER_LEASE_MAX);
    m->n = (int)n;
    for (int i = 0; i < m->n; i++)
        m->entry[i] = get_entry(f);
    return comm_frame_done(f);
}

void cluster__put_end(comm_writer *w, uint32_t run, cluster_end how, bool peer_lost,
                      const char *text)
{
    comm_frame_begin(w, CLUSTER_MSG_END, run);
    comm_put_u8(w, (uint8_t)how);
    comm_put_u8(w, peer_lost);
    comm_put_text(w, text, CLUSTER_TEXT_MAX);
}

md_status cluster__get_end(comm_frame *f, cluster_msg_end *m)
{
    MD_TRY(expect(f, CLUSTER_MSG_END));
    unsigned how = comm_get_u8(f);
    if (how > CLUSTER_END_FAILED)
        MD_FAIL(MD_COMM, "end of run of kind %u", how);
    m->how = (cluster_end)how;
    m->peer_lost = comm_get_u8(f) != 0;
    comm_get_text(f, m->text, sizeof m->text);
    return comm_frame_done(f);
}

void cluster__put_bye(comm_writer *w, uint32_t run)
{
    comm_frame_begin(w, CLUSTER_MSG_BYE, run);
}

md_status cluster__get_bye(comm_frame *f)
{
    MD_TRY(expect(f, CLUSTER_MSG_BYE));
    return comm_frame_done(f);
}

void cluster__put_results(comm_writer *w, uint32_t run, int n)
{
    comm_frame_begin(w, CLUSTER_MSG_RESULT, run);
    comm_put_u32(w, (uint32_t)n);
}

void cluster__put_result(comm_writer *w, const cluster_msg_result *m)
{
    put_entry(w, &m->entry);
    comm_put_u8(w, (uint8_t)m->status);
    comm_put_text(w, m->text, CLUSTER_TEXT_MAX);
    comm_put_bytes(w, m->payload, m->size);
}

md_status cluster__get_results(comm_frame *f, int *n)
{
    MD_TRY(expect(f, CLUSTER_MSG_RESULT));
    uint32_t count = comm_get_u32(f);
    if (count < 1 || count > CLUSTER_LEASE_MAX)
        MD_FAIL(MD_COMM, "%u results in a message, 1 to %d are allowed", count, CLUSTER_LEASE_MAX);
    *n = (int)count;
    return MD_OK;
}

md_status cluster__get_result(comm_frame *f, cluster_msg_result *m)
{
    m->entry = get_entry(f);
    int status = comm_get_u8(f);
    if (status >= n_statuses())
        MD_FAIL(MD_COMM, "result with status %d", status);
    m->status = (md_status)status;
    comm_get_text(f, m->text, sizeof m->text);
    m->payload = comm_get_bytes(f, CLUSTER_PAYLOAD_MAX, &m->size);
    if (f->bad)
        MD_FAIL(MD_COMM, "result message: a field is missing, cut or too long");
    return MD_OK;
}
