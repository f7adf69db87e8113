/* Leased work in simulation: whatever workers do, each item ends once. */
#include "sim.h"
#include "test.h"
#include <stdlib.h>
#include <string.h>

static sim *simple(uint64_t seed, int n_workers, int n_items)
{
    sim *s = calloc(1, sizeof *s);
    s->seed = seed;
    s->n_workers = n_workers;
    s->n_items = n_items;
    s->lease_items = 4;
    s->batch = 2;
    s->lease_s = 100;
    s->silent_s = 10;
    s->latency_s = 0.01;
    s->max_attempt = SIM_ATTEMPTS_MAX - 1;
    for (int k = 0; k < n_workers; k++)
        s->worker[k] = (sim_worker){.item_s = 1, .beats = true};
    return s;
}

/* Every item ended once, every (id, attempt) was judged at most once, and the counts say so. */
static void check_once(const sim *s)
{
    int64_t accepted = 0, failed = 0;
    for (int i = 0; i < s->n_items; i++) {
        if (s->ends[i] != 1)
            fail_msg("seed %llu: item %d ended %d times", (unsigned long long)s->seed, i,
                     s->ends[i]);
        for (int a = 0; a < SIM_ATTEMPTS_MAX; a++)
            ok(s->results[i][a] <= 1);
        accepted += s->accepted_by[i] > 0;
        failed += s->failed[i];
    }
    ok(s->counts.accepted == accepted && s->counts.failed == failed);
    ok(s->counts.accepted + s->counts.dropped + s->counts.failed == s->n_items);
}

static void check_returned(const sim *s, md_status status)
{
    for (int r = 0; r <= s->n_workers; r++) {
        bool dies = r > 0 && s->worker[r - 1].death > 0;
        if (dies && !s->returned[r])
            continue;
        if (!s->returned[r] || s->status[r] != status)
            fail_msg("seed %llu: rank %d %s: %s (%s)", (unsigned long long)s->seed, r,
                     s->returned[r] ? "returned" : "hangs", md_status_name(s->status[r]),
                     s->text[r]);
    }
}

static void all_items_end(void **state)
{
    (void)state;
    for (int n = 0; n <= 9; n++)
        for (int workers = 1; workers <= 4; workers++) {
            sim *s = simple(1, workers, n);
            sim_run(s, 1000);
            check_returned(s, MD_OK);
            check_once(s);
            ok(s->counts.accepted == n && s->counts.failures == 0 && s->counts.duplicates == 0);
            free(s);
        }
}

/* Pull, not a static split: a worker four times as fast does about four times as much, and the
   whole takes little longer than the sum of speeds allows. */
static void slow_workers_take_fewer(void **state)
{
    (void)state;
    sim *s = simple(2, 2, 200);
    s->worker[1].item_s = 4;
    sim_run(s, 10000);
    check_returned(s, MD_OK);
    check_once(s);
    ok(s->done_by[1] >= 150 && s->done_by[1] <= 170);
    ok(s->end_s < 200 / (1 + 0.25) + 4 * 4 + 5);
    free(s);
}

static void redraws_come_back(void **state)
{
    (void)state;
    sim *s = simple(3, 3, 100);
    s->redraw_percent = 60;
    s->max_attempt = 4;
    sim_run(s, 10000);
    check_returned(s, MD_OK);
    check_once(s);
    int64_t redraws = 0;
    for (int i = 0; i < s->n_items; i++) /* each attempt from the first on, until the last */
        for (uint32_t a = (uint32_t)(i % 3) + 1; a < SIM_ATTEMPTS_MAX && s->results[i][a]; a++) {
            ok(s->results[i][a - 1] == 1 && a <= 4);
            redraws++;
        }
    ok(redraws > 20 && s->counts.redraws == redraws && s->counts.dropped > 0);
    free(s);
}

