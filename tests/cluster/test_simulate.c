/* The forecast of `meddiff bench cluster`: repeatable, right where it can be reckoned by hand, and
   at 512 workers that die and differ in speed at least 95 % of the ideal. */
#include "cluster/simulate.h"
#include "test.h"
#include <math.h>
#include <string.h>

static cluster_scenario usual(int workers, int64_t per_worker)
{
    return (cluster_scenario){.workers = workers,
                              .batch = 4,
                              .items = workers * per_worker,
                              .item_s = 2,
                              .spread = 2,
                              .deaths_per_hour = 0.1,
                              .latency_s = 1e-4,
                              .poll_s = 3e-3,
                              .message_s = 1e-5,
                              .result_s = 2e-4,
                              .tick_s = 0.02,
                              .seed = 2};
}

static void a_seed_repeats_a_run(void **state)
{
    (void)state;
    cluster_scenario s = usual(40, 20);
    cluster_forecast a, b;
    must(cluster_simulate(&s, &a));
    must(cluster_simulate(&s, &b));
    ok(a.seconds == b.seconds && a.received == b.received && a.sent == b.sent &&
       a.ideal_s == b.ideal_s);
    s.seed = 3;
    must(cluster_simulate(&s, &b));
    ok(a.seconds != b.seconds);
}

/* One worker that waits for nobody: batches one after the other; rank 0's rows are the rest. */
static void one_worker_can_be_reckoned(void **state)
{
    (void)state;
    cluster_scenario s = usual(1, 400);
    s.spread = 1;
    s.deaths_per_hour = 0;
    cluster_forecast f;
    must(cluster_simulate(&s, &f));
    ok(fabs(f.ideal_s - 800) < 1e-6);
    ok(f.seconds > 0.98 * 800 && f.seconds < 1.02 * 800); /* the paces' mean */
    ok(f.counts.accepted == 400 && f.drawn == 400 && f.twice == 0);
    ok(f.received >= 100 + 100 + 700 &&
       f.received < 100 + 100 + 900); /* results, requests, beats */
    ok(f.idle_s > 0 && f.idle_s < 0.01);
}

static void redraws_are_work_too(void **state)
{
    (void)state;
    cluster_scenario s = usual(16, 50);
    s.redraw = 0.5;
    s.deaths_per_hour = 0;
    cluster_forecast f;
    must(cluster_simulate(&s, &f));
    ok(f.counts.accepted == 800 && f.counts.redraws > 600 && f.counts.redraws < 1000);
    ok(f.drawn == f.counts.accepted + f.counts.redraws + f.twice);
    ok(f.ideal_s > 90 && f.ideal_s < f.seconds);
}

/* A rank 0 that needs 10 ms for a row keeps 100 workers waiting, and the forecast says so. */
static void a_slow_rank_0_shows(void **state)
{
    (void)state;
    cluster_scenario s = usual(100, 40);
    s.deaths_per_hour = 0;
    s.result_s = 0.06;
    cluster_forecast f;
    must(cluster_simulate(&s, &f));
    print_message("rank 0 taken %.2f %%, %.2f %% of ideal, a message waits %.2f s\n",
                  100 * f.busy_s / f.seconds, 100 * f.ideal_s / f.seconds, f.longest_wait_s);
    ok(f.busy_s / f.seconds > 0.9);
    ok(f.seconds >= 4000 * 0.06 && f.ideal_s / f.seconds < 0.6);
    ok(f.longest_wait_s > 0.1);
}

static void nearly_ideal_at_512(void **state)
{
    (void)state;
    int deaths = 0;
    for (uint64_t seed = 2; seed <= 3; seed++) {
        cluster_scenario s = usual(512, 200);
        s.seed = seed;
        cluster_forecast f;
        must(cluster_simulate(&s, &f));
        deaths += f.deaths;
        print_message("seed %d: %.2f %% of ideal, %d deaths, rank 0 taken %.1f %%\n", (int)seed,
                      100 * f.ideal_s / f.seconds, f.deaths, 100 * f.busy_s / f.seconds);
        ok(f.counts.accepted == s.items);
        ok(f.ideal_s / f.seconds >= 0.95 && f.ideal_s <= f.seconds);
    }
    ok(deaths > 10);
}

/* All die: the run ends with an error, not never. */
static void nobody_left_is_said(void **state)
{
    (void)state;
    cluster_scenario s = usual(4, 100);
    s.deaths_per_hour = 600;
    cluster_forecast f;
    ok(cluster_simulate(&s, &f) == MD_COMM);
    ok(strstr(md_status_text(), "of 400 items") != NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_seed_repeats_a_run), cmocka_unit_test(one_worker_can_be_reckoned),
        cmocka_unit_test(redraws_are_work_too), cmocka_unit_test(a_slow_rank_0_shows),
        cmocka_unit_test(nearly_ideal_at_512),  cmocka_unit_test(nobody_left_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
