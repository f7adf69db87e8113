#include "base/watch.h"

#include "base/clock.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

enum { GRACE_S = 30 };
static const double LOOK_MOST_S = 1; /* between two looks */

static atomic_ulong steps; /* a counter, so that a step need not ask for the time */
static _Atomic(const char *) current = "its start";
static double limit;
static void (*on_hang)(const char *doing, double seconds);

void md_watch(const char *doing)
{
    atomic_store_explicit(&current, doing, memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&steps, 1, memory_order_relaxed);
}

static void *look(void *unused)
{
    unsigned long seen = atomic_load_explicit(&steps, memory_order_relaxed);
    double since = md_now(), last = since,
           pause = limit / 8 < LOOK_MOST_S ? limit / 8 : LOOK_MOST_S;
    for (;;) {
        md_sleep(pause);
        unsigned long now_seen = atomic_load_explicit(&steps, memory_order_relaxed);
        double now = md_now();
        /* a process that was stopped (SIGSTOP, a suspended machine) did not hang meanwhile */
        if (now_seen != seen || now - last > pause + limit / 2)
            since = now;
        seen = now_seen;
        last = now;
        if (now - since <= limit)
            continue;
        (void)signal(SIGALRM, SIG_DFL);
        (void)alarm(GRACE_S); /* the log's lock may be held by what hangs */
        on_hang(atomic_load_explicit(&current, memory_order_relaxed), now - since);
        return unused;
    }
}

md_status md_watch_start(double limit_s, void (*hangs)(const char *doing, double seconds))
{
    pthread_t thread;
    sigset_t all, before;
    limit = limit_s;
    on_hang = hangs;
    (void)sigfillset(&all); /* signals are the main thread's */
    (void)sigdelset(&all, SIGALRM);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&thread, NULL, look, NULL);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        MD_FAIL(MD_NOMEM, "the watchdog's thread did not start (error %d)", rc);
    (void)pthread_detach(thread);
    return MD_OK;
}