/* Two workers that fail everything cost tries, but no item. */
static void bad_workers_lose_nothing(void **state)
{
    (void)state;
    sim *s = simple(4, 4, 120);
    s->worker[0].bad = s->worker[2].bad = true;
    s->worker[0].item_s = s->worker[2].item_s = 0.05;
    s->poison[17] = true;
    sim_run(s, 10000);
    check_returned(s, MD_OK);
    check_once(s);
    for (int i = 0; i < s->n_items; i++)
        ok(s->failed[i] == (i == 17));
    ok(strstr(s->failed_text[17], "item 173 on rank") != NULL);
    ok(s->counts.failures >= 3);
    ok(s->counts.failures < 120); /* they are slowed down while others succeed */
    free(s);
}

/* A lone worker that fails is asked again; then the reason is recorded and the run goes on. */
static void three_failures_are_recorded(void **state)
{
    (void)state;
    sim *s = simple(5, 1, 10);
    s->poison[0] = s->poison[9] = true;
    sim_run(s, 1000);
    check_returned(s, MD_OK);
    check_once(s);
    ok(s->counts.failed == 2 && s->counts.accepted == 8 && s->counts.failures == 6);
    free(s);
}

/* An item that takes its micro-batch down with it costs its neighbours tries, not their place. */
static void neighbours_survive(void **state)
{
    (void)state;
    for (int workers = 1; workers <= 4; workers++) {
        sim *s = simple(13, workers, 60);
        s->batch = 4;
        s->lease_items = 8;
        s->poison_spreads = true;
        s->poison[6] = s->poison[7] = s->poison[21] = s->poison[59] = true;
        sim_run(s, 1000);
        check_returned(s, MD_OK);
        check_once(s);
        for (int i = 0; i < s->n_items; i++)
            ok(s->failed[i] == s->poison[i]);
        ok(s->counts.failures <= 4 * 4 + 4 * 2); /* after the first time everybody goes alone */
        free(s);
    }
}

/* Two fast workers that fail everything, before the only good one has finished anything: each item
   has a try left for it. */
static void a_try_is_left_for_the_good_one(void **state)
{
    (void)state;
    sim *s = simple(14, 3, 30);
    s->lease_items = 1;
    s->batch = 1;
    s->worker[0].bad = s->worker[1].bad = true;
    s->worker[0].item_s = s->worker[1].item_s = 0.01;
    s->worker[2].item_s = 5;
    sim_run(s, 10000);
    check_returned(s, MD_OK);
    check_once(s);
    ok(s->counts.accepted == 30 && s->counts.failures <= 60);
    free(s);
}

/* Failures are counted per attempt: a redrawn item starts anew. */
static void each_attempt_has_its_tries(void **state)
{
    (void)state;
    sim *s = simple(15, 2, 40);
    s->flaky_tries = 2;
    s->redraw_percent = 60;
    s->max_attempt = 6;
    sim_run(s, 10000);
    check_returned(s, MD_OK);
    check_once(s);
    ok(s->counts.failed == 0 && s->counts.redraws > 20);
    ok(s->counts.failures == 2 * (s->counts.redraws + 40));
    free(s);
}

static void the_dead_are_replaced(void **state)
{
    (void)state;
    sim *s = simple(6, 3, 60);
    s->worker[0].death = 5.5;
    s->worker[1].death = 20.2;
    sim_run(s, 10000);
    check_returned(s, MD_OK);
    check_once(s);
    ok(s->counts.accepted == 60 && s->counts.lost_workers == 2 && s->counts.released > 0);
    free(s);
}

/* An item that kills whoever touches it takes three workers, not all. */
static void killers_are_stopped(void **state)
{
    (void)state;
    sim *s = simple(7, 5, 40);
    s->batch = 1;
    s->killer[11] = true;
    for (int k = 0; k < 5; k++)
        s->worker[k].death = 1e9; /* may die */
    sim_run(s, 10000);
    check_once(s);
    ok(s->returned[0] && s->status[0] == MD_OK);
    ok(s->failed[11] && s->counts.failed == 1 && s->counts.lost_workers == 3);
    ok(strstr(s->failed_text[11], "was silent for") != NULL);
    free(s);
}

