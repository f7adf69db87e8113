/* Start and end of MPI, the world and the workers' group, and the flags about ranks gone. */
#include "comm/comm_internal.h"
#include "comm/launch.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    HOST_SHOWN = 64,
    TAG_GROUPS = 32767 / COMM_TAGS /* MPI promises tags up to 32767 */
};

static struct {
    MPI_Comm mpi; /* what all groups share */
    int rank, size;
    int groups; /* made so far */
    bool started, ours;
    bool lost_here, lost_elsewhere, broken, shrunk; /* together: comm_lost_peer */
    comm *world, *workers;
    comm *outer, *outer_workers; /* while in a group */
    int node_index, node_workers;
    char host[MPI_MAX_PROCESSOR_NAME];
    char (*hosts)[HOST_SHOWN]; /* [ranks of MPI_COMM_WORLD] */
    char session[64];          /* folder made for a lone process; "" if none */
} state;

md_status comm__mpi_fail(int error, const char *call, const char *file, int line)
{
    char text[MPI_MAX_ERROR_STRING] = "unknown error";
    int n = 0;
    if (MPI_Error_string(error, text, &n) != MPI_SUCCESS)
        (void)snprintf(text, sizeof text, "error %d", error);
    return md_fail(MD_COMM, file, line, "%.60s: %s", call, text);
}

static void destroy(comm *c)
{
    if (!c)
        return;
    while (c->outgoing) {
        comm_outgoing *o = c->outgoing;
        c->outgoing = o->next;
        if (o->request == MPI_REQUEST_NULL)
            free(o); /* else MPI may still read it: left to the end of the process */
    }
    free(c->at);
    free(c->index);
    free(c->lost);
    free(c->pending);
    free(c->heard);
    free(c->received);
    free(c);
}

/* The ranks at[n] of state.mpi, in this order; this process is one of them. Tags: never used
   before, or so long ago that nothing of it can be under way. */
