/* Signal handlers that set one flag. */
#include "cluster/signals.h"
#include "cluster/cluster_internal.h"
#include "comm/comm.h"
#include <errno.h>
#include <signal.h>
#include <string.h>

static volatile sig_atomic_t requested = CLUSTER_GO; /* by a signal or another rank */
static volatile sig_atomic_t signalled = CLUSTER_GO; /* by a signal to this process */

static void on_signal(int number)
{
    int how = number == SIGUSR1 ? CLUSTER_STOP_ORDERLY : CLUSTER_STOP_NOW;
    if (how > signalled)
        signalled = how;
    if (how > requested)
        requested = how;
}

static bool stop_now(void)
{
    return requested == CLUSTER_STOP_NOW;
}

static md_status install(int number, int flags)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = flags;
    if (sigaction(number, &action, NULL) != 0)
        MD_FAIL(MD_INTERNAL, "signal %d: %s", number, strerror(errno));
    return MD_OK;
}

md_status cluster_signals_install(void)
{
    /* SA_RESETHAND: the second one meets the default action, for somebody who does not want to
     * wait. */
    MD_TRY(install(SIGUSR1, SA_RESTART));
    MD_TRY(install(SIGTERM, SA_RESTART | (int)SA_RESETHAND));
    MD_TRY(install(SIGINT, SA_RESTART | (int)SA_RESETHAND));
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        MD_FAIL(MD_INTERNAL, "SIGPIPE: %s", strerror(errno));
    comm_set_interrupt(stop_now);
    return MD_OK;
}

cluster_stop cluster_stop_requested(void)
{
    cluster__group_listen();
    return (cluster_stop)requested;
}

void cluster_stop_request(cluster_stop how)
{
    if ((int)how > requested)
        requested = (int)how;
}

void cluster_begin_again(void)
{
    requested = signalled;
    cluster__runs = 0;
}
