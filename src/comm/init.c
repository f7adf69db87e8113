/* Start and end of MPI, the world and the workers' group, and the flags about ranks gone. */
#include "comm/comm_internal.h"
#include "comm/launch.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
    bool started, ours;
    bool lost_here, lost_elsewhere, broken; /* together: comm_lost_peer */
    comm *world, *workers;
    comm *outer, *outer_workers; /* while in a group */
    int node_index, node_workers;
    char host[MPI_MAX_PROCESSOR_NAME];
    char session[64]; /* folder made for a lone process; "" if none */
} state;

md_status comm__mpi_fail(int error, const char *call, const char *file, int line)
{
    char text[MPI_MAX_ERROR_STRING] = "unknown error";
    int n = 0;
    if (MPI_Error_string(error, text, &n) != MPI_SUCCESS)
        (void)snprintf(text, sizeof text, "error %d", error);
    return md_fail(MD_COMM, file, line, "%.60s: %s", call, text);
}

/* Takes over `mpi`, also on failure. */
static md_status wrap(MPI_Comm mpi, comm **out)
{
    md_status status = MD_OK;
    comm *c = calloc(1, sizeof *c);
    if (!c) {
        (void)MPI_Comm_free(&mpi);
        MD_FAIL(MD_NOMEM, "a communicator");
    }
    c->mpi = mpi;
    if (MPI_Comm_set_errhandler(mpi, MPI_ERRORS_RETURN) != MPI_SUCCESS ||
        MPI_Comm_rank(mpi, &c->rank) != MPI_SUCCESS ||
        MPI_Comm_size(mpi, &c->size) != MPI_SUCCESS) {
        status = md_fail(MD_COMM, __FILE__, __LINE__, "a new communicator does not answer");
        goto fail;
    }
    c->lost = calloc((size_t)c->size, sizeof *c->lost);
    c->pending = calloc((size_t)c->size, sizeof *c->pending);
    if (c->lost && c->pending) {
        *out = c;
        return MD_OK;
    }
    status = md_fail(MD_NOMEM, __FILE__, __LINE__, "a communicator of %d ranks", c->size);
fail:
    free(c->lost);
    free(c->pending);
    (void)MPI_Comm_free(&c->mpi);
    free(c);
    return status;
}

static void unwrap(comm *c)
{
    if (!c)
        return;
    while (c->outgoing) {
        comm_outgoing *o = c->outgoing;
        c->outgoing = o->next;
        if (o->request == MPI_REQUEST_NULL)
            free(o); /* else MPI may still read it: left to the end of the process */
    }
    if (!comm_lost_peer()) /* Comm_free is collective in spirit: leave it when somebody is gone */
        (void)MPI_Comm_free(&c->mpi);
    free(c->lost);
    free(c->pending);
    free(c->received);
    free(c);
}

/* Without a launcher Open MPI 4 forks a daemon for a lone process and needs an ssh in PATH for it;
   the first variable prevents both. Its lone processes of one user all share one session folder,
   which the first to end removes under the others (MPI_Init and MPI_File_open fail then): each gets
   its own. */
static void prepare_alone(void)
{
    comm_launch launched = comm_launched();
    if ((launched.by && launched.met) || getenv("PMIX_NAMESPACE"))
        return;
    (void)setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
    char path[sizeof state.session] = "/tmp/meddiff-XXXXXX"; /* short: it holds sockets */
    if (getenv("OMPI_MCA_orte_tmpdir_base") || !mkdtemp(path))
        return;
    memcpy(state.session, path, sizeof path);
    (void)setenv("OMPI_MCA_orte_tmpdir_base", path, 0);
}

/* Which worker of its node this one is. */
static md_status find_node_place(void)
{
    MPI_Comm node;
    state.node_index = 0;
    state.node_workers = 1;
    if (!state.workers)
        return MD_OK;
    MPI_TRY(MPI_Comm_split_type(state.workers->mpi, MPI_COMM_TYPE_SHARED, state.workers->rank,
                                MPI_INFO_NULL, &node));
    int rank_error = MPI_Comm_rank(node, &state.node_index);
    int size_error = MPI_Comm_size(node, &state.node_workers);
    MPI_TRY(MPI_Comm_free(&node));
    MPI_TRY(rank_error);
    MPI_TRY(size_error);
    return MD_OK;
}