static md_status create(const int *at, int n, comm **out)
{
    comm *c = calloc(1, sizeof *c);
    if (!c)
        MD_FAIL(MD_NOMEM, "a group of %d ranks", n);
    c->mpi = state.mpi;
    c->size = n;
    c->at = malloc((size_t)n * sizeof *c->at);
    c->index = malloc((size_t)state.size * sizeof *c->index);
    c->lost = calloc((size_t)n, sizeof *c->lost);
    c->pending = calloc((size_t)n, sizeof *c->pending);
    c->heard = calloc((size_t)n, sizeof *c->heard);
    if (!c->at || !c->index || !c->lost || !c->pending || !c->heard) {
        destroy(c);
        MD_FAIL(MD_NOMEM, "a group of %d ranks", n);
    }
    for (int r = 0; r < state.size; r++)
        c->index[r] = -1;
    for (int r = 0; r < n; r++) {
        c->at[r] = at[r];
        c->index[at[r]] = r;
    }
    c->rank = c->index[state.rank];
    c->tag = COMM_TAGS * (state.groups++ % TAG_GROUPS);
    *out = c;
    return MD_OK;
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

/* Which worker of its node this one is, of how many. */
static void find_node_place(void)
{
    state.node_index = 0;
    state.node_workers = 1;
    if (!state.workers)
        return;
    state.node_workers = 0;
    for (int r = 0; r < state.workers->size; r++) {
        if (strcmp(state.hosts[state.workers->at[r]], state.hosts[state.rank]) != 0)
            continue;
        state.node_index += r < state.workers->rank;
        state.node_workers++;
    }
}

/* The world of the ranks at[n], and its workers. Local, but all come here in step. */
static md_status make_world(const int *at, int n)
{
    state.workers = NULL;
    MD_TRY(create(at, n, &state.world));
    comm *workers = NULL; /* on rank 0 too, so that the numbers of groups stay in step */
    if (n == 1)
        MD_TRY(create(at, 1, &workers));
    else
        MD_TRY(create(at + 1, n - 1, &workers));
    if (n == 1 || state.world->rank > 0)
        state.workers = workers;
    else
        destroy(workers);
    find_node_place();
    return MD_OK;
}

static md_status gather_hosts(void)
{
    char mine[HOST_SHOWN];
    (void)snprintf(mine, sizeof mine, "%.*s", HOST_SHOWN - 1, state.host);
    state.hosts = malloc((size_t)state.size * sizeof *state.hosts);
    if (!state.hosts)
        MD_FAIL(MD_NOMEM, "the names of %d ranks' hosts", state.size);
    MPI_TRY(
        MPI_Allgather(mine, HOST_SHOWN, MPI_CHAR, state.hosts, HOST_SHOWN, MPI_CHAR, state.mpi));
    return MD_OK;
}

/* Start-up and the creation of groups block without a deadline: the launcher watches them. */
md_status comm_init(int *argc, char ***argv)
{
    int already = 0, provided = MPI_THREAD_SINGLE, length = 0;
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
    MPI_TRY(MPI_Comm_dup(MPI_COMM_WORLD, &state.mpi));
    MPI_TRY(MPI_Comm_set_errhandler(state.mpi, MPI_ERRORS_RETURN));
    MPI_TRY(MPI_Comm_rank(state.mpi, &state.rank));
    MPI_TRY(MPI_Comm_size(state.mpi, &state.size));
    MD_TRY(gather_hosts());
    int *all = malloc((size_t)state.size * sizeof *all);
    if (!all)
        MD_FAIL(MD_NOMEM, "a world of %d ranks", state.size);
    for (int r = 0; r < state.size; r++)
        all[r] = r;
    md_status status = make_world(all, state.size);
    free(all);
    MD_TRY(status);
    state.started = true;
    return MD_OK;
}

/* Who gave the same number, from rank 0's list of them all. Collective(world). */
static md_status find_members(int group, int *at, int *n)
{
    comm *w = state.world;
    int *given = calloc((size_t)w->size, sizeof *given);
    md_status status =
        given ? MD_OK : md_fail(MD_NOMEM, __FILE__, __LINE__, "groups of %d ranks", w->size);
    status = comm_agree(w, status);
    if (status == MD_OK)
        status = comm_gather(w, 0, &group, sizeof group, given, 0);
    if (status == MD_OK)
        status = comm_broadcast(w, 0, given, (size_t)w->size * sizeof *given, 0);
    *n = 0;
    for (int r = 0; status == MD_OK && r < w->size; r++)
        if (given[r] == group && !w->lost[r])
            at[(*n)++] = w->at[r];
    free(given);
    return status;
}

md_status comm_enter(int group)
{
    comm *c = NULL;
    int n = 0, *at;
    if (state.outer || (group < 0) != (state.world->rank == 0))
        MD_FAIL(MD_INTERNAL, "rank %d enters group %d%s", state.world->rank, group,
                state.outer ? " from within a group" : "");
    MD_TRY(comm_agree(state.world, MD_OK));
    if (state.lost_here || state.lost_elsewhere || state.broken)
        MD_FAIL(MD_COMM, "no groups can be made: a rank is gone");
    at = malloc((size_t)state.world->size * sizeof *at);
    md_status status = at ? MD_OK : md_fail(MD_NOMEM, __FILE__, __LINE__, "a group");
    status = comm_agree(state.world, status);
    if (status == MD_OK)
        status = find_members(group, at, &n);
    if (status == MD_OK) /* on rank 0 too: the numbers of groups stay in step */
        status = create(at, n, &c);
    free(at);
    status = comm_agree(state.world, status);
    if (status != MD_OK || group < 0) {
        destroy(c);
        return status;
    }
    state.outer = state.world;
    state.outer_workers = state.workers;
    state.world = state.workers = c;
    return MD_OK;
}

void comm_leave(void)
{
    if (!state.outer)
        return;
    if (comm_flush(state.world, 10) != MD_OK)
        md_status_clear(); /* to somebody who is gone */
    destroy(state.world);
    state.world = state.outer;
    state.workers = state.outer_workers;
    state.outer = state.outer_workers = NULL;
}

comm *comm_outer(void)
{
    return state.outer;
}

md_status comm_shrink(void)
{
    static const double TELL_S = 60;
    comm *old = state.world, *old_workers = state.workers;
    int n = 0;
    if (state.outer)
        MD_FAIL(MD_INTERNAL, "the world shrinks outside of groups");
    MD_TRY(comm_broadcast(old, 0, old->lost, (size_t)old->size * sizeof *old->lost, TELL_S));
    if (old->lost[old->rank])
        MD_FAIL(MD_COMM, "the others go on without this rank, which did not answer in time");
    int *at = malloc((size_t)old->size * sizeof *at);
    if (!at)
        MD_FAIL(MD_NOMEM, "the ranks that are left");
    for (int r = 0; r < old->size; r++)
        if (!old->lost[r])
            at[n++] = old->at[r];
    md_status status = MD_OK;
    if (n < 2)
        status = md_fail(MD_COMM, __FILE__, __LINE__, "no worker is left");
    if (status == MD_OK)
        status = make_world(at, n);
    free(at);
    MD_TRY(status);
    destroy(old_workers);
    destroy(old);
    state.shrunk = true;
    state.lost_here = state.lost_elsewhere = state.broken = false;
    return MD_OK;
}

md_status comm_finalize(void)
{
    if (!state.started)
        return MD_OK;
    comm_leave();
    md_status flushed = comm_flush(state.world, 10);
    destroy(state.workers);
    destroy(state.world);
    state.workers = state.world = NULL;
    free(state.hosts);
    state.hosts = NULL;
    state.started = false;
    MPI_TRY(MPI_Comm_free(&state.mpi));
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

bool comm_leads(void)
{
    return !state.workers || comm_rank(state.workers) == 0;
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

const char *comm_who(const comm *c, int rank, char text[COMM_WHO])
{
    (void)snprintf(text, COMM_WHO, "rank %d on %s", c->at[rank], state.hosts[c->at[rank]]);
    return text;
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
    return state.lost_here || state.lost_elsewhere || state.broken || state.shrunk;
}

void comm__note_lost(void)
{
    state.broken = true;
}
