/* bench cluster: what a generation on many workers would do, without them: the real coordinator in
   virtual time (cluster/simulate.h), a row per number of workers. */
#include "base/clock.h"
#include "cluster/simulate.h"
#include "job.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { WORKERS_MOST = 65536 };
static const double POLL_S = 0.003; /* comm's longest pause between two looks */

static cluster_scenario scenario(const config *c, int workers)
{
    return (cluster_scenario){
        .workers = workers,
        .batch = (int)config_int(c, KEY_cluster_batch),
        .items = workers * config_int(c, KEY_cluster_items),
        .item_s = config_float(c, KEY_cluster_pair_s),
        .spread = config_float(c, KEY_cluster_spread),
        .deaths_per_hour = config_float(c, KEY_cluster_deaths),
        .redraw = config_float(c, KEY_cluster_redraw),
        .latency_s = 1e-6 * config_float(c, KEY_cluster_latency_us),
        .poll_s = POLL_S,
        .message_s = 1e-6 * config_float(c, KEY_cluster_message_us),
        .result_s = 1e-6 * config_float(c, KEY_cluster_row_us),
        .tick_s = 1e-3 * config_float(c, KEY_cluster_sync_ms),
        .own = config_float(c, KEY_cluster_own),
        .seed = (uint64_t)config_int(c, KEY_seed),
    };
}

static void print_head(const config *c)
{
    (void)printf("%lld pairs per worker in micro-batches of %lld, %g to %g s each; %g deaths per "
                 "worker and hour, %g of the pairs drawn again\n",
                 (long long)config_int(c, KEY_cluster_items),
                 (long long)config_int(c, KEY_cluster_batch), config_float(c, KEY_cluster_pair_s),
                 config_float(c, KEY_cluster_pair_s) * config_float(c, KEY_cluster_spread),
                 config_float(c, KEY_cluster_deaths), config_float(c, KEY_cluster_redraw));
    (void)printf("%7s %9s %9s %9s %8s %6s %6s %8s %8s %7s %7s %8s %8s\n", "workers", "pairs",
                 "seconds", "pairs/s", "of ideal", "deaths", "twice", "in/s", "out/s", "rank 0",
                 "own", "wait ms", "idle ms");
}

static void print_row(const cluster_scenario *s, const cluster_forecast *f)
{
    (void)printf(
        "%7d %9lld %9.1f %9.2f %7.1f%% %6d %6lld %8.0f %8.0f %6.1f%% %6.2f%% %8.1f %8.1f\n",
        s->workers, (long long)s->items, f->seconds, (double)s->items / f->seconds,
        100 * f->ideal_s / f->seconds, f->deaths, (long long)f->twice, f->received / f->seconds,
        f->sent / f->seconds, 100 * f->busy_s / f->seconds, 100 * f->own_s / f->seconds,
        1e3 * f->longest_wait_s, 1e3 * f->idle_s);
    (void)fflush(stdout);
}

static void print_legend(void)
{
    (void)printf(
        "of ideal: as if no worker had waited and nothing had been lost. twice: pairs drawn "
        "for nothing. in/s, out/s: messages at rank 0.\nrank 0: share of its time that is "
        "taken; own: by the coordinator's code. wait: the longest of a message at rank 0. "
        "idle: of a worker\nbetween two micro-batches, the mean.\n");
}

/* Local. */
md_status job_bench_cluster(job *j)
{
    const char *at = config_string(j->cfg, KEY_cluster_workers);
    print_head(j->cfg);
    while (*at) {
        char *end;
        errno = 0;
        long n = strtol(at, &end, 10);
        if (end == at || errno || n < 1 || n > WORKERS_MOST || (*end && *end != ','))
            return config_fail(j->cfg, KEY_cluster_workers,
                               "\"%s\" is no list of numbers from 1 to %d", at, WORKERS_MOST);
        at = *end ? end + 1 : end;
        cluster_scenario s = scenario(j->cfg, (int)n);
        cluster_forecast f;
        MD_TRY(cluster_simulate(&s, &f));
        print_row(&s, &f);
    }
    print_legend();
    return MD_OK;
}