/* Nobody waits at the end for what a dead worker had, nor for one that hangs without a word. */
static void the_last_items_are_shared(void **state)
{
    (void)state;
    for (int hangs = 0; hangs < 2; hangs++) {
        sim *s = simple(21, 4, 16);
        s->lease_items = s->batch = 1;
        s->silent_s = 1000;
        s->worker[0].death = hangs ? 0 : 3.5;
        s->worker[0].stall_at = hangs ? 3 : 0;
        s->worker[0].stall_s = 500;
        sim_run(s, 10000);
        check_once(s);
        ok(s->counts.accepted == 16 && s->counts.released == 1);
        ok(s->last_result_s < 12);
        free(s);
    }
}

/* ... but an item whose last try somebody has goes to no other before its lease is over. */
static void the_last_try_is_waited_for(void **state)
{
    (void)state;
    sim *s = simple(22, 4, 8);
    s->lease_items = s->batch = 1;
    s->max_failures = 1;
    s->silent_s = 1000;
    s->worker[0].stall_at = 1;
    s->worker[0].stall_s = 500;
    sim_run(s, 10000);
    check_once(s);
    ok(s->counts.accepted == 8 && s->counts.failures == 0);
    ok(s->last_result_s > 100 && s->last_result_s < 110); /* lease_s */
    free(s);
}

static void nobody_left_is_an_error(void **state)
{
    (void)state;
    sim *s = simple(8, 2, 50);
    s->worker[0].death = 4;
    s->worker[1].death = 7;
    sim_run(s, 10000);
    ok(s->returned[0] && s->status[0] == MD_COMM);
    ok(strstr(s->text[0], "of 50 items are done") != NULL);
    ok(s->end_s < 60);
    free(s);
}

/* A worker silent for long, then back: its lease was given again, its late results are ignored or
   taken, never both. */
static void the_late_are_one_result(void **state)
{
    (void)state;
    sim *s = simple(9, 2, 60);
    s->worker[0].stall_at = 3;
    s->worker[0].stall_s = 25;
    sim_run(s, 10000);
    check_returned(s, MD_OK);
    check_once(s);
    ok(s->counts.lost_workers == 0 && s->counts.duplicates > 0 && s->counts.accepted == 60);
    free(s);
}

/* Alive but slow beyond the lease's deadline: somebody else does it, nobody counts as failed. */
static void overdue_leases_are_shared(void **state)
{
    (void)state;
    sim *s = simple(10, 2, 20);
    s->lease_s = 30;
    s->silent_s = 60;
    s->worker[0].item_s = 50;
    sim_run(s, 10000);
    check_returned(s, MD_OK);
    check_once(s);
    ok(s->counts.released > 0 && s->counts.failures == 0 && s->counts.failed == 0);
    ok(s->end_s < 110);
    free(s);
}

static void a_signal_stops_everybody(void **state)
{
    (void)state;
    for (int rank = 0; rank <= 3; rank++)
        for (int how = CLUSTER_STOP_ORDERLY; how <= CLUSTER_STOP_NOW; how++) {
            sim *s = simple(11, 3, 100);
            s->signal_at = 7.3;
            s->signal_rank = rank;
            s->signal = (cluster_stop)how;
            sim_run(s, 1000);
            check_returned(s, MD_STOPPED);
            ok(s->end_s < 7.3 + 2 * 1 + 2); /* a micro-batch and a heartbeat */
            /* Orderly: what was being drawn still counts. */
            ok(s->n_results == s->counts.accepted && s->counts.accepted < 60);
            if (how == CLUSTER_STOP_ORDERLY)
                ok(s->counts.accepted >= 3 * 6);
            free(s);
        }
}