/* Start-up and the creation of groups block without a deadline: the launcher watches them. */
md_status comm_init(int *argc, char ***argv)
{
    int already = 0, provided = MPI_THREAD_SINGLE, length = 0;
    MPI_Comm mpi;
    if (state.started)
        MD_FAIL(MD_INTERNAL, "comm_init called twice");
    prepare_alone();
    MPI_TRY(MPI_Initialized(&already));
    if (already)
        MPI_TRY(MPI_Query_thread(&provided));
    else
        MPI_TRY(MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &provided));
    state.ours = !already;
    MPI_TRY(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
    MPI_TRY(MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN));
    if (provided < MPI_THREAD_FUNNELED)
        MD_FAIL(MD_COMM, "the MPI library gives thread level %d, FUNNELED (%d) is needed", provided,
                MPI_THREAD_FUNNELED);
    MPI_TRY(MPI_Get_processor_name(state.host, &length));

    MPI_TRY(MPI_Comm_dup(MPI_COMM_WORLD, &mpi));
    MD_TRY(wrap(mpi, &state.world));
    bool worker = state.world->size == 1 || state.world->rank > 0;
    MPI_TRY(MPI_Comm_split(state.world->mpi, worker ? 0 : MPI_UNDEFINED, state.world->rank, &mpi));
    if (worker)
        MD_TRY(wrap(mpi, &state.workers));
    MD_TRY(find_node_place());
    state.started = true;
    return MD_OK;
}

md_status comm_enter(int group)
{
    MPI_Comm mpi = MPI_COMM_NULL;
    comm *c = NULL;
    if (state.outer || (group < 0) != (state.world->rank == 0))
        MD_FAIL(MD_INTERNAL, "rank %d enters group %d%s", state.world->rank, group,
                state.outer ? " from within a group" : "");
    /* All are here, and the split is reached by all: it has no deadline. */
    MD_TRY(comm_agree(state.world, MD_OK));
    if (comm_lost_peer())
        MD_FAIL(MD_COMM, "no groups can be made: a rank is gone");
    md_status status = MD_OK;
    int error = MPI_Comm_split(state.world->mpi, group < 0 ? MPI_UNDEFINED : group,
                               state.world->rank, &mpi);
    if (error != MPI_SUCCESS)
        status = comm__mpi_fail(error, "MPI_Comm_split", __FILE__, __LINE__);
    else if (group >= 0)
        status = wrap(mpi, &c);
    status = comm_agree(state.world, status);
    if (status != MD_OK) {
        unwrap(c);
        return status;
    }
    if (c) {
        state.outer = state.world;
        state.outer_workers = state.workers;
        state.world = state.workers = c;
    }
    return MD_OK;
}

void comm_leave(void)
{
    if (!state.outer)
        return;
    if (comm_flush(state.world, 10) != MD_OK)
        md_status_clear(); /* to somebody who is gone */
    unwrap(state.world);
    state.world = state.outer;
    state.workers = state.outer_workers;
    state.outer = state.outer_workers = NULL;
}

comm *comm_outer(void)
{
    return state.outer;
}

md_status comm_finalize(void)
{
    if (!state.started)
        return MD_OK;
    comm_leave();
    md_status flushed = comm_flush(state.world, 10);
    unwrap(state.workers);
    unwrap(state.world);
    state.workers = state.world = NULL;
    state.started = false;
    if (state.ours)
        MPI_TRY(MPI_Finalize());
    if (state.session[0])
        (void)rmdir(state.session);
    return flushed;
}

void comm_abort(int code)
{
    int initialized = 0, finalized = 0;
    if (MPI_Initialized(&initialized) == MPI_SUCCESS && initialized &&
        MPI_Finalized(&finalized) == MPI_SUCCESS && !finalized)
        (void)MPI_Abort(MPI_COMM_WORLD, code);
}

comm *comm_world(void)
{
    return state.world;
}

comm *comm_workers(void)
{
    return state.workers;
}

int comm_rank(const comm *c)
{
    return c->rank;
}

int comm_size(const comm *c)
{
    return c->size;
}

int comm_node_index(void)
{
    return state.node_index;
}

int comm_node_workers(void)
{
    return state.node_workers;
}

const char *comm_host(void)
{
    return state.host;
}

void comm_mark_lost(comm *c, int rank, bool lost)
{
    if (rank < 0)
        state.lost_elsewhere = lost;
    if (rank < 0 || rank >= c->size)
        return;
    c->lost[rank] = lost;
    state.lost_here = false;
    for (int i = 0; i < c->size; i++)
        state.lost_here = state.lost_here || c->lost[i];
}

bool comm_is_lost(const comm *c, int rank)
{
    return rank >= 0 && rank < c->size && c->lost[rank];
}

bool comm_lost_peer(void)
{
    return state.lost_here || state.lost_elsewhere || state.broken;
}

void comm__note_lost(void)
{
    state.broken = true;
}