static void a_failing_store_ends_the_run(void **state)
{
    (void)state;
    sim *s = simple(12, 3, 100);
    s->result_fails_at = 20;
    sim_run(s, 1000);
    ok(s->returned[0] && s->status[0] == MD_IO && strstr(s->text[0], "disk full"));
    for (int r = 1; r <= 3; r++) {
        ok(s->returned[r] && s->status[r] == MD_PEER);
        ok(strstr(s->text[r], "disk full") != NULL);
    }
    free(s);
}

static double unit(const sim *s, uint64_t a, uint64_t b)
{
    return sim_hash(s->seed + 1000, a, b);
}

/* Everything at once, at random. One worker stays healthy. */
static void random_histories(void **state)
{
    (void)state;
    int64_t redraws = 0, duplicates = 0, released = 0, lost = 0, failed = 0;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        sim *s = simple(seed, 1, 1);
        s->n_workers = 1 + (int)(unit(s, 0, 0) * 8);
        s->n_items = 1 + (int)(unit(s, 0, 1) * 80);
        s->batch = 1 + (int)(unit(s, 0, 2) * 4);
        s->lease_items = s->batch * (1 + (int)(unit(s, 0, 3) * 3));
        s->redraw_percent = (int)(unit(s, 0, 4) * 50);
        s->max_attempt = 2 + (uint32_t)(unit(s, 0, 5) * 6);
        s->duplicate = unit(s, 0, 6) * 0.3;
        s->lease_s = 10 + unit(s, 0, 7) * 40;
        s->latency_s = unit(s, 0, 8) * 0.5;
        for (int k = 0; k < s->n_workers; k++) {
            sim_worker *w = &s->worker[k];
            uint64_t id = (uint64_t)k + 1;
            w->item_s = 0.1 + 4 * unit(s, id, 0);
            w->beats = unit(s, id, 1) < 0.7;
            if (k == 0)
                continue;
            if (unit(s, id, 2) < 0.3)
                w->death = 1 + 60 * unit(s, id, 3);
            if (unit(s, id, 4) < 0.3)
                w->stall_at = 1 + 30 * unit(s, id, 5);
            w->stall_s = 60 * unit(s, id, 6);
            w->bad = unit(s, id, 7) < 0.15;
        }
        for (int i = 0; i < s->n_items; i++)
            s->poison[i] = unit(s, 100, (uint64_t)i) < 0.05;
        sim_run(s, 20000);
        check_returned(s, MD_OK);
        check_once(s);
        for (int i = 0; i < s->n_items; i++)
            if (s->poison[i])
                ok(s->failed[i]);
        redraws += s->counts.redraws;
        duplicates += s->counts.duplicates;
        released += s->counts.released;
        lost += s->counts.lost_workers;
        failed += s->counts.failed;
        free(s);
    }
    print_message("400 histories: %lld redraws, %lld duplicates, %lld released, %lld lost workers, "
                  "%lld failed items\n",
                  (long long)redraws, (long long)duplicates, (long long)released, (long long)lost,
                  (long long)failed);
    ok(redraws > 1000 && duplicates > 100 && released > 100 && lost > 100 && failed > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_items_end),
        cmocka_unit_test(slow_workers_take_fewer),
        cmocka_unit_test(redraws_come_back),
        cmocka_unit_test(bad_workers_lose_nothing),
        cmocka_unit_test(three_failures_are_recorded),
        cmocka_unit_test(neighbours_survive),
        cmocka_unit_test(a_try_is_left_for_the_good_one),
        cmocka_unit_test(each_attempt_has_its_tries),
        cmocka_unit_test(the_dead_are_replaced),
        cmocka_unit_test(killers_are_stopped),
        cmocka_unit_test(the_last_items_are_shared),
        cmocka_unit_test(the_last_try_is_waited_for),
        cmocka_unit_test(nobody_left_is_an_error),
        cmocka_unit_test(the_late_are_one_result),
        cmocka_unit_test(overdue_leases_are_shared),
        cmocka_unit_test(a_signal_stops_everybody),
        cmocka_unit_test(a_failing_store_ends_the_run),
        cmocka_unit_test(random_histories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
